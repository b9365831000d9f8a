//! Reads the settings of a destination for the page, where the vendor's own library runs. Only values that the
//! vendor calls public are sent there, whatever else is set.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Map;
use url::Url;
use url::form_urlencoded::byte_serialize;

use super::filter::DestinationFilter;
use tagway_core::event::EnrichedEvent;
use tagway_core::privacy::{PrivacyPolicy, UnknownConsent};
use tagway_settings::SettingsSection;
use tagway_vendors::{
    BatchScope, ClientLibrary, ClientModeSettings, DeliveryLimits, Destination, Outcome, Vendor,
    VendorCall,
};

/// The values of `client_load`.
pub(super) const CLIENT_LOADS: [(&str, &str); 3] =
    [("idle", "idle"), ("interaction", "interaction"), ("now", "now")];

/// Reads the page's settings from a destination's table and its vendor's settings.
pub(super) fn read_client_mode(
    section: &mut SettingsSection<'_>,
    settings: &mut SettingsSection<'_>,
    (vendor, client): (&Vendor, &ClientLibrary),
    filter: &DestinationFilter,
    policy: &PrivacyPolicy,
) -> ClientModeSettings {
    let mut public = Map::new();
    for key in client.required {
        public.insert((*key).to_owned(), settings.string(key).into());
    }
    for key in client.optional {
        if let Some(value) = settings.opt_string(key) {
            public.insert((*key).to_owned(), value.into());
        }
    }
    let own: Option<Url> = section.opt_parsed("client_script");
    if own.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
        section.error("client_script", "must be an http or https URL");
    }
    let names = [filter.name.as_str(), filter.vendor].into_iter();
    let mut below_mount = client.library.to_owned();
    for (key, value) in &public {
        let value = value.as_str().unwrap_or_default();
        let encoded: String = byte_serialize(value.as_bytes()).collect();
        below_mount = below_mount.replace(&format!("{{{key}}}"), &encoded);
    }
    let at_its_name = format!("/{}{below_mount}", vendor.name);
    ClientModeSettings {
        src: own.as_ref().map_or(at_its_name, ToString::to_string),
        load: section.choice("client_load", &CLIENT_LOADS),
        api: None,
        both: false,
        names: names.chain(filter.vendor_aliases.iter().copied()).map(str::to_owned).collect(),
        events: section.strings("events"),
        consent: filter.consent.clone(),
        unknown: match policy.unknown_in_page(filter.unknown_consent) {
            UnknownConsent::Allow => "allow",
            UnknownConsent::Deny => "deny",
            UnknownConsent::Hold => "hold",
        },
        settings: public,
        below_mount: own.is_none().then_some(below_mount),
    }
}

/// Builds the implementation for a vendor that only the page calls.
pub(super) fn build_page_only_destination(
    _settings: &mut SettingsSection<'_>,
    _endpoint: Option<Url>,
) -> Box<dyn Destination> {
    Box::new(ClientOnlyDestination)
}

struct ClientOnlyDestination;

#[async_trait]
impl Destination for ClientOnlyDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            scope: BatchScope::Site,
            max_events: 1,
            max_bytes: 1 << 20,
            batch_delay: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 1,
            calls_per_second: None,
            timeout: Duration::from_secs(1),
        }
    }

    fn admit_event(&self, _event: &EnrichedEvent, _now: Timestamp) -> Result<(), Outcome> {
        Err(Outcome::skipped("page_delivers"))
    }

    async fn deliver(&self, batch: &[EnrichedEvent], _call: &dyn VendorCall) -> Vec<Outcome> {
        batch.iter().map(|_| Outcome::skipped("page_delivers")).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::settings::DestinationSettings;
    use tagway_vendors::test_support;

    fn read(text: &str) -> (Option<DestinationSettings>, Vec<String>) {
        let defaults = "client_load = \"idle\"\nevents = [\"*\", \"!Secret*\"]\n\
            consent = [\"advertising\"]\nunknown_consent = \"deny\"\nconsent_wait = \"1m\"\nidentity_wait = \"0s\"\n\
            queue_events = 10\nqueue_bytes = \"1MiB\"\nauth_retry_interval = \"1m\"\n\
            paused = false\ndead_report = \"5m\"\n\
            template_steps = 1000\n";
        let retry = "[retry]\nmin_wait = \"1s\"\nmax_wait = \"1m\"\nmax_retry_after = \"1h\"\n\
            tries_before_parking = 4\nparked_max = 10\n\
            [breaker]\nfailures = 5\nmin_open = \"1s\"\nmax_open = \"1m\"\n";
        let (table, settings) = text.split_once("---").unwrap_or((text, ""));
        let text = format!("{table}\n{defaults}{retry}[settings]\n{settings}");
        test_support::read(&text, |section| DestinationSettings::read(section, Arc::default()))
    }

    #[test]
    fn client_settings_contain_no_secret() {
        for (vendor, public, hidden) in [
            ("ga4", "measurement_id = \"G-1\"", &["api_secret"][..]),
            ("meta", "pixel_id = \"123\"", &["access_token", "app_secret"]),
            (
                "mixpanel",
                "project_token = \"t0ken\"\nservice_account = \"sa\"\nproject_id = \"1\"",
                &["service_secret"],
            ),
            ("amplitude", "api_key = \"k3y\"", &["secret_key"]),
            ("intercom", "app_id = \"a\"", &["access_token"]),
            ("drift", "embed_id = \"e\"", &["access_token"]),
            ("posthog", "api_key = \"phc\"", &["personal_api_key"]),
        ] {
            let secrets: Vec<String> =
                hidden.iter().map(|key| format!("{key} = \"hush-{key}\"\n")).collect();
            for mode in ["client", "both"] {
                let text = format!(
                    "name = \"d\"\nvendor = \"{vendor}\"\nmode = \"{mode}\"\n---{public}\n{}",
                    secrets.concat()
                );
                if mode == "both" && vendor == "posthog" {
                    continue;
                }
                let (read, _mistakes) = read(&text);
                let client = read.and_then(|read| read.client).unwrap();
                let shown = serde_json::to_string(&client).unwrap();
                assert!(!shown.contains("hush"), "{vendor}: {shown}");
                assert!(shown.contains("advertising") && shown.contains("!Secret*"), "{shown}");
            }
        }
    }

    #[test]
    fn library_address_has_escaped_ids_and_the_sites_mount() {
        let (read, mistakes) = read(
            "name = \"g\"\nvendor = \"ga4\"\nmode = \"client\"\n---measurement_id = \"G-1&x=</script>\"",
        );
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let client = read.unwrap().client.unwrap();
        assert_eq!(client.src, "/ga4/gtag/js?id=G-1%26x%3D%3C%2Fscript%3E");
        let client = client.mounted("/m1x", true);
        assert_eq!(client.src, "/m1x/gtag/js?id=G-1%26x%3D%3C%2Fscript%3E");
        assert_eq!(client.api.as_deref(), Some("/m1x"));
    }

    #[test]
    fn a_vendor_without_a_library_has_no_client_mode() {
        let (_, mistakes) = read(
            "name = \"w\"\nvendor = \"webhook\"\nmode = \"both\"\n---url = \"http://a.example/\"",
        );
        assert!(mistakes.iter().any(|it| it.contains("mode")), "{mistakes:?}");
    }
}
