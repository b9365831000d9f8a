//! `tagway console`: the first login, later logins without a password, and the check of the audit log.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::AdminClient;
use super::{AdminArgs, CommandError, block_on, number_of, print, render};
use crate::config::ConfigSource;

/// The longest name in the output, in characters.
const NAME_CHARS: usize = 100;

#[derive(Debug, Subcommand)]
pub(super) enum ConsoleCommand {
    /// Print a link that logs a browser in to the console. It works once, for 10 minutes.
    ///
    /// While there are no accounts, the link makes the first one, an admin, and the console asks for its name and
    /// password. Needs the token of data_dir/admin.token.
    Login(ConsoleLoginArgs),
    /// Check the audit log: its rows form a chain, in which changed and removed rows are found. Exits with 1 if any are.
    Verify(AuditVerifyArgs),
}

#[derive(Args, Debug)]
pub(super) struct ConsoleLoginArgs {
    /// The account. Default: the only admin; before the first login, "admin".
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct AuditVerifyArgs {
    #[command(flatten)]
    reach: AdminArgs,
}

pub(super) fn run(origin: &ConfigSource, command: ConsoleCommand) -> Result<(), CommandError> {
    match command {
        ConsoleCommand::Login(options) => login(origin, &options),
        ConsoleCommand::Verify(options) => verify(origin, &options),
    }
}

fn login(origin: &ConfigSource, options: &ConsoleLoginArgs) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let body = json!({ "name": options.name });
        let answer = client.post("/api/v1/console/link", &body).await?;
        let text = |member: &str, chars: usize| {
            let text = answer.get(member).and_then(Value::as_str).unwrap_or_default();
            render::escape(text, chars)
        };
        let name = text("name", NAME_CHARS);
        let who = if answer.get("id").is_some_and(Value::is_null) {
            format!("It makes the first account, the admin {name}, and asks for a password.")
        } else {
            format!("It logs in {name}.")
        };
        let (link, until) = (text("link", 500), text("expires_at", 40));
        print(&format!("{link}\n\n{who} It works once, until {until}.\n"))
    })
}

fn verify(origin: &ConfigSource, options: &AuditVerifyArgs) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let (mut checked, mut after) = (0, None);
        loop {
            let query = after.map(|after: i64| format!("?after={after}")).unwrap_or_default();
            let page = client.get(&format!("/api/v1/audit/check{query}")).await?;
            let number = |path: &str| page.pointer(path).and_then(Value::as_i64);
            checked += page.pointer("/chain/checked").and_then(Value::as_u64).unwrap_or_default();
            if page.pointer("/chain/ok") != Some(&Value::Bool(true)) {
                let row = number("/chain/broken_at").unwrap_or_default();
                return Err(CommandError::Other(anyhow::anyhow!(
                    "the audit log was changed: row {row} is not the one that was written, or rows are \
                     missing before it. The program's log (target audit) has the hash of each row"
                )));
            }
            after = number("/next");
            if after.is_none() {
                let rows = number_of(checked, "row", "rows");
                return print(&format!("the audit log is whole: {rows}\n"));
            }
        }
    })
}
