//! The mapping of canonical events to GA4 events, as data (`docs/contracts/destinations.md` 1.3).

use crate::naming;

/// The mapping of one standard event.
#[derive(Clone, Debug)]
pub(super) struct Ga4EventRule {
    /// The track name in capitals, words joined by `_`.
    pub(super) canonical: &'static str,
    /// The event's name in GA4.
    pub(super) name: &'static str,
    /// Parameters, each from the first of these properties.
    pub(super) params: Ga4ParamKeys,
    /// Parameters that Google requires: without them the event is dead, with this code.
    pub(super) required: Option<(&'static str, &'static str)>,
    /// The source of its value.
    pub(super) value: Ga4ValueSource,
    /// The source of its items.
    pub(super) items: Ga4ItemPolicy,
}

/// The source of an event's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ga4ValueSource {
    /// The rule names no source: `value` is sent as for an event without a rule.
    None,
    /// The first of these properties that is a number, else price times quantity.
    Of(&'static [&'static str]),
    /// The order's value, by the settings.
    Order,
    /// `value` as it is: an amount of no currency.
    Virtual,
}

impl Ga4ValueSource {
    /// Returns the properties with the value: none of them is another parameter as well.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Of(keys) => keys,
            Self::Order => &["value", "total", "revenue"],
            Self::Virtual => &["value"],
        }
    }
}

/// The source of an event's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ga4ItemPolicy {
    /// The event has no items.
    None,
    /// `products`, else the properties themselves if they are a product.
    Optional,
    /// As `Optional`; without any item the event is dead.
    Required,
    /// `products` alone: the properties describe another thing, which has a name as well.
    Listed,
}

const CART: Ga4ValueSource = Ga4ValueSource::Of(&["value", "total", "revenue"]);

/// Parameters, each from the first of these properties. The spec's names come first, because the beacons'
/// readers translate Google's to the first; Google's own are read after them.
type Ga4ParamKeys = &'static [(&'static str, &'static [&'static str])];

const LIST: Ga4ParamKeys = &[
    ("item_list_id", &["list_id", "item_list_id"]),
    ("item_list_name", &["category", "item_list_name"]),
];

const PROMOTION: Ga4ParamKeys = &[
    ("promotion_id", &["promotion_id"]),
    ("promotion_name", &["name", "promotion_name"]),
    ("creative_name", &["creative_name", "creative"]),
    ("creative_slot", &["creative_slot", "position"]),
];

const ORDER: Ga4ParamKeys = &[
    ("transaction_id", &["order_id", "transaction_id"]),
    ("affiliation", &["affiliation"]),
    ("coupon", &["coupon"]),
    ("shipping", &["shipping"]),
    ("tax", &["tax"]),
];

const METHOD: Ga4ParamKeys = &[("method", &["method", "type"])];

const TRANSACTION: Option<(&str, &str)> = Some(("transaction_id", "missing_transaction_id"));

const fn rule(canonical: &'static str, name: &'static str) -> Ga4EventRule {
    Ga4EventRule {
        canonical,
        name,
        params: &[],
        required: None,
        value: Ga4ValueSource::None,
        items: Ga4ItemPolicy::None,
    }
}

/// The properties with the shipping method of a checkout.
pub(super) const SHIPPING_TIER: &[&str] = &["shipping_method", "shipping_tier"];

/// The standard events, in the order of the Segment spec; those that Google recommends to games are last.
pub(super) static RULES: &[Ga4EventRule] = &[
    Ga4EventRule {
        params: &[("search_term", &["query", "search_term"])],
        required: Some(("search_term", "missing_search_term")),
        ..rule("PRODUCTS_SEARCHED", "search")
    },
    Ga4EventRule {
        params: LIST,
        items: Ga4ItemPolicy::Required,
        ..rule("PRODUCT_LIST_VIEWED", "view_item_list")
    },
    Ga4EventRule {
        params: LIST,
        items: Ga4ItemPolicy::Required,
        ..rule("PRODUCT_CLICKED", "select_item")
    },
    Ga4EventRule {
        value: Ga4ValueSource::Of(&["value"]),
        items: Ga4ItemPolicy::Optional,
        ..rule("PRODUCT_VIEWED", "view_item")
    },
    Ga4EventRule {
        value: CART,
        items: Ga4ItemPolicy::Optional,
        ..rule("PRODUCT_ADDED", "add_to_cart")
    },
    Ga4EventRule {
        value: CART,
        items: Ga4ItemPolicy::Optional,
        ..rule("PRODUCT_REMOVED", "remove_from_cart")
    },
    Ga4EventRule {
        value: CART,
        items: Ga4ItemPolicy::Optional,
        ..rule("PRODUCT_ADDED_TO_WISHLIST", "add_to_wishlist")
    },
    Ga4EventRule {
        value: CART,
        items: Ga4ItemPolicy::Optional,
        ..rule("CART_VIEWED", "view_cart")
    },
    Ga4EventRule {
        params: &[("coupon", &["coupon"])],
        value: CART,
        items: Ga4ItemPolicy::Optional,
        ..rule("CHECKOUT_STARTED", "begin_checkout")
    },
    Ga4EventRule {
        params: &[("coupon", &["coupon"]), ("shipping_tier", SHIPPING_TIER)],
        value: CART,
        items: Ga4ItemPolicy::Optional,
        ..rule("CHECKOUT_STEP_COMPLETED", "add_shipping_info")
    },
    Ga4EventRule {
        params: &[("coupon", &["coupon"]), ("payment_type", &["payment_method", "payment_type"])],
        value: CART,
        items: Ga4ItemPolicy::Optional,
        ..rule("PAYMENT_INFO_ENTERED", "add_payment_info")
    },
    Ga4EventRule {
        params: ORDER,
        required: TRANSACTION,
        value: Ga4ValueSource::Order,
        items: Ga4ItemPolicy::Required,
        ..rule("ORDER_COMPLETED", "purchase")
    },
    Ga4EventRule {
        params: ORDER,
        required: TRANSACTION,
        value: Ga4ValueSource::Order,
        items: Ga4ItemPolicy::Optional,
        ..rule("ORDER_REFUNDED", "refund")
    },
    Ga4EventRule {
        params: PROMOTION,
        items: Ga4ItemPolicy::Listed,
        ..rule("PROMOTION_VIEWED", "view_promotion")
    },
    Ga4EventRule {
        params: PROMOTION,
        items: Ga4ItemPolicy::Listed,
        ..rule("PROMOTION_CLICKED", "select_promotion")
    },
    Ga4EventRule {
        params: &[
            ("method", &["share_via", "method"]),
            ("content_type", &["content_type"]),
            ("item_id", &["product_id", "item_id"]),
        ],
        ..rule("PRODUCT_SHARED", "share")
    },
    Ga4EventRule {
        params: &[
            ("method", &["share_via", "method"]),
            ("content_type", &["content_type"]),
            ("item_id", &["cart_id", "item_id"]),
        ],
        ..rule("CART_SHARED", "share")
    },
    Ga4EventRule { params: METHOD, ..rule("SIGNED_UP", "sign_up") },
    Ga4EventRule { params: METHOD, ..rule("SIGN_UP", "sign_up") },
    Ga4EventRule { params: METHOD, ..rule("SIGNED_IN", "login") },
    Ga4EventRule { params: METHOD, ..rule("LOGIN", "login") },
    Ga4EventRule { value: Ga4ValueSource::Of(&["value"]), ..rule("LEAD", "generate_lead") },
    Ga4EventRule {
        value: Ga4ValueSource::Of(&["value"]),
        ..rule("LEAD_GENERATED", "generate_lead")
    },
    Ga4EventRule {
        value: Ga4ValueSource::Of(&["value"]),
        ..rule("GENERATE_LEAD", "generate_lead")
    },
    Ga4EventRule {
        params: &[
            ("campaign_id", &["campaign_id"]),
            ("campaign", &["campaign"]),
            ("source", &["source"]),
            ("medium", &["medium"]),
            ("term", &["term"]),
            ("content", &["content"]),
        ],
        ..rule("CAMPAIGN_DETAILS", "campaign_details")
    },
    Ga4EventRule {
        value: Ga4ValueSource::Virtual,
        ..rule("EARN_VIRTUAL_CURRENCY", "earn_virtual_currency")
    },
    Ga4EventRule {
        value: Ga4ValueSource::Virtual,
        ..rule("SPEND_VIRTUAL_CURRENCY", "spend_virtual_currency")
    },
    rule("LEVEL_START", "level_start"),
    rule("LEVEL_END", "level_end"),
    rule("LEVEL_UP", "level_up"),
    rule("POST_SCORE", "post_score"),
    rule("SELECT_CONTENT", "select_content"),
    rule("TUTORIAL_BEGIN", "tutorial_begin"),
    rule("TUTORIAL_COMPLETE", "tutorial_complete"),
    rule("UNLOCK_ACHIEVEMENT", "unlock_achievement"),
];

/// The parameters that Google takes only as numbers.
pub(super) const NUMBERS: [&str; 2] = ["tax", "shipping"];

/// Returns the rule for a track name, compared without regard to case and kind of space.
pub(super) fn find(event: &str) -> Option<&'static Ga4EventRule> {
    RULES.iter().find(|rule| naming::is_like(rule.canonical, event))
}

/// Returns the rule for a name of Google's. If several canonical events map to it, the first is meant; `None`
/// if no canonical name is more precise.
pub(super) fn of_vendors(name: &str) -> Option<&'static Ga4EventRule> {
    let name = if name == "view_search_results" { "search" } else { name };
    let rule = RULES.iter().find(|rule| rule.name == name)?;
    let is_as_plain = matches!(name, "generate_lead" | "share");
    // For campaigns and games the spec has the same names as Google.
    let is_same = rule.canonical.eq_ignore_ascii_case(name);
    (!is_as_plain && !is_same).then_some(rule)
}

/// The event names that are Google's own: an event of such a name is dropped. The last three are for app
/// streams only.
pub(super) const RESERVED_EVENTS: &[&str] = &[
    "ad_activeview",
    "ad_click",
    "ad_exposure",
    "ad_query",
    "ad_reward",
    "adunit_exposure",
    "app_clear_data",
    "app_exception",
    "app_install",
    "app_remove",
    "app_store_refund",
    "app_update",
    "app_upgrade",
    "dynamic_link_app_open",
    "dynamic_link_app_update",
    "dynamic_link_first_open",
    "error",
    "firebase_campaign",
    "firebase_in_app_message_action",
    "firebase_in_app_message_dismiss",
    "firebase_in_app_message_impression",
    "first_open",
    "first_visit",
    "notification_dismiss",
    "notification_foreground",
    "notification_open",
    "notification_receive",
    "notification_send",
    "os_update",
    "session_start",
    "user_engagement",
    "ad_impression",
    "in_app_purchase",
    "screen_view",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::assert_client_names;

    #[test]
    fn browser_client_names_events_like_the_server() {
        let names = RULES.iter().map(|rule| (rule.canonical, rule.name));
        assert_client_names(include_str!("client.ts"), names);
    }
}
