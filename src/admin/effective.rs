//! Routes that show the effective settings with their sources, and the warnings about them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::SettingsWarning;
use super::caller::Caller;
use super::request::{NoParams, QueryParams, optional};
use super::router::SharedApi;
use tagway_settings::EffectiveSetting;

/// The selection of settings.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SettingsQuery {
    /// Lists only the setting at this path and those below it: `sites[0]`, `journal.retain`.
    #[serde(deserialize_with = "optional")]
    path: Option<String>,
}

/// The effective settings.
#[derive(Serialize, ToSchema)]
pub(super) struct SettingsAnswer {
    rows: Vec<SettingRow>,
}

/// A setting with its effective value.
#[derive(Serialize, ToSchema)]
pub(super) struct SettingRow {
    path: String,
    /// Null without a value; `set` or `not set` for a secret.
    value: Value,
    /// `default`, `file` or `environment`.
    source: &'static str,
    file: Option<String>,
    line: Option<usize>,
    /// The name of the environment variable, or `file:PATH`, in the value.
    variable: Option<String>,
    secret: bool,
    /// True if a change takes effect at the next start only.
    restart: bool,
    doc: &'static str,
}

/// The warnings about settings.
#[derive(Serialize, ToSchema)]
pub(super) struct WarningsAnswer {
    rows: Vec<SettingsWarning>,
}

/// Lists the effective settings, each with the source of its value. Secrets are not shown.
#[utoipa::path(get, path = "/api/v1/settings/effective", params(SettingsQuery),
    responses((status = 200, body = SettingsAnswer)))]
pub(super) async fn list_settings(
    State(api): State<SharedApi>,
    caller: Caller,
    QueryParams(SettingsQuery { path }): QueryParams<SettingsQuery>,
) -> Json<SettingsAnswer> {
    let control = &api.context.control;
    let mut settings = control.effective_settings();
    let hidden = hidden_sites(&caller, &settings);
    settings.retain(|it| !hidden.iter().any(|site| is_below(&it.path, site)));
    settings.retain(|it| path.as_deref().is_none_or(|path| is_below(&it.path, path)));
    let rows = settings.into_iter().map(|it| SettingRow {
        restart: control.needs_restart(&it.path),
        path: it.path,
        value: it.value,
        source: it.source.name(),
        file: it.file,
        line: it.line,
        variable: it.variable,
        secret: it.is_secret,
        doc: it.doc,
    });
    Json(SettingsAnswer { rows: rows.collect() })
}

/// Lists the warnings of `tagway check`.
#[utoipa::path(get, path = "/api/v1/warnings", responses((status = 200, body = WarningsAnswer)))]
pub(super) async fn list_warnings(
    State(api): State<SharedApi>,
    caller: Caller,
    QueryParams(NoParams {}): QueryParams<NoParams>,
) -> Json<WarningsAnswer> {
    let mut rows = api.context.control.warnings().await;
    rows.retain(|row| row.site.as_deref().is_none_or(|site| caller.may_see(site)));
    Json(WarningsAnswer { rows })
}

/// Returns the paths of the sites that the caller may not see, and of the rules of alerts for them.
fn hidden_sites(caller: &Caller, settings: &[EffectiveSetting]) -> Vec<String> {
    let names = settings.iter().filter_map(|it| {
        let site = it.path.strip_suffix(".name").filter(|path| path.starts_with("sites["))?;
        let is_site = !site.contains('.');
        let is_hidden = !it.value.as_str().is_some_and(|name| caller.may_see(name));
        (is_site && is_hidden).then(|| site.to_owned())
    });
    let rules = settings.iter().filter_map(|it| {
        let rule =
            it.path.strip_suffix(".site").filter(|path| path.starts_with("alerts.rules["))?;
        let is_hidden = it.value.as_str().is_some_and(|site| !caller.may_see(site));
        is_hidden.then(|| rule.to_owned())
    });
    names.chain(rules).collect()
}

/// Returns true if a setting is at this path or below it.
fn is_below(setting: &str, path: &str) -> bool {
    let rest = setting.strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_selects_whole_names() {
        assert!(is_below("sites[0].name", "sites") && is_below("sites[0].name", "sites[0]"));
        assert!(is_below("journal.retain", "journal.retain"));
        assert!(!is_below("journal.retain_dead", "journal.retain"));
    }
}
