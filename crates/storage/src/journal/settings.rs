//! The settings of the journal: `[journal]`.

use std::time::Duration;

use tagway_settings::{Setting, SettingsSection};

/// The described settings of `[journal]`.
pub const JOURNAL_SETTINGS: &[Setting] = &[
    Setting::word("durability", &["disk", "os"])
        .default("disk")
        .doc("\"disk\": events are acknowledged after fdatasync; \"os\": after the write"),
    Setting::duration("retain")
        .default("7d")
        .doc("settled events are kept for this time, for replay"),
    Setting::size("max_bytes").default("20GiB").doc(
        "limit of events and dead letters on the disk, profiles not included. Above it \
             the oldest are deleted: first settled events, then dead letters, then events \
             that a destination has not settled, those of unknown senders before those of \
             known visitors. The last two are counted and logged. Events of servers that a \
             destination has not settled are never deleted. Deleting an event early ends the \
             detection of duplicates of its message id. Freed space returns to the disk, \
             except for 16 MiB. Databases over 128 MiB that an older version created return \
             it only after this command, which runs with the gateway stopped and needs the \
             same space again: sqlite3 data/tagway.db \"PRAGMA auto_vacuum = 2; VACUUM\"",
    ),
    Setting::size("spare_bytes").default("64MiB").doc(
        "reserve above max_bytes for events that arrive while others are deleted: one \
             third for events of unknown senders, two thirds for those of known visitors, \
             all of it for those of servers. The write-ahead log (tagway.db-wal) counts in \
             it. Events that do not fit, or that arrive when nothing may be deleted, are \
             answered with 503. At least 16 MiB",
    ),
    Setting::duration("retain_dead")
        .default("30d")
        .doc("dead letters are kept for this time, for operators"),
    Setting::integer("letter_chars", 0, 1_000_000).default("4000").doc(
        "limit of characters kept of a dead letter's last request, and the same of the \
             reply. A call with one event has 1,000 to 3,000. Bodies of calls with several \
             events are not kept, because they contain data of other visitors. 0: none",
    ),
    Setting::integer("detail_chars", 0, 500).default("200").doc(
        "limit of characters kept of the detail of an outcome's reason, as long as the \
             event is kept: `tagway event` shows them. An outcome takes 4 to 40 bytes \
             more for each destination, which count in max_bytes. At most 500",
    ),
    Setting::duration("dedupe_window").default("24h").doc(
        "two events with the same message id and sender within this time are one event. \
             Senders are the site's servers, a browser (its cookie), or a sender without a \
             cookie (its anonymous and user id, else its address). A browser's event with \
             the id of a server's earlier event counts as that event. At most \"retain\", \
             because a restart reads the ids from the events",
    ),
    Setting::size("queue_bytes_max")
        .default("64MiB")
        .doc("limit of events that wait for the disk at once; above it, 503"),
];

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

/// Message ids that are remembered, of servers and of others each: half a day of a hundred events a second in
/// 36 MB.
const DEDUPE_ENTRIES: usize = 1_000_000;

/// Aborted starts after which a record under way is set aside: one abort may be a power cut, and the second the
/// operator's attempt.
const POISON_STARTS: u32 = 3;

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
        section.describe(JOURNAL_SETTINGS);
        // The embedded default has both; an invalid one is not compared with the other.
        let (retain, window) =
            (section.opt_duration("retain"), section.opt_duration("dedupe_window"));
        if retain.zip(window).is_some_and(|(retain, window)| retain < window) {
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
            dedupe_entries: DEDUPE_ENTRIES,
            queue_bytes: section.byte_count("queue_bytes_max"),
            poison_starts: POISON_STARTS,
            letter_chars: section.integer("letter_chars"),
            detail_chars: section.integer("detail_chars"),
        }
    }
}
