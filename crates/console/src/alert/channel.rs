//! The settings of channels: `[alerts.channels.NAME]`.

use std::time::Duration;

use lettre::message::Mailbox;
use url::Url;

use tagway_core::signature::WebhookSigningKey;
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The described settings of `[alerts.channels.NAME]`.
pub const ALERT_CHANNEL_SETTINGS: &[Setting] = &[
    Setting::word("kind", &["webhook", "slack", "email"])
        .example("slack")
        .required()
        .doc("\"webhook\": a POST of JSON; \"slack\": an incoming webhook of Slack or a compatible one; \"email\""),
    Setting::positive_duration("timeout").default("10s").doc("for one notification"),
    Setting::secret("url")
        .example("${ALERT_URL}")
        .doc("of \"webhook\" and \"slack\"; private addresses need egress.allow_private"),
    Setting::secret("token")
        .example("${ALERT_TOKEN}")
        .doc("of \"webhook\": sent as Authorization: Bearer"),
    Setting::secret("secret").example("${ALERT_SECRET}").doc(
        "of \"webhook\": signs the call by Standard Webhooks (webhook-signature); whsec_ and base64, or \
             plain text",
    ),
    Setting::text("host").example("smtp.example").doc("of \"email\": the mail server"),
    Setting::integer("port", 1, 65_535)
        .example("587")
        .doc("of \"email\"; by default 587, with tls = \"tls\" 465, with \"none\" 25"),
    Setting::word("tls", &["starttls", "tls", "none"]).default("starttls").doc(
        "of \"email\": \"starttls\" (required), \"tls\" from the first byte, or \"none\" for a relay on \
             the same machine, without a password",
    ),
    Setting::text("user").example("tagway").doc("of \"email\""),
    Setting::secret("password").example("${SMTP_PASSWORD}").doc("of \"email\""),
    Setting::text("from").example("Tagway <tagway@shop.example>").doc("of \"email\""),
    Setting::texts("to").example("[\"ops@shop.example\"]").doc("of \"email\": at most 20 addresses"),
];

/// The most addresses of one channel: a mailing list has one.
const MAX_RECIPIENTS: usize = 20;

/// A channel.
#[derive(Clone)]
pub struct AlertChannel {
    /// The channel's name.
    pub name: String,
    /// The time limit of one notification.
    pub timeout: Duration,
    /// Its way to people.
    pub kind: ChannelKind,
    /// A digest of the whole table.
    fingerprint: String,
}

impl std::fmt::Debug for AlertChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertChannel").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for AlertChannel {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.fingerprint) == (&other.name, &other.fingerprint)
    }
}

/// The way of a channel to people.
#[derive(Clone)]
pub enum ChannelKind {
    /// A POST of JSON.
    Webhook {
        /// The address.
        url: Url,
        /// The bearer token.
        token: Option<SecretString>,
        /// The signing key.
        key: Option<WebhookSigningKey>,
    },
    /// An incoming webhook of Slack.
    Slack {
        /// The address.
        url: Url,
    },
    /// E-mail by a mail server.
    Email(Box<MailServer>),
}

/// The encryption of the connection to a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// By the command STARTTLS, which is required.
    StartTls,
    /// From the first byte.
    Implicit,
    /// None.
    Off,
}

/// A mail server with the letter's addresses.
#[derive(Clone)]
pub struct MailServer {
    /// The name or address of the machine.
    pub host: String,
    /// The port of the machine.
    pub port: u16,
    /// The encryption.
    pub tls: MailTls,
    /// User and password.
    pub login: Option<(String, SecretString)>,
    /// The sender.
    pub from: Mailbox,
    /// The recipients.
    pub to: Vec<Mailbox>,
}

impl AlertChannel {
    /// Reads `[alerts.channels.NAME]`; `None` after a mistake, which is reported.
    pub(super) fn read(name: String, section: &mut SettingsSection<'_>) -> Option<Self> {
        let timeout = section.duration("timeout");
        let kinds = [("webhook", 0_u8), ("slack", 1), ("email", 2)];
        let Some(kind) = section.opt_choice("kind", &kinds) else {
            section.error("kind", "is required");
            section.ignore_rest();
            return None;
        };
        let taken: &[&str] = match kind {
            0 => &["url", "token", "secret"],
            1 => &["url"],
            _ => &["host", "port", "tls", "user", "password", "from", "to"],
        };
        for key in
            ["url", "token", "secret", "host", "port", "tls", "user", "password", "from", "to"]
        {
            if section.has(key) && !taken.contains(&key) {
                section.error(key, "has no meaning for this kind of channel");
            }
        }
        let kind = match kind {
            0 => {
                let (token, secret) = (section.opt_secret("token"), section.opt_secret("secret"));
                let key = secret.as_ref().and_then(|secret| {
                    let key = WebhookSigningKey::read(secret);
                    key.map_err(|error| section.error("secret", &error.to_string())).ok()
                });
                read_url(section).map(|url| ChannelKind::Webhook { url, token, key })
            }
            1 => read_url(section).map(|url| ChannelKind::Slack { url }),
            _ => MailServer::read(section).map(|server| ChannelKind::Email(Box::new(server))),
        };
        let fingerprint = section.fingerprint();
        kind.map(|kind| Self { name, timeout, kind, fingerprint })
    }
}

/// Reads the address, which is a secret: whoever has that of Slack may write to its channel.
fn read_url(section: &mut SettingsSection<'_>) -> Option<Url> {
    let Some(text) = section.opt_secret("url") else {
        section.error("url", "is required");
        return None;
    };
    let url = Url::parse(text.expose()).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        section.error("url", "must be an http or https URL");
    }
    url
}

impl MailServer {
    fn read(section: &mut SettingsSection<'_>) -> Option<Self> {
        let tls = section.choice(
            "tls",
            &[("starttls", MailTls::StartTls), ("tls", MailTls::Implicit), ("none", MailTls::Off)],
        );
        let usual = match tls {
            MailTls::StartTls => 587,
            MailTls::Implicit => 465,
            MailTls::Off => 25,
        };
        let port = if section.has("port") { section.integer("port") } else { usual };
        let host = section.opt_string("host").filter(|host| is_host(host));
        if host.is_none() {
            section.error("host", "must be the name or address of the mail server");
        }
        let (user, password) = (section.opt_string("user"), section.opt_secret("password"));
        if user.is_some() != password.is_some() {
            section.error("password", "and user need each other");
        }
        if password.is_some() && tls == MailTls::Off {
            section.error("tls", "must not be \"none\" with a password");
        }
        let from = section.opt_string("from");
        let from = from.and_then(|text| read_mailbox(section, "from", &text));
        let to = section.strings("to");
        let to: Vec<Mailbox> =
            to.iter().filter_map(|text| read_mailbox(section, "to", text)).collect();
        if to.is_empty() || to.len() > MAX_RECIPIENTS {
            section.error("to", "must be 1 to 20 addresses");
        }
        if from.is_none() {
            section
                .error("from", "is required: an address such as \"Tagway <tagway@shop.example>\"");
        }
        let (host, from) = host.zip(from)?;
        Some(Self { host, port, tls, login: user.zip(password), from, to })
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && url::Host::parse(text.trim_matches(['[', ']'])).is_ok()
        || text.parse::<std::net::IpAddr>().is_ok()
}

fn read_mailbox(section: &mut SettingsSection<'_>, key: &str, text: &str) -> Option<Mailbox> {
    let mailbox: Option<Mailbox> =
        text.parse().ok().filter(|_| !text.chars().any(char::is_control));
    if mailbox.is_none() {
        section.error(key, "must be addresses such as \"ops@shop.example\"");
    }
    mailbox
}
