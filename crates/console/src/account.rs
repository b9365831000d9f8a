//! Accounts: people with a name, a role, the right to personal data and the sites that they may see.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};

use super::ConsoleStoreError;
use super::access::{Role, SCOPE_SITES, SiteScope};
use super::attempts::LoginAttempts;
use super::issued_secret::RandomnessError;
use super::password::{PasswordError, PasswordVault};
use tagway_core::clock::SharedClock;
use tagway_settings::{SecretString, can_fool};
use tagway_storage::store::{SqliteMigrations, SqliteStore};

/// The tables of accounts, sessions, tokens and links. Times are milliseconds; `sites` is a list in JSON, NULL for all
/// sites. `AUTOINCREMENT`: a session or row of the audit log never belongs to a later account.
pub(super) const MIGRATIONS: SqliteMigrations = SqliteMigrations {
    name: "console_accounts",
    steps: &["CREATE TABLE accounts (id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE COLLATE NOCASE, password TEXT, oidc TEXT UNIQUE,
            role TEXT NOT NULL, personal INTEGER NOT NULL, sites TEXT, disabled_at INTEGER,
            created_at INTEGER NOT NULL, seen_at INTEGER) STRICT;
        CREATE TABLE sessions (hash BLOB PRIMARY KEY, account INTEGER NOT NULL,
            created_at INTEGER NOT NULL, seen_at INTEGER NOT NULL, proved_at INTEGER,
            must_set_password INTEGER NOT NULL, agent TEXT NOT NULL, network TEXT NOT NULL)
            STRICT, WITHOUT ROWID;
        CREATE INDEX sessions_of_account ON sessions (account);
        CREATE TABLE tokens (id INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE,
            name TEXT NOT NULL UNIQUE COLLATE NOCASE, role TEXT NOT NULL,
            personal INTEGER NOT NULL, sites TEXT, author TEXT NOT NULL,
            created_at INTEGER NOT NULL, expires_at INTEGER, used_at INTEGER) STRICT;
        CREATE TABLE login_links (hash BLOB PRIMARY KEY, account INTEGER, name TEXT NOT NULL,
            must_set_password INTEGER NOT NULL, expires_at INTEGER NOT NULL)
            STRICT, WITHOUT ROWID;"],
};

/// The most accounts: an organisation with more has an issuer of logins in front.
const ACCOUNTS: i64 = 1000;

/// The longest name in characters: e-mail addresses are shorter.
pub const NAME_CHARS: usize = 100;

/// The lifetimes of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLifetimes {
    /// The longest time without a request.
    pub idle: Duration,
    /// The longest time in all.
    pub max: Duration,
}

/// The accounts with their sessions, tokens and links.
pub struct ConsoleAccounts {
    pub(super) store: Arc<SqliteStore>,
    pub(super) clock: SharedClock,
    pub(super) lifetimes: SessionLifetimes,
    pub(super) vault: PasswordVault,
    pub(super) attempts: LoginAttempts,
}

/// The number of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub i64);

/// The rights of an account or a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRights {
    /// The role, which includes the lower ones.
    pub role: Role,
    /// The right to see personal data.
    pub personal: bool,
    /// The sites that its owner may see.
    pub sites: SiteScope,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleAccount {
    /// Its number.
    pub id: AccountId,
    /// Its name, unique without regard to case.
    pub name: String,
    /// Its role, its right to personal data and its sites.
    pub rights: AccessRights,
    /// True if it may not log in.
    pub disabled: bool,
    /// True if an issuer (OpenID Connect) vouches for it.
    pub oidc: bool,
    /// True if it has a password.
    pub has_password: bool,
    /// The time of its invitation.
    pub created_at: Timestamp,
    /// The time of its last request, to a minute.
    pub seen_at: Option<Timestamp>,
}

/// Changes of an account; `None` keeps a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// The new role.
    pub role: Option<Role>,
    /// The right to see personal data.
    pub personal: Option<bool>,
    /// The new sites; all of them without a limit.
    pub sites: Option<SiteScope>,
    /// True ends its sessions, and it may not log in.
    pub disabled: Option<bool>,
}

/// The reason that an account, a token or a link is not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such account, token or session.
    #[error("there is no such account, token or session")]
    Unknown,
    /// The name is taken.
    #[error("this name is taken")]
    NameTaken,
    /// The name is empty, too long or has invisible characters.
    #[error("a name has 1 to 100 visible characters")]
    InvalidName,
    /// The list of sites is too long.
    #[error("the list of sites is too long")]
    TooManySites,
    /// The limit is reached.
    #[error("there are {0} already: remove one first")]
    TooMany(i64),
    /// No other admin of all sites would remain.
    #[error("this is the last admin of all sites: it cannot be disabled or lowered")]
    LastAdmin,
    /// Several accounts fit.
    #[error("there are several admins: name one")]
    Ambiguous,
    /// The account is disabled.
    #[error("this account is disabled")]
    Disabled,
    /// The present password is wrong, or missing.
    #[error("the present password is wrong")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("too many attempts: try again in a minute")]
    Limited,
    /// The password is refused.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// No secret can be made.
    #[error(transparent)]
    Random(#[from] RandomnessError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] ConsoleStoreError),
}

impl ConsoleAccounts {
    /// Opens the accounts in the store, which must have [`super::MIGRATIONS`].
    pub fn new(store: Arc<SqliteStore>, clock: SharedClock, lifetimes: SessionLifetimes) -> Self {
        let (vault, attempts) = (PasswordVault::new(), LoginAttempts::default());
        Self { store, clock, lifetimes, vault, attempts }
    }

    /// All accounts, by their names.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn accounts(&self) -> Result<Vec<ConsoleAccount>, ConsoleStoreError> {
        let rows = self.store.read(|c| {
            let mut statement = c.prepare_cached(&format!("{SELECT} ORDER BY a.name"))?;
            statement.query_map([], account)?.collect::<rusqlite::Result<Vec<_>>>()
        });
        Ok(rows.await?)
    }

    /// The time of day of the accounts.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns true while there is no account: the first login makes one.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn is_new(&self) -> Result<bool, ConsoleStoreError> {
        Ok(self.store.read(is_without_accounts).await?)
    }

    /// Changes an account. A change of its rights ends its sessions: a session has the rights of its login.
    ///
    /// # Errors
    ///
    /// Fails if the account is unknown or the last admin, or if the disk refuses the write.
    pub async fn change(
        &self,
        id: AccountId,
        change: AccountChange,
    ) -> Result<ConsoleAccount, AccountError> {
        if let Some(sites) = &change.sites {
            check_sites(sites)?;
        }
        let now = self.clock.now();
        self.write(move |c| apply_change(c, id, &change, now)).await
    }

    /// Removes what has expired: sessions, links and tokens.
    ///
    /// # Errors
    ///
    /// Fails if the disk refuses the write.
    pub async fn remove_expired(&self) -> Result<(), ConsoleStoreError> {
        let now = self.clock.now();
        let (idle, begun) = (before(now, self.lifetimes.idle), before(now, self.lifetimes.max));
        let now = now.as_millisecond();
        let removed = self.store.write(move |c| {
            c.execute(
                "DELETE FROM sessions WHERE seen_at < ?1 OR created_at < ?2",
                (idle.as_millisecond(), begun.as_millisecond()),
            )?;
            c.execute("DELETE FROM login_links WHERE expires_at <= ?1", [now])?;
            c.execute(REMOVE_EXPIRED_TOKENS, [now])
        });
        removed.await?;
        Ok(())
    }

    /// Runs a durable change whose refusals are errors of this module.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<Result<T, AccountError>> + Send + 'static,
    ) -> Result<T, AccountError> {
        self.store.write_durably(change).await.map_err(ConsoleStoreError::from)?
    }

    /// Counts an attempt to log in or to prove a password; rejects it beyond the limit.
    pub(super) fn begin_attempt(
        &self,
        name: Option<&str>,
        from: IpAddr,
    ) -> Result<(), AccountError> {
        let is_within = self.attempts.begin(name, from, self.clock.now());
        if is_within { Ok(()) } else { Err(AccountError::Limited) }
    }

    /// Compares the password with that of the account with this name, in the same time for all names.
    pub(super) async fn check_password(
        &self,
        name: &str,
        password: SecretString,
        from: IpAddr,
    ) -> Result<ConsoleAccount, AccountError> {
        self.begin_attempt(Some(name), from)?;
        let wanted = name.trim().to_owned();
        let found = self.store.read(move |c| find_with_password(c, &wanted)).await;
        let (account, stored) = found.map_err(ConsoleStoreError::from)?.unzip();
        let is_right = self.vault.verify(password, stored.flatten()).await?;
        match account.filter(|account| is_right && !account.disabled) {
            Some(account) => {
                self.attempts.succeed(Some(name), from);
                Ok(account)
            }
            None => Err(AccountError::WrongPassword),
        }
    }
}

/// Removes the tokens that have expired at this time.
pub(super) const REMOVE_EXPIRED_TOKENS: &str = "DELETE FROM tokens WHERE expires_at <= ?1";

/// The time that is `duration` before now.
pub(super) fn before(now: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    now.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// The time that is `duration` after now.
pub(super) fn after(now: Timestamp, duration: SignedDuration) -> Timestamp {
    now.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// A stored time.
pub(super) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// The name without spaces around it, if it is one.
pub(super) fn checked_name(name: &str) -> Result<String, AccountError> {
    let name = name.trim();
    let is_valid = (1..=NAME_CHARS).contains(&name.chars().count()) && !name.chars().any(can_fool);
    if is_valid { Ok(name.to_owned()) } else { Err(AccountError::InvalidName) }
}

/// Rejects a list of sites that is too long, or has names that are.
pub(super) fn check_sites(sites: &SiteScope) -> Result<(), AccountError> {
    let is_within = sites.names().is_none_or(|names| {
        names.len() <= SCOPE_SITES && names.iter().all(|name| name.len() <= NAME_CHARS)
    });
    if is_within { Ok(()) } else { Err(AccountError::TooManySites) }
}

/// The sites as they are stored.
pub(super) fn stored_sites(sites: &SiteScope) -> Option<String> {
    sites.names().map(|names| serde_json::Value::from(names.to_vec()).to_string())
}

/// Reads rights from three columns. What cannot be read gives no right.
pub(super) fn rights(row: &Row<'_>, first: usize) -> rusqlite::Result<AccessRights> {
    let (role, sites) = (row.get::<_, String>(first)?, row.get::<_, Option<String>>(first + 2)?);
    let sites = sites.map(|text| serde_json::from_str(&text).unwrap_or_default());
    Ok(AccessRights {
        role: Role::from_name(&role).unwrap_or(Role::Viewer),
        personal: row.get(first + 1)?,
        sites: SiteScope::of(sites),
    })
}

/// The columns of [`account`].
pub(super) const SELECT: &str = "SELECT a.id, a.name, a.role, a.personal, a.sites, a.disabled_at,
    a.oidc, a.password, a.created_at, a.seen_at FROM accounts a";

/// Reads an account from the columns of [`SELECT`].
pub(super) fn account(row: &Row<'_>) -> rusqlite::Result<ConsoleAccount> {
    Ok(ConsoleAccount {
        id: AccountId(row.get(0)?),
        name: row.get(1)?,
        rights: rights(row, 2)?,
        disabled: row.get::<_, Option<i64>>(5)?.is_some(),
        oidc: row.get::<_, Option<String>>(6)?.is_some(),
        has_password: row.get::<_, Option<String>>(7)?.is_some(),
        created_at: time(row.get(8)?),
        seen_at: row.get::<_, Option<i64>>(9)?.map(time),
    })
}

/// Finds an account by its number.
pub(super) fn find(
    c: &Connection,
    AccountId(id): AccountId,
) -> rusqlite::Result<Option<ConsoleAccount>> {
    c.prepare_cached(&format!("{SELECT} WHERE a.id = ?1"))?.query_row([id], account).optional()
}

/// Finds an account by its name.
pub(super) fn find_named(c: &Connection, name: &str) -> rusqlite::Result<Option<ConsoleAccount>> {
    c.prepare_cached(&format!("{SELECT} WHERE a.name = ?1"))?.query_row([name], account).optional()
}

fn find_with_password(
    c: &Connection,
    name: &str,
) -> rusqlite::Result<Option<(ConsoleAccount, Option<String>)>> {
    let mut statement = c.prepare_cached(&format!("{SELECT} WHERE a.name = ?1"))?;
    statement.query_row([name], |row| Ok((account(row)?, row.get(7)?))).optional()
}

/// Returns true if there is no account.
pub(super) fn is_without_accounts(c: &Connection) -> rusqlite::Result<bool> {
    c.query_row("SELECT NOT EXISTS (SELECT 1 FROM accounts)", [], |row| row.get(0))
}

/// Inserts an account without a password.
pub(super) fn insert(
    c: &Connection,
    name: &str,
    rights: &AccessRights,
    now: Timestamp,
) -> rusqlite::Result<Result<AccountId, AccountError>> {
    let count: i64 = c.query_row("SELECT count(*) FROM accounts", [], |row| row.get(0))?;
    if count >= ACCOUNTS {
        return Ok(Err(AccountError::TooMany(ACCOUNTS)));
    }
    if find_named(c, name)?.is_some() {
        return Ok(Err(AccountError::NameTaken));
    }
    c.execute(
        "INSERT INTO accounts (name, role, personal, sites, created_at)
         VALUES (:name, :role, :personal, :sites, :now)",
        named_params! {
            ":name": name, ":role": rights.role.name(), ":personal": rights.personal,
            ":sites": stored_sites(&rights.sites), ":now": now.as_millisecond(),
        },
    )?;
    Ok(Ok(AccountId(c.last_insert_rowid())))
}

fn apply_change(
    c: &Connection,
    id: AccountId,
    change: &AccountChange,
    now: Timestamp,
) -> rusqlite::Result<Result<ConsoleAccount, AccountError>> {
    let Some(old) = find(c, id)? else { return Ok(Err(AccountError::Unknown)) };
    let mut new = old.clone();
    new.rights.role = change.role.unwrap_or(old.rights.role);
    new.rights.personal = change.personal.unwrap_or(old.rights.personal);
    new.rights.sites = change.sites.clone().unwrap_or_else(|| old.rights.sites.clone());
    new.disabled = change.disabled.unwrap_or(old.disabled);
    let manages = |it: &ConsoleAccount| {
        it.rights.role == Role::Admin && it.rights.sites.is_all() && !it.disabled
    };
    if manages(&old) && !manages(&new) {
        let others: i64 = c.query_row(
            "SELECT count(*) FROM accounts
             WHERE id <> ?1 AND role = 'admin' AND sites IS NULL AND disabled_at IS NULL",
            [id.0],
            |row| row.get(0),
        )?;
        if others == 0 {
            return Ok(Err(AccountError::LastAdmin));
        }
    }
    c.execute(
        "UPDATE accounts SET role = :role, personal = :personal, sites = :sites,
             disabled_at = iif(:disabled, coalesce(disabled_at, :now), NULL) WHERE id = :id",
        named_params! {
            ":role": new.rights.role.name(), ":personal": new.rights.personal, ":id": id.0,
            ":sites": stored_sites(&new.rights.sites), ":disabled": new.disabled,
            ":now": now.as_millisecond(),
        },
    )?;
    if new.rights != old.rights || new.disabled {
        c.execute("DELETE FROM sessions WHERE account = ?1", [id.0])?;
    }
    if new.disabled {
        c.execute("DELETE FROM login_links WHERE account = ?1", [id.0])?;
    }
    Ok(Ok(new))
}
