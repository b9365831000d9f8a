//! The privacy signals that a browser sends with its requests. A new signal needs a field here, a setting and its effect
//! in `policy.rs`, and a field of [`EventFacts`], with which the journal stores it.

use http::HeaderMap;

use crate::event::EventFacts;

/// The signals of one request, or of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrowserSignals {
    /// `Sec-GPC: 1`, the Global Privacy Control.
    pub gpc: bool,
    /// `DNT: 1`, Do Not Track.
    pub dnt: bool,
}

impl BrowserSignals {
    /// Each signal alone, by the name of its setting.
    pub const EACH: [(&str, Self); 2] =
        [("gpc", Self { gpc: true, dnt: false }), ("dnt", Self { gpc: false, dnt: true })];

    /// Reads the signals of a request's head.
    pub fn read(fields: &HeaderMap) -> Self {
        let is_sent = |name: &str| fields.get(name).is_some_and(|value| value == "1");
        Self { gpc: is_sent("sec-gpc"), dnt: is_sent("dnt") }
    }

    /// Returns the signals that were stored with an event.
    pub const fn of(facts: &EventFacts) -> Self {
        Self { gpc: facts.gpc, dnt: facts.dnt }
    }

    /// Stores the signals with an event.
    pub const fn record(self, facts: &mut EventFacts) {
        facts.gpc = self.gpc;
        facts.dnt = self.dnt;
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_value_1_is_a_signal() {
        let mut fields = HeaderMap::new();
        fields.insert("sec-gpc", HeaderValue::from_static("1"));
        fields.insert("dnt", HeaderValue::from_static("0"));
        let signals = BrowserSignals::read(&fields);
        assert_eq!(signals, BrowserSignals { gpc: true, dnt: false });
        assert_eq!(BrowserSignals::read(&HeaderMap::new()), BrowserSignals::default());
    }

    #[test]
    fn stored_signals_are_those_that_were_read() {
        for (_, signals) in BrowserSignals::EACH {
            let mut facts = EventFacts::default();
            signals.record(&mut facts);
            assert_eq!(BrowserSignals::of(&facts), signals);
        }
    }
}
