//! Loads the configuration: the user's file over the embedded default, read by the modules that own the
//! settings. Only the default's sites are not inherited by a user's file. Every mistake of a load is
//! reported at once; a load with mistakes returns no settings.

mod effective;
mod fixed;
#[cfg(test)]
mod schema_tests;
mod site;
#[cfg(test)]
mod site_tests;
mod tables;
#[cfg(test)]
mod tests;
mod warnings;
mod watch;

pub use fixed::needs_restart;
pub use site::SiteSettings;
#[cfg(test)]
pub use tables::each_described_table;
pub use tables::{described_settings, json_schema};
pub use warnings::{expiry_warning, gateway_warnings, site_warnings};
pub use watch::{ConfigWatcher, ReloadReason};

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{admin, gateway, log};
use tagway_console::alert::AlertSettings;
use tagway_core::geo::GeoDatabase;
use tagway_delivery::segment;
use tagway_pages::script;
use tagway_settings::{
    ConfigEnvironment, ConfigError, ConfigErrorReport, ConfigFile, SecretRedactor, SettingsSection,
};
use tagway_storage::{journal, postgres, profile};

/// The default settings, compiled in: the lowest layer of every load, and the manual of all settings.
pub const EMBEDDED_SETTINGS: &str = include_str!("../../config/tagway.toml");

/// The files that are tried when none is named, in this order.
const DEFAULT_FILES: [&str; 2] = ["tagway.toml", "config/tagway.toml"];

/// The variable that names the user's file.
const FILE_VARIABLE: &str = "TAGWAY_CONFIG";

/// All settings of one gateway, checked.
#[derive(Clone, Debug)]
pub struct TagwaySettings {
    /// The folder of all durable data.
    pub data_dir: PathBuf,
    /// `[listen]`, `[tls]` and the edge's part of `[limits]`.
    pub edge: tagway_edge::EdgeSettings,
    /// The gateway's part of `[limits]`.
    pub limits: gateway::GatewayLimits,
    /// `listen.admin` and `[admin]`.
    pub admin: admin::AdminSettings,
    /// Storage and retention of events (`[journal]`).
    pub journal: journal::JournalSettings,
    /// Storage of profiles (`[profiles]`).
    pub profiles: profile::ProfileSettings,
    /// The shared PostgreSQL database (`[postgres]`).
    pub postgres: postgres::PostgresSettings,
    /// Evaluation of segments (`[segments]`).
    pub segments: segment::SegmentationSettings,
    /// Connections to vendors (`[egress]`).
    pub egress: tagway_delivery::EgressSettings,
    /// The cache of vendors' scripts (`[scripts]`).
    pub scripts: script::proxy::ScriptProxySettings,
    /// Alert rules and channels (`[alerts]`).
    pub alerts: AlertSettings,
    /// Format and level of the log (`[log]`).
    pub log: log::LogSettings,
    /// `[[sites]]`, in the order of the file.
    pub sites: Vec<SiteSettings>,
    /// `[geo]`: the database of places.
    pub geo: GeoDatabase,
    /// Contains all secrets of these settings.
    pub redaction: SecretRedactor,
    /// Warnings about settings under former names, in the order in which they are read.
    pub warnings: Vec<ConfigError>,
    /// The files that they were read from, the most specific first, without the embedded default.
    pub files: Arc<[ConfigFile]>,
}

impl TagwaySettings {
    // One line per module; a module's mistakes go to its section.
    fn read(root: &mut SettingsSection<'_>) -> Self {
        root.describe(tables::ROOT_SETTINGS);
        let data_dir = root.path("data_dir");
        let mut listen = root.section("listen");
        let mut operators = root.section("admin");
        let admin = admin::AdminSettings::read(&mut listen, &mut operators);
        let mut limits = root.section("limits");
        let edge =
            tagway_edge::EdgeSettings::read(&mut listen, &mut limits, &mut root.section("tls"));
        check_listeners(&mut listen, &edge, &admin);
        if admin.tls.is_on() && admin.tls.certificates(&edge).is_empty() {
            operators.error("tls", "needs [[tls.certificates]], or certificate and key of [admin]");
        }
        let geo = GeoDatabase::read(&mut root.section("geo"));
        let profiles = profile::ProfileSettings::read(&mut root.section("profiles"));
        let mut shared = root.section("postgres");
        let postgres = postgres::PostgresSettings::read(&mut shared);
        if profiles.store == profile::ProfileBackend::Postgres && postgres.url.is_none() {
            shared.error("url", "must be set: profiles.store = \"postgres\" needs it");
        }
        Self {
            data_dir,
            edge,
            limits: gateway::GatewayLimits::read(&mut limits),
            admin,
            journal: journal::JournalSettings::read(&mut root.section("journal")),
            profiles,
            postgres,
            segments: segment::SegmentationSettings::read(&mut root.section("segments")),
            egress: tagway_delivery::EgressSettings::read(&mut root.section("egress")),
            scripts: script::proxy::ScriptProxySettings::read(&mut root.section("scripts")),
            alerts: AlertSettings::read(&mut root.section("alerts")),
            log: log::LogSettings::read(&mut root.section("log")),
            sites: site::read_sites(root, &geo),
            geo,
            redaction: root.redaction().clone(),
            warnings: Vec::new(),
            files: Arc::default(),
        }
    }
}

/// Reports listeners that share an address. A wildcard address shares every address of its port.
fn check_listeners(
    listen: &mut SettingsSection<'_>,
    edge: &tagway_edge::EdgeSettings,
    admin: &admin::AdminSettings,
) {
    let admin = listen.has("admin").then_some(admin.address);
    let listeners = [("http", edge.http), ("https", edge.https), ("admin", admin)];
    let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
    for (name, address) in listeners {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        let shares = |(_, other): &&(&str, SocketAddr)| {
            let (own, other_ip) = (address.ip().to_canonical(), other.ip().to_canonical());
            // The IPv6 wildcard usually includes every IPv4 address.
            let is_every = |ip: IpAddr, than: IpAddr| {
                ip.is_unspecified() && (ip.is_ipv6() || ip.is_ipv4() == than.is_ipv4())
            };
            let is_same = own == other_ip || is_every(own, other_ip) || is_every(other_ip, own);
            other.port() == address.port() && is_same
        };
        match taken.iter().find(shares) {
            Some((other, at)) => {
                // The mistake is reported where the user's file sets an address.
                let (wrong, other, at) = match listen.is_default(name) {
                    true => (*other, name, address),
                    false => (name, *other, *at),
                };
                let message =
                    format!("shares the address of listen.{other}, {at}: take another port");
                listen.error(wrong, &message);
            }
            None => taken.push((name, address)),
        }
    }
}

/// The settings that client commands need to find a running gateway, independent of the rest of the file:
/// the commands must work in a shell without the gateway's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminEndpoint {
    /// The folder of the admin token.
    pub data_dir: PathBuf,
    /// The address of the admin listener.
    pub admin: SocketAddr,
    /// The files of the certificates that it shows to clients; none if it speaks plain HTTP.
    pub certificates: Vec<PathBuf>,
}

/// The way in which the user's file was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigChoice {
    /// Named by the caller.
    Named,
    /// Named by the environment variable.
    Variable,
    /// Found at a default path.
    Found,
    /// No file: only the embedded default is used.
    #[default]
    Nothing,
}

/// The source of a load. A running gateway keeps it and reloads from it.
#[derive(Clone, Default)]
pub struct ConfigSource {
    /// The user's file; without one, only the embedded default is used.
    pub file: Option<PathBuf>,
    /// The way in which it was chosen.
    pub choice: ConfigChoice,
    /// The environment variables that `${NAME}` refers to.
    pub variables: BTreeMap<String, String>,
    /// Records the secrets of each load.
    pub redaction: SecretRedactor,
}

impl fmt::Debug for ConfigSource {
    /// Formats without the variables, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("file", &self.file).finish_non_exhaustive()
    }
}

impl ConfigSource {
    /// The source of a process: the named file, else that of the variable `TAGWAY_CONFIG`, else
    /// `tagway.toml` or `config/tagway.toml` in `folder` if it exists.
    pub fn new(named: Option<PathBuf>, folder: &Path, variables: BTreeMap<String, String>) -> Self {
        let variable = variables.get(FILE_VARIABLE).filter(|file| !file.is_empty());
        let found = || DEFAULT_FILES.iter().map(|file| folder.join(file)).find(|it| it.exists());
        let (file, choice) = match (named, variable) {
            (Some(file), _) => (Some(file), ConfigChoice::Named),
            (None, Some(file)) => (Some(file.into()), ConfigChoice::Variable),
            (None, None) => match found() {
                Some(file) => (Some(file), ConfigChoice::Found),
                None => (None, ConfigChoice::Nothing),
            },
        };
        Self { file, choice, variables, redaction: SecretRedactor::default() }
    }

    /// The log line that names the configuration in use; `None` if the caller named it.
    pub fn announcement(&self) -> Option<String> {
        let file = self.file.as_deref().unwrap_or(Path::new("")).display();
        match self.choice {
            ConfigChoice::Named => None,
            ConfigChoice::Variable => Some(format!("configuration: {file} (from {FILE_VARIABLE})")),
            ConfigChoice::Found => {
                Some(format!("configuration: {file} (found here; --config FILE names another)"))
            }
            ConfigChoice::Nothing => {
                let files = DEFAULT_FILES.join(" nor ");
                Some(format!(
                    "configuration: the embedded default (neither {files} is here; --config FILE names \
                     one)"
                ))
            }
        }
    }

    /// Loads and checks everything.
    ///
    /// # Errors
    ///
    /// All mistakes of the files.
    pub fn load(&self) -> Result<TagwaySettings, Vec<ConfigError>> {
        let (sources, environment) = self.open()?;
        load(&sources, &environment)
    }

    /// Reads only the settings that locate the gateway.
    ///
    /// # Errors
    ///
    /// The mistakes of these settings.
    pub fn admin_endpoint(&self) -> Result<AdminEndpoint, Vec<ConfigError>> {
        let (sources, environment) = self.open()?;
        compose(&sources, &environment, |root| {
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let data_dir = root.path("data_dir");
            let mut listen = root.section("listen");
            let admin = listen.parsed("admin", nowhere);
            listen.ignore_rest();
            let certificates = admin_certificates(root);
            root.ignore_rest();
            AdminEndpoint { data_dir, admin, certificates }
        })
        .map(|(endpoint, _warnings)| endpoint)
    }

    /// The environment of the file's strings.
    fn environment(&self) -> ConfigEnvironment {
        let base = self.file.as_deref().and_then(Path::parent).map(Path::to_owned);
        let (variables, redaction) = (self.variables.clone(), self.redaction.clone());
        ConfigEnvironment { variables, base: base.unwrap_or_default(), redaction }
    }

    /// The user's file, if there is one, and the environment of its strings.
    fn open(&self) -> Result<(Vec<ConfigFile>, ConfigEnvironment), Vec<ConfigError>> {
        let mut sources = Vec::new();
        if let Some(file) = &self.file {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file).map_err(|error| {
                let message = format!("cannot be read: {error}");
                vec![ConfigError { file: name.clone(), line: 1, key: String::new(), message }]
            })?;
            sources.push(ConfigFile { name, text });
        }
        Ok((sources, self.environment()))
    }
}

/// Reads the files of the certificates of the admin listener, without a look at them or their keys: the caller of a
/// command may not be allowed to read these.
fn admin_certificates(root: &mut SettingsSection<'_>) -> Vec<PathBuf> {
    let (mut admin, mut tls) = (root.section("admin"), root.section("tls"));
    let (is_shared, own) = (admin.boolean("tls"), admin.opt_path("certificate"));
    admin.ignore_rest();
    let mut shared = Vec::new();
    for mut certificate in tls.sections("certificates", None) {
        shared.extend(certificate.opt_path("cert"));
        certificate.ignore_rest();
    }
    tls.ignore_rest();
    match own {
        Some(own) => vec![own],
        None if is_shared => shared,
        None => Vec::new(),
    }
}

/// Loads settings from texts, the most specific first, over the embedded default.
///
/// # Errors
///
/// Returns all mistakes in the settings, each with its file and line.
pub fn load(
    sources: &[ConfigFile],
    environment: &ConfigEnvironment,
) -> Result<TagwaySettings, Vec<ConfigError>> {
    let (settings, warnings) = compose(sources, environment, TagwaySettings::read)?;
    Ok(TagwaySettings { warnings, files: sources.into(), ..settings })
}

/// Reads the files with the embedded default beneath them; also returns the warnings.
fn compose<T>(
    sources: &[ConfigFile],
    environment: &ConfigEnvironment,
    read: impl FnOnce(&mut SettingsSection<'_>) -> T,
) -> Result<(T, Vec<ConfigError>), Vec<ConfigError>> {
    let report = ConfigErrorReport::default();
    let embedded = embedded_file();
    let sources: Vec<&ConfigFile> = sources.iter().chain([&embedded]).collect();
    let tables = parse_layers(&sources, &report);
    let layers = sources.iter().copied().zip(&tables).collect();
    let mut root = SettingsSection::root(layers, environment, &report);
    let value = read(&mut root);
    // Dropping the section reports the keys that were not read.
    drop(root);
    let warnings = report.warnings();
    if report.is_empty() { Ok((value, warnings)) } else { Err(report.into_errors()) }
}

/// The embedded default as a file.
fn embedded_file() -> ConfigFile {
    ConfigFile { name: "embedded default".to_owned(), text: EMBEDDED_SETTINGS.to_owned() }
}

/// Parses files, of which the last is the embedded default.
fn parse_layers<'s>(
    sources: &[&'s ConfigFile],
    report: &ConfigErrorReport,
) -> Vec<toml::Spanned<toml::de::DeTable<'s>>> {
    let mut tables: Vec<_> = sources.iter().map(|source| source.parse(report)).collect();
    // A user's file without sites must not serve the embedded one.
    if let [_, .., embedded] = tables.as_mut_slice() {
        embedded.get_mut().remove("sites");
    }
    tables
}
