//! `tagway send --dry-run`: the exact requests that an event would cause, without sending them. Needs
//! no running gateway. Where a vendor's answer decides what is asked next, its simulator answers.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request};
use jiff::Timestamp;
use serde_json::Value;

use super::{Failure, block_on, render, say};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Settings, SiteSettings};
use crate::delivery::{DestinationSettings, without};
use crate::demo::simulator::{Kind, Rehearsal};
use crate::event::{Enriched, Event, ProfileView};
use crate::gateway;
use crate::settings::{HIDDEN, Redaction, Secret};
use crate::vendors::{Call, CallError, Outcome, Reason, Reply, Screening, shown};

/// A request longer than this is cut: more is for files, not for a screen.
const SHOWN_CHARS: usize = 100_000;

/// Prints what the event would cause at each destination of the site, or at one.
pub(super) fn run(
    settings: &Settings,
    message: &Value,
    site: Option<&str>,
    destination: Option<&str>,
) -> Result<(), Failure> {
    let (redaction, site) = (&settings.redaction, choose(settings, site)?);
    let now = SystemClock.now();
    let event = gateway::rehearse(&settings.limits, message.to_string().as_bytes(), now);
    let event =
        event.map_err(|error| Failure::Usage(format!("the event is not taken: {error}")))?;
    let chosen = |settings: &&Arc<DestinationSettings>| {
        settings.mode.is_server() && destination.is_none_or(|name| *settings.name == *name)
    };
    let mut chosen = site.destinations.iter().filter(chosen).peekable();
    if chosen.peek().is_none() {
        return Err(Failure::Usage("the site has no such destination".to_owned()));
    }
    for settings in chosen {
        let mut event = event.clone();
        settings.privacy.protect(&mut event);
        block_on(rehearse(settings, Arc::new(event), now, redaction))?;
    }
    Ok(())
}

fn choose<'s>(settings: &'s Settings, named: Option<&str>) -> Result<&'s SiteSettings, Failure> {
    match (named, settings.sites.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::Usage("say which site with --site".to_owned())),
        (Some(name), sites) => {
            let found = sites.iter().find(|site| *site.name == *name);
            found.ok_or_else(|| Failure::Usage("there is no such site".to_owned()))
        }
    }
}

async fn rehearse(
    settings: &DestinationSettings,
    event: Arc<Event>,
    now: Timestamp,
    redaction: &Redaction,
) -> Result<(), Failure> {
    if settings.holds(&event) {
        let needs = settings.filter.consent.join(",");
        let advice = format!("held until the visitor chooses; --consent {needs} is a choice");
        return say(&format!("{}: {advice}\n\n", settings.name));
    }
    let enriched = Enriched::new(1, event, Arc::new(ProfileView::default()));
    for missing in settings.mapping.missing(enriched.clone()) {
        let problem = redaction.excerpt(&missing.problem, SHOWN_CHARS);
        let (place, problem) = (&missing.place, render::escape(&problem, SHOWN_CHARS));
        say(&format!("{}: mapping.{place}: {problem}\n", settings.name))?;
    }
    let (enriched, screening) = settings.admit(enriched, now);
    let ending = match screening {
        Screening::Skip(reason) => said(redaction, "skipped", &reason),
        Screening::Dead(reason) => said(redaction, "dead", &reason),
        Screening::Send => {
            let stage = Stage {
                vendor: Kind::of_vendor(settings.vendor).map(Rehearsal::trusting),
                secrets: settings.destination.secrets(),
                redaction: redaction.clone(),
                now,
                requests: Mutex::default(),
            };
            let outcomes = settings.destination.deliver(&[enriched], &stage).await;
            let requests = stage.requests.into_inner().unwrap_or_else(PoisonError::into_inner);
            for request in requests {
                say(&format!("{request}\n"))?;
            }
            match outcomes.into_iter().next() {
                None => "nothing was said of it".to_owned(),
                Some(Outcome::Delivered) => "would be delivered".to_owned(),
                Some(Outcome::Skipped(reason)) => said(redaction, "skipped", &reason),
                Some(Outcome::Dead(reason) | Outcome::Refused(reason)) => {
                    said(redaction, "dead", &reason)
                }
                Some(Outcome::Retry { reason, .. } | Outcome::Throttled { reason, .. }) => {
                    said(redaction, "would be tried again", &reason)
                }
                Some(Outcome::Unauthorised(reason)) => said(redaction, "would pause", &reason),
            }
        }
    };
    say(&format!("{}: {ending}\n\n", settings.name))
}

fn said(redaction: &Redaction, word: &str, reason: &Reason) -> String {
    let detail = reason.detail.as_deref().unwrap_or_default();
    let detail = render::escape(&redaction.excerpt(detail, SHOWN_CHARS), SHOWN_CHARS);
    format!("{word} ({} {detail})", reason.code).replace(" )", ")")
}

/// Keeps the requests, and answers in the vendor's place.
struct Stage {
    vendor: Option<Rehearsal>,
    secrets: Vec<Secret>,
    redaction: Redaction,
    now: Timestamp,
    requests: Mutex<Vec<String>>,
}

#[async_trait]
impl Call for Stage {
    async fn call(&self, request: Request<Bytes>) -> Result<Reply, CallError> {
        let shown = shown::request(&without_sensitive_fields(&request));
        let text = without(&self.secrets, self.redaction.redact(&shown).into_owned());
        let lines = text.lines().map(|line| render::escape(line, SHOWN_CHARS));
        let text = lines.collect::<Vec<_>>().join("\n");
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        let (head, body) = match &self.vendor {
            Some(vendor) => vendor.answer(&request, self.now).into_parts(),
            None => http::Response::new(Bytes::new()).into_parts(),
        };
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    fn conceal(&self, secret: &Secret) {
        self.redaction.add_passing(secret);
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

/// The request with what its vendor calls sensitive hidden.
fn without_sensitive_fields(request: &Request<Bytes>) -> Request<Bytes> {
    let mut request = request.clone();
    for value in request.headers_mut().values_mut().filter(|value| value.is_sensitive()) {
        *value = HeaderValue::from_static(HIDDEN);
    }
    request
}
