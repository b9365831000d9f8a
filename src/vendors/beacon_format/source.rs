//! What a beacon's message says of its origin (`contracts/beacons.md` 2): so that an event that goes
//! back to the vendor whose library sent it is again what it was.

use super::{put, take};
use crate::event::{EnrichedEvent, JsonObject};

/// `context.source`: the client, the path it sent to, and its own name for the event.
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

/// Writes into a context that this client's stand-in told the event, and by which name.
pub fn note_source(context: &mut JsonObject, client: &str, event: Option<&str>) {
    let mut source = take(context, "source");
    put(&mut source, "client", Some(client));
    put(&mut source, "event", event);
    put(context, "source", Some(source));
}

/// What this client called the event, if it sent it.
pub fn own_name<'e>(event: &'e EnrichedEvent, client: &str) -> Option<&'e str> {
    is_from(event, client).then(|| event.context_text(&["source", "event"])).flatten()
}

/// What this client did to a person or a group beyond setting traits, if it sent the event.
pub fn own_operations<'e>(event: &'e EnrichedEvent, client: &str) -> Option<&'e JsonObject> {
    let operations = || event.context(&["source", "operations"])?.as_object();
    is_from(event, client).then(operations).flatten()
}

/// Whether this client sent the event.
pub fn is_from(event: &EnrichedEvent, client: &str) -> bool {
    event.context_text(&["source", "client"]) == Some(client)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vendors::test_support;

    #[test]
    fn only_the_client_itself_gets_its_own_names_back() {
        let mut said = source("mixpanel", Some("2.83.0"), "/track", Some("$mp_web_page_view"));
        said.insert("operations".to_owned(), json!({ "$add": { "logins": 1 } }));
        let event = test_support::event(json!({ "type": "page", "context": { "source": said } }));
        assert_eq!(own_name(&event, "mixpanel"), Some("$mp_web_page_view"));
        assert!(own_operations(&event, "mixpanel").is_some_and(|all| all.contains_key("$add")));
        assert_eq!(
            (own_name(&event, "amplitude"), own_operations(&event, "amplitude")),
            (None, None)
        );
    }
}
