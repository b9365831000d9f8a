//! Rewritten pages, in every segmentation.

use parking_lot::Mutex;

use super::super::edits::{LEAVE, SCRIPT, tag};
use super::super::page_skip_reason::PageSkipReporter;
use super::super::policy::{CspHosts, CspScriptRules};
use super::super::tags::tests::all;
use super::*;
use crate::script::compose::snippet;

fn own() -> String {
    tag(&CspScriptRules::default(), None)
}

/// A plan for a page of `t.shop.example`, which names its charset.
pub(in crate::origin) fn task() -> PageEditPlan {
    PageEditPlan {
        injects: true,
        tags: Arc::default(),
        admitted: CspScriptRules::default(),
        authority: "t.shop.example".to_owned(),
        secure: true,
        events: "t.shop.example".to_owned(),
        names_charset: true,
        report: PageSkipReporter::new(|_| {}),
    }
}

const HOSTS: CspHosts<'_> = CspHosts { page: "t.shop.example", events: "t.shop.example" };

/// Rewrites the page, cut into pieces of this size.
fn by(page: &str, size: usize, limit: usize) -> String {
    held(page, size, (limit, limit))
}

/// Rewrites the page with these buffer limits for a tag and for an inline script.
fn held(page: &str, size: usize, (tag, inline): (usize, usize)) -> String {
    let task = PageEditPlan { tags: Arc::new(all(false)), ..task() };
    let (out, _) = passed(task, page.as_bytes(), size, PageLimits { tag, inline });
    String::from_utf8(out).unwrap()
}

/// Returns the rewritten page, and the charset that its head must name.
fn passed(
    task: PageEditPlan,
    page: &[u8],
    size: usize,
    limits: PageLimits,
) -> (Vec<u8>, Option<&'static str>) {
    let mut rewriter = PageRewriter::new(AsciiCompatibleEncoding::utf_8(), task, limits);
    let mut out = Vec::new();
    for chunk in page.chunks(size) {
        out.extend(rewriter.write(chunk));
    }
    out.extend(rewriter.end());
    (out, rewriter.moved_charset())
}

/// Rewrites the page in all segmentations.
fn rewritten(page: &str) -> String {
    let whole = by(page, page.len().max(1), 1 << 20);
    for size in 1..page.len() {
        assert_eq!(by(page, size, 1 << 20), whole, "{size}");
    }
    whole
}

#[test]
fn script_comes_before_what_loads_or_runs_and_all_else_stays() {
    let page = "<!doctype html>\n<HTML><head lang=x>\r\n<title>ä &amp;</title>@<script>'<head>'</script>\
                </head><body class = a>x<p>y</body>";
    let (before, after) = page.split_once('@').unwrap();
    assert_eq!(rewritten(&format!("{before}{after}")), format!("{before}{}{after}", own()));
}

#[test]
fn script_is_put_into_pages_that_leave_tags_out() {
    for page in [
        "<!doctype html>\n<meta charset=utf-8>\n<title>x</title>\n@<link rel=stylesheet href=a><h1>x",
        "<!doctype html><html lang=en><meta charset=utf-8><title>x</title>@<h1>x</h1></html>",
        "<!doctype html><title>x</title>@<h1>x</h1><script>1</script>",
        "<!doctype html><html><title>x</title>@<frameset cols=*><frame src=a></frameset></html>",
        "<html><head>@</title></head>",
        "@<p>x<script>1</script>",
        "@<body>x",
        "@just <text",
        "<title>x</title>@",
        "<html>\n@",
    ] {
        let (before, after) = page.split_once('@').unwrap();
        let expected = format!("{before}{}{after}", own());
        assert_eq!(rewritten(&format!("{before}{after}")), expected);
    }
}

/// Returns the page, and the reason why it was not rewritten.
fn reported(task: PageEditPlan, page: &str) -> (String, Vec<PageSkipReason>) {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let hear = reports.clone();
    let report = PageSkipReporter::new(move |reason| hear.lock().push(reason));
    let limits = PageLimits { tag: 4096, inline: 4096 };
    let (out, _) = passed(PageEditPlan { report, ..task }, page.as_bytes(), 7, limits);
    let reports = reports.lock().clone();
    (String::from_utf8(out).unwrap(), reports)
}

#[test]
fn pages_that_may_not_be_changed_stay_and_the_reason_is_reported() {
    let amp = |attribute: &str| {
        format!("<!doctype html>\n<html {attribute} lang=en><head><script src={GTAG}></script>")
    };
    let long = format!("<!-- {} --><p>", "x".repeat(5000));
    for (page, reason) in [
        (amp("amp"), PageSkipReason::Amp),
        (amp("⚡"), PageSkipReason::Amp),
        (amp("\u{26a1}\u{fe0f}=''"), PageSkipReason::Amp),
        (amp("lang=de ⚡4email data-css-strict"), PageSkipReason::Amp),
        (amp("amp4ads"), PageSkipReason::Amp),
        (amp("AMP4EMAIL"), PageSkipReason::Amp),
        (String::new(), PageSkipReason::Empty),
        (" \n<!-- x -->".to_owned(), PageSkipReason::Empty),
        ("<html><head><title>x".to_owned(), PageSkipReason::Unfinished),
        (long, PageSkipReason::LongTag),
    ] {
        let tags = Arc::new(all(false));
        assert_eq!(reported(PageEditPlan { tags, ..task() }, &page), (page.clone(), vec![reason]));
        let (same, reports) = reported(PageEditPlan { injects: false, ..task() }, &page);
        assert_eq!((same, reports), (page, Vec::new()), "it was not to get the script anyway");
    }
    for other in ["class=amp", "data-amp", "amplitude", "lang=amp", "title='⚡'", "amp4web"] {
        let (page, reports) = reported(task(), &amp(other));
        assert!(page.contains(&own()) && reports.is_empty(), "{page}");
    }
}

#[test]
fn policy_in_the_page_gives_the_script_its_nonce_or_keeps_it_out() {
    let meta = |policy: &str| {
        format!(
            "<head><meta http-equiv=Content-Security-Policy content=\"{policy}\"><title>x</title>"
        )
    };
    for (policy, nonce) in [
        ("script-src 'nonce-abc='", " nonce=\"abc=\""),
        (
            "script-src &#039;nonce-abc=&#039; &#39;strict-dynamic&#39;; img-src *",
            " nonce=\"abc=\"",
        ),
        ("script-src &apos;nonce-abc&equals;&apos;", " nonce=\"abc=\""),
        ("img-src *", ""),
        ("script-src 'self' 'unsafe-inline'", ""),
    ] {
        let (page, reports) = reported(task(), &format!("{}<script>1</script>", meta(policy)));
        let tag = format!("<script{nonce}>{}{LEAVE}</script>", snippet(SCRIPT));
        assert_eq!(page, format!("{}{tag}<script>1</script>", meta(policy)));
        assert!(reports.is_empty());
    }
    for policy in ["script-src 'none'", "script-src 'sha256-x'", "connect-src https://a.example"] {
        let page = format!("{}<script>1</script>", meta(policy));
        assert_eq!(reported(task(), &page), (page, vec![PageSkipReason::Policy]), "{policy}");
    }
    // After a script that runs already, it is too late for another position.
    for (policy, reasons) in [
        ("script-src 'nonce-x'", vec![PageSkipReason::LatePolicy]),
        ("script-src 'self'", Vec::new()),
        ("connect-src 'none'", vec![PageSkipReason::LatePolicy]),
    ] {
        let late = format!("<script>1</script>{0}{0}", meta(policy));
        assert_eq!(reported(task(), &late).1, reasons, "{policy}");
    }
}

#[test]
fn base_of_the_page_does_not_move_the_script() {
    let page = "<head><base href=//cdn.example/><meta name=x>";
    let script = format!("<script>{}{LEAVE}</script>", snippet("//t.shop.example/tw.js"));
    assert_eq!(rewritten(&format!("{page}<p>")), format!("{page}{script}<p>"));
    // A host that cannot be written into a script is left out.
    let odd = PageEditPlan { authority: "a\"b".to_owned(), events: "a\"b".to_owned(), ..task() };
    let page = format!("{page}<p>");
    assert_eq!(reported(odd, &page).0, page);
}

#[test]
fn late_charset_declaration_is_moved_to_the_head() {
    let limits = PageLimits { tag: 4096, inline: 4096 };
    let charset = |page: &str, names_charset: bool| {
        let of = |size| {
            passed(PageEditPlan { names_charset, ..task() }, page.as_bytes(), size, limits).1
        };
        assert_eq!(of(1), of(page.len()), "{page}");
        of(1)
    };
    let late = "<head><script>1</script><meta charset=latin1></head>";
    assert_eq!(charset(late, false), Some("windows-1252"));
    assert_eq!(charset(late, true), None);
    assert_eq!(charset("<head><meta charset=latin1><script>1</script></head>", false), None);
    assert_eq!(charset("<head><script>1</script></head>", false), None);
}

#[test]
fn own_script_is_not_inserted_twice_and_other_scripts_stay() {
    let tag = own();
    for own in ["https://T.shop.example/tw.js?v=1", "/tw.js", "//t.shop.example/tw.js"] {
        let page = format!("<head><script src='{own}'>x</script><p></head>");
        assert_eq!(rewritten(&page), format!("<head>{tag}<p></head>"));
    }
    for other in ["https://other.example/tw.js", "/a/tw.js", "//t.shop.example.evil/tw.js"] {
        let page = format!("<script src='{other}'></script></head>");
        assert_eq!(rewritten(&format!("<head>{page}")), format!("<head>{tag}{page}"));
    }
    let page = "<p><script src=/tw.js></script><body>";
    assert_eq!(rewritten(page), format!("{tag}<p><body>"));
}

#[test]
fn page_that_the_parser_gives_up_on_passes_unchanged() {
    let long = "x".repeat(9000);
    let tail = format!("<script id='{long}'>ä</script><script src=/tw.js></script>");
    let page = format!("<head><script src=/tw.js></script><b></b></head>{tail}");
    let expected = format!("<head>{}<b></b></head>{tail}", own());
    for size in [1, 7, 100, 4096, 5000, 8999] {
        assert_eq!(by(&page, size, 4096), expected, "{size}");
    }
    for limit in [0, 1, 1024] {
        let passed = by(&format!("<head title='{long}'><body>"), 100, limit);
        assert_eq!(passed, format!("<head title='{long}'><body>"));
    }
}

#[test]
fn snippet_fits_into_a_page() {
    let snippet = snippet(SCRIPT);
    assert!(!snippet.to_ascii_lowercase().contains("</script") && !snippet.contains("<!--"));
    assert!(snippet.contains("\"/tw.js\""));
}

#[test]
fn scripts_that_may_not_run_are_not_inserted() {
    let mut admitted = CspScriptRules::default();
    admitted.add("script-src 'self'", HOSTS);
    assert_eq!(tag(&admitted, None), r#"<script async src="/tw.js"></script>"#);
}

const GTAG: &str = "https://www.googletagmanager.com/gtag/js?id=G-1&amp;l=x";

fn bare(page: &str) -> String {
    let based = own().replace("/tw.js", "//t.shop.example/tw.js");
    rewritten(page).replace(&own(), "").replace(&based, "")
}

#[test]
fn vendor_tags_are_rewritten_and_lose_their_integrity_hash() {
    for (page, expected) in [
        (
            format!("<head><script  async SRC = '{GTAG}'\n defer>x</script>"),
            "<head><script  async SRC = '/ga4/gtag/js?id=G-1&amp;l=x'\n defer>x</script>",
        ),
        (
            format!("<head><script integrity=\"sha384-x\" src={GTAG} crossorigin></script>"),
            "<head><script src=/ga4/gtag/js?id=G-1&amp;l=x crossorigin></script>",
        ),
        (
            format!("<head><script src=\"{GTAG}\"integrity='sha384-x'></script>"),
            "<head><script src=\"/ga4/gtag/js?id=G-1&amp;l=x\"></script>",
        ),
        (
            format!("<head><base href=//a.example><script src={GTAG}></script>"),
            "<head><base href=//a.example><script src=//t.shop.example/ga4/gtag/js?id=G-1&amp;l=x></script>",
        ),
        (
            format!("<head><link rel='x Preload' as=script integrity=sha256-x href=\"{GTAG}\">ä"),
            "<head><link rel='x Preload' as=script href=\"/ga4/gtag/js?id=G-1&amp;l=x\">ä",
        ),
        (
            "<head><link rel=preconnect href=https://www.googletagmanager.com>\
             <link rel='dns-prefetch' href='//connect.facebook.net/'/><p>"
                .to_owned(),
            "<head><link rel=preconnect href=//t.shop.example>\
             <link rel='dns-prefetch' href='//t.shop.example'/><p>",
        ),
    ] {
        assert_eq!(bare(&page), expected);
    }
    for same in [
        "<script src=https://cdn.example/x.js integrity=sha384-x></script>",
        "<link rel=preconnect href=https://fonts.gstatic.com crossorigin>",
        "<link rel=stylesheet href=https://connect.facebook.net/en_US/fbevents.js>",
        "<!-- <script src=https://connect.facebook.net/en_US/fbevents.js></script> -->",
        "<textarea><script src=https://connect.facebook.net/en_US/fbevents.js></script></textarea>",
    ] {
        let page = format!("<head>{same}</head>");
        assert_eq!(bare(&page), page);
    }
}

#[test]
fn inline_loaders_load_from_here_however_the_page_is_cut() {
    let from = "x('https://connect.facebook.net/en_US/fbevents.js');";
    let to = "x('//t.shop.example/meta/en_US/fbevents.js');";
    let page = |text: &str| format!("<head>\n<script>\"ä</b>\";{text}</script><p>{from}");
    assert_eq!(bare(&page(from)), page(to));
    let page = |text: &str| format!("<head><script type=module>{text}</script>{from}");
    assert_eq!(bare(&page(from)), page(to));
    for same in [
        format!("<head><script type='application/ld+json'>{from}</script>"),
        format!("<head><svg><script>{from}</svg><script src=x></script>"),
        format!("<head><script>{from}"),
    ] {
        assert_eq!(bare(&same), same);
    }
}

#[test]
fn script_too_long_to_buffer_passes_unchanged() {
    let from = "x('https://connect.facebook.net/en_US/fbevents.js');";
    let long = format!("<head><script>{from}{}</script><script>{from}</script>", ";".repeat(9000));
    let to = "x('//t.shop.example/meta/en_US/fbevents.js');";
    let expected = long.replacen("<head>", &format!("<head>{}", own()), 1);
    let last = expected.rfind(from).unwrap();
    let mut expected = expected.clone();
    expected.replace_range(last.., &format!("{to}</script>"));
    for size in [1, 100, 4096] {
        assert_eq!(by(&long, size, 4096), expected, "{size}");
    }
}

/// The work is in proportion to the buffered bytes, which have a limit of their own.
#[test]
fn inline_scripts_beyond_their_bound_pass_as_they_are() {
    let from = "x('https://connect.facebook.net/en_US/fbevents.js');";
    let script = |length: usize| format!("<script>{}{from}</script>", ";".repeat(length));
    let page = format!("<head>{}{}", script(10), script(3000));
    let out = held(&page, 512, (1 << 20, 1000));
    assert_eq!(out.matches("//t.shop.example/meta/").count(), 1);
    assert!(out.ends_with(&script(3000)));
}

#[test]
fn policies_beyond_their_bound_leave_the_page_as_it_is() {
    let inline = "<script>x('https://connect.facebook.net/en_US/fbevents.js')</script>";
    let meta =
        "<meta http-equiv=content-security-policy content=\"script-src 'self' 'unsafe-inline'\">";
    let few = format!("<head>{meta}{inline}");
    assert!(bare(&few).contains("/meta/en_US/"));
    let many = format!("<head>{}{inline}", meta.repeat(100));
    assert_eq!(by(&many, 4096, 1 << 20).replace(&own(), ""), many);
    let long = meta.replace("'self'", &format!("'self' {}", "x ".repeat(10_000)));
    let long = format!("<head>{long}{inline}");
    assert_eq!(by(&long, 4096, 1 << 20).replace(&own(), ""), long);
}

#[test]
fn edits_that_page_policies_would_stop_are_not_made() {
    let meta = |policy: &str| {
        format!("<head><meta http-equiv=content-security-policy content=\"{policy}\">")
    };
    let src = format!("<script src='{GTAG}'></script>");
    let inline = "<script>x('https://connect.facebook.net/en_US/fbevents.js')</script>";
    let hashed = meta("script-src 'self' 'sha256-x'");
    let found = bare(&format!("{hashed}{src}{inline}"));
    assert!(found.contains("src='/ga4/") && found.ends_with(inline), "{found}");
    let named =
        meta("script-src &#39;unsafe-inline&#39; www.googletagmanager.com connect.facebook.net");
    let page = format!("{named}{src}{inline}");
    assert_eq!(bare(&page), page);
}
