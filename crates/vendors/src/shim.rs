//! The Shim interface: the script that stands in for a vendor's browser API in the page and makes events of
//! its calls.
//!
//! A shim is a built script. Its messages use the vendor's own words where those differ from the spec's: a
//! page should not carry tables that the gateway has for the vendor's beacons in any case.

use tagway_core::event::JsonObject;

/// A vendor's shim and its settings.
#[derive(Debug)]
pub struct VendorShim {
    /// The built script.
    pub script: &'static str,
    /// The scripts that it shares with other shims; each is served once, before the shims that need it.
    pub needs: &'static [&'static SharedShimScript],
    /// Its settings, ids that may be public: `[sites.vendors.NAME]` gives them to the page.
    pub ids: &'static [&'static str],
    /// Translates its messages from the vendor's words to the spec's, if they use such words.
    pub to_canonical: Option<ToCanonical>,
}

/// Translates a message whose member `shim` names the vendor.
pub type ToCanonical = fn(&mut JsonObject);

/// A built script that several shims use.
#[derive(Debug)]
pub struct SharedShimScript {
    /// Its name among the scripts of a page.
    pub name: &'static str,
    /// The built text, which is served as it is.
    pub script: &'static str,
}

/// The script that replays the calls in the stub that a vendor's snippet leaves in the page.
pub static STUB: SharedShimScript = SharedShimScript {
    name: "stub",
    script: include_str!("../../../static/sdk/dist/shared/stub.js"),
};

/// The script that keeps a vendor library's state from page to page, where the visitor's choice allows it.
pub static STATE: SharedShimScript = SharedShimScript {
    name: "state",
    script: include_str!("../../../static/sdk/dist/shared/state.js"),
};

/// The button in place of a messenger.
pub static CHAT: SharedShimScript = SharedShimScript {
    name: "chat",
    script: include_str!("../../../static/sdk/dist/shared/chat.js"),
};

impl VendorShim {
    /// The defaults of most shims.
    pub const PLAIN: Self = Self { script: "", needs: &[], ids: &[], to_canonical: None };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use crate::{VENDORS, test_support};

    const KEYS: &str = "type event name properties traits context source operations $setOnce $set_once \
        $set $groups items contents content_ids user_data user_properties value clientIds meta consent \
        dataProcessingOptions em ph item_id id price $price messageId";

    proptest! {
        #[test]
        fn to_canonical_never_panics_on_any_message(
            arguments in test_support::any_object(KEYS, any::<i64>().prop_map(Value::from)),
            kind in prop::sample::select(vec!["track", "page", "identify", "group", "alias", "x"]),
            event in prop::sample::select(vec!["purchase", "Purchase", "ViewContent", "revenue_amount", "a"]),
        ) {
            for vendor in VENDORS {
                let Some(convert) = vendor.shim.and_then(|shim| shim.to_canonical) else { continue };
                let Value::Object(mut message) = arguments.clone() else { unreachable!() };
                message.insert("type".to_owned(), kind.into());
                message.insert("event".to_owned(), event.into());
                convert(&mut message);
                prop_assert_eq!(message.get("type"), Some(&kind.into()));
            }
        }
    }

    #[test]
    fn names_of_shared_scripts_are_unique_identifiers() {
        let shims = VENDORS.iter().filter_map(|vendor| Some((vendor.name, vendor.shim?)));
        for (vendor, shim) in shims {
            for name in shim.needs.iter().map(|it| it.name).chain([vendor]) {
                assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}");
            }
            assert!(shim.needs.iter().all(|it| VENDORS.iter().all(|other| other.name != it.name)));
        }
    }
}
