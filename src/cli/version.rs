//! `tagway version`.

use super::{Failure, say};

pub(super) fn run() -> Result<(), Failure> {
    say(concat!("tagway ", env!("CARGO_PKG_VERSION"), "\n"))
}
