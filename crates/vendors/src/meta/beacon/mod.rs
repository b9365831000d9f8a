//! The pixel's beacons (`docs/contracts/beacons.md` section 4): one endpoint for images, for forms that a
//! page submits into a frame, and for forms of either encoding that scripts send. The library neither
//! reads the reply nor retries.
//!
//! Decisions where the contract leaves a choice:
//! - Neither Meta's cookies nor its advanced matching identify the visitor: images and forms are sent
//!   with the gateway's own cookie.
//! - Digests that the page made are for Meta alone, in `context.clientIds.meta`. As traits they would
//!   replace the person's real e-mail address, for all destinations.
//! - A view of several products is a view of a list.

mod commerce;
mod hit;
mod message;
#[cfg(test)]
mod tests;
mod to_canonical;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};

use self::hit::MetaBeaconHit;
pub(super) use self::to_canonical::to_canonical;
use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::{CanonicalMessage, FormFields, MessageBatch};

/// The decoder of Meta's beacons.
pub(super) struct MetaBeacon;

/// The path of events.
const EVENTS: &str = "/tr";

/// The path at which Chrome registers the same events for attribution: it has no new data.
const ATTRIBUTION: &str = "/privacy_sandbox/pixel/register/trigger";

/// Events that the library sends automatically: a page's contents and clicks on it. They are large and
/// full of text that visitors see.
const AUTOMATIC: [&str; 2] = ["SubscribedButtonClick", "Microdata"];

impl Beacon for MetaBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        match plain(path) {
            EVENTS => Some(AllowedMethods::Both),
            ATTRIBUTION => Some(AllowedMethods::Get),
            _ => None,
        }
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        if plain(inbound.path) != EVENTS {
            return Ok(());
        }
        let fields = FormFields::form(inbound.query).then(posted(inbound)?);
        if fields.get("batch").is_none() {
            if inbound.body.len() > inbound.bounds.hit_bytes() {
                return Err(BeaconDecodeError::TooLarge);
            }
            return batch.extend(read(&fields, inbound)?);
        }
        let mut unread = Some(BeaconDecodeError::Malformed("there is no event in the batch"));
        for (_, text) in fields.iter().filter(|(name, _)| name.starts_with("events[")) {
            if text.len() > inbound.bounds.hit_bytes() {
                batch.reject("too_large");
                continue;
            }
            let event = FormFields::form(text.strip_prefix('?').unwrap_or(text));
            match read(&event, inbound) {
                Ok(message) => {
                    batch.extend(message)?;
                    unread = None;
                }
                Err(malformed) => unread = unread.map(|_| malformed),
            }
        }
        unread.filter(|_| batch.is_empty()).map_or(Ok(()), Err)
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://www.facebook.com")
    }

    fn has_unique_ids(&self) -> bool {
        false
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        match verdict {
            BeaconOutcome::RetryLater { limited } => BeaconReply::retry_later(limited),
            _ if inbound.method == Method::GET => BeaconReply::gif(),
            // The page loads the reply into a frame that visitors do not see.
            BeaconOutcome::Taken { .. } | BeaconOutcome::Ignored | BeaconOutcome::TooLarge => {
                BeaconReply {
                    status: StatusCode::OK,
                    content_type: Some("text/html;charset=utf-8"),
                    ..BeaconReply::empty()
                }
            }
        }
    }
}

/// Returns the path without a slash at its end.
fn plain(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Reads the form fields of the body.
fn posted<'b>(inbound: &BeaconRequest<'b>) -> Result<FormFields<'b>, BeaconDecodeError> {
    const BROKEN: BeaconDecodeError = BeaconDecodeError::Malformed("the form is broken");
    let content_type = inbound.field(CONTENT_TYPE.as_str()).unwrap_or_default();
    let is_multipart =
        content_type.get(..10).is_some_and(|it| it.eq_ignore_ascii_case("multipart/"));
    if !is_multipart || inbound.body.is_empty() {
        // Forms percent-encode all that is not ASCII.
        return Ok(FormFields::of_bytes(inbound.body));
    }
    FormFields::multipart(content_type, inbound.body).ok_or(BROKEN)
}

/// Returns the message of one event; `None` if the library sent it automatically.
fn read(
    fields: &FormFields<'_>,
    inbound: &BeaconRequest<'_>,
) -> Result<Option<CanonicalMessage>, BeaconDecodeError> {
    let hit = MetaBeaconHit::read(fields)?;
    if AUTOMATIC.contains(&hit.event) {
        return Ok(None);
    }
    Ok(Some(message::message(&hit, inbound.received_at)))
}
