//! Servers that simulate vendors: they check what the real ones check, record the received requests, and
//! inject faults.

mod amplitude;
#[cfg(test)]
mod direct;
mod drift;
mod fault;
mod ga4;
mod google_ads;
mod intercom;
mod klaviyo;
#[cfg(test)]
mod lists;
mod meta;
mod mixpanel;
mod tiktok;
mod webhook;

pub use fault::SimulatedFault;
pub use intercom::IntercomWorkspace;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use self::fault::FaultScript;
use super::server::{DemoHandler, DemoReply, DemoServer, whole};
use tagway_core::clock::SharedClock;

/// The webhook simulator's signing secret. Not a secret: it is in the source.
pub const WEBHOOK_SECRET: &str = "whsec_dGFnd2F5IGRlbW8gd2ViaG9vayBzaWduaW5nIGtleSE=";

/// The token of the Mixpanel simulator's project. Not a secret: it is in the source.
pub const MIXPANEL_TOKEN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Its service account: name, secret and the project's number.
pub const MIXPANEL_ACCOUNT: (&str, &str, &str) =
    ("gateway.demo.mp-service-account", "hush", "1001");

/// Requests that are recorded in full; beyond, only their events are counted.
const MAX_REMEMBERED: usize = 10_000;

/// The largest body, in bytes: no request of the gateway is larger.
const MAX_BODY_BYTES: usize = 4 << 20;

/// The vendor that a simulator simulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatorKind {
    /// GA4's Measurement Protocol: answers 204 to every request, and records the objections of the
    /// validation endpoint.
    Ga4,
    /// A workspace of Intercom: stores contacts, companies and events.
    Intercom(IntercomWorkspace),
    /// An organisation of Drift: stores contacts and accounts.
    Drift,
    /// Mixpanel's ingestion API, for a project with [`MIXPANEL_TOKEN`] or [`MIXPANEL_ACCOUNT`].
    Mixpanel,
    /// Meta's Conversions API: rejects a request with one bad event, counts a repetition once.
    Meta,
    /// Amplitude's upload APIs: any key of 32 hexadecimal digits is valid.
    Amplitude,
    /// Google's Data Manager API: the lists of Customer Match, of any account.
    GoogleAds,
    /// TikTok's custom audiences: answers 200 to every request.
    TikTok,
    /// Klaviyo's profiles and lists.
    Klaviyo,
    /// A receiver of Standard Webhooks: rejects requests that are not signed with [`WEBHOOK_SECRET`].
    Webhook,
}

/// One request, as received by the vendor.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Path and query.
    pub target: Uri,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body as received, not decompressed.
    pub body: Bytes,
}

/// The record of all that a simulator received.
#[derive(Clone, Debug, Default)]
pub struct SimulatorTally {
    /// Requests, with any reply.
    pub requests: u64,
    /// Accepted events by the vendor's own key, with their counts: a webhook's message ids, GA4's
    /// transaction ids, Meta's event ids, Mixpanel's insert ids, Intercom's and Drift's contact, name
    /// and time.
    pub events: HashMap<String, u32>,
    /// Events accepted.
    pub accepted: u64,
    /// The vendor's objections, the first of them in full.
    pub objections: Vec<String>,
    /// The first requests.
    pub seen: Vec<RecordedRequest>,
}

/// One request, as a vendor reads it.
struct SimulatorRequest<'r> {
    method: &'r Method,
    target: &'r Uri,
    headers: &'r HeaderMap,
    body: &'r Bytes,
    now: Timestamp,
    /// True if keys and tokens must be the simulated customer's. A dry run accepts any: only the vendor itself
    /// can check real ones.
    checks_credentials: bool,
}

/// A vendor's side of its API, with its memory of earlier requests.
trait VendorApi: Send {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome;

    /// The members of its lists.
    fn lists(&self) -> MemberLists {
        MemberLists::new()
    }
}

/// The members of a vendor's lists, by the list's name, or its number if it has none. A member is the
/// site's id if the vendor received it, otherwise the identifier that it received.
pub type MemberLists = BTreeMap<String, BTreeSet<String>>;

/// The result of one request.
struct SimulatorOutcome {
    reply: Response<Bytes>,
    /// The keys of the events that were accepted; those without a key are only counted.
    accepted: Vec<Option<String>>,
    objections: Vec<String>,
}

impl SimulatorKind {
    /// The simulator of a vendor. There is none for webhooks: their receiver only accepts its own secret, so
    /// it cannot dry-run real ones.
    pub fn of_vendor(name: &str) -> Option<Self> {
        match name {
            "ga4" => Some(Self::Ga4),
            "meta" => Some(Self::Meta),
            "mixpanel" => Some(Self::Mixpanel),
            "amplitude" => Some(Self::Amplitude),
            "intercom" => Some(Self::Intercom(IntercomWorkspace::default())),
            "drift" => Some(Self::Drift),
            "google_ads" => Some(Self::GoogleAds),
            "tiktok" => Some(Self::TikTok),
            "klaviyo" => Some(Self::Klaviyo),
            _ => None,
        }
    }

    fn build_api(self) -> Box<dyn VendorApi> {
        match self {
            Self::Ga4 => Box::new(ga4::Ga4Simulator),
            Self::Intercom(workspace) => Box::new(intercom::IntercomSimulator::new(workspace)),
            Self::Drift => Box::new(drift::DriftSimulator::default()),
            Self::Mixpanel => Box::new(mixpanel::MixpanelSimulator::default()),
            Self::Meta => Box::<meta::MetaSimulator>::default(),
            Self::Amplitude => Box::<amplitude::AmplitudeSimulator>::default(),
            Self::GoogleAds => Box::<google_ads::GoogleAdsSimulator>::default(),
            Self::TikTok => Box::<tiktok::TikTokSimulator>::default(),
            Self::Klaviyo => Box::<klaviyo::KlaviyoSimulator>::default(),
            Self::Webhook => Box::new(webhook::WebhookSimulator),
        }
    }
}

/// A vendor's side of its API without a socket: for dry runs.
pub struct InProcessVendor {
    api: Mutex<Box<dyn VendorApi>>,
    checks_credentials: bool,
}

impl InProcessVendor {
    /// Creates a vendor without any received requests.
    pub fn of(kind: SimulatorKind) -> Self {
        Self { api: Mutex::new(kind.build_api()), checks_credentials: true }
    }

    /// Creates a vendor that accepts all keys and tokens.
    pub fn trusting(kind: SimulatorKind) -> Self {
        Self { checks_credentials: false, ..Self::of(kind) }
    }

    /// The members of the vendor's lists.
    #[cfg(test)]
    pub(crate) fn lists(&self) -> MemberLists {
        self.api.lock().lists()
    }

    /// The reply of the vendor.
    pub fn answer(&self, request: &Request<Bytes>, now: Timestamp) -> Response<Bytes> {
        self.request(request, now).0
    }

    /// The vendor's reply, the keys of the accepted events, and the objections.
    pub(crate) fn request(
        &self,
        request: &Request<Bytes>,
        now: Timestamp,
    ) -> (Response<Bytes>, Vec<Option<String>>, Vec<String>) {
        let (method, target) = (request.method(), request.uri());
        let (headers, body) = (request.headers(), request.body());
        let judges_credentials = self.checks_credentials;
        let asked = SimulatorRequest {
            method,
            target,
            headers,
            body,
            now,
            checks_credentials: judges_credentials,
        };
        let mut desk = self.api.lock();
        let SimulatorOutcome { reply, accepted, objections } = desk.handle_request(&asked);
        (reply, accepted, objections)
    }
}

/// A running simulator. Dropping it stops it.
pub struct VendorSimulator {
    server: DemoServer,
    vendor: Arc<SimulatedVendor>,
}

struct SimulatedVendor {
    api: Mutex<Box<dyn VendorApi>>,
    clock: SharedClock,
    script: FaultScript,
    tally: Mutex<SimulatorTally>,
    /// Changes with every request.
    count: watch::Sender<u64>,
}

impl VendorSimulator {
    /// Starts one at `address`; port 0 takes a free port.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound.
    pub async fn start(
        kind: SimulatorKind,
        address: SocketAddr,
        clock: SharedClock,
    ) -> io::Result<Self> {
        let vendor = Arc::new(SimulatedVendor {
            api: Mutex::new(kind.build_api()),
            clock,
            script: FaultScript::default(),
            tally: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let server = DemoServer::start(address, vendor.clone()).await?;
        Ok(Self { server, vendor })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Injects this fault into the next `times` requests, after the faults already planned.
    pub fn add_faults(&self, times: usize, fault: SimulatedFault) {
        self.vendor.script.plan(times, fault);
    }

    /// Injects this fault from now on; `None` ends it, and clears the plan.
    pub fn set_fault(&self, fault: Option<SimulatedFault>) {
        self.vendor.script.replace(fault);
    }

    /// The record of all requests so far.
    pub fn tally(&self) -> SimulatorTally {
        self.vendor.tally.lock().clone()
    }

    /// The members of the vendor's lists.
    pub fn lists(&self) -> MemberLists {
        self.vendor.api.lock().lists()
    }

    /// Waits until the tally meets the condition. After `deadline`, the last tally is the error.
    ///
    /// # Errors
    ///
    /// The last tally, if it does not meet the condition before the deadline.
    pub async fn wait_for(
        &self,
        deadline: Duration,
        is_wanted: impl Fn(&SimulatorTally) -> bool,
    ) -> Result<SimulatorTally, SimulatorTally> {
        let mut count = self.vendor.count.subscribe();
        let wait = async {
            loop {
                count.borrow_and_update();
                let is_there = {
                    let tally = self.vendor.tally.lock();
                    is_wanted(&tally)
                };
                // The sender lives as long as the simulator.
                if is_there || count.changed().await.is_err() {
                    return;
                }
            }
        };
        match tokio::time::timeout(deadline, wait).await {
            Ok(()) => Ok(self.tally()),
            Err(_elapsed) => Err(self.tally()),
        }
    }
}

impl DemoHandler for SimulatedVendor {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Option<DemoReply> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let fault = self.script.next();
        let reading = fault.is_none_or(SimulatedFault::accepts).then(|| {
            let asked = SimulatorRequest {
                method: &head.method,
                target: &head.uri,
                headers: &head.headers,
                body: &body,
                now: self.clock.now(),
                checks_credentials: true,
            };
            self.api.lock().handle_request(&asked)
        });
        let seen = RecordedRequest { target: head.uri, headers: head.headers, body };
        let reply = self.note(seen, reading);
        self.count.send_modify(|count| *count += 1);
        match fault {
            None => reply.map(|reply| reply.map(whole)),
            Some(fault) => fault.reply().await,
        }
    }
}

impl SimulatedVendor {
    fn note(
        &self,
        seen: RecordedRequest,
        reading: Option<SimulatorOutcome>,
    ) -> Option<Response<Bytes>> {
        let mut tally = self.tally.lock();
        tally.requests += 1;
        if tally.seen.len() < MAX_REMEMBERED {
            tally.seen.push(seen);
        }
        let reading = reading?;
        for key in reading.accepted {
            tally.accepted += 1;
            if let Some(key) = key {
                *tally.events.entry(key).or_default() += 1;
            }
        }
        let room = MAX_REMEMBERED.saturating_sub(tally.objections.len());
        tally.objections.extend(reading.objections.into_iter().take(room));
        Some(reading.reply)
    }
}

/// A reply with this body.
fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer
}

/// The objection if a text cannot be the digest of an identifier: it must be in lower case, and not of an
/// empty text.
fn digest_objection(text: &str) -> Option<String> {
    const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let is_one = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (!is_one || text == EMPTY_SHA256).then(|| format!("{text} is no digest"))
}

/// The body as JSON, or an objection.
fn parse(body: &Bytes) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))
}

fn age_seconds(at: i64, now: Timestamp) -> i64 {
    now.as_second().saturating_sub(at)
}
