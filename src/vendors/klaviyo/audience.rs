//! The members of lists.

use async_trait::async_trait;
use http::Method;
use serde::{Deserialize, Serialize};

use super::api::{Api, Line, MAX_SOUGHT};
use crate::event::Enriched;
use crate::vendors::audience::{Audience, Change, LIST_GONE, Listed, Row, alike, readable};
use crate::vendors::conversation::{Stop, email};
use crate::vendors::{Call, Outcome, Reason};

/// Characters of an id of the site's own; a longer one is left out.
const MAX_ID_CHARS: usize = 255;

/// Who is to be listed.
#[derive(Serialize, Deserialize)]
struct Profile {
    /// The address, in lower case.
    email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

#[async_trait]
impl Audience for Api {
    /// As many as one look-up finds.
    fn max_rows(&self) -> usize {
        MAX_SOUGHT
    }

    fn row(&self, person: &Enriched) -> Result<Row, Reason> {
        let email = email(person).ok_or(Reason::new("no_identifier"))?.to_lowercase();
        let id = person.user_id().map(str::trim);
        let id = id.filter(|id| !id.is_empty() && id.chars().count() <= MAX_ID_CHARS);
        Row::of(&Profile { email, id: id.map(str::to_owned) })
    }

    async fn open(&self, list: &Listed<'_>, call: &dyn Call) -> Result<String, Outcome> {
        match list.id {
            Some(id) => Ok(id.to_owned()),
            None => Line { api: self, call }.make_list(list.title).await.map_err(Outcome::from),
        }
    }

    async fn change(
        &self,
        list: &str,
        change: Change,
        rows: &[Row],
        call: &dyn Call,
    ) -> Vec<Outcome> {
        let (read, mut ends) = readable::<Profile>(rows);
        let line = Line { api: self, call };
        match relate(line, list, change, read, &mut ends).await {
            Ok(()) => alike(ends, &Outcome::Delivered),
            Err(stop) => alike(ends, &stop.into()),
        }
    }
}

/// Looks for the members, makes who is missing, and lists them all; notes who ended otherwise.
async fn relate(
    line: Line<'_>,
    list: &str,
    change: Change,
    read: Vec<(usize, Profile)>,
    ends: &mut [Option<Outcome>],
) -> Result<(), Stop> {
    if read.is_empty() {
        return Ok(());
    }
    let emails: Vec<&str> = read.iter().map(|(_, profile)| profile.email.as_str()).collect();
    let found = line.find(&emails).await?;
    let mut ids = Vec::with_capacity(read.len());
    for (index, profile) in &read {
        match (found.get(&profile.email), change) {
            (Some(id), _) => ids.push(id.clone()),
            (None, Change::Add) => match line.make(&profile.email, profile.id.as_deref()).await {
                Ok(id) => ids.push(id),
                // Of this one alone.
                Err(stop @ Stop::Dead(_)) => {
                    if let Some(end) = ends.get_mut(*index) {
                        *end = Some(stop.into());
                    }
                }
                Err(stop) => return Err(stop),
            },
            // Who is not there is on no list.
            (None, Change::Remove) => {}
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let method = match change {
        Change::Add => Method::POST,
        Change::Remove => Method::DELETE,
    };
    match line.relate(method, list, &ids).await? {
        true => Ok(()),
        false => Err(Stop::Dead(Reason::new(LIST_GONE))),
    }
}
