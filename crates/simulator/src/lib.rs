//! The surroundings of a gateway in `tagway demo`: a small shop whose clicks are events, and servers that
//! simulate vendors with their checks. Everything runs in this process, and nothing leaves the machine.
//! The integration tests use the same simulators.

mod server;
mod settings;
mod shop;
pub mod vendors;

pub use settings::{DemoEndpoints, VENDORS, settings, vendor_settings};
pub use shop::{DemoConsoleLink, DemoGateway, DemoShop};
