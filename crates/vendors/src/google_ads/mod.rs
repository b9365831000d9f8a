//! Google Ads' Customer Match, by the Data Manager API (`docs/contracts/destinations.md` 7.2 B). Lists only:
//! conversions are not sent yet.
//!
//! Lists are made in Google Ads, and their number is the sync's setting `list`: the Data Manager API makes
//! none. Google accepts members at once and matches them later, so a delivered member is not necessarily
//! matched.

mod audience;
mod token;

use std::num::NonZeroU32;

use self::audience::GoogleCustomerMatch;
use super::Vendor;
use super::audience::ListOnlyDestination;
use super::person::COUNTRY_CODE_DOC;
use tagway_settings::Setting;

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::text("customer_id")
        .example("123-456-7890")
        .required()
        .doc("the account's number; required"),
    Setting::text("login_customer_id")
        .example("987-654-3210")
        .doc("the number of the manager account with access to it"),
    Setting::text("client_id")
        .example("${GOOGLE_CLIENT_ID}")
        .required()
        .doc("the OAuth application's id; required"),
    Setting::secret("client_secret")
        .example("${GOOGLE_CLIENT_SECRET}")
        .required()
        .doc("the OAuth application's secret; required"),
    Setting::secret("refresh_token").example("${GOOGLE_REFRESH_TOKEN}").required().doc(
        "the token that the application got when a user of the account granted it the scope \
             .../auth/datamanager; required",
    ),
    Setting::word("ad_user_data", &["granted", "denied"]).example("granted").doc(
        "the members' consent to the use of their data, sent with them: \"granted\" or \
             \"denied\"; not sent by default",
    ),
    Setting::word("ad_personalization", &["granted", "denied"])
        .example("granted")
        .doc("the same for personalised advertising"),
    Setting::text("default_country_code").example("41").doc(COUNTRY_CODE_DOC),
];

/// Google Ads' entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "google_ads",
    deduplication: "takes no events",
    aliases: &["Google Ads", "Google Data Manager", "Google Enhanced Conversions"],
    settings: SETTINGS,
    destination: Some(|section, endpoint| {
        let (lists, secrets) = GoogleCustomerMatch::read(section, endpoint);
        Box::new(ListOnlyDestination { lists, secrets, calls_per_second: Some(CALLS_PER_SECOND) })
    }),
    ..Vendor::EMPTY
};

/// The rate of 300 requests a minute and project.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();
