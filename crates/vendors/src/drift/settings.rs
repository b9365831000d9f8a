//! `[sites.destinations.settings]` of a Drift destination, besides the access token and the bounds of
//! the cache of contacts.

use crate::person::{self, COUNTRY_CODE_DOC};
use tagway_core::values::telephone::TelephoneReader;
use tagway_settings::{Setting, SettingsSection};

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::secret("access_token").example("${DRIFT_TOKEN}").required().doc(
        "the app's access token, with the scopes contact_read, contact_write and \
             account_write; required",
    ),
    Setting::text("default_country_code").example("41").doc(COUNTRY_CODE_DOC),
    Setting::texts("attributes")
        .example("[\"plan\", \"address.city\"]")
        .doc("traits that are sent as custom attributes of the contact"),
    Setting::text("tags_trait")
        .example("tags")
        .doc("the trait whose texts are the contact's tags; none by default"),
    Setting::text("event_prefix")
        .example("Shop: ")
        .doc("prefix of the name of every event, as Drift recommends; none by default"),
    Setting::texts("event_attributes")
        .example("[\"order_id\"]")
        .doc("properties that are sent with events; none by default"),
    Setting::integer_from("account_owner_id", 1)
        .example("21995")
        .doc("groups become accounts of this owner; needs org_id"),
    Setting::integer_from("org_id", 1)
        .example("123458")
        .doc("id of the organisation, which accounts need"),
    Setting::boolean("pages")
        .default("false")
        .doc("true: pages and screens are sent as events, \"Viewed NAME\""),
    Setting::boolean("retry_ambiguous").default("false").doc(
        "true: events are sent again after a timeout, and may be counted twice; false: they \
             become dead letters, and may be lost",
    ),
    Setting::text("embed_id")
        .example("xyz789")
        .doc("the public id of the widget, with mode = \"client\" or \"both\""),
];

/// Attributes that Drift derives itself, and the beginnings of others' names: they are never written.
const RESERVED: [&str; 12] = [
    "tags",
    "events",
    "socialProfiles",
    "social_profiles",
    "start_date",
    "last_active",
    "last_contacted",
    "ip",
    "id",
    "createdAt",
    "externalId",
    "external_id",
];
const RESERVED_BEGINNINGS: [&str; 3] = ["_", "original_", "recent_"];

/// The checked settings.
#[derive(Clone)]
pub(super) struct DriftSettings {
    /// Reads the contacts' telephone numbers.
    pub(super) telephones: TelephoneReader,
    /// Traits that are custom attributes of the contact.
    pub(super) attributes: Vec<String>,
    /// The trait whose texts are tags of the contact.
    pub(super) tags_trait: Option<String>,
    /// Properties that are sent with timeline entries.
    pub(super) event_attributes: Vec<String>,
    /// The prefix of every timeline entry's text.
    pub(super) event_prefix: String,
    /// True if pages and screens are timeline entries.
    pub(super) pages: bool,
    /// True if a timeline entry is sent again when its arrival is uncertain.
    pub(super) retry_ambiguous: bool,
    /// The owner of the groups' accounts, if groups are accounts.
    pub(super) accounts: Option<DriftAccountSettings>,
}

/// The ids that accounts need.
#[derive(Clone)]
pub(super) struct DriftAccountSettings {
    pub(super) owner_id: i64,
    pub(super) org_id: i64,
}

impl DriftSettings {
    pub(super) fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(SETTINGS);
        let attributes = section.strings("attributes");
        for name in attributes.iter().filter(|name| is_reserved(name)) {
            section.error("attributes", &format!("{name:?} is written by Drift itself"));
        }
        let org_id = section.opt_integer("org_id");
        let owner_id = section.opt_integer("account_owner_id");
        if owner_id.is_some() && org_id.is_none() {
            section.error("org_id", "is required to update existing accounts");
        }
        Self {
            telephones: person::telephone_reader(section),
            attributes,
            tags_trait: section.opt_string("tags_trait"),
            event_attributes: section.strings("event_attributes"),
            event_prefix: section.opt_string("event_prefix").unwrap_or_default(),
            pages: section.boolean("pages"),
            retry_ambiguous: section.boolean("retry_ambiguous"),
            accounts: owner_id
                .zip(org_id)
                .map(|(owner_id, org_id)| DriftAccountSettings { owner_id, org_id }),
        }
    }
}

/// Returns true if an attribute is Drift's own, under the name that it would have there.
fn is_reserved(name: &str) -> bool {
    let name = name.replace('.', "_");
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&name))
        || RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}
