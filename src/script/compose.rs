//! Puts scripts together from the built files. Each is a complete statement, so pieces stand one
//! after another; `window.tagway` is all they share.

use serde_json::{Map, Value, json};

use super::settings::{Part, Settings};
use crate::vendors::{self, Shim, Vendor};

const CORE: &str = include_str!("../../static/sdk/dist/core.js");
const ALIAS: &str = include_str!("../../static/sdk/dist/parts/alias.js");

/// What a page has before the script, so that no call is lost: the text between script tags.
pub const SNIPPET: &str = include_str!("../../static/sdk/dist/snippet.js");

/// `/tw.js` of a site.
pub fn site(settings: &Settings) -> String {
    let shims =
        settings.shims.iter().filter_map(|name| vendors::find(name)?.shim.map(|it| (*name, it)));
    let shims: Vec<(&str, &Shim)> = shims.collect();
    with(settings, &shims)
}

/// The core and the shim of one vendor, as a file of its own for pages that load the vendor's script
/// by its old address. What is on the page already, by `/tw.js` or by another such file, does not
/// come twice. `None` if the vendor has no shim.
pub fn with_shim(settings: &Settings, vendor: &Vendor) -> Option<String> {
    Some(with(settings, &[(vendor.name, vendor.shim?)]))
}

/// The core and these vendors' shims.
fn with(settings: &Settings, shims: &[(&str, &Shim)]) -> String {
    let mut script = core(settings);
    let mut shared = Vec::new();
    for (vendor, shim) in shims {
        for piece in shim.needs {
            if !shared.contains(&piece.name) {
                shared.push(piece.name);
                script.push_str(&once(piece.name, piece.script));
            }
        }
        script.push_str(&once(vendor, shim.script));
    }
    script
}

/// The core with the site's settings and parts, unless it is on the page.
fn core(settings: &Settings) -> String {
    let mut script = String::from("if(!(window.tagway&&window.tagway.loaded)){");
    script.push_str("(window.tagway=window.tagway||{}).settings=");
    script.push_str(&literal(&public(settings)));
    script.push(';');
    script.push_str(CORE);
    if settings.alias {
        script.push_str(ALIAS);
    }
    for part in &settings.auto {
        script.push_str(part.script());
    }
    script.push_str("}\n");
    script
}

/// A piece, unless it is on the page. Names of vendors and pieces are identifiers.
fn once(name: &str, script: &str) -> String {
    format!("if(!tagway.loaded.{name}){{tagway.loaded.{name}=1;{script}}}\n")
}

/// What the page may know of the settings.
fn public(settings: &Settings) -> Value {
    let mut public = Map::new();
    if let Some(endpoint) = &settings.endpoint {
        public.insert("endpoint".to_owned(), json!(endpoint.origin().ascii_serialization()));
    }
    if settings.auto.contains(&Part::Page) {
        public.insert("page".to_owned(), json!(true));
    }
    if settings.wait_for_consent {
        public.insert("waitForConsent".to_owned(), json!(true));
    }
    if !settings.shim_settings.is_empty() {
        public.insert("shims".to_owned(), json!(settings.shim_settings));
    }
    Value::Object(public)
}

/// JSON that is safe within a script, wherever that stands: it neither ends a script element nor,
/// for browsers older than ES2019, a line.
fn literal(value: &Value) -> String {
    let text = value.to_string();
    text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

impl Part {
    const fn script(self) -> &'static str {
        match self {
            // The core's own, by a setting.
            Self::Page => "",
            Self::History => include_str!("../../static/sdk/dist/parts/history.js"),
            Self::Links => include_str!("../../static/sdk/dist/parts/links.js"),
            Self::Downloads => include_str!("../../static/sdk/dist/parts/downloads.js"),
            Self::Forms => include_str!("../../static/sdk/dist/parts/forms.js"),
            Self::Scroll => include_str!("../../static/sdk/dist/parts/scroll.js"),
            Self::Vitals => include_str!("../../static/sdk/dist/parts/vitals.js"),
            Self::Errors => include_str!("../../static/sdk/dist/parts/errors.js"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_cannot_leave_their_place_in_a_script() {
        let value = json!({"a": "</script><!--\u{2028}\u{2029}\"\\"});
        let text = literal(&value);
        assert!(!text.contains(['<', '\u{2028}', '\u{2029}']), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
