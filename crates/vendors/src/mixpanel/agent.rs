//! Reads the browser and the system from a user agent, under the names that Mixpanel's own libraries
//! give them. Only tokens that browsers write of themselves are read; unknown ones give no name.

/// A browser under Mixpanel's name for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MixpanelBrowser {
    pub(super) name: &'static str,
    pub(super) version: Option<f64>,
}

/// Tokens of user agents and the names of their browsers. Browsers that pose as others come before
/// those others.
const BROWSERS: &[(&str, &str)] = &[
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Edg/", "Microsoft Edge"),
    ("EdgA/", "Microsoft Edge"),
    ("EdgiOS/", "Microsoft Edge"),
    ("Whale/", "Whale Browser"),
    ("CriOS/", "Chrome iOS"),
    ("FxiOS/", "Firefox iOS"),
    ("Chrome/", "Chrome"),
    ("Firefox/", "Firefox"),
];

/// Tokens of systems; those that are in other systems' user agents as well come last.
const SYSTEMS: &[(&str, &str)] = &[
    ("Windows", "Windows"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("iPod", "iOS"),
    ("Android", "Android"),
    ("CrOS", "Chrome OS"),
    ("Macintosh", "Mac OS X"),
    ("Linux", "Linux"),
];

/// Returns the browser of a user agent.
pub(super) fn browser(agent: &str) -> Option<MixpanelBrowser> {
    let known = BROWSERS.iter().find_map(|(token, name)| {
        let (_, rest) = agent.split_once(token)?;
        Some(MixpanelBrowser { name, version: version(rest) })
    });
    known.or_else(|| {
        // Apple's browser names itself last and its version in a separate token.
        let (_, rest) = agent.split_once("Version/").filter(|_| agent.contains("Safari/"))?;
        let is_apples = ["Macintosh", "iPhone", "iPad", "iPod"].iter().any(|on| agent.contains(on));
        let name = if rest.contains("Mobile/") { "Mobile Safari" } else { "Safari" };
        is_apples.then(|| MixpanelBrowser { name, version: version(rest) })
    })
}

/// Returns the system of a user agent.
pub(super) fn system(agent: &str) -> Option<&'static str> {
    // Libraries and bots name only themselves; browsers and apps name their system in brackets.
    let (_, inside) = agent.split_once('(')?;
    SYSTEMS.iter().find(|(token, _)| inside.contains(token)).map(|(_, name)| *name)
}

/// Returns Mixpanel's name for the system in a client hint.
pub(super) fn hinted_system(platform: &str) -> &str {
    if platform == "macOS" { "Mac OS X" } else { platform }
}

/// Reads major and minor version as one number, as Mixpanel's libraries send it.
fn version(rest: &str) -> Option<f64> {
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let mut parts = rest.get(..end)?.splitn(3, '.');
    let major = parts.next().filter(|major| !major.is_empty())?;
    let minor = parts.next().filter(|minor| !minor.is_empty());
    format!("{major}.{}", minor.unwrap_or("0")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

    #[test]
    fn browsers_and_systems_are_recognised() {
        let webkit = "AppleWebKit/605.1.15 (KHTML, like Gecko)";
        let mac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)";
        let phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X)";
        let android = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)";
        for (agent, name, number, system_name) in [
            (CHROME.to_owned(), "Chrome", 140.0, "Windows"),
            (format!("{CHROME} Edg/140.0.3485.54"), "Microsoft Edge", 140.0, "Windows"),
            (format!("{CHROME} OPR/122.5.0.0"), "Opera", 122.5, "Windows"),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.1".to_owned(),
                "Firefox",
                140.1,
                "Linux",
            ),
            (format!("{mac} {webkit} Version/18.6 Safari/605.1.15"), "Safari", 18.6, "Mac OS X"),
            (
                format!("{phone} {webkit} Version/18.6 Mobile/15E148 Safari/604.1"),
                "Mobile Safari",
                18.6,
                "iOS",
            ),
            (
                format!("{phone} {webkit} CriOS/140.0.7339.39 Mobile/15E148 Safari/604.1"),
                "Chrome iOS",
                140.0,
                "iOS",
            ),
            (
                format!("{android} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36"),
                "Samsung Internet",
                28.0,
                "Android",
            ),
        ] {
            let expected = MixpanelBrowser { name, version: Some(number) };
            assert_eq!(browser(&agent), Some(expected), "{agent}");
            assert_eq!(system(&agent), Some(system_name), "{agent}");
        }
    }

    #[test]
    fn agents_of_no_browser_give_no_name() {
        for agent in ["", "curl/8.5.0", "okhttp/4.12.0", "Safari/605", "Version/4.0 Safari/534.30"]
        {
            assert_eq!((browser(agent), system(agent)), (None, None), "{agent}");
        }
        assert_eq!(version("140"), Some(140.0));
        assert_eq!(version("1..2"), Some(1.0));
        assert_eq!((version(".5"), version("x")), (None, None));
    }
}
