//! A destination that prints: for trying things out. It settles every event as delivered.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Call, Destination, Habits, Outcome, Screening, Unit, Vendor};
use crate::event::Enriched;
use crate::settings::Section;

/// The console's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "console",
    destination: Some(|_: &mut Section<'_>, _| Box::new(Console)),
    ..Vendor::NOTHING
};

struct Console;

#[async_trait]
impl Destination for Console {
    fn habits(&self) -> Habits {
        Habits {
            unit: Unit::Site,
            max_events: 500,
            max_bytes: 1 << 20,
            linger: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 1,
            calls_per_second: None,
            timeout: Duration::from_secs(1),
        }
    }

    fn screen(&self, _event: &Enriched, _now: Timestamp) -> Screening {
        Screening::Send
    }

    async fn deliver(&self, batch: &[Enriched], _call: &dyn Call) -> Vec<Outcome> {
        for event in batch {
            let label: String = event.event.label().chars().take(100).collect();
            tracing::info!(seq = event.seq, event = %label.escape_debug(), "event");
        }
        vec![Outcome::Delivered; batch.len()]
    }
}
