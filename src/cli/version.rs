//! `tagway version`: prints the version.

use super::{CommandError, print};

pub(super) fn run() -> Result<(), CommandError> {
    print(concat!("tagway ", env!("CARGO_PKG_VERSION"), "\n"))
}
