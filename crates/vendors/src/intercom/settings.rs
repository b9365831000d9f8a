//! `[sites.destinations.settings]` of an Intercom destination, besides the access token and the
//! addresses (`api.rs`) and the bounds of the cache of contacts.

use crate::{person, products};
use tagway_core::values::telephone::TelephoneReader;
use tagway_settings::SettingsSection;

/// The checked settings.
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
        let leads = section.opt_boolean("leads").unwrap_or(false);
        let lead_attribute = section.opt_string("lead_attribute");
        if lead_attribute.is_some() && !leads {
            section.error("lead_attribute", "has no effect without leads = true");
        }
        Self {
            currency: products::store_currency(section),
            telephones: person::telephone_reader(section),
            leads,
            lead_attribute,
            pages: section.opt_boolean("pages").unwrap_or(false),
            attributes: section.strings("attributes"),
            company_attributes: section.strings("company_attributes"),
            dates: section.opt_boolean("dates").unwrap_or(false),
            metadata_priority: section.strings("metadata_priority"),
        }
    }
}
