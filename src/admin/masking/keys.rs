//! The kinds of personal data, by the names of members, parameters and fields.

/// The treatment of the value of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// A name, an address, a contact: nothing of it is shown.
    Personal,
    /// An id of a person or a device: its beginning is shown.
    Id,
    /// A time: its digits are no telephone number.
    Time,
    /// Only recognised patterns in it are masked.
    Other,
}

/// Names that end with one of these are personal, in lower case without separators.
const PERSONAL_ENDINGS: &[&str] = &[
    "email",
    "emailaddress",
    "firstname",
    "lastname",
    "fullname",
    "givenname",
    "familyname",
    "middlename",
    "surname",
    "nickname",
    "username",
    "displayname",
    "phone",
    "phonenumber",
    "mobile",
    "telephone",
    "street",
    "street1",
    "street2",
    "address",
    "address1",
    "address2",
    "addressline1",
    "addressline2",
    "billingcity",
    "shippingcity",
    "zipcode",
    "postalcode",
    "postcode",
    "birthday",
    "birthdate",
    "dateofbirth",
    "gender",
    "password",
    "avatar",
    "cardnumber",
    "iban",
];

/// Whole names that are personal: vendors' short ones, which end other words.
const PERSONAL_NAMES: &[&str] = &[
    "city", "em", "ph", "fn", "ln", "ct", "st", "zp", "db", "ge", "dob", "tel", "zip", "login",
    "mail", "region",
];

/// Names that end with one of these are ids.
const ID_ENDINGS: &[&str] = &[
    "userid",
    "anonymousid",
    "clientid",
    "visitorid",
    "deviceid",
    "distinctid",
    "externalid",
    "customerid",
    "contactid",
    "subscriberid",
    "profileid",
    "leadid",
    "memberid",
    "personid",
    "previousid",
    "groupid",
    "sessionid",
    "advertisingid",
    "registrationid",
    "alias",
];

/// Whole names that are ids.
const ID_NAMES: &[&str] = &[
    "uid", "cid", "sid", "ga", "fbp", "fbc", "gclid", "fbclid", "wbraid", "gbraid", "dclid",
    "ttclid", "ttp", "msclkid", "idfa", "idfv", "gaid", "twclid", "scid", "sccid", "epik", "tw",
];

/// Members by which an object is a product or an event, whose `name` is no person's.
const THING_MEMBERS: &[&str] = &[
    "params",
    "price",
    "quantity",
    "sku",
    "product_id",
    "item_id",
    "productId",
    "itemId",
    "event",
];

impl KeyKind {
    /// Returns the kind of a member. Of a path, such as `user_data[em]` or `traits.email`, the last part counts.
    pub(super) fn of(key: &str) -> Self {
        let mut parts = key.split(['.', '[', ']', ' ', ':', '/']).filter(|part| !part.is_empty());
        let last = parts.next_back().unwrap_or_default();
        let name: String =
            last.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        let is = |names: &[&str]| names.contains(&name.as_str());
        if name.ends_with("ipaddress") {
            // Its network is shown, by its pattern.
            Self::Other
        } else if ends(PERSONAL_ENDINGS) || is(PERSONAL_NAMES) {
            Self::Personal
        } else if ends(ID_ENDINGS) || is(ID_NAMES) {
            Self::Id
        } else if ["time", "timestamp", "micros", "date", "tst"].iter().any(|it| name.contains(it))
            || last.ends_with("_at")
            || last.ends_with("At")
        {
            Self::Time
        } else {
            Self::Other
        }
    }
}

/// Returns true if an object with these members is a product, an event or the like.
pub(super) fn is_thing<'k>(mut keys: impl Iterator<Item = &'k String>) -> bool {
    keys.any(|key| THING_MEMBERS.contains(&key.as_str()))
}
