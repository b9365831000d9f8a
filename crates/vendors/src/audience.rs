//! The Audience interface: it puts a segment's members on a vendor's list, and takes them off it.
//!
//! A person is sent to the vendor as an [`AudienceRow`]: all that the vendor needs to find them. The row is
//! stored with the membership and sent again word for word to take them off: some vendors remove only by the
//! identifiers that were added, and nothing else is left of a person whose data was erased. A person whose
//! row changes is taken off by the old one and put on by the new.
//!
//! Every change may be sent twice: adding a member of the list and removing a non-member change nothing.

use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contact_api::ContactIdentity;
use super::{BatchScope, DeliveryLimits, Destination, Outcome, OutcomeReason, VendorCall};
use tagway_core::event::EnrichedEvent;
use tagway_settings::SecretString;

/// The most bytes of one row: a few digests or ids.
pub const MAX_ROW_BYTES: usize = 4096;

/// The reason of a change that failed because the vendor's list no longer exists: it must be opened anew.
pub const LIST_GONE: &str = "list_gone";

/// A vendor's lists, and the calls that add and remove a segment's members.
#[async_trait]
pub trait VendorAudience: Send + Sync {
    /// Returns the most rows of one [`VendorAudience::change_members`].
    fn max_rows(&self) -> usize;

    /// Returns the identifiers that the vendor gets of a person, or why it could never find them. The event
    /// says only who they are: its profile has the rest.
    ///
    /// # Errors
    ///
    /// Fails if the person has no identifier that the vendor takes.
    fn row(&self, person: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason>;

    /// Returns the vendor's own name of the list, which is made if it does not exist. It is stored and passed
    /// to every later change, so this is called once for a list, and again when the list was lost. A list that
    /// needs no making, such as a tag, has its id or title for a name.
    ///
    /// # Errors
    ///
    /// Fails with the outcome of the call, if the list cannot be opened.
    async fn open_list(
        &self,
        list: &AudienceList<'_>,
        _call: &dyn VendorCall,
    ) -> Result<String, Outcome> {
        Ok(list.id.unwrap_or(list.title).to_owned())
    }

    /// Puts rows on the list or takes them off; returns how each ended, in their order. Adding and removing
    /// never run at once for the same list.
    async fn change_members(
        &self,
        list: &str,
        change: AudienceChange,
        rows: &[AudienceRow],
        call: &dyn VendorCall,
    ) -> Vec<Outcome>;
}

/// The list that a segment's members are put on.
#[derive(Clone, Copy, Debug)]
pub struct AudienceList<'l> {
    /// Its name for people.
    pub title: &'l str,
    /// The segment's name: letters, digits, `_` and `-`.
    pub segment: &'l str,
    /// The vendor's own name of a list that was made by hand, if the settings have one.
    pub id: Option<&'l str>,
}

/// The direction of a change of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudienceChange {
    /// Members are put on the list.
    Add,
    /// Members are taken off the list.
    Remove,
}

/// The identifiers of one person as JSON, which their vendor alone reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AudienceRow(Box<str>);

impl AudienceRow {
    /// Makes the row of these identifiers.
    ///
    /// # Errors
    ///
    /// Fails if it is longer than [`MAX_ROW_BYTES`].
    pub fn of<T: Serialize>(value: &T) -> Result<Self, OutcomeReason> {
        match serde_json::to_string(value) {
            Ok(text) if text.len() <= MAX_ROW_BYTES => Ok(Self(text.into())),
            Ok(_) | Err(_) => Err(OutcomeReason::new("identifiers_too_long")),
        }
    }

    /// Makes a row of its stored text.
    pub fn from_stored(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the text to store.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the identifiers in the row.
    ///
    /// # Errors
    ///
    /// Fails if the text has another form, as one of an older version of the program may.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, OutcomeReason> {
        serde_json::from_str(&self.0).map_err(|_older| OutcomeReason::new("unreadable_row"))
    }
}

/// Returns the rows that can be read, and an outcome for each of the others.
pub(super) fn parse_rows<T: DeserializeOwned>(
    rows: &[AudienceRow],
) -> (Vec<(usize, T)>, Vec<Option<Outcome>>) {
    let (mut read, mut ends) = (Vec::with_capacity(rows.len()), vec![None; rows.len()]);
    for (index, (row, end)) in rows.iter().zip(&mut ends).enumerate() {
        match row.read() {
            Ok(value) => read.push((index, value)),
            Err(reason) => *end = Some(Outcome::Dead(reason)),
        }
    }
    (read, ends)
}

/// Gives this outcome to all rows that have none yet.
pub(super) fn fill_outcomes(ends: Vec<Option<Outcome>>, outcome: &Outcome) -> Vec<Outcome> {
    ends.into_iter().map(|end| end.unwrap_or_else(|| outcome.clone())).collect()
}

/// Sends row by row; a row that must be sent again makes all later ones wait, as its cause applies to them
/// too.
pub(super) async fn apply_rows_in_order<'r, T, F>(
    rows: &'r [AudienceRow],
    tell: impl Fn(T) -> F + Send,
) -> Vec<Outcome>
where
    T: DeserializeOwned + Send + 'r,
    F: Future<Output = Result<(), Outcome>> + Send,
{
    let (read, mut ends) = parse_rows::<T>(rows);
    for (index, value) in read {
        let outcome = tell(value).await.err().unwrap_or(Outcome::Delivered);
        let must_wait = matches!(outcome, Outcome::Retry { .. } | Outcome::Unauthorised(_));
        if must_wait {
            return fill_outcomes(ends, &outcome);
        }
        if let Some(end) = ends.get_mut(index) {
            *end = Some(outcome);
        }
    }
    let unmentioned = Outcome::Retry { reason: OutcomeReason::new("no_outcome"), after: None };
    fill_outcomes(ends, &unmentioned)
}

/// A vendor that has lists only and takes no events.
pub(super) struct ListOnlyDestination<A> {
    /// The vendor's interface for lists of people.
    pub(super) lists: A,
    /// The secrets that must not be shown.
    pub(super) secrets: Vec<SecretString>,
    /// The most calls per second, where the vendor states a limit.
    pub(super) calls_per_second: Option<NonZeroU32>,
}

#[async_trait]
impl<A: VendorAudience> Destination for ListOnlyDestination<A> {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            scope: BatchScope::Site,
            max_events: 1,
            max_bytes: 1 << 20,
            batch_delay: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 1,
            calls_per_second: self.calls_per_second,
            timeout: Duration::from_secs(30),
        }
    }

    fn secrets(&self) -> Vec<SecretString> {
        self.secrets.clone()
    }

    fn admit_event(&self, _event: &EnrichedEvent, _now: Timestamp) -> Result<(), Outcome> {
        Err(Outcome::skipped("lists_only"))
    }

    async fn deliver(&self, batch: &[EnrichedEvent], _call: &dyn VendorCall) -> Vec<Outcome> {
        vec![Outcome::skipped("lists_only"); batch.len()]
    }

    fn audience(&self) -> Option<&dyn VendorAudience> {
        Some(&self.lists)
    }
}

/// Returns the id of a list that was made, if the vendor's reply has one.
pub(super) fn created_list_id(id: Option<&Value>) -> Result<String, Outcome> {
    let id = id.and_then(super::products::text).filter(|id| !id.is_empty());
    id.ok_or_else(|| Outcome::Retry { reason: OutcomeReason::new("unreadable_reply"), after: None })
}

/// The row of vendors that keep contacts.
#[derive(Serialize, Deserialize)]
pub(super) struct ContactRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

impl ContactRow {
    /// Makes the row of a person.
    pub(super) fn row(person: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        let ContactIdentity { user_id: user, email, .. } = ContactIdentity::of(person);
        if user.is_none() && email.is_none() {
            return Err(OutcomeReason::new("no_identifier"));
        }
        AudienceRow::of(&Self { user, email })
    }

    /// Returns the identity of the row's person.
    pub(super) fn into_identity(self) -> ContactIdentity {
        ContactIdentity { user_id: self.user, email: self.email, anonymous_id: None }
    }
}

/// The result for a person that the vendor has no contact of. None is made: events decide who becomes a
/// contact. An unknown person is on no list, which is correct only if they are to be removed.
pub(super) fn unknown_contact_result(change: AudienceChange) -> Result<(), Outcome> {
    match change {
        AudienceChange::Add => Err(Outcome::skipped("unknown_to_vendor")),
        AudienceChange::Remove => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_is_bounded_and_reads_back_what_was_written() {
        let row = AudienceRow::of(&["u1", "digest"]).unwrap();
        let kept = AudienceRow::from_stored(row.text());
        assert_eq!(kept.read::<Vec<String>>().unwrap(), ["u1", "digest"]);
        assert!(kept.read::<u64>().is_err(), "another version's");
        let long = "x".repeat(MAX_ROW_BYTES);
        assert_eq!(AudienceRow::of(&long).unwrap_err().code, "identifiers_too_long");
    }

    #[tokio::test]
    async fn rows_after_a_retried_row_wait_as_well() {
        let rows = ["1", "x", "2", "3"].map(AudienceRow::from_stored);
        let tell = |number: u32| async move {
            match number {
                2 => Err(Outcome::Retry { reason: OutcomeReason::new("later"), after: None }),
                _ => Ok(()),
            }
        };
        let ends = apply_rows_in_order(&rows, tell).await;
        assert_eq!(ends[0], Outcome::Delivered);
        assert_eq!(ends[1], Outcome::dead("unreadable_row"));
        let later = Outcome::Retry { reason: OutcomeReason::new("later"), after: None };
        assert_eq!(ends[2..], [later.clone(), later]);
    }
}
