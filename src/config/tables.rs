//! The tree of all described settings: the tables of a configuration file, composed of the lists that the modules
//! declare beside their readers.

use crate::{admin, gateway, log};
use tagway_console::alert::ALERT_SETTINGS;
use tagway_core::{bots, geo, privacy, visitor};
use tagway_delivery::segment;
use tagway_pages::{integrations, origin, script};
use tagway_settings::{Setting, SettingKind, SettingsTable, SettingsVariant};
use tagway_storage::{journal, postgres, profile};
use tagway_vendors::{VENDORS, mapping, prices};

/// All settings.
pub(super) static ROOT: SettingsTable = SettingsTable(&[ROOT_SETTINGS]);

/// The keys and tables at the top of a file.
pub(super) const ROOT_SETTINGS: &[Setting] = &[
    Setting::path("data_dir").default("data").doc(
        "The folder of the journal, the profiles, the generated site secrets and the \
             admin token. It is created with mode 0700, its files with mode 0600. One \
             process may use it at a time.",
    ),
    Setting::table("listen", &LISTEN),
    Setting::table("journal", &SettingsTable(&[journal::JOURNAL_SETTINGS])),
    Setting::table("egress", &SettingsTable(&[tagway_delivery::EGRESS_SETTINGS])),
    Setting::table("scripts", &SettingsTable(&[script::proxy::SCRIPT_PROXY_SETTINGS])),
    Setting::table("profiles", &SettingsTable(&[profile::PROFILE_SETTINGS])),
    Setting::table("postgres", &SettingsTable(&[postgres::POSTGRES_SETTINGS])),
    Setting::table("segments", &SettingsTable(&[segment::SEGMENTATION_SETTINGS])),
    Setting::table("alerts", &SettingsTable(&[ALERT_SETTINGS])),
    Setting::table("limits", &LIMITS),
    Setting::table("log", &SettingsTable(&[log::LOG_SETTINGS])),
    Setting::table("admin", &SettingsTable(&[admin::ADMIN_SETTINGS, admin::ADMIN_TLS_SETTINGS])),
    Setting::table("tls", &SettingsTable(&[tagway_edge::TLS_SETTINGS])),
    Setting::table("geo", &SettingsTable(&[geo::GEO_SETTINGS])),
    Setting::table("site_defaults", &SITE),
    Setting::table("destination_defaults", &DESTINATION),
    Setting::tables("sites", &SITE).required(),
];

static LISTEN: SettingsTable =
    SettingsTable(&[tagway_edge::LISTEN_SETTINGS, admin::ADMIN_ADDRESS_SETTINGS]);

static LIMITS: SettingsTable =
    SettingsTable(&[gateway::LIMIT_SETTINGS, tagway_edge::CONNECTION_LIMIT_SETTINGS]);

static SITE: SettingsTable = SettingsTable(&[
    SITE_SETTINGS,
    gateway::SITE_REQUEST_SETTINGS,
    visitor::VISITOR_SETTINGS,
    bots::BOT_SETTINGS,
    origin::ORIGIN_ADDRESS_SETTINGS,
]);

/// The keys and tables of a site beside those that the modules read of it.
pub(super) const SITE_SETTINGS: &[Setting] = &[
    visitor::SITE_NAME,
    Setting::form("locale", "a language tag (BCP 47)").example("de-CH").doc(
        "how the site writes numbers (BCP 47): whether \"1,299\" and \"1.299\" in an \
             event's amounts have thousands or decimals. Unset, they have thousands; \
             \"1,299.00\", \"59,90\" and similar numbers are clear without it. A \
             destination's settings may override it",
    ),
    Setting::table("proxy", &SettingsTable(&[origin::ORIGIN_SETTINGS])),
    Setting::table("sdk", &SettingsTable(&[script::SDK_SETTINGS])),
    Setting::table("privacy", &SettingsTable(&[privacy::PRIVACY_SETTINGS])),
    Setting::table("profiles", &SettingsTable(&[profile::SITE_PROFILE_SETTINGS])),
    Setting::named_tables("vendors", &SettingsTable(&[gateway::MOUNT_SETTINGS])),
    Setting::table("integration_defaults", &SettingsTable(&[integrations::INTEGRATION_DEFAULTS])),
    Setting::tables(
        "integrations",
        &SettingsTable(&[integrations::INTEGRATION_SETTINGS, integrations::INTEGRATION_DEFAULTS]),
    ),
    Setting::tables("destinations", &DESTINATION),
    Setting::tables("segments", &SettingsTable(&[segment::SEGMENT_SETTINGS])),
];

static DESTINATION: SettingsTable =
    SettingsTable(&[tagway_delivery::DESTINATION_SETTINGS, DESTINATION_TABLES]);

const DESTINATION_TABLES: &[Setting] = &[
    Setting::table("retry", &SettingsTable(&[tagway_delivery::RETRY_SETTINGS])),
    Setting::table("breaker", &SettingsTable(&[tagway_delivery::BREAKER_SETTINGS])),
    Setting::table("mapping", &SettingsTable(&[mapping::MAPPING_SETTINGS])),
    Setting::table_by("settings", "vendor", vendor_settings),
];

/// Returns the settings of each vendor's destinations, by the vendor's name.
fn vendor_settings() -> Vec<SettingsVariant> {
    let is_destination = |vendor: &&&tagway_vendors::Vendor| {
        (vendor.destination.is_some() || vendor.client.is_some())
            && vendor.name != tagway_vendors::forward::NAME
    };
    VENDORS
        .iter()
        .filter(is_destination)
        .map(|vendor| SettingsVariant {
            value: vendor.name,
            lists: vec![vendor.settings, prices::PRICE_SETTINGS],
        })
        .collect()
}

/// Returns the settings of the table at a path, such as `sites.vendors.ga4`; of a destination's `settings`, those of
/// the vendor. None for a table that is not described.
pub fn described_settings(path: &str, vendor: Option<&str>) -> Vec<&'static Setting> {
    let mut settings: Vec<&'static Setting> = ROOT.settings().collect();
    let mut steps = path.split('.').filter(|step| !step.is_empty());
    while let Some(step) = steps.next() {
        let Some(setting) = settings.iter().find(|setting| setting.name == step) else {
            return Vec::new();
        };
        settings = match setting.kind {
            SettingKind::Table(table) | SettingKind::Tables(table) => table.settings().collect(),
            SettingKind::NamedTables(table) => {
                steps.next();
                table.settings().collect()
            }
            SettingKind::TableBy(_, variants) => {
                let found = variants().into_iter().find(|it| Some(it.value) == vendor);
                found.into_iter().flat_map(|it| it.lists).flatten().collect()
            }
            _ => Vec::new(),
        };
    }
    settings
}

/// Calls `visit` with each described table once, and its path.
#[cfg(test)]
pub fn each_described_table(visit: &mut impl FnMut(&str, &[&'static Setting])) {
    fn walk(
        path: &str,
        settings: &[&'static Setting],
        visit: &mut impl FnMut(&str, &[&'static Setting]),
    ) {
        visit(path, settings);
        for setting in settings {
            let path = format!("{path}.{}", setting.name);
            match setting.kind {
                SettingKind::Table(table)
                | SettingKind::Tables(table)
                | SettingKind::NamedTables(table) => {
                    walk(&path, &table.settings().collect::<Vec<_>>(), visit);
                }
                SettingKind::TableBy(_, variants) => {
                    for variant in variants() {
                        let settings: Vec<_> = variant.lists.into_iter().flatten().collect();
                        walk(&format!("{path} of {}", variant.value), &settings, visit);
                    }
                }
                _ => {}
            }
        }
    }
    walk("", &ROOT.settings().collect::<Vec<_>>(), visit);
}

/// Returns the JSON Schema of a configuration file.
pub fn json_schema() -> serde_json::Value {
    tagway_settings::json_schema(&ROOT)
}
