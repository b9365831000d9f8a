//! Visitors over several requests.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::test_support::{settings, settings_of};
use super::*;

fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn seen(cookies: &str, after: i64) -> VisitorRequest<'_> {
    VisitorRequest {
        cookies,
        host: "t.shop.example",
        secure: true,
        page_url: None,
        permissions: StoragePermissions { cookies: true, click_ids: true },
        now: noon() + SignedDuration::from_secs(after),
        random: [7; 16],
    }
}

fn meet(settings: &VisitorSettings, seen: &VisitorRequest<'_>) -> RecognisedVisitor {
    recognise(settings, &VendorCookieNames::new(["_ga", "_ga_*", "_fbp"]), seen)
}

/// Returns the browser's cookie jar after a response.
fn jar(recognised: &RecognisedVisitor) -> String {
    let pairs = recognised.set_cookies.iter().map(|field| {
        let field = field.to_str().unwrap();
        field.split_once(';').unwrap().0.to_owned()
    });
    pairs.collect::<Vec<_>>().join("; ")
}

#[test]
fn new_visitor_gets_a_long_lived_cookie_for_the_whole_site() {
    let first = meet(&settings(), &seen("", 0));
    assert_eq!(first.visitor.since, noon());
    assert_eq!(first.session.number, 1);
    assert_eq!(first.session.id, noon().as_second());
    let [field] = first.set_cookies.as_slice() else { panic!("{:?}", first.set_cookies) };
    let field = field.to_str().unwrap();
    assert!(field.starts_with("_tw=1."), "{field}");
    for part in
        ["HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Domain=shop.example", "Max-Age=34560000"]
    {
        assert!(field.split("; ").any(|found| found == part), "{part} in {field}");
    }
    let plain = meet(&settings(), &VisitorRequest { secure: false, ..seen("", 0) });
    assert!(!plain.set_cookies[0].to_str().unwrap().contains("Secure"));
}

#[test]
fn known_visitor_keeps_the_id_and_rarely_gets_a_cookie() {
    let settings = settings();
    let first = meet(&settings, &seen("", 0));
    let cookies = jar(&first);
    let soon = meet(&settings, &VisitorRequest { random: [9; 16], ..seen(&cookies, 30) });
    assert_eq!(soon.visitor, first.visitor);
    assert_eq!(soon.session, first.session);
    assert!(soon.set_cookies.is_empty());
    let later = meet(&settings, &seen(&cookies, 61));
    assert_eq!(later.set_cookies.len(), 1, "the last request is remembered");
}

#[test]
fn visit_ends_after_session_idle() {
    let settings = settings();
    let first = meet(&settings, &seen("", 0));
    let cookies = jar(&first);
    let minute = 60;
    assert_eq!(meet(&settings, &seen(&cookies, 30 * minute)).session, first.session);
    let second = meet(&settings, &seen(&cookies, 30 * minute + 1));
    assert_eq!(second.session.number, 2);
    assert_eq!(second.session.id, noon().as_second() + 30 * minute + 1);
    assert_eq!(second.visitor, first.visitor);
    let back = meet(&settings, &seen(&cookies, -90 * minute));
    assert_eq!(back.session, first.session, "a clock that went back makes no new session");
}

#[test]
fn visit_lasts_as_long_as_requests_keep_coming() {
    let settings = settings();
    let first = meet(&settings, &seen("", 0));
    let mut cookies = jar(&first);
    for minute in (20..=200).step_by(20) {
        let next = meet(&settings, &seen(&cookies, minute * 60));
        assert_eq!(next.session, first.session, "after {minute} minutes");
        cookies = jar(&next);
    }
}

#[test]
fn new_key_keeps_visitors_and_signs_their_cookies_again() {
    let first = meet(&settings(), &seen("", 0));
    let cookies = jar(&first);
    let rotated =
        settings_of("secret = \"fedcba9876543210\"\nprevious_secrets = [\"0123456789abcdef\"]");
    let met = meet(&rotated, &seen(&cookies, 1));
    assert_eq!(met.visitor, first.visitor);
    assert_eq!(met.set_cookies.len(), 1);
    let only_new = settings_of("secret = \"fedcba9876543210\"");
    assert_eq!(meet(&only_new, &seen(&jar(&met), 2)).visitor, first.visitor);
    assert_ne!(
        meet(&only_new, &VisitorRequest { random: [9; 16], ..seen(&cookies, 2) }).visitor,
        first.visitor,
        "the old key is gone"
    );
}

#[test]
fn first_cookie_with_a_valid_signature_counts() {
    let settings = settings();
    let first = meet(&settings, &seen("", 0));
    let cookies = format!("_tw=1.foreign.AAAA.BBBB; {}; _tw=x", jar(&first));
    assert_eq!(meet(&settings, &seen(&cookies, 1)).visitor, first.visitor);
}

#[test]
fn value_signed_for_one_cookie_is_rejected_in_another() {
    let settings = settings();
    let landing = Some("https://shop.example/?gclid=abc");
    let first = meet(&settings, &VisitorRequest { page_url: landing, ..seen("", 0) });
    let swapped = jar(&first).replace("_tw_c=", "_x=").replace("_tw=", "_tw_c=");
    let met = meet(&settings, &VisitorRequest { random: [9; 16], ..seen(&swapped, 1) });
    assert_ne!(met.visitor, first.visitor);
    assert!(met.click_ids.is_empty());
}

#[test]
fn landings_are_remembered() {
    let settings = settings();
    let landing = "https://shop.example/?GCLID=Abc-1&utm_source=news&utm_campaign=Spring%20Sale\
                   &fbclid=bad%20id&x=1#utm_medium=no";
    let first = meet(&settings, &VisitorRequest { page_url: Some(landing), ..seen("", 0) });
    assert_eq!(first.set_cookies.len(), 2);
    let cookies = jar(&first);
    let later = meet(&settings, &seen(&cookies, 30));
    assert!(later.set_cookies.is_empty());
    assert_eq!(later.click_ids["gclid"], AdClickId { value: "Abc-1".to_owned(), at: noon() });
    assert_eq!(later.click_ids.len(), 1, "an id with a space is none");
    let campaign = later.campaign.clone().unwrap();
    assert_eq!(campaign.name.as_deref(), Some("Spring Sale"));
    assert_eq!((campaign.source.as_deref(), campaign.medium), (Some("news"), None));
    let again = meet(&settings, &VisitorRequest { page_url: Some(landing), ..seen(&cookies, 40) });
    assert_eq!(again.click_ids["gclid"].at, noon(), "the same click is no new one");
    let other = Some("https://shop.example/?gclid=Def&utm_medium=cpc");
    let other = meet(&settings, &VisitorRequest { page_url: other, ..seen(&cookies, 50) });
    assert_eq!(other.click_ids["gclid"].value, "Def");
    assert_eq!(other.campaign.unwrap().source, None, "the last campaign replaces the whole one");
    let day = 86_400;
    assert!(meet(&settings, &seen(&cookies, 91 * day)).click_ids.is_empty());
}

#[test]
fn cookies_stay_below_the_size_limit_of_browsers() {
    let settings = settings();
    let long = "x".repeat(512);
    let mut landing = "https://shop.example/?utm_source=".to_owned() + &"é".repeat(128);
    for name in ["gclid", "fbclid", "ttclid", "msclkid", "twclid", "epik", "rdt_cid", "dclid"] {
        landing += &format!("&{name}={long}");
    }
    let met = meet(&settings, &VisitorRequest { page_url: Some(&landing), ..seen("", 0) });
    for field in &met.set_cookies {
        assert!(field.len() <= 4096, "{}", field.len());
    }
    assert!(!met.click_ids.is_empty());
    assert!(met.campaign.is_some());
}

#[test]
fn a_campaign_that_grows_in_its_cookie_is_left_out() {
    let settings = settings();
    // Each control character takes six bytes in JSON.
    let names = ["campaign", "source", "medium", "term", "content", "id"];
    let fields = names.map(|name| format!("utm_{name}={}", "%01".repeat(256)));
    let landing = format!("https://shop.example/?gclid=Abc&{}", fields.join("&"));
    let met = meet(&settings, &VisitorRequest { page_url: Some(&landing), ..seen("", 0) });
    assert_eq!(met.set_cookies.len(), 2);
    for field in &met.set_cookies {
        assert!(field.len() <= 4096, "{}", field.len());
    }
    assert_eq!(met.campaign, None);
    assert!(met.click_ids.contains_key("gclid"));
}

#[test]
fn visitor_without_permission_is_not_remembered() {
    let settings = settings();
    let landing = Some("https://shop.example/?gclid=abc&utm_source=news");
    let first = meet(&settings, &VisitorRequest { page_url: landing, ..seen("", 0) });
    let cookies = jar(&first);
    let leave = StoragePermissions { cookies: false, click_ids: false };
    let refused = meet(
        &settings,
        &VisitorRequest {
            page_url: landing,
            permissions: leave,
            random: [9; 16],
            ..seen(&cookies, 3600)
        },
    );
    assert!(refused.set_cookies.is_empty());
    assert_ne!(refused.visitor.id, first.visitor.id);
    assert!(refused.click_ids.is_empty());
    let leave = StoragePermissions { cookies: true, click_ids: false };
    let without_ads =
        meet(&settings, &VisitorRequest { permissions: leave, ..seen(&cookies, 3600) });
    assert_eq!(without_ads.visitor.id, first.visitor.id);
    assert!(without_ads.click_ids.is_empty());
    assert_eq!(without_ads.campaign, first.campaign);
    let later = meet(&settings, &seen(&jar(&without_ads), 3600));
    assert!(later.click_ids.is_empty(), "the cookie forgot them");
}

#[test]
fn site_without_cookies_writes_none() {
    let settings = settings_of("secret = \"0123456789abcdef\"\ncookies = false");
    let page_url = Some("https://shop.example/?gclid=abc");
    assert!(meet(&settings, &VisitorRequest { page_url, ..seen("", 0) }).set_cookies.is_empty());
}

#[test]
fn vendor_cookies_are_kept_by_name_and_within_bounds() {
    let long = "x".repeat(513);
    let cookies = format!("_ga=GA1.1.1.2; _ga_ABC=GS1.1.3; session=secret; _fbp={long}");
    let met = meet(&settings(), &seen(&cookies, 0));
    let names: Vec<&str> = met.cookies.keys().map(String::as_str).collect();
    assert_eq!(names, ["_ga", "_ga_ABC"]);
}

#[test]
fn cookies_known_by_name_are_seen_among_many() {
    let many: Vec<String> = (0..20).map(|n| format!("_ga_{n}=x")).collect();
    let cookies = format!("{}; _fbp=fb.1.1.1", many.join("; "));
    let met = meet(&settings(), &seen(&cookies, 0));
    assert_eq!(met.cookies.len(), MAX_VENDOR_COOKIES + 1);
    assert_eq!(met.cookies["_fbp"], "fb.1.1.1");
}

proptest! {
    #[test]
    fn changed_cookie_is_never_trusted(place in 0_usize..100, change in 1_u8..128) {
        let settings = settings();
        let first = meet(&settings, &seen("", 0));
        let value = jar(&first).trim_start_matches("_tw=").to_owned();
        let mut bytes = value.clone().into_bytes();
        let place = place % bytes.len();
        bytes[place] ^= change;
        if let Ok(changed) = String::from_utf8(bytes) {
            let read = VisitorCookie::read(&settings, &changed);
            prop_assert!(read.is_none(), "{value} and {changed}");
        }
    }

    #[test]
    fn no_cookie_and_no_landing_panics(cookies in ".{0,200}", landing in ".{0,200}") {
        let settings = settings();
        let met = meet(&settings, &VisitorRequest { page_url: Some(&landing), ..seen(&cookies, 0) });
        prop_assert_eq!(met.session.number, 1);
        let landing = format!("https://x/?gclid={landing}&utm_source={landing}");
        let met = meet(&settings, &VisitorRequest { page_url: Some(&landing), ..seen(&cookies, 0) });
        for field in met.set_cookies {
            prop_assert!(field.to_str().is_ok());
        }
    }
}
