//! Tests of each rule of the module `stitch`, event by event.

use std::cell::Cell;

use serde_json::Value;

use super::*;
use crate::profile::{identities, update_of};
use tagway_core::event::Event;

in_every_backend!(
    one_visitor_is_found_across_formats_devices_and_sub_domains,
    device_belongs_to_the_last_signed_in_user_and_the_other_keeps_their_profile,
    late_sign_in_takes_no_device_from_a_user_seen_on_it_later,
    ids_without_a_user_id_belong_to_the_last_claimant_of_the_device,
    a_reset_begins_a_new_visitor,
    emptied_script_storage_is_no_reset,
    an_address_joins_people_unless_another_user_has_it,
    address_named_in_a_browser_reads_and_changes_no_user,
    alias_of_two_users_joins_them_only_from_a_server,
    later_statements_win_when_profiles_merge,
    repeated_visit_writes_nothing_within_the_hour,
);

/// Profiles to which events are applied one by one.
pub(super) struct StitchingTestBed(pub(super) ProfileTestBed, Cell<u64>);

impl StitchingTestBed {
    pub(super) fn new(make: TestBedFactory<'_>) -> Option<Self> {
        let limits = ProfileLimits::new(1000, 10, 10);
        Some(Self(make(limits)?, Cell::new(0)))
    }

    /// Applies an event at a minute, with these members.
    pub(super) fn takes(&self, minute: i64, members: Value) -> ProfileChanges {
        self.1.set(self.1.get() + 1);
        self.0.apply(self.1.get(), vec![update_of(&event(minute, members))])
    }

    /// Returns the user id and the profile that an event with these members is enriched with: that of
    /// the surest of its identities.
    pub(super) fn knows(&self, members: Value) -> Option<(ProfileId, Option<String>)> {
        let (profile, view) =
            identities(&event(0, members)).into_iter().find_map(|it| self.0.find(it))?;
        Some((profile, view.user_id))
    }

    pub(super) fn user(&self, members: Value) -> Option<String> {
        self.knows(members)?.1
    }
}

const DAY: i64 = 24 * 60;

fn event(minute: i64, members: Value) -> Event {
    let start: jiff::Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
    let at = start + jiff::SignedDuration::from_mins(minute);
    let mut event = json!({
        "type": "track", "messageId": "m", "timestamp": at, "receivedAt": at,
    });
    event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    serde_json::from_value(event).unwrap()
}

/// Returns an event of a client that speaks the Segment spec on a page of the shop, in the browser with
/// this cookie.
pub(super) fn page(user: Option<&str>, anonymous: &str, visitor: &str) -> Value {
    on("segment", "www.shop.example", user, anonymous, visitor)
}

fn on(format: &str, host: &str, user: Option<&str>, anonymous: &str, visitor: &str) -> Value {
    json!({
        "userId": user, "anonymousId": anonymous,
        "context": { "page": { "url": format!("https://{host}/") } },
        "facts": {
            "format": format,
            "visitor": { "id": visitor, "since": "2026-11-23T10:00:00Z" },
        },
    })
}

pub(super) fn with_cookies(mut event: Value, cookies: Value) -> Value {
    event["facts"]["cookies"] = cookies;
    event
}

pub(super) fn with_email(mut event: Value, email: &str) -> Value {
    event["type"] = "identify".into();
    event["traits"] = json!({ "email": email });
    event
}

pub(super) fn by_server(mut event: Value) -> Value {
    event["facts"]["fromServer"] = true.into();
    event
}

pub(super) fn alias(user: &str, previous: &str, from_server: bool) -> Value {
    json!({
        "type": "alias", "userId": user, "previousId": previous,
        "facts": { "fromServer": from_server },
    })
}

fn one_visitor_is_found_across_formats_devices_and_sub_domains(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    let cookies = json!({ "_ga": "GA1.1.5.6", "_fbp": "fb.1.7.8" });
    shop.takes(0, with_cookies(page(None, "a", "v"), cookies.clone()));
    // Another format, with an id of its own, in the same browser.
    shop.takes(1, on("ga4", "www.shop.example", None, "5.6", "v"));
    // Another sub-domain, whose cookies are its own, except for Google's.
    let blog = on("segment", "blog.shop.example", None, "b", "w");
    shop.takes(2, with_cookies(blog, json!({ "_ga": "GA1.2.5.6" })));
    let (nobody, user) = shop.knows(json!({ "anonymousId": "b" })).unwrap();
    assert_eq!(user, None);
    shop.takes(3, with_email(page(Some("u"), "a", "v"), "jo@x.example"));
    // Another device.
    shop.takes(4, by_server(with_email(page(None, "phone", "p"), " JO@x.example")));
    let digest = Identity::of_email("jo@x.example").unwrap().value;
    for known in [
        json!({ "userId": "u" }),
        json!({ "anonymousId": "a" }),
        json!({ "anonymousId": "5.6" }),
        json!({ "anonymousId": "b" }),
        json!({ "anonymousId": "phone" }),
        json!({ "facts": { "visitor": { "id": "w", "since": "2026-11-23T10:00:00Z" } } }),
        json!({ "facts": { "cookies": { "_ga": "GA1.3.5.6" } } }),
        json!({ "facts": { "cookies": { "_fbp": "fb.2.7.8" } } }),
        json!({ "context": { "clientIds": { "ga4": { "client_id": "5.6" } } } }),
        by_server(json!({ "context": { "traits": { "email": digest } } })),
    ] {
        assert_eq!(shop.knows(known.clone()), Some((nobody, Some("u".into()))), "{known}");
    }
}

fn device_belongs_to_the_last_signed_in_user_and_the_other_keeps_their_profile(
    make: TestBedFactory<'_>,
) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    let cookies = json!({ "_ga": "GA1.1.5.6" });
    shop.takes(0, with_cookies(page(Some("u"), "a", "v"), cookies.clone()));
    shop.takes(0, page(Some("u"), "phone", "p"));
    shop.takes(2, with_cookies(page(Some("w"), "a", "v"), cookies));
    for device in [page(None, "a", "x"), json!({ "facts": { "cookies": { "_ga": "5.6" } } })] {
        assert_eq!(shop.user(device).as_deref(), Some("w"));
    }
    assert_eq!(shop.user(page(None, "phone", "x")).as_deref(), Some("u"));
    assert_ne!(shop.knows(json!({ "userId": "u" })), shop.knows(json!({ "userId": "w" })));
    // A late event does not change the owner.
    shop.takes(1, page(Some("u"), "a", "v"));
    assert_eq!(shop.user(page(None, "a", "v")).as_deref(), Some("w"));
    shop.takes(1, page(None, "a", "new"));
    assert_eq!(shop.user(json!({ "anonymousId": "new" })), None, "it was not of w");
    shop.takes(3, page(Some("u"), "a", "v"));
    assert_eq!(shop.user(page(None, "a", "v")).as_deref(), Some("u"));
}

fn late_sign_in_takes_no_device_from_a_user_seen_on_it_later(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, page(Some("u"), "a", "v"));
    shop.takes(120, page(Some("u"), "a", "v"));
    shop.takes(60, page(Some("w"), "a", "v"));
    assert_eq!(shop.user(page(None, "a", "v")).as_deref(), Some("u"));
    // The same of a device that was known as the other's before they signed in.
    shop.takes(0, page(None, "b", "x"));
    shop.takes(10, page(Some("z"), "b", "y"));
    shop.takes(5, page(Some("w"), "c", "x"));
    assert_eq!(shop.user(page(None, "none", "x")).as_deref(), Some("z"));
    shop.takes(11, page(Some("w"), "c", "x"));
    assert_eq!(shop.user(page(None, "none", "x")).as_deref(), Some("w"));
}

fn ids_without_a_user_id_belong_to_the_last_claimant_of_the_device(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, page(Some("u"), "a", "v"));
    let other = |user| on("mixpanel", "www.shop.example", user, "m", "v");
    shop.takes(5, other(Some("w")));
    assert_eq!(shop.user(page(None, "a", "v")).as_deref(), Some("u"), "nothing says otherwise yet");
    shop.takes(6, page(None, "a", "v"));
    assert_eq!(shop.user(page(None, "a", "v")).as_deref(), Some("w"));
    shop.takes(7, with_cookies(page(None, "a", "v"), json!({ "_fbp": "fb.1.7.8" })));
    let pixel = json!({ "facts": { "cookies": { "_fbp": "fb.1.7.8" } } });
    assert_eq!(shop.user(pixel).as_deref(), Some("w"));
}

fn a_reset_begins_a_new_visitor(make: TestBedFactory<'_>) {
    let cookies = json!({ "_ga": "GA1.1.5.6" });
    let ga = json!({ "facts": { "cookies": { "_ga": "5.6" } } });
    let of = |user, anonymous| with_cookies(page(user, anonymous, "v"), cookies.clone());
    for first in [Some("u"), None] {
        let Some(shop) = StitchingTestBed::new(make) else { return };
        shop.takes(0, of(first, "a"));
        let before = shop.knows(page(None, "a", "v")).unwrap();
        shop.takes(10, of(None, "b"));
        let after = shop.knows(page(None, "b", "v")).unwrap();
        assert_ne!(after.0, before.0);
        assert_eq!(after.1, None);
        assert_eq!(shop.knows(ga.clone()), Some(after.clone()), "the browser is theirs");
        assert_eq!(shop.knows(page(None, "a", "x")), Some(before.clone()), "the past is not");
        // Another client of the browser, which does not reset, follows; a late event does not lead back.
        shop.takes(11, on("ga4", "www.shop.example", None, "5.6", "v"));
        shop.takes(5, of(None, "a"));
        if first.is_some() {
            shop.takes(6, of(first, "a"));
        }
        shop.takes(12, of(None, "b"));
        assert_eq!(shop.knows(json!({ "anonymousId": "5.6" })), Some(after));
        // A user who signs in now owns the events since the reset.
        shop.takes(20, of(Some("w"), "b"));
        assert_eq!(shop.user(ga.clone()).as_deref(), Some("w"));
        assert_eq!(shop.knows(page(None, "a", "x")), Some(before), "and not before it");
    }
}

fn emptied_script_storage_is_no_reset(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, page(Some("u"), "a", "v"));
    shop.takes(8 * DAY, page(None, "b", "v"));
    assert_eq!(shop.user(page(None, "b", "x")).as_deref(), Some("u"), "the cookie is older");
    shop.takes(8 * DAY + 5, on("segment", "blog.shop.example", None, "c", "v"));
    assert_eq!(shop.user(page(None, "c", "x")).as_deref(), Some("u"), "on another host");
    shop.takes(8 * DAY + 6, on("mixpanel", "www.shop.example", None, "d", "v"));
    assert_eq!(shop.user(page(None, "d", "x")).as_deref(), Some("u"), "by another client");
    let both = with_cookies(page(None, "e", "v"), json!({ "ajs_anonymous_id": "b" }));
    shop.takes(8 * DAY + 7, both);
    assert_eq!(shop.user(page(None, "e", "x")).as_deref(), Some("u"), "both at once");
}

fn an_address_joins_people_unless_another_user_has_it(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, with_email(page(None, "a", "v"), "jo@x.example"));
    shop.takes(1, with_email(page(None, "b", "w"), "jo@x.example"));
    assert_eq!(shop.knows(page(None, "a", "v")), shop.knows(page(None, "b", "w")));
    shop.takes(2, by_server(with_email(page(Some("u"), "c", "x"), "jo@x.example")));
    assert_eq!(shop.user(page(None, "a", "v")).as_deref(), Some("u"));
    // An event of another user, who claims the address.
    shop.takes(3, by_server(with_email(page(Some("w"), "d", "y"), "jo@x.example")));
    shop.takes(4, by_server(with_email(page(None, "d", "y"), "jo@x.example")));
    assert_eq!(shop.user(page(None, "d", "y")).as_deref(), Some("w"));
    let letter = by_server(json!({ "context": { "traits": { "email": "jo@x.example" } } }));
    assert_eq!(shop.user(letter).as_deref(), Some("u"));
}

fn address_named_in_a_browser_reads_and_changes_no_user(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    let mut hers = with_email(page(Some("u"), "a", "v"), "jo@x.example");
    hers["traits"]["plan"] = "pro".into();
    shop.takes(0, hers);
    let traits = || shop.0.rows("SELECT traits FROM profiles WHERE user_id = 'u'");
    let before = (shop.knows(json!({ "userId": "u" })), traits());
    for user in [None, Some("w")] {
        let mut event = with_email(page(user, "phone", "p"), "jo@x.example");
        event["traits"]["plan"] = "stolen".into();
        shop.takes(1, event.clone());
        let (profile, known) = shop.knows(event).unwrap();
        assert_eq!(known.as_deref(), user);
        assert_ne!(Some(profile), before.0.as_ref().map(|(profile, _)| *profile));
    }
    assert_eq!((shop.knows(json!({ "userId": "u" })), traits()), before);
    // Nor does a user take an address of an unknown visitor.
    shop.takes(2, with_email(page(None, "b", "x"), "bo@x.example"));
    shop.takes(3, with_email(page(Some("w"), "phone", "p"), "bo@x.example"));
    assert_eq!(shop.user(page(None, "b", "x")), None);
    // Nor does the image of an e-mail show who opened it.
    let letter = json!({ "context": { "traits": { "email": "jo@x.example" } } });
    assert_eq!(shop.knows(letter), None);
}

fn alias_of_two_users_joins_them_only_from_a_server(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, page(Some("u"), "a", "v"));
    shop.takes(0, page(Some("w"), "b", "x"));
    shop.takes(1, alias("w", "u", false));
    assert_eq!(shop.user(json!({ "userId": "u" })).as_deref(), Some("u"));
    shop.takes(2, alias("w", "u", true));
    for one in [json!({ "userId": "u" }), page(None, "a", "v"), page(None, "b", "x")] {
        assert_eq!(shop.user(one).as_deref(), Some("w"), "the id of the alias");
    }
    shop.takes(3, page(Some("u"), "a", "v"));
    assert_eq!(shop.user(page(None, "a", "v")).as_deref(), Some("w"), "is the one they go by");
    // The older id is usually a device's, and then any sender may state it.
    shop.takes(4, page(None, "c", "y"));
    shop.takes(5, alias("z", "c", false));
    assert_eq!(shop.user(page(None, "c", "y")).as_deref(), Some("z"));
}

fn later_statements_win_when_profiles_merge(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    let say = |minute, user, anonymous, traits: Value| {
        let mut event = page(user, anonymous, &format!("v-{anonymous}"));
        event["type"] = "identify".into();
        event["traits"] = traits;
        shop.takes(minute, event);
    };
    say(90, Some("u"), "a", json!({ "plan": "pro", "town": "Bern" }));
    say(30, None, "b", json!({ "plan": "free", "age": 7 }));
    say(99, None, "b", json!({ "town": "Basel" }));
    say(100, Some("u"), "b", json!({ "age": null }));
    say(95, Some("u"), "b", json!({ "age": 8, "plan": "max" }));
    let read = "SELECT traits, last_seen - first_seen FROM profiles";
    let row: Vec<_> = shop.0.rows(read).remove(0).into_iter().map(Option::unwrap).collect();
    let (traits, minutes) = (&row[0], row[1].parse::<i64>().unwrap());
    let traits: Value = serde_json::from_str(traits).unwrap();
    assert_eq!(traits, json!({ "plan": "max", "town": "Basel" }));
    assert!((60..=70).contains(&(minutes / 60_000)), "the last is kept to the hour: {minutes}");
}

fn repeated_visit_writes_nothing_within_the_hour(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    let visit = || {
        let cookies = json!({ "_ga": "GA1.1.5.6", "_fbp": "fb.1.7.8" });
        with_email(with_cookies(page(Some("u"), "a", "v"), cookies), "jo@x.example")
    };
    let written = || shop.0.written();
    shop.takes(0, visit());
    let before = written();
    for minute in 1..60 {
        assert_eq!(shop.takes(minute, visit()), ProfileChanges::default());
    }
    assert_eq!(written(), before);
    assert_eq!(shop.takes(60, visit()), ProfileChanges::default(), "only its times are news");
    assert_ne!(written(), before);
}
