//! The `tagway` program: arguments in, exit code out.

use std::process::ExitCode;

use tagway::cli;
use tagway_settings::SecretRedactor;

// The system's allocator keeps freed pages per thread; this one returns them, so that resident
// memory follows the load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let redaction = SecretRedactor::default();
    cli::hook_panics(redaction.clone());
    cli::run(std::env::args_os(), redaction)
}
