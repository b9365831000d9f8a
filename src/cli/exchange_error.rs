//! The errors of requests to the admin API, for people: each names its cause and its cure.

use std::io;

use anyhow::anyhow;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use rustls::CertificateError;
use serde_json::Value;

use super::admin_url::AdminUrl;
use super::render;

/// The longest quotation of an answer, in characters.
const QUOTED_CHARS: usize = 500;

/// The error of a request without an answer.
pub(super) fn without_answer(error: reqwest::Error, base: &AdminUrl) -> anyhow::Error {
    let (is_unreachable, is_timeout) = (error.is_connect(), error.is_timeout());
    let at = base.host_and_port();
    let error = anyhow::Error::from(error.without_url());
    if let Some(cause) = error.chain().find_map(find_tls_error) {
        let context = tls_failure(cause, &at);
        return error.context(context);
    }
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let is_refused =
        io_errors.map(io::Error::kind).any(|it| it == io::ErrorKind::ConnectionRefused);
    let context = match is_unreachable {
        true if is_refused => {
            format!("no gateway listens at {at} (connection refused): start it or set --admin")
        }
        true => format!("no gateway answers at {at}: start it or set --admin"),
        false if !base.is_tls() && !is_timeout => {
            format!("{at} gave no answer in plain HTTP: if it speaks TLS, set --admin https://{at}")
        }
        false => return error,
    };
    error.context(context)
}

fn tls_failure(error: &rustls::Error, at: &str) -> String {
    use CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext};
    match error {
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            format!("TLS with {at} failed: its certificate is for other names")
        }
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            format!("TLS with {at} failed: its certificate has expired")
        }
        rustls::Error::InvalidCertificate(_) => format!(
            "TLS with {at} failed: its certificate is not trusted; for one of a private authority, name the \
             authority's file with --admin-ca"
        ),
        rustls::Error::InvalidMessage(_) => format!(
            "TLS with {at} failed: it speaks no TLS; set --admin http://{at} if the token may travel unencrypted"
        ),
        _ => format!("TLS with {at} failed"),
    }
}

/// Finds an error of TLS in a cause. The error in an `io::Error` is not among its sources.
fn find_tls_error<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let inner = || find_tls_error(cause.downcast_ref::<io::Error>()?.get_ref()?);
    cause.downcast_ref().or_else(inner)
}

/// The error of a request with another answer than success.
pub(super) fn rejected(
    status: StatusCode,
    fields: &HeaderMap,
    body: &[u8],
    base: &AdminUrl,
) -> anyhow::Error {
    let (at, code) = (base.host_and_port(), status.as_u16());
    if let Some(Ok(to)) = fields.get(LOCATION).map(|to| to.to_str())
        && status.is_redirection()
    {
        let to = render::escape(to, QUOTED_CHARS);
        return anyhow!(
            "{at} redirects to {to} ({code}): set --admin to the gateway's own address"
        );
    }
    let kind = fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_gateway = kind.starts_with("application/problem+json");
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str).unwrap_or_default();
    let detail = render::escape(detail, QUOTED_CHARS);
    match status {
        StatusCode::UNAUTHORIZED if is_gateway => {
            anyhow!("the gateway refused the token (401): {detail}")
        }
        StatusCode::FORBIDDEN if is_gateway => {
            anyhow!("the gateway refused this with this token (403): {detail}")
        }
        StatusCode::MISDIRECTED_REQUEST if is_gateway => {
            anyhow!("the gateway refused the host name of {at} (421): {detail}")
        }
        _ if is_gateway => anyhow!("the gateway refused ({code}): {detail}"),
        _ => {
            anyhow!("{at} answered {code}, but not as a gateway does: check the address of --admin")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_names_the_cause_and_the_cure() {
        let base = AdminUrl::parse("https://ops.example:9443/tagway/", false).unwrap();
        let error = |status: u16, kind: &'static str, detail: &str| {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_TYPE, kind.parse().unwrap());
            let body = serde_json::json!({ "detail": detail }).to_string();
            let status = StatusCode::from_u16(status).unwrap();
            rejected(status, &fields, body.as_bytes(), &base).to_string()
        };
        let problem = "application/problem+json";
        let role = error(403, problem, "this needs the role editor, or a higher one");
        assert!(role.contains("(403): this needs the role editor"), "{role}");
        let host = error(421, problem, "add the name to admin.names");
        assert!(host.contains("ops.example:9443 (421): add the name to admin.names"), "{host}");
        let proxy = error(403, "text/html", "no");
        assert!(proxy.contains("answered 403, but not as a gateway does"), "{proxy}");
        let hostile = error(400, problem, "\u{1b}[2J");
        assert!(!hostile.contains('\u{1b}'), "{hostile}");
    }
}
