//! Delivery: readers of the journal that carry events to destinations.
//!
//! Every destination has a worker of its own (`worker.rs`), with its own cursor, queue, breaker and
//! throttle, on a runtime that the request path does not share: a destination that hangs delays
//! neither the intake nor another destination. Its memory is bounded by `queue_events` and
//! `queue_bytes`; unread events cost disk only.
//!
//! The treatment of failures:
//!
//! | meaning of the vendor's answer | action |
//! |---|---|
//! | worth another try | the batch waits (full jitter, `Retry-After` honoured) and comes again whole |
//! | the vendor holds one visitor back | that visitor's events wait as long as it asked, others pass |
//! | the same, repeatedly, while other events pass | its events are parked in the journal, and come back one by one |
//! | refused, and the bad event is unknown | halved until the bad event is alone |
//! | this event will never be accepted | dead letter |
//! | the credentials are wrong | the destination pauses visibly; one probe at intervals, of another batch each time. If another passes, the events were refused, not the credentials |
//! | all calls fail | the breaker opens; one probe per pause |
//!
//! Events that end the process instead of failing are found by the journal's
//! [`PoisonGuard`](tagway_storage::journal::PoisonGuard): after an abort a worker is careful (`health.rs`), and an event
//! that was being processed at several aborts in a row becomes a dead letter.
//!
//! # The order of the modules
//!
//! Each module uses only those before it:
//!
//! | modules | content |
//! |---|---|
//! | `filter`, `backoff`, `client`, `egress`, `settings`, `status` | the settings of a destination; pure rules; the HTTP client |
//! | `exchange`, `activity`, `destination_client` | the calls of one batch; the latest activity, for operators |
//! | `context`, `admission` | the unchanging parts of a worker; the form of an event for the destination |
//! | `progress`, `dead_report`, `settlements` | what has ended, and is not yet in the journal |
//! | `health` | the state of the destination |
//! | `queue` | what is to be tried, and in which order |
//! | `attempt`, `ending` | the try of a batch; the action on its outcomes |
//! | `worker` | the loop |
//! | `dispatcher` | all workers, their pauses and accounts |
//! | `match_quality` | the share of events with each identifier, measured by the mapping of recent events |
//! | [`segment`] | segments, whose members are sent to destinations |

mod activity;
mod admission;
mod attempt;
mod backoff;
mod client;
mod context;
mod dead_report;
mod destination_client;
mod destination_table;
mod dispatcher;
mod egress;
mod ending;
mod exchange;
mod filter;
mod health;
mod match_quality;
mod progress;
mod queue;
pub mod segment;
mod settings;
mod settlements;
mod status;
#[cfg(test)]
mod tests;
mod worker;

pub use activity::{ActivitySnapshot, CredentialState, DestinationFailure, LatencySummary};
pub use backoff::{BREAKER_SETTINGS, BreakerSettings, RETRY_SETTINGS, RetrySettings};
pub use destination_client::redact_secrets;
pub use destination_table::DESTINATION_SETTINGS;
pub use dispatcher::{
    DeliveryContext, DeliveryDispatcher, DeliverySite, DestinationHandle, DestinationInspection,
    PauseError, RunningDestination, SiteDestinations, SiteReaders, WorkerApplyError,
};
pub use egress::{EGRESS_SETTINGS, EgressClient, EgressSettings};
pub use exchange::FailedAttempt;
pub use filter::DestinationFilter;
pub use match_quality::{ConsentShares, MatchKeyShare, MatchQuality, MatchQualityError};
pub use settings::{DestinationMode, DestinationSettings};
pub use status::{DestinationStatus, PauseInitiator};
