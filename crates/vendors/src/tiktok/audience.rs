//! The members of custom audiences. Every row has a cell for each kind of identifier, empty or not.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

use crate::audience::{
    AudienceChange, AudienceList, AudienceRow, VendorAudience, created_list_id, fill_outcomes,
    parse_rows,
};
use crate::contact_api::{email, phone};
use crate::digest::{is_sha256, sha256};
use crate::person::{COUNTRY_CODE_DOC, EventPerson, telephone_reader};
use crate::{Outcome, OutcomeReason, VendorCall, VendorCallError, VendorReply, classify_reply};
use tagway_core::event::EnrichedEvent;
use tagway_core::values::telephone::TelephoneReader;
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::text("advertiser_id")
        .example("42884288")
        .required()
        .doc("the advertiser's id; required"),
    Setting::secret("access_token")
        .example("${TIKTOK_TOKEN}")
        .required()
        .doc("the access token of the advertiser's app; required"),
    Setting::text("default_country_code").example("41").doc(COUNTRY_CODE_DOC),
];

/// TikTok's API, unless the endpoint says otherwise.
const BASE: &str = "https://business-api.tiktok.com";

/// Members in one request: TikTok's limit for events in one request.
const MAX_ROWS: usize = 1000;

/// The kinds of identifiers, in the order of the rows.
const SCHEMA: [&str; 2] = ["EMAIL_SHA256", "PHONE_SHA256"];

/// The most characters of TikTok's message in a reason.
const MAX_ERROR_CHARS: usize = 300;

/// The custom audiences of one advertiser.
pub(super) struct TikTokAudiences {
    create: Uri,
    mapping: Uri,
    access_token: HeaderValue,
    advertiser_id: String,
    telephones: TelephoneReader,
}

impl TikTokAudiences {
    /// Reads the advertiser and the access token; returns the token as well, as a secret to redact.
    pub(super) fn read(
        section: &mut SettingsSection<'_>,
        endpoint: Option<Url>,
    ) -> (Self, SecretString) {
        section.describe(SETTINGS);
        let base = endpoint.as_ref().map_or(BASE, Url::as_str).trim_end_matches('/');
        // TikTok's paths end with a slash.
        let at = |path: &str| {
            format!("{base}/open_api/v1.3/segment/{path}/").parse().unwrap_or_default()
        };
        let (create, mapping) = (at("audience"), at("mapping"));
        let token = section.secret("access_token");
        let access_token = HeaderValue::try_from(token.expose());
        if access_token.is_err() {
            section.error("access_token", "contains characters that are not valid in a header");
        }
        let mut access_token = access_token.unwrap_or_else(|_noted| HeaderValue::from_static(""));
        access_token.set_sensitive(true);
        let advertiser_id = section.string("advertiser_id");
        let is_number = advertiser_id.bytes().all(|byte| byte.is_ascii_digit());
        if section.has("advertiser_id") && (advertiser_id.is_empty() || !is_number) {
            section.error("advertiser_id", "must be of digits alone");
        }
        let telephones = telephone_reader(section);
        (Self { create, mapping, access_token, advertiser_id, telephones }, token)
    }

    fn request(&self, uri: &Uri, body: &Value) -> Request<Bytes> {
        let mut request = Request::new(Bytes::from(body.to_string()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("access-token", self.access_token.clone());
        request
    }
}

#[async_trait]
impl VendorAudience for TikTokAudiences {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, event: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        let person = EventPerson::of(event);
        // An identifier that its sender hashed is a digest already, and is sent as that digest.
        let given = |text: Option<std::borrow::Cow<'_, str>>| {
            text.map(|text| text.trim().to_ascii_lowercase()).filter(|text| is_sha256(text))
        };
        let email = email(event).map(|address| address.to_lowercase());
        let email = email.and_then(|address| sha256(&address)).or_else(|| given(person.email()));
        let phone = phone(event, &self.telephones).and_then(|number| sha256(&number));
        let phone = phone.or_else(|| given(person.phone()));
        match (&email, &phone) {
            (None, None) => Err(OutcomeReason::new("no_identifier")),
            _ => AudienceRow::of(&[email, phone]),
        }
    }

    async fn open_list(
        &self,
        list: &AudienceList<'_>,
        call: &dyn VendorCall,
    ) -> Result<String, Outcome> {
        if let Some(id) = list.id {
            return Ok(id.to_owned());
        }
        let [id_type, _] = SCHEMA;
        let body = json!({
            "advertiser_id": self.advertiser_id, "custom_audience_name": list.title,
            "action": "create", "id_type": id_type,
        });
        let result = call.call(self.request(&self.create, &body)).await;
        match outcome(&result, call.now()) {
            Outcome::Delivered => {}
            other => return Err(other),
        }
        let body = result.ok().and_then(|reply| reply.json()).unwrap_or_default();
        created_list_id(body.pointer("/data/audience_id"))
    }

    async fn change_members(
        &self,
        list: &str,
        change: AudienceChange,
        rows: &[AudienceRow],
        call: &dyn VendorCall,
    ) -> Vec<Outcome> {
        let (read, ends) = parse_rows::<[Option<String>; SCHEMA.len()]>(rows);
        if read.is_empty() {
            return fill_outcomes(ends, &Outcome::Delivered);
        }
        let cell = |id: Option<String>| match id {
            Some(id) => json!({ "id": id, "audience_ids": [list] }),
            None => json!({}),
        };
        let data: Vec<_> = read.into_iter().map(|(_, row)| row.map(cell)).collect();
        let body = json!({
            "advertiser_ids": [self.advertiser_id],
            "action": match change { AudienceChange::Add => "add", AudienceChange::Remove => "delete" },
            "id_schema": SCHEMA, "batch_data": data,
        });
        let result = call.call(self.request(&self.mapping, &body)).await;
        fill_outcomes(ends, &outcome(&result, call.now()))
    }
}

/// Returns the outcome of a call: the code in the reply's body counts before its status.
fn outcome(result: &Result<VendorReply, VendorCallError>, now: Timestamp) -> Outcome {
    let judged = classify_reply(result, now);
    let Ok(reply) = result else { return judged };
    let body = reply.json().unwrap_or_default();
    let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
    let message: String = message.chars().take(MAX_ERROR_CHARS).collect();
    let after = reply.retry_after(now);
    let code = body.get("code").and_then(Value::as_i64);
    let reason = |name: &'static str| {
        OutcomeReason::detailed(name, format!("{}: {message}", code.unwrap_or_default()))
    };
    match code {
        Some(0) if judged == Outcome::Delivered => judged,
        // Partial success: the reply does not name the rows that failed.
        Some(20_001) => Outcome::Delivered,
        Some(40_001 | 40_104 | 40_105) => Outcome::Unauthorised(reason("unauthorised")),
        Some(40_002) => Outcome::Refused(reason("refused")),
        Some(40_100) => Outcome::Retry { reason: reason("rate_limited"), after },
        Some(50_000..=59_999) => Outcome::Retry { reason: reason("vendor_error"), after },
        Some(_) if judged == Outcome::Delivered => Outcome::Refused(reason("refused")),
        None if judged == Outcome::Delivered => {
            Outcome::Retry { reason: OutcomeReason::new("unreadable_reply"), after }
        }
        _ => judged,
    }
}
