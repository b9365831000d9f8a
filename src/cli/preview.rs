//! `tagway preview`: a link that lets one browser run the drafts of a site's integrations. It needs no
//! running gateway, but its configuration and signing key.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use jiff::SignedDuration;
use url::Url;

use super::{CommandError, load, print};
use crate::app::site_key;
use crate::config::{ConfigSource, SiteSettings, TagwaySettings};
use crate::gateway::preview::token;
use tagway_core::clock::{Clock, SystemClock};
use tagway_settings::parse_duration;

#[derive(Args, Debug)]
pub(super) struct PreviewArgs {
    /// The site. Default: the only one.
    #[arg(long)]
    site: Option<String>,
    /// The page to open. Default: the first of the site's origins.
    #[arg(long, value_name = "URL")]
    page: Option<Url>,
    /// The time for which the link is valid, such as 12h or 1d; at most 30 days.
    #[arg(long = "for", default_value = "1d", value_name = "TIME", value_parser = duration)]
    time: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).filter(|time| (1..=MAX_SECONDS).contains(&time.as_secs()));
    time.ok_or_else(|| "not a duration such as \"12h\", of at most 30 days".to_owned())
}

/// The longest validity of a link: it can only be revoked with a new secret.
const MAX_SECONDS: u64 = 30 * 24 * 3600;

pub(super) fn run(origin: &ConfigSource, options: PreviewArgs) -> Result<(), CommandError> {
    let settings = load(origin)?;
    let site = site(&settings, options.site.as_deref())?;
    if !site.integrations.iter().any(|integration| integration.preview) {
        let what = format!("the site {} has no integration with preview = true", site.name);
        return Err(CommandError::Usage(what));
    }
    let mut keys = site.visitor.clone();
    if keys.lacks_secret() {
        keys.set_secret(&site_key(&settings.data_dir, &site.name)?);
    }
    let until = SignedDuration::try_from(options.time).context("the time is too long")?;
    let until = SystemClock.now().checked_add(until).context("the time is too long")?;
    let token = token(&keys, &site.name, until);
    let page = options.page.or_else(|| site.gateway.origins.first()?.parse().ok());
    let Some(mut page) = page else {
        return Err(CommandError::Usage(
            "the site has no origins: name the page with --page URL".to_owned(),
        ));
    };
    page.query_pairs_mut().append_pair("tw_preview", &token);
    let until = until.strftime("%Y-%m-%d %H:%M UTC");
    print(&format!(
        "{page}\n\nThe browser that opens this link runs the drafts until {until}, or until it opens a page with \
         ?tw_preview=off.\n"
    ))
}

fn site<'s>(
    settings: &'s TagwaySettings,
    name: Option<&str>,
) -> Result<&'s SiteSettings, CommandError> {
    match (name, settings.sites.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(CommandError::Usage(
            "the configuration has several sites: name one with --site NAME".to_owned(),
        )),
        (Some(name), sites) => sites
            .iter()
            .find(|site| *site.name == *name)
            .ok_or_else(|| CommandError::Other(anyhow!("the configuration has no site {name}"))),
    }
}
