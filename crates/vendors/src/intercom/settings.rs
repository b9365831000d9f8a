//! `[sites.destinations.settings]` of an Intercom destination, besides the access token and the
//! addresses (`api.rs`) and the bounds of the cache of contacts.

use crate::person::{self, COUNTRY_CODE_DOC};
use crate::products;
use tagway_core::values::telephone::TelephoneReader;
use tagway_settings::{Setting, SettingsSection};

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::secret("access_token")
        .example("${INTERCOM_TOKEN}")
        .required()
        .doc("the access token of the workspace's app; required"),
    Setting::word("region", &["us", "eu", "au"])
        .default("us")
        .doc("the workspace's region: \"us\", \"eu\" or \"au\""),
    Setting::text("api_version")
        .default(super::api::VERSION)
        .doc("the version of the API that the gateway uses"),
    Setting::text("currency").example("EUR").doc(
        "the currency of amounts without one; if it is not set, they are sent as plain numbers",
    ),
    Setting::text("default_country_code").example("41").doc(COUNTRY_CODE_DOC),
    Setting::texts("metadata_priority")
        .example("[\"order_id\"]")
        .doc("properties that are sent first; an event has at most 20"),
    Setting::boolean("dates").default("false").doc(
        "true: a date among an event's properties is sent a second time as NAME_date, in \
             seconds, which Intercom shows as a date",
    ),
    Setting::texts("attributes")
        .example("[\"plan\", \"address.city\"]")
        .doc("traits that are sent as custom attributes; they must exist there"),
    Setting::texts("company_attributes")
        .example("[\"tier\"]")
        .doc("traits of groups that are sent as custom attributes of companies"),
    Setting::boolean("leads").default("false").doc(
        "true: people without a user id become leads, which are merged when they become \
             users",
    ),
    Setting::text("lead_attribute").example("visitor").doc(
        "the custom attribute for the anonymous id of leads without an e-mail address; \
             without it such visitors are skipped",
    ),
    Setting::boolean("pages")
        .default("false")
        .doc("true: pages and screens are sent as events, \"Viewed NAME\""),
    Setting::text("app_id")
        .example("abc123")
        .doc("the public id of the workspace, with mode = \"client\" or \"both\""),
];

/// The checked settings.
#[derive(Clone)]
pub(super) struct IntercomSettings {
    /// The store's currency, for events that name none.
    pub(super) currency: Option<String>,
    /// Reads the contacts' telephone numbers.
    pub(super) telephones: TelephoneReader,
    /// True if people without a user id become leads.
    pub(super) leads: bool,
    /// The custom attribute that holds the anonymous id of leads who gave no e-mail address.
    pub(super) lead_attribute: Option<String>,
    /// True if pages and screens are sent as events.
    pub(super) pages: bool,
    /// Traits of people, and of companies, that are custom attributes in Intercom.
    pub(super) attributes: Vec<String>,
    pub(super) company_attributes: Vec<String>,
    /// True if a date among an event's properties gets a second key, in Intercom's form.
    pub(super) dates: bool,
    /// The keys of metadata that are kept first.
    pub(super) metadata_priority: Vec<String>,
}

impl IntercomSettings {
    pub(super) fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(SETTINGS);
        let leads = section.boolean("leads");
        let lead_attribute = section.opt_string("lead_attribute");
        if lead_attribute.is_some() && !leads {
            section.error("lead_attribute", "has no effect without leads = true");
        }
        Self {
            currency: products::store_currency(section),
            telephones: person::telephone_reader(section),
            leads,
            lead_attribute,
            pages: section.boolean("pages"),
            attributes: section.strings("attributes"),
            company_attributes: section.strings("company_attributes"),
            dates: section.boolean("dates"),
            metadata_priority: section.strings("metadata_priority"),
        }
    }
}
