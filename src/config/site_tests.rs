//! Settings of a site, in complete files.

use super::tests::load_text;
use super::*;

#[test]
fn vendor_beacons_are_mounted_at_the_configured_path() {
    let load = |rest: &str| load_text(&format!("[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n{rest}"));
    let settings = load(
        "[sites.vendors.plausible]\nmount = \"/s7\"\nbeacons = \"both\"\nconsent = [\"analytics\"]\n",
    )
    .unwrap();
    let site = &settings.sites[0];
    let mounts = &site.gateway.mounts;
    let mount = mounts.iter().find(|mount| mount.vendor == "plausible").unwrap();
    assert_eq!((mount.path.as_str(), mount.beacons.converts()), ("/s7", true));
    let forward = site.destinations.iter().find(|it| it.vendor == "forward").unwrap();
    assert_eq!(
        (&*forward.name, &forward.filter.consent[..]),
        ("forward-plausible", &["analytics".to_owned()][..])
    );
    assert!(
        load("[sites.vendors.plausible]\nbeacons = \"off\"\n").unwrap().sites[0]
            .gateway
            .mounts
            .iter()
            .all(|mount| mount.vendor != "plausible" || !mount.beacons.converts())
    );
    for (rest, mistake) in [
        ("[sites.vendors.plausibel]\nmount = \"/x\"", "plausible"),
        ("[sites.vendors.plausible]\nmount = \"/e\"", "the gateway's own paths"),
        ("[sites.vendors.plausible]\nmont = \"/x\"", "mount"),
        ("[sites.privacy]\nopt_in_countries = [\"DE\"]", "needs a place database"),
        ("[geo]\ndatabase = \"/nowhere.mmdb\"", "cannot be read"),
    ] {
        let found = load(rest).unwrap_err().join("\n");
        assert!(found.contains(mistake), "{rest}: {found}");
    }
}

#[test]
fn obstacle_to_an_in_page_library_is_a_mistake() {
    let site = |more: &str| {
        format!(
            "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n{more}\n[[sites.destinations]]\nname = \"c\"\n\
             vendor = \"meta\"\nmode = \"client\"\nsettings = {{ pixel_id = \"1\" }}\n"
        )
    };
    let twice = "[[sites.destinations]]\nname = \"d\"\nvendor = \"meta\"\nmode = \"client\"\n\
                 settings = { pixel_id = \"2\" }\n";
    for (text, mistake) in [
        (site("[sites.vendors.meta]\nscripts = \"shim\""), "needs scripts = \"proxy\""),
        (site("[sites.vendors.meta]\nscripts = \"off\""), "needs scripts = \"proxy\""),
        (site("[sites.sdk]\nshims = [\"meta\"]"), "sdk.shims must not name the vendor"),
        (site("") + twice, "another destination already runs"),
    ] {
        let mistakes = load_text(&text).unwrap_err();
        assert!(mistakes.iter().any(|it| it.contains(mistake)), "{mistake}: {mistakes:?}");
    }
    let own = site("[sites.vendors.meta]\nscripts = \"shim\"")
        .replace("mode =", "client_script = \"https://cdn.example/l.js\"\nmode =");
    let settings = load_text(&own).unwrap();
    let in_page = settings.sites[0].in_page();
    assert_eq!(in_page[0].1.src, "https://cdn.example/l.js");
    assert_eq!(
        load_text(&site("")).unwrap().sites[0].in_page()[0].1.src,
        "/meta/en_US/fbevents.js"
    );
}

#[test]
fn segment_mistakes_have_a_line_and_show_no_secret() {
    let head = "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n[[sites.destinations]]\nname = \"meta\"\n\
                vendor = \"console\"\n[[sites.segments]]\nname = \"s\"\n";
    let good = "every = \"24h\"\nwhere = { trait = \"plan\", \"=\" = \"${GIVEN}\" }\n\
                [[sites.segments.sync]]\ndestination = \"meta\"\n";
    let settings = load_text(&format!("{head}{good}")).unwrap();
    let segment = &settings.sites[0].segments[0];
    assert_eq!((&*segment.syncs[0].destination, &*segment.syncs[0].audience), ("meta", "s"));
    let bad = "cron = \"0 3 * *\"\nwhere = { all = [\n\
               { trait = \"plan\", in = [\"${GIVEN}\", []] },\n{ seen = \"${GIVEN}\" },\n\
               { trait = \"plan\", exist = \"${GIVEN}\" },\n] }\n\
               [[sites.segments.sync]]\ndestination = \"mta\"\n";
    let mistakes = load_text(&format!("{head}{bad}")).unwrap_err();
    let expected = [
        "9: sites[0].segments[0].cron: \"0 3 * *\" is not a cron schedule such as \"0 3 * * *\": ",
        "11: sites[0].segments[0].where.all[0].in[1]: expected a text, a number, true or false",
        "12: sites[0].segments[0].where.all[1].seen: \"${GIVEN}\" is not one of first, last",
        "13: sites[0].segments[0].where.all[2].exist: unknown key; did you mean \"exists\"?",
        "16: sites[0].segments[0].sync[0].destination: there is no destination \"mta\"; did you mean",
    ];
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(&format!("tagway.toml:{expected}")), "{mistake}\n{expected}");
    }
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
}

#[test]
fn activity_is_stored_if_a_rule_or_destination_needs_it() {
    let keeps = |more: &str| {
        let text = format!("[[sites]]\nname = \"s\"\nhosts = [\"*\"]\nwrite_key = \"k\"\n{more}");
        load_text(&text).unwrap().sites[0].profiles.activity
    };
    let segment =
        |rule: &str| format!("[[sites.segments]]\nname = \"g\"\nevery = \"24h\"\nwhere = {rule}\n");
    assert!(!keeps(""));
    assert!(keeps("[sites.profiles]\nactivity = true"));
    assert!(!keeps(&segment("{ trait = \"plan\", \"=\" = \"pro\" }")));
    assert!(keeps(&segment("{ event = \"Order Completed\", within = \"7d\" }")));
}

#[test]
fn postgres_url_is_required_and_never_shown() {
    let site = "[[sites]]\nname = \"s\"\nhosts = [\"*\"]\nwrite_key = \"k\"\n";
    let of = |postgres: &str| {
        let store = "[profiles]\nstore = \"postgres\"";
        load_text(&format!("{store}\n[postgres]\n{postgres}\n{site}"))
            .map(|settings| settings.postgres)
    };
    let good = of("url = \"postgresql://me:${GIVEN}@db.example/x?sslmode=require\"").unwrap();
    assert!(!format!("{good:?}").contains("hunter2"));
    for (bad, what) in [
        ("", "must be set"),
        ("url = \"postgresql://me:${GIVEN}@db.example:port/x\"", "is not a URL of PostgreSQL"),
        ("url = \"mysql://me:${GIVEN}@db.example/x\"", "must be a URL such as"),
        ("url = \"postgresql://db/x\"\nschema = \"x; drop\"", "lower-case letters"),
    ] {
        let mistakes = of(bad).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].contains(what), "{mistakes:?}");
        assert!(!mistakes[0].contains("hunter2"), "{mistakes:?}");
    }
    // Without PostgreSQL backends no URL is required.
    assert_eq!(load_text(site).unwrap().postgres.url, None);
}

#[test]
fn destination_receives_its_own_vendors_tags_only() {
    let destination =
        |name: &str, more: &str| format!("[[sites.destinations]]\nname = \"{name}\"\n{more}\n");
    let ga4 = "vendor = \"ga4\"\nsettings = { measurement_id = \"G-1\", api_secret = \"s\" }";
    let meta = "vendor = \"meta\"\nsettings = { pixel_id = \"1\", access_token = \"t\" }";
    let console = "vendor = \"console\"";
    let tags_of = |more: &str| -> Vec<Vec<&str>> {
        let text = format!("[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n{more}")
            + &destination("g", ga4)
            + &destination("m", &format!("{meta}\n"))
            + &destination("c", console)
            + &destination("n", &format!("tags = []\n{console}"))
            + &destination("x", &format!("tags = [\"*\", \"!meta\"]\n{ga4}"));
        let settings = load_text(&text).unwrap();
        let hears = |it: &std::sync::Arc<tagway_delivery::DestinationSettings>| {
            let tags = it.filter.tags.clone();
            let hears = |tag: &&str| tags.as_ref().is_none_or(|tags| tags.matches(tag));
            ["ga4", "meta"].into_iter().filter(hears).collect()
        };
        settings.sites[0].destinations.iter().map(hears).collect()
    };
    let (all, none) = (vec!["ga4", "meta"], vec![]);
    let stated = [all.clone(), none.clone(), vec!["ga4"]];
    assert_eq!(tags_of(""), [&[all.clone(), all.clone()], &stated[..]].concat());
    let own = [&[vec!["ga4"], vec!["meta"]], &stated[..]].concat();
    assert_eq!(tags_of("[sites.sdk]\nshims = [\"ga4\", \"meta\"]\n"), own);
    let tables = "[sites.vendors.ga4]\n[sites.vendors.meta]\nmount = \"/m\"\n";
    assert_eq!(tags_of(tables), own);
    let off = "[sites.vendors.ga4]\nbeacons = \"off\"\nscripts = \"off\"\n";
    assert_eq!(tags_of(off), [&[all.clone(), all], &stated[..]].concat());
    let mistakes = load_text(&format!(
        "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n{}",
        destination("c", &format!("tags = [\"gaa4\"]\n{console}"))
    ));
    assert!(mistakes.unwrap_err()[0].contains("ga4"));
}

#[test]
fn destinations_inherit_the_sites_locale() {
    let of = |locale: &str, own: &str| {
        load_text(&format!(
            "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n{locale}\n[[sites.destinations]]\nname = \"c\"\n\
             vendor = \"ga4\"\n[sites.destinations.settings]\nmeasurement_id = \"G-1\"\n\
             api_secret = \"hush\"\n{own}\n[[sites.destinations]]\nname = \"d\"\nvendor = \"console\"\n"
        ))
    };
    let sign = |settings: TagwaySettings| {
        let prices = format!("{:?}", settings.sites[0].destinations[0].prices);
        ["Comma", "Point"].into_iter().find(|sign| prices.contains(sign))
    };
    assert_eq!(sign(of("", "").unwrap()), None);
    assert_eq!(sign(of("locale = \"de\"", "").unwrap()), Some("Comma"));
    assert_eq!(sign(of("locale = \"de\"", "locale = \"en\"").unwrap()), Some("Point"));
    let mistakes = of("locale = \"german\"", "").unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("locale: \"german\" is no known language"), "{mistakes:?}");
}
