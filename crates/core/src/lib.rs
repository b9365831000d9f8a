//! The base of the gateway: the event, and what is decided about it without I/O.
//!
//! - [`event`] is the canonical event; `event/rank.rs` is the identity model: which sender may read, change or
//!   displace which data of a person.
//! - [`visitor`] identifies the visitor by first-party cookies; [`privacy`] decides which data may be stored and
//!   sent; [`bots`] detects robots; [`geo`] locates the address.
//! - [`values`] parses values in their many written forms: amounts, currencies, telephone numbers, e-mail
//!   addresses, names, times, network addresses, long numbers. No other module parses them.
//! - [`address`] guards outgoing connections, [`signature`] signs them; [`answer`] is a response body: complete, or a
//!   stream.
//! - [`metrics`] has every metric's name; [`feed`] sends events to watchers; [`clock`] is the time of day.

pub mod address;
pub mod answer;
pub mod bots;
pub mod clock;
pub mod event;
pub mod feed;
pub mod geo;
pub mod metrics;
pub mod privacy;
pub mod signature;
pub mod values;
pub mod visitor;
