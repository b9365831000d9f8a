//! gtag's beacons (`docs/contracts/beacons.md` 3): `/g/collect`, below any path that a site put before it.
//!
//! A request is one event or several. Shared parameters are in the query; an event's own are in the query as
//! well, or in a line of the body. gtag waits for no reply and tries nothing again.

mod canonical;
mod hit;
mod items;
#[cfg(test)]
mod tests;
mod to_canonical;

use hit::Ga4BeaconHit;
pub(super) use to_canonical::to_canonical;

use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::{FormFields, MessageBatch};

/// The beacon of gtag and of clients that send the same format.
pub(super) struct Ga4Beacon;

/// The suffixes of the paths of events: plain, and through Google's own gateway.
const COLLECT: [&str; 2] = ["/g/collect", "/ag/g/c"];

/// The parts of the paths of Google's side requests: they bring no event.
const SIDE_REQUEST_PATHS: [&str; 3] = ["/ccm/", "/pagead/", "/_/service_worker/"];

/// The path with which Google's own page checks that requests arrive.
const HEALTHY: &str = "/healthy";

/// The most lines of one body. gtag sends 20 at most.
const MAX_LINES: usize = 25;

/// The most bytes of a query, summed over the events of the request, each of which repeats it.
const MAX_REPEATED_BYTES: usize = 256 * 1024;

/// The parameter at the end of the query by which a client asks for a stream.
const STREAMING: &str = "richsstsse";

impl Beacon for Ga4Beacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        let path = path.trim_end_matches('/');
        let collects = COLLECT.iter().any(|end| path.ends_with(end));
        let is_aside = SIDE_REQUEST_PATHS.iter().any(|part| path.contains(part));
        (collects || is_aside || path == HEALTHY).then_some(AllowedMethods::Both)
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let path = inbound.path.trim_end_matches('/');
        if !COLLECT.iter().any(|end| path.ends_with(end)) {
            return Ok(());
        }
        let query = FormFields::percent(inbound.query);
        if query.get("v") != Some("2") {
            return Err(BeaconDecodeError::Malformed("the version is not 2"));
        }
        if !query.get("tid").is_some_and(is_stream) {
            return Err(BeaconDecodeError::Malformed("tid is not the id of a stream"));
        }
        let body = String::from_utf8_lossy(inbound.body);
        let lines = body.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_LINES);
        let repeated = inbound.query.len().saturating_mul(lines.clone().count());
        if repeated > MAX_REPEATED_BYTES.min(inbound.bounds.messages_bytes) {
            return Err(BeaconDecodeError::Malformed("the query is too long for so many events"));
        }
        let mut first = None;
        let mut index = 0;
        for line in lines {
            if line.len() > inbound.bounds.hit_bytes() {
                batch.reject("too_large");
                continue;
            }
            let line = FormFields::percent(line);
            if line.get("en").is_some() {
                add(&Ga4BeaconHit::new(&query, Some(&line), index), batch)?;
                index += 1;
            } else if index == 0 && first.is_none() {
                first = Some(line);
            }
        }
        if index == 0 && batch.is_empty() {
            // A long event may have its parameters in the body and its name in the query.
            add(&Ga4BeaconHit::new(&query, first.as_ref(), 0), batch)?;
        }
        Ok(())
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://www.google-analytics.com")
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, _verdict: BeaconOutcome) -> BeaconReply {
        if inbound.path.trim_end_matches('/') == HEALTHY {
            return BeaconReply::text("ok");
        }
        let is_streaming = inbound.query.rsplit('&').next() == Some(STREAMING);
        if is_streaming { BeaconReply::text("") } else { BeaconReply::empty() }
    }
}

/// Adds the messages of one event.
fn add(hit: &Ga4BeaconHit<'_>, batch: &mut MessageBatch<'_>) -> Result<(), BeaconDecodeError> {
    let name = hit.get("en").ok_or(BeaconDecodeError::Malformed("there is no event"))?;
    canonical::add(hit, name, batch)
}

/// Returns true if it is the id of a destination of Google's tag.
fn is_stream(tid: &str) -> bool {
    let Some((kind, id)) = tid.split_once('-') else { return false };
    matches!(kind, "G" | "GT" | "AW" | "MC" | "DC")
        && !id.is_empty()
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
