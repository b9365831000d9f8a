//! The parts of alerts without a database: measurements, settings, messages.

use super::*;
use crate::alert::mail::compose;
use crate::alert::message::{AlertMessage, AlertNotice};

#[test]
fn measurements_of_each_kind_say_what_they_count() {
    let now: Timestamp = START.parse().unwrap();
    let measure = |kind, reading: &GatewayReading, windows| {
        condition::measure(&AlertRule::default_of(kind), reading, &windows).unwrap().remove(0)
    };
    let mut reading = reading(now);
    let old = now.checked_sub(SignedDuration::from_secs(120)).unwrap();
    reading.destinations = vec![destination("meta", 60, Some(old))];
    let key = |measure, reason: &str| series::SeriesKey {
        site: "shop".into(),
        destination: "meta".into(),
        measure,
        reason: reason.into(),
    };
    let windows = |sums: &[(series::SeriesMeasure, &str, u64)]| condition::RuleWindows {
        window: series::WindowTotals {
            coverage: 1.0,
            sums: sums.iter().map(|(measure, reason, sum)| (key(*measure, reason), *sum)).collect(),
        },
        ..Default::default()
    };
    use series::SeriesMeasure::{Dead, Delivered, Skipped};
    let rate = measure(AlertKind::DeliveryRate, &reading, windows(&[(Delivered, "", 40)]));
    assert_eq!((rate.value, rate.level), (0.4, ConditionLevel::Breached));
    assert!(rate.words.text.contains("40 of 100 events arrived"), "{:?}", rate.words);
    let few = measure(AlertKind::DeliveryRate, &reading, windows(&[(Delivered, "", 1000)]));
    assert_eq!(few.level, ConditionLevel::Between, "94 % is between the limit and the margin");
    let dead = windows(&[(Dead, "refused", 9), (Dead, "poison", 3)]);
    let dead = measure(AlertKind::DeadLetters, &reading, dead);
    assert_eq!((dead.value, dead.level), (12.0, ConditionLevel::Breached));
    assert_eq!(dead.words.link, "#/dead?site=shop&destination=meta");
    let skips = windows(&[
        (Skipped, "consent_denied", 990),
        (Skipped, "consent_unknown", 5),
        (Delivered, "", 5),
    ]);
    let skips = measure(AlertKind::ConsentSkips, &reading, skips);
    assert_eq!((skips.value, skips.level), (0.995, ConditionLevel::Breached));
    reading.certificates = vec![CertificateReading {
        name: "t.shop.example".into(),
        expires_at: now.checked_add(SignedDuration::from_hours(72)).unwrap(),
    }];
    let certificate = measure(AlertKind::Certificate, &reading, Default::default());
    assert_eq!((certificate.value, certificate.level), (3.0, ConditionLevel::Breached));
    reading.segments = Some(vec![SegmentReading {
        site: "shop".into(),
        segment: "pros".into(),
        due_at: now.checked_sub(SignedDuration::from_hours(2)).ok(),
        last_run_at: None,
    }]);
    let segment = measure(AlertKind::SegmentLate, &reading, Default::default());
    assert_eq!((segment.value, segment.level), (7200.0, ConditionLevel::Breached));
    assert_eq!(segment.words.link, "#/segments/shop/pros");
    reading.segments = None;
    let rule = AlertRule::default_of(AlertKind::SegmentLate);
    assert!(condition::measure(&rule, &reading, &Default::default()).is_none());
}

#[test]
fn settings_have_all_default_rules_and_report_mistakes() {
    let quiet = settings("");
    assert_eq!((quiet.rules.len(), quiet.enabled, quiet.channels.len()), (8, true, 0));
    assert!(quiet.rules.iter().all(|rule| rule.source == RuleSource::Default && rule.enabled));
    let own = settings(RULE);
    let rule = own.rules.iter().find(|rule| rule.name == "backlog-age").unwrap();
    assert_eq!((rule.limit, rule.source, own.rules.len()), (100.0, RuleSource::File, 8));
    assert_eq!(rule.severity, AlertSeverity::Page, "the default's");
    for (text, about) in [
        ("[[rules]]\nname = \"own\"\n", "kind"),
        ("[[rules]]\nname = \"disk\"\nkind = \"certificate\"\n", "kind"),
        ("[[rules]]\nname = \"disk\"\nsite = \"shop\"\n", "site"),
        ("[[rules]]\nname = \"no-traffic\"\ndestination = \"meta\"\n", "destination"),
        ("[[rules]]\nname = \"delivery-rate\"\nlimit = 90\n", "limit"),
        ("[[rules]]\nname = \"disk\"\nchannels = [\"ops\"]\n", "channels"),
        ("[[rules]]\nname = \"disk\"\n[[rules]]\nname = \"disk\"\n", "another rule"),
        ("evaluate_every = \"2m\"\n", "evaluate_every"),
        ("console_url = \"ftp://ops.example\"\n", "console_url"),
        ("[channels.ops]\nkind = \"slack\"\n", "url"),
        (
            "[channels.ops]\nkind = \"slack\"\nurl = \"https://a.example\"\nto = [\"a@b.example\"]\n",
            "to",
        ),
        ("[channels.Ops]\nkind = \"slack\"\nurl = \"https://a.example\"\n", "name"),
        (
            "[channels.ops]\nkind = \"email\"\nhost = \"a.example\"\ntls = \"none\"\nuser = \"u\"\n\
             password = \"p\"\nfrom = \"a@b.example\"\nto = [\"a@b.example\"]\n",
            "tls",
        ),
        (
            "[channels.ops]\nkind = \"email\"\nhost = \"a.example\"\nfrom = \"a@b.example\"\n\
             to = [\"a@b.example\\r\\nBcc: x@y.example\"]\n",
            "to",
        ),
    ] {
        let (_, mistakes) = test_support::read(text, AlertSettings::read);
        assert!(mistakes.iter().any(|it| it.contains(about)), "{text}: {mistakes:?}");
    }
}

fn message(title: &str) -> AlertMessage {
    let at: Timestamp = START.parse().unwrap();
    let alert = AlertOverview {
        id: 7,
        rule: "disk".to_owned(),
        kind: AlertKind::Disk,
        site: None,
        destination: None,
        state: AlertState::Firing,
        severity: AlertSeverity::Page,
        title: title.to_owned(),
        text: "Text.".to_owned(),
        link: "#/alerts".to_owned(),
        since: at,
        resolved_at: None,
        value: 0.0,
        limit: 0.0,
        acknowledged: None,
        note: None,
        notified: Vec::new(),
    };
    let notices = vec![AlertNotice { change: Some(AlertChange::Firing), alert }];
    AlertMessage { id: "n-1".to_owned(), at, notices, console_url: None }
}

#[test]
fn slack_text_and_letters_are_free_of_injection() {
    let url = "https://hooks.example/T/B".parse().unwrap();
    let hostile = "a<https://evil.example|x>&\r\nBcc: x@y.example\u{1b}";
    let request = message(hostile).slack(&url).unwrap();
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("a&lt;https://evil.example|x&gt;&amp;"), "{text}");
    let letter = "[channels.ops]\nkind = \"email\"\nhost = \"a.example\"\nfrom = \"Tagway <a@b.example>\"\n\
        to = [\"c@d.example\"]\n";
    let settings = settings(letter);
    let ChannelKind::Email(server) = &settings.channels[0].kind else { panic!() };
    let letter = compose(server, &message(hostile)).unwrap().formatted();
    let letter = String::from_utf8(letter).unwrap();
    let (head, _) = letter.split_once("\r\n\r\n").unwrap();
    let fields: Vec<&str> = head.split("\r\n").filter(|line| !line.starts_with(' ')).collect();
    let names: Vec<&str> = fields.iter().map(|line| line.split_once(':').unwrap().0).collect();
    assert!(!names.contains(&"Bcc") && names.contains(&"Subject"), "{head}");
    assert!(head.contains("Message-ID: <n-1@b.example>"), "{head}");
}
