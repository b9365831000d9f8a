//! The members of Customer Match lists.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Uri};
use serde_json::{Map, Value, json};
use url::Url;

use super::token::GoogleAdsTokens;
use crate::audience::{
    AudienceChange, AudienceList, AudienceRow, VendorAudience, fill_outcomes, parse_rows,
};
use crate::digest::sha256;
use crate::google::{country, email, letters, phone, postal_code};
use crate::person::{EventPerson, telephone_reader};
use crate::{Outcome, OutcomeReason, VendorCall, classify_reply};
use tagway_core::event::EnrichedEvent;
use tagway_core::values::telephone::TelephoneReader;
use tagway_settings::{SecretString, SettingsSection};

/// The addresses of the API for members and of the token endpoint.
const BASE: &str = "https://datamanager.googleapis.com";
const TOKENS: &str = "https://oauth2.googleapis.com";

/// The most members in one request. Google takes twice as many; a repetition should not be that large.
const MAX_ROWS: usize = 5000;

/// The most characters of Google's error message that are kept.
const MAX_ERROR_CHARS: usize = 300;

/// The Data Manager API's words for consent; the Ads API has other words.
const CONSENT: [(&str, &str); 2] = [("granted", "CONSENT_GRANTED"), ("denied", "CONSENT_DENIED")];

/// The lists of one account.
pub(super) struct GoogleCustomerMatch {
    ingest: Uri,
    remove: Uri,
    tokens: GoogleAdsTokens,
    account: Value,
    login_account: Option<Value>,
    consent: Map<String, Value>,
    telephones: TelephoneReader,
}

impl GoogleCustomerMatch {
    /// Reads the lists' account and the credentials.
    pub(super) fn read(
        section: &mut SettingsSection<'_>,
        endpoint: Option<Url>,
    ) -> (Self, Vec<SecretString>) {
        section.describe(super::SETTINGS);
        let at = |base: &str, path: &str| {
            let base = endpoint.as_ref().map_or(base, Url::as_str).trim_end_matches('/');
            format!("{base}/{path}").parse().unwrap_or_default()
        };
        let tokens = GoogleAdsTokens::read(section, at(TOKENS, "token"));
        let account = account(section, "customer_id", true).unwrap_or_default();
        let login_account = account_of_login(section);
        let mut consent = Map::new();
        for (key, name) in
            [("ad_user_data", "adUserData"), ("ad_personalization", "adPersonalization")]
        {
            if let Some(message) = section.opt_choice(key, &CONSENT) {
                consent.insert(name.to_owned(), message.into());
            }
        }
        let secrets = tokens.secrets();
        let ingest = at(BASE, "v1/audienceMembers:ingest");
        let remove = at(BASE, "v1/audienceMembers:remove");
        let telephones = telephone_reader(section);
        let customers =
            Self { ingest, remove, tokens, account, login_account, consent, telephones };
        (customers, secrets)
    }

    /// Builds the body of a change of these members.
    fn body(&self, list: &str, change: AudienceChange, rows: &[(usize, Vec<Value>)]) -> Value {
        let mut destination = Map::new();
        destination.insert("operatingAccount".to_owned(), self.account.clone());
        destination.extend(self.login_account.clone().map(|it| ("loginAccount".to_owned(), it)));
        destination.insert("productDestinationId".to_owned(), list.into());
        let members: Vec<Value> = rows
            .iter()
            .map(|(_, identifiers)| json!({ "userData": { "userIdentifiers": identifiers } }))
            .collect();
        let mut body = Map::new();
        body.insert("destinations".to_owned(), json!([destination]));
        body.insert("encoding".to_owned(), "HEX".into());
        body.insert("audienceMembers".to_owned(), members.into());
        if change == AudienceChange::Add {
            let terms = json!({ "customerMatchTermsOfServiceStatus": "ACCEPTED" });
            body.insert("termsOfService".to_owned(), terms);
            let consent = Some(&self.consent).filter(|consent| !consent.is_empty());
            body.extend(consent.map(|it| ("consent".to_owned(), Value::Object(it.clone()))));
        }
        Value::Object(body)
    }
}

/// Reads an account of Google Ads: ten digits, with or without hyphens.
fn account(section: &mut SettingsSection<'_>, key: &str, is_required: bool) -> Option<Value> {
    let written = if is_required { Some(section.string(key)) } else { section.opt_string(key) }?;
    let digits: String = written.chars().filter(|c| *c != '-').collect();
    if section.has(key) && (digits.len() != 10 || !digits.bytes().all(|b| b.is_ascii_digit())) {
        section.error(key, "must be an account's number, such as \"123-456-7890\"");
    }
    Some(json!({ "accountType": "GOOGLE_ADS", "accountId": digits }))
}

/// Reads the manager's account through which the lists' account is reached.
fn account_of_login(section: &mut SettingsSection<'_>) -> Option<Value> {
    account(section, "login_customer_id", false)
}

#[async_trait]
impl VendorAudience for GoogleCustomerMatch {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, event: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        let person = EventPerson::of(event);
        let text = |value: Option<std::borrow::Cow<'_, str>>, form: fn(&str) -> String| {
            value.map(|value| form(&value)).filter(|text| !text.is_empty())
        };
        let digest = |value, form| text(value, form).and_then(|text| sha256(&text));
        // All white space is removed before hashing.
        let name = |text: &str| letters(text).split_whitespace().collect::<String>();
        let mut identifiers = Vec::new();
        if let Some(digest) = digest(person.email(), email) {
            identifiers.push(json!({ "emailAddress": digest }));
        }
        if let Some(digest) = sha256(&phone(person, &self.telephones)) {
            identifiers.push(json!({ "phoneNumber": digest }));
        }
        if let (Some(given), Some(family), Some(region), Some(postal)) = (
            digest(person.first_name(), name),
            digest(person.last_name(), name),
            text(person.country(), country),
            text(person.postal_code(), postal_code),
        ) {
            identifiers.push(json!({ "address": {
                "givenName": given, "familyName": family, "regionCode": region, "postalCode": postal,
            } }));
        }
        if identifiers.is_empty() {
            Err(OutcomeReason::new("no_identifier"))
        } else {
            AudienceRow::of(&identifiers)
        }
    }

    async fn open_list(
        &self,
        list: &AudienceList<'_>,
        _call: &dyn VendorCall,
    ) -> Result<String, Outcome> {
        let id = list.id.filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()));
        id.map(str::to_owned).ok_or_else(|| {
            let detail = "lists are made in Google Ads: give the sync its number as list";
            Outcome::Dead(OutcomeReason::detailed("no_list", detail))
        })
    }

    async fn change_members(
        &self,
        list: &str,
        change: AudienceChange,
        rows: &[AudienceRow],
        call: &dyn VendorCall,
    ) -> Vec<Outcome> {
        let (read, ends) = parse_rows::<Vec<Value>>(rows);
        if read.is_empty() {
            return fill_outcomes(ends, &Outcome::Delivered);
        }
        let bearer = match self.tokens.bearer(call).await {
            Ok(bearer) => bearer,
            Err(outcome) => return fill_outcomes(ends, &outcome),
        };
        let mut request = Request::new(Bytes::from(self.body(list, change, &read).to_string()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = match change {
            AudienceChange::Add => self.ingest.clone(),
            AudienceChange::Remove => self.remove.clone(),
        };
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, bearer);
        let result = call.call(request).await;
        let message = result.as_ref().ok().and_then(|reply| reply.json()).and_then(error_message);
        let worded = |reason: OutcomeReason| match &message {
            Some(message) => OutcomeReason::detailed(reason.code, message.as_str()),
            None => reason,
        };
        let outcome = match classify_reply(&result, call.now()) {
            Outcome::Unauthorised(reason) => {
                self.tokens.forget();
                Outcome::Unauthorised(worded(reason))
            }
            Outcome::Refused(reason) => Outcome::Refused(worded(reason)),
            other => other,
        };
        fill_outcomes(ends, &outcome)
    }
}

/// Returns Google's error message, of `{"error": {"status", "message"}}`.
fn error_message(body: Value) -> Option<String> {
    let error = body.get("error")?;
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let message = format!("{}: {}", text("status"), text("message"));
    Some(message.chars().take(MAX_ERROR_CHARS).collect())
}
