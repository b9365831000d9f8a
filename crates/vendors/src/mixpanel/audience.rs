//! Segments as a property of people (`docs/contracts/destinations.md` 3.7): Mixpanel has no call for the
//! members of a cohort, so each person has a list of their segments, from which a cohort can be made.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::identity::MixpanelIds;
use super::plan::MixpanelEndpoint;
use super::replies::{self, MixpanelCallOutcome};
use super::{MixpanelDestination, settings::MixpanelSettings};
use crate::audience::{AudienceChange, AudienceRow, VendorAudience, fill_outcomes, parse_rows};
use crate::{Outcome, OutcomeReason, VendorCall};
use tagway_core::event::EnrichedEvent;

/// Records in one request to `/engage`.
const MAX_ROWS: usize = 2000;

#[async_trait]
impl VendorAudience for MixpanelDestination {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, person: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        match &*MixpanelIds::of(person).distinct(self.settings.id_merge) {
            "" => Err(OutcomeReason::new("no_identifier")),
            id => AudienceRow::of(&id),
        }
    }

    async fn change_members(
        &self,
        list: &str,
        change: AudienceChange,
        rows: &[AudienceRow],
        call: &dyn VendorCall,
    ) -> Vec<Outcome> {
        let (read, ends) = parse_rows::<String>(rows);
        if read.is_empty() {
            return fill_outcomes(ends, &Outcome::Delivered);
        }
        let record = |(_, id): (usize, String)| record(&self.settings, &id, list, change);
        let body = Value::Array(read.into_iter().map(record).collect()).to_string();
        let result = call.call(self.request(MixpanelEndpoint::Engage, body.into_bytes())).await;
        let outcome = match replies::read(MixpanelEndpoint::Engage, &result, call.now(), &[]) {
            MixpanelCallOutcome::Taken(_) => Outcome::Delivered,
            MixpanelCallOutcome::Refused(reason) => Outcome::Refused(reason),
            MixpanelCallOutcome::Closed(outcome) => outcome,
        };
        fill_outcomes(ends, &outcome)
    }
}

/// Builds the update of one person. It ignores time and address: the person did nothing.
fn record(settings: &MixpanelSettings, id: &str, list: &str, change: AudienceChange) -> Value {
    let property = settings.segment_property.as_str();
    let (operation, value) = match change {
        AudienceChange::Add => ("$union", json!({ property: [list] })),
        AudienceChange::Remove => ("$remove", json!({ property: list })),
    };
    json!({
        "$token": settings.token.expose(), "$distinct_id": id, "$ip": "0", "$ignore_time": true,
        operation: value,
    })
}
