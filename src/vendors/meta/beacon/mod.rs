//! The pixel's beacons (`contracts/beacons.md` section 4): one endpoint for images, for forms that a
//! page submits into a frame, and for forms of either encoding that scripts send. The library neither
//! reads the answer nor tries again.
//!
//! Decisions where the contract leaves a choice:
//! - Neither Meta's cookies nor its advanced matching name the visitor: images and forms bring the
//!   gateway's own cookie along.
//! - What the page hashed stays what Meta alone reads, in `context.clientIds.meta`. Among the traits
//!   it would take the place of the person's real address, for all destinations.
//! - A view of several products is one of a list.

mod commerce;
mod hit;
mod message;
mod retell;
#[cfg(test)]
mod tests;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};

use self::hit::Hit;
pub(super) use self::retell::retell;
use crate::event::Object;
use crate::vendors::beacon::{Answer, Beacon, DecodeError, Inbound, Methods, Verdict};
use crate::vendors::wire::{Fields, MessageBatch};

/// Meta's beacons.
pub(super) struct Pixel;

/// Where events go.
const EVENTS: &str = "/tr";

/// Where Chrome is asked to attribute the same events once more: nothing new is said there.
const ATTRIBUTION: &str = "/privacy_sandbox/pixel/register/trigger";

/// What the library reports of its own accord: what a page contains and what was clicked on. Large, and
/// full of what visitors see.
const AUTOMATIC: [&str; 2] = ["SubscribedButtonClick", "Microdata"];

impl Beacon for Pixel {
    fn endpoint(&self, path: &str) -> Option<Methods> {
        match plain(path) {
            EVENTS => Some(Methods::Both),
            ATTRIBUTION => Some(Methods::Get),
            _ => None,
        }
    }

    fn read(&self, inbound: &Inbound<'_>, batch: &mut MessageBatch) -> Result<(), DecodeError> {
        if plain(inbound.path) != EVENTS {
            return Ok(());
        }
        let fields = Fields::form(inbound.query).then(posted(inbound)?);
        if fields.get("batch").is_none() {
            if inbound.body.len() > inbound.bounds.hit_bytes() {
                return Err(DecodeError::TooLarge);
            }
            return batch.extend(read(&fields, inbound)?);
        }
        let mut unread = Some(DecodeError::Malformed("there is no event in the batch"));
        for (_, text) in fields.iter().filter(|(name, _)| name.starts_with("events[")) {
            if text.len() > inbound.bounds.hit_bytes() {
                batch.refuse("too_large");
                continue;
            }
            let event = Fields::form(text.strip_prefix('?').unwrap_or(text));
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

    fn answer(&self, inbound: &Inbound<'_>, verdict: Verdict) -> Answer {
        match verdict {
            Verdict::Later { limited } => Answer::later(limited),
            _ if inbound.method == Method::GET => Answer::gif(),
            // A frame shows it, where nobody looks.
            Verdict::Taken { .. } | Verdict::Ignored | Verdict::TooLarge => Answer {
                status: StatusCode::OK,
                content_type: Some("text/html;charset=utf-8"),
                ..Answer::empty()
            },
        }
    }
}

/// The path without a slash at its end.
fn plain(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// The fields of the body.
fn posted<'b>(inbound: &Inbound<'b>) -> Result<Fields<'b>, DecodeError> {
    const BROKEN: DecodeError = DecodeError::Malformed("the form is broken");
    let content_type = inbound.field(CONTENT_TYPE.as_str()).unwrap_or_default();
    let is_multipart =
        content_type.get(..10).is_some_and(|it| it.eq_ignore_ascii_case("multipart/"));
    if !is_multipart || inbound.body.is_empty() {
        // What is not ASCII is percent-encoded in a form.
        return Ok(Fields::of_bytes(inbound.body));
    }
    Fields::multipart(content_type, inbound.body).ok_or(BROKEN)
}

/// The message of one event; none if it is one of the library's own.
fn read(fields: &Fields<'_>, inbound: &Inbound<'_>) -> Result<Option<Object>, DecodeError> {
    let hit = Hit::read(fields)?;
    if AUTOMATIC.contains(&hit.event) {
        return Ok(None);
    }
    Ok(Some(message::message(&hit, inbound.received_at)))
}
