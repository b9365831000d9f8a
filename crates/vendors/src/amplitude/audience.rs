//! Cohorts (`docs/contracts/destinations.md` 4.6), for projects whose secret key is known. Without one, Amplitude
//! gets segments as events only.
//!
//! A cohort is made by an upload, which needs an id: one that belongs to no user. Members are sent by the
//! user's id; Amplitude leaves out those that it has never seen, and the next run sends them again.

use std::collections::HashSet;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Uri};
use serde_json::{Value, json};

use super::identity::AmplitudeIds;
use super::{AmplitudeDestination, reply_status};
use crate::audience::{
    AudienceChange, AudienceList, AudienceRow, LIST_GONE, VendorAudience, created_list_id,
    fill_outcomes, parse_rows,
};
use crate::{Outcome, OutcomeReason, VendorCall, VendorReply};
use tagway_core::event::EnrichedEvent;
use tagway_settings::{SecretString, SettingsSection};

/// The most ids in one request. Amplitude takes ten times as many; a repetition should not be that large.
const MAX_ROWS: usize = 10_000;

/// The id without a user, with which a cohort is made.
const COHORT_SEED_ID: &str = "tagway-nobody";

/// The addresses of the cohort API, and its credentials.
pub(super) struct AmplitudeCohortApi {
    upload: Uri,
    membership: Uri,
    authorization: HeaderValue,
    app_id: u64,
    owner: String,
}

impl AmplitudeCohortApi {
    /// Reads the settings of cohorts besides the secret key: the project's number and the owner.
    pub(super) fn read(
        section: &mut SettingsSection<'_>,
        base: &str,
        api_key: &SecretString,
        secret_key: Option<&SecretString>,
    ) -> Option<Self> {
        let app_id = section.opt_integer("app_id");
        let owner = section.opt_string("cohort_owner").filter(|owner| !owner.trim().is_empty());
        let (app_id, owner) = match (app_id, owner) {
            (None, None) => return None,
            (Some(app_id), Some(owner)) => (app_id, owner),
            (Some(_), None) => {
                section.error("app_id", "needs cohort_owner, the login of whose cohorts they are");
                return None;
            }
            (None, Some(_)) => {
                section.error("cohort_owner", "needs app_id, the project's number");
                return None;
            }
        };
        let Some(secret_key) = secret_key else {
            section.error("app_id", "needs secret_key, without which no cohort can be changed");
            return None;
        };
        let basic = STANDARD.encode(format!("{}:{}", api_key.expose(), secret_key.expose()));
        let mut authorization = HeaderValue::try_from(format!("Basic {basic}"))
            .unwrap_or_else(|_not_in_base64| HeaderValue::from_static("Basic"));
        authorization.set_sensitive(true);
        let at = |path: &str| {
            format!("{}/{path}", base.trim_end_matches('/')).parse().unwrap_or_default()
        };
        let upload = at("api/3/cohorts/upload");
        let membership = at("api/3/cohorts/membership");
        Some(Self { upload, membership, authorization, app_id, owner })
    }

    fn request(&self, uri: &Uri, body: &Value) -> Request<Bytes> {
        let mut request = Request::new(Bytes::from(body.to_string()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, self.authorization.clone());
        request
    }
}

#[async_trait]
impl VendorAudience for AmplitudeDestination {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, person: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        match AmplitudeIds::of(person, None).user {
            Some(id) => AudienceRow::of(&id),
            None => Err(OutcomeReason::new("no_identifier")),
        }
    }

    async fn open_list(
        &self,
        list: &AudienceList<'_>,
        call: &dyn VendorCall,
    ) -> Result<String, Outcome> {
        let Some(cohorts) = &self.settings.cohorts else {
            return Err(Outcome::Dead(OutcomeReason::new("no_cohorts")));
        };
        if let Some(id) = list.id {
            return Ok(id.to_owned());
        }
        let body = json!({
            "name": list.title, "app_id": cohorts.app_id, "id_type": "BY_USER_ID", "ids": [COHORT_SEED_ID],
            "owner": cohorts.owner, "published": true, "skip_invalid_ids": true,
        });
        let result = call.call(cohorts.request(&cohorts.upload, &body)).await;
        match reply_status::read_cohort(&result, call.now(), &self.settings) {
            Outcome::Delivered => {}
            other => return Err(other),
        }
        let body = result.ok().and_then(|reply| reply.json()).unwrap_or_default();
        created_list_id(body.get("cohortId").or_else(|| body.get("cohort_id")))
    }

    async fn change_members(
        &self,
        list: &str,
        change: AudienceChange,
        rows: &[AudienceRow],
        call: &dyn VendorCall,
    ) -> Vec<Outcome> {
        let (read, mut ends) = parse_rows::<String>(rows);
        let Some(cohorts) = &self.settings.cohorts else {
            return fill_outcomes(ends, &Outcome::Dead(OutcomeReason::new("no_cohorts")));
        };
        if read.is_empty() {
            return fill_outcomes(ends, &Outcome::Delivered);
        }
        let ids: Vec<&str> = read.iter().map(|(_, id)| id.as_str()).collect();
        let operation = match change {
            AudienceChange::Add => "ADD",
            AudienceChange::Remove => "REMOVE",
        };
        let body = json!({
            "cohort_id": list, "skip_invalid_ids": true,
            "memberships": [{ "ids": ids, "id_type": "BY_NAME", "operation": operation }],
        });
        let result = call.call(cohorts.request(&cohorts.membership, &body)).await;
        let outcome = reply_status::read_cohort(&result, call.now(), &self.settings);
        let is_missing = result.as_ref().is_ok_and(|reply| reply.status == 404);
        if is_missing {
            return fill_outcomes(ends, &Outcome::Dead(OutcomeReason::new(LIST_GONE)));
        }
        if let (Ok(reply), AudienceChange::Add, Outcome::Delivered) = (&result, change, &outcome) {
            let skipped = skipped(reply);
            for (index, id) in &read {
                if skipped.contains(id)
                    && let Some(end) = ends.get_mut(*index)
                {
                    *end = Some(Outcome::Skipped(OutcomeReason::new("unknown_to_vendor")));
                }
            }
        }
        fill_outcomes(ends, &outcome)
    }
}

/// Returns the ids that Amplitude does not know.
fn skipped(reply: &VendorReply) -> HashSet<String> {
    let body = reply.json().unwrap_or_default();
    let results = body.get("memberships_result").and_then(Value::as_array).into_iter().flatten();
    let ids = results.filter_map(|result| result.get("skipped_ids")?.as_array()).flatten();
    ids.filter_map(|id| Some(id.as_str()?.to_owned())).collect()
}
