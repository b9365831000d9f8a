//! One recorded visit of the page: the activity of its network and main thread, and the page's own
//! metrics.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::chromium::{ChromiumBrowser, DevToolsEvent};
use super::measure::VisitRecording;
use super::{AuditError, AuditOptions, NetworkThrottle};

/// The most records of a trace: a heavy page has some 100,000.
const TRACE_EVENTS: usize = 2_000_000;
/// The most events of the network.
const NETWORK_EVENTS: usize = 200_000;

const CATEGORIES: &str =
    "devtools.timeline,disabled-by-default-devtools.timeline,v8,disabled-by-default-v8.compile";

/// Code that runs in the page before its own scripts, for metrics that need observers.
const OBSERVE: &str = r#"(() => {
  const seen = { lcp: 0, tbt: 0, long: 0 };
  Object.defineProperty(globalThis, "__tagwayAudit", { value: seen });
  const watch = (type, each) => new PerformanceObserver((list) => list.getEntries().forEach(each))
    .observe({ type, buffered: true });
  watch("largest-contentful-paint", (entry) => { seen.lcp = entry.startTime; });
  watch("longtask", (entry) => { seen.long += 1; seen.tbt += entry.duration - 50; });
})()"#;

/// Code that collects the metrics at the end.
const ASK: &str = r#"(() => {
  const seen = globalThis.__tagwayAudit ?? {};
  const [navigation] = performance.getEntriesByType("navigation");
  let cookies = "";
  try { cookies = document.cookie; } catch {}
  return JSON.stringify({ url: location.href,
    lcp: Number(seen.lcp), tbt: Number(seen.tbt), long: Number(seen.long),
    load: navigation?.loadEventEnd ?? 0, cookies: new TextEncoder().encode(cookies).length,
  });
})()"#;

/// Opens the page with a fresh profile and waits until it is done.
pub(super) async fn visit(options: &AuditOptions) -> Result<VisitRecording, AuditError> {
    let mut browser = ChromiumBrowser::start(options)?;
    let target = browser.call(None, "Target.createTarget", json!({ "url": "about:blank" })).await?;
    let attach = json!({ "targetId": target["targetId"], "flatten": true });
    let attached = browser.call(None, "Target.attachToTarget", attach).await?;
    let Some(page) = attached["sessionId"].as_str() else { return Err(AuditError::Ended) };
    prepare(&mut browser, page, options).await?;

    let mut record = VisitRecording::default();
    let start = json!({ "transferMode": "ReportEvents", "traceConfig": {
        "recordMode": "recordUntilFull", "includedCategories": CATEGORIES.split(',').collect::<Vec<_>>(),
    }});
    browser.call(None, "Tracing.start", start).await?;
    let opened =
        browser.call(Some(page), "Page.navigate", json!({ "url": options.url.as_str() })).await?;
    if let Some(error) = opened["errorText"].as_str() {
        return Err(AuditError::Page(error.to_owned()));
    }
    follow(&mut browser, &mut record, page, options).await?;

    let asked = json!({ "expression": ASK, "returnByValue": true });
    let answer = browser.call(Some(page), "Runtime.evaluate", asked).await?;
    let answer = answer["result"]["value"].as_str().unwrap_or("{}");
    record.page = serde_json::from_str(answer).unwrap_or(Value::Null);
    browser.call(None, "Tracing.end", json!({})).await?;
    loop {
        let event = browser.event().await?;
        if event.method == "Tracing.tracingComplete" {
            break;
        }
        keep(&mut record, event)?;
    }
    // After the trace: the collection is not a cost of the page.
    browser.call(Some(page), "HeapProfiler.collectGarbage", json!({})).await?;
    let heap = browser.call(Some(page), "Runtime.getHeapUsage", json!({})).await?;
    record.heap_bytes = heap["usedSize"].as_f64().unwrap_or(0.0);
    browser.end();
    Ok(record)
}

async fn prepare(
    browser: &mut ChromiumBrowser,
    page: &str,
    options: &AuditOptions,
) -> Result<(), AuditError> {
    for domain in ["Page.enable", "Network.enable", "Runtime.enable"] {
        browser.call(Some(page), domain, json!({})).await?;
    }
    // Some tags stay silent in headless browsers, and would seem to cost less.
    let version = browser.call(None, "Browser.getVersion", json!({})).await?;
    let agent = version["userAgent"].as_str().unwrap_or_default();
    let agent = json!({ "userAgent": agent.replace("HeadlessChrome", "Chrome") });
    browser.call(Some(page), "Emulation.setUserAgentOverride", agent).await?;
    // Frames of other sites and workers are separate targets. They do not wait to be attached: a waiting
    // service worker would seem to cost nothing.
    let attach = json!({ "autoAttach": true, "waitForDebuggerOnStart": false, "flatten": true });
    browser.call(Some(page), "Target.setAutoAttach", attach).await?;
    let observe = json!({ "source": OBSERVE });
    browser.call(Some(page), "Page.addScriptToEvaluateOnNewDocument", observe).await?;
    if options.cpu > 1.0 {
        let rate = json!({ "rate": options.cpu });
        browser.call(Some(page), "Emulation.setCPUThrottlingRate", rate).await?;
    }
    if let Some(NetworkThrottle::Slow4g) = options.throttle {
        let network = json!({
            "offline": false, "latency": 562.5,
            "downloadThroughput": 1_474_560 / 8, "uploadThroughput": 675_000 / 8,
        });
        browser.call(Some(page), "Network.emulateNetworkConditions", network).await?;
    }
    Ok(())
}

/// Records until the page is loaded and its network was idle for a while, or until half the time limit: a
/// page that never rests is measured until then.
async fn follow(
    browser: &mut ChromiumBrowser,
    record: &mut VisitRecording,
    page: &str,
    options: &AuditOptions,
) -> Result<(), AuditError> {
    let latest = Instant::now() + options.timeout / 2;
    let mut under_way = BTreeSet::new();
    let mut is_loaded = false;
    let mut quiet_since = Instant::now();
    loop {
        let is_quiet = is_loaded && under_way.is_empty();
        let until = if is_quiet { latest.min(quiet_since + options.settle) } else { latest };
        let Ok(event) = timeout_at(until, browser.event()).await else {
            record.is_settled = is_quiet;
            return Ok(());
        };
        let event = event?;
        let id = event.params["requestId"].as_str().map(str::to_owned);
        match (event.method.as_str(), id) {
            ("Page.loadEventFired", _) if event.session.as_deref() == Some(page) => {
                is_loaded = true;
                quiet_since = Instant::now();
            }
            ("Network.requestWillBeSent", Some(id)) => {
                under_way.insert(id);
            }
            ("Network.loadingFinished" | "Network.loadingFailed", Some(id)) => {
                under_way.remove(&id);
                quiet_since = Instant::now();
            }
            ("Target.attachedToTarget", _) => {
                let session = event.params["sessionId"].as_str().map(str::to_owned);
                // The target may be gone before the command arrives.
                browser.send(session.as_deref(), "Network.enable", json!({})).await?;
            }
            _ => {}
        }
        keep(record, event)?;
    }
}

fn keep(record: &mut VisitRecording, mut event: DevToolsEvent) -> Result<(), AuditError> {
    if event.method == "Tracing.dataCollected" {
        if let Value::Array(events) = event.params["value"].take() {
            record.trace.extend(events);
        }
    } else if event.method.starts_with("Network.") {
        record.network.push((event.method, event.params));
    }
    if record.trace.len() > TRACE_EVENTS || record.network.len() > NETWORK_EVENTS {
        return Err(AuditError::TooMuch);
    }
    Ok(())
}
