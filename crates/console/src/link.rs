//! Login links: codes that begin one session. The command line makes them, and admins for those whom they invite.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::access::{Role, SiteScope};
use super::account::{
    self, AccessRights, AccountError, AccountId, ConsoleAccount, ConsoleAccounts, after,
    check_sites, checked_name, time,
};
use super::issued_secret::{self, SecretHash, SecretUse};
use super::session::{self, IssuedSession, SessionDraft, SessionOrigin};
use tagway_settings::SecretString;

/// The lifetime of a link of the command line: it is opened at once.
const LOGIN_TIME: SignedDuration = SignedDuration::from_mins(10);

/// The lifetime of an invitation: people have holidays.
const INVITATION_TIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The most links at once: each account has at most one, and the command line some.
const LINKS: i64 = 1100;

/// The name of the first account, if none is chosen.
const FIRST_NAME: &str = "admin";

/// A new link.
#[derive(Clone, Debug)]
pub struct IssuedLink {
    /// The code, which is not stored.
    pub code: SecretString,
    /// The account's name.
    pub name: String,
    /// The account; none before the first login.
    pub account: Option<AccountId>,
    /// The end of its life.
    pub expires_at: Timestamp,
}

/// A link as it is stored.
struct LinkDraft<'a> {
    account: Option<AccountId>,
    name: &'a str,
    must_set_password: bool,
    expires_at: Timestamp,
}

impl ConsoleAccounts {
    /// Makes a link that logs in. While there is no account, its first use makes an admin. Without a name it is for the
    /// only admin.
    ///
    /// # Errors
    ///
    /// Fails if there is no account with this name, or several admins without one.
    pub async fn make_login_link(&self, name: Option<&str>) -> Result<IssuedLink, AccountError> {
        let name = name.map(checked_name).transpose()?;
        let (code, expires_at) = self.new_code(LOGIN_TIME)?;
        let kept = code.clone();
        let (account, name) = self
            .write(move |c| {
                let account = match account_to_log_in(c, name.as_deref())? {
                    Ok(account) => account,
                    Err(error) => return Ok(Err(error)),
                };
                let id = account.as_ref().map(|account| account.id);
                let lacks_login = |it: &ConsoleAccount| !it.has_password && !it.oidc;
                let must_set_password = account.as_ref().is_none_or(lacks_login);
                let name = account.map(|account| account.name).or(name);
                let name = name.unwrap_or_else(|| FIRST_NAME.to_owned());
                let draft = LinkDraft { account: id, name: &name, must_set_password, expires_at };
                Ok(insert(c, &kept, &draft)?.map(|()| (id, name)))
            })
            .await?;
        Ok(IssuedLink { code, name, account, expires_at })
    }

    /// Makes an account and the link that invites its person.
    ///
    /// # Errors
    ///
    /// Fails if the name is taken or unusable, or there are too many accounts.
    pub async fn invite(
        &self,
        name: &str,
        rights: AccessRights,
    ) -> Result<IssuedLink, AccountError> {
        check_sites(&rights.sites)?;
        let (name, now) = (checked_name(name)?, self.clock.now());
        let (code, expires_at) = self.new_code(INVITATION_TIME)?;
        let (kept, invited) = (code.clone(), name.clone());
        let account = self.write(move |c| {
            let id = match account::insert(c, &invited, &rights, now)? {
                Ok(id) => id,
                Err(error) => return Ok(Err(error)),
            };
            let account = Some(id);
            let draft = LinkDraft { account, name: &invited, must_set_password: true, expires_at };
            Ok(insert(c, &kept, &draft)?.map(|()| id))
        });
        Ok(IssuedLink { account: Some(account.await?), code, name, expires_at })
    }

    /// Makes a link with which the account's person sets a new password. Earlier links end.
    ///
    /// # Errors
    ///
    /// Fails if the account is unknown or disabled.
    pub async fn make_reset_link(&self, id: AccountId) -> Result<IssuedLink, AccountError> {
        let (code, expires_at) = self.new_code(INVITATION_TIME)?;
        let kept = code.clone();
        let name = self.write(move |c| {
            let account = match account::find(c, id)? {
                None => return Ok(Err(AccountError::Unknown)),
                Some(account) if account.disabled => return Ok(Err(AccountError::Disabled)),
                Some(account) => account,
            };
            let ConsoleAccount { name, .. } = account;
            let draft =
                LinkDraft { account: Some(id), name: &name, must_set_password: true, expires_at };
            Ok(insert(c, &kept, &draft)?.map(|()| name))
        });
        Ok(IssuedLink { account: Some(id), code, name: name.await?, expires_at })
    }

    /// Begins the session of a link, which then is used up.
    ///
    /// # Errors
    ///
    /// Fails with [`AccountError::Unknown`] if the link is used, expired or never was, or if its account is disabled.
    pub async fn use_link(
        &self,
        code: &str,
        origin: SessionOrigin,
    ) -> Result<IssuedSession, AccountError> {
        // A code cannot be guessed; the limit keeps attempts out of the database.
        self.begin_attempt(None, origin.address)?;
        let hash = issued_secret::hash(code, SecretUse::Link).ok_or(AccountError::Unknown)?;
        let (secret, now) = (issued_secret::issue("")?, self.clock.now());
        let (kept, address) = (secret.clone(), origin.address);
        let session = self.write(move |c| {
            let Some((account, name, must_set_password)) = take(c, &hash, now)? else {
                return Ok(Err(AccountError::Unknown));
            };
            let account = match account {
                Some(account) => account,
                None => match make_first_account(c, &name, now)? {
                    Ok(account) => account,
                    Err(error) => return Ok(Err(error)),
                },
            };
            let draft =
                SessionDraft { account, origin: &origin, is_proved: false, must_set_password };
            session::insert(c, &kept, &draft, now)
        });
        let session = session.await?;
        self.attempts.succeed(None, address);
        Ok(IssuedSession { session, secret })
    }

    fn new_code(&self, time: SignedDuration) -> Result<(SecretString, Timestamp), AccountError> {
        Ok((issued_secret::issue("")?, after(self.clock.now(), time)))
    }
}

/// The account that a link of the command line is for; none while there are no accounts.
fn account_to_log_in(
    c: &Connection,
    name: Option<&str>,
) -> rusqlite::Result<Result<Option<ConsoleAccount>, AccountError>> {
    if account::is_without_accounts(c)? {
        return Ok(Ok(None));
    }
    let found = match name {
        Some(name) => account::find_named(c, name)?.ok_or(AccountError::Unknown),
        None => {
            let sql = format!(
                "{} WHERE a.role = 'admin' AND a.disabled_at IS NULL AND a.sites IS NULL LIMIT 2",
                account::SELECT
            );
            let mut statement = c.prepare_cached(&sql)?;
            let mut admins = statement.query_map([], account::account)?;
            match (admins.next().transpose()?, admins.next()) {
                (Some(admin), None) => Ok(admin),
                (None, _) => Err(AccountError::Unknown),
                (Some(_), Some(_)) => Err(AccountError::Ambiguous),
            }
        }
    };
    let is_usable = |account: &ConsoleAccount| !account.disabled;
    Ok(found.and_then(|it| if is_usable(&it) { Ok(Some(it)) } else { Err(AccountError::Disabled) }))
}

/// Makes the admin of the first login. A second link of that time is for the account that the first has made, if it
/// has the same name.
fn make_first_account(
    c: &Connection,
    name: &str,
    now: Timestamp,
) -> rusqlite::Result<Result<AccountId, AccountError>> {
    if !account::is_without_accounts(c)? {
        return Ok(Err(AccountError::Unknown));
    }
    let rights = AccessRights { role: Role::Admin, personal: true, sites: SiteScope::all() };
    account::insert(c, name, &rights, now)
}

fn insert(
    c: &Connection,
    code: &SecretString,
    draft: &LinkDraft<'_>,
) -> rusqlite::Result<Result<(), AccountError>> {
    let hash = issued_secret::hash(code.expose(), SecretUse::Link);
    let Some(hash) = hash else { return Ok(Err(AccountError::Unknown)) };
    let LinkDraft { account, name, must_set_password, expires_at } = *draft;
    let account = account.map(|id| id.0);
    c.execute("DELETE FROM login_links WHERE account = ?1", [account])?;
    let count: i64 = c.query_row("SELECT count(*) FROM login_links", [], |row| row.get(0))?;
    if count >= LINKS {
        return Ok(Err(AccountError::TooMany(LINKS)));
    }
    let expires_at = expires_at.as_millisecond();
    c.execute(
        "INSERT INTO login_links (hash, account, name, must_set_password, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        (hash, account, name, must_set_password, expires_at),
    )?;
    Ok(Ok(()))
}

/// Removes the link and returns its account, name and need of a password, if it is alive.
fn take(
    c: &Connection,
    hash: &SecretHash,
    now: Timestamp,
) -> rusqlite::Result<Option<(Option<AccountId>, String, bool)>> {
    let sql = "DELETE FROM login_links WHERE hash = ?1
        RETURNING account, name, must_set_password, expires_at";
    let taken = c.query_row(sql, [hash], |row| {
        let account = row.get::<_, Option<i64>>(0)?.map(AccountId);
        Ok(((account, row.get(1)?, row.get(2)?), time(row.get(3)?)))
    });
    Ok(taken.optional()?.filter(|(_, expires_at)| now < *expires_at).map(|(link, _)| link))
}
