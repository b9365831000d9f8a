//! The table of canonical events and Meta's events (`docs/contracts/destinations.md` 2.5).

use crate::naming;

/// The mapping of one event.
#[derive(Clone, Copy, Debug)]
pub(super) struct MetaEventRule {
    /// The track name in capitals, words joined by `_`.
    pub(super) canonical: &'static str,
    /// Meta's name of the event.
    pub(super) name: &'static str,
    /// The fields of its custom data.
    pub(super) shape: MetaEventShape,
    /// The source of its value.
    pub(super) value: MetaValueSource,
}

/// The fields of an event's custom data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetaEventShape {
    /// The search terms and the products found.
    Search,
    /// The products of a list, or the list itself as a group of products.
    List,
    /// The product that the event is about.
    Product,
    /// The products in `products`, and how many of them.
    Cart,
    /// The same fields of an order, with its number.
    Order,
    /// All properties that are not personal; `name` counts as the person's.
    Person,
    /// All properties that are not personal.
    Open,
}

/// The source of an event's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetaValueSource {
    /// The first of these properties that is a number.
    Of(&'static [&'static str]),
    /// The same, else price times quantity.
    OrWorth(&'static [&'static str]),
    /// The order's, as the settings say, else price times quantity. Required.
    Order,
}

const OWN: MetaValueSource = MetaValueSource::Of(&["value", "revenue"]);
const CART: MetaValueSource = MetaValueSource::OrWorth(&["value", "revenue", "total"]);

const fn rule(
    canonical: &'static str,
    name: &'static str,
    shape: MetaEventShape,
    value: MetaValueSource,
) -> MetaEventRule {
    MetaEventRule { canonical, name, shape, value }
}

/// The canonical events, in the order of the contract's table.
static RULES: &[MetaEventRule] = &[
    rule("PRODUCTS_SEARCHED", "Search", MetaEventShape::Search, MetaValueSource::Of(&["value"])),
    rule(
        "PRODUCT_VIEWED",
        "ViewContent",
        MetaEventShape::Product,
        MetaValueSource::Of(&["value", "price"]),
    ),
    rule(
        "PRODUCT_LIST_VIEWED",
        "ViewContent",
        MetaEventShape::List,
        MetaValueSource::Of(&["value"]),
    ),
    rule(
        "PRODUCT_ADDED",
        "AddToCart",
        MetaEventShape::Product,
        MetaValueSource::OrWorth(&["value"]),
    ),
    rule(
        "PRODUCT_ADDED_TO_WISHLIST",
        "AddToWishlist",
        MetaEventShape::Product,
        MetaValueSource::OrWorth(&["value"]),
    ),
    rule("CHECKOUT_STARTED", "InitiateCheckout", MetaEventShape::Cart, CART),
    rule("PAYMENT_INFO_ENTERED", "AddPaymentInfo", MetaEventShape::Cart, CART),
    rule("ORDER_COMPLETED", "Purchase", MetaEventShape::Order, MetaValueSource::Order),
    rule("SIGNED_UP", "CompleteRegistration", MetaEventShape::Person, OWN),
    rule("SIGN_UP", "CompleteRegistration", MetaEventShape::Person, OWN),
    rule("LEAD", "Lead", MetaEventShape::Person, OWN),
    rule("LEAD_CAPTURED", "Lead", MetaEventShape::Person, OWN),
    rule("LEAD_GENERATED", "Lead", MetaEventShape::Person, OWN),
    rule("GENERATE_LEAD", "Lead", MetaEventShape::Person, OWN),
    rule("SUBSCRIPTION_STARTED", "Subscribe", MetaEventShape::Person, OWN),
    rule("TRIAL_STARTED", "StartTrial", MetaEventShape::Person, OWN),
    rule("APPLICATION_SUBMITTED", "SubmitApplication", MetaEventShape::Person, OWN),
    rule("CONTACTED", "Contact", MetaEventShape::Person, OWN),
    rule("APPOINTMENT_SCHEDULED", "Schedule", MetaEventShape::Person, OWN),
];

/// Meta's other standard events: a track event of exactly this name is one.
static STANDARD: &[MetaEventRule] = &[
    rule("", "Contact", MetaEventShape::Person, OWN),
    rule("", "CustomizeProduct", MetaEventShape::Open, OWN),
    rule("", "Donate", MetaEventShape::Person, OWN),
    rule("", "FindLocation", MetaEventShape::Person, OWN),
    rule("", "PageView", MetaEventShape::Open, OWN),
    rule("", "Schedule", MetaEventShape::Person, OWN),
];

/// The rule for an event that Meta has no name for.
const CUSTOM: MetaEventRule = rule("", "", MetaEventShape::Open, OWN);

/// Returns the rule for a track name, compared without regard to case and kind of space; Meta's own
/// names must be written as Meta writes them.
pub(super) fn find(event: &str) -> MetaEventRule {
    let is_standard = |rule: &&MetaEventRule| rule.name == event;
    let canonical = || RULES.iter().find(|rule| naming::is_like(rule.canonical, event));
    let standard = || RULES.iter().chain(STANDARD).find(is_standard);
    canonical().or_else(standard).copied().unwrap_or(CUSTOM)
}

/// Returns the rule for a name from Meta's own library. It matches Meta's names only: a custom event may
/// have the name of a canonical one.
pub(super) fn find_own(name: &str) -> MetaEventRule {
    let rule = RULES.iter().chain(STANDARD).find(|rule| rule.name == name);
    rule.copied().unwrap_or(CUSTOM)
}

/// Returns the rule of the canonical event for one of Meta's names, if there is one. Of several rules the
/// first in the table counts; a view of several products is that of a list.
pub(super) fn canonical(name: &str, of_several: bool) -> Option<&'static MetaEventRule> {
    let mut rules = RULES.iter().filter(|rule| rule.name == name);
    let first = rules.next()?;
    let of_list = rules.find(|rule| rule.shape == MetaEventShape::List && of_several);
    Some(of_list.unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_client_names_events_like_the_server() {
        let script = include_str!("client.ts");
        let names = RULES.iter().map(|rule| (rule.canonical, rule.name));
        crate::test_support::assert_client_names(script, names);
        for rule in STANDARD {
            assert!(script.contains(&format!("\"{}\"", rule.name)), "{}", rule.name);
        }
    }

    #[test]
    fn every_standard_event_of_the_contract_is_known() {
        for name in [
            "AddPaymentInfo",
            "AddToCart",
            "AddToWishlist",
            "CompleteRegistration",
            "Contact",
            "CustomizeProduct",
            "Donate",
            "FindLocation",
            "InitiateCheckout",
            "Lead",
            "PageView",
            "Purchase",
            "Schedule",
            "Search",
            "StartTrial",
            "SubmitApplication",
            "Subscribe",
            "ViewContent",
        ] {
            assert_eq!(find(name).name, name);
        }
        assert_eq!(find("ViewContent").shape, MetaEventShape::Product, "not that of a list");
        assert_eq!(find("purchase").name, "", "as Meta writes it");
        assert_eq!(find("order  completed").name, "Purchase");
    }
}
