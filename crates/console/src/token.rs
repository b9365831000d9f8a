//! API tokens: bearer tokens with a name and rights of their own, for programs and for the command line elsewhere.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row, named_params};

use super::ConsoleStoreError;
use super::account::{
    AccessRights, AccountError, ConsoleAccounts, REMOVE_EXPIRED_TOKENS, after, check_sites,
    checked_name, rights, stored_sites, time,
};
use super::issued_secret::{self, SecretUse};
use super::session::SEEN_EVERY;
use tagway_settings::SecretString;

/// The most tokens.
const TOKENS: i64 = 200;

/// The beginning of every token, by which scanners for leaked secrets find it.
const PREFIX: &str = "tagway_api_";

/// The longest lifetime that a token may have if it has one, in days.
pub const TOKEN_DAYS: u32 = 3650;

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its number.
    pub id: i64,
    /// Its name, for lists and for the audit log.
    pub name: String,
    /// Its role, its right to personal data and its sites.
    pub rights: AccessRights,
    /// The name of the account that made it.
    pub author: String,
    /// The time at which it was made.
    pub created_at: Timestamp,
    /// The end of its life; none if it has none.
    pub expires_at: Option<Timestamp>,
    /// The time of its last use, to a minute.
    pub used_at: Option<Timestamp>,
}

/// A new token.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// Its number.
    pub id: i64,
    /// The secret, which is not stored.
    pub secret: SecretString,
}

impl ConsoleAccounts {
    /// Makes a token.
    ///
    /// # Errors
    ///
    /// Fails if the name is taken or unusable, or there are too many tokens.
    pub async fn make_token(
        &self,
        name: &str,
        rights: AccessRights,
        author: &str,
        days: Option<u32>,
    ) -> Result<IssuedToken, AccountError> {
        check_sites(&rights.sites)?;
        let (name, author) = (checked_name(name)?, author.to_owned());
        let (secret, now) = (issued_secret::issue(PREFIX)?, self.clock.now());
        let life = |days: u32| SignedDuration::from_hours(24 * i64::from(days.min(TOKEN_DAYS)));
        let expires_at = days.map(|days| after(now, life(days)).as_millisecond());
        let hash = issued_secret::hash(secret.expose(), SecretUse::Token);
        let hash = hash.ok_or(AccountError::Unknown)?;
        let id = self.write(move |c| {
            c.execute(REMOVE_EXPIRED_TOKENS, [now.as_millisecond()])?;
            let count: i64 = c.query_row("SELECT count(*) FROM tokens", [], |row| row.get(0))?;
            if count >= TOKENS {
                return Ok(Err(AccountError::TooMany(TOKENS)));
            }
            let sql = "SELECT EXISTS (SELECT 1 FROM tokens WHERE name = ?1)";
            if c.query_row(sql, [&name], |row| row.get(0))? {
                return Ok(Err(AccountError::NameTaken));
            }
            c.execute(
                "INSERT INTO tokens (hash, name, role, personal, sites, author, created_at, expires_at)
                 VALUES (:hash, :name, :role, :personal, :sites, :author, :now, :expires)",
                named_params! {
                    ":hash": hash, ":name": name, ":role": rights.role.name(),
                    ":personal": rights.personal, ":sites": stored_sites(&rights.sites),
                    ":author": author, ":now": now.as_millisecond(), ":expires": expires_at,
                },
            )?;
            Ok(Ok(c.last_insert_rowid()))
        });
        Ok(IssuedToken { id: id.await?, secret })
    }

    /// All tokens, by their names.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>, ConsoleStoreError> {
        let rows = self.store.read(|c| {
            let mut statement = c.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            statement.query_map([], token)?.collect::<rusqlite::Result<Vec<_>>>()
        });
        Ok(rows.await?)
    }

    /// Removes a token; returns its name.
    ///
    /// # Errors
    ///
    /// Fails if there is no such token, or the disk refuses the write.
    pub async fn remove_token(&self, id: i64) -> Result<String, AccountError> {
        self.write(move |c| {
            let sql = "DELETE FROM tokens WHERE id = ?1 RETURNING name";
            let name = c.query_row(sql, [id], |row| row.get(0)).optional()?;
            Ok(name.ok_or(AccountError::Unknown))
        })
        .await
    }

    /// Finds the token with this secret, and records its use.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn find_token(&self, secret: &str) -> Result<Option<ApiToken>, ConsoleStoreError> {
        let hash = issued_secret::hash(secret, SecretUse::Token);
        let Some(hash) = hash.filter(|_| secret.starts_with(PREFIX)) else { return Ok(None) };
        let now = self.clock.now();
        let found = self.store.read(move |c| {
            let mut statement = c.prepare_cached(&format!("{SELECT} WHERE hash = ?1"))?;
            statement.query_row([hash], token).optional()
        });
        let is_alive = |it: &ApiToken| it.expires_at.is_none_or(|at| now < at);
        let Some(found) = found.await?.filter(is_alive) else { return Ok(None) };
        if found.used_at.is_none_or(|at| now.duration_since(at) >= SEEN_EVERY) {
            let (id, now) = (found.id, now.as_millisecond());
            let sql = "UPDATE tokens SET used_at = ?1 WHERE id = ?2";
            // A full disk must not keep operators out.
            if let Err(error) = self.store.write(move |c| c.execute(sql, (now, id))).await {
                tracing::debug!(%error, "the use of a token is not recorded");
            }
        }
        Ok(Some(found))
    }
}

const SELECT: &str = "SELECT id, name, role, personal, sites, author, created_at, expires_at,
    used_at FROM tokens";

fn token(row: &Row<'_>) -> rusqlite::Result<ApiToken> {
    Ok(ApiToken {
        id: row.get(0)?,
        name: row.get(1)?,
        rights: rights(row, 2)?,
        author: row.get(5)?,
        created_at: time(row.get(6)?),
        expires_at: row.get::<_, Option<i64>>(7)?.map(time),
        used_at: row.get::<_, Option<i64>>(8)?.map(time),
    })
}
