//! What is done about callers that are no people: flagged or dropped, as the site says.

use http::HeaderMap;

use super::Arrived;
use super::accept::Sender;
use super::head;
use super::route::Route;
use crate::bots::{self, Clues, Policy};
use crate::event::Suspicion;

/// What a request's sender seems to be.
pub(super) enum Caller {
    /// A person, or something that is only suspected.
    Person(Option<Suspicion>),
    /// Its events count for nothing; the code says why.
    Nobody(&'static str),
}

impl Arrived<'_> {
    /// Whether a person sent the request.
    pub(super) fn caller(&self, sender: Sender) -> Caller {
        let fields = &self.head.headers;
        if sender == Sender::Server {
            return Caller::Person(None);
        }
        if bots::is_prefetch(fields) {
            return Caller::Nobody("prefetch");
        }
        if self.is_mail_proxy() {
            return Caller::Person(None);
        }
        let settings = self.site.bots;
        if settings.policy == Policy::Pass || self.is_program_by_right(fields) {
            return Caller::Person(None);
        }
        let clues = Clues { fields, secure: self.client.secure, is_burst: self.is_burst() };
        let suspicion = bots::judge(&clues);
        let is_bot = suspicion.as_ref().is_some_and(|found| found.score >= settings.score);
        if is_bot && settings.policy == Policy::Drop {
            return Caller::Nobody("bot");
        }
        Caller::Person(suspicion)
    }

    /// Returns true if a program fetches the image of a mail that a person opened.
    pub(super) fn is_mail_proxy(&self) -> bool {
        self.route == Route::Pixel && bots::is_mail_proxy(&self.head.headers)
    }

    /// Servers may use the Segment API with the public key.
    fn is_program_by_right(&self, fields: &HeaderMap) -> bool {
        let is_api = matches!(self.route, Route::Message(_) | Route::Batch);
        is_api && !head::is_from_page(fields)
    }

    /// Whether the client has called so often lately that no person clicks like this.
    fn is_burst(&self) -> bool {
        self.gateway.rates.load().is_burst(self.site.id, self.client.client)
    }
}
