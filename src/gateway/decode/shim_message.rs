//! Messages of shims, which use their vendor's terms.

use super::message::RejectionCode;
use tagway_core::event::JsonObject;
use tagway_vendors::Vendor;

/// Translates a message from a vendor's terms to the spec's, if it uses them. Its text is within the limits of one
/// event.
pub(super) fn canonical_from_shim(
    shim: Option<&Vendor>,
    text: &str,
) -> Result<Option<String>, RejectionCode> {
    let Some(retell) = shim.and_then(|vendor| vendor.shim?.to_canonical) else { return Ok(None) };
    let mut message: JsonObject = serde_json::from_str(text).map_err(|_invalid| "malformed")?;
    retell(&mut message);
    serde_json::to_string(&message).map(Some).map_err(|_impossible| "malformed")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use crate::gateway::decode::{DecodeContext, read};
    use crate::gateway::tests::limits;

    #[test]
    fn shim_messages_are_translated_to_the_spec() {
        let limits = limits();
        let terms = DecodeContext {
            limits: &limits,
            kind: None,
            placeholder_ids: &[],
            received_at: Timestamp::UNIX_EPOCH,
        };
        let message = |shim: &str| {
            json!({ "type": "track", "event": "purchase", "messageId": shim, "shim": shim,
                    "anonymousId": "a", "properties": { "transaction_id": "T" } })
        };
        let of = |body: Value| {
            let (drafts, rejected) = read(body.to_string().as_bytes(), &terms).unwrap();
            assert_eq!(rejected, []);
            let name = |it: &crate::gateway::decode::MessageDraft| it.event.event.clone().unwrap();
            drafts.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(of(message("ga4")), ["Order Completed"]);
        let batch = json!({ "batch": [message("ga4"), message("segment"), message("nobody")] });
        assert_eq!(of(batch.clone()), ["Order Completed", "purchase", "purchase"]);
        let (drafts, _) = read(batch.to_string().as_bytes(), &terms).unwrap();
        let shims: Vec<_> = drafts.iter().map(|draft| draft.shim).collect();
        assert_eq!(shims, [Some("ga4"), Some("segment"), None]);
    }

    #[test]
    fn translated_messages_keep_the_limits_of_an_event() {
        let limits = limits();
        let terms = DecodeContext {
            limits: &limits,
            kind: None,
            placeholder_ids: &[],
            received_at: Timestamp::UNIX_EPOCH,
        };
        // Its value becomes three.
        let value = "x".repeat(limits.event_bytes / 2);
        let message = json!({ "type": "track", "event": "purchase", "shim": "ga4",
            "anonymousId": "a", "properties": { "value": value } });
        let (drafts, rejected) = read(message.to_string().as_bytes(), &terms).unwrap();
        assert!(drafts.is_empty());
        assert_eq!(rejected[0].reason, "too_large");
    }
}
