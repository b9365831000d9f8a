//! `[sites.destinations.settings]` of a Meta destination.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, Uri};
use sha2::Sha256;
use url::Url;

use super::audience::{MetaAudienceApi, is_number};
use super::source::ACTION_SOURCES;
use crate::person::{self, COUNTRY_CODE_DOC};
use crate::products;
use tagway_core::values::telephone::TelephoneReader;
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::text("pixel_id")
        .example("1234567890")
        .required()
        .doc("the id of the pixel, or of the dataset; required"),
    Setting::secret("access_token")
        .example("${META_TOKEN}")
        .required()
        .doc("the access token of a system user, or one created for the pixel; required"),
    Setting::secret("app_secret")
        .example("${META_SECRET}")
        .doc("the app's secret, which signs each call; needed if the app requires it"),
    Setting::text("api_version")
        .default(API_VERSION)
        .doc("the version of the Graph API; Meta ends a version about two years after its release"),
    Setting::text("test_event_code").example("TEST123").doc(
        "a code of Events Manager, for tests: it shows the events at once, and they do not \
             count",
    ),
    Setting::text("ad_account_id").example("act_123").doc(
        "the account of the Custom Audiences to which segments are synced; events do not \
             need it",
    ),
    Setting::text("currency").example("EUR").doc(
        "the currency of orders without one; if it is not set, such orders become dead letters",
    ),
    Setting::text("default_country_code").example("41").doc(COUNTRY_CODE_DOC),
    Setting::word("order_event_id", &["message_id", "order_id"]).default("message_id").doc(
        "the value that the page's own pixel sends as an order's eventID: \"message_id\" or \
             \"order_id\"",
    ),
    Setting::word("purchase_value", &["total", "revenue", "value"]).default("total").doc(
        "the amount that a purchase counts with: \"total\", \"revenue\" (without shipping and \
             tax) or \"value\"",
    ),
    Setting::word("action_source", &ACTION_SOURCES)
        .default("other")
        .doc("the source of events that come neither from a page nor from an app"),
    Setting::text_table("event_names")
        .example("{ \"Product Clicked\" = \"ViewContent\" }")
        .doc("track names and Meta's names for them; overrides the mapping"),
    Setting::texts("allowed_properties")
        .example("[\"city\"]")
        .doc("personal properties that are sent nevertheless; none by default"),
    Setting::boolean("limited_data_use")
        .default("false")
        .doc("true: Meta processes every event as some US states require"),
    Setting::texts("limited_data_use_without")
        .example("[\"marketing\"]")
        .doc("the same for the events of visitors who did not grant all of these categories"),
    Setting::integer("limited_data_use_country", 0, 1)
        .default("0")
        .doc("the country of limited_data_use: 1 is the United States; 0: Meta detects it"),
    Setting::integer("limited_data_use_state", 0, LAST_STATE)
        .default("0")
        .doc("the state of limited_data_use, 1000 to 1010, by Meta's numbers; 0: Meta detects it"),
];

/// The Graph API, unless the endpoint says otherwise.
const BASE: &str = "https://graph.facebook.com";

/// The version of the Graph API, unless the settings say otherwise.
const API_VERSION: &str = "v25.0";

/// The states of Limited Data Use, besides 0: then Meta locates the visitor.
const FIRST_STATE: u32 = 1000;
const LAST_STATE: i64 = 1010;

/// The validated settings of one destination.
pub(super) struct MetaSettings {
    /// The URL of the pixel's events.
    pub(super) events: Uri,
    /// The URLs of lists, if there is an ad account for them.
    pub(super) audiences: Option<MetaAudienceApi>,
    /// The `Authorization` field of every call.
    pub(super) authorization: HeaderValue,
    pub(super) access_token: SecretString,
    pub(super) app_secret: Option<SecretString>,
    /// Set for tests: the events appear in Meta's Events Manager at once and are not counted.
    pub(super) test_event_code: Option<String>,
    /// The store's currency, for events that name none.
    pub(super) currency: Option<String>,
    /// Reads telephone numbers, in the country of the setting `default_country_code`.
    pub(super) telephones: TelephoneReader,
    /// The property of an order that is its event id, if it is not the message's.
    pub(super) order_event_id: Option<&'static str>,
    /// Properties with an order's value; the first that an event has counts.
    pub(super) purchase_value: &'static [&'static str],
    /// The action source of events that are neither of a page nor of an app.
    pub(super) action_source: &'static str,
    /// Renamed track events: the event's name and Meta's.
    pub(super) event_names: Vec<(String, String)>,
    /// Personal properties that are sent all the same, in lower case.
    pub(super) allowed_properties: Vec<String>,
    pub(super) limited_data_use: MetaLimitedDataUse,
}

/// Conditions of Limited Data Use, which some states' laws require.
pub(super) struct MetaLimitedDataUse {
    /// True if it applies to every event.
    pub(super) always: bool,
    /// Consent categories: it applies to events of visitors who did not grant all of them.
    pub(super) without: Vec<String>,
    /// 1 is the United States; with 0 Meta locates the visitor.
    pub(super) country: u32,
    /// Meta's number of a state; with 0 Meta locates the visitor.
    pub(super) state: u32,
}

impl MetaSettings {
    pub(super) fn read(section: &mut SettingsSection<'_>, endpoint: Option<Url>) -> Self {
        section.describe(SETTINGS);
        let pixel_id = digits(section, "pixel_id", true).unwrap_or_default();
        let access_token = section.secret("access_token");
        let app_secret = section.opt_secret("app_secret");
        let version = version(section);
        let account = ad_account(section);
        let base = endpoint.as_ref().map_or(BASE, Url::as_str).trim_end_matches('/');
        let proof = app_secret.as_ref().map(|secret| app_secret_proof(secret, &access_token));
        let base = format!("{base}/{version}");
        let query = proof.map(|proof| format!("?appsecret_proof={proof}")).unwrap_or_default();
        // Settings that make no URL are reported as mistakes.
        let at = |path: &str| format!("{base}/{path}{query}").parse().unwrap_or_default();
        let events = at(&format!("{pixel_id}/events"));
        let create = account.map(|account| at(&format!("act_{account}/customaudiences")));
        let audiences = create.map(|create| MetaAudienceApi { create, base, query });
        let authorization = HeaderValue::try_from(format!("Bearer {}", access_token.expose()));
        if authorization.is_err() {
            section.error("access_token", "contains characters that are not valid in a token");
        }
        let mut authorization = authorization.unwrap_or_else(|_noted| HeaderValue::from_static(""));
        authorization.set_sensitive(true);
        let sources = ACTION_SOURCES.map(|source| (source, source));
        Self {
            events,
            audiences,
            authorization,
            access_token,
            app_secret,
            test_event_code: section.opt_string("test_event_code").filter(|code| !code.is_empty()),
            currency: products::store_currency(section),
            telephones: person::telephone_reader(section),
            order_event_id: section
                .choice("order_event_id", &[("message_id", None), ("order_id", Some("order_id"))]),
            purchase_value: section.choice("purchase_value", PURCHASE_VALUES),
            action_source: section.choice("action_source", &sources),
            event_names: section.string_table("event_names"),
            allowed_properties: lower(section.strings("allowed_properties")),
            limited_data_use: MetaLimitedDataUse::read(section),
        }
    }
}

const TOTAL: &[&str] = &["total", "revenue", "value"];

const PURCHASE_VALUES: &[(&str, &[&str])] = &[
    ("total", TOTAL),
    ("revenue", &["revenue", "value", "subtotal"]),
    ("value", &["value", "total", "revenue"]),
];

impl MetaLimitedDataUse {
    fn read(section: &mut SettingsSection<'_>) -> Self {
        let state = section.integer("limited_data_use_state");
        if (1..FIRST_STATE).contains(&state) {
            let message = "must be 0 or Meta's number of a state, 1000 to 1010";
            section.error("limited_data_use_state", message);
        }
        let country = section.integer("limited_data_use_country");
        if state != 0 && country == 0 {
            let message = "is a state of the country 1: set limited_data_use_country";
            section.error("limited_data_use_state", message);
        }
        Self {
            always: section.boolean("limited_data_use"),
            without: section.strings("limited_data_use_without"),
            country,
            state,
        }
    }
}

/// Reads one of Meta's numbers, as text.
fn digits(section: &mut SettingsSection<'_>, key: &str, is_required: bool) -> Option<String> {
    let is_set = section.has(key);
    let text = if is_required { Some(section.string(key)) } else { section.opt_string(key) }?;
    if is_set && !is_number(&text) {
        section.error(key, "must consist of digits, such as \"1234567890\"");
    }
    Some(text)
}

/// Reads the number of the ad account that lists belong to.
fn ad_account(section: &mut SettingsSection<'_>) -> Option<String> {
    let account = section.opt_string("ad_account_id")?;
    let number = account.strip_prefix("act_").unwrap_or(&account);
    if !is_number(number) {
        section.error("ad_account_id", "must consist of digits, such as \"act_1234567890\"");
    }
    Some(number.to_owned())
}

fn version(section: &mut SettingsSection<'_>) -> String {
    let version = section.string("api_version");
    let numbers = version.strip_prefix('v').and_then(|numbers| numbers.split_once('.'));
    if !numbers.is_some_and(|(major, minor)| is_number(major) && is_number(minor)) {
        section.error("api_version", "must be a version of the Graph API, such as \"v25.0\"");
    }
    version
}

fn lower(names: Vec<String>) -> Vec<String> {
    names.into_iter().map(|name| name.to_lowercase()).collect()
}

/// Returns the proof that the sender has the app's secret: a stolen token alone is then useless.
fn app_secret_proof(app_secret: &SecretString, access_token: &SecretString) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(app_secret.expose().as_bytes()) else {
        return String::new();
    };
    mac.update(access_token.expose().as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support;

    const LEAST: &str = "pixel_id = \"123\"\naccess_token = \"hush\"\n";

    #[test]
    fn minimal_settings_are_accepted() {
        let settings = test_support::settings(LEAST, |section| MetaSettings::read(section, None));
        assert_eq!(settings.events, "https://graph.facebook.com/v25.0/123/events");
        assert_eq!(settings.authorization, "Bearer hush");
        assert_eq!(settings.action_source, "other");
        let endpoint = Url::parse("http://127.0.0.1:9999").ok();
        let text = format!("{LEAST}app_secret = \"key\"\napi_version = \"v26.0\"");
        let settings =
            test_support::settings(&text, |section| MetaSettings::read(section, endpoint));
        // printf hush | openssl dgst -sha256 -hmac key
        let proof = "eddc51c5da77afe2831fc7ea42b871b7c2a0785a3884a86dc78d417ec2f1b0c6";
        let expected = format!("http://127.0.0.1:9999/v26.0/123/events?appsecret_proof={proof}");
        assert_eq!(settings.events, expected.as_str());
    }

    #[test]
    fn every_mistake_is_reported() {
        let text = "pixel_id = \"GTM-1\"\naccess_token = \"a\\nb\"\napi_version = \"25\"\n\
            ad_account_id = \"act_x\"\ndefault_country_code = \"CH\"\ncurrency = \"francs\"\n\
            order_event_id = \"x\"\npurchase_value = \"x\"\naction_source = \"shop\"\n\
            limited_data_use_state = 7\n";
        let (_, mistakes) = test_support::read(text, |section| MetaSettings::read(section, None));
        let keys = [
            "pixel_id",
            "access_token",
            "api_version",
            "ad_account_id",
            "default_country_code",
            "currency",
            "order_event_id",
            "purchase_value",
            "action_source",
            "limited_data_use_state",
        ];
        for key in keys {
            assert!(mistakes.iter().any(|mistake| mistake.contains(key)), "{key}: {mistakes:#?}");
        }
        let (_, mistakes) = test_support::read("", |section| MetaSettings::read(section, None));
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        let text = format!("{LEAST}limited_data_use_state = 1000");
        let (_, mistakes) = test_support::read(&text, |section| MetaSettings::read(section, None));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    }
}
