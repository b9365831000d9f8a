//! The profiles' tables. They have the names of those of the embedded database, so that a rule runs the
//! same query on both; the difference is that gateways share them.

use crate::postgres::PostgresMigrations;

/// The migrations of the profiles' tables.
///
/// Times are milliseconds since 1970. Stored values keep the sender's spelling, and next to them, for
/// rules (`*_json`), are the same with exact numbers. `projected` has how far each gateway's journal is
/// in the profiles: `node` is the gateway.
pub const SCHEMA: PostgresMigrations = PostgresMigrations {
    name: "profiles",
    steps: &[
        "
    CREATE SEQUENCE profile_numbers;
    CREATE TABLE profiles (
        id BIGINT PRIMARY KEY,
        site BIGINT NOT NULL,
        user_id TEXT COLLATE \"C\",
        named_at BIGINT NOT NULL DEFAULT 0,
        first_seen BIGINT,
        last_seen BIGINT,
        traits TEXT NOT NULL DEFAULT '{}',
        trait_times TEXT NOT NULL DEFAULT '{}',
        touches TEXT NOT NULL DEFAULT '{}',
        device TEXT NOT NULL DEFAULT '{}',
        place TEXT NOT NULL DEFAULT '{}',
        consent TEXT NOT NULL DEFAULT '{}',
        group_id TEXT COLLATE \"C\",
        stated TEXT NOT NULL DEFAULT '{}',
        traits_json JSONB NOT NULL DEFAULT '{}',
        touches_json JSONB NOT NULL DEFAULT '{}',
        device_json JSONB NOT NULL DEFAULT '{}',
        place_json JSONB NOT NULL DEFAULT '{}',
        consent_json JSONB NOT NULL DEFAULT '{}'
    );
    CREATE INDEX profiles_anonymous ON profiles (site, last_seen, id) WHERE user_id IS NULL;
    CREATE INDEX profiles_site ON profiles (site);
    CREATE TABLE identities (
        site BIGINT NOT NULL,
        kind TEXT COLLATE \"C\" NOT NULL,
        value TEXT COLLATE \"C\" NOT NULL,
        profile BIGINT NOT NULL,
        since BIGINT NOT NULL DEFAULT 0,
        claimed BIGINT NOT NULL DEFAULT 0,
        seen BIGINT NOT NULL DEFAULT 0,
        client TEXT COLLATE \"C\",
        PRIMARY KEY (site, kind, value)
    );
    CREATE INDEX identities_profile ON identities (profile);
    CREATE TABLE event_names (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        site BIGINT NOT NULL,
        name TEXT COLLATE \"C\" NOT NULL,
        UNIQUE (site, name)
    );
    CREATE TABLE activity (
        profile BIGINT NOT NULL,
        event BIGINT NOT NULL,
        day BIGINT NOT NULL,
        count BIGINT NOT NULL,
        first BIGINT NOT NULL,
        last BIGINT NOT NULL,
        sum DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (profile, event, day)
    );
    CREATE INDEX activity_event ON activity (event, day, profile);
    CREATE TABLE projected (
        site BIGINT NOT NULL,
        node TEXT NOT NULL,
        seq BIGINT NOT NULL,
        PRIMARY KEY (site, node)
    );
    ",
        // The same step as in the embedded database.
        "
    ALTER TABLE profiles ADD COLUMN rank SMALLINT NOT NULL DEFAULT 0;
    ALTER TABLE profiles ADD COLUMN trait_ranks TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE profiles ADD COLUMN is_shared BOOLEAN NOT NULL DEFAULT TRUE;
    ALTER TABLE profiles ALTER COLUMN is_shared SET DEFAULT FALSE;
    ALTER TABLE identities ADD COLUMN rank SMALLINT NOT NULL DEFAULT 0;
    ALTER TABLE event_names ADD COLUMN rank SMALLINT NOT NULL DEFAULT 0;
    CREATE INDEX profiles_claimed ON profiles (site, last_seen, id) WHERE rank = 0;
    CREATE TABLE profile_counts (site BIGINT PRIMARY KEY, claimed BIGINT NOT NULL);
    INSERT INTO profile_counts SELECT site, count(*) FROM profiles GROUP BY site;
    ",
        // For lists of a site's profiles, the newest first.
        "
    CREATE INDEX profiles_newest ON profiles (site, id);
    DROP INDEX profiles_site;
    ",
    ],
};
