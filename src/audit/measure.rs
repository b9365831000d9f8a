//! Computes figures from the recording of a visit. Pure.
//!
//! Main-thread time is CPU time of the threads that run pages (`CrRendererMain`). A script's time is
//! inclusive: its calls into other scripts count as its own, and nested scripts are not counted again, so
//! that the sum never exceeds the total.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::known_tags;

/// The most scripts of a tag in the figures, the most expensive first.
const SCRIPTS: usize = 20;
/// The most tags in the figures.
const TAGS: usize = 200;
/// The most ids of one tag.
const IDS: usize = 8;
/// The length of a long task, by <https://w3c.github.io/longtasks/>.
const LONG_TASK_US: f64 = 50_000.0;

/// The recording of a visit.
#[derive(Debug, Default)]
pub struct VisitRecording {
    /// Events of the network: name and details.
    pub network: Vec<(String, Value)>,
    /// Trace events.
    pub trace: Vec<Value>,
    /// Values that the page's own observers reported.
    pub page: Value,
    /// The heap size after a garbage collection.
    pub heap_bytes: f64,
    /// True if the page came to rest.
    pub is_settled: bool,
}

/// The costs of a page.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PageFigures {
    /// The page's address.
    pub url: String,
    /// The number of visits of which these are the medians.
    pub visits: usize,
    /// Visits that never came to rest, measured until their time limit.
    pub unsettled: usize,
    /// The totals of the page, by the names in [`TOTALS`].
    pub totals: BTreeMap<String, f64>,
    /// Third-party or known tags.
    pub tags: Vec<TagFigures>,
}

/// One tag: all activity of a vendor, or of an unknown third party, in the page.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TagFigures {
    /// Its name, or its domain.
    pub name: String,
    /// Our name of its vendor.
    pub vendor: Option<String>,
    /// Its replacement.
    pub replaced_by: String,
    /// Public ids in its requests.
    pub ids: Vec<String>,
    /// Hosts of its requests.
    pub hosts: Vec<String>,
    /// The number of its requests.
    pub requests: f64,
    /// Bytes received, heads included.
    pub bytes: f64,
    /// Main-thread time of its scripts.
    pub main_ms: f64,
    /// Its scripts, without queries.
    pub scripts: Vec<ScriptFigures>,
}

/// One script of a tag.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ScriptFigures {
    /// Its address, without the query.
    pub url: String,
    /// The main-thread time of the script.
    pub main_ms: f64,
    /// Bytes received.
    pub bytes: f64,
}

/// The keys of the totals, their readable names, and their units.
pub const TOTALS: &[(&str, &str, &str)] = &[
    ("requests", "requests", ""),
    ("third_party_requests", "of these to third parties", ""),
    ("hosts", "hosts", ""),
    ("connections", "connections", ""),
    ("preflights", "preflights", ""),
    ("bytes_down", "received", "KB"),
    ("bytes_up", "request bodies", "KB"),
    ("script_bytes", "scripts received", "KB"),
    ("main_ms", "main thread", "ms"),
    ("script_ms", "of this in scripts", "ms"),
    ("long_tasks", "long tasks", ""),
    ("tbt_ms", "total blocking time", "ms"),
    ("lcp_ms", "largest contentful paint", "ms"),
    ("load_ms", "load event", "ms"),
    ("heap_bytes", "heap after collection", "KB"),
    ("cookie_bytes", "document.cookie", "B"),
];

#[derive(Debug, Default)]
struct MeasuredRequest {
    url: String,
    is_script: bool,
    bytes: f64,
}

/// Computes the figures of one visit.
pub fn figures(asked: &Url, record: &VisitRecording) -> PageFigures {
    let mut totals: BTreeMap<String, f64> =
        TOTALS.iter().map(|(name, ..)| ((*name).to_owned(), 0.0)).collect();
    let mut add = |name: &str, value: f64| *totals.entry(name.to_owned()).or_default() += value;
    let (requests, connections, preflights, bytes_up) = requests(&record.network);
    let (main_us, long_tasks, by_script) = main_thread(&record.trace);

    // A site may redirect to its canonical name.
    let page = record.page["url"].as_str().and_then(|url| Url::parse(url).ok());
    let page = page.unwrap_or_else(|| asked.clone());
    let own = domain(&page).unwrap_or_default();
    let mut hosts = BTreeSet::new();
    let mut tags: BTreeMap<String, TagFigures> = BTreeMap::new();
    for request in &requests {
        let Ok(url) = Url::parse(&request.url) else { continue };
        let Some(host) = url.host_str() else { continue };
        hosts.insert(host.to_owned());
        add("requests", 1.0);
        add("bytes_down", request.bytes);
        if request.is_script {
            add("script_bytes", request.bytes);
        }
        if domain(&url).as_ref() != Some(&own) {
            add("third_party_requests", 1.0);
        }
        let Some((tag, id)) = tag(&mut tags, &url, &own) else { continue };
        tag.requests += 1.0;
        tag.bytes += request.bytes;
        if !tag.hosts.iter().any(|known| known == host) {
            tag.hosts.push(host.to_owned());
        }
        if let Some(id) = id.filter(|id| !tag.ids.contains(id) && tag.ids.len() < IDS) {
            tag.ids.push(id);
        }
        if request.is_script {
            script(tag, &url).bytes += request.bytes;
        }
    }
    for (address, us) in by_script {
        add("script_ms", us / 1000.0);
        let Ok(url) = Url::parse(&address) else { continue };
        let Some((tag, _)) = tag(&mut tags, &url, &own) else { continue };
        tag.main_ms += us / 1000.0;
        script(tag, &url).main_ms += us / 1000.0;
    }
    add("hosts", count(hosts.len()));
    add("connections", count(connections));
    add("preflights", count(preflights));
    add("bytes_up", bytes_up);
    add("main_ms", main_us / 1000.0);
    add("long_tasks", count(long_tasks));
    for (name, key) in
        [("lcp_ms", "lcp"), ("tbt_ms", "tbt"), ("load_ms", "load"), ("cookie_bytes", "cookies")]
    {
        add(name, record.page[key].as_f64().unwrap_or(0.0));
    }
    add("heap_bytes", record.heap_bytes);
    PageFigures {
        url: page.into(),
        visits: 1,
        unsettled: usize::from(!record.is_settled),
        totals,
        tags: sorted(tags.into_values().collect()),
    }
}

fn sorted(mut tags: Vec<TagFigures>) -> Vec<TagFigures> {
    for tag in &mut tags {
        tag.scripts
            .sort_by(|a, b| b.main_ms.total_cmp(&a.main_ms).then(b.bytes.total_cmp(&a.bytes)));
        tag.scripts.truncate(SCRIPTS);
    }
    tags.sort_by(|a, b| b.main_ms.total_cmp(&a.main_ms).then(b.bytes.total_cmp(&a.bytes)));
    tags.truncate(TAGS);
    tags
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
const fn count(number: usize) -> f64 {
    number as f64
}

/// The registrable domain, or the host if there is none.
pub(super) fn domain(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    let name = url.domain().and_then(psl::domain_str);
    Some(name.unwrap_or(host).to_owned())
}

/// The tag of this address, and its id in it; none if the address is the site's own.
fn tag<'t>(
    tags: &'t mut BTreeMap<String, TagFigures>,
    url: &Url,
    own: &str,
) -> Option<(&'t mut TagFigures, Option<String>)> {
    let recognised = known_tags::recognise(url);
    let domain = domain(url)?;
    if recognised.is_none() && domain == own {
        return None;
    }
    let name = recognised.as_ref().map_or(domain, |(known, _)| known.name.to_owned());
    let tag = tags.entry(name.clone()).or_insert_with(|| TagFigures {
        name,
        vendor: recognised.as_ref().and_then(|(known, _)| known.vendor.map(str::to_owned)),
        replaced_by: recognised
            .as_ref()
            .map_or_else(|| "not known".to_owned(), |(known, _)| known.replaced_by()),
        ..TagFigures::default()
    });
    Some((tag, recognised.and_then(|(_, id)| id)))
}

fn script<'t>(tag: &'t mut TagFigures, url: &Url) -> &'t mut ScriptFigures {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    let bare = String::from(bare);
    let at = tag.scripts.iter().position(|script| script.url == bare).unwrap_or_else(|| {
        tag.scripts.push(ScriptFigures { url: bare, ..ScriptFigures::default() });
        tag.scripts.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "found or pushed just now")]
    &mut tag.scripts[at]
}

/// The requests, the numbers of connections and of preflights, and the bytes of bodies.
fn requests(events: &[(String, Value)]) -> (Vec<MeasuredRequest>, usize, usize, f64) {
    let mut requests: Vec<MeasuredRequest> = Vec::new();
    let mut current: HashMap<&str, usize> = HashMap::new();
    let mut connections = BTreeSet::new();
    let (mut preflights, mut bytes_up) = (0, 0.0);
    for (name, params) in events {
        let Some(id) = params["requestId"].as_str() else { continue };
        match name.as_str() {
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                if !is_web(url) {
                    continue;
                }
                // A redirect continues under the same id.
                let redirect = &params["redirectResponse"];
                connection(&mut connections, redirect);
                let before = current.get(id).and_then(|at| requests.get_mut(*at));
                if let (Some(before), Some(bytes)) =
                    (before, redirect["encodedDataLength"].as_f64())
                {
                    before.bytes = bytes;
                }
                preflights += usize::from(params["type"] == "Preflight");
                bytes_up +=
                    params["request"]["postData"].as_str().map_or(0.0, |body| count(body.len()));
                if let (Some(at), Some(0.0)) = (current.get(id), redirect["connectionId"].as_f64())
                {
                    // The browser's own redirect from http to https: no request was sent.
                    if let Some(request) = requests.get_mut(*at) {
                        url.clone_into(&mut request.url);
                        continue;
                    }
                }
                current.insert(id, requests.len());
                let is_script = params["type"] == "Script";
                requests.push(MeasuredRequest { url: url.to_owned(), is_script, bytes: 0.0 });
            }
            "Network.responseReceived" => {
                connection(&mut connections, &params["response"]);
                let request = current.get(id).and_then(|at| requests.get_mut(*at));
                if let Some(request) = request {
                    request.is_script |= params["type"] == "Script";
                    // Used if no end is reported, as for responses without a body.
                    request.bytes = params["response"]["encodedDataLength"].as_f64().unwrap_or(0.0);
                }
            }
            "Network.loadingFinished" => {
                let request = current.get(id).and_then(|at| requests.get_mut(*at));
                if let (Some(request), Some(bytes)) =
                    (request, params["encodedDataLength"].as_f64())
                {
                    request.bytes = bytes;
                }
            }
            _ => {}
        }
    }
    (requests, connections.len(), preflights, bytes_up)
}

fn connection(connections: &mut BTreeSet<u64>, response: &Value) {
    let is_fresh = !response["fromDiskCache"].as_bool().unwrap_or(false);
    if let Some(id) = response["connectionId"].as_f64().filter(|id| is_fresh && *id > 0.0) {
        connections.insert(id.to_bits());
    }
}

/// The time of the main threads in µs, the number of long tasks, and the time of each script.
fn main_thread(trace: &[Value]) -> (f64, usize, BTreeMap<String, f64>) {
    let thread = |event: &Value| (event["pid"].as_u64(), event["tid"].as_u64());
    let mains: BTreeSet<_> = trace
        .iter()
        .filter(|event| event["name"] == "thread_name" && event["args"]["name"] == "CrRendererMain")
        .map(thread)
        .collect();
    let mut complete: Vec<&Value> =
        trace.iter().filter(|event| event["ph"] == "X" && mains.contains(&thread(event))).collect();
    // The outer event first if two begin at once.
    let begin = |event: &Value| event["ts"].as_f64().unwrap_or(0.0);
    let long = |event: &Value| event["dur"].as_f64().unwrap_or(0.0);
    complete.sort_by(|a, b| {
        thread(a)
            .cmp(&thread(b))
            .then(begin(a).total_cmp(&begin(b)))
            .then(long(b).total_cmp(&long(a)))
    });
    let (mut total, mut long_tasks) = (0.0, 0);
    let mut scripts: BTreeMap<String, f64> = BTreeMap::new();
    // The ends of the last counted task and script; nested events are part of them.
    let mut task = ((None, None), 0.0);
    let mut counted = ((None, None), 0.0);
    for event in complete {
        let (thread, at, end) = (thread(event), begin(event), begin(event) + long(event));
        let cost = event["tdur"].as_f64().unwrap_or_else(|| long(event));
        let is_within =
            |outer: ((Option<u64>, Option<u64>), f64)| outer.0 == thread && at < outer.1;
        if event["name"] == "RunTask" && !is_within(task) {
            total += cost;
            long_tasks += usize::from(cost >= LONG_TASK_US);
            task = (thread, end);
        }
        if let Some(url) = script_of(event).filter(|_| !is_within(counted)) {
            *scripts.entry(url.to_owned()).or_default() += cost;
            counted = (thread, end);
        }
    }
    (total, long_tasks, scripts)
}

fn is_web(url: &str) -> bool {
    url.starts_with("http:") || url.starts_with("https:")
}

fn script_of(event: &Value) -> Option<&str> {
    let args = &event["args"];
    match event["name"].as_str()? {
        "EvaluateScript" | "FunctionCall" | "v8.compile" | "v8.evaluateModule"
        | "v8.compileModule" => {
            let url = args["data"]["url"].as_str().or_else(|| args["fileName"].as_str())?;
            is_web(url).then_some(url)
        }
        _ => None,
    }
}

/// The medians of several visits' figures. A tag that a visit did not load counts as zero there.
pub fn medians(visits: Vec<PageFigures>) -> PageFigures {
    let Some(first) = visits.first() else { return PageFigures::default() };
    let names: BTreeSet<&String> = visits.iter().flat_map(|visit| visit.totals.keys()).collect();
    let middle = |of: &dyn Fn(&PageFigures) -> f64| median(visits.iter().map(of).collect());
    let total = |name: &String| middle(&|visit| visit.totals.get(name).copied().unwrap_or(0.0));
    let totals = names.into_iter().map(|name| (name.clone(), total(name))).collect();
    let mut tags: BTreeMap<&String, TagFigures> = BTreeMap::new();
    for tag in visits.iter().flat_map(|visit| &visit.tags) {
        let seen = tags.entry(&tag.name).or_insert_with(|| tag.clone());
        for id in tag.ids.iter().filter(|id| !seen.ids.contains(id)).collect::<Vec<_>>() {
            seen.ids.push(id.clone());
        }
    }
    let mut tags: Vec<TagFigures> = tags.into_values().collect();
    for tag in &mut tags {
        let name = tag.name.clone();
        let of = |visit: &PageFigures, read: fn(&TagFigures) -> f64| {
            visit.tags.iter().find(|tag| tag.name == name).map_or(0.0, read)
        };
        tag.requests = middle(&|visit| of(visit, |tag| tag.requests));
        tag.bytes = middle(&|visit| of(visit, |tag| tag.bytes));
        tag.main_ms = middle(&|visit| of(visit, |tag| tag.main_ms));
        for script in &mut tag.scripts {
            let read = |visit: &PageFigures| {
                let tag = visit.tags.iter().find(|tag| tag.name == name);
                tag.and_then(|tag| tag.scripts.iter().find(|other| other.url == script.url))
                    .map_or(0.0, |script| script.main_ms)
            };
            script.main_ms = middle(&read);
        }
    }
    let unsettled = visits.iter().map(|visit| visit.unsettled).sum();
    let url = first.url.clone();
    PageFigures { url, visits: visits.len(), unsettled, totals, tags: sorted(tags) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    let half = values.len() / 2;
    if values.len() % 2 == 1 {
        at(half)
    } else {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(id: &str, url: &str, kind: &str) -> (String, Value) {
        let params = json!({ "requestId": id, "type": kind, "request": { "url": url } });
        ("Network.requestWillBeSent".to_owned(), params)
    }

    fn answered(id: &str, connection: u64, bytes: u64) -> [(String, Value); 2] {
        let response = json!({ "requestId": id, "response": { "connectionId": connection } });
        let finished = json!({ "requestId": id, "encodedDataLength": bytes });
        [
            ("Network.responseReceived".to_owned(), response),
            ("Network.loadingFinished".to_owned(), finished),
        ]
    }

    fn ran(name: &str, ts: u64, dur: u64, url: &str) -> Value {
        json!({ "name": name, "ph": "X", "ts": ts, "dur": dur, "tdur": dur, "pid": 1, "tid": 2,
            "args": { "data": { "url": url } } })
    }

    fn record() -> VisitRecording {
        let gtag = "https://www.googletagmanager.com/gtag/js?id=G-A1";
        let mut network = vec![
            sent("1", "https://www.shop.example/", "Document"),
            sent("2", gtag, "Script"),
            sent("3", "https://cdn.shop.example/app.js", "Script"),
            sent("4", "https://x.other.example/p", "Preflight"),
        ];
        network.extend(answered("1", 7, 1000));
        network.extend(answered("2", 8, 5000));
        network.extend(answered("3", 7, 300));
        network.extend(answered("4", 9, 10));
        let own = "https://cdn.shop.example/app.js";
        let trace = vec![
            json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": 2,
                "args": { "name": "CrRendererMain" } }),
            ran("RunTask", 0, 60_000, ""),
            ran("EvaluateScript", 10, 50_000, gtag),
            // Nested in the other script: part of it.
            ran("FunctionCall", 20, 10_000, own),
            ran("RunTask", 70_000, 9_000, ""),
            ran("FunctionCall", 70_001, 4_000, own),
            // On another thread.
            json!({ "name": "RunTask", "ph": "X", "ts": 0, "dur": 99, "pid": 1, "tid": 3 }),
        ];
        let page = json!({ "lcp": 12, "tbt": 10, "load": 34, "cookies": 5 });
        VisitRecording { network, trace, page, heap_bytes: 1.0, is_settled: true }
    }

    #[test]
    fn figures_are_computed_from_a_recording() {
        let figures = figures(&Url::parse("https://www.shop.example/").unwrap(), &record());
        let total = |name: &str| figures.totals[name];
        assert_eq!(total("requests"), 4.0);
        assert_eq!(total("third_party_requests"), 2.0);
        assert_eq!((total("hosts"), total("connections"), total("preflights")), (4.0, 3.0, 1.0));
        assert_eq!((total("bytes_down"), total("script_bytes")), (6310.0, 5300.0));
        assert_eq!((total("main_ms"), total("script_ms"), total("long_tasks")), (69.0, 54.0, 1.0));
        assert_eq!((total("lcp_ms"), total("cookie_bytes")), (12.0, 5.0));
        let [ga4, other] = figures.tags.as_slice() else { panic!("{:?}", figures.tags) };
        assert_eq!((ga4.name.as_str(), ga4.main_ms), ("Google Analytics 4", 50.0));
        assert_eq!(ga4.ids, ["G-A1"]);
        assert_eq!(ga4.scripts[0].url, "https://www.googletagmanager.com/gtag/js");
        assert_eq!((other.name.as_str(), other.requests), ("other.example", 1.0));
        for (name, ..) in TOTALS {
            assert!(figures.totals.contains_key(*name), "{name}");
        }
    }

    #[test]
    fn redirect_counts_as_a_separate_request() {
        let (name, mut second) = sent("1", "https://b.example/", "Document");
        second["redirectResponse"] = json!({ "connectionId": 1, "encodedDataLength": 70 });
        let mut network = vec![sent("1", "https://a.example/", "Document"), (name, second)];
        network.extend(answered("1", 2, 30));
        let (requests, connections, ..) = requests(&network);
        let bytes: Vec<f64> = requests.iter().map(|request| request.bytes).collect();
        assert_eq!((bytes, connections), (vec![70.0, 30.0], 2));
    }

    #[test]
    fn medians_are_computed_for_each_figure() {
        let page = Url::parse("https://www.shop.example/").unwrap();
        let visit = |main: f64| {
            let mut figures = figures(&page, &record());
            figures.totals.insert("main_ms".to_owned(), main);
            figures.tags[0].main_ms = main;
            figures
        };
        let medians = medians(vec![visit(3.0), visit(1.0), visit(2.0)]);
        assert_eq!((medians.totals["main_ms"], medians.tags[0].main_ms), (2.0, 2.0));
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
