//! The migrations of the journal's tables, from the first version on.

use super::guard;
use crate::store::SqliteMigrations;

/// The numbered steps of the journal's schema.
pub const MIGRATIONS: SqliteMigrations = SqliteMigrations {
    name: "journal",
    steps: &[
        "
    CREATE TABLE sites (
        id INTEGER PRIMARY KEY CHECK (id < 131072),
        name TEXT NOT NULL UNIQUE,
        trimmed_to INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE events (
        place INTEGER PRIMARY KEY,
        received_at INTEGER NOT NULL,
        flags INTEGER NOT NULL,
        message BLOB NOT NULL,
        body TEXT NOT NULL
    );
    CREATE VIEW events_by_site AS
        SELECT place >> 46 AS site, place & 70368744177663 AS seq,
               received_at, flags, message, body FROM events;
    CREATE TABLE readers (
        id INTEGER PRIMARY KEY,
        site INTEGER NOT NULL,
        name TEXT NOT NULL,
        active INTEGER NOT NULL DEFAULT 1,
        start_seq INTEGER NOT NULL,
        cursor INTEGER NOT NULL,
        ahead TEXT NOT NULL DEFAULT '[]',
        delivered INTEGER NOT NULL DEFAULT 0,
        skipped INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0,
        replayed INTEGER NOT NULL DEFAULT 0,
        UNIQUE (site, name)
    );
    CREATE TABLE parked (
        reader INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        received_at INTEGER,
        body TEXT,
        PRIMARY KEY (reader, seq)
    ) WITHOUT ROWID;
    CREATE INDEX parked_due ON parked (reader, due_at, seq);
    CREATE TABLE dead (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        reader INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        at INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX dead_reader ON dead (reader, id);
    CREATE INDEX dead_at ON dead (at);
    ",
        "
    -- The projection's reader had a name that a destination could have, and then both used one row.
    -- What a destination had parked there would never be taken up, and would hold events back.
    UPDATE readers SET name = '(profiles)' WHERE name = 'profiles';
    DELETE FROM parked
        WHERE reader IN (SELECT id FROM readers WHERE name = '(profiles)');
    ",
        "
    -- One row a name that is forgotten, as its digest. Rows of one person have the same number, so that
    -- lifting one lifts all. Until erased is set, what is held of the person is being erased.
    CREATE TABLE forgotten (
        site INTEGER NOT NULL,
        name BLOB NOT NULL,
        person INTEGER NOT NULL,
        erased INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (site, name)
    ) WITHOUT ROWID;
    CREATE INDEX forgotten_person ON forgotten (person);
    ",
        "
    ALTER TABLE sites ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE readers ADD COLUMN missed INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE gaps (
        site INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (site, first)
    ) WITHOUT ROWID;
    ",
        guard::SCHEMA,
        "
    -- The outcomes of events, packed: one row for each settlement and 256 events of the sequence.
    CREATE TABLE outcomes (
        reader INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        part INTEGER NOT NULL,
        at INTEGER NOT NULL,
        causes TEXT NOT NULL,
        runs BLOB NOT NULL,
        PRIMARY KEY (reader, bucket, part)
    ) WITHOUT ROWID;
    ALTER TABLE dead ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE dead ADD COLUMN called_at INTEGER;
    ALTER TABLE dead ADD COLUMN request TEXT;
    ALTER TABLE dead ADD COLUMN status INTEGER;
    ALTER TABLE dead ADD COLUMN reply TEXT;
    CREATE INDEX dead_event ON dead (reader, seq);
    ALTER TABLE readers ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
    ",
        // The author, reason and end of an operator's pause, as JSON.
        "
    ALTER TABLE readers ADD COLUMN pause TEXT;
    ",
        "
    -- The members by which letters are selected and grouped, in an index of their own: their rows are long.
    ALTER TABLE dead ADD COLUMN event TEXT NOT NULL DEFAULT '';
    ALTER TABLE dead ADD COLUMN failure TEXT NOT NULL DEFAULT '';
    UPDATE dead SET event = coalesce(CASE WHEN NOT json_valid(body) THEN ''
        WHEN body ->> 'type' = 'track' THEN body ->> 'event' ELSE body ->> 'type' END, '');
    CREATE INDEX dead_group ON dead (reader, reason, failure, status, event, at);
    ",
    ],
};
