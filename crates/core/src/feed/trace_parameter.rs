//! The parameter of a trace's link, which no vendor receives in the addresses of pages.

use serde_json::Value;

use crate::event::Event;

/// The parameter of a page's URL that puts the browser which opens it under a trace.
pub const TRACE_PARAMETER: &str = "tw_trace";

/// The members of `context.page`, and of the properties of page calls, that repeat the page's query.
const MEMBERS: [&str; 3] = ["url", "search", "referrer"];

/// Removes the parameter from the addresses of pages in an event.
pub fn remove_trace_parameter(event: &mut Event) {
    let page = event.context.as_mut().and_then(|context| context.get_mut("page"));
    let page = page.and_then(Value::as_object_mut);
    for addresses in page.into_iter().chain(event.properties.as_mut()) {
        for member in MEMBERS {
            if let Some(Value::String(address)) = addresses.get_mut(member)
                && address.contains(TRACE_PARAMETER)
            {
                *address = without_parameter(address);
            }
        }
    }
}

/// Returns an address without the parameter; everything else stays as it is written.
fn without_parameter(address: &str) -> String {
    let Some((before, rest)) = address.split_once('?') else { return address.to_owned() };
    let (query, fragment) = match rest.split_once('#') {
        Some((query, fragment)) => (query, Some(fragment)),
        None => (rest, None),
    };
    let is_other = |pair: &&str| pair.split('=').next() != Some(TRACE_PARAMETER);
    let kept: Vec<&str> = query.split('&').filter(is_other).collect();
    let mut text = before.to_owned();
    if !kept.is_empty() {
        text.push('?');
        text.push_str(&kept.join("&"));
    }
    if let Some(fragment) = fragment {
        text.push('#');
        text.push_str(fragment);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameter_leaves_the_addresses_and_nothing_else_changes() {
        let event = json!({
            "type": "page", "messageId": "m", "anonymousId": "a",
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
            "context": {"page": {
                "url": "https://shop.example/a?x=%20&tw_trace=abc.def&y#z", "search": "?tw_trace=abc.def",
                "referrer": "https://other.example/?x_tw_trace=1", "title": "tw_trace",
            }},
        });
        let mut event: Event = serde_json::from_value(event).unwrap();
        remove_trace_parameter(&mut event);
        let page = &event.context.unwrap()["page"];
        assert_eq!(page["url"], "https://shop.example/a?x=%20&y#z");
        assert_eq!(page["search"], "");
        assert_eq!(page["referrer"], "https://other.example/?x_tw_trace=1");
        assert_eq!(page["title"], "tw_trace");
    }
}
