//! Evaluates a page's own policies (Content-Security-Policy) for scripts and connections.

use std::str::SplitAsciiWhitespace;

use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY};

/// The script rules of all of a page's policies: every policy must admit a script.
#[derive(Clone, Debug, Default)]
pub(super) struct CspScriptRules {
    policies: Vec<CspPolicy>,
    /// True if one forbids connections to the host of the script's events.
    refuses_events: bool,
    /// True if one forbids all scripts, or gives the page an opaque origin, which may not send.
    is_sandbox: bool,
    /// True if one restricts Trusted Types policies and does not admit the snippet's.
    refuses_types: bool,
    /// True if there are more policies than are read: the rest may admit nothing.
    is_beyond: bool,
}

/// The longest text of policies that is read; those of sites with many hosts have some 4 KB.
const MAX_BYTES: usize = 16 << 10;

/// The most policies of a page: each script of the page is checked against all.
const MAX_POLICIES: usize = 16;

/// The snippet's Trusted Types policy.
const TYPES: &str = "tagway-snippet";

/// The hosts, with their ports, that a page's policies must admit.
#[derive(Clone, Copy, Debug)]
pub(super) struct CspHosts<'h> {
    /// The page's own, from which its scripts load.
    pub(super) page: &'h str,
    /// The host that the gateway's script sends to.
    pub(super) events: &'h str,
}

/// One policy's rules for scripts.
#[derive(Clone, Debug)]
struct CspPolicy {
    /// The nonce that admits a script.
    nonce: Option<String>,
    /// True if any inline script may run.
    is_open: bool,
    /// True if only scripts with the nonce, or inserted by admitted scripts, may load.
    is_strict: bool,
    /// True if scripts may load from the page's own host.
    is_own: bool,
}

impl CspScriptRules {
    /// Reads the policies of a response. A report-only policy blocks nothing; it is obeyed where the script can
    /// run under it, so that it has nothing to report.
    pub(super) fn of(fields: &HeaderMap, hosts: CspHosts<'_>) -> Self {
        let enforced = Self::enforced(fields, hosts);
        let mut all = enforced.clone();
        let reporting = fields.get_all(CONTENT_SECURITY_POLICY_REPORT_ONLY).iter();
        for value in reporting.filter_map(|value| value.to_str().ok()) {
            all.add(value, hosts);
        }
        if all.allows_gateway_script(all.nonce()) { all } else { enforced }
    }

    fn enforced(fields: &HeaderMap, hosts: CspHosts<'_>) -> Self {
        let mut admitted = Self::default();
        let policies = fields.get_all(CONTENT_SECURITY_POLICY).iter();
        for value in policies.filter_map(|value| value.to_str().ok()) {
            admitted.add(value, hosts);
            // A policy in the page itself cannot set a sandbox.
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
    pub(super) fn add(&mut self, policies: &str, hosts: CspHosts<'_>) {
        let room = MAX_POLICIES.saturating_sub(self.policies.len());
        self.is_beyond |= policies.len() > MAX_BYTES || policies.split(',').nth(room).is_some();
        if self.is_beyond {
            return;
        }
        let of = |policy| Some(CspPolicy::of(words(policy, SCRIPTS)?, hosts.page));
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

    /// Returns the nonce for scripts, if all policies that require one require the same.
    pub(super) fn nonce(&self) -> Option<&str> {
        let mut nonces = self.policies.iter().filter_map(|policy| policy.nonce.as_deref());
        let first = nonces.next()?;
        nonces.all(|other| other == first).then_some(first)
    }

    /// Returns true if an inline script with the nonce runs.
    pub(super) fn inline(&self) -> bool {
        let nonce = self.nonce();
        let runs = |it: &CspPolicy| it.is_open || (nonce.is_some() && it.nonce.as_deref() == nonce);
        !self.is_beyond && self.policies.iter().all(runs)
    }

    /// Returns true if the snippet runs with the nonce, and can load the script from the page's host.
    pub(super) fn allows_snippet(&self) -> bool {
        let nonce = self.nonce();
        let admits = |it: &CspPolicy| it.knows(nonce) || (it.is_open && it.is_own);
        !self.is_beyond && !self.refuses_types && self.policies.iter().all(admits)
    }

    /// Returns true if the gateway's script loads with this nonce, and may send.
    pub(super) fn allows_gateway_script(&self, nonce: Option<&str>) -> bool {
        self.may_load(nonce) && !self.refuses_events && !self.is_sandbox
    }

    /// Returns true if an inline script with this nonce runs whatever its text is, and can load from the page's
    /// host.
    pub(super) fn allows_inline_edit(&self, nonce: Option<&str>) -> bool {
        let admits = |policy: &CspPolicy| {
            (policy.is_open || policy.knows(nonce)) && (policy.is_own || policy.is_strict)
        };
        !self.is_beyond && self.policies.iter().all(admits)
    }

    /// Returns true if a tag with this nonce can load from the page's host.
    pub(super) fn may_load(&self, nonce: Option<&str>) -> bool {
        let admits = |it: &CspPolicy| it.knows(nonce) || (it.is_own && !it.is_strict);
        !self.is_beyond && self.policies.iter().all(admits)
    }
}

impl CspPolicy {
    fn of(sources: SplitAsciiWhitespace<'_>, authority: &str) -> Self {
        let has = |wanted: &str| sources.clone().any(|it| it.eq_ignore_ascii_case(wanted));
        let is_strict = has("'strict-dynamic'");
        let nonce = sources.clone().find_map(nonce_of);
        // A list with hashes or nonces admits no other inline scripts.
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

/// Returns true if a source admits a whole host, or more.
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

/// The directives for scripts, in order of precedence.
const SCRIPTS: &[&str] = &["script-src-elem", "script-src", "default-src"];

/// The directives for connections, in order of precedence.
const CONNECTIONS: &[&str] = &["connect-src", "default-src"];

/// Returns the words of the first of these directives that a policy has.
fn words<'p>(policy: &'p str, directives: &[&str]) -> Option<SplitAsciiWhitespace<'p>> {
    directives.iter().find_map(|wanted| {
        policy.split(';').find_map(|directive| {
            let mut words = directive.split_ascii_whitespace();
            words.next()?.eq_ignore_ascii_case(wanted).then_some(words)
        })
    })
}

/// Returns the nonce if it has only valid characters: it is written into the page.
fn nonce_of(word: &str) -> Option<String> {
    let nonce = word.strip_prefix("'nonce-")?.strip_suffix('\'')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    (!nonce.is_empty() && nonce.bytes().all(fits)).then(|| nonce.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(policy: &'static str) -> CspScriptRules {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_SECURITY_POLICY, policy.parse().unwrap());
        CspScriptRules::of(&fields, HOSTS)
    }

    const HOSTS: CspHosts<'_> = CspHosts { page: "www.shop.example", events: "www.shop.example" };

    #[test]
    fn nonce_for_scripts_is_found_and_scripts_that_may_not_run_are_not_inserted() {
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
    fn report_only_policy_decides_the_form_of_the_script_and_never_blocks_it() {
        for (enforced, reporting, nonce, inline) in [
            ("img-src 'self'", "script-src 'nonce-a'", "a", true),
            ("img-src 'self'", "script-src 'self'", "", false),
            ("script-src 'nonce-a'", "script-src 'self' 'nonce-a'", "a", true),
            // The script cannot run under these, so they are ignored.
            ("script-src 'nonce-a'", "script-src 'nonce-b'", "a", true),
            ("img-src 'self'", "script-src 'none'", "", true),
            ("img-src 'self'", "connect-src 'none'; script-src 'nonce-a'", "", true),
            ("script-src 'nonce-a'", "sandbox", "a", true),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_SECURITY_POLICY, enforced.parse().unwrap());
            fields.insert(CONTENT_SECURITY_POLICY_REPORT_ONLY, reporting.parse().unwrap());
            let admitted = CspScriptRules::of(&fields, HOSTS);
            let found = (admitted.nonce().unwrap_or_default(), admitted.inline());
            assert_eq!(found, (nonce, inline), "{enforced} {reporting}");
            assert!(admitted.allows_gateway_script(admitted.nonce()), "{enforced} {reporting}");
        }
    }

    #[test]
    fn snippet_loads_the_script_where_policies_admit_it() {
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
            assert_eq!(of(policy).allows_snippet(), brings, "{policy}");
        }
    }

    #[test]
    fn scripts_that_could_not_load_or_run_afterwards_are_not_changed() {
        let none = CspScriptRules::default();
        assert!(none.allows_inline_edit(None) && none.may_load(None));
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
            let found = (admitted.allows_inline_edit(nonce), admitted.may_load(nonce));
            assert_eq!(found, (change, load), "{policy} {nonce:?}");
        }
    }

    #[test]
    fn script_is_admitted_where_it_loads_and_may_send() {
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
            assert_eq!(admitted.allows_gateway_script(admitted.nonce()), runs, "{policy}");
        }
        let mut elsewhere = CspScriptRules::default();
        let events = "t.shop.example";
        elsewhere.add("connect-src 'self'", CspHosts { events, ..HOSTS });
        assert!(!elsewhere.allows_gateway_script(None), "it sends to another host");
        let mut named = CspScriptRules::default();
        named.add("connect-src 'self' https://t.shop.example", CspHosts { events, ..HOSTS });
        assert!(named.allows_gateway_script(None));
    }
}
