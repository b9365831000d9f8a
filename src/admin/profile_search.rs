//! The route that searches profiles by a name or its beginning.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::request::{PathParams, QueryParams, invalid_field, optional};
use super::router::{ApiResult, SharedApi};
use tagway_storage::profile::{FoundProfile, IdentityKind, ProfileSearch, SearchPosition};

/// The most profiles in one page, and the default.
const PROFILES_LIMIT: usize = 200;
const DEFAULT_PROFILES_LIMIT: usize = 50;

/// The longest text that is searched: no stored name is longer.
const TEXT_CHARS: usize = 500;

/// The characters of a masked name that are shown.
const MASKED_CHARS: usize = 4;

/// The search and the page.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ProfilesQuery {
    /// A user id, a device's id, or the beginning of one; or a whole e-mail address. All profiles without it, the
    /// newest first.
    #[serde(deserialize_with = "optional")]
    q: Option<String>,
    /// The member `next` of the page before.
    #[serde(deserialize_with = "optional")]
    after: Option<String>,
    /// By default 50, at most 200.
    #[serde(deserialize_with = "optional")]
    limit: Option<usize>,
}

/// A page of profiles.
#[derive(Serialize, ToSchema)]
pub(super) struct ProfilesPageAnswer {
    rows: Vec<ProfileRow>,
    /// The position of the next page; null at the end.
    next: Option<String>,
}

/// A profile.
#[derive(Serialize, ToSchema)]
pub(super) struct ProfileRow {
    /// The profile's number.
    id: i64,
    /// The person's names: user id, e-mail address, devices.
    names: Vec<ProfileName>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen_at: Option<Timestamp>,
    /// The number of the person's counted events.
    events: u64,
    /// The segments that the person is a member of.
    #[schema(value_type = Vec<String>)]
    segments: Vec<Arc<str>>,
}

/// A name of a person.
#[derive(Serialize, ToSchema)]
pub(super) struct ProfileName {
    /// `user`, `email`, `anonymous`, `visitor` and others.
    kind: String,
    value: String,
}

impl ProfileName {
    /// Shortens the name: enough to tell people apart in a list, too little to know them.
    fn mask(&mut self) {
        let start: String = self.value.chars().take(MASKED_CHARS).collect();
        self.value = match self.value.contains('@') {
            true => format!("{}…@…", self.value.chars().next().unwrap_or_default()),
            false if start.len() == self.value.len() => "…".to_owned(),
            false => format!("{start}…"),
        };
    }
}

impl ProfileRow {
    fn new(found: FoundProfile, segments: Vec<Arc<str>>) -> Self {
        let FoundProfile { profile, user_id, traits, identities, last_seen, events } = found;
        let name = |kind: &str, value: &str| ProfileName {
            kind: kind.to_owned(),
            value: value.to_owned(),
        };
        let mut names: Vec<ProfileName> = Vec::new();
        names.extend(user_id.as_deref().map(|id| name("user", id)));
        names.extend(traits.get("email").and_then(|it| it.as_str()).map(|it| name("email", it)));
        // Addresses are stored as digests, which tell people nothing.
        let others = identities.iter().filter(|it| it.kind != IdentityKind::Email);
        let others = others.filter(|it| user_id.as_deref() != Some(&*it.value));
        names.extend(others.map(|it| name(&it.kind.name(), &it.value)));
        Self {
            id: profile.0,
            names,
            last_seen_at: last_seen.and_then(|at| Timestamp::from_millisecond(at).ok()),
            events,
            segments,
        }
    }
}

/// Searches the profiles of a site, a page at a time.
#[utoipa::path(get, path = "/api/v1/sites/{site}/profiles",
    params(("site" = String, Path), ProfilesQuery),
    responses((status = 200, body = ProfilesPageAnswer)))]
pub(super) async fn search_profiles(
    State(api): State<SharedApi>,
    caller: Caller,
    PathParams(site): PathParams<String>,
    QueryParams(query): QueryParams<ProfilesQuery>,
) -> ApiResult<ProfilesPageAnswer> {
    let text = query.q.filter(|text| !text.trim().is_empty());
    if text.as_ref().is_some_and(|text| text.chars().count() > TEXT_CHARS) {
        return Err(invalid_field("q", format!("must have at most {TEXT_CHARS} characters")));
    }
    let after = query.after.map(|after| after.parse::<SearchPosition>()).transpose();
    let after = after.map_err(|_not_one| invalid_field("after", "must be the next of a page"))?;
    let limit = query.limit.unwrap_or(DEFAULT_PROFILES_LIMIT).clamp(1, PROFILES_LIMIT);
    let search = ProfileSearch { text, after, limit };
    let page = api.context.control.search_profiles(&site, search).await?;
    let ids: Vec<_> = page.profiles.iter().map(|found| found.profile).collect();
    let mut segments = api.context.segments.memberships(&site, &ids).await?;
    let rows = page.profiles.into_iter().map(|found| {
        let of_person = segments.remove(&found.profile).unwrap_or_default();
        let mut row = ProfileRow::new(found, of_person);
        if !caller.shows_personal {
            row.names.iter_mut().for_each(ProfileName::mask);
        }
        row
    });
    Ok(Json(ProfilesPageAnswer { rows: rows.collect(), next: page.next.map(|it| it.to_string()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_shows_the_beginning_of_long_names_only() {
        let masked = |value: &str| {
            let mut name = ProfileName { kind: "user".to_owned(), value: value.to_owned() };
            name.mask();
            name.value
        };
        assert_eq!(masked("ana@shop.example"), "a…@…");
        assert_eq!(
            (masked("anna-1234"), masked("anna"), masked("é")),
            ("anna…".into(), "…".into(), "…".into())
        );
    }
}
