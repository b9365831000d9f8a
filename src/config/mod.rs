//! Loading the configuration: the user's file over the embedded default, read by the modules that
//! own the settings. Only the sites of the default are not beneath a user's file. Every mistake of a
//! load is reported at once; a load with mistakes yields nothing.

mod site;
#[cfg(test)]
mod site_tests;
#[cfg(test)]
mod tests;
mod watch;

pub use site::SiteSettings;
pub use watch::{Change, Watch};

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::geo::Geo;
use crate::settings::{Environment, Mistake, Redaction, Report, Section, Source};
use crate::{admin, delivery, edge, gateway, journal, log, postgres, profile, script, segment};

/// The default settings, compiled in: the lowest layer of every load.
const EMBEDDED: &str = include_str!("../../config/tagway.toml");

/// The files that are looked for when none is named, in this order.
const DEFAULT_FILES: [&str; 2] = ["tagway.toml", "config/tagway.toml"];

/// The variable that names the user's file.
const FILE_VARIABLE: &str = "TAGWAY_CONFIG";

/// All settings of one gateway, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// `[listen]`, `[tls]` and the edge's part of `[limits]`.
    pub edge: edge::Settings,
    /// The gateway's part of `[limits]`.
    pub limits: gateway::Limits,
    /// `listen.admin` and `[admin]`.
    pub admin: admin::Settings,
    /// `[journal]`.
    pub journal: journal::Settings,
    /// `[profiles]`.
    pub profiles: profile::Settings,
    /// `[postgres]`.
    pub postgres: postgres::Settings,
    /// `[segments]`.
    pub segments: segment::Settings,
    /// `[egress]`.
    pub egress: delivery::EgressSettings,
    /// `[scripts]`.
    pub scripts: script::proxy::Settings,
    /// `[log]`.
    pub log: log::Settings,
    /// `[[sites]]`, in the order of the file.
    pub sites: Vec<SiteSettings>,
    /// `[geo]`: the database of places.
    pub geo: Geo,
    /// Knows all secrets among them.
    pub redaction: Redaction,
    /// Settings that the file gives under former names, in the order in which they are read.
    pub warnings: Vec<Mistake>,
}

impl Settings {
    // One line per module; a module's mistakes go to its section.
    fn read(root: &mut Section<'_>) -> Self {
        let data_dir = root.path("data_dir");
        let mut listen = root.section("listen");
        let admin = admin::Settings::read(&mut listen, &mut root.section("admin"));
        let mut limits = root.section("limits");
        let edge = edge::Settings::read(&mut listen, &mut limits, &mut root.section("tls"));
        check_listeners(&mut listen, &edge, &admin);
        let geo = Geo::read(&mut root.section("geo"));
        let profiles = profile::Settings::read(&mut root.section("profiles"));
        let mut shared = root.section("postgres");
        let postgres = postgres::Settings::read(&mut shared);
        if profiles.store == profile::Backend::Postgres && postgres.url.is_none() {
            shared.mistake("url", "must be set: profiles.store = \"postgres\" needs it");
        }
        Self {
            data_dir,
            edge,
            limits: gateway::Limits::read(&mut limits),
            admin,
            journal: journal::Settings::read(&mut root.section("journal")),
            profiles,
            postgres,
            segments: segment::Settings::read(&mut root.section("segments")),
            egress: delivery::EgressSettings::read(&mut root.section("egress")),
            scripts: script::proxy::Settings::read(&mut root.section("scripts")),
            log: log::Settings::read(&mut root.section("log")),
            sites: site::read_sites(root, &geo),
            geo,
            redaction: root.redaction().clone(),
            warnings: root.warnings(),
        }
    }
}

/// Two listeners cannot share an address, and one at every address of a port shares each.
fn check_listeners(listen: &mut Section<'_>, edge: &edge::Settings, admin: &admin::Settings) {
    let admin = listen.has("admin").then_some(admin.address);
    let listeners = [("http", edge.http), ("https", edge.https), ("admin", admin)];
    let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
    for (name, address) in listeners {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        let shares = |(_, other): &&(&str, SocketAddr)| {
            let (own, other_ip) = (address.ip().to_canonical(), other.ip().to_canonical());
            // Every address of IPv6 is usually every address of IPv4 as well.
            let is_every = |ip: IpAddr, than: IpAddr| {
                ip.is_unspecified() && (ip.is_ipv6() || ip.is_ipv4() == than.is_ipv4())
            };
            let is_same = own == other_ip || is_every(own, other_ip) || is_every(other_ip, own);
            other.port() == address.port() && is_same
        };
        match taken.iter().find(shares) {
            Some((other, at)) => {
                // The mistake is the user's, and stands where the user's file has it.
                let (wrong, other, at) = match listen.is_default(name) {
                    true => (*other, name, address),
                    false => (name, *other, *at),
                };
                let message =
                    format!("shares the address of listen.{other}, {at}: take another port");
                listen.mistake(wrong, &message);
            }
            None => taken.push((name, address)),
        }
    }
}

impl Settings {
    /// The names of settings that only take effect with the next start, where they differ from
    /// those that `running` started with.
    pub fn fixed_differences(&self, running: &Self) -> Vec<&'static str> {
        let differences = [
            ("data_dir", self.data_dir != running.data_dir),
            ("listen.http", self.edge.http != running.edge.http),
            ("listen.https", self.edge.https != running.edge.https),
            ("listen.admin and [admin]", self.admin != running.admin),
            ("[journal]", self.journal != running.journal),
            ("[scripts]", self.scripts != running.scripts),
            ("[profiles]", self.profiles != running.profiles),
            ("[postgres]", self.postgres != running.postgres),
            ("[segments]", self.segments != running.segments),
            (
                "[log] format and level",
                (self.log.format, &self.log.level) != (running.log.format, &running.log.level),
            ),
        ];
        differences.into_iter().filter(|(_, differ)| *differ).map(|(name, _)| name).collect()
    }
}

/// What the client commands need to find a running gateway, whatever else its file says: they must
/// work in a shell that lacks the gateway's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Where the admin token is kept.
    pub data_dir: PathBuf,
    /// Where the admin listener is bound.
    pub admin: SocketAddr,
}

/// The way in which the user's file was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigChoice {
    /// The caller.
    Named,
    /// The environment.
    Variable,
    /// It was found.
    Found,
    /// There is none: the embedded default stands alone.
    #[default]
    Nothing,
}

/// Where a load starts from. Kept by a running gateway, which reloads from the same place.
#[derive(Clone, Default)]
pub struct Origin {
    /// The user's file; without one the embedded default stands alone.
    pub file: Option<PathBuf>,
    /// The way in which it was chosen.
    pub choice: ConfigChoice,
    /// The environment variables that `${NAME}` refers to.
    pub variables: BTreeMap<String, String>,
    /// Learns the secrets of each load.
    pub redaction: Redaction,
}

impl fmt::Debug for Origin {
    /// Without the variables, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Origin {
    /// The origin of a process: the file that is named, else that of the variable `TAGWAY_CONFIG`, else
    /// `tagway.toml` or `config/tagway.toml` in `folder` if it is there.
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
        Self { file, choice, variables, redaction: Redaction::default() }
    }

    /// The line that tells which configuration is used; `None` where the caller named it.
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
    pub fn load(&self) -> Result<Settings, Vec<Mistake>> {
        let (sources, environment) = self.open()?;
        load(&sources, &environment)
    }

    /// Reads only where the gateway is to be found.
    pub fn whereabouts(&self) -> Result<Whereabouts, Vec<Mistake>> {
        let (sources, environment) = self.open()?;
        compose(&sources, &environment, |root| {
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let data_dir = root.path("data_dir");
            let mut listen = root.section("listen");
            let admin = listen.parsed("admin", nowhere);
            listen.ignore_rest();
            root.ignore_rest();
            Whereabouts { data_dir, admin }
        })
    }

    /// The user's file, if there is one, and what its strings refer to.
    fn open(&self) -> Result<(Vec<Source>, Environment), Vec<Mistake>> {
        let mut sources = Vec::new();
        let mut base = PathBuf::new();
        if let Some(file) = &self.file {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file).map_err(|error| {
                let message = format!("cannot be read: {error}");
                vec![Mistake { file: name.clone(), line: 1, key: String::new(), message }]
            })?;
            base = file.parent().map(Path::to_owned).unwrap_or_default();
            sources.push(Source { name, text });
        }
        let (variables, redaction) = (self.variables.clone(), self.redaction.clone());
        Ok((sources, Environment { variables, base, redaction }))
    }
}

/// Loads settings from texts, the most specific first, over the embedded default.
pub fn load(sources: &[Source], environment: &Environment) -> Result<Settings, Vec<Mistake>> {
    compose(sources, environment, Settings::read)
}

fn compose<T>(
    sources: &[Source],
    environment: &Environment,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<T, Vec<Mistake>> {
    let report = Report::default();
    let embedded = Source { name: "embedded default".to_owned(), text: EMBEDDED.to_owned() };
    let sources: Vec<&Source> = sources.iter().chain([&embedded]).collect();
    let mut tables: Vec<_> = sources.iter().map(|source| source.parse(&report)).collect();
    // A user's file that names no site must not have the embedded one answer to anybody.
    if let [_, .., embedded] = tables.as_mut_slice() {
        embedded.get_mut().remove("sites");
    }
    let layers = sources.iter().copied().zip(&tables).collect();
    let mut root = Section::root(layers, environment, &report);
    let value = read(&mut root);
    // Dropping the section reports the keys that nobody read.
    drop(root);
    if report.is_empty() { Ok(value) } else { Err(report.into_mistakes()) }
}
