//! `[sites.destinations.settings]` of a GA4 destination.

use http::Uri;
use url::Url;

use crate::person::{self, COUNTRY_CODE_DOC};
use crate::products;
use tagway_core::values::telephone::TelephoneReader;
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::text("measurement_id")
        .example("G-ABC123")
        .required()
        .doc("the web stream's measurement id; required"),
    Setting::secret("api_secret")
        .example("${GA4_SECRET}")
        .required()
        .doc("a Measurement Protocol secret of the same stream; required"),
    Setting::word("region", &["global", "eu"])
        .default("global")
        .doc("\"global\", or \"eu\": events are collected and processed within the EU"),
    Setting::text("currency").example("EUR").doc(
        "the currency of orders without one; if it is not set, such orders become dead letters",
    ),
    Setting::texts("user_properties")
        .example("[\"plan\"]")
        .doc("traits that are sent as user properties; none by default"),
    Setting::boolean("user_data").default("false").doc(
        "true: name, address, e-mail and telephone of known users are sent, hashed in \
             Google's format; accept its terms for user-provided data first",
    ),
    Setting::text("default_country_code").example("41").doc(COUNTRY_CODE_DOC),
    Setting::word("purchase_value", &["revenue", "total"]).default("revenue").doc(
        "the amount that a purchase counts with: \"revenue\", without shipping and tax, or \
             \"total\", with them",
    ),
    Setting::word("late", &["drop", "untimed"]).default("drop").doc(
        "events over 72 h old: \"drop\" makes them dead letters, \"untimed\" sends them with \
             the current time",
    ),
    Setting::boolean("retry_ambiguous").default("true").doc(
        "true: events are sent again after a timeout, and may be counted twice; false: they \
             become dead letters, and may be lost",
    ),
];

/// The addresses of the collect endpoint, worldwide and within the EU.
const GLOBAL: &str = "https://www.google-analytics.com";
const EU: &str = "https://region1.google-analytics.com";

/// The amount of an order that is its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ga4PurchaseValue {
    /// Without shipping and tax, as Google defines it.
    Revenue,
    /// With them, as Segment's own destination sends it.
    Total,
}

/// The checked settings.
pub(super) struct Ga4Settings {
    /// The URL of the collect endpoint, with the credentials.
    pub(super) collect: Uri,
    /// The cookie in which gtag keeps this stream's session: `_ga_` and the id without `G-`.
    pub(super) session_cookie: String,
    pub(super) api_secret: SecretString,
    /// The store's currency, for events that name none.
    pub(super) currency: Option<String>,
    /// Traits that are sent as user properties.
    pub(super) user_properties: Vec<String>,
    /// True if the person's data is sent, hashed.
    pub(super) user_data: bool,
    /// Reads the telephone numbers of user data.
    pub(super) telephones: TelephoneReader,
    pub(super) purchase_value: Ga4PurchaseValue,
    /// True if events older than Google takes are dropped; otherwise they are sent without their time.
    pub(super) drop_late: bool,
    /// True if events are sent again after a timeout, which may count them twice.
    pub(super) retry_ambiguous: bool,
}

impl Ga4Settings {
    pub(super) fn read(section: &mut SettingsSection<'_>, endpoint: Option<Url>) -> Self {
        section.describe(SETTINGS);
        let measurement_id = section.string("measurement_id");
        let has_id = section.has("measurement_id");
        if has_id && !is_measurement_id(&measurement_id) {
            section.error("measurement_id", "must be a web stream's id, such as \"G-ABC123\"");
        }
        let api_secret = section.secret("api_secret");
        let base = section.choice("region", &[("global", GLOBAL), ("eu", EU)]);
        let base = endpoint.as_ref().map_or(base, Url::as_str).trim_end_matches('/');
        let currency = products::store_currency(section);
        let purchase_value =
            [("revenue", Ga4PurchaseValue::Revenue), ("total", Ga4PurchaseValue::Total)];
        Self {
            collect: collect(base, &measurement_id, &api_secret).unwrap_or_else(|| {
                section.error("api_secret", "contains characters that are not valid in a URL");
                Uri::default()
            }),
            session_cookie: format!("_ga_{}", measurement_id.trim_start_matches("G-")),
            api_secret,
            currency,
            user_properties: section.strings("user_properties"),
            user_data: section.boolean("user_data"),
            telephones: person::telephone_reader(section),
            purchase_value: section.choice("purchase_value", &purchase_value),
            drop_late: section.choice("late", &[("drop", true), ("untimed", false)]),
            retry_ambiguous: section.boolean("retry_ambiguous"),
        }
    }
}

fn collect(base: &str, measurement_id: &str, api_secret: &SecretString) -> Option<Uri> {
    let mut url = Url::parse(&format!("{base}/mp/collect")).ok()?;
    let mut query = url.query_pairs_mut();
    query.append_pair("measurement_id", measurement_id);
    query.append_pair("api_secret", api_secret.expose());
    drop(query);
    url.as_str().parse().ok()
}

fn is_measurement_id(id: &str) -> bool {
    let rest = id.strip_prefix("G-").unwrap_or_default();
    !rest.is_empty() && rest.len() <= 20 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
