//! `[sites.destinations.settings]` of an Amplitude destination.

use http::Uri;
use url::Url;

use super::audience::AmplitudeCohortApi;
use crate::products;
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::secret("api_key")
        .example("${AMPLITUDE_KEY}")
        .required()
        .doc("the project's API key; required"),
    Setting::secret("secret_key")
        .example("${AMPLITUDE_SECRET}")
        .doc("the project's secret key, for cohorts; events do not need it"),
    Setting::word("region", &["us", "eu"])
        .default("us")
        .doc("the project's region: \"us\" or \"eu\""),
    Setting::word("api", &["http", "batch"]).default("http").doc(
        "\"http\": HTTP V2; \"batch\": larger requests and more events per visitor, visible \
             later",
    ),
    Setting::text("currency").example("EUR").doc("the currency of orders without one"),
    Setting::texts("user_properties")
        .example("[\"plan\"]")
        .doc("traits that are sent with every event; none by default"),
    Setting::word("products", &["listed", "events", "revenue"]).default("listed").doc(
        "an order's products: \"listed\" in its event; \"events\": also one event for \
             each; \"revenue\": the same, and the revenue is in these instead of in the \
             order's event",
    ),
    Setting::texts("revenue_events").example("[\"Subscription Renewed\"]").doc(
        "names of events whose `revenue` counts besides that of Order Completed; that of \
             an event with a `revenueType` counts as well",
    ),
    Setting::text("group_type").example("company").doc("the type of the site's groups"),
    Setting::text("group_type_trait")
        .example("kind")
        .doc("the group's trait with its type; none by default"),
    Setting::text("group_value_trait")
        .example("slug")
        .doc("the group's trait with its name; groupId by default"),
    Setting::integer_from("app_id", 1)
        .example("4711")
        .doc("the project's number, for cohorts; needs secret_key and cohort_owner"),
    Setting::text("cohort_owner")
        .example("jo@shop.example")
        .doc("the login of the owner of the cohorts to which segments are synced"),
    Setting::boolean("user_mapping")
        .default("false")
        .doc("true: aliases are sent to User Mapping, a paid add-on of Amplitude"),
];

/// The group type of groups that name none.
const GROUP_TYPE: &str = "company";

/// The characters of the API key in the name of the browser SDK's cookie.
const COOKIE_KEY_CHARS: usize = 10;

/// The region of the project's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AmplitudeRegion {
    Us,
    Eu,
}

/// The upload endpoint for the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AmplitudeUploadApi {
    /// HTTP V2: 1 MB a request, 30 events per second and visitor.
    Http,
    /// Batch: 20 MB a request, 1000 events per second and visitor, later in the charts.
    Batch,
}

/// The treatment of an order's products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AmplitudeProductMode {
    /// They are listed in the order's own event.
    Listed,
    /// Each is an additional event.
    Events,
    /// Each is an additional event, with its share of the revenue instead of the order.
    Revenue,
}

/// The checked settings.
pub(super) struct AmplitudeSettings {
    /// The address for events.
    pub(super) upload: Uri,
    /// The address for the properties of groups.
    pub(super) group_identify: Uri,
    /// The address for aliases, if they are sent.
    pub(super) user_map: Option<Uri>,
    pub(super) api: AmplitudeUploadApi,
    pub(super) api_key: SecretString,
    /// For the parts of the API that read or change cohorts; events need no secret key.
    secret_key: Option<SecretString>,
    /// The cohort API, if the settings name the project and the owner.
    pub(super) cohorts: Option<AmplitudeCohortApi>,
    /// The cookie of Amplitude's own browser SDK.
    pub(super) cookie: String,
    /// The store's currency, for orders that name none.
    pub(super) currency: Option<String>,
    /// Traits that are sent with events.
    pub(super) user_properties: Vec<String>,
    pub(super) products: AmplitudeProductMode,
    /// The names of events whose `revenue` counts, besides orders.
    revenue_events: Vec<String>,
    pub(super) group_type: String,
    /// The traits of a group that contain its type and its name, instead of the settings and `groupId`.
    pub(super) group_type_trait: Option<String>,
    pub(super) group_value_trait: Option<String>,
}

impl AmplitudeSettings {
    pub(super) fn read(section: &mut SettingsSection<'_>, endpoint: Option<Url>) -> Self {
        section.describe(SETTINGS);
        let api_key = section.secret("api_key");
        let region =
            section.choice("region", &[("us", AmplitudeRegion::Us), ("eu", AmplitudeRegion::Eu)]);
        let api = section.choice(
            "api",
            &[("http", AmplitudeUploadApi::Http), ("batch", AmplitudeUploadApi::Batch)],
        );
        let products = [
            ("listed", AmplitudeProductMode::Listed),
            ("events", AmplitudeProductMode::Events),
            ("revenue", AmplitudeProductMode::Revenue),
        ];
        let maps_users = section.boolean("user_mapping");
        let endpoint = endpoint.as_ref().map(Url::as_str);
        let (base, map_base, cohort_base) = match region {
            AmplitudeRegion::Us => {
                ("https://api2.amplitude.com", "https://api.amplitude.com", "https://amplitude.com")
            }
            AmplitudeRegion::Eu => (
                "https://api.eu.amplitude.com",
                "https://api.eu.amplitude.com",
                "https://analytics.eu.amplitude.com",
            ),
        };
        let secret_key = section.opt_secret("secret_key");
        let cohort_base = endpoint.unwrap_or(cohort_base);
        let cohorts = AmplitudeCohortApi::read(section, cohort_base, &api_key, secret_key.as_ref());
        let at = |base: &str, path: &str| {
            let url = format!("{}/{path}", endpoint.unwrap_or(base).trim_end_matches('/'));
            url.parse().unwrap_or_default()
        };
        let path = if api == AmplitudeUploadApi::Http { "2/httpapi" } else { "batch" };
        let key_start: String = api_key.expose().chars().take(COOKIE_KEY_CHARS).collect();
        Self {
            upload: at(base, path),
            group_identify: at(base, "groupidentify"),
            user_map: maps_users.then(|| at(map_base, "usermap")),
            api,
            api_key,
            secret_key,
            cohorts,
            cookie: format!("AMP_{key_start}"),
            currency: products::store_currency(section),
            user_properties: section.strings("user_properties"),
            revenue_events: section.strings("revenue_events"),
            products: section.choice("products", &products),
            group_type: name(section, "group_type").unwrap_or_else(|| GROUP_TYPE.to_owned()),
            group_type_trait: name(section, "group_type_trait"),
            group_value_trait: name(section, "group_value_trait"),
        }
    }

    /// Returns true if the `revenue` of events of this name counts.
    pub(super) fn is_revenue_event(&self, name: &str) -> bool {
        self.revenue_events.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Returns the secrets that must not be shown.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        [Some(self.api_key.clone()), self.secret_key.clone()].into_iter().flatten().collect()
    }
}

/// Reads a name, if set.
fn name(section: &mut SettingsSection<'_>, key: &str) -> Option<String> {
    let name = section.opt_string(key)?;
    if name.trim().is_empty() {
        section.error(key, "must not be empty");
    }
    Some(name)
}
