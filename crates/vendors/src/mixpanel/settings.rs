//! `[sites.destinations.settings]` of a Mixpanel destination.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use url::Url;

use super::names::MixpanelNameTemplate;
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::secret("project_token")
        .example("${MIXPANEL_TOKEN}")
        .required()
        .doc("the project's token; required"),
    Setting::word("region", &["us", "eu", "in"])
        .default("us")
        .doc("the project's region: \"us\", \"eu\" or \"in\"; a wrong one loses data"),
    Setting::text("service_account")
        .example("tagway.1a2b.mp-service-account")
        .doc("the service account for /import; by default the token is used"),
    Setting::secret("service_secret").example("${MIXPANEL_SECRET}").doc("the account's secret"),
    Setting::text("project_id")
        .example("1234567")
        .doc("the project's number, which a service account needs"),
    Setting::word("id_merge", &["simplified", "original"])
        .default("simplified")
        .doc("the project's way to merge ids, as in its settings: \"simplified\" or \"original\""),
    Setting::text("link_event").default("Identified").doc(
        "with \"simplified\": the event that links a device to a named user; \"\" = by \
             later events",
    ),
    Setting::text("page_name").default("Viewed {{name}} Page").doc(
        "the name of page events, which may contain {{name}} and {{category}}; for an event \
             without them \"Loaded a Page\"",
    ),
    Setting::text("screen_name")
        .default("Viewed {{name}} Screen")
        .doc("the same for screens; for an event without a name \"Loaded a Screen\""),
    Setting::texts("group_keys").example("[\"company\"]").doc(
        "the project's group keys; the first is for a group's id; default: \
             [\"$group_id\"]",
    ),
    Setting::word("ip", &["visitor", "none"])
        .default("visitor")
        .doc("\"visitor\": visitors are located by their address; or \"none\""),
    Setting::boolean("product_events")
        .default("false")
        .doc("true: a \"Product Purchased\" for every product of an order"),
    Setting::boolean("transactions")
        .default("false")
        .doc("true: revenue is also added to the person's $transactions"),
    Setting::texts("increments")
        .example("[\"points\"]")
        .doc("properties that are added up in the person's profile, at most 20"),
    Setting::texts("set_once")
        .example("[\"first_source\"]")
        .doc("traits whose first value is kept"),
    Setting::texts("union")
        .example("[\"tags\"]")
        .doc("traits that are lists to which values are added"),
    Setting::text("currency")
        .example("USD")
        .doc("the currency of amounts with a sign that several currencies share, such as \"$\""),
    Setting::text("segment_property")
        .default("Segments")
        .doc("the person's property that lists the segments synced here"),
];

/// The hosts of the regions; a project lives in exactly one.
const US: &str = "https://api.mixpanel.com";
const EU: &str = "https://api-eu.mixpanel.com";
const INDIA: &str = "https://api-in.mixpanel.com";

/// The most properties that are added up: each is written for every event that has it.
const MAX_INCREMENTS: usize = 20;

/// The identity system of a Mixpanel project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MixpanelIdMerge {
    /// The default of new projects: events have both device and user.
    Simplified,
    /// `$identify`, `$merge` and `$create_alias` link ids.
    Original,
}

/// The validated settings of one destination.
pub(super) struct MixpanelSettings {
    pub(super) token: SecretString,
    /// Secrets to redact besides the token.
    credentials: Vec<SecretString>,
    pub(super) import: Uri,
    pub(super) track: Uri,
    pub(super) engage: Uri,
    pub(super) groups: Uri,
    /// The credentials of `import`.
    pub(super) authorization: HeaderValue,
    /// True if they are a service account's, which `$merge` requires.
    pub(super) has_service_account: bool,
    pub(super) id_merge: MixpanelIdMerge,
    pub(super) page_name: MixpanelNameTemplate,
    pub(super) screen_name: MixpanelNameTemplate,
    /// The name of the event that links a device to a newly identified user.
    pub(super) link_event: Option<String>,
    pub(super) group_keys: Vec<String>,
    /// True if the visitor's IP address is sent, for geolocation.
    pub(super) locate: bool,
    /// True if every product of an order is an event of its own.
    pub(super) product_events: bool,
    /// True if revenue is written to the person's `$transactions`.
    pub(super) transactions: bool,
    /// Properties that are added up in the person's profile.
    pub(super) increments: Vec<String>,
    /// Traits of which the first value counts.
    pub(super) set_once: Vec<String>,
    /// Traits that are lists to which values are added.
    pub(super) union: Vec<String>,
    /// The person's property that lists their segments.
    pub(super) segment_property: String,
}

impl MixpanelSettings {
    pub(super) fn read(section: &mut SettingsSection<'_>, endpoint: Option<Url>) -> Self {
        section.describe(SETTINGS);
        let token = section.secret("project_token");
        let account = read_account(section);
        let (user, password) = match &account {
            Some(account) => (account.name.as_str(), account.secret.expose()),
            None => (token.expose(), ""),
        };
        let basic = STANDARD.encode(format!("{user}:{password}"));
        let mut authorization = HeaderValue::from_str(&format!("Basic {basic}"))
            .unwrap_or_else(|_not_in_base64| HeaderValue::from_static("Basic"));
        authorization.set_sensitive(true);
        let base = section.choice("region", &[("us", US), ("eu", EU), ("in", INDIA)]);
        let base = endpoint.as_ref().map_or(base, Url::as_str).trim_end_matches('/');
        let project = account.as_ref().map(|account| account.project.as_str());
        let mut address = |path: &str, query: &[(&str, &str)]| {
            read_uri(base, path, query).unwrap_or_else(|| {
                section.error("project_id", "contains characters that are not valid in a URL");
                Uri::default()
            })
        };
        let mut import_query = vec![("strict", "1")];
        import_query.extend(project.map(|id| ("project_id", id)));
        let client_query = [("ip", "0"), ("verbose", "1")];
        let import = address("/import", &import_query);
        let track = address("/track", &client_query);
        let engage = address("/engage", &client_query);
        let groups = address("/groups", &client_query);
        let link_event = section.string("link_event");
        let mut group_keys = section.strings("group_keys");
        if group_keys.is_empty() {
            group_keys.push("$group_id".to_owned());
        }
        let increments = section.strings("increments");
        if increments.len() > MAX_INCREMENTS {
            section.error("increments", "must have at most 20 entries");
        }
        Self {
            has_service_account: account.is_some(),
            credentials: account.into_iter().map(|account| account.secret).collect(),
            token,
            import,
            track,
            engage,
            groups,
            authorization,
            id_merge: section.choice(
                "id_merge",
                &[
                    ("simplified", MixpanelIdMerge::Simplified),
                    ("original", MixpanelIdMerge::Original),
                ],
            ),
            page_name: read_template(section, "page_name"),
            screen_name: read_template(section, "screen_name"),
            link_event: Some(link_event).filter(|name| !name.is_empty()),
            group_keys,
            locate: section.choice("ip", &[("visitor", true), ("none", false)]),
            product_events: section.boolean("product_events"),
            transactions: section.boolean("transactions"),
            increments,
            set_once: section.strings("set_once"),
            union: section.strings("union"),
            segment_property: section
                .opt_string("segment_property")
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "Segments".to_owned()),
        }
    }

    /// Returns the secrets to redact.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        let mut secrets = vec![self.token.clone()];
        secrets.extend(self.credentials.iter().cloned());
        secrets
    }
}

struct MixpanelServiceAccount {
    name: String,
    secret: SecretString,
    project: String,
}

/// Reads the service account, which needs its secret and its project as well.
fn read_account(section: &mut SettingsSection<'_>) -> Option<MixpanelServiceAccount> {
    let keys = ["service_account", "service_secret", "project_id"];
    let secret = section.opt_secret("service_secret").unwrap_or_default();
    let given = keys.map(|key| section.has(key));
    if !given.contains(&true) {
        return None;
    }
    for (key, _) in keys.iter().zip(given).filter(|(_, is_given)| !is_given) {
        section.error(key, "is required with service_account, service_secret and project_id");
    }
    let name = section.opt_string("service_account").unwrap_or_default();
    if name.contains(':') {
        section.error("service_account", "must not contain a colon");
    }
    let project = section.opt_string("project_id").unwrap_or_default();
    if !project.bytes().all(|byte| byte.is_ascii_digit()) {
        section.error("project_id", "must be the project's number");
    }
    Some(MixpanelServiceAccount { name, secret, project })
}

fn read_template(section: &mut SettingsSection<'_>, key: &str) -> MixpanelNameTemplate {
    let written = section.string(key);
    MixpanelNameTemplate::read(&written).unwrap_or_else(|problem| {
        section.error(key, &problem.to_string());
        MixpanelNameTemplate::default()
    })
}

fn read_uri(base: &str, path: &str, query: &[(&str, &str)]) -> Option<Uri> {
    // Joining an absolute path would drop the base's own path.
    let mut url = Url::parse(&format!("{base}{path}")).ok()?;
    url.query_pairs_mut().extend_pairs(query);
    url.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support;

    fn read(text: &str) -> (MixpanelSettings, Vec<String>) {
        test_support::read(text, |section| MixpanelSettings::read(section, None))
    }

    #[test]
    fn service_account_needs_secret_and_project() {
        let token = "project_token = \"t0ken\"\n";
        let (settings, mistakes) = read(token);
        assert!(mistakes.is_empty() && !settings.has_service_account);
        assert_eq!(settings.authorization, "Basic dDBrZW46");
        assert_eq!(settings.import, "https://api.mixpanel.com/import?strict=1");
        let whole = "service_account = \"sa\"\nservice_secret = \"hush\"\nproject_id = \"42\"\n";
        let (settings, mistakes) = read(&format!("{token}{whole}region = \"eu\""));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(settings.authorization, "Basic c2E6aHVzaA==");
        assert_eq!(settings.import, "https://api-eu.mixpanel.com/import?strict=1&project_id=42");
        assert_eq!(settings.secrets().len(), 2);
        let (_, mistakes) = read(&format!("{token}service_account = \"sa\""));
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    }

    #[test]
    fn endpoint_keeps_its_path() {
        for endpoint in ["http://proxy.example/mp", "http://proxy.example/mp/"] {
            let (settings, _) = test_support::read("project_token = \"t0ken\"", |section| {
                MixpanelSettings::read(section, Some(endpoint.parse().unwrap()))
            });
            assert_eq!(settings.import, "http://proxy.example/mp/import?strict=1");
            assert_eq!(settings.engage, "http://proxy.example/mp/engage?ip=0&verbose=1");
        }
    }

    #[test]
    fn every_mistake_is_found() {
        for (text, key) in [
            ("", "project_token"),
            ("region = \"mars\"", "region"),
            ("id_merge = \"legacy\"", "id_merge"),
            ("page_name = \"Viewed {{title}}\"", "page_name"),
            ("ip = \"gateway\"", "ip"),
            (
                "service_account = \"a:b\"\nservice_secret = \"s\"\nproject_id = \"1\"",
                "service_account",
            ),
            ("service_account = \"a\"\nservice_secret = \"s\"\nproject_id = \"x\"", "project_id"),
        ] {
            let token = if text.is_empty() { "" } else { "project_token = \"t\"\n" };
            let (_, mistakes) = read(&format!("{token}{text}"));
            assert!(mistakes.len() == 1 && mistakes[0].contains(key), "{text}: {mistakes:?}");
        }
    }
}
