//! `matomo.php` under its several names: a hit is a query, whatever the method; a POST may have fields
//! in its body too, or JSON with a list of such queries. The library never tries again.
//!
//! Parameters that Matomo takes only with its token (`token_auth`) are any client's word: the address and
//! the user agent (`cip`, `ua`) count where the token is the site's own.

use http::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::hit;
use crate::vendors::beacon::{Answer, Beacon, DecodeError, Inbound, Methods, Verdict};
use crate::vendors::wire::{self, Fields, MessageBatch};

pub(super) struct Matomo;

impl Beacon for Matomo {
    fn endpoint(&self, path: &str) -> Option<Methods> {
        let known = ["/matomo.php", "/piwik.php", "/js/tracker.php", "/js"];
        known.contains(&path.trim_end_matches('/')).then_some(Methods::Both)
    }

    fn read(&self, inbound: &Inbound<'_>, batch: &mut MessageBatch) -> Result<(), DecodeError> {
        if inbound.body.first() == Some(&b'{') {
            return bulk(inbound, batch);
        }
        if inbound.body.len() > inbound.bounds.hit_bytes() {
            return Err(DecodeError::TooLarge);
        }
        let body = String::from_utf8_lossy(inbound.body);
        let fields = Fields::form(inbound.query).then(Fields::form(&body));
        if !is_hit(&fields) {
            return Err(DecodeError::Malformed("there is no idsite, or no rec=1"));
        }
        add(&fields, inbound, batch)
    }

    fn answer(&self, inbound: &Inbound<'_>, verdict: Verdict) -> Answer {
        let events = match verdict {
            Verdict::Later { limited } => return Answer::later(limited),
            Verdict::Taken { events } => events,
            Verdict::Ignored | Verdict::TooLarge => 0,
        };
        if inbound.body.first() == Some(&b'{') {
            let body = json!({ "status": "success", "tracked": events, "invalid": 0 });
            return Answer::json(body.to_string());
        }
        let fields = Fields::form(inbound.query);
        let wants_image = match fields.get("send_image") {
            Some(wish) => wish != "0",
            None => inbound.method == Method::GET,
        };
        if wants_image { Answer::gif() } else { Answer::empty() }
    }
}

/// The hits of a list. Those that are none are left out.
fn bulk(inbound: &Inbound<'_>, batch: &mut MessageBatch) -> Result<(), DecodeError> {
    let Some([requests, token]) = wire::members(inbound.body, ["requests", "token_auth"]) else {
        return Err(DecodeError::Malformed("the body is not JSON"));
    };
    batch.show_key_in(token);
    let Some(requests) = requests.filter(|requests| requests.starts_with(b"[")) else {
        return Err(DecodeError::Malformed("there is no list of requests"));
    };
    for request in wire::records(requests, &inbound.bounds)? {
        if request.get().len() > inbound.bounds.hit_bytes() {
            batch.refuse("too_large");
            continue;
        }
        if request.get() == wire::UNREADABLE.get() {
            batch.refuse("malformed");
            continue;
        }
        let Some(request) = wire::string(request.get().as_bytes()) else { continue };
        let query = request.split_once('?').map_or(&*request, |(_, query)| query);
        let fields = Fields::form(query);
        if is_hit(&fields) {
            add(&fields, inbound, batch)?;
        }
    }
    Ok(())
}

/// Adds the messages of a hit.
fn add(
    fields: &Fields<'_>,
    inbound: &Inbound<'_>,
    batch: &mut MessageBatch,
) -> Result<(), DecodeError> {
    fields.get("token_auth").into_iter().for_each(|token| batch.show_key(token));
    batch.extend(hit::messages(fields, &message_id(fields), inbound))
}

fn is_hit(fields: &Fields<'_>) -> bool {
    fields.get("idsite").is_some() && fields.get("rec") == Some("1")
}

/// Hits have no id, but a random number, the page view's name and the visitor's. Without the first,
/// two hits of a page cannot be told apart: there is no id then.
fn message_id(fields: &Fields<'_>) -> Option<String> {
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
