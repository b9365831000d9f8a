//! One look at the running gateway: the accounts of its destinations and the state of everything that alerts are
//! about. The program takes it; series and alerts are made of nothing else.

use std::sync::Arc;

use jiff::Timestamp;

/// A name of the configuration, shared by its readings.
pub type ConfigName = Arc<str>;

/// The state of the gateway at one moment.
#[derive(Clone, Debug)]
pub struct GatewayReading {
    /// The time of the reading.
    pub at: Timestamp,
    /// The configured sites.
    pub sites: Vec<SiteReading>,
    /// The running destinations.
    pub destinations: Vec<DestinationReading>,
    /// The segments; `None` if they could not be read, or if another gateway runs them.
    pub segments: Option<Vec<SegmentReading>>,
    /// The certificates in use.
    pub certificates: Vec<CertificateReading>,
    /// The disk of the data folder; `None` if it could not be read.
    pub disk: Option<DiskReading>,
}

/// The intake of a site.
#[derive(Clone, Debug)]
pub struct SiteReading {
    /// The site's name.
    pub site: ConfigName,
    /// The events accepted since the site exists.
    pub accepted: u64,
}

/// The account of a destination.
#[derive(Clone, Debug)]
pub struct DestinationReading {
    /// The site's name.
    pub site: ConfigName,
    /// The destination's name.
    pub destination: ConfigName,
    /// Events that ended as delivered.
    pub delivered: u64,
    /// Events that ended as skipped.
    pub skipped: u64,
    /// Events that ended as dead, without those that were retried since.
    pub dead: u64,
    /// Events that have not ended, and are not held.
    pub pending: u64,
    /// Events that wait for their visitor.
    pub held: u64,
    /// The time at which the oldest pending event was received.
    pub oldest_pending: Option<Timestamp>,
    /// True while it is paused: its events wait by an operator's will.
    pub is_paused: bool,
    /// The events that ended as skipped or dead since the start of the process, by reason.
    pub reasons: Vec<ReasonCount>,
}

/// The events that ended for one reason since the start of the process.
#[derive(Clone, Debug)]
pub struct ReasonCount {
    /// `skipped` or `dead`.
    pub outcome: &'static str,
    /// The reason's code.
    pub reason: &'static str,
    /// Their number.
    pub count: u64,
}

/// The plan of a segment.
#[derive(Clone, Debug)]
pub struct SegmentReading {
    /// The site's name.
    pub site: ConfigName,
    /// The segment's name.
    pub segment: ConfigName,
    /// The time at which it should have run, or should run next; `None` for one that runs once.
    pub due_at: Option<Timestamp>,
    /// The start of its last run.
    pub last_run_at: Option<Timestamp>,
}

/// The expiry of a certificate.
#[derive(Clone, Debug)]
pub struct CertificateReading {
    /// Its first host name.
    pub name: ConfigName,
    /// The time at which it expires.
    pub expires_at: Timestamp,
}

/// The disk of the data folder.
#[derive(Clone, Copy, Debug)]
pub struct DiskReading {
    /// Bytes that the gateway may still write.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// True while the journal can be written.
    pub is_writable: bool,
    /// True while the journal accepts events of servers.
    pub has_room: bool,
}
