//! The settings of the journal: `[journal]`.

use std::time::Duration;

use tagway_settings::SettingsSection;

/// The settings `[journal]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// The moment at which an append is acknowledged.
    pub durability: AppendDurability,
    /// The time for which settled events are kept, for replay.
    pub retain: Duration,
    /// The size of events and dead letters beyond which the oldest are evicted: settled events first,
    /// then dead letters, then events that a destination has not settled, but never those of servers.
    pub max_bytes: u64,
    /// The bytes beyond `max_bytes` that events may take while eviction runs; beyond, appends are
    /// refused. Claimed events get a third of it, proven ones two.
    pub spare_bytes: u64,
    /// The time for which a dead letter is kept for an operator.
    pub retain_dead: Duration,
    /// The time for which a message id is remembered, so that the same event is not accepted twice. Not
    /// longer than `retain`.
    pub dedupe_window: Duration,
    /// The most message ids remembered: bounds memory to about 36 bytes each.
    pub dedupe_entries: usize,
    /// The most bytes of events waiting for the disk at once; beyond, appends are refused.
    pub queue_bytes: usize,
    /// Aborted starts in a row, with the same record in flight, after which its reader sets it aside;
    /// zero for never.
    pub poison_starts: u32,
    /// The most characters that are kept of a dead letter's last request, and as many of its reply.
    pub letter_chars: usize,
    /// The most characters of a cause's detail that are kept with an event's outcome.
    pub detail_chars: usize,
}

/// The least that `spare_bytes` may be: the log's file keeps up to 4 MiB, and a third of the spare bytes
/// has to be more.
const MIN_SPARE_BYTES: u64 = 16 << 20;

/// The moment at which an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendDurability {
    /// After `fdatasync`: an acknowledged event survives a power cut.
    Disk,
    /// After the write: it survives the process, not the machine.
    Os,
}

impl JournalSettings {
    /// Reads `[journal]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        // The embedded default has both; an invalid one is not compared with the other.
        let (retain, window) =
            (section.opt_duration("retain"), section.opt_duration("dedupe_window"));
        let entries = section.integer("dedupe_entries", 0..=100_000_000);
        if entries > 0 && retain.zip(window).is_some_and(|(retain, window)| retain < window) {
            // The message ids of events that have left are not read back at the next start.
            section.error(
                "retain",
                "must be at least dedupe_window: raise it, or shorten dedupe_window",
            );
        }
        let spare_bytes = section.opt_size("spare_bytes").unwrap_or(MIN_SPARE_BYTES);
        if spare_bytes < MIN_SPARE_BYTES {
            section.error(
                "spare_bytes",
                "must be at least 16MiB, because the write-ahead log counts in it",
            );
        }
        Self {
            durability: section.choice(
                "durability",
                &[("disk", AppendDurability::Disk), ("os", AppendDurability::Os)],
            ),
            retain: retain.unwrap_or_default(),
            max_bytes: section.size("max_bytes"),
            spare_bytes,
            retain_dead: section.duration("retain_dead"),
            dedupe_window: window.unwrap_or_default(),
            dedupe_entries: entries,
            queue_bytes: section.byte_count("queue_bytes_max"),
            poison_starts: section.integer("poison_starts", 0..=100),
            letter_chars: section.integer("letter_chars", 0..=1_000_000),
            detail_chars: section.integer("detail_chars", 0..=500),
        }
    }
}
