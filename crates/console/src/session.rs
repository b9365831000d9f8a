//! Web sessions: made by a password, a link or an issuer, ended by time, by their people, by an admin, or by a change
//! of the account's rights or password.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::ConsoleStoreError;
use super::account::{
    self, AccountError, AccountId, ConsoleAccount, ConsoleAccounts, before, checked_name, time,
};
use super::attempts::network;
use super::issued_secret::{self, SecretHash, SecretUse};
use tagway_settings::{SecretString, can_fool};

/// The most sessions of an account: a new one ends the one unused longest.
const SESSIONS: i64 = 20;

/// The time for which a password proves that the person is at the browser.
const PROOF_TIME: SignedDuration = SignedDuration::from_mins(5);

/// The time between two records of a session's use, so that a watching browser does not write all the time.
pub(super) const SEEN_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// The longest name of a browser that is kept, in characters: its name and version are in the first.
const AGENT_CHARS: usize = 200;

/// The characters of a session's public id.
const ID_CHARS: usize = 16;

/// The request that begins a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOrigin {
    /// The host name of the console, without the port. The session is of no use on another.
    pub host: String,
    /// The browser's name for itself.
    pub agent: String,
    /// The address of the browser.
    pub address: IpAddr,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The hash of its secret.
    pub hash: SecretHash,
    /// The person who has logged in.
    pub account: ConsoleAccount,
    /// The time of the login.
    pub created_at: Timestamp,
    /// The time of its last request, to a minute.
    pub seen_at: Timestamp,
    /// The end of the time for which the password proves that the person is at the browser.
    pub proved_until: Option<Timestamp>,
    /// True if it may do nothing before its person sets a password.
    pub must_set_password: bool,
    /// The browser's name for itself.
    pub agent: String,
    /// The network of the browser.
    pub network: String,
}

/// A new session with its secret, for the cookie.
#[derive(Clone, Debug)]
pub struct IssuedSession {
    /// The secret, which is not stored.
    pub secret: SecretString,
    /// The stored part, with its account.
    pub session: SessionRecord,
}

/// The values of a new session.
pub(super) struct SessionDraft<'a> {
    pub(super) account: AccountId,
    pub(super) origin: &'a SessionOrigin,
    pub(super) is_proved: bool,
    pub(super) must_set_password: bool,
}

impl SessionRecord {
    /// The id in lists: the beginning of the hash, which does not lead to the secret.
    pub fn id(&self) -> String {
        let digits: String = hex::encode(self.hash);
        digits.chars().take(ID_CHARS).collect()
    }

    /// Returns true while the last proof of the password counts.
    pub fn is_proved(&self, now: Timestamp) -> bool {
        self.proved_until.is_some_and(|until| now < until)
    }
}

impl ConsoleAccounts {
    /// Logs in by name and password. The answer and its time are the same for unknown names, disabled accounts and wrong
    /// passwords.
    ///
    /// # Errors
    ///
    /// Fails with [`AccountError::WrongPassword`], or if there are too many attempts.
    pub async fn log_in(
        &self,
        name: &str,
        password: SecretString,
        origin: SessionOrigin,
    ) -> Result<IssuedSession, AccountError> {
        let account = self.check_password(name, password, origin.address).await?;
        self.begin_session(account.id, origin, true).await
    }

    /// Begins a session of an account that has logged in.
    ///
    /// # Errors
    ///
    /// Fails if the account is unknown or disabled, or the disk refuses the write.
    pub async fn begin_session(
        &self,
        account: AccountId,
        origin: SessionOrigin,
        is_proved: bool,
    ) -> Result<IssuedSession, AccountError> {
        let (secret, now) = (issued_secret::issue("")?, self.clock.now());
        let kept = secret.clone();
        let session = self.write(move |c| {
            let draft =
                SessionDraft { account, origin: &origin, is_proved, must_set_password: false };
            insert(c, &kept, &draft, now)
        });
        Ok(IssuedSession { session: session.await?, secret })
    }

    /// Finds the session of a cookie on this host, and records its use.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn find_session(
        &self,
        secret: &str,
        host: &str,
    ) -> Result<Option<SessionRecord>, ConsoleStoreError> {
        let Some(hash) = issued_secret::hash(secret, SecretUse::Session(host)) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let found = self.store.read(move |c| find(c, &hash)).await?;
        let is_alive = |it: &SessionRecord| {
            it.seen_at >= before(now, self.lifetimes.idle)
                && it.created_at >= before(now, self.lifetimes.max)
                && !it.account.disabled
        };
        let Some(session) = found.filter(is_alive) else { return Ok(None) };
        if now.duration_since(session.seen_at) >= SEEN_EVERY {
            let (account, now) = (session.account.id, now.as_millisecond());
            let seen = self.store.write(move |c| {
                c.execute("UPDATE sessions SET seen_at = ?1 WHERE hash = ?2", (now, hash))?;
                c.execute("UPDATE accounts SET seen_at = ?1 WHERE id = ?2", (now, account.0))
            });
            // A full disk must not keep operators out.
            if let Err(error) = seen.await {
                tracing::debug!(%error, "the use of a session is not recorded");
            }
        }
        Ok(Some(session))
    }

    /// Proves that the person is at the browser: for some minutes the session may manage accounts.
    ///
    /// # Errors
    ///
    /// Fails with [`AccountError::WrongPassword`], or if there are too many attempts.
    pub async fn prove(
        &self,
        session: &SessionRecord,
        password: SecretString,
        from: IpAddr,
    ) -> Result<SessionRecord, AccountError> {
        let account = self.check_password(&session.account.name, password, from).await?;
        if account.id != session.account.id {
            return Err(AccountError::WrongPassword);
        }
        let (hash, now) = (session.hash, self.clock.now());
        self.write(move |c| {
            let sql = "UPDATE sessions SET proved_at = ?1 WHERE hash = ?2";
            c.execute(sql, (now.as_millisecond(), hash))?;
            Ok(find(c, &hash)?.ok_or(AccountError::Unknown))
        })
        .await
    }

    /// Sets the password of a session's account, and the name of a new one. Its sessions end; the answer is a new one.
    ///
    /// # Errors
    ///
    /// Fails if the present password is wrong, which a session after a link needs not have, or the new one is unusable.
    pub async fn set_password(
        &self,
        session: &SessionRecord,
        name: Option<String>,
        (current, new): (Option<SecretString>, SecretString),
        origin: SessionOrigin,
    ) -> Result<IssuedSession, AccountError> {
        let SessionRecord { account, must_set_password, .. } = session;
        if !must_set_password {
            let current = current.ok_or(AccountError::WrongPassword)?;
            self.check_password(&account.name, current, origin.address).await?;
        }
        // A name is chosen once, with the first password: it is in the audit log.
        let is_new = !account.has_password && *must_set_password;
        let name = name.filter(|_| is_new).map(|name| checked_name(&name)).transpose()?;
        let name = name.unwrap_or_else(|| account.name.clone());
        let password = self.vault.hash(&name, new).await?;
        let (id, hash, now) = (account.id, session.hash, self.clock.now());
        let secret = issued_secret::issue("")?;
        let kept = secret.clone();
        let session = self.write(move |c| {
            // The session may have ended meanwhile: then it may not set a password any more.
            if find(c, &hash)?.is_none() {
                return Ok(Err(AccountError::Unknown));
            }
            if account::find_named(c, &name)?.is_some_and(|other| other.id != id) {
                return Ok(Err(AccountError::NameTaken));
            }
            let sql = "UPDATE accounts SET name = ?1, password = ?2 WHERE id = ?3";
            c.execute(sql, (&name, &password, id.0))?;
            c.execute("DELETE FROM sessions WHERE account = ?1", [id.0])?;
            c.execute("DELETE FROM login_links WHERE account = ?1", [id.0])?;
            let draft = SessionDraft {
                account: id,
                origin: &origin,
                is_proved: true,
                must_set_password: false,
            };
            insert(c, &kept, &draft, now)
        });
        Ok(IssuedSession { session: session.await?, secret })
    }

    /// The sessions of an account, or of all.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn sessions(
        &self,
        account: Option<AccountId>,
    ) -> Result<Vec<SessionRecord>, ConsoleStoreError> {
        let now = self.clock.now();
        let since = before(now, self.lifetimes.idle).as_millisecond();
        let begun = before(now, self.lifetimes.max).as_millisecond();
        let rows = self.store.read(move |c| {
            let sql = format!(
                "{SELECT} WHERE (?1 IS NULL OR s.account = ?1) AND s.seen_at >= ?2
                   AND s.created_at >= ?3 ORDER BY s.seen_at DESC"
            );
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map((account.map(|id| id.0), since, begun), session)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        Ok(rows.await?)
    }

    /// Ends the session with this id, of the account or of any. Returns its account's name.
    ///
    /// # Errors
    ///
    /// Fails if there is no such session, or the disk refuses the write.
    pub async fn end_session(
        &self,
        id: &str,
        account: Option<AccountId>,
    ) -> Result<String, AccountError> {
        let found = self.sessions(account).await?;
        let found = found.into_iter().find(|session| session.id() == id);
        let SessionRecord { hash, account, .. } = found.ok_or(AccountError::Unknown)?;
        self.write(move |c| {
            c.execute("DELETE FROM sessions WHERE hash = ?1", [hash])?;
            Ok(Ok(()))
        })
        .await?;
        Ok(account.name)
    }
}

/// The columns of [`session`]: those of an account first.
const SELECT: &str = "SELECT a.id, a.name, a.role, a.personal, a.sites, a.disabled_at, a.oidc,
    a.password, a.created_at, a.seen_at, s.hash, s.created_at, s.seen_at, s.proved_at,
    s.must_set_password, s.agent, s.network FROM sessions s JOIN accounts a ON a.id = s.account";

fn session(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let proved_at = row.get::<_, Option<i64>>(13)?.map(time);
    Ok(SessionRecord {
        account: account::account(row)?,
        hash: row.get(10)?,
        created_at: time(row.get(11)?),
        seen_at: time(row.get(12)?),
        proved_until: proved_at.map(|at| account::after(at, PROOF_TIME)),
        must_set_password: row.get(14)?,
        agent: row.get(15)?,
        network: row.get(16)?,
    })
}

fn find(c: &Connection, hash: &SecretHash) -> rusqlite::Result<Option<SessionRecord>> {
    let mut statement = c.prepare_cached(&format!("{SELECT} WHERE s.hash = ?1"))?;
    statement.query_row([hash], session).optional()
}

/// Inserts a session of an account that may log in, and ends those beyond the limit.
pub(super) fn insert(
    c: &Connection,
    secret: &SecretString,
    draft: &SessionDraft<'_>,
    now: Timestamp,
) -> rusqlite::Result<Result<SessionRecord, AccountError>> {
    let SessionDraft { account, origin, is_proved, must_set_password } = *draft;
    match account::find(c, account)? {
        None => return Ok(Err(AccountError::Unknown)),
        Some(found) if found.disabled => return Ok(Err(AccountError::Disabled)),
        Some(_) => {}
    }
    let hash = issued_secret::hash(secret.expose(), SecretUse::Session(&origin.host));
    let Some(hash) = hash else { return Ok(Err(AccountError::Unknown)) };
    let agent: String = origin.agent.chars().filter(|c| !can_fool(*c)).take(AGENT_CHARS).collect();
    let now = now.as_millisecond();
    c.execute(
        "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE account = ?1
         ORDER BY seen_at DESC, created_at DESC LIMIT -1 OFFSET ?2)",
        (account.0, SESSIONS - 1),
    )?;
    c.execute(
        "INSERT INTO sessions (hash, account, created_at, seen_at, proved_at, must_set_password,
             agent, network)
         VALUES (:hash, :account, :now, :now, :proved, :must, :agent, :network)",
        named_params! {
            ":hash": hash, ":account": account.0, ":now": now,
            ":proved": is_proved.then_some(now), ":must": must_set_password, ":agent": agent,
            ":network": network(origin.address).to_string(),
        },
    )?;
    c.execute("UPDATE accounts SET seen_at = ?1 WHERE id = ?2", (now, account.0))?;
    Ok(find(c, &hash)?.ok_or(AccountError::Unknown))
}
