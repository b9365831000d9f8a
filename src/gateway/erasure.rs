//! Erasure of people at the request of the site's servers: Mixpanel's `$delete`, below a mount with
//! `erasures = "forget"`.
//!
//! Only a sender that is proven to be a server may erase anybody. All other requests are rejected with `erasure`, as
//! is everyone's where the site does not allow it: anyone can send a beacon.

use std::error::Error;

use async_trait::async_trait;

use super::SiteRequest;
use super::accept::SenderKind;
use super::decode::JudgedMessages;
use super::mounts::VendorMount;
use super::rejection::RequestRejection;
use tagway_vendors::beacon_format::{ErasureRequest, RejectedMessage};

/// The erasure of people's stored data, as `tagway forget` does it.
#[async_trait]
pub trait PersonErasure: Send + Sync {
    /// Suppresses the people with these ids and erases their stored data. Durable when it returns.
    async fn forget(&self, site: &str, ids: &[String]) -> Result<(), ErasureError>;
}

/// The failure of an erasure. One that has begun is resumed at the next start, or with the next request.
#[derive(Debug, thiserror::Error)]
#[error("the database does not answer")]
pub struct ErasureError(#[source] pub Box<dyn Error + Send + Sync>);

impl SiteRequest<'_> {
    /// Takes the ids of the people whom this sender may erase. All other requests to erase are rejected.
    pub(super) fn take_erasures(
        &self,
        judged: &mut JudgedMessages,
        mount: &VendorMount,
        sender: SenderKind,
    ) -> Vec<String> {
        let requests = std::mem::take(&mut judged.erasures).into_iter();
        if mount.forgets_people && sender == SenderKind::Server {
            return requests.map(|request| request.id).collect();
        }
        let refuse = |ErasureRequest { index, .. }| RejectedMessage {
            index,
            message_id: None,
            reason: "erasure",
        };
        judged.rejected.extend(requests.map(refuse));
        Vec::new()
    }

    /// Erases people. Their events that arrive later in the same request are dropped as those of forgotten people.
    pub(super) async fn erase_people(&self, ids: &[String]) -> Result<(), RequestRejection> {
        if ids.is_empty() {
            return Ok(());
        }
        self.spend_events(SenderKind::Server, ids.len())?;
        let Some(erasure) = &self.gateway.erasure else { return Err(RequestRejection::Unwritable) };
        if let Err(error) = erasure.forget(&self.site.name, ids).await {
            tracing::error!(
                site = &*self.site.name,
                error = %error.0,
                "people whom a server asked to erase may not be erased completely; the server was \
                 asked to send the request again"
            );
            return Err(RequestRejection::Unwritable);
        }
        tracing::info!(
            site = &*self.site.name,
            people = ids.len(),
            "a server had people erased through a vendor's mount"
        );
        Ok(())
    }
}
