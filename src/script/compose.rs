//! Puts scripts together from the built files. Each is a complete statement, so pieces stand one
//! after another; `window.tagway` is all they share.

use serde_json::{Value, json};

use super::Extras;
use super::settings::{Part, Settings};
use crate::vendors::{self, Shim, Vendor};

const CORE: &str = include_str!("../../static/sdk/dist/core.js");
const BASE: &str = include_str!("../../static/sdk/dist/parts/base.js");
const RESTORED: &str = include_str!("../../static/sdk/dist/parts/restored.js");

/// The vendor whose shim answers as `window.analytics`.
const ALIAS: &str = "segment";

const SNIPPET: &str = include_str!("../../static/sdk/dist/snippet.js");

/// What a page has first, so that no call is lost: the text between script tags. It brings the script
/// from `src` late enough not to hold up the page; with an empty one the page has a tag for it.
pub fn snippet(src: &str) -> String {
    SNIPPET.trim().replace("\"TAGWAY_SRC\"", &literal(&json!(src)))
}

/// `/tw.js` of a site.
pub fn site(settings: &Settings, extras: &Extras) -> String {
    let shims =
        settings.shims.iter().filter_map(|name| vendors::find(name)?.shim.map(|it| (*name, it)));
    let shims: Vec<(&str, &Shim)> = shims.collect();
    with(settings, extras, &shims)
}

/// The core and the shim of one vendor, as a file of its own for pages that load the vendor's script
/// by its old address. What is on the page already, by `/tw.js` or by another such file, does not
/// come twice. `None` if the vendor has no shim.
pub fn with_shim(settings: &Settings, extras: &Extras, vendor: &Vendor) -> Option<String> {
    Some(with(settings, extras, &[(vendor.name, vendor.shim?)]))
}

/// The core and these vendors' shims.
fn with(settings: &Settings, extras: &Extras, shims: &[(&str, &Shim)]) -> String {
    let mut script = core(settings, extras);
    let mut shared = Vec::new();
    let alias = vendors::find(ALIAS).and_then(|vendor| Some((vendor.name, vendor.shim?)));
    let alias = alias.filter(|(name, _)| settings.alias && shims.iter().all(|it| it.0 != *name));
    for (vendor, shim) in alias.iter().chain(shims) {
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

/// What others bring hears of the messages that the core makes when it starts: they are noted, and the
/// core's own first page is one of the calls that it finds.
const NOTE_EARLY: &str = "(function(t,s){s=t.settings;s.early=[];\
    t.q=[[\"on\",\"*\",function(m){s.early&&s.early.push(m)}]].concat(s.page?[[\"page\"]]:[],t.q||[]);\
    s.page=0})(window.tagway);";
const END_EARLY: &str = "tagway.settings.early=0;";

/// The core with the site's settings and parts, unless it is on the page.
fn core(settings: &Settings, extras: &Extras) -> String {
    let mut script = String::from("if(!(window.tagway&&window.tagway.loaded)){");
    script.push_str("(window.tagway=window.tagway||{}).settings=");
    script.push_str(&literal(&public(settings, extras)));
    script.push(';');
    script.push_str(BASE);
    let has_extras = !extras.script.is_empty();
    if has_extras {
        script.push_str(NOTE_EARLY);
    }
    script.push_str(CORE);
    script.push_str(RESTORED);
    for part in &settings.auto {
        script.push_str(part.script());
    }
    if has_extras {
        script.push_str(&extras.script);
        script.push_str(END_EARLY);
    }
    script.push_str("}\n");
    script
}

/// A piece, unless it is on the page. Names of vendors and pieces are identifiers.
fn once(name: &str, script: &str) -> String {
    format!("if(!tagway.loaded.{name}){{tagway.loaded.{name}=1;{script}}}\n")
}

/// What the page may know of the settings.
fn public(settings: &Settings, extras: &Extras) -> Value {
    let mut public = extras.settings.clone();
    if let Some(endpoint) = &settings.endpoint {
        public.insert("endpoint".to_owned(), json!(endpoint.origin().ascii_serialization()));
    }
    if settings.auto.contains(&Part::Page) {
        public.insert("page".to_owned(), json!(true));
        if settings.restored {
            public.insert("restored".to_owned(), json!(true));
        }
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
pub fn literal(value: &Value) -> String {
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
