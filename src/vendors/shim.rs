//! The Shim face: what stands in for a vendor's browser API in the page and makes events of its calls.
//!
//! A shim is a built script. What it tells is in the vendor's own words where those differ from the
//! spec's: a page should not carry tables that the gateway has for the vendor's beacons in any case.

use crate::event::JsonObject;

/// A vendor's shim.
#[derive(Debug)]
pub struct VendorShim {
    /// The built script.
    pub script: &'static str,
    /// What it shares with other shims: comes once, and before it.
    pub needs: &'static [&'static SharedShimScript],
    /// Its settings, ids that anybody may see: `[sites.vendors.NAME]` gives them to the page.
    pub ids: &'static [&'static str],
    /// Puts a message that it told in the vendor's words into the spec's, if it tells such.
    pub to_canonical: Option<ToCanonical>,
}

/// Changes a message whose member `shim` names the vendor.
pub type ToCanonical = fn(&mut JsonObject);

/// A built script that several shims use.
#[derive(Debug)]
pub struct SharedShimScript {
    /// Its name among the scripts of a page.
    pub name: &'static str,
    /// The script.
    pub script: &'static str,
}

/// How the stub that a vendor's snippet leaves in the page is worked off.
pub static STUB: SharedShimScript =
    SharedShimScript { name: "stub", script: include_str!("../../static/sdk/dist/shared/stub.js") };

/// What of a vendor's library holds from page to page, where the visitor's choice allows it.
pub static STATE: SharedShimScript = SharedShimScript {
    name: "state",
    script: include_str!("../../static/sdk/dist/shared/state.js"),
};

/// The button in place of a messenger.
pub static CHAT: SharedShimScript =
    SharedShimScript { name: "chat", script: include_str!("../../static/sdk/dist/shared/chat.js") };

impl VendorShim {
    /// What most have.
    pub const PLAIN: Self = Self { script: "", needs: &[], ids: &[], to_canonical: None };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use crate::vendors::{VENDORS, test_support};

    const KEYS: &str = "type event name properties traits context source operations $setOnce $set_once \
        $set $groups items contents content_ids user_data user_properties value clientIds meta consent \
        dataProcessingOptions em ph item_id id price $price messageId";

    proptest! {
        #[test]
        fn whatever_a_page_says_is_retold_without_harm(
            said in test_support::any_object(KEYS, any::<i64>().prop_map(Value::from)),
            kind in prop::sample::select(vec!["track", "page", "identify", "group", "alias", "x"]),
            event in prop::sample::select(vec!["purchase", "Purchase", "ViewContent", "revenue_amount", "a"]),
        ) {
            for vendor in VENDORS {
                let Some(retell) = vendor.shim.and_then(|shim| shim.to_canonical) else { continue };
                let Value::Object(mut message) = said.clone() else { unreachable!() };
                message.insert("type".to_owned(), kind.into());
                message.insert("event".to_owned(), event.into());
                retell(&mut message);
                prop_assert_eq!(message.get("type"), Some(&kind.into()));
            }
        }
    }

    #[test]
    fn names_of_pieces_are_identifiers_and_no_two_are_alike() {
        let shims = VENDORS.iter().filter_map(|vendor| Some((vendor.name, vendor.shim?)));
        for (vendor, shim) in shims {
            for name in shim.needs.iter().map(|it| it.name).chain([vendor]) {
                assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}");
            }
            assert!(shim.needs.iter().all(|it| VENDORS.iter().all(|other| other.name != it.name)));
        }
    }
}
