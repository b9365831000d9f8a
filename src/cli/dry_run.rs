//! `tagway send --dry-run`: the exact requests that an event would cause, without sending them. Needs no
//! running gateway.

use std::sync::Arc;

use serde_json::Value;

use super::{CommandError, block_on, print, render};
use crate::config::{SiteSettings, TagwaySettings};
use crate::gateway::{self, DryRunEvent};
use crate::rehearsal::{self, EventRehearsal, RehearsedEnding, RehearsedRequest, SHOWN_CHARS};
use tagway_core::clock::{Clock as _, SystemClock};
use tagway_core::event::{DroppedFields, EnrichedEvent, ProfileView};
use tagway_delivery::DestinationSettings;
use tagway_vendors::OutcomeReason;

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
        let enriched = EnrichedEvent::new(1, Arc::new(event), Arc::new(ProfileView::default()));
        let rehearsal = block_on(async {
            Ok::<_, CommandError>(rehearsal::rehearse(settings, enriched, now, redaction).await)
        })?;
        print(&shown(&rehearsal))?;
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

/// A rehearsal, for people.
fn shown(rehearsal: &EventRehearsal) -> String {
    let name = &rehearsal.destination;
    if let RehearsedEnding::Held(needs) = &rehearsal.ending {
        let needs = needs.join(",");
        let advice = format!(
            "held until the visitor chooses; add --consent {needs} to send it with consent"
        );
        return format!("{name}: {advice}\n\n");
    }
    let mut out = String::new();
    for missing in &rehearsal.problems {
        let problem = render::escape(&missing.problem, SHOWN_CHARS);
        out.push_str(&format!("{name}: mapping.{}: {problem}\n", missing.place));
    }
    for request in &rehearsal.requests {
        out.push_str(&request_text(request));
        out.push('\n');
    }
    let ending = match (rehearsal.outcome(), rehearsal.reason()) {
        ("sent", _) if rehearsal.ending == RehearsedEnding::Ended(None) => "no outcome".to_owned(),
        (_, None) => "would be delivered".to_owned(),
        ("retry", Some(reason)) => describe_reason("would be tried again", reason),
        ("paused", Some(reason)) => describe_reason("would pause", reason),
        (word, Some(reason)) => describe_reason(word, reason),
    };
    out + &format!("{name}: {ending}\n{}\n", dropped(&rehearsal.dropped))
}

/// A request, one line for each of its own.
fn request_text(request: &RehearsedRequest) -> String {
    let RehearsedRequest { method, url, headers, body } = request;
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let text = format!("{method} {url}\n{headers}\n{body}\n");
    let lines = text.lines().map(|line| render::escape(line, SHOWN_CHARS));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// A line for each field that the destination does not receive.
fn dropped(fields: &DroppedFields) -> String {
    let listed =
        fields.listed().iter().map(|field| render::escape(&field.to_string(), SHOWN_CHARS));
    let unlisted = Some(fields.unlisted()).filter(|more| *more > 0);
    let lines = listed.chain(unlisted.map(|more| format!("{more} more")));
    lines.map(|line| format!("  dropped: {line}\n")).collect()
}

fn describe_reason(word: &str, reason: &OutcomeReason) -> String {
    let detail = render::escape(reason.detail.as_deref().unwrap_or_default(), SHOWN_CHARS);
    format!("{word} ({} {detail})", reason.code).replace(" )", ")")
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
