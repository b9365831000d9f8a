//! What `tagway demo` shows around a gateway: a small shop whose clicks are events, and servers that
//! stand in for vendors and check what the real ones check. Everything runs in this process, and
//! nothing leaves the machine. The integration tests use the same simulators.

mod server;
mod settings;
mod shop;
pub mod simulator;

pub use settings::{DemoEndpoints, VENDORS, settings, vendor_settings};
pub use shop::DemoShop;
