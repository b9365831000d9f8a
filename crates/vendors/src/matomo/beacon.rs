//! `matomo.php` under its several names: a hit is a query, whatever the method; a POST may also have
//! fields in its body, or JSON with a list of such queries. The library never retries.
//!
//! Parameters that Matomo takes only with its token (`token_auth`) could come from any client: the address
//! and the user agent (`cip`, `ua`) count only if the token is the site's own.

use http::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::hit;
use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::{self, FormFields, MessageBatch};

pub(super) struct MatomoBeacon;

impl Beacon for MatomoBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        let known = ["/matomo.php", "/piwik.php", "/js/tracker.php", "/js"];
        known.contains(&path.trim_end_matches('/')).then_some(AllowedMethods::Both)
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        if inbound.body.first() == Some(&b'{') {
            return bulk(inbound, batch);
        }
        if inbound.body.len() > inbound.bounds.hit_bytes() {
            return Err(BeaconDecodeError::TooLarge);
        }
        let body = String::from_utf8_lossy(inbound.body);
        let fields = FormFields::form(inbound.query).then(FormFields::form(&body));
        if !is_hit(&fields) {
            return Err(BeaconDecodeError::Malformed("there is no idsite, or no rec=1"));
        }
        add(&fields, inbound, batch)
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        let events = match verdict {
            BeaconOutcome::RetryLater { limited } => return BeaconReply::retry_later(limited),
            BeaconOutcome::Taken { events } => events,
            BeaconOutcome::Ignored | BeaconOutcome::TooLarge => 0,
        };
        if inbound.body.first() == Some(&b'{') {
            let body = json!({ "status": "success", "tracked": events, "invalid": 0 });
            return BeaconReply::json(body.to_string());
        }
        let fields = FormFields::form(inbound.query);
        let wants_image = match fields.get("send_image") {
            Some(wish) => wish != "0",
            None => inbound.method == Method::GET,
        };
        if wants_image { BeaconReply::gif() } else { BeaconReply::empty() }
    }
}

/// Adds the hits of a list. Elements that are no hits are left out.
fn bulk(
    inbound: &BeaconRequest<'_>,
    batch: &mut MessageBatch<'_>,
) -> Result<(), BeaconDecodeError> {
    let Some([requests, token]) = beacon_format::members(inbound.body, ["requests", "token_auth"])
    else {
        return Err(BeaconDecodeError::Malformed("the body is not JSON"));
    };
    batch.show_key_in(token);
    let Some(requests) = requests.filter(|requests| requests.starts_with(b"[")) else {
        return Err(BeaconDecodeError::Malformed("there is no list of requests"));
    };
    for request in beacon_format::records(requests, &inbound.bounds)? {
        if request.get().len() > inbound.bounds.hit_bytes() {
            batch.reject("too_large");
            continue;
        }
        if request.get() == beacon_format::UNREADABLE.get() {
            batch.reject("malformed");
            continue;
        }
        let Some(request) = beacon_format::string(request.get().as_bytes()) else { continue };
        let query = request.split_once('?').map_or(&*request, |(_, query)| query);
        let fields = FormFields::form(query);
        if is_hit(&fields) {
            add(&fields, inbound, batch)?;
        }
    }
    Ok(())
}

/// Adds the messages of one hit to the batch.
fn add(
    fields: &FormFields<'_>,
    inbound: &BeaconRequest<'_>,
    batch: &mut MessageBatch<'_>,
) -> Result<(), BeaconDecodeError> {
    fields.get("token_auth").into_iter().for_each(|token| batch.show_key(token));
    batch.extend(hit::messages(fields, &message_id(fields), inbound))
}

fn is_hit(fields: &FormFields<'_>) -> bool {
    fields.get("idsite").is_some() && fields.get("rec") == Some("1")
}

/// Returns an id made of the random number, the page view's id and the visitor's, as hits have none.
/// `None` without the random number: two hits of a page cannot be told apart then.
fn message_id(fields: &FormFields<'_>) -> Option<String> {
    fields.get("r")?;
    let mut hash = Sha256::new();
    for name in ["idsite", "_id", "pv_id", "r"] {
        hash.update(fields.get(name).unwrap_or_default());
        hash.update([0]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let digest =
        u128::from_be_bytes(std::array::from_fn(|at| digest.get(at).copied().unwrap_or_default()));
    Some(format!("matomo-{digest:032x}"))
}
