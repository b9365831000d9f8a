//! What is done about callers that are no people: flagged or dropped, as the site says.

use http::HeaderMap;

use super::SiteRequest;
use super::accept::SenderKind;
use super::head;
use super::route::GatewayRoute;
use crate::bots::{self, BotPolicy, BotSignals};
use crate::event::BotSuspicion;

/// What a request's sender seems to be.
pub(super) enum CallerClass {
    /// A person, or something that is only suspected.
    Person(Option<BotSuspicion>),
    /// Its events count for nothing; the code says why.
    Nobody(&'static str),
}

impl SiteRequest<'_> {
    /// Whether a person sent the request.
    pub(super) fn caller(&self, sender: SenderKind) -> CallerClass {
        let fields = &self.head.headers;
        if sender == SenderKind::Server {
            return CallerClass::Person(None);
        }
        if bots::is_prefetch(fields) {
            return CallerClass::Nobody("prefetch");
        }
        if self.is_mail_proxy() {
            return CallerClass::Person(None);
        }
        let settings = self.site.bots;
        if settings.policy == BotPolicy::Pass || self.is_program_by_right(fields) {
            return CallerClass::Person(None);
        }
        let clues = BotSignals { fields, secure: self.client.secure, is_burst: self.is_burst() };
        let suspicion = bots::judge(&clues);
        let is_bot = suspicion.as_ref().is_some_and(|found| found.score >= settings.score);
        if is_bot && settings.policy == BotPolicy::Drop {
            return CallerClass::Nobody("bot");
        }
        CallerClass::Person(suspicion)
    }

    /// Returns true if a program fetches the image of a mail that a person opened.
    pub(super) fn is_mail_proxy(&self) -> bool {
        self.route == GatewayRoute::Pixel && bots::is_mail_proxy(&self.head.headers)
    }

    /// Servers may use the Segment API with the public key.
    fn is_program_by_right(&self, fields: &HeaderMap) -> bool {
        let is_api = matches!(self.route, GatewayRoute::Message(_) | GatewayRoute::Batch);
        is_api && !head::is_from_page(fields)
    }

    /// Whether the client has called so often lately that no person clicks like this.
    fn is_burst(&self) -> bool {
        self.gateway.rates.load().is_burst(self.site.id, self.client.client)
    }
}
