//! Custom integrations: a site's own functions, run in its pages for the events that they subscribe to
//! (`[[sites.integrations]]`).
//!
//! Each is served as a separate script unless it is `inline` in `/tw.js`: a syntax error in one then
//! cannot stop the rest, which no check beforehand could guarantee for every browser. A script's address
//! contains its hash, so browsers cache it without end. Drafts (`preview = true`) are listed only to
//! browsers with a preview token of the site.
//!
//! The pages' settings for the vendors' own libraries (client mode) are added with them: both are extras
//! of [`crate::script`].

mod settings;
mod syntax;
#[cfg(test)]
mod tests;

pub use settings::{
    INTEGRATION_DEFAULTS, INTEGRATION_SETTINGS, SiteIntegration, read_integrations,
};

use serde_json::{Map, Value, json};

use crate::script::compose::literal;
use crate::script::{CompanionScript, SdkExtras, ServedScript};
use tagway_core::privacy::{BrowserSignals, PrivacyPolicy};
use tagway_vendors::ClientModeSettings;

const CLIENTS: &str = include_str!("../../../../static/sdk/dist/parts/clients.js");
const INTEGRATIONS: &str = include_str!("../../../../static/sdk/dist/parts/integrations.js");

/// A vendor whose own library runs in the site's pages, and the pages' settings for it.
pub type ClientModeVendor = (&'static str, ClientModeSettings);

impl SiteIntegration {
    /// Its script: the file as the body of a function that returns `handle` to the page's runner.
    fn script(&self) -> String {
        wrapped(&self.name, &self.source)
    }

    /// Its settings for the page. Without an address, it is part of the site's script.
    fn public(&self, src: Option<String>) -> Value {
        let mut public = json!({
            "name": &*self.name,
            "events": self.on,
            "consent": self.consent,
            "timeout": u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            "after": self.after,
            "lazy": self.lazy,
        });
        if let (Some(public), Some(src)) = (public.as_object_mut(), src) {
            public.insert("src".to_owned(), src.into());
        }
        public
    }
}

/// The script of an integration with this name and source.
fn wrapped(name: &str, source: &str) -> String {
    format!(
        "tagway.integration({},function(){{\n{source}\n;return typeof handle===\"function\"?handle:null}});\n",
        literal(&json!(name)),
    )
}

/// The additions to a site's script for the vendors' libraries in its pages and for its own integrations,
/// in their order. Empty if there are none, so that unused features cost nothing. Compresses the scripts:
/// not for the request path.
pub fn extras(
    in_page: &[ClientModeVendor],
    integrations: &[SiteIntegration],
    policy: &PrivacyPolicy,
) -> SdkExtras {
    if in_page.is_empty() && integrations.is_empty() {
        return SdkExtras::default();
    }
    let mut extras = SdkExtras::default();
    let mut inline = String::new();
    let (mut public, mut drafts) = (Vec::new(), Vec::new());
    for integration in integrations {
        if integration.inline {
            inline.push_str(&integration.script());
            public.push(integration.public(None));
            continue;
        }
        let beside = CompanionScript {
            name: integration.name.to_string(),
            file: ServedScript::new(integration.script()),
            is_draft: integration.preview,
        };
        let list = if integration.preview { &mut drafts } else { &mut public };
        list.push(integration.public(Some(beside.path())));
        extras.companions.push(beside);
    }
    if !drafts.is_empty() {
        let script = format!("tagway.drafts({});\n", literal(&Value::Array(drafts)));
        extras.drafts = Some(ServedScript::new(script));
    }
    if !in_page.is_empty() {
        extras.script.push_str(CLIENTS);
        for (vendor, _) in in_page {
            let client = tagway_vendors::find(vendor).and_then(|vendor| vendor.client);
            extras.script.push_str(client.map_or("", |client| client.script));
        }
    }
    if !integrations.is_empty() {
        extras.script.push_str(INTEGRATIONS);
        extras.script.push_str(&inline);
    }
    let clients: Map<String, Value> =
        in_page.iter().map(|(vendor, client)| ((*vendor).to_owned(), json!(client))).collect();
    let signals = BrowserSignals::EACH.into_iter().map(|(name, signal)| {
        (name.to_owned(), json!(policy.refused_by_signals(signal).collect::<Vec<_>>()))
    });
    let settings = json!({
        "clients": clients,
        "integrations": public,
        "preview": extras.drafts.is_some(),
        "signals": signals.collect::<Map<String, Value>>(),
        "withheld": policy.denied_properties().collect::<Vec<_>>(),
    });
    if let Value::Object(settings) = settings {
        extras.settings = settings;
    }
    extras
}
