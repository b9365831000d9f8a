//! Tests of the sender ranks: the attacks of claimed senders, and the rights of the others.

use jiff::Timestamp;
use serde_json::Value;

use super::stitching::{StitchingTestBed, alias, by_server, page, with_cookies, with_email};
use super::*;

/// The cookies' ids of the victim's browser and of the attacker's, in the form that the gateway makes.
const OWN: &str = "6f1a2b7c-0d3e-4f5a-8b9c-0d1e2f3a4b5c";
const OTHER: &str = "a0b1c2d3-e4f5-4061-8273-8495a6b7c8d9";

in_every_backend!(
    page_gets_no_user_data_by_claims,
    browser_is_bound_by_a_login_proof,
    browser_is_bound_by_a_server_that_names_its_id,
    page_gets_what_its_cookie_alone_collected,
    page_gets_nothing_joined_by_writable_identities,
    proof_of_an_own_user_id_takes_no_data_of_others,
    a_claim_takes_no_device_of_a_proven_user,
    a_claimed_sign_in_leaves_the_browser_bound,
    a_proven_sign_in_and_a_reset_end_what_bound_the_browser,
    claim_takes_no_visitor_data_stated_by_a_server,
    trait_of_a_higher_rank_wins_in_every_case,
    claims_evict_no_identity_of_a_server,
    claimed_address_moves_by_a_servers_statement,
    claimed_consent_loosens_no_refusal,
    claimed_group_and_campaign_displace_no_proven_ones,
    subject_shows_the_ranks_of_its_identities,
);

/// Adds a proof of the user id to an event.
fn proven(mut event: Value) -> Value {
    event["facts"]["proven"] = true.into();
    event
}

fn identify(mut event: Value, traits: Value) -> Value {
    event["type"] = "identify".into();
    event["traits"] = traits;
    event
}

/// Returns a message of a server.
fn server(user: Option<&str>, anonymous: Option<&str>) -> Value {
    by_server(json!({ "userId": user, "anonymousId": anonymous }))
}

/// Returns an event of a browser whose anonymous id the gateway made.
fn browse(user: Option<&str>, id: &str) -> Value {
    let mut event = page(user, id, id);
    event["facts"]["format"] = "sdk".into();
    event
}

fn shown(shop: &StitchingTestBed, id: &str) -> Option<Value> {
    let standing = shop.0.standing(id)?;
    Some(Value::Object(standing.view.traits))
}

fn traits_of(shop: &StitchingTestBed, user: &str) -> Value {
    let (_, view) = shop.0.find(super::user(user)).unwrap();
    Value::Object(view.traits)
}

/// Returns a shop that knows a victim from a server's message, on a browser bound by proof.
fn known_victim(make: TestBedFactory<'_>) -> Option<StitchingTestBed> {
    let shop = StitchingTestBed::new(make)?;
    shop.takes(0, identify(server(Some("victim"), None), json!({ "plan": "pro" })));
    let ids = json!({ "_ga": "GA1.1.5.6", "_fbp": "fb.1.7.8" });
    shop.takes(1, proven(with_cookies(page(Some("victim"), "a", OWN), ids)));
    Some(shop)
}

fn page_gets_no_user_data_by_claims(make: TestBedFactory<'_>) {
    let theirs = json!({ "_ga": "GA1.1.5.6" });
    let ids = |vendor: &str, id: &str| json!({ "clientIds": { vendor: id } });
    let with_context = |mut event: Value, context: Value| {
        event["context"] = context;
        event
    };
    let mut as_victim = alias("victim", OTHER, false);
    as_victim["facts"]["visitor"] = json!({ "id": OTHER, "since": "2026-11-23T10:00:00Z" });
    let mut of_victim = alias("attacker", "victim", false);
    of_victim["facts"]["visitor"] = as_victim["facts"]["visitor"].clone();
    let attacks = [
        ("a user id", browse(Some("victim"), OTHER)),
        ("traits", identify(browse(Some("victim"), OTHER), json!({ "x": 1 }))),
        ("an alias", as_victim),
        ("an alias of the victim", of_victim),
        ("a cookie", with_cookies(browse(None, OTHER), theirs.clone())),
        ("a vendor's id", with_context(browse(None, OTHER), ids("ga4", "5.6"))),
        ("an anonymous id", page(None, "a", OTHER)),
        ("the cookie's id", page(None, OWN, OTHER)),
        ("an address", with_email(browse(None, OTHER), "victim@x.example")),
        ("an own user id", with_cookies(browse(Some("attacker"), OTHER), theirs)),
    ];
    for (name, attack) in attacks {
        for is_known in [false, true] {
            let Some(shop) = known_victim(make) else { return };
            let mail = with_email(server(Some("victim"), None), "victim@x.example");
            shop.takes(2, mail);
            if is_known {
                shop.takes(3, browse(None, OTHER));
            }
            for minute in [4, 5] {
                shop.takes(minute, attack.clone());
                let visible = shown(&shop, OTHER).unwrap_or_else(|| json!({}));
                assert_eq!(visible.get("plan"), None, "{name}");
            }
            assert_eq!(shown(&shop, OWN).unwrap()["plan"], "pro", "{name}: the victim sees it");
        }
    }
}

fn browser_is_bound_by_a_login_proof(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, identify(server(Some("u"), None), json!({ "plan": "pro" })));
    shop.takes(1, browse(Some("u"), OWN));
    assert_eq!(shown(&shop, OWN), None, "a user id alone is a claim");
    shop.takes(2, proven(browse(Some("u"), OWN)));
    assert_eq!(shown(&shop, OWN), Some(json!({ "plan": "pro" })));
    // From then on its events of its user, or without a user id, are proven.
    shop.takes(3, identify(browse(Some("u"), OWN), json!({ "town": "Bern" })));
    shop.takes(4, identify(browse(None, OWN), json!({ "age": 7 })));
    let subject = shop.0.subjects("u").remove(0);
    let rank = |key: &str| subject.trait_ranks.get(key).copied().unwrap_or_default();
    let found = ["plan", "town", "age"].map(rank);
    assert_eq!(found, [SenderRank::Server, SenderRank::Proven, SenderRank::Proven]);
}

fn browser_is_bound_by_a_server_that_names_its_id(make: TestBedFactory<'_>) {
    for comes_first in [true, false] {
        let Some(shop) = StitchingTestBed::new(make) else { return };
        if comes_first {
            shop.takes(0, identify(browse(None, OWN), json!({ "town": "Bern" })));
        }
        let stated = identify(server(Some("u"), Some(OWN)), json!({ "plan": "pro" }));
        shop.takes(1, stated);
        shop.takes(2, identify(browse(None, OWN), json!({ "town": "Basel" })));
        let expected = json!({ "plan": "pro", "town": "Basel" });
        assert_eq!(shop.0.standing(OWN).unwrap().view.user_id.as_deref(), Some("u"));
        assert!(shown(&shop, OWN).unwrap().as_object().unwrap().len() == 2);
        assert_eq!(traits_of(&shop, "u")["town"], expected["town"]);
        // Another browser that names it in its events is not bound.
        shop.takes(3, page(Some("u"), OWN, OTHER));
        shop.takes(4, page(None, OWN, OTHER));
        assert_eq!(shown(&shop, OTHER), None);
    }
    // The same by an alias.
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, browse(None, OWN));
    shop.takes(1, identify(server(Some("u"), None), json!({ "plan": "pro" })));
    shop.takes(2, alias("u", OWN, false));
    assert_eq!(shown(&shop, OWN), None);
    shop.takes(3, alias("u", OWN, true));
    assert_eq!(shown(&shop, OWN), Some(json!({ "plan": "pro" })));
}

fn page_gets_what_its_cookie_alone_collected(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, identify(browse(None, OWN), json!({ "town": "Bern" })));
    let standing = shop.0.standing(OWN).unwrap();
    assert!(standing.is_whole);
    assert_eq!(standing.view.traits["town"], "Bern");
    shop.takes(1, identify(browse(Some("u"), OWN), json!({})));
    assert_eq!(shown(&shop, OWN), None, "now it is somebody's");
}

fn page_gets_nothing_joined_by_writable_identities(make: TestBedFactory<'_>) {
    let cookies = json!({ "_ga": "GA1.1.5.6" });
    let joins = [
        with_cookies(browse(None, OTHER), cookies.clone()),
        page(None, OWN, OTHER),
        with_email(browse(None, OTHER), "jo@x.example"),
    ];
    for join in joins {
        for is_first in [true, false] {
            // By a client that can be reset, and by one that cannot.
            for format in ["sdk", "ga4"] {
                let Some(shop) = StitchingTestBed::new(make) else { return };
                let mut join = join.clone();
                join["facts"]["format"] = format.into();
                let victims = with_cookies(browse(None, OWN), cookies.clone());
                let mut victims = with_email(victims, "jo@x.example");
                victims["traits"]["illness"] = "secret".into();
                victims["facts"]["format"] = format.into();
                let (first, second) = if is_first { (&join, &victims) } else { (&victims, &join) };
                shop.takes(0, first.clone());
                shop.takes(1, second.clone());
                shop.takes(2, join.clone());
                let visible = shown(&shop, OTHER).unwrap_or_else(|| json!({}));
                assert_eq!(visible.get("illness"), None, "{join}");
            }
        }
    }
}

fn proof_of_an_own_user_id_takes_no_data_of_others(make: TestBedFactory<'_>) {
    let ga = json!({ "_ga": "GA1.1.5.6" });
    // By a client that can be reset, and by one that cannot.
    for (is_first, format) in [(true, "sdk"), (false, "sdk"), (true, "ga4"), (false, "ga4")] {
        let Some(shop) = StitchingTestBed::new(make) else { return };
        let of = |user, id| {
            let mut event = with_cookies(browse(user, id), ga.clone());
            event["facts"]["format"] = format.into();
            event
        };
        let victims = identify(of(None, OWN), json!({ "illness": "secret" }));
        let joins = of(None, OTHER);
        let own = proven(of(Some("attacker"), OTHER));
        if is_first {
            shop.takes(0, own.clone());
        }
        shop.takes(1, victims.clone());
        shop.takes(2, joins);
        shop.takes(3, own);
        shop.takes(4, victims);
        // A server names the victim by an identity that the attacker has claimed.
        shop.takes(5, identify(server(None, Some("a")), json!({ "credit": 9 })));
        shop.takes(6, proven(page(Some("attacker"), "a", OTHER)));
        shop.takes(7, identify(server(None, Some("a")), json!({ "credit": 10 })));
        let standing = shop.0.standing(OTHER).unwrap();
        assert_eq!(standing.view.user_id.as_deref(), Some("attacker"));
        assert_eq!(standing.view.traits.get("illness"), None, "{format} {is_first}");
        assert_eq!(standing.view.traits.get("credit"), None, "{format} {is_first}");
        assert!(format == "sdk" || !standing.is_whole, "{format} {is_first}");
    }
}

fn a_claim_takes_no_device_of_a_proven_user(make: TestBedFactory<'_>) {
    let devices = [
        json!({ "facts": { "cookies": { "_ga": "5.6" } } }),
        json!({ "facts": { "cookies": { "_fbp": "fb.1.7.8" } } }),
        json!({ "anonymousId": "a" }),
        json!({ "facts": { "visitor": { "id": OWN, "since": "2026-11-23T10:00:00Z" } } }),
    ];
    let theirs = json!({ "_ga": "GA1.1.5.6", "_fbp": "fb.1.7.8" });
    let own = |user, anonymous| with_cookies(page(user, anonymous, OTHER), theirs.clone());
    let mut cookieless = own(Some("w"), "a");
    cookieless["facts"]["visitor"].take();
    let attacks: [&[Value]; 7] = [
        &[own(Some("w"), "a")],
        &[cookieless],
        // First it joins, then it takes.
        &[own(None, "a"), own(Some("w"), "a")],
        &[own(Some("victim"), "a"), own(Some("w"), "a")],
        &[alias("w", "a", false), alias("w", OWN, false)],
        // A new anonymous id as if the victim had signed out.
        &[own(None, "new"), own(Some("w"), "new")],
        // An attacker with a proven account has no more rights over another's.
        &[own(None, "a"), proven(own(Some("w"), "a")), proven(own(Some("w"), "a"))],
    ];
    for attack in attacks {
        let Some(shop) = known_victim(make) else { return };
        for (event, minute) in attack.iter().zip(10..) {
            shop.takes(minute, event.clone());
        }
        for device in &devices {
            assert_eq!(shop.user(device.clone()).as_deref(), Some("victim"), "{attack:?}");
        }
    }
}

fn a_claimed_sign_in_leaves_the_browser_bound(make: TestBedFactory<'_>) {
    let Some(shop) = known_victim(make) else { return };
    let takeover = identify(page(Some("w"), "a", OWN), json!({ "plan": "stolen" }));
    shop.takes(9, takeover);
    assert_eq!(shown(&shop, OWN), Some(json!({ "plan": "pro" })), "by what was proven");
    assert_eq!(traits_of(&shop, "w")["plan"], "stolen", "who claims has a profile of their own");
    shop.takes(10, identify(page(Some("victim"), "a", OWN), json!({ "town": "Bern" })));
    let subject = shop.0.subjects("victim").remove(0);
    assert_eq!(subject.trait_ranks["town"], SenderRank::Proven);
}

fn a_proven_sign_in_and_a_reset_end_what_bound_the_browser(make: TestBedFactory<'_>) {
    let Some(shop) = known_victim(make) else { return };
    shop.takes(9, proven(page(Some("w"), "a", OWN)));
    assert_eq!(shop.0.standing(OWN).unwrap().view.user_id.as_deref(), Some("w"));
    assert_eq!(shop.user(json!({ "anonymousId": "a" })).as_deref(), Some("w"));
    let Some(shop) = known_victim(make) else { return };
    shop.takes(9, page(None, "new", OWN));
    assert_eq!(shown(&shop, OWN), None, "who signed out is told nothing");
    assert_eq!(shop.user(json!({ "anonymousId": "a" })).as_deref(), Some("victim"));
    shop.takes(10, page(Some("victim"), "new", OWN));
    assert_eq!(shown(&shop, OWN), None, "until they prove who they are");
    shop.takes(11, proven(page(Some("victim"), "new", OWN)));
    assert_eq!(shown(&shop, OWN), Some(json!({ "plan": "pro" })));
}

fn claim_takes_no_visitor_data_stated_by_a_server(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, identify(server(None, Some("a")), json!({ "credit": 9 })));
    let rob = |user| identify(page(user, "a", OTHER), json!({ "credit": 0, "x": 1 }));
    for user in [None, Some("attacker")] {
        shop.takes(1, rob(user));
        let (_, view) = shop.0.find(anonymous("a")).unwrap();
        assert_eq!((view.user_id, &view.traits["credit"]), (None, &json!(9)));
        assert_eq!(shown(&shop, OTHER), None);
    }
    // Nor does a sender with proof of an own user id.
    shop.takes(2, proven(rob(Some("attacker"))));
    assert_eq!(shown(&shop, OTHER).unwrap()["credit"], 0);
}

fn trait_of_a_higher_rank_wins_in_every_case(make: TestBedFactory<'_>) {
    let says = |rank: SenderRank, traits: Value| match rank {
        SenderRank::Server => identify(server(Some("u"), None), traits),
        SenderRank::Proven => proven(identify(browse(Some("u"), OWN), traits)),
        SenderRank::Claimed => identify(browse(Some("u"), OTHER), traits),
    };
    for first in SenderRank::ALL {
        for second in SenderRank::ALL {
            for (value, minute) in [(json!("new"), 2), (Value::Null, 2), (json!("new"), 0)] {
                let Some(shop) = StitchingTestBed::new(make) else { return };
                shop.takes(1, says(first, json!({ "plan": "old" })));
                shop.takes(minute, says(second, json!({ "plan": value })));
                let is_taken = second > first || (second == first && minute > 1);
                let expected = if is_taken { value.clone() } else { json!("old") };
                let traits = traits_of(&shop, "u");
                let found = traits.get("plan").cloned().unwrap_or_default();
                assert_eq!(found, expected, "{first:?} {second:?} {minute}");
            }
        }
        // Claims that fill the profile take no room from a higher rank.
        let Some(shop) = StitchingTestBed::new(make) else { return };
        for n in 0..60 {
            let key = format!("junk{n}");
            shop.takes(n, says(SenderRank::Claimed, json!({ key: "x".repeat(40) })));
        }
        shop.takes(99, says(first, json!({ "plan": "p".repeat(500) })));
        let is_there = traits_of(&shop, "u").get("plan").is_some();
        assert_eq!(is_there, first > SenderRank::Claimed, "{first:?}");
    }
}

fn claims_evict_no_identity_of_a_server(make: TestBedFactory<'_>) {
    let Some(shop) = StitchingTestBed::new(make) else { return };
    shop.takes(0, server(Some("u"), None));
    for n in 0..30 {
        shop.takes(n + 1, page(Some("u"), &format!("junk{n}"), OTHER));
        let mail = with_email(browse(Some("u"), OTHER), &format!("junk{n}@x.example"));
        shop.takes(n + 1, mail);
    }
    for n in 0..10 {
        shop.takes(50 + n, server(Some("u"), Some(&format!("real{n}"))));
    }
    shop.takes(70, with_email(server(Some("u"), None), "jo@x.example"));
    for n in 0..10 {
        let device = json!({ "anonymousId": format!("real{n}") });
        assert_eq!(shop.user(device).as_deref(), Some("u"), "{n}");
    }
    let letter = by_server(json!({ "context": { "traits": { "email": "jo@x.example" } } }));
    assert_eq!(shop.user(letter).as_deref(), Some("u"));
    shop.takes(90, page(Some("u"), "more", OTHER));
    assert_eq!(shop.user(json!({ "anonymousId": "more" })), None, "there is no room for claims");
    assert_eq!(shop.user(json!({ "anonymousId": "real0" })).as_deref(), Some("u"));
}

fn claimed_address_moves_by_a_servers_statement(make: TestBedFactory<'_>) {
    let letter = by_server(json!({ "context": { "traits": { "email": "jo@x.example" } } }));
    for claim in [browse(Some("w"), OTHER), browse(None, OTHER), proven(browse(Some("w"), OTHER))] {
        let Some(shop) = StitchingTestBed::new(make) else { return };
        shop.takes(0, with_email(claim, "jo@x.example"));
        shop.takes(1, with_email(server(Some("u"), None), "jo@x.example"));
        assert_eq!(shop.user(letter.clone()).as_deref(), Some("u"));
        // And then it stays.
        shop.takes(2, with_email(proven(browse(Some("w"), OTHER)), "jo@x.example"));
        shop.takes(3, with_email(server(Some("w"), None), "jo@x.example"));
        assert_eq!(shop.user(letter.clone()).as_deref(), Some("u"));
    }
}

/// Returns an activity of a person, sent with this rank.
pub(super) fn sees(rank: SenderRank, ms: i64, sighting: Activity) -> ProfileUpdate {
    let visitor = match rank {
        SenderRank::Server => None,
        SenderRank::Proven => Some(OWN),
        SenderRank::Claimed => Some(OTHER),
    };
    let visitor = visitor.map(|id| Identity { kind: IdentityKind::Visitor, value: id.to_owned() });
    ProfileUpdate {
        at: Timestamp::from_millisecond(ms).unwrap(),
        rank,
        user: Some(user("u")),
        devices: visitor.into_iter().map(weak).collect(),
        activity: Some(Activity { name: "page".into(), ..sighting }),
        ..ProfileUpdate::default()
    }
}

pub(super) fn object(value: Value) -> tagway_core::event::JsonObject {
    value.as_object().unwrap().clone()
}

fn claimed_consent_loosens_no_refusal(make: TestBedFactory<'_>) {
    let answers = |rank, ms, answer: bool| {
        let consent = object(json!({ "marketing": answer }));
        sees(rank, ms, Activity { consent, ..Activity::default() })
    };
    for refused in SenderRank::ALL {
        for granted in SenderRank::ALL {
            let Some(bed) = make(LIMITS) else { return };
            bed.apply(1, vec![answers(refused, 1, false)]);
            let mut grant = answers(granted, 2, true);
            if granted == SenderRank::Claimed {
                // A sender that merely names the person is on another browser.
                grant.devices = vec![weak(Identity {
                    kind: IdentityKind::Visitor,
                    value: "another".to_owned(),
                })];
            }
            bed.apply(2, vec![grant]);
            let is_granted = bed.computed(user("u")).unwrap().consent["marketing"] == true;
            let is_due = granted >= refused && granted > SenderRank::Claimed;
            assert_eq!(is_granted, is_due, "{refused:?} {granted:?}");
        }
    }
}

fn claimed_group_and_campaign_displace_no_proven_ones(make: TestBedFactory<'_>) {
    let all = |rank, ms, name: &str| {
        let sighting = Activity {
            group: Some(name.to_owned()),
            touch: Some(object(json!({ "campaign": { "name": name } }))),
            place: object(json!({ "country": name })),
            device: object(json!({ "os": name })),
            ..Activity::default()
        };
        sees(rank, ms, sighting)
    };
    for rank in [SenderRank::Proven, SenderRank::Server] {
        let Some(bed) = make(LIMITS) else { return };
        bed.apply(1, vec![all(SenderRank::Claimed, 50, "squatter")]);
        bed.apply(2, vec![all(rank, 10, "true")]);
        let before = bed.computed(user("u")).unwrap();
        assert_eq!(before.group_id.as_deref(), Some("true"));
        for ms in [5, 99] {
            bed.apply(3, vec![all(SenderRank::Claimed, ms, "false")]);
            let after = bed.computed(user("u")).unwrap();
            assert_eq!(after.group_id, before.group_id);
            assert_eq!(after.touches, before.touches);
            assert_eq!((after.place, after.device), (before.place.clone(), before.device.clone()));
        }
    }
}

fn subject_shows_the_ranks_of_its_identities(make: TestBedFactory<'_>) {
    let Some(shop) = known_victim(make) else { return };
    shop.takes(3, page(Some("victim"), "x", OTHER));
    let subject = shop.0.subjects("victim").remove(0);
    assert_eq!(subject.rank, SenderRank::Server);
    let mut links: Vec<_> = subject
        .identities
        .iter()
        .map(|(it, rank)| (it.kind.name().into_owned(), it.value.as_str(), rank.number()))
        .collect();
    links.sort();
    let expected = [
        ("anonymous".to_owned(), "a", 1),
        ("anonymous".to_owned(), "x", 0),
        ("fbp".to_owned(), "7.8", 1),
        ("ga".to_owned(), "5.6", 1),
        ("user".to_owned(), "victim", 2),
        ("visitor".to_owned(), OWN, 1),
        ("visitor".to_owned(), OTHER, 0),
    ];
    assert_eq!(links, expected);
    shop.0.erase(crate::journal::PersonNameKind::User, "victim");
    assert_eq!((shop.0.count("profiles"), shop.0.count("identities")), (0, 0));
}
