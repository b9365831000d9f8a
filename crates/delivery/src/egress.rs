//! The gateway's only HTTP client for destinations: pooled, without private addresses and redirects, and with
//! a bound on each reply's bytes.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use tagway_core::address::{EgressResolver, PrivateAddressError, literal_is_public};
use tagway_settings::{Setting, SettingsSection};
use tagway_vendors::{VendorCallError, VendorReply};

/// The described settings of `[egress]`.
pub const EGRESS_SETTINGS: &[Setting] = &[
    Setting::boolean("allow_private")
        .default("false")
        .doc("true: destinations may be at loopback, private or link-local addresses"),
    Setting::size("reply_bytes")
        .default("256KiB")
        .doc("limit of a reply that is read; vendors answer in a few KiB"),
    Setting::duration("connect_timeout")
        .default("5s")
        .doc("the time for a connection to be established, TLS included"),
    Setting::duration("idle_time").default("60s").doc("unused connections are kept for this time"),
];

/// The settings of the egress client: `[egress]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressSettings {
    /// True if destinations may be at loopback, private or link-local addresses.
    pub allow_private: bool,
    /// The most bytes of a reply that are read.
    pub reply_bytes: usize,
    /// The timeout for making a connection, TLS included.
    pub connect_timeout: Duration,
    /// The time for which an unused connection is kept.
    pub idle_time: Duration,
    /// The most unused connections kept for one host.
    pub idle_per_host: usize,
}

impl EgressSettings {
    /// Reads the settings from `[egress]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(EGRESS_SETTINGS);
        Self {
            allow_private: section.boolean("allow_private"),
            reply_bytes: section.byte_count("reply_bytes"),
            connect_timeout: section.duration("connect_timeout"),
            idle_time: section.duration("idle_time"),
            idle_per_host: IDLE_PER_HOST,
        }
    }
}

/// Unused connections that are kept for one host: as many as its destinations have calls at once, and more than vendors
/// accept.
const IDLE_PER_HOST: usize = 128;

/// The egress client, one per gateway.
#[derive(Clone, Debug)]
pub struct EgressClient {
    client: reqwest::Client,
    allow_private: bool,
    reply_bytes: usize,
}

impl EgressClient {
    /// Builds the client.
    ///
    /// # Errors
    ///
    /// Returns an error if TLS cannot be set up on this machine.
    pub fn new(settings: &EgressSettings) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("tagway/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(settings.idle_time)
            .pool_max_idle_per_host(settings.idle_per_host)
            .tcp_nodelay(true)
            .dns_resolver(std::sync::Arc::new(EgressResolver::new(settings.allow_private)))
            .build()?;
        let (allow_private, reply_bytes) = (settings.allow_private, settings.reply_bytes);
        Ok(Self { client, allow_private, reply_bytes })
    }

    /// Sends a request and reads the reply, all within `timeout`.
    ///
    /// # Errors
    ///
    /// Returns a [`VendorCallError`] if the vendor cannot be reached or does not answer in time.
    pub async fn send(
        &self,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> Result<VendorReply, VendorCallError> {
        let request = reqwest::Request::try_from(request).map_err(call_error)?;
        if !self.allow_private && !literal_is_public(request.url()) {
            return Err(VendorCallError::Forbidden);
        }
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(VendorCallError::Timeout(timeout)),
        }
    }

    async fn exchange(&self, request: reqwest::Request) -> Result<VendorReply, VendorCallError> {
        let mut response = self.client.execute(request).await.map_err(call_error)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(call_error)? {
            let room = self.reply_bytes.saturating_sub(body.len());
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() > room {
                // The status is enough of an answer. The connection is closed, not drained.
                break;
            }
        }
        Ok(VendorReply { status, headers, body: body.freeze() })
    }
}

fn call_error(error: reqwest::Error) -> VendorCallError {
    let mut source: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if cause.is::<PrivateAddressError>() {
            return VendorCallError::Forbidden;
        }
        source = cause.source();
    }
    // Without the URL, which may contain a secret (GA4's does).
    if error.is_connect() || error.is_builder() {
        VendorCallError::Unreachable(Box::new(error.without_url()))
    } else {
        VendorCallError::Cut(Box::new(error.without_url()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allow_private: bool) -> EgressClient {
        EgressClient::new(&EgressSettings {
            allow_private,
            reply_bytes: 1000,
            connect_timeout: Duration::from_secs(1),
            idle_time: Duration::from_secs(1),
            idle_per_host: 1,
        })
        .unwrap()
    }

    async fn get(egress: &EgressClient, url: &str) -> Result<VendorReply, VendorCallError> {
        let request = http::Request::get(url).body(Bytes::new()).unwrap();
        egress.send(request, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn send_refuses_private_addresses_by_name_and_literal() {
        let guarded = egress(false);
        for url in
            ["http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost:1/", "http://0x7f.1:1/"]
        {
            let result = get(&guarded, url).await;
            assert!(matches!(result, Err(VendorCallError::Forbidden)), "{url}: {result:?}");
        }
        let result = get(&egress(true), "http://127.0.0.1:1/?secret=s3cret").await;
        let Err(VendorCallError::Unreachable(error)) = result else { panic!("{result:?}") };
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}
