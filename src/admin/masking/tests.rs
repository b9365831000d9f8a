//! Tests of masking: no canary of any kind survives, and what is no person's stays readable.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A person with a canary for each kind of personal data.
#[derive(Clone, Debug)]
struct Person {
    email: String,
    phone: String,
    name: String,
    street: String,
    v4: String,
    v6: String,
    id: String,
    uuid: String,
}

impl Person {
    fn canaries(&self) -> Vec<&str> {
        let Self { email, phone, name, street, v4, v6, id, uuid } = self;
        [email, phone, name, street, v4, v6, id, uuid].map(String::as_str).to_vec()
    }
}

prop_compose! {
    fn people()(
        local in "[a-z]{2,8}[.+_-]?[a-z0-9]{2,8}",
        domain in "[a-z]{3,10}",
        phone in "\\+[1-9][0-9]{1,2} ?[0-9]{2,3}[ .-]?[0-9]{3}[ .-]?[0-9]{2,4}",
        name in "[A-Z][a-z]{6,10} [A-Z][a-zü]{6,10}",
        street in "[A-Z][a-z]{8,12}weg [1-9][0-9]?",
        v4 in (11_u8..=250, 1_u8..=250, 1_u8..=250, 1_u8..=250),
        v6 in (1_u16..=0xfff, 0x1000_u16..=0xffff, 0x1000_u16..=0xffff),
        id in "[a-z]{4}-[a-z]{5}-[a-z0-9]{8,20}",
        uuid in "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}",
    ) -> Person {
        Person {
            email: format!("{local}@{domain}.example"),
            phone,
            name,
            street,
            v4: format!("{}.{}.{}.{}", v4.0, v4.1, v4.2, v4.3),
            v6: format!("2001:db8:{:x}::{:x}:{:x}", v6.0, v6.1, v6.2),
            id,
            uuid,
        }
    }
}

/// An event with the person's data in every known place.
fn event_of(person: &Person) -> Value {
    let Person { email, phone, name, street, v4, v6, id, uuid } = person;
    json!({
        "type": "track", "event": format!("Order of {email}"), "messageId": "m1",
        "userId": id, "anonymousId": uuid, "groupId": id, "previousId": email,
        "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
        "traits": {"email": email, "anything": name, "deep": [{"x": street}], "n": 41791234567_u64},
        "context": {
            "ip": v4, "traits": {"x": [name, phone]}, "userAgent": "Mozilla/5.0 Chrome/142.0.7444.59",
            "device": {"id": id, "token": uuid, "model": "Pixel 9"},
            "page": {"url": format!("https://shop.example/a?email={email}&phone={phone}&first_name={name}"),
                "referrer": format!("https://shop.example/{uuid}?uid={id}"), "title": format!("Hello {v6}")},
            "externalIds": [{"externalId": id}],
        },
        "properties": {"email": email, "note": format!("call {phone} or {email} at {v4} and {v6}"),
            "billing_address": {"street": street, "firstName": name}, "customer_id": id,
            "nested": format!("{{\"email\":\"{email}\",\"lastName\":\"{name}\"}}"),
            "name": name, "order_id": "o-17", "revenue": 129.9, "currency": "EUR",
            "products": [{"product_id": "p1", "name": "Blue Shirt", "price": 10}]},
        "integrations": {"GA4": {"clientId": id}},
        "facts": {"format": "sdk", "ip": v6, "visitor": {"id": uuid, "since": "2026-11-23T10:00:00Z"},
            "cookies": {"_ga": id, "other": uuid}, "clickIds": {"gclid": {"value": id}},
            "place": {"country": "CH", "city": name, "postalCode": phone},
            "beacon": {"vendor": "ga4", "target": format!("/g/collect?uid={id}"), "body": email},
            "userAgent": "Mozilla/5.0 Chrome/142.0.7444.59"},
    })
}

fn percent(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Texts as vendors receive and send them.
fn texts_of(person: &Person) -> Vec<String> {
    let Person { email, phone, name, street, v4, v6, id, uuid } = person;
    let json = json!({"user_data": {"em": [email], "ph": phone, "fn": [name], "client_ip_address": v4},
        "external_id": id, "distinct_id": uuid, "$first_name": name, "address": {"street": street},
        "log": json!({"email": email, "last_name": name, "ip": v6}).to_string()});
    let form =
        [("em", email), ("ph", phone), ("fn", name), ("uid", id), ("ip", v6), ("street", street)];
    let form: Vec<String> =
        form.iter().map(|(key, value)| format!("{key}={}", percent(value))).collect();
    let form = form.join("&");
    let mut cut = json.to_string();
    cut.pop();
    let unfinished = format!(
        "{{\"batch\":[{{\"name\":\"{name}\",\"traits\":{{\"any\":\"{street}\"}},\"fn\":[\"a\",\"{name}\"],\"x\":\"{name}"
    );
    vec![
        json.to_string(),
        cut,
        unfinished,
        form.clone(),
        format!("POST https://vendor.example/in?{form}\nCookie: _ga={id}; uid={uuid}\n\n{json}"),
        format!("data={}", percent(&json.to_string())),
        format!("the user {email} ({phone}) from {v4}, {v6} is unknown; see {uuid}"),
        format!("{email},{phone},{v4},{v6},{uuid}"),
        format!("<error>&lt;{email}&gt; {}</error>", email.replace('@', "&#64;")),
    ]
}

fn survivors<'p>(person: &'p Person, shown: &str) -> Vec<&'p str> {
    let spaced = shown.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy();
    let shows = |canary: &&str| shown.contains(*canary) || decoded.contains(*canary);
    person.canaries().into_iter().filter(shows).collect()
}

proptest! {
    #[test]
    fn no_canary_survives_in_an_event(person in people()) {
        let mut event = event_of(&person);
        mask_event(&mut event);
        let shown = event.to_string();
        prop_assert!(survivors(&person, &shown).is_empty(), "{:?} in {shown}", survivors(&person, &shown));
        prop_assert!(shown.contains("Blue Shirt") && shown.contains("o-17") && shown.contains("129.9"));
    }

    #[test]
    fn no_canary_survives_in_texts_and_happenings(person in people()) {
        for text in texts_of(&person) {
            let masked = mask_text(&text);
            let left = survivors(&person, &masked);
            prop_assert!(left.is_empty(), "{left:?} of {text} in {masked}");
            let mut happening = json!({"what": "called", "request": text, "body": text, "reply": text,
                "detail": text, "event": person.email, "page": format!("/u/{}", person.email)});
            mask_happening(&mut happening);
            let shown = happening.to_string();
            prop_assert!(survivors(&person, &shown).is_empty(), "{shown}");
        }
    }

    #[test]
    fn no_canary_survives_in_a_profile(person in people()) {
        let identities = [&person.id, &person.uuid, &person.email, &person.phone];
        let identities = identities.map(|value| json!({"kind": "user", "value": value, "rank": "server"}));
        let mut profile = json!({"kind": "profile", "user_id": person.id, "identities": identities,
            "traits": {"x": person.name, "y": {"z": person.street}, "ip": person.v4},
            "last_page": format!("https://shop.example/?email={}", percent(&person.email)),
            "last_ip": person.v6, "trait_ranks": {"x": "server"}, "days": [{"event": "page", "count": 2}]});
        mask_profile(&mut profile);
        let shown = profile.to_string();
        prop_assert!(survivors(&person, &shown).is_empty(), "{shown}");
        prop_assert!(shown.contains("\"count\":2"));
    }

    #[test]
    fn any_text_is_masked_without_panic(text in ".{0,300}") {
        mask_text(&text);
    }
}

#[test]
fn masked_values_keep_what_tells_them_apart() {
    assert_eq!(mask_text("alice@shop.example"), "a…@…");
    assert_eq!(
        mask_text("from 203.0.113.77 and [2001:db8:1:2::3]"),
        "from 203.0.113.0 and [2001:db8:1::]"
    );
    assert_eq!(mask_text("3f2504e0-4f89-41d3-9a0c-0305e82c3301"), "3f2504e0…");
    assert_eq!(mask_text("call +41 79 123 45 67"), "call +…");
    assert_eq!(
        mask_text("POST https://v.example/c?em=alice%40x.example&v=1"),
        "POST https://v.example/c?em=a…@…&v=1"
    );
}

#[test]
fn texts_without_personal_data_stay() {
    for text in [
        "POST https://www.google-analytics.com/mp/collect?measurement_id=G-1",
        "{\"events\":[{\"name\":\"purchase\",\"params\":{\"value\":129.9}}],\"timestamp_micros\":1764600000000000}",
        "Invalid parameter: em at 2026-11-23T10:00:00.123Z",
        "HTTP 400",
        "",
    ] {
        assert_eq!(mask_text(text), text);
    }
}
