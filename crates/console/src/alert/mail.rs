//! Letters, sent with SMTP to an address that the guard admits.
//!
//! Header fields are made by the library from values without control characters, so that no name adds a field.

use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::channel::{MailServer, MailTls};
use super::message::AlertMessage;
use tagway_core::address::{EgressResolver, is_public};

/// The longest subject in characters: mail programs show about 70.
const SUBJECT_CHARS: usize = 150;

/// The longest quotation of a mail server's answer in characters.
const REPLY_CHARS: usize = 200;

/// Sends a message to the channel's addresses. An error is a text for operators.
pub(super) async fn send_letter(
    server: &MailServer,
    message: &AlertMessage,
    allows_private: bool,
    timeout: Duration,
) -> Result<(), String> {
    let letter = compose(server, message)?;
    let exchange = async {
        let transport = connect(server, allows_private, timeout).await?;
        let sent = transport.send(letter).await;
        sent.map(drop).map_err(|error| reply_text(&error))
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(result) => result,
        Err(_) => Err(format!("the mail server did not answer within {timeout:?}")),
    }
}

pub(super) fn compose(server: &MailServer, message: &AlertMessage) -> Result<Message, String> {
    let domain = server.from.email.domain().to_owned();
    let mut letter = Message::builder()
        .from(server.from.clone())
        .subject(one_line(&message.subject(), SUBJECT_CHARS))
        .message_id(Some(format!("<{}@{domain}>", message.id)))
        .header(ContentType::TEXT_PLAIN);
    for recipient in &server.to {
        letter = letter.to(recipient.clone());
    }
    letter.body(message.letter()).map_err(|error| format!("the letter cannot be written: {error}"))
}

/// Resolves the host once, and connects to that very address: a second lookup could differ.
async fn connect(
    server: &MailServer,
    allows_private: bool,
    timeout: Duration,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let host = server.host.trim_matches(['[', ']']);
    let resolver = EgressResolver::new(allows_private);
    let found = resolver.resolve_host(host).await;
    let found = found.map_err(|error| format!("the mail server's name: {error}"))?;
    let address = found.into_iter().find(|address| allows_private || is_public(*address));
    let address = address.ok_or("the mail server's name has no address")?;
    let tls = || TlsParameters::new(host.to_owned()).map_err(|error| format!("TLS: {error}"));
    let tls = match server.tls {
        MailTls::StartTls => Tls::Required(tls()?),
        MailTls::Implicit => Tls::Wrapper(tls()?),
        MailTls::Off => Tls::None,
    };
    let mut transport =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string())
            .port(server.port)
            .hello_name(ClientId::Domain(server.from.email.domain().to_owned()))
            .tls(tls)
            .timeout(Some(timeout));
    if let Some((user, password)) = &server.login {
        transport =
            transport.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    Ok(transport.build())
}

/// The error and its causes, which may quote the server.
fn reply_text(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    one_line(&text, REPLY_CHARS)
}

/// Returns the text without control characters, cut to a length.
pub(super) fn one_line(text: &str, chars: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars).collect()
}
