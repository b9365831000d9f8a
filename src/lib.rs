//! Tagway, a first-party tag gateway: tracking beacons in, durable, enriched server-side calls out.
//!
//! # The path of one beacon
//!
//! 1. `tagway_edge` accepts the connection, parses the request within limits, and finds the client behind
//!    trusted proxies. It knows no route.
//! 2. [`gateway`] finds the site by host and the route by path, checks origin, key and rate, reads
//!    the body within limits and decodes it to events, message by message.
//! 3. `visitor` of `tagway_core` identifies the visitor by first-party cookies; `privacy` decides which data may
//!    be stored and sent; `bots` detects robots; `geo` locates the address. All are pure.
//! 4. `journal` of `tagway_storage` appends. The call returns when the group is on disk, and only then is the
//!    client answered: acknowledged means durable.
//! 5. `profile`, beside it, follows the journal and stores the traits and counts of each visitor; it also reads
//!    traits from the site's external store.
//! 6. `tagway_delivery` follows the journal, one reader per destination: filter, enrich, map, batch, throttle,
//!    call, settle. `mapping` of `tagway_vendors` applies the site's rules to an event, the same for every vendor;
//!    the vendors, one folder each, render calls and interpret replies.
//! 7. `segment` of `tagway_delivery` selects the profiles that match the sites' rules, on a schedule, stores the
//!    members, and sends additions and removals to destinations.
//!
//! Every event ends, for every destination, as delivered, skipped(reason) or dead(reason), and
//! `accepted = delivered + skipped + dead + pending + held` holds at every commit.
//!
//! # The modules of the program
//!
//! - [`config`] composes the settings that every module reads for itself, loads and reloads; [`log`] is the
//!   program's log.
//! - [`admin`] is the operators' listener, [`cli`] the command line, [`audit`] measures the cost of a page's tags
//!   in a browser.
//! - [`rehearsal`] shows the requests that an event would cause, without sending them.
//! - [`app`] composes everything, and alone depends on all of it.
//!
//! The packages below and their modules are in `ARCHITECTURE.md`.

pub mod admin;
pub mod app;
#[cfg(feature = "audit")]
pub mod audit;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod log;
pub mod rehearsal;
