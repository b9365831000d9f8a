//! The names that the Segment spec and the gateway give to the members of an event and a profile, and
//! warnings about names that are near one of these and are probably typos.
//!
//! A site may send any name: a name that is in none of these lists is no error, and a name that the
//! configuration has at several places is the site's own.

use std::collections::{BTreeMap, BTreeSet};

use super::names::LookupPath;

/// The known names of the members of one object.
struct SpecMembers {
    names: &'static [&'static str],
    /// True if there can be no others.
    is_closed: bool,
}

const PROPERTIES: &[&str] = &[
    "affiliation",
    "brand",
    "build",
    "cart_id",
    "category",
    "checkout_id",
    "coupon",
    "coupon_id",
    "coupon_name",
    "creative",
    "currency",
    "discount",
    "email",
    "filters",
    "image_url",
    "index",
    "keywords",
    "list_id",
    "name",
    "order_id",
    "path",
    "payment_method",
    "position",
    "price",
    "product_id",
    "products",
    "promotion_id",
    "quantity",
    "query",
    "rating",
    "reason",
    "referrer",
    "revenue",
    "review_body",
    "review_id",
    "search",
    "share_message",
    "share_via",
    "shipping",
    "shipping_method",
    "sku",
    "sorts",
    "step",
    "subtotal",
    "tax",
    "title",
    "total",
    "url",
    "value",
    "variant",
    "version",
    "wishlist_id",
    "wishlist_name",
];
const PRODUCT: &[&str] = &[
    "brand",
    "category",
    "coupon",
    "currency",
    "discount",
    "id",
    "image_url",
    "name",
    "position",
    "price",
    "product_id",
    "quantity",
    "sku",
    "url",
    "variant",
];
const TRAITS: &[&str] = &[
    "address",
    "age",
    "avatar",
    "birthday",
    "city",
    "company",
    "country",
    "createdAt",
    "created_at",
    "description",
    "email",
    "employees",
    "firstName",
    "first_name",
    "gender",
    "id",
    "industry",
    "lastName",
    "last_name",
    "name",
    "phone",
    "plan",
    "state",
    "title",
    "username",
    "website",
    "zip",
];
const ADDRESS: &[&str] =
    &["city", "country", "postalCode", "postal_code", "region", "state", "street", "zip"];
const COMPANY: &[&str] = &["employee_count", "id", "industry", "name", "plan"];
const CONTEXT: &[&str] = &[
    "active",
    "app",
    "campaign",
    "channel",
    "consent",
    "device",
    "groupId",
    "ip",
    "library",
    "locale",
    "location",
    "network",
    "os",
    "page",
    "referrer",
    "screen",
    "timezone",
    "traits",
    "userAgent",
    "userAgentData",
];
const FACTS: &[&str] = &[
    "beacon",
    "campaign",
    "clickIds",
    "cookies",
    "dnt",
    "format",
    "fromServer",
    "gpc",
    "hints",
    "ip",
    "language",
    "passing",
    "place",
    "proven",
    "session",
    "suspicion",
    "tag",
    "told",
    "userAgent",
    "visitor",
];
const PROFILE: &[&str] = &[
    "activity",
    "consent",
    "device",
    "first_seen",
    "group_id",
    "last_seen",
    "place",
    "touches",
    "traits",
    "user_id",
];
const CAMPAIGN: &[&str] = &["content", "id", "medium", "name", "source", "term"];

/// Returns the known names of the object at a lookup; `None` if the names are the site's own.
fn members(at: &[&str]) -> Option<SpecMembers> {
    let open = |names| Some(SpecMembers { names, is_closed: false });
    let closed = |names| Some(SpecMembers { names, is_closed: true });
    match at {
        ["properties"] => open(PROPERTIES),
        ["properties", "products"] => open(PRODUCT),
        ["traits"] | ["profile" | "context", "traits"] => open(TRAITS),
        ["traits", "address"] | ["profile" | "context", "traits", "address"] => open(ADDRESS),
        ["traits", "company"] | ["profile" | "context", "traits", "company"] => open(COMPANY),
        ["context"] => open(CONTEXT),
        ["context", "page"] => open(&["path", "referrer", "search", "title", "url"]),
        ["context", "campaign"] => open(CAMPAIGN),
        ["context", "app"] => open(&["build", "name", "namespace", "version"]),
        ["context", "device"] => open(&[
            "adTrackingEnabled",
            "advertisingId",
            "id",
            "manufacturer",
            "model",
            "name",
            "type",
            "version",
        ]),
        ["context", "library" | "os"] => open(&["name", "version"]),
        ["context", "screen"] => open(&["density", "height", "innerHeight", "innerWidth", "width"]),
        ["context", "network"] => open(&["bluetooth", "carrier", "cellular", "wifi"]),
        ["context", "location"] => {
            open(&["city", "country", "latitude", "longitude", "region", "speed"])
        }
        ["facts"] => closed(FACTS),
        ["facts", "place"] => closed(&["city", "country", "postalCode", "region", "timeZone"]),
        ["facts", "session"] => closed(&["id", "number"]),
        ["facts", "campaign"] => closed(CAMPAIGN),
        ["facts", "hints"] => closed(&["brands", "mobile", "platform"]),
        ["facts", "suspicion"] => closed(&["reasons", "score"]),
        ["facts", "visitor"] => closed(&["id", "since"]),
        ["facts", "clickIds", _] => closed(&["at", "value"]),
        ["profile"] => closed(PROFILE),
        ["profile", "device"] => {
            closed(&["browser", "browser_version", "os", "os_version", "type"])
        }
        ["profile", "place"] => closed(&["city", "country", "region"]),
        ["profile", "touches"] => closed(&["first", "last"]),
        ["profile", "touches", _] => closed(&["at", "campaign", "click_ids", "referrer"]),
        ["profile", "touches", _, "campaign"] => open(CAMPAIGN),
        ["profile", "activity", _] => closed(&["count", "first", "last", "sum"]),
        _ => None,
    }
}

/// A lookup at one place of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameMention {
    /// The place as a message shows it.
    pub place: String,
    /// The names of the lookup, from the outermost.
    pub lookup: LookupPath,
}

/// Returns warnings about lookups that are probably typos. `made` are lookups that the configuration
/// itself fills.
pub fn probable_typos(
    mentions: &BTreeSet<NameMention>,
    made: &BTreeSet<LookupPath>,
) -> Vec<String> {
    // The number of places that name each object or value.
    let mut places = BTreeMap::<&[String], BTreeSet<&str>>::new();
    for NameMention { place, lookup } in mentions {
        for end in 1..=lookup.len() {
            places.entry(lookup.get(..end).unwrap_or_default()).or_default().insert(place);
        }
    }
    let is_own = |lookup: &[String]| {
        let is_made = made.iter().any(|it| it.starts_with(lookup));
        is_made || places.get(lookup).is_some_and(|places| places.len() > 1)
    };
    let slip = |mention: &NameMention| {
        let lookup = mention.lookup.as_slice();
        (1..lookup.len()).find_map(|end| {
            let (at, name) = (lookup.get(..end)?, lookup.get(end)?);
            let names: Vec<&str> = at.iter().map(String::as_str).collect();
            let SpecMembers { names, is_closed } = members(&names)?;
            if names.contains(&name.as_str()) || (!is_closed && is_own(lookup.get(..=end)?)) {
                return None;
            }
            let own = places.keys().copied().chain(made.iter().map(Vec::as_slice));
            let own = own.filter(|it| it.len() == end + 1 && it.starts_with(at) && is_own(it));
            let own = own.filter_map(|it| it.last()).map(String::as_str);
            let near = near(name, names.iter().copied().chain(own.filter(|own| own != name)));
            let path = lookup.get(..=end)?.join(".");
            match (near, is_closed) {
                (Some(near), _) => Some(format!("{path}; did you mean \"{near}\"?")),
                (None, true) => Some(format!("{path}; valid names: {}", names.join(", "))),
                (None, false) => None,
            }
        })
    };
    let warnings = mentions
        .iter()
        .filter_map(|mention| Some(format!("{}: unknown name {}", mention.place, slip(mention)?)));
    warnings.collect()
}

/// Returns the name that another is a typo of: one letter off, two in a long one, or written in another form.
fn near<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    const LONG: usize = 8;
    // In short names one letter makes a different word.
    const SHORT: usize = 4;
    let plain = |name: &str| name.replace(['_', '-', ' '], "").to_lowercase();
    let wanted = plain(name);
    let distance = |other: &str| match plain(other) {
        other if other == wanted => 0,
        other => strsim::damerau_levenshtein(&wanted, &other),
    };
    let near = names.into_iter().map(|other| (distance(other), other));
    let near = near.filter(|(distance, other)| {
        let length = other.chars().count();
        let is_short = length.min(wanted.chars().count()) < SHORT;
        *distance <= usize::from(!is_short) + usize::from(length >= LONG)
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slips(mentions: &[(&str, &str)], made: &[&str]) -> Vec<String> {
        let lookup = |text: &str| text.split('.').map(str::to_owned).collect::<LookupPath>();
        let mentions = mentions
            .iter()
            .map(|(place, text)| NameMention { place: (*place).to_owned(), lookup: lookup(text) });
        probable_typos(&mentions.collect(), &made.iter().map(|text| lookup(text)).collect())
    }

    #[test]
    fn probable_slips_warns_of_typos_but_not_of_the_sites_own_names() {
        for (text, better) in [
            ("properties.pricee", "price"),
            ("properties.orderId", "order_id"),
            ("properties.reveneu", "revenue"),
            ("properties.products.qunatity", "quantity"),
            ("traits.emial", "email"),
            ("profile.traits.address.citty", "city"),
            ("context.page.tilte", "title"),
            ("facts.place.contry", "country"),
            ("profile.activty", "activity"),
            ("profile.activity.Order Completed.cuont", "count"),
        ] {
            let slips = slips(&[("here", text)], &[]);
            let [slip] = slips.as_slice() else { panic!("{text}: {slips:?}") };
            assert!(slip.ends_with(&format!("did you mean \"{better}\"?")), "{slip}");
        }
        for text in
            ["properties.loyalty_tier", "properties.colour", "traits.vip", "facts.place.country"]
        {
            assert_eq!(slips(&[("here", text)], &[]), [""; 0], "{text}");
        }
        let closed = slips(&[("here", "facts.colour")], &[]);
        assert!(closed.iter().any(|it| it.contains("valid names: beacon")), "{closed:?}");
    }

    #[test]
    fn probable_slips_accepts_names_used_elsewhere_in_the_configuration() {
        let twice = [("one", "properties.prices"), ("two", "properties.prices")];
        assert_eq!(slips(&twice, &[]), [""; 0], "the site's own name");
        assert_eq!(slips(&[("one", "properties.prices")], &["properties.prices"]), [""; 0]);
        let own = slips(&[("here", "properties.loyalty_teir")], &["properties.loyalty_tier"]);
        assert!(own.iter().any(|it| it.contains("\"loyalty_tier\"")), "{own:?}");
    }
}
