//! Accounts, sessions, tokens and links over an embedded database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::access::{Role, SiteScope};
use super::account::{
    AccessRights, AccountChange, AccountError, AccountId, ConsoleAccounts, SessionLifetimes,
};
use super::session::{IssuedSession, SessionOrigin};
use tagway_core::clock::ManualClock;
use tagway_settings::SecretString;
use tagway_storage::store::{CommitSyncMode, SqliteStore};

const HOST: &str = "localhost";
const PASSWORD: &str = "correct horse battery";
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

struct TestAccounts {
    accounts: ConsoleAccounts,
    store: Arc<SqliteStore>,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
}

fn origin(address: &str) -> SessionOrigin {
    SessionOrigin {
        host: HOST.to_owned(),
        agent: "Firefox\u{1b}[2J/1".to_owned(),
        address: address.parse().unwrap(),
    }
}

fn rights(role: Role) -> AccessRights {
    AccessRights { role, personal: false, sites: SiteScope::all() }
}

fn secret(text: &str) -> SecretString {
    SecretString::new(text)
}

impl TestAccounts {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mode, schemas) = (CommitSyncMode::Os, super::MIGRATIONS);
        let store = SqliteStore::open(folder.path(), mode, schemas, Arc::default());
        let store = Arc::new(store.unwrap());
        let clock = Arc::new(ManualClock::new("2026-12-01T10:00:00Z".parse().unwrap()));
        let lifetimes = SessionLifetimes {
            idle: Duration::from_secs(12 * 3600),
            max: Duration::from_secs(7 * 24 * 3600),
        };
        let accounts = ConsoleAccounts::new(store.clone(), clock.clone(), lifetimes);
        Self { accounts, store, clock, folder }
    }

    /// Makes the account `ana`, an admin with a password.
    async fn with_admin() -> (Self, IssuedSession) {
        let test = Self::new();
        let link = test.accounts.make_login_link(Some("ana")).await.unwrap();
        let session = test.use_link(&link.code).await.unwrap();
        let session = test.set_password(&session, None, PASSWORD).await.unwrap();
        (test, session)
    }

    async fn use_link(&self, code: &SecretString) -> Result<IssuedSession, AccountError> {
        self.accounts.use_link(code.expose(), origin("192.0.2.1")).await
    }

    async fn set_password(
        &self,
        session: &IssuedSession,
        current: Option<&str>,
        new: &str,
    ) -> Result<IssuedSession, AccountError> {
        let passwords = (current.map(secret), secret(new));
        let from = origin("192.0.2.1");
        self.accounts.set_password(&session.session, None, passwords, from).await
    }

    async fn log_in(&self, name: &str, password: &str) -> Result<IssuedSession, AccountError> {
        self.accounts.log_in(name, secret(password), origin("192.0.2.1")).await
    }

    async fn is_alive(&self, session: &IssuedSession) -> bool {
        self.accounts.find_session(session.secret.expose(), HOST).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn first_link_makes_an_admin_who_must_set_a_password() {
    let test = TestAccounts::new();
    assert!(test.accounts.is_new().await.unwrap());
    let link = test.accounts.make_login_link(None).await.unwrap();
    let other = test.accounts.make_login_link(None).await.unwrap();
    assert_eq!((link.name.as_str(), link.account), ("admin", None));
    let session = test.use_link(&link.code).await.unwrap();
    assert!(session.session.must_set_password && !test.accounts.is_new().await.unwrap());
    let rights = &session.session.account.rights;
    assert!(rights.role == Role::Admin && rights.personal && rights.sites.is_all());
    let again = test.use_link(&link.code).await;
    assert!(matches!(again, Err(AccountError::Unknown)), "a link is used once");
    let second = test.use_link(&other.code).await;
    assert!(matches!(second, Err(AccountError::Unknown)), "there is one first login");
    let named = test.accounts.set_password(
        &session.session,
        Some(" Ana ".to_owned()),
        (None, secret(PASSWORD)),
        origin("192.0.2.1"),
    );
    let named = named.await.unwrap();
    assert_eq!(named.session.account.name, "Ana");
    assert!(!named.session.must_set_password && !test.is_alive(&session).await);
    assert!(test.log_in("ana", PASSWORD).await.is_ok());
    let link = test.accounts.make_login_link(None).await.unwrap();
    assert_eq!(link.name, "Ana", "the only admin");
    assert!(!test.use_link(&link.code).await.unwrap().session.must_set_password);
}

#[tokio::test]
async fn links_expire_and_are_replaced() {
    let (test, _) = TestAccounts::with_admin().await;
    let link = test.accounts.make_login_link(Some("ANA")).await.unwrap();
    test.clock.advance(10 * MINUTE);
    assert!(matches!(test.use_link(&link.code).await, Err(AccountError::Unknown)));
    let invited = test.accounts.invite("bob", rights(Role::Viewer)).await.unwrap();
    let replaced = test.accounts.make_reset_link(invited.account.unwrap()).await.unwrap();
    assert!(matches!(test.use_link(&invited.code).await, Err(AccountError::Unknown)));
    test.clock.advance(7 * 24 * HOUR - 1);
    let session = test.use_link(&replaced.code).await.unwrap();
    assert_eq!(session.session.account.name, "bob");
    assert!(session.session.must_set_password);
    let unknown = test.accounts.make_login_link(Some("eve")).await;
    assert!(matches!(unknown, Err(AccountError::Unknown)));
}

#[tokio::test]
async fn login_refuses_wrong_passwords_and_unknown_and_disabled_names_alike() {
    let (test, _) = TestAccounts::with_admin().await;
    let bob = test.accounts.invite("bob", rights(Role::Viewer)).await.unwrap();
    let session = test.use_link(&bob.code).await.unwrap();
    test.set_password(&session, None, PASSWORD).await.unwrap();
    let disabled = AccountChange { disabled: Some(true), ..AccountChange::default() };
    test.accounts.change(bob.account.unwrap(), disabled).await.unwrap();
    for (name, password) in [("ana", "wrong horse battery"), ("eve", PASSWORD), ("bob", PASSWORD)] {
        let error = test.log_in(name, password).await.unwrap_err();
        assert!(matches!(error, AccountError::WrongPassword), "{name}: {error}");
    }
    assert!(matches!(
        test.accounts.make_login_link(Some("bob")).await,
        Err(AccountError::Disabled)
    ));
    for _ in 0..2 {
        test.log_in("ana", "wrong horse battery").await.unwrap_err();
    }
    let limited = test.log_in("ana", PASSWORD).await;
    assert!(matches!(limited, Err(AccountError::Limited)), "six attempts of the network");
    test.clock.advance(MINUTE);
    assert!(test.log_in("ana", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn sessions_end_by_time() {
    let (test, session) = TestAccounts::with_admin().await;
    for _ in 0..14 {
        test.clock.advance(12 * HOUR - 1);
        assert!(test.is_alive(&session).await, "used within 12 h");
    }
    test.clock.advance(20);
    assert!(!test.is_alive(&session).await, "older than 7 d");
    let session = test.log_in("ana", PASSWORD).await.unwrap();
    test.clock.advance(12 * HOUR + 1);
    assert!(!test.is_alive(&session).await, "unused for 12 h");
    assert_eq!(test.accounts.sessions(None).await.unwrap(), []);
    test.accounts.remove_expired().await.unwrap();
    let count = "SELECT count(*) FROM sessions";
    let rows: i64 = test.store.read(|c| c.query_row(count, [], |r| r.get(0))).await.unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn session_belongs_to_its_host_and_its_secret() {
    let (test, session) = TestAccounts::with_admin().await;
    let find = async |secret: &str, host: &str| {
        test.accounts.find_session(secret, host).await.unwrap().is_some()
    };
    let text = session.secret.expose();
    assert!(find(text, HOST).await);
    assert!(!find(text, "ops.example").await, "a cookie of another host");
    assert!(!find(&text.replace(|c: char| c.is_ascii_digit(), "0"), HOST).await);
    assert!(!find("", HOST).await);
    assert!(!find(&hex::encode(session.session.hash), HOST).await, "the stored hash is no secret");
    assert_eq!(session.session.agent, "Firefox[2J/1");
}

#[tokio::test]
async fn changes_of_rights_and_passwords_end_sessions() {
    let (test, ana) = TestAccounts::with_admin().await;
    let bob = test.accounts.invite("bob", rights(Role::Viewer)).await.unwrap();
    let id = bob.account.unwrap();
    let session = test.use_link(&bob.code).await.unwrap();
    let session = test.set_password(&session, None, PASSWORD).await.unwrap();
    let other = test.log_in("bob", PASSWORD).await.unwrap();
    let wrong = test.set_password(&session, Some("wrong"), "another long one").await;
    assert!(matches!(wrong, Err(AccountError::WrongPassword)));
    let missing = test.set_password(&session, None, "another long one").await;
    assert!(matches!(missing, Err(AccountError::WrongPassword)));
    let new = test.set_password(&session, Some(PASSWORD), "another long one").await.unwrap();
    assert!(!test.is_alive(&session).await && !test.is_alive(&other).await);
    assert!(test.is_alive(&new).await && test.is_alive(&ana).await);
    let stale = test.set_password(&session, Some("another long one"), "yet another one").await;
    assert!(matches!(stale, Err(AccountError::Unknown)), "an ended session sets no password");
    let change = AccountChange { role: Some(Role::Editor), ..AccountChange::default() };
    let changed = test.accounts.change(id, change.clone()).await.unwrap();
    assert_eq!(changed.rights.role, Role::Editor);
    assert!(!test.is_alive(&new).await);
    let again = test.log_in("bob", "another long one").await.unwrap();
    test.accounts.change(id, change).await.unwrap();
    assert!(test.is_alive(&again).await, "nothing changed");
    let sites = SiteScope::of(Some(vec!["shop".to_owned()]));
    let change = AccountChange { sites: Some(sites.clone()), ..AccountChange::default() };
    test.accounts.change(id, change).await.unwrap();
    assert!(!test.is_alive(&again).await);
    let again = test.log_in("bob", "another long one").await.unwrap();
    assert_eq!(again.session.account.rights.sites, sites);
}

#[tokio::test]
async fn last_admin_of_all_sites_stays() {
    let (test, _) = TestAccounts::with_admin().await;
    let ana = test.accounts.accounts().await.unwrap()[0].id;
    let sites = SiteScope::of(Some(vec!["shop".to_owned()]));
    let lower = [
        AccountChange { role: Some(Role::Editor), ..AccountChange::default() },
        AccountChange { disabled: Some(true), ..AccountChange::default() },
        AccountChange { sites: Some(sites), ..AccountChange::default() },
    ];
    for change in lower.clone() {
        let result = test.accounts.change(ana, change).await;
        assert!(matches!(result, Err(AccountError::LastAdmin)));
    }
    let bob = test.accounts.invite("bob", rights(Role::Admin)).await.unwrap();
    for change in lower {
        test.accounts.change(ana, change).await.unwrap();
    }
    let bob = bob.account.unwrap();
    let change = AccountChange { role: Some(Role::Viewer), ..AccountChange::default() };
    assert!(matches!(test.accounts.change(bob, change).await, Err(AccountError::LastAdmin)));
    let nobody = test.accounts.change(AccountId(99), AccountChange::default()).await;
    assert!(matches!(nobody, Err(AccountError::Unknown)));
}

#[tokio::test]
async fn names_are_unique_and_visible() {
    let (test, _) = TestAccounts::with_admin().await;
    for name in ["ana", "ANA", " ana "] {
        let taken = test.accounts.invite(name, rights(Role::Viewer)).await;
        assert!(matches!(taken, Err(AccountError::NameTaken)), "{name}");
    }
    for name in ["", " ", "a\nb", "a\u{202e}b", &"x".repeat(101)] {
        let invalid = test.accounts.invite(name, rights(Role::Viewer)).await;
        assert!(matches!(invalid, Err(AccountError::InvalidName)), "{name}");
    }
}

#[tokio::test]
async fn proof_lasts_five_minutes() {
    let (test, session) = TestAccounts::with_admin().await;
    let now = || test.accounts.now();
    assert!(session.session.is_proved(now()), "a password was set");
    test.clock.advance(5 * MINUTE);
    assert!(!session.session.is_proved(now()));
    let from = "192.0.2.1".parse().unwrap();
    let wrong = test.accounts.prove(&session.session, secret("wrong"), from).await;
    assert!(matches!(wrong, Err(AccountError::WrongPassword)));
    let proved = test.accounts.prove(&session.session, secret(PASSWORD), from).await.unwrap();
    assert!(proved.is_proved(now()));
    let link = test.accounts.make_login_link(None).await.unwrap();
    let by_link = test.use_link(&link.code).await.unwrap();
    assert!(!by_link.session.is_proved(now()), "a link is no proof");
}

#[tokio::test]
async fn sessions_are_bounded_listed_and_ended() {
    let (test, first) = TestAccounts::with_admin().await;
    test.clock.advance(1);
    for _ in 0..20 {
        test.log_in("ana", PASSWORD).await.unwrap();
        test.clock.advance(1);
    }
    let sessions = test.accounts.sessions(None).await.unwrap();
    assert_eq!(sessions.len(), 20);
    assert!(!test.is_alive(&first).await, "the one unused longest has ended");
    let (id, own) = (sessions[3].id(), Some(sessions[3].account.id));
    assert_eq!(id.len(), 16);
    let foreign = test.accounts.end_session(&id, Some(AccountId(99))).await;
    assert!(matches!(foreign, Err(AccountError::Unknown)));
    assert_eq!(test.accounts.end_session(&id, own).await.unwrap(), "ana");
    assert!(matches!(test.accounts.end_session(&id, own).await, Err(AccountError::Unknown)));
    assert_eq!(test.accounts.sessions(own).await.unwrap().len(), 19);
}

#[tokio::test]
async fn tokens_have_rights_and_an_end() {
    let test = TestAccounts::new();
    let sites = SiteScope::of(Some(vec!["shop".to_owned()]));
    let own = AccessRights { role: Role::Editor, personal: true, sites };
    let token = test.accounts.make_token("ci", own.clone(), "ana", Some(1)).await.unwrap();
    assert!(token.secret.expose().starts_with("tagway_api_"));
    let find = async || test.accounts.find_token(token.secret.expose()).await.unwrap();
    let found = find().await.unwrap();
    assert_eq!((found.name.as_str(), found.author.as_str(), found.rights), ("ci", "ana", own));
    assert_eq!(find().await.unwrap().used_at, Some(test.accounts.now()));
    let taken = test.accounts.make_token("CI", rights(Role::Viewer), "ana", None).await;
    assert!(matches!(taken, Err(AccountError::NameTaken)));
    test.clock.advance(24 * HOUR);
    assert!(find().await.is_none(), "expired");
    let token = test.accounts.make_token("ci", rights(Role::Viewer), "ana", None).await.unwrap();
    assert_eq!(test.accounts.remove_token(token.id).await.unwrap(), "ci");
    assert!(test.accounts.find_token(token.secret.expose()).await.unwrap().is_none());
    for n in 0..200 {
        let name = format!("t{n}");
        test.accounts.make_token(&name, rights(Role::Viewer), "ana", None).await.unwrap();
    }
    let many = test.accounts.make_token("more", rights(Role::Viewer), "ana", None).await;
    assert!(matches!(many, Err(AccountError::TooMany(200))));
}

#[tokio::test]
async fn secrets_are_neither_stored_nor_formatted() {
    let (test, session) = TestAccounts::with_admin().await;
    let token = test.accounts.make_token("ci", rights(Role::Viewer), "ana", None).await.unwrap();
    let link = test.accounts.make_login_link(None).await.unwrap();
    let secrets: BTreeSet<&str> =
        [PASSWORD, session.secret.expose(), token.secret.expose(), link.code.expose()].into();
    let shown = format!("{session:?} {token:?} {link:?}");
    test.store.close().await;
    let mut files = 0;
    for entry in std::fs::read_dir(test.folder.path()).unwrap() {
        // SQLite removes its log when the last connection closes, which may be now.
        let Ok(bytes) = std::fs::read(entry.unwrap().path()) else { continue };
        files += usize::from(bytes.windows(4).any(|part| part == b"ana\0" || part == b"argo"));
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
        }
    }
    assert!(files > 0, "the database was searched");
    assert!(secrets.iter().all(|secret| !shown.contains(*secret)), "{shown}");
}
