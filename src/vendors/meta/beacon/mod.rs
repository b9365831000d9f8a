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
use crate::vendors::beacon::{Answer, Beacon, Inbound, Malformed, Methods, Verdict};
use crate::vendors::wire::Fields;

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

    fn decode(&self, inbound: &Inbound<'_>) -> Result<Vec<Object>, Malformed> {
        if plain(inbound.path) != EVENTS {
            return Ok(Vec::new());
        }
        let body = String::from_utf8_lossy(inbound.body);
        let fields = Fields::form(inbound.query).then(posted(inbound, &body)?);
        if fields.get("batch").is_none() {
            return Ok(read(&fields, inbound)?.into_iter().collect());
        }
        let mut messages = Vec::new();
        let mut unread = Some(Malformed("there is no event in the batch"));
        for (_, text) in fields.iter().filter(|(name, _)| name.starts_with("events[")) {
            let event = Fields::form(text.strip_prefix('?').unwrap_or(text));
            match read(&event, inbound) {
                Ok(message) => {
                    messages.extend(message);
                    unread = None;
                }
                Err(malformed) => unread = unread.map(|_| malformed),
            }
        }
        unread.map_or(Ok(messages), Err)
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://www.facebook.com")
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
fn posted<'b>(inbound: &Inbound<'_>, body: &'b str) -> Result<Fields<'b>, Malformed> {
    let content_type = inbound.field(CONTENT_TYPE.as_str()).unwrap_or_default();
    let is_multipart =
        content_type.get(..10).is_some_and(|it| it.eq_ignore_ascii_case("multipart/"));
    if !is_multipart || inbound.body.is_empty() {
        return Ok(Fields::form(body));
    }
    Fields::multipart(content_type, inbound.body).ok_or(Malformed("the form is broken"))
}

/// The message of one event; none if it is one of the library's own.
fn read(fields: &Fields<'_>, inbound: &Inbound<'_>) -> Result<Option<Object>, Malformed> {
    let hit = Hit::read(fields)?;
    if AUTOMATIC.contains(&hit.event) {
        return Ok(None);
    }
    Ok(Some(message::message(&hit, inbound.received_at)))
}
