//! The members of a context that the gateway itself needs. Members of another type are passed on unread.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use tagway_core::event::{JsonObject, RawJsonObject, RawMembers};
use tagway_core::privacy::ConsentRecord;
use tagway_core::values::address::read_visitor_address;
use tagway_vendors::beacon_format::scalar_text;
use tagway_vendors::beacon_format::spec::LooseText;

/// The members of a context that the gateway needs.
#[derive(Debug, Default)]
pub struct ContextExcerpt {
    /// The page's URL.
    pub page_url: Option<String>,
    /// The visitor's address.
    pub ip: Option<IpAddr>,
    /// The visitor's user agent.
    pub user_agent: Option<String>,
    /// True if there are traits of the person.
    pub has_traits: bool,
    /// The visitor's consent.
    pub consent: Option<ConsentRecord>,
}

/// The keys of a context that the gateway reads.
const CONTEXT: &[&str] = &["page", "traits", "consent", "ip", "userAgent"];

impl ContextExcerpt {
    /// Reads a context that is a tree.
    pub(super) fn of_tree(context: &JsonObject) -> Self {
        let text = |value: Option<&Value>| value.and_then(scalar_text).map(Cow::into_owned);
        let page_url = context.get("page").and_then(|page| page.get("url"));
        let ip = context.get("ip").and_then(scalar_text);
        Self {
            page_url: text(page_url),
            ip: ip.and_then(|ip| read_visitor_address(&ip)),
            user_agent: text(context.get("userAgent")),
            has_traits: context.get("traits").is_some_and(|traits| !traits.is_null()),
            consent: ConsentRecord::read(context),
        }
    }

    /// Reads a context as its client wrote it.
    pub(super) fn of_text(context: &RawJsonObject) -> Self {
        read_once(context.text(), CONTEXT, Self::of_members).unwrap_or_default()
    }

    /// Reads a context that has each key once.
    fn of_members(context: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ContextMembers<'a> {
            #[serde(borrow, default)]
            page: Option<&'a RawValue>,
            #[serde(borrow, default)]
            traits: Option<&'a RawValue>,
            #[serde(borrow, default)]
            consent: Option<&'a RawValue>,
            #[serde(borrow, default)]
            ip: LooseText<'a>,
            #[serde(borrow, default)]
            user_agent: LooseText<'a>,
        }
        #[derive(Deserialize)]
        struct ContextPage<'a> {
            #[serde(borrow, default)]
            url: LooseText<'a>,
        }
        let members: ContextMembers<'_> = serde_json::from_str(context).ok()?;
        let page_url = |page: &str| {
            let page: ContextPage<'_> = serde_json::from_str(page).ok()?;
            Some(page.url.text().map(str::to_owned))
        };
        let page_url =
            members.page.and_then(|page| read_once(page.get(), &["url"], page_url)).flatten();
        Some(Self {
            page_url,
            ip: members.ip.text().and_then(read_visitor_address),
            user_agent: members.user_agent.text().map(str::to_owned),
            has_traits: members.traits.is_some(),
            consent: members.consent.and_then(|record| ConsentRecord::parse(record.get())),
        })
    }
}

/// Reads the text of an object; if that fails, perhaps because of a repeated key, reads the text with each key once
/// and its last value.
fn read_once<T>(text: &str, keys: &[&'static str], read: impl Fn(&str) -> Option<T>) -> Option<T> {
    read(text).or_else(|| read(&RawMembers::read(text, keys)?.to_text()?))
}
