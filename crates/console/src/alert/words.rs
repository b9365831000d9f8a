//! Titles and texts of alerts in plain words, and the links to the screens that explain them.

use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::condition::EndedCounts;
use crate::reading::{DiskReading, SegmentReading};

/// The characters of a name that are escaped in a link.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The words of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AlertWords {
    /// One line.
    pub title: String,
    /// One or two sentences with the numbers, and the next step.
    pub text: String,
    /// The screen of the console, from its page: `#/...`.
    pub link: String,
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

fn destination_link((site, destination): (&str, &str)) -> String {
    format!("#/destinations/{}/{}", encode(site), encode(destination))
}

pub(super) fn no_traffic(site: &str, window: Duration, usual: f64) -> AlertWords {
    AlertWords {
        title: format!("{site}: no events"),
        text: format!(
            "The site {site} has sent no event for {}; at this time it usually sends at least {usual:.0}. Check that \
             the page still has its tag, and that the site's host reaches the gateway.",
            time(window.as_secs_f64()),
        ),
        link: format!("#/live?site={}", encode(site)),
    }
}

pub(super) fn delivery_rate(
    named: (&str, &str),
    counts: EndedCounts,
    late: u64,
    window: Duration,
) -> AlertWords {
    let (site, destination) = named;
    let EndedCounts { delivered, dead, .. } = counts;
    let due = delivered + dead + late;
    AlertWords {
        title: format!("{site}/{destination}: few events arrive"),
        text: format!(
            "In the last {}, {delivered} of {due} events arrived at {destination}; {dead} died and {late} wait. The \
             destination's last error says why.",
            time(window.as_secs_f64()),
        ),
        link: destination_link(named),
    }
}

pub(super) fn dead_letters(named: (&str, &str), dead: u64, window: Duration) -> AlertWords {
    let (site, destination) = named;
    AlertWords {
        title: format!("{site}/{destination}: dead letters"),
        text: format!(
            "{destination} refused {} for good in the last {}. Read the reasons, correct the cause, and retry the \
             letters.",
            events(dead),
            time(window.as_secs_f64()),
        ),
        link: format!("#/dead?site={}&destination={}", encode(site), encode(destination)),
    }
}

pub(super) fn backlog_age(named: (&str, &str), age: f64, pending: u64, limit: f64) -> AlertWords {
    let (site, destination) = named;
    AlertWords {
        title: format!("{site}/{destination}: events wait"),
        text: format!(
            "The oldest of {} that wait for {destination} is {} old; the limit is {}. Nothing is lost yet: waiting \
             events are sent once the destination accepts them again, unless they are too old for it by then.",
            events(pending),
            time(age),
            time(limit),
        ),
        link: destination_link(named),
    }
}

pub(super) fn consent_skips(
    named: (&str, &str),
    counts: EndedCounts,
    window: Duration,
) -> AlertWords {
    let (site, destination) = named;
    let EndedCounts { delivered, skipped, without_consent, dead } = counts;
    AlertWords {
        title: format!("{site}/{destination}: hardly any consent"),
        text: format!(
            "In the last {}, {without_consent} of {} events for {destination} were skipped because the visitor had \
             not consented. If visitors do consent, the page's consent tool may not report it.",
            time(window.as_secs_f64()),
            delivered + skipped + dead,
        ),
        link: destination_link(named),
    }
}

pub(super) fn segment_late(reading: &SegmentReading, late: f64) -> AlertWords {
    let SegmentReading { site, segment, last_run_at, .. } = reading;
    let last = last_run_at.map_or_else(
        || "It has never run.".to_owned(),
        |at| format!("Its last run began at {}.", date(at)),
    );
    AlertWords {
        title: format!("{site}: the segment {segment} is late"),
        text: format!(
            "The segment {segment} should have run {} ago. {last} Its members stay as they were; the log says why \
             runs fail.",
            time(late),
        ),
        link: format!("#/segments/{}/{}", encode(site), encode(segment)),
    }
}

pub(super) fn certificate(name: &str, days: f64, expires_at: Timestamp) -> AlertWords {
    let (title, state) = if days <= 0.0 {
        (format!("The certificate of {name} has expired"), "expired")
    } else {
        (format!("The certificate of {name} expires soon"), "expires")
    };
    AlertWords {
        title,
        text: format!(
            "The certificate of {name} {state} at {}. Browsers send no events to a host with an expired certificate: \
             replace its files; the gateway reads them by itself.",
            date(expires_at),
        ),
        link: "#/settings?path=tls".to_owned(),
    }
}

pub(super) fn disk(disk: DiskReading, free: f64) -> AlertWords {
    let (title, text) = if !disk.is_writable {
        (
            "The disk refuses writes",
            "The journal cannot be written, and events are answered with 503. Check the disk and its permissions."
                .to_owned(),
        )
    } else if !disk.has_room {
        (
            "The journal is full",
            "The journal is full of events that destinations have not accepted, and new events are answered with \
             503. Mend the destinations, or raise journal.max_bytes."
                .to_owned(),
        )
    } else {
        (
            "The disk is nearly full",
            format!(
                "{:.1} % of the disk of data_dir are free ({} of {}). Without space, events are answered with 503.",
                free * 100.0,
                bytes(disk.free_bytes),
                bytes(disk.total_bytes),
            ),
        )
    };
    AlertWords { title: title.to_owned(), text, link: "#/settings?path=journal".to_owned() }
}

fn events(count: u64) -> String {
    format!("{count} event{}", if count == 1 { "" } else { "s" })
}

/// A time in its largest two units: `3 h 5 min`.
pub(super) fn time(seconds: f64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
    let mut rest = seconds.clamp(0.0, 1e12) as u64;
    let mut parts = Vec::new();
    for (unit, name) in UNITS {
        let count = rest / unit;
        rest %= unit;
        if count > 0 {
            parts.push(format!("{count} {name}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a number for people")]
    let gibibytes = count as f64 / f64::from(1 << 30);
    format!("{gibibytes:.1} GiB")
}
