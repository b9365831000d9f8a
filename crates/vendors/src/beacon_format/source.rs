//! The origin of a beacon's message (`docs/contracts/beacons.md` 2): an event that returns to the vendor whose
//! library sent it gets its original form back.

use super::{put, take};
use tagway_core::event::{EnrichedEvent, JsonObject};

/// Makes `context.source`: the client, the path it sent to, and its own name for the event.
pub fn source(
    client: &str,
    version: Option<&str>,
    endpoint: &str,
    event: Option<&str>,
) -> JsonObject {
    let mut source = JsonObject::new();
    put(&mut source, "client", Some(client));
    put(&mut source, "version", version);
    put(&mut source, "endpoint", Some(endpoint));
    put(&mut source, "event", event);
    source
}

/// Records in a context that this client's shim sent the event, and under which name.
pub fn note_source(context: &mut JsonObject, client: &str, event: Option<&str>) {
    let mut source = take(context, "source");
    put(&mut source, "client", Some(client));
    put(&mut source, "event", event);
    put(context, "source", Some(source));
}

/// Returns this client's name of the event, if it sent it.
pub fn own_name<'e>(event: &'e EnrichedEvent, client: &str) -> Option<&'e str> {
    is_from(event, client).then(|| event.context_text(&["source", "event"])).flatten()
}

/// Returns this client's operations on a person or a group beyond setting traits, if it sent the event.
pub fn own_operations<'e>(event: &'e EnrichedEvent, client: &str) -> Option<&'e JsonObject> {
    let operations = || event.context(&["source", "operations"])?.as_object();
    is_from(event, client).then(operations).flatten()
}

/// Returns true if this client sent the event.
pub fn is_from(event: &EnrichedEvent, client: &str) -> bool {
    event.context_text(&["source", "client"]) == Some(client)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support;

    #[test]
    fn own_names_are_returned_to_their_client_only() {
        let mut stated = source("mixpanel", Some("2.83.0"), "/track", Some("$mp_web_page_view"));
        stated.insert("operations".to_owned(), json!({ "$add": { "logins": 1 } }));
        let event = test_support::event(json!({ "type": "page", "context": { "source": stated } }));
        assert_eq!(own_name(&event, "mixpanel"), Some("$mp_web_page_view"));
        assert!(own_operations(&event, "mixpanel").is_some_and(|all| all.contains_key("$add")));
        assert_eq!(
            (own_name(&event, "amplitude"), own_operations(&event, "amplitude")),
            (None, None)
        );
    }
}
