//! Custom integrations: a site's own functions, run in its pages for the events they ask for
//! (`[[sites.integrations]]`).
//!
//! Each is served as a script of its own and never as a part of another: a mistake of syntax in one
//! cannot keep the rest from running, which no check beforehand could promise for every browser. The
//! address of a script has its digest, so browsers keep it for good. Drafts (`preview = true`) are only
//! in the script that a browser gets with the site's token.

mod settings;
#[cfg(test)]
mod tests;

pub use settings::{Integration, read_integrations};

use serde_json::{Map, Value, json};

use crate::delivery::ClientSettings;
use crate::vendors;

/// The path of a draft's script and of the others begins with this.
pub const FOLDER: &str = "/tw/";

impl Integration {
    /// Where its script is.
    pub fn path(&self) -> String {
        format!("{FOLDER}{}.{}.js", self.name, self.digest)
    }

    /// Its script: the file as the body of a function, which gives `handle` to the page's runner.
    pub fn script(&self) -> String {
        format!(
            "tagway.integration({},function(){{\n{}\n;return typeof handle===\"function\"?handle:null}});\n",
            json!(&*self.name),
            self.source
        )
    }

    /// What the page is told of it.
    pub fn public(&self) -> Value {
        json!({
            "name": &*self.name,
            "src": self.path(),
            "events": self.on,
            "consent": self.consent,
            "timeout": u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            "after": self.after,
            "lazy": self.lazy,
        })
    }
}

/// What every page is told: all but the drafts, each after those it names.
pub fn public(integrations: &[Integration]) -> Value {
    integrations.iter().filter(|it| !it.preview).map(Integration::public).collect()
}

/// Whether any is a draft, so that pages look for a token.
pub fn has_drafts(integrations: &[Integration]) -> bool {
    integrations.iter().any(|it| it.preview)
}

/// The script of the drafts, for browsers that have the token.
pub fn drafts(integrations: &[Integration]) -> String {
    let drafts: Value =
        integrations.iter().filter(|it| it.preview).map(Integration::public).collect();
    format!("tagway.drafts({});\n", escaped(&drafts))
}

const CLIENTS: &str = include_str!("../../static/sdk/dist/parts/clients.js");
const INTEGRATIONS: &str = include_str!("../../static/sdk/dist/parts/integrations.js");

/// What comes after the core in a site's script: the vendors' libraries that run in the page and the
/// site's own integrations. Empty where there are none, so that nobody pays for what they do not use.
/// `signals`: the categories that Sec-GPC and DNT refuse at the site.
pub fn page_script(
    destinations: &[(&'static str, ClientSettings)],
    integrations: &[Integration],
    signals: &Value,
) -> String {
    let has_integrations = !integrations.is_empty();
    if destinations.is_empty() && !has_integrations {
        return String::new();
    }
    let clients: Map<String, Value> =
        destinations.iter().map(|(vendor, client)| ((*vendor).to_owned(), json!(client))).collect();
    let settings = json!({
        "clients": clients,
        "integrations": public(integrations),
        "preview": has_drafts(integrations),
        "signals": signals,
    });
    let mut script = format!("Object.assign(tagway.settings,{});\n", escaped(&settings));
    if !destinations.is_empty() {
        script.push_str(CLIENTS);
        for (vendor, _) in destinations {
            let client = vendors::find(vendor).and_then(|vendor| vendor.client);
            script.push_str(client.map_or("", |client| client.script));
        }
    }
    if has_integrations {
        script.push_str(INTEGRATIONS);
    }
    script
}

/// JSON that may stand in a script: U+2028 and `<` are escaped, so that it may stand in a page as well.
pub fn escaped(value: &Value) -> String {
    let text = value.to_string();
    text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}
