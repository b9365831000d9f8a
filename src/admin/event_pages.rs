//! The route for pages of a site's events, the newest first.
//!
//! The journal has no index of names: a page reads a bounded number of events and returns those that the filter
//! selects, with the place where the next page begins.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::events::{EventAnswer, check_site, event_answer};
use super::feed_filter::globs;
use super::masking::mask_text;
use super::request::{PathParams, QueryParams, optional};
use super::router::{ApiResult, SharedApi};
use super::{AdminContext, AdminRequestError};
use tagway_core::event::Event;
use tagway_core::feed::{EventSubject, page_path};
use tagway_storage::journal::{JournalReadLimits, JournalRecord, ReaderId, SiteId};

/// The most events in one page, and the default.
const PAGE_LIMIT: usize = 200;
const DEFAULT_PAGE_LIMIT: usize = 50;

/// The most events that one page reads: some tenths of a second.
const SCAN_LIMIT: usize = 20_000;

/// The number of events whose outcomes were looked up after which a page ends, with its last read.
const OUTCOME_LIMIT: usize = 500;

/// One read of the journal: about a millisecond of parsing.
const STEP: JournalReadLimits = JournalReadLimits { events: 256, bytes: 2 << 20 };

/// A message id, or the filter and the place of a page.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Answers the newest event with this message id, as the route of one event does.
    #[serde(deserialize_with = "optional")]
    message_id: Option<String>,
    /// Lists only events with a smaller sequence number.
    #[serde(deserialize_with = "optional")]
    before: Option<u64>,
    /// By default 50, at most 200.
    #[serde(deserialize_with = "optional")]
    limit: Option<usize>,
    /// Names of events with `*` and `?`, separated by commas; `!x` excludes.
    #[serde(deserialize_with = "optional")]
    event: Option<String>,
    /// `sdk`, `shim`, `vendor_tag`, `api`, `pixel`, `server` or `segment`.
    #[serde(deserialize_with = "optional")]
    source: Option<String>,
    /// An outcome, as the event's route names it, at any destination.
    #[serde(deserialize_with = "optional")]
    outcome: Option<String>,
}

/// One event, or a page of events.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum EventsAnswer {
    Event(EventAnswer),
    Page(EventPage),
}

/// A page of events, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct EventPage {
    rows: Vec<EventRow>,
    /// The `before` of the next page; null at the end. A page may have fewer rows than its limit, or none: it reads a
    /// bounded number of events.
    next: Option<u64>,
}

/// An event of a page.
#[derive(Serialize, ToSchema)]
pub(super) struct EventRow {
    /// The event's sequence number in its site.
    seq: u64,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// The event's name, or its kind.
    event: String,
    message_id: String,
    /// The beginning of the visitor's id.
    visitor: Option<String>,
    /// The kind of sender.
    source: &'static str,
    /// The path of the page.
    page: Option<String>,
}

/// Lists events of a site, the newest first; or returns the newest event that has a message id.
#[utoipa::path(get, path = "/api/v1/events/{site}", params(("site" = String, Path), EventsQuery),
    responses((status = 200, body = EventsAnswer)))]
pub(super) async fn list_events(
    State(api): State<SharedApi>,
    caller: Caller,
    PathParams(site): PathParams<String>,
    QueryParams(query): QueryParams<EventsQuery>,
) -> ApiResult<EventsAnswer> {
    let shows_personal = caller.shows_personal;
    let context = &api.context;
    check_site(context, &site)?;
    let number = context.journal.site(&site).await?;
    if let Some(message_id) = &query.message_id {
        let found = context.journal.find_message(number, message_id).await?;
        let seq = found.ok_or(AdminRequestError::NotFound)?;
        let answer = event_answer(context, site, seq, shows_personal).await?;
        return Ok(Json(EventsAnswer::Event(answer)));
    }
    let readers = context.control.readers().into_iter();
    let readers = readers.filter(|reader| *reader.site == *site).map(|reader| reader.reader);
    let scan = EventScan { context, site: number, readers: readers.collect(), shows_personal };
    Ok(Json(EventsAnswer::Page(scan.page(&query).await?)))
}

/// The search of one page.
struct EventScan<'a> {
    context: &'a AdminContext,
    site: SiteId,
    readers: Vec<ReaderId>,
    shows_personal: bool,
}

impl EventScan<'_> {
    async fn page(&self, query: &EventsQuery) -> Result<EventPage, AdminRequestError> {
        let limit = query.limit.unwrap_or(DEFAULT_PAGE_LIMIT).clamp(1, PAGE_LIMIT);
        let names = query.event.as_deref().map(globs);
        let (mut rows, mut before) = (Vec::new(), query.before);
        let (mut scanned, mut looked_up) = (0, 0);
        loop {
            let records = self.context.search.events_before(self.site, before, STEP).await?;
            if records.is_empty() {
                return Ok(EventPage { rows, next: None });
            }
            for record in records {
                before = Some(record.seq);
                scanned += 1;
                let Some(row) = self.row(&record) else { continue };
                let is_named = names.as_ref().is_none_or(|names| names.matches(&row.event));
                let is_sent_by = query.source.as_deref().is_none_or(|source| source == row.source);
                if !is_named || !is_sent_by {
                    continue;
                }
                if let Some(outcome) = &query.outcome {
                    looked_up += 1;
                    if !self.ended_as(row.seq, outcome).await? {
                        continue;
                    }
                }
                rows.push(row.shown(self.shows_personal));
                if rows.len() >= limit {
                    return Ok(EventPage { rows, next: before });
                }
            }
            if looked_up >= OUTCOME_LIMIT || scanned >= SCAN_LIMIT {
                return Ok(EventPage { rows, next: before });
            }
        }
    }

    /// Describes a record; `None` if it is not readable.
    fn row(&self, record: &JournalRecord) -> Option<EventRow> {
        #[derive(Deserialize)]
        struct PageOfRecord {
            context: Option<ContextOfRecord>,
        }
        #[derive(Deserialize)]
        struct ContextOfRecord {
            page: Option<UrlOfPage>,
        }
        #[derive(Deserialize)]
        struct UrlOfPage {
            url: Option<String>,
        }
        let event: Event<IgnoredAny> = serde_json::from_slice(&record.body).ok()?;
        // A context of another form has no page.
        let page = serde_json::from_slice::<PageOfRecord>(&record.body).ok();
        let url = page.and_then(|it| it.context?.page?.url);
        let subject = EventSubject::of(&event);
        Some(EventRow {
            seq: record.seq,
            received_at: record.received_at,
            event: subject.event,
            message_id: subject.message_id,
            visitor: subject.visitor,
            source: subject.source,
            page: url.as_deref().map(page_path),
        })
    }

    /// Returns true if the event has this outcome at one of the readers.
    async fn ended_as(&self, seq: u64, outcome: &str) -> Result<bool, AdminRequestError> {
        let now = self.context.control.now();
        let found = self.context.journal.event(self.site, seq, self.readers.clone()).await?;
        let found =
            found.is_some_and(|event| event.readers.iter().any(|at| at.name(now) == outcome));
        Ok(found)
    }
}

impl EventRow {
    /// Masks what a site or a visitor wrote, unless personal data may be shown.
    fn shown(mut self, shows_personal: bool) -> Self {
        if !shows_personal {
            self.event = mask_text(&self.event);
            self.page = self.page.as_deref().map(mask_text);
            if self.message_id.contains('@') {
                self.message_id = mask_text(&self.message_id);
            }
        }
        self
    }
}
