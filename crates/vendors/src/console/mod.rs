//! A destination that prints, for trials. It settles every event as delivered.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{BatchScope, DeliveryLimits, Destination, Outcome, Vendor, VendorCall};
use tagway_core::event::EnrichedEvent;
use tagway_settings::SettingsSection;

/// The console's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "console",
    destination: Some(|_: &mut SettingsSection<'_>, _| Box::new(ConsoleDestination)),
    ..Vendor::EMPTY
};

struct ConsoleDestination;

#[async_trait]
impl Destination for ConsoleDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            scope: BatchScope::Site,
            max_events: 500,
            max_bytes: 1 << 20,
            batch_delay: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 1,
            calls_per_second: None,
            timeout: Duration::from_secs(1),
        }
    }

    fn admit_event(&self, _event: &EnrichedEvent, _now: Timestamp) -> Result<(), Outcome> {
        Ok(())
    }

    async fn deliver(&self, batch: &[EnrichedEvent], _call: &dyn VendorCall) -> Vec<Outcome> {
        for event in batch {
            let label: String = event.event.label().chars().take(100).collect();
            tracing::info!(seq = event.seq, event = %label.escape_debug(), "event");
        }
        vec![Outcome::Delivered; batch.len()]
    }
}
