//! `tagway send --dry-run`: the exact requests that an event would cause, without sending them. Needs no
//! running gateway. If the next request depends on the vendor's reply, its simulator replies.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use super::{CommandError, block_on, print, render};
use crate::config::{SiteSettings, TagwaySettings};
use crate::gateway::{self, DryRunEvent};
use tagway_core::clock::{Clock as _, SystemClock};
use tagway_core::event::{DroppedFields, EnrichedEvent, Event, ProfileView};
use tagway_delivery::{DestinationSettings, redact_secrets};
use tagway_settings::{HIDDEN, SecretRedactor, SecretString};
#[cfg(feature = "simulator")]
use tagway_simulator::vendors::{InProcessVendor, SimulatorKind};
use tagway_vendors::{
    Outcome, OutcomeReason, VendorCall, VendorCallError, VendorReply, request_preview,
};

/// The longest request that is shown in full, in characters.
const SHOWN_CHARS: usize = 100_000;

/// Prints the requests for the event at each destination of the site, or at one.
pub(super) fn run(
    settings: &TagwaySettings,
    message: &Value,
    site: Option<&str>,
    destination: Option<&str>,
) -> Result<(), CommandError> {
    let (redaction, site) = (&settings.redaction, choose(settings, site)?);
    let now = SystemClock.now();
    let message = message.to_string();
    let rehearsed =
        gateway::dry_run_event(&settings.limits, &site.gateway, message.as_bytes(), now);
    let DryRunEvent { event, unread } = rehearsed
        .map_err(|error| CommandError::Usage(format!("the event is not accepted: {error}")))?;
    for reason in unread {
        print(&format!(
            "note: a member of the event is not readable and is left out ({reason})\n"
        ))?;
    }
    let chosen = |settings: &&Arc<DestinationSettings>| {
        settings.mode.is_server() && destination.is_none_or(|name| *settings.name == *name)
    };
    let mut chosen = site.destinations.iter().filter(chosen).peekable();
    if chosen.peek().is_none() {
        return Err(CommandError::Usage(
            "the site has no destination in server mode with this name".to_owned(),
        ));
    }
    for settings in chosen {
        let mut event = event.clone();
        settings.privacy.protect(&mut event);
        block_on(dry_run_destination(settings, Arc::new(event), now, redaction))?;
    }
    Ok(())
}

fn choose<'s>(
    settings: &'s TagwaySettings,
    named: Option<&str>,
) -> Result<&'s SiteSettings, CommandError> {
    match (named, settings.sites.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(CommandError::Usage(
            "the configuration has several sites: name one with --site".to_owned(),
        )),
        (Some(name), sites) => {
            let found = sites.iter().find(|site| *site.name == *name);
            found.ok_or_else(|| {
                CommandError::Usage("the configuration has no site with this name".to_owned())
            })
        }
    }
}

async fn dry_run_destination(
    settings: &DestinationSettings,
    event: Arc<Event>,
    now: Timestamp,
    redaction: &SecretRedactor,
) -> Result<(), CommandError> {
    if settings.is_held_for_consent(&event) {
        let needs = settings.filter.consent.join(",");
        let advice = format!(
            "held until the visitor chooses; add --consent {needs} to send it with consent"
        );
        return print(&format!("{}: {advice}\n\n", settings.name));
    }
    let enriched = EnrichedEvent::new(1, event, Arc::new(ProfileView::default()));
    for missing in settings.mapping.missing(enriched.clone()) {
        let problem = redaction.excerpt(&missing.problem, SHOWN_CHARS);
        let (place, problem) = (&missing.place, render::escape(&problem, SHOWN_CHARS));
        print(&format!("{}: mapping.{place}: {problem}\n", settings.name))?;
    }
    let (enriched, screening) = settings.admit(enriched, now);
    let dropped = dropped(enriched.dropped_fields());
    let outcome = match screening {
        Err(outcome) => Some(outcome),
        Ok(()) => {
            let stage = DryRunCall {
                #[cfg(feature = "simulator")]
                vendor: SimulatorKind::of_vendor(settings.vendor).map(InProcessVendor::trusting),
                secrets: settings.destination.secrets(),
                redaction: redaction.clone(),
                now,
                requests: Mutex::default(),
            };
            let outcomes = settings.destination.deliver(&[enriched], &stage).await;
            for request in stage.requests.into_inner() {
                print(&format!("{request}\n"))?;
            }
            outcomes.into_iter().next()
        }
    };
    let ending = match &outcome {
        None => "no outcome".to_owned(),
        Some(Outcome::Delivered) => "would be delivered".to_owned(),
        Some(Outcome::Skipped(reason)) => describe_reason(redaction, "skipped", reason),
        Some(Outcome::Dead(reason) | Outcome::Refused(reason)) => {
            describe_reason(redaction, "dead", reason)
        }
        Some(Outcome::Retry { reason, .. } | Outcome::Throttled { reason, .. }) => {
            describe_reason(redaction, "would be tried again", reason)
        }
        Some(Outcome::Unauthorised(reason)) => describe_reason(redaction, "would pause", reason),
    };
    print(&format!("{}: {ending}\n{dropped}\n", settings.name))
}

/// A line for each field that the destination does not receive.
fn dropped(fields: &DroppedFields) -> String {
    let listed =
        fields.listed().iter().map(|field| render::escape(&field.to_string(), SHOWN_CHARS));
    let unlisted = Some(fields.unlisted()).filter(|more| *more > 0);
    let lines = listed.chain(unlisted.map(|more| format!("{more} more")));
    lines.map(|line| format!("  dropped: {line}\n")).collect()
}

fn describe_reason(redaction: &SecretRedactor, word: &str, reason: &OutcomeReason) -> String {
    let detail = reason.detail.as_deref().unwrap_or_default();
    let detail = render::escape(&redaction.excerpt(detail, SHOWN_CHARS), SHOWN_CHARS);
    format!("{word} ({} {detail})", reason.code).replace(" )", ")")
}

/// Records the requests, and replies for the vendor: as its simulator, or with an empty success where there is none.
struct DryRunCall {
    #[cfg(feature = "simulator")]
    vendor: Option<InProcessVendor>,
    secrets: Vec<SecretString>,
    redaction: SecretRedactor,
    now: Timestamp,
    requests: Mutex<Vec<String>>,
}

impl DryRunCall {
    #[cfg(feature = "simulator")]
    fn reply(&self, request: &Request<Bytes>) -> http::Response<Bytes> {
        let vendor = self.vendor.as_ref();
        vendor.map(|vendor| vendor.answer(request, self.now)).unwrap_or_default()
    }

    #[cfg(not(feature = "simulator"))]
    fn reply(&self, _request: &Request<Bytes>) -> http::Response<Bytes> {
        http::Response::default()
    }
}

#[async_trait]
impl VendorCall for DryRunCall {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        let shown = request_preview::request(&without_sensitive_fields(&request));
        let text = redact_secrets(&self.secrets, self.redaction.redact(&shown).into_owned());
        let lines = text.lines().map(|line| render::escape(line, SHOWN_CHARS));
        let text = lines.collect::<Vec<_>>().join("\n");
        self.requests.lock().push(text);
        let (head, body) = self.reply(&request).into_parts();
        Ok(VendorReply { status: head.status, headers: head.headers, body })
    }

    fn register_secret(&self, secret: &SecretString) {
        self.redaction.add_issued(secret);
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

/// The request with the vendor's sensitive fields hidden.
fn without_sensitive_fields(request: &Request<Bytes>) -> Request<Bytes> {
    let mut request = request.clone();
    for value in request.headers_mut().values_mut().filter(|value| value.is_sensitive()) {
        *value = HeaderValue::from_static(HIDDEN);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagway_core::event::FieldDropReason;

    #[test]
    fn dropped_fields_are_named_and_steer_no_terminal() {
        assert_eq!(dropped(&DroppedFields::NONE), "");
        let mut fields = DroppedFields::default();
        fields.add("loyalty\u{1b}[2J", FieldDropReason::TooManyParameters);
        let expected = "  dropped: loyalty\\u{1b}[2J (too_many_parameters)\n";
        assert_eq!(dropped(&fields), expected);
        (0..40).for_each(|_| fields.add("x", FieldDropReason::Nested));
        assert!(dropped(&fields).ends_with("  dropped: 9 more\n"));
    }
}
