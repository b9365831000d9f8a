//! Complete files, as users write them.

use super::*;
use tagway_delivery::DestinationMode;

pub(super) fn load_text(text: &str) -> Result<TagwaySettings, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tagway.toml");
    std::fs::write(&file, text).unwrap();
    let variables = [("GIVEN".to_owned(), "hunter2-hunter2-hunter2".to_owned())].into();
    let origin = ConfigSource { file: Some(file), variables, ..ConfigSource::default() };
    let folder = format!("{}/", dir.path().display());
    origin.load().map_err(|mistakes| {
        mistakes.iter().map(|mistake| mistake.to_string().replace(&folder, "")).collect()
    })
}

#[test]
fn embedded_default_is_complete_and_fully_read() {
    let settings =
        ConfigSource::default().load().unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    assert_eq!(settings.sites.len(), 1);
    assert_eq!(settings.sites[0].destinations[0].vendor, "console");
    assert_eq!(settings.admin.address.to_string(), "127.0.0.1:9090");
}

#[test]
fn user_file_overrides_only_its_own_settings() {
    let settings = load_text(
        "data_dir = \"/var/lib/${GIVEN}\"\n[journal]\nretain = \"1d\"\n[[sites]]\nname = \"a\"\n\
         hosts = [\"a.example\"]\n[[sites]]\nname = \"b\"\n[[sites.destinations]]\nname = \"c\"\n\
         vendor = \"ga4\"\nmode = \"client\"\nsettings = { measurement_id = \"G-1\" }\n\
         [site_defaults]\nhosts = [\"*\"]\n",
    )
    .unwrap();
    assert_eq!(settings.data_dir, Path::new("/var/lib/hunter2-hunter2-hunter2"));
    assert_eq!(settings.journal.retain, std::time::Duration::from_secs(86_400));
    assert_eq!(settings.journal.max_bytes, 20 << 30);
    let names: Vec<&str> = settings.sites.iter().map(|site| &*site.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(settings.sites[1].destinations[0].mode, DestinationMode::Client);
    assert!(settings.sites[0].destinations.is_empty());
}

#[test]
fn dedupe_window_beyond_retention_is_a_mistake() {
    let site = "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n";
    let text = |rest: &str| format!("[journal]\nretain = \"1h\"\n{rest}\n{site}");
    let mistakes = load_text(&text("")).unwrap_err();
    assert_eq!(
        mistakes,
        [
            "tagway.toml:2: journal.retain: must be at least dedupe_window: raise it, or shorten dedupe_window"
        ]
    );
    load_text(&text("dedupe_window = \"1h\"")).unwrap();
}

#[test]
fn login_key_must_be_long_and_differ_from_other_secrets() {
    let site = "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\nwrite_key = \"the-write-key-of-the-shop\"\n\
                server_token = \"the-server-token-of-it\"\nsecret = \"the-secret-of-the-shop\"\n\
                previous_secrets = [\"the-secret-of-before\"]\n";
    let of = |rest: &str| load_text(&format!("{site}{rest}\n"));
    let settings = of("login_key = \"the-login-key-of-the-shop\"").unwrap();
    let login = &settings.sites[0].visitor.login;
    assert!(login.contains("the-login-key-of-the-shop"));
    assert!(!format!("{:?}", settings.sites[0]).contains("the-login-key-of-the-shop"));
    for key in [
        "the-write-key-of-the-shop",
        "the-server-token-of-it",
        "the-secret-of-the-shop",
        "the-secret-of-before",
    ] {
        for rest in [
            format!("login_key = \"{key}\""),
            format!("login_key = \"some-other-login-key\"\nprevious_login_keys = [\"{key}\"]"),
        ] {
            let mistakes = of(&rest).unwrap_err();
            assert!(mistakes[0].contains("login_key: must differ from"), "{mistakes:?}");
            assert!(!mistakes[0].contains(key), "{mistakes:?}");
        }
    }
    for rest in ["login_key = \"short\"", "previous_login_keys = [\"short\"]", "login_key = \"\""] {
        assert!(of(rest).is_err(), "{rest}");
    }
}

#[test]
fn origin_must_be_scheme_and_host_only() {
    let of = |origin: &str| {
        let site = format!("[[sites]]\nname = \"a\"\nhosts = [\"*\"]\norigin = \"{origin}\"\n");
        load_text(&site).map(|settings| settings.sites[0].gateway.origin.is_some())
    };
    for good in ["https://b.example", "http://b.example:8080", "http://[::1]:81"] {
        assert_eq!(of(good), Ok(true), "{good}");
    }
    for bad in ["https://b.example/", "https://u:p@b.example", "b.example", "ftp://b.example", ""] {
        let mistakes = of(bad).unwrap_err();
        let is_reported = mistakes[0].starts_with("tagway.toml:4: sites[0].origin: ")
            && mistakes[0].contains("must be http://");
        assert!(mistakes.len() == 1 && is_reported, "{bad}: {mistakes:?}");
    }
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once() {
    let mistakes = load_text(
        r#"data_dirr = "x"
data_dir = "${UNSET}"
[journal]
durability = "dsk"
retain = 7
[log]
level = "info,=="
access_sample = 2
[listen]
admin = "localhost"
[[sites]]
name = "shop"
[[sites.destinations]]
name = "d"
vendor = "consol"
mode = "${GIVEN}"
[sites.destinations.settings]
key = "${GIVEN}"
[[sites.destinations]]
name = "d"
vendor = "console"
[[sites.destinations]]
vendor = "console"
[sites.destinations.settings]
token = "abc"
[[sites]]
name = "shop"
hosts = ["b.example"]
[[sites]]
name = "Shop 2"
hosts = ["c.example"]
[site_defaults]
hosts = ["*"]
"#,
    )
    .unwrap_err();
    let expected = [
        "tagway.toml:1: data_dirr: unknown setting; did you mean \"data_dir\"?",
        "tagway.toml:2: data_dir: the environment variable UNSET is not set",
        "tagway.toml:4: journal.durability: \"dsk\" is not one of disk, os; did you mean \"disk\"?",
        "tagway.toml:5: journal.retain: expected a duration such as \"30s\", \"5m\" or \"7d\", \
         found the integer 7",
        "tagway.toml:7: log.level: \"info,==\" is not a level (off, error, warn, info, debug, trace)",
        "tagway.toml:8: log.access_sample: 2 is not between 0 and 1",
        "tagway.toml:10: listen.admin: \"localhost\" is not an IP address with a port",
        "tagway.toml:15: sites[0].destinations[0].vendor: there is no vendor \"consol\"; \
         did you mean \"console\"?",
        "tagway.toml:16: sites[0].destinations[0].mode: \"${GIVEN}\" is not one of server, client, \
         both",
        "tagway.toml:20: sites[0].destinations[1].name: another destination has the same name",
        "tagway.toml:22: sites[0].destinations[2].name: is required",
        "tagway.toml:25: sites[0].destinations[2].settings.token: unknown setting",
        "tagway.toml:27: sites[1].name: another site has the same name",
        "tagway.toml:30: sites[2].name: must be 1 to 64 characters of a-z, 0-9, \"_\" and \"-\"",
    ];
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake} is not {expected}");
    }
}

#[test]
fn syntax_error_has_its_line_and_hides_no_other_mistake() {
    let text = "[journal]\nretain = = 1\n[log]\nformat = \"xml\"\n[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n";
    let mistakes = load_text(text).unwrap_err();
    assert!(mistakes[0].starts_with("tagway.toml:2: extra `=`"), "{mistakes:?}");
    assert!(!mistakes.iter().any(|mistake| mistake.contains("retain")), "{mistakes:?}");
    let format = "tagway.toml:4: log.format: \"xml\" is not one of text, json";
    assert!(mistakes.iter().any(|mistake| mistake == format), "{mistakes:?}");
}

#[test]
fn missing_file_is_a_mistake_only_if_named() {
    let dir = tempfile::tempdir().unwrap();
    let named = ConfigSource::new(Some(dir.path().join("no.toml")), dir.path(), BTreeMap::new());
    let mistakes = named.load().unwrap_err();
    assert!(mistakes[0].message.starts_with("cannot be read: "), "{mistakes:?}");
    let unnamed = ConfigSource::new(None, dir.path(), BTreeMap::new());
    assert_eq!(unnamed.file, None);
    std::fs::create_dir(dir.path().join("config")).unwrap();
    let file = dir.path().join("config/tagway.toml");
    let text = "data_dir = \"elsewhere\"\n[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n";
    std::fs::write(&file, text).unwrap();
    let found = ConfigSource::new(None, dir.path(), BTreeMap::new());
    assert_eq!(found.file, Some(file));
    let data_dir = dir.path().join("config/elsewhere");
    assert_eq!(found.load().unwrap().data_dir, data_dir, "relative to the file");
}

#[test]
fn source_is_the_callers_file_then_the_variables_then_a_default_path() {
    let dir = tempfile::tempdir().unwrap();
    let variables: BTreeMap<String, String> =
        [(FILE_VARIABLE.to_owned(), "/srv/own.toml".to_owned())].into();
    let none = BTreeMap::new();
    let embedded = ConfigSource::new(None, dir.path(), none.clone());
    assert!(embedded.announcement().unwrap().contains("the embedded default"));
    std::fs::create_dir(dir.path().join("config")).unwrap();
    std::fs::write(dir.path().join("config/tagway.toml"), "").unwrap();
    let file = dir.path().join("tagway.toml");
    std::fs::write(&file, "").unwrap();
    let found = ConfigSource::new(None, dir.path(), none);
    assert_eq!(found.file.as_deref(), Some(file.as_path()), "before the one in config/");
    let announcement = found.announcement().unwrap();
    assert!(announcement.contains(&file.display().to_string()), "{announcement}");
    let variable = ConfigSource::new(None, dir.path(), variables.clone());
    assert_eq!(variable.file.as_deref(), Some(Path::new("/srv/own.toml")));
    assert!(variable.announcement().unwrap().contains("from TAGWAY_CONFIG"));
    let named = ConfigSource::new(Some("x.toml".into()), dir.path(), variables);
    assert_eq!((named.file.as_deref(), named.announcement()), (Some(Path::new("x.toml")), None));
}

#[test]
fn listeners_with_one_address_are_a_mistake_of_the_user_file() {
    let mistakes = |listen: &str| {
        let site = "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n";
        load_text(&format!("[listen]\n{listen}\n{site}")).err().unwrap_or_default()
    };
    for (listen, expected) in [
        (
            "http = \"127.0.0.1:9090\"",
            "tagway.toml:2: listen.http: shares the address of listen.admin",
        ),
        (
            "admin = \"127.0.0.1:8080\"",
            "tagway.toml:2: listen.admin: shares the address of listen.http",
        ),
        ("http = \"0.0.0.0:1\"\nadmin = \"127.0.0.1:1\"", "listen.admin: shares"),
        ("http = \"[::]:1\"\nadmin = \"127.0.0.1:1\"", "listen.admin: shares"),
    ] {
        let mistakes = mistakes(listen);
        assert_eq!(mistakes.len(), 1, "{listen}: {mistakes:?}");
        assert!(mistakes[0].contains(expected), "{mistakes:?}");
    }
    for listen in [
        "http = \"127.0.0.1:1\"\nadmin = \"127.0.0.2:1\"",
        "http = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"",
        "http = \"0.0.0.0:1\"\nadmin = \"[::1]:1\"",
    ] {
        assert_eq!(mistakes(listen), [""; 0], "{listen}");
    }
}

#[test]
fn common_slips_are_one_mistake_each_with_the_cure() {
    let site = "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n";
    let destination = "name = \"d\"\nvendor = \"console\"\n";
    let segment = "[[sites.segments]]\nname = \"s\"\nevery = \"24h\"\nwhere = { trait = \"x\" }\n\
                   [[sites.segments.sync]]\ndestination = \"d\"\n";
    for (text, expected) in [
        (
            format!("{site}[sites.destinations]\n{destination}"),
            "write [[sites.destinations]] for each",
        ),
        (format!("{site}[sites.destinations]\n{destination}{segment}"), "[[sites.destinations]]"),
        (
            format!(
                "{site}[sites.destinations]\n{destination}[sites.destinations]\n{destination}{segment}"
            ),
            "tagway.toml:7: [sites.destinations] is there already, in line 4: write [[sites.destinations]]",
        ),
        (format!("[sites.sdk]\nalias = true\n{site}"), "[[sites]] follows [sites.sdk] of line 1"),
        (
            format!(
                "{site}[[sites.destinations]]\nname = \"g\"\nvendor = \"ga4\"\n\
                measurement_id = \"G-1\"\n[sites.destinations.settings]\napi_secret = \"0123456789\"\n"
            ),
            "measurement_id: unknown setting; it belongs in [sites.destinations.settings]",
        ),
        (
            format!("{site}[[sites.destinations]]\n{destination}write_key = \"k\"\n"),
            "write_key: unknown setting; it belongs in [[sites]], before the tables in it",
        ),
        (format!("{site}[log]\ndata_dir = \"x\"\n"), "it belongs at the top of the file"),
        ("[sites]\nname = \"a\"\nhosts = [\"*\"]\n".to_owned(), "write [[sites]] for each"),
        (format!("[[log]]\nlevel = \"info\"\n{site}"), "write [log] in place of [[log]]"),
        (
            format!("{site}[[sites.destinations]]\nname = \"d\"\nvendor = \"facebook\"\n{segment}"),
            "there is no vendor \"facebook\"; did you mean \"meta\"? Valid names: ga4, meta,",
        ),
        (format!("{site}[sites.vendors.facebook]\nmount = \"/f\"\n"), "did you mean \"meta\"?"),
        (format!("{site}origins = [\"shop.example\"]\n"), "mean \"https://shop.example\"?"),
        (format!("{site}origin = \"shop.example\"\n"), "mean \"https://shop.example\"?"),
        (
            "[[sites]]\nname = \"a\"\nhosts = [\"https://shop.example/\"]\n".to_owned(),
            "did you mean \"shop.example\"?",
        ),
        (format!("[listen]\nhttp = \":8080\"\n{site}"), "did you mean \"0.0.0.0:8080\"?"),
        (format!("[log]\nlevel = \"verbose\"\n{site}"), "off, error, warn, info, debug, trace"),
    ] {
        let mistakes = load_text(&text).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{text}\n{mistakes:#?}");
        assert!(mistakes[0].contains(expected), "{expected} is not in {mistakes:?}");
    }
}

#[test]
fn admin_endpoint_needs_no_secrets() {
    let origin = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tagway.toml");
        std::fs::write(&file, text).unwrap();
        ConfigSource { file: Some(file), ..ConfigSource::default() }.admin_endpoint()
    };
    let text = "data_dir = \"/d\"\n[listen]\nadmin = \"127.0.0.1:1\"\nhttp = \"x\"\n[[sites]]\n\
                secret = \"${UNSET}\"\n";
    let found = origin(text);
    assert_eq!(
        found,
        Ok(AdminEndpoint {
            data_dir: "/d".into(),
            admin: "127.0.0.1:1".parse().unwrap(),
            certificates: Vec::new(),
        })
    );
}

#[test]
fn settings_print_no_secret() {
    let settings = load_text(
        "[[sites]]\nname = \"a\"\nsecret = \"${GIVEN}\"\n[[sites.destinations]]\nname = \"c\"\n\
         vendor = \"console\"\n[site_defaults]\nhosts = [\"*\"]\n",
    )
    .unwrap();
    let shown = format!("{settings:?}");
    assert!(shown.contains("console") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn file_without_sites_is_a_mistake() {
    for text in ["", "# half a fi", "[listen]\nhttp = \"127.0.0.1:1\"\n"] {
        let mistakes = load_text(text).unwrap_err();
        assert_eq!(mistakes, ["tagway.toml:1: sites: at least one [[sites]] table is required"]);
    }
}

#[test]
fn mistakes_never_show_expanded_values() {
    let mistakes = load_text(
        "[[sites]]\nname = \"${GIVEN}${GIVEN}${GIVEN}\"\nhosts = [\"a.example\", \"${GIVEN}/\"]\n\
         origins = [\"https://${GIVEN}/\", \"https://b.example/\"]\n\
         [[sites]]\nname = \"b\"\nhosts = [\"A.example\"]\n[log]\nlevel = \"==${GIVEN}\"\n\
         [[tls.certificates]]\ncert = \"-----BEGIN CERTIFICATE-----\\n${GIVEN}\"\nkey = \"k\"\n",
    )
    .unwrap_err();
    let shown = mistakes.join("\n");
    assert!(!shown.contains("hunter2"), "{shown}");
    for expected in [
        "tagway.toml:3: sites[0].hosts[1]: \"${GIVEN}/\" is not a host name",
        "tagway.toml:4: sites[0].origins[0]: \"https://${GIVEN}/\" is not an origin",
        "\"https://b.example/\" is not an origin; did you mean \"https://b.example\"?",
        "tagway.toml:7: sites[1].hosts[0]: \"A.example\" is already a host of another site",
        "tagway.toml:9: log.level: \"==${GIVEN}\" is not a level",
        "tls.certificates[0].cert: must be the path of a file, not the file's content",
    ] {
        assert!(shown.contains(expected), "{expected} is not in\n{shown}");
    }
}

#[test]
fn unexpandable_value_is_one_mistake() {
    let mistakes = load_text(
        "[[sites]]\nname = \"${UNSET}\"\nhosts = [\"${UNSET}\"]\ncookie_name = \"${UNSET}\"\n\
         session_idle = \"${UNSET}\"\n",
    );
    let unset =
        |place: &str| format!("tagway.toml:{place}: the environment variable UNSET is not set");
    let expected = [
        "2: sites[0].name",
        "3: sites[0].hosts[0]",
        "4: sites[0].cookie_name",
        "5: sites[0].session_idle",
    ];
    assert_eq!(mistakes.unwrap_err(), expected.map(unset));
}

#[test]
fn unusable_values_are_mistakes() {
    for (line, expected) in [
        ("hosts = []", "hosts: must name at least one host"),
        ("hosts = [\"*.shop.example\"]", "hosts[0]: \"*.shop.example\" is not a host name"),
        ("hosts = [\"shop.example.\"]", "did you mean \"shop.example\"?"),
        ("hosts = [\"b\u{fc}cher.example\"]", "did you mean \"xn--bcher-kva.example\"?"),
        ("cookie_max_age = \"0s\"", "cookie_max_age: must not be zero"),
        ("session_idle = \"0s\"", "session_idle: must not be zero"),
        ("[limits]\nbody_time = \"0s\"", "limits.body_time: must not be zero"),
        ("[destination_defaults]\nbogus = 1", "destination_defaults.bogus: unknown setting"),
        ("[destination_defaults]\nmode = \"sever\"", "did you mean \"server\"?"),
        ("[[sites]]\nname = \"b\"", "\"*\" is already a host of another site"),
    ] {
        let hosts = if line.starts_with("hosts") { "" } else { "hosts = [\"*\"]\n" };
        let text =
            format!("[site_defaults]\nhosts = [\"*\"]\n[[sites]]\nname = \"a\"\n{hosts}{line}\n");
        let mistakes = load_text(&text).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains(expected), "{expected} is not in {mistakes:?}");
    }
}
