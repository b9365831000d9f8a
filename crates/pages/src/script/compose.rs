//! Composes scripts from the built files. Each is a complete statement, so pieces can be concatenated;
//! they share only `window.tagway`.

use serde_json::{Value, json};

use super::SdkExtras;
use super::settings::{AutomaticEvent, SdkSettings};
use tagway_vendors::{Vendor, VendorShim};

const CORE: &str = include_str!("../../../../static/sdk/dist/core.js");
const BASE: &str = include_str!("../../../../static/sdk/dist/parts/base.js");
const RESTORED: &str = include_str!("../../../../static/sdk/dist/parts/restored.js");

/// The vendor whose shim is available as `window.analytics`.
const ALIAS: &str = "segment";

const SNIPPET: &str = include_str!("../../../../static/sdk/dist/snippet.js");

/// The text between script tags that a page has first, so that no call is lost. It loads the script
/// from `src` late enough not to delay the page; if `src` is empty, the page has its own tag for it.
pub fn snippet(src: &str) -> String {
    SNIPPET.trim().replace("\"TAGWAY_SRC\"", &literal(&json!(src)))
}

/// The text of a site's `/tw.js`.
pub fn site(settings: &SdkSettings, extras: &SdkExtras) -> String {
    let shims = settings
        .shims
        .iter()
        .filter_map(|name| tagway_vendors::find(name)?.shim.map(|it| (*name, it)));
    let shims: Vec<(&str, &VendorShim)> = shims.collect();
    with(settings, extras, &shims)
}

/// The core and the shim of one vendor, as a separate file for pages that load the vendor's script
/// from its old address. Pieces that `/tw.js` or another such file has already loaded are not loaded
/// twice. `None` if the vendor has no shim.
pub fn with_shim(settings: &SdkSettings, extras: &SdkExtras, vendor: &Vendor) -> Option<String> {
    Some(with(settings, extras, &[(vendor.name, vendor.shim?)]))
}

/// The core and these vendors' shims.
fn with(settings: &SdkSettings, extras: &SdkExtras, shims: &[(&str, &VendorShim)]) -> String {
    let mut script = core(settings, extras);
    let mut shared = Vec::new();
    let alias = tagway_vendors::find(ALIAS).and_then(|vendor| Some((vendor.name, vendor.shim?)));
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

/// Code that records the messages which the core makes when it starts, so that the extras receive them;
/// the core's own first page becomes one of the calls in its queue.
const NOTE_EARLY: &str = "(function(t,s){s=t.settings;s.early=[];\
    t.q=[[\"on\",\"*\",function(m){s.early&&s.early.push(m)}]].concat(s.page?[[\"page\"]]:[],t.q||[]);\
    s.page=0})(window.tagway);";
const END_EARLY: &str = "tagway.settings.early=0;";

/// The core with the site's settings and parts; skipped in a page that has the core.
fn core(settings: &SdkSettings, extras: &SdkExtras) -> String {
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

/// A piece; skipped in a page that has it. Names of vendors and pieces are identifiers.
fn once(name: &str, script: &str) -> String {
    format!("if(!tagway.loaded.{name}){{tagway.loaded.{name}=1;{script}}}\n")
}

/// The settings that the page receives.
fn public(settings: &SdkSettings, extras: &SdkExtras) -> Value {
    let mut public = extras.settings.clone();
    if let Some(endpoint) = &settings.endpoint {
        public.insert("endpoint".to_owned(), json!(endpoint.origin().ascii_serialization()));
    }
    if settings.auto.contains(&AutomaticEvent::Page) {
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

/// JSON that is safe anywhere within a script: it neither ends a script element nor, for browsers older
/// than ES2019, a line.
pub fn literal(value: &Value) -> String {
    let text = value.to_string();
    text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

impl AutomaticEvent {
    const fn script(self) -> &'static str {
        match self {
            // Part of the core, controlled by a setting.
            Self::Page => "",
            Self::History => include_str!("../../../../static/sdk/dist/parts/history.js"),
            Self::Links => include_str!("../../../../static/sdk/dist/parts/links.js"),
            Self::Downloads => include_str!("../../../../static/sdk/dist/parts/downloads.js"),
            Self::Forms => include_str!("../../../../static/sdk/dist/parts/forms.js"),
            Self::Scroll => include_str!("../../../../static/sdk/dist/parts/scroll.js"),
            Self::Vitals => include_str!("../../../../static/sdk/dist/parts/vitals.js"),
            Self::Errors => include_str!("../../../../static/sdk/dist/parts/errors.js"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_escapes_what_would_end_a_script() {
        let value = json!({"a": "</script><!--\u{2028}\u{2029}\"\\"});
        let text = literal(&value);
        assert!(!text.contains(['<', '\u{2028}', '\u{2029}']), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
