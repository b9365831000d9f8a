//! Layers, mistakes and their messages, from the user's point of view.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    ConfigEnvironment, ConfigError, ConfigErrorReport, ConfigFile, Setting, SettingsSection,
};

fn environment() -> ConfigEnvironment {
    let variables =
        [("TOKEN".to_owned(), "hunter2".to_owned()), ("NONE".to_owned(), String::new())];
    ConfigEnvironment {
        variables: variables.into(),
        base: PathBuf::new(),
        ..ConfigEnvironment::default()
    }
}

/// Reads the texts, the most specific first, and returns the value and the mistakes as lines.
fn read<T>(texts: &[&str], read: impl FnOnce(&mut SettingsSection<'_>) -> T) -> (T, Vec<String>) {
    let (value, mistakes, _) = read_with_warnings(texts, read);
    (value, mistakes)
}

/// Reads the texts as [`read`] does, and also returns the warnings as lines.
pub(super) fn read_with_warnings<T>(
    texts: &[&str],
    read: impl FnOnce(&mut SettingsSection<'_>) -> T,
) -> (T, Vec<String>, Vec<String>) {
    let lines = |found: Vec<ConfigError>| found.iter().map(ToString::to_string).collect();
    let report = ConfigErrorReport::default();
    let environment = environment();
    let source = |(index, text): (usize, &&str)| ConfigFile {
        name: ["user", "default"][index].to_owned(),
        text: (*text).to_owned(),
    };
    let sources: Vec<_> = texts.iter().enumerate().map(source).collect();
    let tables: Vec<_> = sources.iter().map(|source| source.parse(&report)).collect();
    let layers = sources.iter().zip(&tables).collect();
    let mut root = SettingsSection::root(layers, &environment, &report);
    let value = read(&mut root);
    drop(root);
    let warnings = lines(report.warnings());
    (value, lines(report.into_errors()), warnings)
}

#[test]
fn most_specific_layer_wins() {
    let (values, mistakes) = read(&["[a]\nx = 1\n", "[a]\nx = 2\ny = 3\n"], |root| {
        let mut a = root.section("a");
        (a.integer("x"), a.integer("y"))
    });
    assert_eq!(values, (1, 3));
    assert!(mistakes.is_empty(), "{mistakes:?}");
}

#[test]
fn list_replaces_the_lower_one_and_its_items_inherit_defaults() {
    let user = "[[sites]]\nname = \"a\"\n[[sites]]\nname = \"b\"\n[sites.limits]\nx = 5\n";
    let default = "[site_defaults]\nmode = \"m\"\n[site_defaults.limits]\nx = 1\ny = 2\n\
                   [[sites]]\nname = \"z\"\nunread = 1\n";
    let (sites, mistakes) = read(&[user, default], |root| {
        let sites = root.sections("sites", Some("site_defaults"));
        let read = |mut site: SettingsSection<'_>| {
            let mut limits = site.section("limits");
            let limits = (limits.integer("x"), limits.integer("y"));
            (site.string("name"), site.string("mode"), limits)
        };
        sites.into_iter().map(read).collect::<Vec<_>>()
    });
    let (m, a, b) = ("m".to_owned(), "a".to_owned(), "b".to_owned());
    assert_eq!(sites, [(a, m.clone(), (1, 2)), (b, m, (5, 2))]);
    assert!(mistakes.is_empty(), "{mistakes:?}");
}

#[test]
fn a_mistake_in_defaults_is_reported_once_and_by_its_own_path() {
    let text = "[site_defaults]\nmoed = 1\nsize = \"big\"\n[[sites]]\n[[sites]]\n";
    let ((), mistakes) = read(&[text], |root| {
        for mut site in root.sections("sites", Some("site_defaults")) {
            site.opt_string("mode");
            site.opt_size("size");
        }
    });
    assert_eq!(
        mistakes,
        [
            "user:2: site_defaults.moed: unknown setting; did you mean \"mode\"?",
            "user:3: site_defaults.size: \"big\" is not a size such as \"64KiB\" or \"20GiB\"",
        ]
    );
}

#[test]
fn missing_key_of_an_absent_table_is_reported_at_the_table_around_it() {
    let text = "x = 1\n\n[[sites]]\nname = \"a\"\n";
    let ((), mistakes) = read(&[text], |root| {
        root.integer::<u8>("x");
        for mut site in root.sections("sites", None) {
            site.string("name");
            site.section("settings").section("deep").secret("api_secret");
        }
    });
    assert_eq!(mistakes, ["user:3: sites[0].settings.deep.api_secret: is required"]);
}

#[test]
fn wrong_type_is_reported_with_the_expected_and_found_type() {
    let text = "s = 1\nb = \"yes\"\ni = 1.5\nn = true\nd = 30\nz = []\nc = 2\nl = \"x\"\nm = [1]\n\
                t = 3\nu = [3]\nhuge = 99999999999999999999\n";
    let ((), mistakes) = read(&[text], |root| {
        root.string("s");
        root.boolean("b");
        root.integer::<u32>("i");
        root.number("n");
        root.duration("d");
        root.size("z");
        root.choice("c", &[("a", 1), ("b", 2)]);
        root.strings("l");
        root.strings("m");
        root.section("t");
        root.sections("u", None);
        root.integer::<i64>("huge");
    });
    assert_eq!(
        mistakes,
        [
            "user:1: s: expected a string, found the integer",
            "user:2: b: expected true or false, found the string \"yes\"",
            "user:3: i: expected a whole number that fits 64 bits, found the float 1.5",
            "user:4: n: expected a number, found the boolean true",
            "user:5: d: expected a duration such as \"30s\", \"5m\" or \"7d\", found the integer 30",
            "user:6: z: expected a size such as \"64KiB\" or \"20GiB\", found the array",
            "user:7: c: expected a string, found the integer",
            "user:8: l: expected a list of strings, found the string \"x\"",
            "user:9: m[0]: expected a string, found the integer",
            "user:10: t: expected a table, found the integer 3",
            "user:11: u[0]: expected a table, found the integer 3",
            "user:12: huge: expected a whole number that fits 64 bits, found the integer \
         99999999999999999999",
        ]
    );
}

#[test]
fn number_out_of_range_is_a_mistake() {
    let text = "a = 0x10\nb = 1_000\nc = -1\nd = 70000\ne = 2\nf = 1.5\ng = nan\nh = 1\n";
    const SETTINGS: &[Setting] = &[
        Setting::integer("a", 0, 255),
        Setting::integer("b", 0, 2000),
        Setting::integer("c", 0, 9),
        Setting::integer("d", 0, 65_535),
        Setting::integer("e", 3, 9),
        Setting::number("f", 0.0, 1.0),
        Setting::number("g", 0.0, 1.0),
        Setting::number("h", 0.0, 1.0),
    ];
    let (values, mistakes) = read(&[text], |root| {
        root.describe(SETTINGS);
        let good = (root.integer::<u8>("a"), root.integer::<u16>("b"));
        root.integer::<u32>("c");
        root.integer::<u16>("d");
        root.integer::<i32>("e");
        root.number("f");
        root.number("g");
        (good, root.number("h"))
    });
    assert_eq!(values, ((16, 1000), 1.0));
    assert_eq!(
        mistakes,
        [
            "user:3: c: -1 is not between 0 and 9",
            "user:4: d: 70000 is not between 0 and 65535",
            "user:5: e: 2 is not between 3 and 9",
            "user:6: f: 1.5 is not between 0 and 1",
            "user:7: g: NaN is not between 0 and 1",
        ]
    );
}

#[test]
fn described_default_is_the_value_of_a_key_that_is_not_set() {
    const SETTINGS: &[Setting] = &[
        Setting::boolean("on").default("true"),
        Setting::integer("count", 1, 9_000).default("2_000"),
        Setting::number("share", 0.0, 1.0).default("0.5"),
        Setting::positive_duration("time").default("1m"),
        Setting::size("bytes").default("2KiB"),
        Setting::text("name").default("shop"),
        Setting::word("mode", &["a", "b"]).default("b"),
        Setting::positive_duration("wait"),
    ];
    let (values, mistakes) = read(&["wait = \"0s\"\n"], |root| {
        root.describe(SETTINGS);
        let numbers = (root.integer::<u16>("count"), root.number("share"), root.size("bytes"));
        let texts = (root.string("name"), root.choice("mode", &[("a", 1), ("b", 2)]));
        root.duration("wait");
        (root.boolean("on"), numbers, texts, root.duration("time"))
    });
    let expected = (true, (2000, 0.5, 2048), ("shop".to_owned(), 2), Duration::from_secs(60));
    assert_eq!(values, expected);
    assert_eq!(mistakes, ["user:1: wait: must not be zero"]);
}

#[test]
fn messages_never_contain_a_secret() {
    let text = "a = \"${TOKEN}\"\nb = \"${TOKEN}\"\nc = \"${TOKEN}\"\nd = 5555\ne = \"${NONE}\"\n\
                f = [\"${NONE}\"]\ng = \"${MISSING}\"\nh = [\"${TOKEN}\"]\ni = \"${TOKEN}\"\n";
    let ((), mistakes) = read(&[text], |root| {
        root.parsed::<SocketAddr>("a", SocketAddr::from(([0, 0, 0, 0], 0)));
        root.duration("b");
        root.choice("c", &[("x", 1)]);
        root.secret("d");
        root.secret("e");
        root.secrets("f");
        root.secret("g");
        for name in root.strings("h") {
            root.unknown_name("h", &name, "vendor", &["x"]);
        }
        let name = root.string("i");
        root.unknown_name("i", &name, "vendor", &["x"]);
    });
    assert_eq!(
        mistakes,
        [
            "user:1: a: \"${TOKEN}\" is not an IP address with a port, such as \"127.0.0.1:8080\" or \
             \"[::]:8080\"",
            "user:2: b: \"${TOKEN}\" is not a duration such as \"30s\", \"5m\" or \"7d\"",
            "user:3: c: \"${TOKEN}\" is not one of x",
            "user:4: d: expected a string, found the integer",
            "user:5: e: must not be empty",
            "user:6: f[0]: must not be empty",
            "user:7: g: the environment variable MISSING is not set",
            "user:8: h: there is no vendor of that name; valid names: x",
            "user:9: i: there is no vendor \"${TOKEN}\"; valid names: x",
        ]
    );
}

#[test]
fn unknown_keys_are_refused_at_every_level_with_the_nearest_name() {
    let text = "durabilty = 1\n[a]\nhots = 1\nzzz = 1\n[nobody]\nx = 1\n";
    let ((), mistakes) = read(&[text], |root| {
        root.opt_string("durability");
        root.section("a").strings("hosts");
    });
    assert_eq!(
        mistakes,
        [
            "user:1: durabilty: unknown setting; did you mean \"durability\"?",
            "user:3: a.hots: unknown setting; did you mean \"hosts\"?",
            "user:4: a.zzz: unknown setting",
            "user:5: nobody: unknown setting",
        ]
    );
}

#[test]
fn children_come_from_every_layer() {
    let (names, mistakes) = read(&["[v.b]\nx = 1\n", "[v.a]\nx = 2\n[v.b]\nx = 3\n"], |root| {
        let mut vendors = root.section("v");
        let read = |(name, mut child): (String, SettingsSection<'_>)| (name, child.integer("x"));
        vendors.children().into_iter().map(read).collect::<Vec<_>>()
    });
    assert_eq!(names, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert!(mistakes.is_empty(), "{mistakes:?}");
}

#[test]
fn values_are_read_in_their_units() {
    let text = "d = \"90s\"\ns = \"2KiB\"\na = \"127.0.0.1:80\"\nl = [\"127.0.0.1:1\", \"no\"]\n";
    let (values, mistakes) = read(&[text], |root| {
        let addresses = root.parsed_list::<SocketAddr>("l").len();
        (root.duration("d"), root.byte_count("s"), root.opt_parsed::<SocketAddr>("a"), addresses)
    });
    let address = Some(SocketAddr::from(([127, 0, 0, 1], 80)));
    assert_eq!(values, (Duration::from_secs(90), 2048, address, 1));
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
    assert!(mistake.starts_with("user:4: l[1]: \"no\" is not an IP address"), "{mistake}");
}

#[test]
fn ignore_rest_suppresses_unknown_keys() {
    let ((), mistakes) = read(&["[a]\nx = 1\n"], |root| root.section("a").ignore_rest());
    assert!(mistakes.is_empty(), "{mistakes:?}");
}

#[test]
fn table_and_list_mix_ups_are_one_mistake_with_the_cure() {
    let text = "[[sites]]\nname = \"a\"\n[sites.parts]\nx = 1\n[[limits]]\ny = 2\n";
    let (values, mistakes) = read(&[text], |root| {
        let mut sites = root.sections("sites", None);
        let site = sites.first_mut().unwrap();
        site.string("name");
        let parts: Vec<i64> =
            site.sections("parts", None).iter_mut().map(|part| part.integer("x")).collect();
        (parts, root.section("limits").integer("y"))
    });
    assert_eq!(values, (vec![1], 2), "what is in them is read all the same");
    assert_eq!(
        mistakes,
        [
            "user:3: sites[0].parts: is a list of tables: write [[sites.parts]] for each, in place of \
             [sites.parts]",
            "user:5: limits[0]: is one table: write [limits] in place of [[limits]]",
        ]
    );
}

#[test]
fn literal_values_get_suggestions_and_expanded_ones_do_not() {
    let text = "a = \"shop.example\"\nb = \"localhost:80\"\nc = [\"10.0.0.1\"]\nd = \"${HOST}\"\n";
    let report = ConfigErrorReport::default();
    let variables = [("HOST".to_owned(), "shop.example".to_owned())].into();
    let environment = ConfigEnvironment { variables, ..ConfigEnvironment::default() };
    let source = ConfigFile { name: "user".to_owned(), text: text.to_owned() };
    let table = source.parse(&report);
    let mut root = SettingsSection::root(vec![(&source, &table)], &environment, &report);
    root.opt_parsed::<url::Url>("a");
    root.opt_parsed::<SocketAddr>("b");
    root.parsed_list::<ipnet::IpNet>("c");
    root.opt_parsed::<url::Url>("d");
    drop(root);
    let mistakes: Vec<String> = report.into_errors().iter().map(ToString::to_string).collect();
    let better = ["\"https://shop.example\"?", "\"127.0.0.1:80\"?", "\"10.0.0.1/32\"?"];
    for (mistake, better) in mistakes.iter().zip(better) {
        assert!(mistake.ends_with(better), "{mistake}");
    }
    assert!(
        mistakes[3].contains("${HOST}") && !mistakes[3].contains("did you mean"),
        "{mistakes:?}"
    );
}

#[test]
fn relative_paths_start_from_the_files_folder() {
    let report = ConfigErrorReport::default();
    let environment =
        ConfigEnvironment { base: PathBuf::from("/etc/tagway"), ..ConfigEnvironment::default() };
    let text = "a = \"data\"\nb = \"/srv/x\"\n".to_owned();
    let source = ConfigFile { name: "user".to_owned(), text };
    let table = source.parse(&report);
    let mut root = SettingsSection::root(vec![(&source, &table)], &environment, &report);
    assert_eq!(root.path("a"), PathBuf::from("/etc/tagway/data"));
    assert_eq!(root.opt_path("b"), Some(PathBuf::from("/srv/x")));
    assert_eq!(root.opt_path("c"), None);
}
