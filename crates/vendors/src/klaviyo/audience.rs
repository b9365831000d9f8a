//! Adds members to Klaviyo's lists and removes them.

use async_trait::async_trait;
use http::Method;
use serde::{Deserialize, Serialize};

use super::api::{KlaviyoApi, KlaviyoClient, MAX_SOUGHT};
use crate::audience::{
    AudienceChange, AudienceList, AudienceRow, LIST_GONE, VendorAudience, fill_outcomes, parse_rows,
};
use crate::contact_api::email;
use crate::{Outcome, OutcomeReason, VendorCall};
use tagway_core::event::EnrichedEvent;

/// Characters of the site's user id; a longer one is left out.
const MAX_ID_CHARS: usize = 255;

/// One member: the identifiers that Klaviyo gets.
#[derive(Serialize, Deserialize)]
struct KlaviyoProfileRow {
    /// The e-mail address, in lower case.
    email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

#[async_trait]
impl VendorAudience for KlaviyoApi {
    /// Returns the number of addresses that one look-up takes.
    fn max_rows(&self) -> usize {
        MAX_SOUGHT
    }

    fn row(&self, person: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        let email = email(person).ok_or(OutcomeReason::new("no_identifier"))?.to_lowercase();
        let id = person.user_id().map(str::trim);
        let id = id.filter(|id| !id.is_empty() && id.chars().count() <= MAX_ID_CHARS);
        AudienceRow::of(&KlaviyoProfileRow { email, id: id.map(str::to_owned) })
    }

    async fn open_list(
        &self,
        list: &AudienceList<'_>,
        call: &dyn VendorCall,
    ) -> Result<String, Outcome> {
        match list.id {
            Some(id) => Ok(id.to_owned()),
            None => KlaviyoClient { api: self, call }.make_list(list.title).await,
        }
    }

    async fn change_members(
        &self,
        list: &str,
        change: AudienceChange,
        rows: &[AudienceRow],
        call: &dyn VendorCall,
    ) -> Vec<Outcome> {
        let (read, mut ends) = parse_rows::<KlaviyoProfileRow>(rows);
        let line = KlaviyoClient { api: self, call };
        match relate(line, list, change, read, &mut ends).await {
            Ok(()) => fill_outcomes(ends, &Outcome::Delivered),
            Err(stop) => fill_outcomes(ends, &stop),
        }
    }
}

/// Looks up the profiles of the members, creates missing ones (if adding), and changes the list.
/// Records members with another outcome in `ends`.
async fn relate(
    line: KlaviyoClient<'_>,
    list: &str,
    change: AudienceChange,
    read: Vec<(usize, KlaviyoProfileRow)>,
    ends: &mut [Option<Outcome>],
) -> Result<(), Outcome> {
    if read.is_empty() {
        return Ok(());
    }
    let emails: Vec<&str> = read.iter().map(|(_, profile)| profile.email.as_str()).collect();
    let found = line.find(&emails).await?;
    let mut ids = Vec::with_capacity(read.len());
    for (index, profile) in &read {
        match (found.get(&profile.email), change) {
            (Some(id), _) => ids.push(id.clone()),
            (None, AudienceChange::Add) => {
                match line.make(&profile.email, profile.id.as_deref()).await {
                    Ok(id) => ids.push(id),
                    // The refusal concerns this member alone.
                    Err(stop @ Outcome::Dead(_)) => {
                        if let Some(end) = ends.get_mut(*index) {
                            *end = Some(stop);
                        }
                    }
                    Err(stop) => return Err(stop),
                }
            }
            // A person without a profile is on no list.
            (None, AudienceChange::Remove) => {}
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let method = match change {
        AudienceChange::Add => Method::POST,
        AudienceChange::Remove => Method::DELETE,
    };
    match line.relate(method, list, &ids).await? {
        true => Ok(()),
        false => Err(Outcome::dead(LIST_GONE)),
    }
}
