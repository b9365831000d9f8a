//! Applies the site's bot policy to a request: bots are flagged or dropped.

use http::HeaderMap;

use super::SiteRequest;
use super::accept::SenderKind;
use super::head;
use super::route::GatewayRoute;
use tagway_core::bots::{self, BotPolicy, BotSignals};
use tagway_core::event::BotSuspicion;

/// The class of a request's sender.
pub(super) enum CallerClass {
    /// A person, possibly suspected to be a bot.
    Person(Option<BotSuspicion>),
    /// A sender whose events are dropped; the code is the reason.
    Dropped(&'static str),
}

impl SiteRequest<'_> {
    /// Classifies the sender of the request.
    pub(super) fn classify_sender(&self, sender: SenderKind) -> CallerClass {
        let fields = &self.head.headers;
        if sender == SenderKind::Server {
            return CallerClass::Person(None);
        }
        if bots::is_prefetch(fields) {
            return CallerClass::Dropped("prefetch");
        }
        if self.is_mail_proxy() {
            return CallerClass::Person(None);
        }
        let settings = self.site.bots;
        if settings.policy == BotPolicy::Pass || self.is_program_by_right(fields) {
            return CallerClass::Person(None);
        }
        let signals = BotSignals { fields, secure: self.client.secure, is_burst: self.is_burst() };
        let suspicion = bots::score_signals(&signals);
        let is_bot = suspicion.as_ref().is_some_and(|found| found.score >= settings.score);
        if is_bot && settings.policy == BotPolicy::Drop {
            return CallerClass::Dropped("bot");
        }
        CallerClass::Person(suspicion)
    }

    /// Returns true if a program fetches the image of a mail that a person opened.
    pub(super) fn is_mail_proxy(&self) -> bool {
        self.route == GatewayRoute::Pixel && bots::is_mail_proxy(&self.head.headers)
    }

    /// Returns true if a program may send the request: servers may use the Segment API with the public key.
    fn is_program_by_right(&self, fields: &HeaderMap) -> bool {
        let is_api = matches!(self.route, GatewayRoute::Message(_) | GatewayRoute::Batch);
        is_api && !head::is_from_page(fields)
    }

    /// Returns true if the client sent more requests lately than a person's clicks would.
    fn is_burst(&self) -> bool {
        self.gateway.rates.load().is_burst(self.site.id, self.client.client)
    }
}
