//! The visitor and the session, as stored in the first cookie.

use jiff::Timestamp;
use uuid::{Builder, Uuid};

use super::{VisitorRequest, VisitorSettings};
use crate::event::{VisitorIdentity, VisitorSession};

/// The bytes of the payload: the id, and four numbers of 32 bits.
const BYTES: usize = 16 + 4 * 4;

/// The share of the idle time by which the stored time of the last request may lag: a cookie is written at most
/// once in that time, and a session ends at most that much too early.
const STALE_SHARE: u32 = 30;

/// The visitor and the current session. Times are seconds since 1970: they last until 2106.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VisitorCookie {
    id: Uuid,
    since: u32,
    session_start: u32,
    session_number: u32,
    last_seen: u32,
    /// True if an older key signed the cookie.
    is_old: bool,
}

impl VisitorCookie {
    /// Reads a cookie's value; `None` unless a key of the site signed it.
    pub(super) fn read(settings: &VisitorSettings, value: &str) -> Option<Self> {
        let opened = settings.keys.open(&settings.cookie_name, value)?;
        let payload: [u8; BYTES] = opened.payload.try_into().ok()?;
        let (id, rest) = payload.split_first_chunk::<16>()?;
        let (since, rest) = rest.split_first_chunk::<4>()?;
        let (session_start, rest) = rest.split_first_chunk::<4>()?;
        let (session_number, rest) = rest.split_first_chunk::<4>()?;
        let (last_seen, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            id: Uuid::from_bytes(*id),
            since: u32::from_be_bytes(*since),
            session_start: u32::from_be_bytes(*session_start),
            session_number: u32::from_be_bytes(*session_number),
            last_seen: u32::from_be_bytes(*last_seen),
            is_old: opened.is_old,
        })
    }

    /// Returns the cookie's value.
    pub(super) fn write(&self, settings: &VisitorSettings) -> String {
        let mut payload = Vec::with_capacity(BYTES);
        payload.extend(self.id.as_bytes());
        for number in [self.since, self.session_start, self.session_number, self.last_seen] {
            payload.extend(number.to_be_bytes());
        }
        settings.keys.seal(&settings.cookie_name, &payload)
    }

    /// Returns the visitor of a request, and true if the cookie must be written.
    pub(super) fn update(
        known: Option<Self>,
        settings: &VisitorSettings,
        request: &VisitorRequest<'_>,
    ) -> (Self, bool) {
        let now = u32::try_from(request.now.as_second()).unwrap_or_default();
        let Some(mut identity) = known else {
            let id = Builder::from_random_bytes(request.random).into_uuid();
            let new = Self {
                id,
                since: now,
                session_start: now,
                session_number: 1,
                last_seen: now,
                is_old: false,
            };
            return (new, true);
        };
        let idle = u32::try_from(settings.session_idle.as_secs()).unwrap_or(u32::MAX);
        // A clock that was set back starts no new session.
        let away = now.saturating_sub(identity.last_seen);
        let is_new_session = away > idle;
        if is_new_session {
            identity.session_start = now;
            identity.session_number = identity.session_number.saturating_add(1);
        }
        let is_stale = away >= (idle / STALE_SHARE).max(1);
        if is_stale {
            identity.last_seen = now;
        }
        (identity, is_new_session || is_stale || identity.is_old)
    }

    pub(super) fn visitor(&self) -> VisitorIdentity {
        let since = Timestamp::from_second(self.since.into()).unwrap_or_default();
        VisitorIdentity { id: self.id.to_string(), since }
    }

    pub(super) fn session(&self) -> VisitorSession {
        VisitorSession { id: self.session_start.into(), number: self.session_number }
    }
}
