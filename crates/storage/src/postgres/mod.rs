//! The PostgreSQL database that gateways may share: connections, migrations, and the encoding of texts.
//! The backends (`profile/postgres`, `segment/postgres`) define what its tables mean; the journal is
//! never here.
//!
//! - The start does not wait for it: connections are made on demand, and operations fail until the
//!   database answers, and try again.
//! - Every wait has an end: `connect_timeout` for a connection, `statement_timeout` for a statement,
//!   which the database enforces, and twice that for its answer.
//! - Gateways number their sites each in its own journal. Here a site is known by its name, under a
//!   number that all share.

mod exact;
mod migrate;
mod text;
mod tls;

#[cfg(any(test, feature = "testing"))]
pub mod test_server;

pub use exact::{exact, searchable};
pub use migrate::PostgresMigrations;
pub use text::{decoded, encoded};

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OnceCell;
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use tagway_settings::{SecretString, Setting, SettingsSection};

/// The described settings of `[postgres]`.
pub const POSTGRES_SETTINGS: &[Setting] = &[
    Setting::secret("url").example("${TAGWAY_POSTGRES_URL}").doc(
        "postgresql://user:password@host:5432/database?sslmode=require; sslmode is \
             \"disable\", \"prefer\" (the default: TLS if the server supports it) or \
             \"require\". With TLS, the system must trust the server's certificate",
    ),
    Setting::text("schema")
        .default("tagway")
        .doc("the schema of the tables; created if it does not exist"),
    Setting::integer("connections", 2, 1_000).default("8").doc(
        "limit of this gateway's connections: about one per site and one per lookup at \
             once",
    ),
    Setting::positive_duration("connect_timeout")
        .default("5s")
        .doc("the time for a connection to be established, TLS included, or to become free"),
    Setting::positive_duration("statement_timeout").default("30s").doc(
        "the time for one statement, enforced by the database; segments.evaluation_timeout \
             applies to segments",
    ),
];

/// The TCP keepalive interval of idle connections.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The longest name of a schema, in bytes.
const MAX_SCHEMA_BYTES: usize = 63;

/// The settings of the shared database: `[postgres]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSettings {
    /// The URL with host and user; `None` if PostgreSQL is not used.
    pub url: Option<SecretString>,
    /// The schema that holds the tables.
    pub schema: String,
    /// The most connections at once.
    pub connections: usize,
    /// The longest wait for a connection to be made, or to come free.
    pub connect_timeout: Duration,
    /// The longest run of one statement.
    pub statement_timeout: Duration,
}

impl PostgresSettings {
    /// Reads `[postgres]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(POSTGRES_SETTINGS);
        let url = section.opt_secret("url");
        if let Some(Err(wrong)) = url.as_ref().map(config) {
            // The driver's message may quote the password.
            section.error("url", wrong);
        }
        let schema = section.string("schema");
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_plain = schema.bytes().all(is_name)
            && schema.starts_with(|first: char| !first.is_ascii_digit())
            && schema.len() <= MAX_SCHEMA_BYTES
            && !schema.starts_with("pg_");
        if !schema.is_empty() && !is_plain {
            section.error("schema", "must be lower-case letters, digits and underscores");
        }
        Self {
            url,
            schema,
            connections: section.integer("connections"),
            connect_timeout: section.duration("connect_timeout"),
            statement_timeout: section.duration("statement_timeout"),
        }
    }
}

/// Returns the connection settings of a URL, or its error.
fn config(url: &SecretString) -> Result<Config, &'static str> {
    let url = url.expose();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must be a URL such as postgresql://user:password@host:5432/database");
    }
    let config: Config = url.parse().map_err(|_quotes_it| {
        "is not a URL of PostgreSQL: what stands before the host, or an option, cannot be read"
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host");
    }
    Ok(config)
}

/// The reason why the database failed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No connection within `postgres.connect_timeout`.
    #[error("the PostgreSQL database cannot be reached")]
    Connect(#[source] Box<PoolError>),
    /// The database refused a statement, or the connection broke.
    #[error("the PostgreSQL database failed{}", reason(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The database did not answer in time.
    #[error("the PostgreSQL database does not answer")]
    Timeout,
    /// The tables were made by a newer program.
    #[error("the PostgreSQL schema was written by a newer version of this program")]
    Newer,
    /// The URL is missing or invalid.
    #[error("postgres.url {0}")]
    Url(&'static str),
    /// TLS cannot be set up.
    #[error("TLS for PostgreSQL cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The connection pool cannot be set up.
    #[error("the PostgreSQL connections cannot be set up")]
    Pool(#[from] deadpool_postgres::BuildError),
    /// A site was used before it was named: a mistake in the program.
    #[error("a site has no name")]
    Nameless,
    /// Rows were used that had not been read: a mistake in the program.
    #[error("rows are missing")]
    Incomplete,
}

impl PostgresError {
    /// Returns true if the database cancelled a statement because it took too long.
    pub fn is_too_slow(&self) -> bool {
        match self {
            Self::Database(error) => error.code() == Some(&SqlState::QUERY_CANCELED),
            Self::Timeout => true,
            _ => false,
        }
    }
}

impl PostgresError {
    /// Returns true if the database refused a value, and will refuse it again: a data exception, a
    /// constraint, a limit of its own (SQLSTATE classes 22, 23 and 54).
    pub fn is_value_error(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let class = error.code().and_then(|code| code.code().get(..2));
        matches!(class, Some("22" | "23" | "54"))
    }
}

/// Returns the SQLSTATE code for the message. The database's own messages may quote personal data; its codes do not.
fn reason(error: &tokio_postgres::Error) -> String {
    match error.code() {
        Some(code) => format!(" with SQLSTATE {}", code.code()),
        None => String::new(),
    }
}

/// A connection of the pool.
pub type PostgresClient = Object;

/// The names and shared numbers of sites, by the journal's numbers.
type SharedSiteNumbers = BTreeMap<u32, (Arc<str>, Option<i64>)>;

/// The shared database: its pool and the numbers of its sites.
pub struct PostgresDatabase {
    pool: Pool,
    settings: PostgresSettings,
    schemas: &'static [PostgresMigrations],
    is_ready: OnceCell<()>,
    /// The names of the journal's sites, and their shared numbers once they are known.
    sites: Mutex<SharedSiteNumbers>,
}

impl PostgresDatabase {
    /// Creates a database handle; `schemas` are migrated when the database is first reached.
    ///
    /// # Errors
    ///
    /// Fails if the URL is missing or invalid, or TLS or the pool cannot be set up.
    pub fn new(
        settings: PostgresSettings,
        schemas: &'static [PostgresMigrations],
    ) -> Result<Self, PostgresError> {
        let url = settings.url.as_ref().ok_or(PostgresError::Url("is not set"))?;
        let mut config = config(url).map_err(PostgresError::Url)?;
        config
            .application_name("tagway")
            .connect_timeout(settings.connect_timeout)
            .tcp_user_timeout(settings.statement_timeout.saturating_mul(2))
            .keepalives_idle(KEEPALIVE)
            .options(format!(
                "-c search_path={} -c statement_timeout={} -c client_min_messages=warning",
                settings.schema,
                settings.statement_timeout.as_millis()
            ));
        let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, tls::connector()?, how);
        let pool = Pool::builder(manager)
            .max_size(settings.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings.connect_timeout))
            .create_timeout(Some(settings.connect_timeout))
            .recycle_timeout(Some(settings.connect_timeout))
            .build()?;
        Ok(Self { pool, settings, schemas, is_ready: OnceCell::new(), sites: Mutex::default() })
    }

    /// Returns a connection to a database that has its tables.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be reached, or its tables are newer than the program.
    pub async fn client(&self) -> Result<PostgresClient, PostgresError> {
        let unreachable = |error| PostgresError::Connect(Box::new(error));
        let mut client = self.pool.get().await.map_err(unreachable)?;
        let ready = self
            .is_ready
            .get_or_try_init(|| migrate::apply(&mut client, &self.settings.schema, self.schemas));
        ready.await?;
        Ok(client)
    }

    /// Runs a query with a time limit, since the connection may be dead.
    ///
    /// # Errors
    ///
    /// Fails if the query does, or if it exceeds `connect_timeout` and twice `statement_timeout`.
    pub async fn with_timeout<T>(
        &self,
        asking: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        let limit = self.settings.connect_timeout + self.settings.statement_timeout * 2;
        match tokio::time::timeout(limit, asking).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(PostgresError::Timeout),
        }
    }

    /// Records the name of a site, by its number in this gateway's journal.
    pub fn name_site(&self, local: u32, name: &str) {
        self.known().entry(local).or_insert_with(|| (name.into(), None));
    }

    /// Returns the number that all gateways use for the site.
    ///
    /// # Errors
    ///
    /// Fails if the site has no name yet, or if the database does.
    pub async fn site(&self, client: &PostgresClient, local: u32) -> Result<i64, PostgresError> {
        let known = self.known().get(&local).cloned();
        let (name, number) = known.ok_or(PostgresError::Nameless)?;
        if let Some(number) = number {
            return Ok(number);
        }
        let sql = "INSERT INTO sites (name) VALUES ($1) ON CONFLICT DO NOTHING";
        client.execute(sql, &[&encoded(&name)]).await?;
        let row =
            client.query_one("SELECT id FROM sites WHERE name = $1", &[&encoded(&name)]).await?;
        let number = row.try_get(0)?;
        self.known().insert(local, (name, Some(number)));
        Ok(number)
    }

    fn known(&self) -> MutexGuard<'_, SharedSiteNumbers> {
        // Every change under the lock is one insertion.
        self.sites.lock()
    }
}

#[cfg(any(test, feature = "testing"))]
#[expect(clippy::unwrap_used, reason = "a test stops where it fails")]
impl PostgresDatabase {
    /// Returns a database with these tables, empty; `None` where PostgreSQL is not installed.
    pub fn of_test(schemas: &'static [PostgresMigrations]) -> Option<Arc<Self>> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let settings = PostgresSettings {
            url: Some(SecretString::new(test_server::url()?)),
            schema: format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            connections: 4,
            connect_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(60),
        };
        Some(Arc::new(Self::new(settings, schemas).unwrap()))
    }

    /// Returns another gateway's handle to the same database.
    pub fn again(&self) -> Arc<Self> {
        Arc::new(Self::new(self.settings.clone(), self.schemas).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_gives_host_and_user_and_is_never_shown() {
        let wrong = |url: &str| config(&SecretString::new(url)).err();
        assert_eq!(wrong("postgresql://me:secret@db.example:5432/shop?sslmode=require"), None);
        for url in
            ["", "host=db", "mysql://db/x", "postgresql://db/x?sslmode=maybe", "postgresql:///x"]
        {
            assert!(wrong(url).is_some(), "{url}");
        }
        let shown = wrong("postgresql://me:hunter2@db.example:port/x").unwrap();
        assert!(!shown.contains("hunter2"));
    }

    #[tokio::test]
    async fn server_with_an_untrusted_certificate_is_refused() {
        let Some((url, _)) = test_server::secure() else { return };
        let settings = PostgresSettings {
            url: Some(SecretString::new(url)),
            schema: "untrusted".to_owned(),
            connections: 1,
            connect_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(60),
        };
        let refused = PostgresDatabase::new(settings, &[]).unwrap().client().await.err().unwrap();
        let refused = format!("{:#}", anyhow::Error::from(refused));
        assert!(refused.contains("invalid peer certificate"), "{refused}");
    }

    #[tokio::test]
    async fn newer_schema_is_refused_and_older_one_is_migrated() {
        const ONE: &str = "CREATE TABLE t (n BIGINT)";
        const OLD: &[PostgresMigrations] = &[PostgresMigrations { name: "test", steps: &[ONE] }];
        const NEW: &[PostgresMigrations] =
            &[PostgresMigrations { name: "test", steps: &[ONE, "CREATE TABLE u (n BIGINT)"] }];
        let Some(old) = PostgresDatabase::of_test(OLD) else { return };
        let again = |schemas| PostgresDatabase::new(old.settings.clone(), schemas).unwrap();
        let insert = async |database: &PostgresDatabase, table: &str| {
            let client = database.client().await?;
            let text = format!("INSERT INTO {table} VALUES (1)");
            Ok::<_, PostgresError>(client.execute(&text, &[]).await?)
        };
        // Several start at once: one makes the tables, the others wait.
        let (one, other) = (again(OLD), again(OLD));
        let made = tokio::join!(insert(&old, "t"), insert(&one, "t"), insert(&other, "t"));
        assert!(matches!(made, (Ok(1), Ok(1), Ok(1))), "{made:?}");
        assert!(insert(&old, "u").await.is_err());
        let new = again(NEW);
        assert_eq!(insert(&new, "u").await.unwrap(), 1);
        assert!(matches!(insert(&again(OLD), "t").await, Err(PostgresError::Newer)));
    }

    #[tokio::test]
    async fn slow_statement_is_cancelled_by_the_database_or_here() {
        let Some(database) = PostgresDatabase::of_test(&[]) else { return };
        let mut settings = database.settings.clone();
        settings.statement_timeout = Duration::from_millis(50);
        settings.connect_timeout = Duration::from_millis(5000);
        let hasty = PostgresDatabase::new(settings, &[]).unwrap();
        let asking = async {
            let client = hasty.client().await?;
            Ok(client.execute("SELECT pg_sleep(20)", &[]).await?)
        };
        let error = hasty.with_timeout(asking).await.unwrap_err();
        assert!(error.is_too_slow(), "{error}");
        assert!(error.to_string().contains("57014"), "{error}");
    }

    #[tokio::test]
    async fn silent_database_fails_after_connect_timeout() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = PostgresSettings {
            url: Some(SecretString::new(format!(
                "postgresql://u:p@{}/x",
                listener.local_addr().unwrap()
            ))),
            schema: "t".to_owned(),
            connections: 2,
            connect_timeout: Duration::from_millis(50),
            statement_timeout: Duration::from_secs(1),
        };
        // The server accepts the connection and never answers.
        let database = PostgresDatabase::new(settings, &[]).unwrap();
        let error = database.client().await.unwrap_err();
        assert!(matches!(error, PostgresError::Connect(_)), "{error:?}");
    }
}
