//! What a page's own policies (Content-Security-Policy) let run and load.

use std::str::SplitAsciiWhitespace;

use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY};

/// Which scripts the page's policies let run: all of the policies must.
#[derive(Clone, Debug, Default)]
pub(super) struct Admitted {
    policies: Vec<Policy>,
    /// True if one does not let the page send to the host of the script's events.
    refuses_events: bool,
    /// True if one lets no script run at all, or none as the site's, which alone may send.
    is_sandbox: bool,
    /// Whether one says which Trusted Types policies there may be, and not the snippet's.
    refuses_types: bool,
    /// True if there are more of them than are read: they may admit nothing.
    is_beyond: bool,
}

/// The longest text of policies that is read; those of sites with many hosts have some 4 KB.
const MAX_BYTES: usize = 16 << 10;

/// The most policies of a page: each script of the page is held against all.
const MAX_POLICIES: usize = 16;

/// The snippet's Trusted Types policy.
const TYPES: &str = "tagway-snippet";

/// The hosts, with their ports, that matter for a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hosts<'h> {
    /// The page's own, which its scripts come from.
    pub(super) page: &'h str,
    /// The one that the gateway's script sends to.
    pub(super) events: &'h str,
}

/// What one policy says of scripts.
#[derive(Clone, Debug)]
struct Policy {
    /// What those must carry that run.
    nonce: Option<String>,
    /// Whether any may stand in the page itself.
    is_open: bool,
    /// Whether only those may load that others that may run put there, or that carry the nonce.
    is_strict: bool,
    /// Whether they may come from the page's own host.
    is_own: bool,
}

impl Admitted {
    /// Reads the policies of an answer. One that only reports stops nothing, but where the script can run as
    /// it says, there is nothing to report.
    pub(super) fn of(fields: &HeaderMap, hosts: Hosts<'_>) -> Self {
        let enforced = Self::enforced(fields, hosts);
        let mut all = enforced.clone();
        let reporting = fields.get_all(CONTENT_SECURITY_POLICY_REPORT_ONLY).iter();
        for value in reporting.filter_map(|value| value.to_str().ok()) {
            all.add(value, hosts);
        }
        if all.lets_run(all.nonce()) { all } else { enforced }
    }

    fn enforced(fields: &HeaderMap, hosts: Hosts<'_>) -> Self {
        let mut admitted = Self::default();
        let policies = fields.get_all(CONTENT_SECURITY_POLICY).iter();
        for value in policies.filter_map(|value| value.to_str().ok()) {
            admitted.add(value, hosts);
            // One in the page itself says nothing of this.
            admitted.is_sandbox |= value.split(',').any(|policy| {
                let Some(allowed) = words(policy, &["sandbox"]) else { return false };
                let allows =
                    |wanted: &str| allowed.clone().any(|it| it.eq_ignore_ascii_case(wanted));
                !(allows("allow-scripts") && allows("allow-same-origin"))
            });
        }
        admitted
    }

    /// Adds the policies of a field, or of the page itself.
    pub(super) fn add(&mut self, policies: &str, hosts: Hosts<'_>) {
        let room = MAX_POLICIES.saturating_sub(self.policies.len());
        self.is_beyond |= policies.len() > MAX_BYTES || policies.split(',').nth(room).is_some();
        if self.is_beyond {
            return;
        }
        let of = |policy| Some(Policy::of(words(policy, SCRIPTS)?, hosts.page));
        self.policies.extend(policies.split(',').filter_map(of));
        let is_own = hosts.events.eq_ignore_ascii_case(hosts.page);
        let takes = |source: &str| {
            (is_own && source.eq_ignore_ascii_case("'self'")) || is_host(source, hosts.events)
        };
        self.refuses_events |= policies
            .split(',')
            .filter_map(|policy| words(policy, CONNECTIONS))
            .any(|mut sources| !sources.any(takes));
        self.refuses_types |= policies
            .split(',')
            .filter_map(|policy| words(policy, &["trusted-types"]))
            .any(|mut names| !names.any(|name| name == TYPES || name == "*"));
    }

    /// What scripts must carry, if all of those that ask for it ask for the same.
    pub(super) fn nonce(&self) -> Option<&str> {
        let mut nonces = self.policies.iter().filter_map(|policy| policy.nonce.as_deref());
        let first = nonces.next()?;
        nonces.all(|other| other == first).then_some(first)
    }

    /// Whether a script in the page itself runs with the nonce that there is.
    pub(super) fn inline(&self) -> bool {
        let nonce = self.nonce();
        let runs = |it: &Policy| it.is_open || (nonce.is_some() && it.nonce.as_deref() == nonce);
        !self.is_beyond && self.policies.iter().all(runs)
    }

    /// Whether the snippet runs, with the nonce that there is, and can load the script from here.
    pub(super) fn brings(&self) -> bool {
        let nonce = self.nonce();
        let admits = |it: &Policy| it.knows(nonce) || (it.is_open && it.is_own);
        !self.is_beyond && !self.refuses_types && self.policies.iter().all(admits)
    }

    /// Returns true if the gateway's script loads, with this nonce, and may send.
    pub(super) fn lets_run(&self, nonce: Option<&str>) -> bool {
        self.may_load(nonce) && !self.refuses_events && !self.is_sandbox
    }

    /// Whether an inline script with this nonce runs whatever it says, and can load from here.
    pub(super) fn may_change(&self, nonce: Option<&str>) -> bool {
        let admits = |policy: &Policy| {
            (policy.is_open || policy.knows(nonce)) && (policy.is_own || policy.is_strict)
        };
        !self.is_beyond && self.policies.iter().all(admits)
    }

    /// Whether a tag with this nonce can load from here.
    pub(super) fn may_load(&self, nonce: Option<&str>) -> bool {
        let admits = |it: &Policy| it.knows(nonce) || (it.is_own && !it.is_strict);
        !self.is_beyond && self.policies.iter().all(admits)
    }
}

impl Policy {
    fn of(sources: SplitAsciiWhitespace<'_>, authority: &str) -> Self {
        let has = |wanted: &str| sources.clone().any(|it| it.eq_ignore_ascii_case(wanted));
        let is_strict = has("'strict-dynamic'");
        let nonce = sources.clone().find_map(nonce_of);
        // Who names hashes or nonces means no others.
        let is_picky = sources.clone().any(|it| {
            it.get(..4).is_some_and(|it| it.eq_ignore_ascii_case("'sha"))
                || it.starts_with("'nonce-")
        });
        Self {
            is_open: has("'unsafe-inline'") && !is_picky && !is_strict,
            is_own: has("'self'") || sources.clone().any(|it| is_host(it, authority)),
            is_strict,
            nonce,
        }
    }

    fn knows(&self, nonce: Option<&str>) -> bool {
        nonce.is_some() && self.nonce.as_deref() == nonce
    }
}

/// Whether a source is the whole of a host, or more.
fn is_host(source: &str, authority: &str) -> bool {
    let source = source.to_ascii_lowercase();
    if ["*", "https:", "http:"].contains(&source.as_str()) {
        return true;
    }
    let host = source.split_once("://").map_or(source.as_str(), |(_, host)| host);
    let host = host.strip_suffix('/').unwrap_or(host);
    let host = host.strip_suffix(":*").unwrap_or(host);
    let authority = authority.to_ascii_lowercase();
    match host.strip_prefix('*') {
        Some(parent) => parent.starts_with('.') && authority.ends_with(parent),
        None => authority == host,
    }
}

/// The directives that say which scripts run, the one that counts first.
const SCRIPTS: &[&str] = &["script-src-elem", "script-src", "default-src"];

/// The directives that say where a page may send, the one that counts first.
const CONNECTIONS: &[&str] = &["connect-src", "default-src"];

/// What a policy says by the first of these directives that it has.
fn words<'p>(policy: &'p str, directives: &[&str]) -> Option<SplitAsciiWhitespace<'p>> {
    directives.iter().find_map(|wanted| {
        policy.split(';').find_map(|directive| {
            let mut words = directive.split_ascii_whitespace();
            words.next()?.eq_ignore_ascii_case(wanted).then_some(words)
        })
    })
}

/// Only the characters that a nonce can have: it comes to stand in the page.
fn nonce_of(word: &str) -> Option<String> {
    let nonce = word.strip_prefix("'nonce-")?.strip_suffix('\'')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    (!nonce.is_empty() && nonce.bytes().all(fits)).then(|| nonce.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(policy: &'static str) -> Admitted {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_SECURITY_POLICY, policy.parse().unwrap());
        Admitted::of(&fields, HOSTS)
    }

    const HOSTS: Hosts<'_> = Hosts { page: "www.shop.example", events: "www.shop.example" };

    #[test]
    fn the_nonce_is_the_one_for_scripts_and_what_may_not_run_is_not_put_in() {
        for (policy, nonce, inline) in [
            (
                "default-src 'nonce-a'; script-src 'self' 'nonce-b=='; style-src 'nonce-c'",
                "b==",
                true,
            ),
            ("Default-Src 'nonce-a'", "a", true),
            ("style-src 'nonce-a'", "", true),
            ("script-src 'self'", "", false),
            ("script-src 'unsafe-inline'", "", true),
            ("script-src 'unsafe-inline' 'sha256-x'", "", false),
            ("img-src x, script-src 'self'", "", false),
            ("script-src 'nonce-a', script-src 'nonce-b'", "", false),
            ("script-src 'nonce-a', script-src 'self'", "a", false),
            ("script-src 'nonce-a\"><script>'", "", false),
        ] {
            let admitted = of(policy);
            let found = (admitted.nonce().unwrap_or_default(), admitted.inline());
            assert_eq!(found, (nonce, inline), "{policy}");
        }
    }

    #[test]
    fn policies_that_only_report_say_how_the_script_comes_in_and_not_whether() {
        for (enforced, reporting, nonce, inline) in [
            ("img-src 'self'", "script-src 'nonce-a'", "a", true),
            ("img-src 'self'", "script-src 'self'", "", false),
            ("script-src 'nonce-a'", "script-src 'self' 'nonce-a'", "a", true),
            // The script cannot run as these say, and comes in as if they were not there.
            ("script-src 'nonce-a'", "script-src 'nonce-b'", "a", true),
            ("img-src 'self'", "script-src 'none'", "", true),
            ("img-src 'self'", "connect-src 'none'; script-src 'nonce-a'", "", true),
            ("script-src 'nonce-a'", "sandbox", "a", true),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_SECURITY_POLICY, enforced.parse().unwrap());
            fields.insert(CONTENT_SECURITY_POLICY_REPORT_ONLY, reporting.parse().unwrap());
            let admitted = Admitted::of(&fields, HOSTS);
            let found = (admitted.nonce().unwrap_or_default(), admitted.inline());
            assert_eq!(found, (nonce, inline), "{enforced} {reporting}");
            assert!(admitted.lets_run(admitted.nonce()), "{enforced} {reporting}");
        }
    }

    #[test]
    fn the_snippet_brings_the_script_where_that_may_run_and_load() {
        for (policy, brings) in [
            ("img-src 'self'", true),
            ("script-src 'self' 'unsafe-inline'", true),
            ("script-src https://cdn.example 'unsafe-inline'", false),
            ("script-src 'self'", false),
            ("script-src 'nonce-a'", true),
            ("script-src 'nonce-a' 'strict-dynamic'", true),
            ("script-src 'strict-dynamic' 'sha256-x'", false),
            ("script-src 'nonce-a', script-src 'nonce-b'", false),
            ("require-trusted-types-for 'script'", true),
            ("require-trusted-types-for 'script'; trusted-types x tagway-snippet", true),
            ("trusted-types *", true),
            ("trusted-types x", false),
            ("trusted-types", false),
        ] {
            assert_eq!(of(policy).brings(), brings, "{policy}");
        }
    }

    #[test]
    fn what_could_not_load_from_here_or_not_run_any_more_is_not_changed() {
        let none = Admitted::default();
        assert!(none.may_change(None) && none.may_load(None));
        for (policy, nonce, change, load) in [
            ("script-src 'self' 'unsafe-inline'", "", true, true),
            ("script-src https: 'unsafe-inline'", "", true, true),
            ("script-src https://www.shop.example", "", false, true),
            ("script-src *.shop.example", "", false, true),
            ("script-src *.other.example www.shop.example.evil", "", false, false),
            ("script-src https://cdn.example 'unsafe-inline'", "", false, false),
            ("script-src 'self' 'unsafe-inline' 'sha256-x'", "", false, true),
            ("script-src 'self' 'nonce-a'", "", false, true),
            ("script-src 'self' 'nonce-a'", "a", true, true),
            ("script-src 'self' 'nonce-a'", "b", false, true),
            ("script-src https://cdn.example 'nonce-a'", "a", false, true),
            ("script-src 'strict-dynamic' 'nonce-a'", "a", true, true),
            ("script-src 'self' 'strict-dynamic' 'nonce-a'", "", false, false),
            ("script-src 'strict-dynamic' 'sha256-x'", "", false, false),
            ("script-src 'self' 'nonce-a', script-src 'self' 'sha256-x'", "a", false, true),
        ] {
            let (admitted, nonce) = (of(policy), Some(nonce).filter(|nonce| !nonce.is_empty()));
            let found = (admitted.may_change(nonce), admitted.may_load(nonce));
            assert_eq!(found, (change, load), "{policy} {nonce:?}");
        }
    }

    #[test]
    fn script_is_let_run_where_it_loads_and_may_send() {
        for (policy, runs) in [
            ("img-src 'self'", true),
            ("default-src 'self'", true),
            ("default-src 'none'", false),
            ("default-src 'none'; script-src 'self'; connect-src https://www.shop.example/", true),
            ("script-src 'self'; connect-src 'none'", false),
            ("script-src 'self'; connect-src https://api.shop.example", false),
            ("script-src 'self'; connect-src *.shop.example:*", true),
            ("script-src 'sha256-x'", false),
            ("script-src 'strict-dynamic' 'sha256-x'", false),
            ("script-src https://cdn.example", false),
            ("script-src 'nonce-a'; connect-src wss: https:", true),
            ("script-src 'nonce-a' 'strict-dynamic'", true),
            ("script-src 'self', default-src 'none'", false),
            ("sandbox", false),
            ("sandbox allow-forms", false),
            ("sandbox allow-scripts", false),
            ("sandbox Allow-Scripts allow-same-origin", true),
        ] {
            let admitted = of(policy);
            assert_eq!(admitted.lets_run(admitted.nonce()), runs, "{policy}");
        }
        let mut elsewhere = Admitted::default();
        let events = "t.shop.example";
        elsewhere.add("connect-src 'self'", Hosts { events, ..HOSTS });
        assert!(!elsewhere.lets_run(None), "it sends to another host");
        let mut named = Admitted::default();
        named.add("connect-src 'self' https://t.shop.example", Hosts { events, ..HOSTS });
        assert!(named.lets_run(None));
    }
}
