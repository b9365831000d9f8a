//! `[sites.destinations.settings]` of a webhook.

use http::Uri;
use http::header::{self, HeaderName, HeaderValue};
use url::Url;

use tagway_core::signature::WebhookSigningKey;
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::secret("url")
        .example("https://crm.example/in")
        .required()
        .doc("the endpoint; required"),
    Setting::secret("secret").example("${HOOK_SECRET}").doc(
        "the key that signs calls: whsec_ and base64, or plain text; without it calls are not \
             signed",
    ),
    Setting::secrets("previous_secrets")
        .example("[]")
        .doc("further secrets that sign, while receivers change to a new secret"),
    Setting::header_table("headers")
        .example("{ authorization = \"Bearer ${HOOK_TOKEN}\" }")
        .doc("fields that are sent with each call"),
];

/// Header fields that the gateway sets from the connection or the body.
const OWN: &[HeaderName] = &[
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::USER_AGENT,
];

/// The least bytes of a header value to be redacted: shorter ones are no secrets, and their redaction
/// would garble what is shown.
const MIN_SECRET_HEADER: usize = 8;

/// The validated settings of one destination.
pub(super) struct WebhookSettings {
    pub(super) url: Uri,
    /// Signing keys, the newest first. If empty, requests are not signed.
    pub(super) keys: Vec<WebhookSigningKey>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    secrets: Vec<SecretString>,
}

impl WebhookSettings {
    pub(super) fn read(section: &mut SettingsSection<'_>, endpoint: Option<Url>) -> Self {
        section.describe(SETTINGS);
        let url = read_url(section, endpoint);
        let mut secrets: Vec<SecretString> = section.opt_secret("secret").into_iter().collect();
        let mut keys = read_keys(section, "secret", &secrets);
        let previous = section.secrets("previous_secrets");
        keys.extend(read_keys(section, "previous_secrets", &previous));
        secrets.extend(previous);
        let written = section.header_table("headers");
        let values = written.iter().map(|(_, value)| value.as_str());
        let long = values.filter(|value| value.len() >= MIN_SECRET_HEADER);
        secrets.extend(long.map(SecretString::new));
        // Some receivers authenticate their senders by a token in the URL.
        secrets.extend(url.query().map(SecretString::new));
        let headers = written.iter().filter_map(|(name, value)| {
            read_header(name, value)
                .map_err(|problem| section.error("headers", &format!("{name:?} {problem}")))
                .ok()
        });
        Self { url, keys, headers: headers.collect(), secrets }
    }

    /// Returns the secrets to redact.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        self.secrets.clone()
    }
}

/// Returns the URL to call: `endpoint` replaces `url` if both are given.
fn read_url(section: &mut SettingsSection<'_>, endpoint: Option<Url>) -> Uri {
    let given = section.opt_parsed::<Url>("url");
    if let Some(url) = &given {
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            section.error("url", "must be an http or https URL with a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            section.error("url", "must not contain a user name or password: use headers");
        }
    }
    if given.is_none() && endpoint.is_none() && !section.has("url") {
        section.error("url", "is required");
    }
    let called = endpoint.or(given);
    called.and_then(|url| url.as_str().parse().ok()).unwrap_or_default()
}

fn read_keys(
    section: &mut SettingsSection<'_>,
    name: &str,
    secrets: &[SecretString],
) -> Vec<WebhookSigningKey> {
    let keys = secrets.iter().filter(|secret| !secret.is_empty()).filter_map(|secret| {
        WebhookSigningKey::read(secret)
            .map_err(|problem| section.error(name, &problem.to_string()))
            .ok()
    });
    keys.collect()
}

fn read_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name: HeaderName = name.parse().map_err(|_invalid| "is not a header name")?;
    if OWN.contains(&name) || name.as_str().starts_with("webhook-") {
        return Err("is set by the gateway itself");
    }
    let mut value: HeaderValue =
        value.parse().map_err(|_invalid| "has a value that is not valid in a header")?;
    value.set_sensitive(true);
    Ok((name, value))
}
