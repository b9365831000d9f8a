//! `tagway forget` and `tagway export`: erases or prints one person's stored data.

use clap::Args;
use serde_json::{Value, json};

use super::client::AdminClient;
use super::{AdminArgs, CommandError, block_on, dead, number_of, print, render};
use crate::config::ConfigSource;

#[derive(Args, Debug)]
pub(super) struct ForgetSubjectArgs {
    /// A user id, an anonymous or cookie id, or an e-mail address. The other ids of the person's profile are
    /// erased as well.
    id: String,
    /// The site; needed if there are several.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Accept events of the person again. Erased data is not restored.
    #[arg(long)]
    undo: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct ExportSubjectArgs {
    /// A user id, an anonymous or cookie id, or an e-mail address.
    id: String,
    /// The site; needed if there are several.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    #[command(flatten)]
    reach: AdminArgs,
}

pub(super) fn forget(
    origin: &ConfigSource,
    options: ForgetSubjectArgs,
) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?.with_long_timeout();
    block_on(async {
        let site = find_site(&client, options.site.as_deref()).await?;
        let body = json!({ "site": site, "id": options.id, "undo": options.undo });
        let answer = client.post("/api/v1/forget", &body).await?;
        if options.json { print(&dead::pretty(&answer)) } else { print(&summary(&answer)) }
    })
}

/// Prints a line of JSON for each item as it arrives.
pub(super) fn export(
    origin: &ConfigSource,
    options: ExportSubjectArgs,
) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?.with_long_timeout();
    block_on(async {
        let site = find_site(&client, options.site.as_deref()).await?;
        let mut from = Value::Null;
        loop {
            let body = json!({ "site": site, "id": options.id, "from": from });
            let mut page = client.post("/api/v1/export", &body).await?;
            for held in page.get("held").and_then(Value::as_array).into_iter().flatten() {
                print(&(render::escape_json(&held.to_string()) + "\n"))?;
            }
            from = page.get_mut("next").map(Value::take).unwrap_or_default();
            if from.is_null() {
                return Ok(());
            }
        }
    })
}

/// The chosen site in the running gateway.
pub(super) async fn find_site(
    client: &AdminClient,
    written: Option<&str>,
) -> Result<String, CommandError> {
    if let Some(site) = written {
        return Ok(site.to_owned());
    }
    let sites = client.get("/api/v1/sites").await?;
    let mut names = sites.as_array().into_iter().flatten().filter_map(Value::as_str);
    match (names.next(), names.next()) {
        (Some(site), None) => Ok(site.to_owned()),
        (None, _) => Err(CommandError::Usage("the gateway has no sites".to_owned())),
        (Some(_), Some(_)) => Err(CommandError::Usage(
            "the gateway has several sites: name one with --site".to_owned(),
        )),
    }
}

fn summary(answer: &Value) -> String {
    let count = |name: &str| answer.pointer(name).and_then(Value::as_u64).unwrap_or_default();
    if answer.get("lifted").is_some() {
        let names = number_of(count("/lifted"), "id is", "ids are");
        return format!("{names} no longer suppressed\n");
    }
    format!(
        "{} suppressed; erased: {}, {}, {}, {}\n",
        number_of(count("/suppressed"), "id is", "ids are"),
        number_of(count("/erased/profiles"), "profile", "profiles"),
        number_of(count("/erased/events"), "event", "events"),
        number_of(count("/erased/parked"), "parked event", "parked events"),
        number_of(count("/erased/dead"), "dead letter", "dead letters"),
    )
}
