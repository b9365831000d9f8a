//! The filter of dead letters, and the route of their groups.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::caller::CallerScope;
use super::request::{QueryParams, invalid_field, optional};
use super::router::{ApiResult, SharedApi};
use super::{AdminRequestError, ReaderSummary, readers_of};
use tagway_storage::journal::{DeadLetterFilter, DeadLetterGroup};

/// The most groups of one answer: more are no overview.
const GROUPS_LIMIT: usize = 200;

/// The filter of dead letters. An absent member selects all.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadFilter {
    #[serde(deserialize_with = "optional")]
    pub(super) site: Option<String>,
    #[serde(deserialize_with = "optional")]
    pub(super) destination: Option<String>,
    /// The reason's code.
    #[serde(deserialize_with = "optional")]
    pub(super) reason: Option<String>,
    /// The event's name, or its kind.
    #[serde(deserialize_with = "optional")]
    pub(super) event: Option<String>,
    /// A part of the event's name, of the reason's code or of the group's reply.
    #[serde(deserialize_with = "optional")]
    pub(super) q: Option<String>,
    /// The reply, as the group has it.
    #[serde(deserialize_with = "optional")]
    pub(super) reply: Option<String>,
    /// The earliest time of the death, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime)]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(deserialize_with = "optional_time")]
    pub(super) from: Option<Timestamp>,
    /// The end of the times, not included, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime)]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(deserialize_with = "optional_time")]
    pub(super) to: Option<Timestamp>,
}

/// Reads a time that may be absent; an empty one is absent.
pub(super) fn optional_time<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    let parsed = text.map(|text| text.parse()).transpose();
    parsed.map_err(|_not_one| D::Error::custom("must be a time of RFC 3339"))
}

impl DeadFilter {
    /// The filter in the journal's terms, among these readers. `is_limited` if the caller may see no others.
    pub(super) fn resolve(
        self,
        readers: &[ReaderSummary],
        is_limited: bool,
    ) -> Result<DeadLetterFilter, AdminRequestError> {
        let Self { site, destination, reason, event, q, reply, from, to } = self;
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == name)
        };
        let selects = site.is_some() || destination.is_some();
        let selected: Vec<_> = readers
            .iter()
            .filter(|reader| is(&site, &reader.site) && is(&destination, &reader.destination))
            .map(|reader| reader.reader)
            .collect();
        if selected.is_empty() && selects {
            let field = if destination.is_some() { "destination" } else { "site" };
            let problem = format!("the configuration has no such {field}");
            return Err(invalid_field(field, problem));
        }
        // Letters of removed destinations belong to no site any more.
        let readers = (selects || is_limited).then_some(selected);
        Ok(DeadLetterFilter { readers, reason, event, text: q, failure: reply, from, to })
    }
}

/// Dead letters of one destination that failed in the same way.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadGroupRow {
    #[schema(value_type = Option<String>)]
    site: Option<Arc<str>>,
    #[schema(value_type = Option<String>)]
    destination: Option<Arc<str>>,
    /// The reason's code.
    reason: String,
    /// The vendor's message without the values that differ; empty for letters of older versions.
    reply: String,
    /// The status of the reply; null if there was none.
    status: Option<u16>,
    count: u64,
    #[schema(value_type = String, format = DateTime)]
    first_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    last_at: Timestamp,
    /// The greatest id, for the `until_id` of an act.
    last_id: i64,
    /// The id of one letter.
    sample_id: i64,
}

/// The groups, the largest first.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadGroupsAnswer {
    rows: Vec<DeadGroupRow>,
    /// The number of letters in all groups.
    total: u64,
    /// True if there are more groups than rows.
    bounded: bool,
}

impl DeadGroupRow {
    fn new(group: DeadLetterGroup, readers: &[ReaderSummary]) -> Self {
        let reader = readers.iter().find(|reader| reader.reader == group.reader);
        let DeadLetterGroup { reason, failure, status, count, first_at, last_at, last_id, .. } =
            group;
        Self {
            site: reader.map(|reader| reader.site.clone()),
            destination: reader.map(|reader| reader.destination.clone()),
            reason,
            reply: failure,
            status,
            count,
            first_at,
            last_at,
            last_id,
            sample_id: last_id,
        }
    }
}

/// Groups dead letters by destination, reason and reply.
#[utoipa::path(get, path = "/api/v1/dead/groups", params(DeadFilter),
    responses((status = 200, body = DeadGroupsAnswer)))]
pub(super) async fn list_dead_groups(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    QueryParams(filter): QueryParams<DeadFilter>,
) -> ApiResult<DeadGroupsAnswer> {
    let readers = readers_of(&api.context, &scope);
    let filter = filter.resolve(&readers, !scope.is_all())?;
    let found = api.context.search.dead_letter_groups(filter, GROUPS_LIMIT).await?;
    let rows = found.groups.into_iter().map(|group| DeadGroupRow::new(group, &readers));
    Ok(Json(DeadGroupsAnswer {
        rows: rows.collect(),
        total: found.total,
        bounded: found.is_bounded,
    }))
}
