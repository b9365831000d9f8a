//! Bot detection for callers (`docs/contracts/beacons.md` 12.8): a score with named reasons. Pure; the list of known
//! programs is Crawlerdex, by way of `iscrawl`.
//!
//! Prefetch requests of browsers are recognised apart from the score: their events are not counted, whoever sends
//! them.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{ACCEPT_LANGUAGE, HeaderName, USER_AGENT};

use crate::event::BotSuspicion;
use tagway_settings::{Setting, SettingsSection};

/// The described settings of a site.
pub const BOT_SETTINGS: &[Setting] = &[
    Setting::word("bots", &["pass", "flag", "drop"]).default("flag").doc(
        "\"flag\": events of programs are marked (facts.suspicion); \"drop\": they are \
             dropped; or \"pass\"",
    ),
    Setting::integer("bot_score", 1, 100).default("50").doc(
        "from 1 to 100: a sender with this score is a bot; each sign adds 20 to 100 \
             points",
    ),
];

/// The score of a certain bot.
const MAX_SCORE: u8 = 100;

/// The longest user agent that is looked up: browsers' have some 150 bytes.
const MAX_AGENT_BYTES: usize = 1024;

/// The first versions of browsers that send `Sec-Fetch-*` to secure hosts, with a good margin.
const FETCH_METADATA: &[(&str, u32)] = &[("Chrome/", 90), ("Firefox/", 95)];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_CH_UA: HeaderName = HeaderName::from_static("sec-ch-ua");

/// Reasons by the list's own categories, the most specific first: a program may belong to several.
const CATEGORIES: &[(&str, &str)] = &[
    ("ai-crawler", "ai_crawler"),
    ("ai-fetcher", "ai_fetcher"),
    ("search-engine", "search_engine"),
    ("browser-automation", "automation"),
    ("social-preview", "social_preview"),
    ("monitoring", "monitoring"),
    ("seo", "seo_crawler"),
    ("scanner", "scanner"),
    ("advertising", "advertising_crawler"),
    ("feed-reader", "feed_reader"),
    ("archiver", "archiver"),
    ("academic", "academic_crawler"),
    ("http-library", "http_library"),
];

/// A site's treatment of bots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BotPolicy {
    /// Does not score requests.
    Pass,
    /// Marks the event.
    Flag,
    /// Drops events that reach the score.
    Drop,
}

/// The bot settings of one of `[[sites]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BotSettings {
    /// The action for events that reach the score.
    pub policy: BotPolicy,
    /// The score from which an event counts as a bot's.
    pub score: u8,
}

impl BotSettings {
    /// Reads `bots` and `bot_score`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(BOT_SETTINGS);
        let choices =
            [("pass", BotPolicy::Pass), ("flag", BotPolicy::Flag), ("drop", BotPolicy::Drop)];
        Self { policy: section.choice("bots", &choices), score: section.integer("bot_score") }
    }
}

/// A request's signals for bot detection.
#[derive(Clone, Copy, Debug)]
pub struct BotSignals<'a> {
    /// The request's header fields.
    pub fields: &'a HeaderMap,
    /// True if the request came over TLS: browsers send `Sec-Fetch-*` only there.
    pub secure: bool,
    /// True if this client calls far more often than a person clicks.
    pub is_burst: bool,
}

/// Loads the list of known programs before the first request needs it: that takes a moment.
pub fn prepare() {
    iscrawl::crawler_info("-");
}

/// Returns true if the request is a prefetch, whose page may never be shown.
pub fn is_prefetch(fields: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(|name| {
        let value = fields.get(*name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut words = value.split([';', ',']).map(str::trim);
        words.any(|word| {
            ["prefetch", "prerender", "preview"].iter().any(|it| word.eq_ignore_ascii_case(it))
        })
    })
}

/// Names of programs that fetch the images of mails, in lower case: webmail proxies and desktop mail programs. They
/// act for a person who opened a mail.
const MAIL_PROXIES: [&str; 9] = [
    "imageproxy",
    "image-proxy",
    "image proxy",
    "mailproxy",
    "ms-office",
    "msoffice",
    "microsoft outlook",
    "thunderbird",
    "applemail",
];

/// Returns true if a program fetches an image for a person who opened a mail, so that address and user agent are
/// the program's. Apple Mail sends only `Mozilla/5.0`; others send no user agent.
pub fn is_mail_proxy(fields: &HeaderMap) -> bool {
    let agent = agent(fields);
    let agent = agent.trim();
    if agent.is_empty() || agent == "Mozilla/5.0" {
        return true;
    }
    let agent = agent.get(..MAX_AGENT_BYTES).unwrap_or(agent).to_ascii_lowercase();
    MAIL_PROXIES.iter().any(|name| agent.contains(name))
}

/// Returns the user agent. Some devices write their makers' names into it in raw UTF-8, others in an older
/// encoding.
fn agent(fields: &HeaderMap) -> Cow<'_, str> {
    fields.get(USER_AGENT).map_or(Cow::Borrowed(""), |it| String::from_utf8_lossy(it.as_bytes()))
}

/// Scores the signs of a bot; `None` if there are none.
pub fn score_signals(signals: &BotSignals<'_>) -> Option<BotSuspicion> {
    let text = |name: HeaderName| signals.fields.get(name).and_then(|value| value.to_str().ok());
    let agent = agent(signals.fields);
    let agent = agent.trim();
    let mut found = BotSuspicion { score: 0, reasons: Vec::new() };
    let mut note = |score: u8, reason: &str| {
        found.score = found.score.saturating_add(score).min(MAX_SCORE);
        found.reasons.push(reason.to_owned());
    };
    if agent.is_empty() {
        note(60, "no_user_agent");
    } else if agent.len() > MAX_AGENT_BYTES {
        note(40, "long_user_agent");
    } else if let Some(program) = iscrawl::crawler_info(agent) {
        let of = |(tag, _): &&(&str, &str)| program.tags.iter().any(|own| own == tag);
        note(MAX_SCORE, CATEGORIES.iter().find(of).map_or("crawler", |(_, reason)| reason));
    }
    if text(SEC_CH_UA).is_some_and(|brands| brands.contains("Headless")) {
        note(MAX_SCORE, "headless");
    }
    if signals.secure && sends_fetch_metadata(agent) && !signals.fields.contains_key(SEC_FETCH_SITE)
    {
        note(40, "no_sec_fetch");
    }
    if agent.starts_with("Mozilla/") && !signals.fields.contains_key(ACCEPT_LANGUAGE) {
        note(20, "no_language");
    }
    if signals.is_burst {
        note(30, "burst");
    }
    (found.score > 0).then_some(found)
}

/// Returns true if the user agent's browser sends `Sec-Fetch-*` with every request to a secure host.
fn sends_fetch_metadata(agent: &str) -> bool {
    FETCH_METADATA.iter().any(|(name, first)| {
        let version = agent.split_once(name).map(|(_, rest)| rest);
        let major = version.and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        major.is_some_and(|major| major >= *first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like \
                          Gecko) Chrome/140.0.0.0 Safari/537.36";

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn reasons(pairs: &[(&str, &str)]) -> (u8, Vec<String>) {
        let signals = BotSignals { fields: &fields(pairs), secure: true, is_burst: false };
        score_signals(&signals).map_or((0, Vec::new()), |found| (found.score, found.reasons))
    }

    fn of_agent(agent: &str) -> String {
        let (score, reasons) = reasons(&[
            ("user-agent", agent),
            ("accept-language", "en"),
            ("sec-fetch-site", "same-site"),
        ]);
        format!("{score} {}", reasons.join(" "))
    }

    #[test]
    fn known_programs_are_recognised_by_category() {
        for (agent, expected) in [
            (
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                "search_engine",
            ),
            (
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
                "ai_crawler",
            ),
            (
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
                "ai_crawler",
            ),
            ("Mozilla/5.0 (compatible; ChatGPT-User/1.0; +https://openai.com/bot)", "ai_fetcher"),
            (
                "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
                "social_preview",
            ),
            ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "seo_crawler"),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0 Safari/537.36",
                "automation",
            ),
            ("curl/8.5.0", "http_library"),
            ("python-requests/2.32", "http_library"),
        ] {
            assert_eq!(of_agent(agent), format!("100 {expected}"), "{agent}");
        }
    }

    #[test]
    fn browsers_of_people_score_nothing() {
        for agent in [
            CHROME,
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (Linux; Android 10; CUBOT X18 Plus) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 300.0.0.0",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/480.0]",
            "Mozilla/5.0 (Linux; Android 14; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/140.0.0.0 Mobile Safari/537.36 musical_ly_2023 BytedanceWebview/d8a21c6",
        ] {
            assert_eq!(of_agent(agent), "0 ", "{agent}");
        }
    }

    #[test]
    fn missing_browser_fields_raise_the_score() {
        assert_eq!(reasons(&[]), (60, vec!["no_user_agent".to_owned()]));
        let (score, found) = reasons(&[("user-agent", CHROME)]);
        assert_eq!((score, found.join(" ").as_str()), (60, "no_sec_fetch no_language"));
        let headless = [
            ("user-agent", CHROME),
            ("sec-ch-ua", "\"HeadlessChrome\";v=\"140\""),
            ("sec-fetch-site", "none"),
            ("accept-language", "en"),
        ];
        assert_eq!(reasons(&headless), (100, vec!["headless".to_owned()]));
        let agent = fields(&[("user-agent", CHROME), ("accept-language", "en")]);
        let signals = BotSignals { fields: &agent, secure: false, is_burst: true };
        assert_eq!(score_signals(&signals).unwrap().reasons, ["burst"], "no metadata without TLS");
    }

    #[test]
    fn agents_with_non_ascii_letters_are_still_recognised() {
        for agent in ["Mozilla/5.0 (Linux; Android 13; 红米)".as_bytes(), b"Caf\xe9App/3.1"] {
            let mut all = fields(&[("accept-language", "de"), ("sec-fetch-site", "none")]);
            all.insert(USER_AGENT, agent.try_into().unwrap());
            assert_eq!(
                score_signals(&BotSignals { fields: &all, secure: true, is_burst: false }),
                None
            );
        }
    }

    #[test]
    fn mail_image_fetchers_are_recognised_as_proxies() {
        let is_proxy = |agent: &str| is_mail_proxy(&fields(&[("user-agent", agent)]));
        for proxy in [
            "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
            "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
            "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
            "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.5044; Pro)",
            "Mozilla/5.0",
            "",
        ] {
            assert!(is_proxy(proxy), "{proxy}");
        }
        assert!(is_mail_proxy(&HeaderMap::new()));
        assert!(!is_proxy(CHROME) && !is_proxy("curl/8.5.0") && !is_proxy("Googlebot/2.1"));
    }

    #[test]
    fn prefetch_requests_are_recognised() {
        for (name, value) in [
            ("sec-purpose", "prefetch;prerender"),
            ("sec-purpose", "prefetch"),
            ("purpose", "Prefetch"),
            ("x-moz", "prefetch"),
        ] {
            assert!(is_prefetch(&fields(&[(name, value)])), "{name}: {value}");
        }
        assert!(!is_prefetch(&fields(&[("sec-purpose", "")])) && !is_prefetch(&HeaderMap::new()));
    }
}
