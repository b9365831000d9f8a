//! The vendors' list code against the simulators: added people are members, removed ones are not.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{InProcessVendor, MIXPANEL_TOKEN, SimulatorKind};
use tagway_core::event::{EnrichedEvent, ProfileView};
use tagway_vendors::audience::{AudienceChange, AudienceList, AudienceRow};
use tagway_vendors::digest::sha256;
use tagway_vendors::{
    Destination, Outcome, VendorCall, VendorCallError, VendorReply, test_support,
};

const TITLE: &str = "Cart abandoners";

/// A call to a vendor without a socket, which fails on objections.
struct StrictVendorCall(InProcessVendor);

/// A call to a vendor without a socket, which ignores objections.
struct ObjectingVendorCall(InProcessVendor);

#[async_trait]
impl VendorCall for ObjectingVendorCall {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        let (head, body) = self.0.request(&request, self.now()).0.into_parts();
        Ok(VendorReply { status: head.status, headers: head.headers, body })
    }

    fn now(&self) -> Timestamp {
        test_support::now()
    }
}

#[async_trait]
impl VendorCall for StrictVendorCall {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        let (reply, _, objections) = self.0.request(&request, self.now());
        assert!(objections.is_empty(), "{objections:?}");
        let (head, body) = reply.into_parts();
        Ok(VendorReply { status: head.status, headers: head.headers, body })
    }

    fn now(&self) -> Timestamp {
        test_support::now()
    }
}

fn destination(vendor: &str, settings: &str) -> Box<dyn Destination> {
    let build = tagway_vendors::find(vendor).unwrap().destination.unwrap();
    test_support::settings(settings, |section| build(section, None))
}

fn person(user: &str) -> EnrichedEvent {
    let event = json!({ "type": "identify", "messageId": "m", "userId": user,
        "timestamp": test_support::NOW, "receivedAt": test_support::NOW });
    let traits = test_support::object(json!({ "email": format!("{user}@shop.example") }));
    let profile = ProfileView { user_id: Some(user.to_owned()), traits };
    EnrichedEvent::new(0, Arc::new(serde_json::from_value(event).unwrap()), Arc::new(profile))
}

/// Sends these users to the vendor, so that it knows them.
async fn register_users(
    destination: &dyn Destination,
    line: &StrictVendorCall,
    users: &[&str],
    event: Value,
) {
    for user in users {
        let mut answer =
            json!({ "userId": user, "traits": { "email": format!("{user}@shop.example") } });
        answer.as_object_mut().unwrap().extend(test_support::object(event.clone()));
        let ends = destination.deliver(&[test_support::event(answer)], line).await;
        assert_eq!(ends, [Outcome::Delivered], "{user}");
    }
}

#[tokio::test]
async fn added_people_are_members_and_removed_ones_are_not() {
    let identify = json!({ "type": "identify" });
    for (vendor, settings, event) in [
        ("meta", "pixel_id = \"1\"\naccess_token = \"t\"\nad_account_id = \"7\"".to_owned(), None),
        ("mixpanel", format!("project_token = \"{MIXPANEL_TOKEN}\""), None),
        (
            "amplitude",
            format!(
                "api_key = \"{}\"\nsecret_key = \"s\"\napp_id = 1\ncohort_owner = \"o\"",
                "a".repeat(32)
            ),
            Some(json!({ "event": "Clicked" })),
        ),
        ("intercom", "access_token = \"t\"".to_owned(), Some(identify.clone())),
        ("drift", "access_token = \"t\"".to_owned(), Some(identify.clone())),
        (
            "google_ads",
            "client_id = \"c\"\nclient_secret = \"s\"\nrefresh_token = \"r\"\n\
             customer_id = \"123-456-7890\"\nad_user_data = \"granted\""
                .to_owned(),
            None,
        ),
        ("tiktok", "access_token = \"t\"\nadvertiser_id = \"1\"".to_owned(), None),
        ("klaviyo", "api_key = \"pk\"".to_owned(), None),
    ] {
        let destination = destination(vendor, &settings);
        let line = StrictVendorCall(InProcessVendor::of(SimulatorKind::of_vendor(vendor).unwrap()));
        if let Some(event) = event {
            register_users(&*destination, &line, &["u1", "u2", "u3"], event).await;
        }
        let audience = destination.audience().unwrap();
        // Google's lists are made by hand, and their only name is their number.
        let id = (vendor == "google_ads").then_some("4711");
        let listed = AudienceList { title: TITLE, segment: "cart_abandoners", id };
        let list = audience.open_list(&listed, &line).await.unwrap();
        let row = |user: &str| audience.row(&person(user)).unwrap();
        // A row is stored as text between two runs.
        let kept = |user: &str| AudienceRow::from_stored(row(user).text());
        let added = [row("u1"), row("u2"), row("u3"), row("u1")];
        let ends = audience.change_members(&list, AudienceChange::Add, &added, &line).await;
        assert_eq!(ends, vec![Outcome::Delivered; 4], "{vendor}");
        let members = |line: &StrictVendorCall| {
            line.0.lists().remove(id.unwrap_or(TITLE)).unwrap_or_default()
        };
        let member = |user: &&str| match vendor {
            "google_ads" | "tiktok" => sha256(&format!("{user}@shop.example")).unwrap(),
            _ => (*user).to_owned(),
        };
        let of = |users: &[&str]| users.iter().map(member).collect::<BTreeSet<_>>();
        assert_eq!(members(&line), of(&["u1", "u2", "u3"]), "{vendor}");
        let ends = audience
            .change_members(&list, AudienceChange::Remove, &[kept("u2"), kept("u1")], &line)
            .await;
        assert_eq!(ends, vec![Outcome::Delivered; 2], "{vendor}");
        assert_eq!(members(&line), of(&["u3"]), "{vendor}");
        let again =
            audience.change_members(&list, AudienceChange::Remove, &[kept("u2")], &line).await;
        assert_eq!(again, [Outcome::Delivered], "{vendor}: who is not there is removed");
    }
}

#[tokio::test]
async fn person_unknown_to_the_vendor_is_skipped() {
    for (vendor, settings) in
        [("intercom", "access_token = \"t\""), ("drift", "access_token = \"t\"")]
    {
        let destination = destination(vendor, settings);
        let line = StrictVendorCall(InProcessVendor::of(SimulatorKind::of_vendor(vendor).unwrap()));
        let audience = destination.audience().unwrap();
        let listed = AudienceList { title: TITLE, segment: "cart_abandoners", id: None };
        let list = audience.open_list(&listed, &line).await.unwrap();
        let rows = [audience.row(&person("u9")).unwrap()];
        let ends = audience.change_members(&list, AudienceChange::Add, &rows, &line).await;
        assert!(matches!(&ends[..], [Outcome::Skipped(_)]), "{vendor} {ends:?}");
    }
}

#[tokio::test]
async fn invalid_lists_and_rows_are_rejected() {
    let digest = sha256("u1@shop.example").unwrap();
    for (vendor, settings, good, bad) in [
        (
            "google_ads",
            "client_id = \"c\"\nclient_secret = \"s\"\nrefresh_token = \"r\"\ncustomer_id = \"1234567890\"",
            json!([{ "emailAddress": digest }]),
            json!([{ "emailAddress": "u1@shop.example" }]),
        ),
        (
            "tiktok",
            "access_token = \"t\"\nadvertiser_id = \"1\"",
            json!([digest, null]),
            json!(["u1@shop.example", null]),
        ),
        (
            "klaviyo",
            "api_key = \"pk\"",
            json!({ "email": "u1@shop.example" }),
            json!({ "email": "u1" }),
        ),
    ] {
        let destination = destination(vendor, settings);
        let line =
            ObjectingVendorCall(InProcessVendor::of(SimulatorKind::of_vendor(vendor).unwrap()));
        let audience = destination.audience().unwrap();
        let id = (vendor == "google_ads").then_some("4711");
        let listed = AudienceList { title: TITLE, segment: "cart_abandoners", id };
        let list = audience.open_list(&listed, &line).await.unwrap();
        let [good, bad] = [good, bad].map(|row| AudienceRow::from_stored(row.to_string()));
        let add = async |list: &str, row: &AudienceRow| {
            audience
                .change_members(list, AudienceChange::Add, std::slice::from_ref(row), &line)
                .await
                .remove(0)
        };
        assert_eq!(add(&list, &good).await, Outcome::Delivered, "{vendor}");
        let is_refused = |end| matches!(end, Outcome::Refused(_) | Outcome::Dead(_));
        assert!(is_refused(add(&list, &bad).await), "{vendor}");
        assert!(is_refused(add("no-such-list", &good).await), "{vendor}");
        assert_eq!(line.0.lists().values().map(BTreeSet::len).sum::<usize>(), 1, "{vendor}");
    }
}
