//! What the operators' listener asks of the running gateway.

use std::sync::Arc;

use async_trait::async_trait;

use super::subjects::Subjects;
use crate::admin::{Control, ExportPage, ForgetReport, ReaderState, SendError, Sent, SubjectError};
use crate::delivery::Dispatcher;
use crate::gateway::{self, Gateway};
use crate::journal::{Appended, HeldAt, ReaderId};
use crate::script::proxy::{PinError, ScriptDiff, ScriptState, Scripts};
use crate::vendors;

/// The running gateway, for its operators.
pub(super) struct AppControl {
    gateway: Arc<Gateway>,
    dispatcher: Arc<Dispatcher>,
    subjects: Arc<Subjects>,
    scripts: Scripts,
}

impl AppControl {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        dispatcher: Arc<Dispatcher>,
        subjects: Arc<Subjects>,
        scripts: Scripts,
    ) -> Self {
        Self { gateway, dispatcher, subjects, scripts }
    }

    /// The journal would number a site it does not know: only configured ones are asked for.
    fn check_site(&self, site: &str) -> Result<(), SubjectError> {
        let is_known = self.gateway.sites().iter().any(|name| &**name == site);
        if is_known { Ok(()) } else { Err(SubjectError::UnknownSite) }
    }
}

#[async_trait]
impl Control for AppControl {
    fn sites(&self) -> Vec<Arc<str>> {
        self.gateway.sites()
    }

    fn readers(&self) -> Vec<ReaderState> {
        let readers = self.dispatcher.readers().into_iter();
        let state = readers.map(|reader| ReaderState {
            site: reader.site,
            destination: reader.destination,
            reader: reader.reader,
            state: reader.status.name(),
            reason: reader.status.reason().map(str::to_owned),
            repeats: vendors::find(reader.vendor).map_or("", |vendor| vendor.repeats),
        });
        state.collect()
    }

    async fn send(&self, site: &str, event: serde_json::Value) -> Result<Sent, SendError> {
        let message = event.to_string();
        let sent =
            self.gateway.send(site, message.as_bytes()).await.map_err(|error| match error {
                gateway::SendError::UnknownSite => SendError::UnknownSite,
                gateway::SendError::Invalid(code) => SendError::Invalid(code.to_owned()),
                gateway::SendError::Append(error) => SendError::Unavailable(Box::new(error)),
            })?;
        match sent.appended {
            Appended::New { seq } => Ok(Sent { seq, message_id: sent.message_id }),
            Appended::Duplicate => Err(SendError::Duplicate),
        }
    }

    async fn forget(&self, site: &str, id: &str) -> Result<ForgetReport, SubjectError> {
        self.check_site(site)?;
        self.subjects.forget(site, id).await
    }

    async fn lift(&self, site: &str, id: &str) -> Result<u64, SubjectError> {
        self.check_site(site)?;
        self.subjects.lift(site, id).await
    }

    async fn export(
        &self,
        site: &str,
        id: &str,
        from: Option<HeldAt>,
    ) -> Result<ExportPage, SubjectError> {
        self.check_site(site)?;
        self.subjects.export((site, id), from, &self.readers()).await
    }

    fn scripts(&self) -> Vec<ScriptState> {
        self.scripts.list()
    }

    async fn script_diff(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
    ) -> Result<ScriptDiff, PinError> {
        self.scripts.diff(site, vendor, script).await
    }

    async fn approve_script(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
        hash: &str,
    ) -> Result<(), PinError> {
        self.scripts.approve((site, vendor, script), hash).await
    }

    async fn profiles(&self, site: &str, id: &str) -> Result<Vec<serde_json::Value>, SubjectError> {
        self.check_site(site)?;
        self.subjects.profiles(site, id).await
    }

    fn wake(&self, reader: ReaderId) {
        self.dispatcher.wake(reader);
    }
}
