//! Custom Audiences (`docs/contracts/destinations.md` 2.7).
//!
//! Members are sent as rows of digests in one fixed schema; an unknown column is empty. No session ties
//! the calls together: Meta requires one only if a list is replaced as a whole.

use async_trait::async_trait;
use http::{Method, Uri};
use jiff::tz::Offset;
use serde_json::json;

use super::normalise::{self, hashed};
use super::{MetaDestination, answer};
use crate::audience::{
    AudienceChange, AudienceList, AudienceRow, LIST_GONE, VendorAudience, created_list_id,
    fill_outcomes, parse_rows,
};
use crate::person::EventPerson;
use crate::{Outcome, OutcomeReason, VendorCall};
use tagway_core::event::EnrichedEvent;
use tagway_core::values::unicode;

/// Rows in one request.
const MAX_ROWS: usize = 10_000;

/// The columns, in the order of the rows.
const SCHEMA: [&str; 14] = [
    "EXTERN_ID",
    "EMAIL",
    "PHONE",
    "GEN",
    "DOBY",
    "DOBM",
    "DOBD",
    "LN",
    "FN",
    "FI",
    "CT",
    "ST",
    "ZIP",
    "COUNTRY",
];

/// The description of a list that the gateway creates.
const DESCRIPTION: &str = "Kept by Tagway";

/// The source of a list's people, which Meta requires: the site itself.
const SOURCE: &str = "USER_PROVIDED_ONLY";

#[async_trait]
impl VendorAudience for MetaDestination {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, event: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        let person = EventPerson::of(event);
        let digest = |value: Option<&str>, normalise: &dyn Fn(&str) -> Option<String>| {
            value.and_then(|value| hashed(value, normalise)).unwrap_or_default()
        };
        let telephones = &self.settings.telephones;
        let email = digest(person.email().as_deref(), &normalise::email);
        let phone =
            digest(person.phone().as_deref(), &|_| person.telephone(telephones).map(String::from));
        let external_id = event.user_id().map(str::trim).unwrap_or_default();
        if email.is_empty() && phone.is_empty() && external_id.is_empty() {
            return Err(OutcomeReason::new("no_identifier"));
        }
        let this_year = Offset::UTC.to_datetime(event.event.received_at).year();
        let born = person.birthday().and_then(|text| normalise::birthday(&text, this_year));
        let born = |range: std::ops::Range<usize>| {
            digest(born.as_deref().and_then(|day| day.get(range)), &|text| Some(text.to_owned()))
        };
        let first_name = person.first_name();
        let first_letter = |text: &str| {
            Some(normalise::name(text)?.chars().take(1).collect())
                .filter(|it: &String| !it.is_empty())
        };
        let country = person.country();
        let code = country.as_deref().and_then(normalise::country);
        AudienceRow::of(&[
            unicode::composed(external_id).into_owned(),
            email,
            phone,
            digest(person.gender().as_deref(), &normalise::gender),
            born(0..4),
            born(4..6),
            born(6..8),
            digest(person.last_name().as_deref(), &normalise::name),
            digest(first_name.as_deref(), &normalise::name),
            digest(first_name.as_deref(), &first_letter),
            digest(person.city().as_deref(), &normalise::city),
            digest(person.state().as_deref(), &|text| normalise::state(text, code.as_deref())),
            digest(person.postal_code().as_deref(), &normalise::postal_code),
            digest(country.as_deref(), &normalise::country),
        ])
    }

    async fn open_list(
        &self,
        list: &AudienceList<'_>,
        call: &dyn VendorCall,
    ) -> Result<String, Outcome> {
        let Some(audiences) = &self.settings.audiences else {
            return Err(Outcome::Dead(OutcomeReason::new("no_ad_account")));
        };
        if let Some(id) = list.id {
            return Ok(id.to_owned());
        }
        let body = json!({
            "name": list.title, "subtype": "CUSTOM", "description": DESCRIPTION,
            "customer_file_source": SOURCE,
        });
        let uri = audiences.create.clone();
        let result = call.call(self.graph(Method::POST, uri, body.to_string())).await;
        match answer::outcome(&result, call.now()) {
            Outcome::Delivered => {}
            other => return Err(other),
        }
        let body = result.ok().and_then(|reply| reply.json()).unwrap_or_default();
        created_list_id(body.get("id").filter(|id| id.as_str().is_some_and(is_number)))
    }

    async fn change_members(
        &self,
        list: &str,
        change: AudienceChange,
        rows: &[AudienceRow],
        call: &dyn VendorCall,
    ) -> Vec<Outcome> {
        let (read, ends) = parse_rows::<Vec<String>>(rows);
        let Some(uri) = self.settings.audiences.as_ref().and_then(|it| it.users(list)) else {
            return fill_outcomes(ends, &Outcome::Dead(OutcomeReason::new("invalid_list")));
        };
        if read.is_empty() {
            return fill_outcomes(ends, &Outcome::Delivered);
        }
        let data: Vec<_> = read.into_iter().map(|(_, row)| row).collect();
        let body = json!({ "payload": { "schema": SCHEMA, "data": data } });
        let method = match change {
            AudienceChange::Add => Method::POST,
            AudienceChange::Remove => Method::DELETE,
        };
        let result = call.call(self.graph(method, uri, body.to_string())).await;
        let outcome = match answer::outcome(&result, call.now()) {
            // Graph has the same error for a missing list as for a missing pixel.
            Outcome::Unauthorised(OutcomeReason { code: answer::UNKNOWN, detail }) => {
                Outcome::Dead(OutcomeReason { code: LIST_GONE, detail })
            }
            other => other,
        };
        fill_outcomes(ends, &outcome)
    }
}

/// Returns true if this can be one of Meta's numbers.
pub(super) fn is_number(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
}

/// The URLs of Custom Audiences.
pub(super) struct MetaAudienceApi {
    /// The URL that creates a list.
    pub(super) create: Uri,
    /// The part of a list's URL before its number.
    pub(super) base: String,
    /// The query of every URL.
    pub(super) query: String,
}

impl MetaAudienceApi {
    /// Returns the URL for the members of a list. `None` if its id is no number.
    fn users(&self, list: &str) -> Option<Uri> {
        if !is_number(list) {
            return None;
        }
        format!("{}/{list}/users{}", self.base, self.query).parse().ok()
    }
}
