//! Tagway, a first-party tag gateway: tracking beacons in, durable, enriched server-side calls out.
//!
//! # The path of one beacon
//!
//! 1. [`edge`] accepts the connection, parses the request within limits, and finds the client behind
//!    trusted proxies. It knows no route.
//! 2. [`gateway`] finds the site by host and the route by path, checks origin, key and rate, reads
//!    the body within limits and decodes it to [`event`]s, message by message.
//! 3. [`visitor`] recognises who it is by first-party cookies; [`privacy`] says what may be kept and
//!    sent; [`bots`] whether it is a person at all; [`geo`] where. All are pure.
//! 4. [`journal`] appends. The call returns when the group is on disk, and then the client is
//!    answered: acknowledged is durable.
//! 5. [`profile`] follows the journal and keeps what is known of each visitor; what a store outside knows
//!    of them it reads besides.
//! 6. [`delivery`] follows the journal behind it, one reader per destination: filter, enrich, map,
//!    batch, throttle, call, settle. In which form the site lets an event through is [`mapping`]'s
//!    business, the same for every vendor; what a call says and what its reply means is that of
//!    [`vendors`], one folder each.
//! 7. [`segment`] asks the profiles whom the sites' rules select, on a schedule, keeps who is a
//!    member, and tells destinations who came and who left.
//!
//! Every event ends, for every destination, as delivered, skipped(reason) or dead(reason), and
//! `accepted = delivered + skipped + dead + pending` holds at every commit.
//!
//! The pages' own side, `/tw.js`, is put together and served by [`script`]. What runs in pages besides,
//! the site's own functions and the vendors' libraries, is brought into it by [`integrations`].
//!
//! # The house
//!
//! - [`settings`] is the language of the configuration; every module reads its own part, and
//!   [`config`] composes them, loads and reloads.
//! - [`store`] is the embedded database: one writer thread, groups of commits, connections for
//!   readers. Only the SQLite backends of journal and profile know it. [`postgres`] is the database that
//!   gateways may share instead, for profiles and segments.
//! - [`script`] keeps the vendors' own browser scripts as well, and serves them first-party.
//! - `event/rank.rs` is the identity model: which sender may show, change or displace what of a person.
//!   `journal/guard.rs` keeps one record from stopping its readers at every start.
//! - [`values`] reads what people and shops write in many ways: amounts, currencies, telephone numbers,
//!   e-mail addresses, names, times, network addresses, long numbers. Nobody else reads them.
//! - [`address`] is the guard of whatever goes out.
//! - [`origin`] is the site's own server behind the gateway: a proxy that puts the script into pages
//!   and points tags of vendors at what the gateway has.
//! - [`answer`] is the body of an answer: all of it at once, or a stream.
//! - [`metrics`] has every metric's name; [`feed`] tells watchers what happens; [`log`] and [`clock`]
//!   are what they say.
//! - [`admin`] is the operators' listener, [`cli`] the command line, [`demo`] what `tagway demo` and
//!   the tests show around a gateway, [`audit`] measures what a page's tags cost in a browser.
//! - [`app`] puts it all together, and is the only one that knows everything.
//!
//! Who may import whom is a table in `tests/tidy/main.rs`, and a test.

pub mod event;

pub mod bots;
pub mod edge;
pub mod gateway;
pub mod geo;
pub mod origin;
pub mod privacy;
pub mod script;
pub mod visitor;

pub mod journal;
pub mod postgres;
pub mod profile;
pub mod store;

pub mod delivery;
pub mod integrations;
pub mod mapping;
pub mod segment;
pub mod vendors;

pub mod address;
pub mod answer;
pub mod clock;
pub mod config;
pub mod feed;
pub mod log;
pub mod metrics;
pub mod settings;
pub mod values;

pub mod admin;
pub mod app;
pub mod audit;
pub mod cli;
pub mod demo;
