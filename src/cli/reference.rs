//! `tagway reference`: the tables of all reasons and metrics, as `docs/reference.md` has them.

use std::fmt::Write as _;

use super::{CommandError, print};
use crate::gateway::REJECTIONS;
use crate::metrics::Metrics;
use crate::vendors::REASONS;

pub(super) fn run() -> Result<(), CommandError> {
    print(&reference())
}

/// The reference as Markdown. Writing to a String cannot fail, so the results are dropped.
pub(super) fn reference() -> String {
    let mut out = String::from(
        "# Reference\n\n\
         Printed by `tagway reference`; a test keeps this file and the program the same.\n\n\
         ## Reasons of skipped and dead events, and of retries\n\n\
         `tagway event` and `tagway dead` show them, and `tagway_deliveries_total` counts by them.\n\n\
         | reason | meaning |\n|---|---|\n",
    );
    for (code, meaning) in REASONS {
        let _infallible = writeln!(out, "| `{code}` | {meaning} |");
    }
    out.push_str(
        "\n## Reasons of refused requests and dropped events\n\n\
         Answers have them as `code`, and `tagway_events_dropped_total` counts by them.\n\n\
         | reason | meaning |\n|---|---|\n",
    );
    for (code, meaning) in REJECTIONS {
        let _infallible = writeln!(out, "| `{code}` | {meaning} |");
    }
    out.push_str("\n## Metrics\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
    let metrics = Metrics::new();
    for entry in metrics.reference() {
        let labels = entry.labels.join("`, `");
        let labels = if labels.is_empty() { String::new() } else { format!("`{labels}`") };
        let _infallible =
            writeln!(out, "| `{}` | {} | {labels} | {} |", entry.name, entry.kind, entry.help);
    }
    out
}
