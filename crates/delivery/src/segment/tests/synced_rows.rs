//! Tests of the rows sent to destinations, in each backend.

use super::*;
use crate::segment::sync::{
    SyncMemberCounts, SyncStatus, SyncStore, SyncedMember, SyncedMemberChange,
};
use tagway_vendors::audience::AudienceRow;

in_every_backend!(synced_rows_are_kept_until_removed, member_profiles_return_the_latest_identities);

const SITE: SiteId = SiteId(7);

fn row(text: &str) -> AudienceRow {
    AudienceRow::from_stored(text.to_owned())
}

async fn synced_rows_are_kept_until_removed(bed: SegmentTestBed) {
    let (segments, store): (_, &dyn SyncStore) = (&bed.segments, &*bed.sync_store);
    for id in 1..=4 {
        let (consent, place) = (json!({ "marketing": id < 4 }), json!({ "country": "CH" }));
        let person = RuleProfile {
            consent: object(consent),
            place: object(place),
            ..person_with_events(&[])
        };
        bed.add(id, person).await;
    }
    let (segment, _) = segments.begin_run(SITE, "a", 1000).await.unwrap();
    let join = (1..=3).map(|id| (ProfileId(id), MembershipChange::Join)).collect();
    segments.change(segment, join, 1000).await.unwrap();
    let record = store.sync(segment, "crm", SyncKind::List).await.unwrap();
    assert_eq!((record.list, record.synced, record.checked), (None, 0, 0));
    let again = store.sync(segment, "crm", SyncKind::List).await.unwrap();
    assert_eq!(again.id, record.id);
    let sync = record.id;
    let change = async |changes| store.record_member_changes(sync, changes).await.unwrap();
    let after = |after: i64, limit| ProfileSelection::After(ProfileId(after), limit);
    let untold = |id: i64| store.unsynced_members(sync, segment, after(id, 2));
    let of = |people: Vec<(ProfileId, Option<i64>)>| -> Vec<(i64, Option<i64>)> {
        people.into_iter().map(|(id, at)| (id.0, at)).collect()
    };
    assert_eq!(of(untold(i64::MIN).await.unwrap()), [(1, None), (2, None)]);
    let telling =
        |id: i64, text: &str| (ProfileId(id), SyncedMemberChange::Pending(row(text), 2000));
    let notes = vec![telling(1, "one"), telling(2, "two"), telling(4, "four")];
    change(notes).await;
    change(vec![
        (ProfileId(1), SyncedMemberChange::Confirmed),
        (ProfileId(4), SyncedMemberChange::Confirmed),
    ])
    .await;
    assert_eq!(
        store.sizes(sync).await.unwrap(),
        SyncMemberCounts { confirmed: 2, removal_failed: 0 }
    );
    assert_eq!(of(untold(i64::MIN).await.unwrap()), [(2, Some(2000)), (3, None)]);
    assert_eq!(of(untold(2).await.unwrap()), [(3, None)]);
    bed.execute("DELETE FROM profiles WHERE id = 2").await;
    let members = store.synced_members(sync, segment, after(i64::MIN, 10)).await.unwrap();
    let short = |it: &SyncedMember| {
        (it.profile.0, it.row.text().to_owned(), it.status == SyncStatus::Confirmed, it.is_member)
    };
    let expected = [(1, "one", true, true), (2, "two", false, true), (4, "four", true, false)];
    let expected = expected.map(|(id, text, sure, member)| (id, text.to_owned(), sure, member));
    assert_eq!(members.iter().map(short).collect::<Vec<_>>(), expected);
    let consents: Vec<_> = members.iter().map(|it| it.consent.as_deref()).collect();
    assert_eq!(consents, [Some(r#"{"marketing":true}"#), None, Some(r#"{"marketing":false}"#)]);
    let countries: Vec<_> = members.iter().map(|it| it.country.as_deref()).collect();
    assert_eq!(countries, [Some("CH"), None, Some("CH")]);
    assert_eq!(
        store.synced_destinations(segment).await.unwrap(),
        [("crm".to_owned(), SyncKind::List)]
    );
    change(vec![telling(1, "other"), (ProfileId(4), SyncedMemberChange::Removed)]).await;
    let members = store.synced_members(sync, segment, after(0, 1)).await.unwrap();
    assert_eq!(short(&members[0]), (1, "other".to_owned(), false, true), "it is not sure any more");
    change(vec![(ProfileId(1), SyncedMemberChange::RemovalFailed)]).await;
    assert_eq!(
        store.sizes(sync).await.unwrap(),
        SyncMemberCounts { confirmed: 0, removal_failed: 1 }
    );
    let members = store.synced_members(sync, segment, after(0, 1)).await.unwrap();
    assert_eq!(members[0].status, SyncStatus::RemovalFailed);
    assert_eq!(of(untold(i64::MIN).await.unwrap()), [(2, Some(2000)), (3, None)], "1 waits");
    store.store_list(sync, Some("l-1".to_owned())).await.unwrap();
    store.record_synced_run(sync, 3000, Some(4000)).await.unwrap();
    store.record_synced_run(sync, 5000, None).await.unwrap();
    let record = store.sync(segment, "crm", SyncKind::List).await.unwrap();
    assert_eq!((record.list.as_deref(), record.synced, record.checked), (Some("l-1"), 5000, 4000));
    // While a row is stored, the segment stays until it is deleted.
    assert!(segments.remove(segment, 10).await.unwrap());
    assert_eq!(segments.list_segments(SITE).await.unwrap().len(), 1);
    store.store_list(sync, None).await.unwrap();
    assert_eq!(store.synced_destinations(segment).await.unwrap(), []);
    assert!(segments.remove(segment, 10).await.unwrap());
    assert_eq!(segments.list_segments(SITE).await.unwrap(), []);
}

async fn member_profiles_return_the_latest_identities(bed: SegmentTestBed) {
    for id in [1, 2] {
        let identities = ["anonymous", "email"].map(str::to_owned).into();
        let place = object(json!({ "country": "CH" }));
        bed.add(id, RuleProfile { identities, place, ..person_with_events(&[]) }).await;
    }
    bed.execute(
        "INSERT INTO identities (site, kind, value, profile, seen)
         SELECT site, kind, 'newest', profile, 5 FROM identities
         WHERE kind = 'anonymous' AND profile = 2",
    )
    .await;
    // A proven identity takes precedence over one claimed later.
    bed.add(3, RuleProfile { identities: ["email".to_owned()].into(), ..person_with_events(&[]) })
        .await;
    bed.execute("UPDATE identities SET rank = 2 WHERE profile = 3").await;
    bed.execute(
        "INSERT INTO identities (site, kind, value, profile, seen)
         SELECT site, kind, 'claimed', profile, 99 FROM identities WHERE profile = 3",
    )
    .await;
    let proven = bed.sync_store.member_profiles(SITE, vec![ProfileId(3)]).await.unwrap();
    assert_eq!(proven[0].email.as_deref(), Some("email3"));
    let asked = [9, 2, 1].map(ProfileId).to_vec();
    let people = bed.sync_store.member_profiles(SITE, asked).await.unwrap();
    let short: Vec<_> = people
        .iter()
        .map(|it| (it.profile, it.anonymous_id.as_deref(), it.email.as_deref()))
        .collect();
    let expected = [(2, Some("newest"), Some("email2")), (1, Some("anonymous1"), Some("email1"))];
    assert_eq!(short, expected);
    assert_eq!(
        (people[0].user_id.as_deref(), &people[0].traits["plan"]),
        (Some("u2"), &json!("pro"))
    );
    assert_eq!(people[0].country.as_deref(), Some("CH"));
    assert_eq!(bed.sync_store.member_profiles(SiteId(7), Vec::new()).await.unwrap().len(), 0);
}
