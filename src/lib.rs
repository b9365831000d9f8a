//! Tagway, a first-party tag gateway: tracking beacons in, durable, enriched server-side calls out.
//!
//! # The path of one beacon
//!
//! 1. [`edge`] accepts the connection, parses the request within limits, and finds the client behind
//!    trusted proxies. It knows no route.
//! 2. [`gateway`] finds the site by host and the route by path, checks origin, key and rate, reads
//!    the body within limits and decodes it to [`event`]s, message by message.
//! 3. [`visitor`] identifies the visitor by first-party cookies; [`privacy`] decides which data may be
//!    stored and sent; [`bots`] detects robots; [`geo`] locates the address. All are pure.
//! 4. [`journal`] appends. The call returns when the group is on disk, and only then is the client
//!    answered: acknowledged means durable.
//! 5. [`profile`] follows the journal and stores the traits and counts of each visitor; it also reads
//!    traits from the site's external store.
//! 6. [`delivery`] follows the journal, one reader per destination: filter, enrich, map,
//!    batch, throttle, call, settle. [`mapping`] applies the site's rules to an event, the same for every
//!    vendor; [`vendors`], one folder each, renders calls and interprets replies.
//! 7. [`segment`] selects the profiles that match the sites' rules, on a schedule, stores the members,
//!    and sends additions and removals to destinations.
//!
//! Every event ends, for every destination, as delivered, skipped(reason) or dead(reason), and
//! `accepted = delivered + skipped + dead + pending + held` holds at every commit.
//!
//! The script of the pages, `/tw.js`, is composed and served by [`script`]. The site's own functions and
//! the vendors' libraries that run in pages are added to it by [`integrations`].
//!
//! # Other modules
//!
//! - [`settings`] reads configuration files; every module reads its own part, and [`config`] composes
//!   them, loads and reloads.
//! - [`store`] is the embedded database: one writer thread, groups of commits, connections for
//!   readers. Only the SQLite backends of journal and profile use it. [`postgres`] is the database that
//!   gateways may share instead, for profiles and segments.
//! - [`script`] also caches the vendors' own browser scripts, and serves them first-party.
//! - `event/rank.rs` is the identity model: which sender may read, change or displace which data of a person.
//!   `journal/guard.rs` prevents one record from stopping its readers at every start.
//! - [`values`] parses values in their many written forms: amounts, currencies, telephone numbers,
//!   e-mail addresses, names, times, network addresses, long numbers. No other module parses them.
//! - [`address`] guards outgoing connections.
//! - [`origin`] is the proxy to the site's own server: it puts the script into pages and points vendors'
//!   tags at the gateway.
//! - [`answer`] is a response body: complete, or a stream.
//! - [`metrics`] has every metric's name; [`feed`] sends happenings to watchers; [`log`] is the program's
//!   log and [`clock`] the time of day.
//! - [`admin`] is the operators' listener, [`cli`] the command line, [`demo`] the parts around a gateway in
//!   `tagway demo` and the tests, [`audit`] measures the cost of a page's tags in a browser.
//! - [`app`] composes the modules, and alone depends on all of them.
//!
//! The allowed imports between modules are a table in `tests/tidy/main.rs`, which is also a test.

pub mod admin;
pub mod app;
#[cfg(feature = "audit")]
pub mod audit;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod log;
