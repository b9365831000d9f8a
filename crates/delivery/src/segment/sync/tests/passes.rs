//! Tests of single sync runs.

use super::*;

#[tokio::test]
async fn run_removes_people_without_consent_or_profile_by_their_old_row() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    shop.fill(1..=6).await;
    assert_eq!(shop.passes(false).await, (6, 0));
    assert_eq!(shop.vendor.members(), addresses(1..=6));
    shop.execute("UPDATE profiles SET consent = '{\"marketing\":false}' WHERE id = 2").await;
    shop.execute("DELETE FROM profiles WHERE id = 3").await;
    shop.change([4], Membership::Leave).await;
    shop.vendor.calls();
    assert_eq!(shop.passes(false).await, (0, 3));
    assert_eq!(shop.vendor.calls(), [(AudienceChange::Remove, addresses(2..=4))]);
    assert_eq!(shop.vendor.members(), addresses([1, 5, 6]));
    // A person who agrees again is added again.
    shop.execute("UPDATE profiles SET consent = '{\"marketing\":true}' WHERE id = 2").await;
    assert_eq!(shop.passes(false).await, (1, 0));
    assert_eq!(shop.sizes().await, (4, 0));
}

#[tokio::test]
async fn run_replaces_the_old_row_of_a_changed_person() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    shop.fill(1..=3).await;
    shop.pass(false).await.unwrap();
    shop.execute("UPDATE profiles SET traits = '{\"email\":\"new@a\"}' WHERE id = 1").await;
    shop.execute("UPDATE profiles SET traits = '{}' WHERE id = 2").await;
    shop.vendor.calls();
    assert_eq!(shop.passes(false).await, (0, 0), "looked for at a recheck alone");
    let counts = shop.pass(true).await.unwrap();
    assert_eq!((counts.added, counts.removed), (1, 2));
    assert_eq!(counts.left_out, [("no_identifier", 1)].into(), "2 has no address any more");
    let new = vec!["new@a".to_owned()];
    assert_eq!(
        shop.vendor.calls(),
        [(AudienceChange::Remove, addresses(1..=2)), (AudienceChange::Add, new)]
    );
    assert_eq!(shop.vendor.members(), ["03@a", "new@a"]);
}

#[tokio::test]
async fn run_finds_a_refused_person_by_halving_and_leaves_them_out() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    shop.fill(1..=8).await;
    shop.vendor.set(|state| state.refuses = addresses([3]).into_iter().collect());
    let counts = shop.pass(false).await.unwrap();
    assert_eq!((counts.added, counts.left_out), (7, [("bad_row", 1)].into()));
    let sent: Vec<Vec<String>> = shop.vendor.calls().into_iter().map(|(_, rows)| rows).collect();
    let halves = [1..=4, 1..=2, 3..=4, 3..=3, 4..=4, 5..=8].map(addresses);
    assert_eq!(sent, halves);
    assert_eq!(shop.vendor.members(), addresses([1, 2, 4, 5, 6, 7, 8]));
    assert_eq!(shop.sizes().await, (7, 0));
    // The others are not sent again.
    shop.pass(false).await.unwrap();
    assert_eq!(shop.vendor.calls(), [(AudienceChange::Add, addresses([3]))]);
}

#[tokio::test]
async fn run_stops_both_halves_on_a_failure_of_the_destination() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    shop.fill(1..=4).await;
    shop.vendor.set(|state| {
        state.refuses = addresses([4]).into_iter().collect();
        state.takes = Some(1);
    });
    assert!(matches!(shop.pass(false).await, Err(SyncRunError::Destination(_, None))));
    assert_eq!(shop.vendor.rows(), 4, "one call");
    shop.vendor.set(|state| {
        assert_eq!(std::mem::take(&mut state.turned_away), 1, "the other half is not tried");
        state.takes = None;
    });
    assert_eq!(shop.passes(false).await, (3, 0));
}

#[tokio::test]
async fn run_retries_failed_removals_at_each_recheck() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    shop.fill(1..=4).await;
    shop.pass(false).await.unwrap();
    shop.vendor.set(|state| state.refuses = addresses([2]).into_iter().collect());
    shop.change([1, 2], Membership::Leave).await;
    let counts = shop.pass(false).await.unwrap();
    assert_eq!((counts.removed, counts.not_removed), (1, [("bad_row", 1)].into()));
    assert_eq!((counts.left_out.len(), shop.sizes().await), (0, (2, 1)));
    shop.vendor.calls();
    assert_eq!(shop.passes(false).await, (0, 0));
    assert_eq!(shop.vendor.rows(), 0, "not with every run");
    shop.pass(true).await.unwrap();
    assert_eq!(shop.vendor.calls(), [(AudienceChange::Remove, addresses([2]))]);
    shop.vendor.set(|state| state.refuses.clear());
    assert_eq!(shop.passes(true).await, (0, 1));
    assert_eq!((shop.vendor.members(), shop.sizes().await), (addresses(3..=4), (2, 0)));
}

#[tokio::test]
async fn run_sends_one_row_at_a_time_after_a_failed_removal() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    shop.fill(1..=2).await;
    shop.pass(false).await.unwrap();
    shop.vendor.set(|state| state.refuses = addresses(1..=2).into_iter().collect());
    shop.change([1, 2], Membership::Leave).await;
    shop.pass(false).await.unwrap();
    assert_eq!(shop.sizes().await, (0, 2));
    shop.change([1, 2], Membership::Join).await;
    shop.execute("UPDATE profiles SET traits = '{\"email\":\"new@a\"}' WHERE id = 1").await;
    // The old row of 1 blocks the new one, and must not be lost.
    shop.pass(true).await.unwrap();
    assert_eq!(shop.vendor.members(), addresses(1..=2));
    shop.vendor.set(|state| state.refuses.clear());
    shop.pass(true).await.unwrap();
    assert_eq!(shop.vendor.members(), ["02@a", "new@a"]);
    assert_eq!(shop.sizes().await, (2, 0));
}

#[tokio::test]
async fn run_that_breaks_off_continues_where_it_stood() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    shop.fill(1..=20).await;
    shop.vendor.set(|state| state.takes = Some(2));
    assert!(matches!(shop.pass(false).await, Err(SyncRunError::Destination(_, None))));
    assert_eq!((shop.vendor.rows(), shop.sizes().await), (8, (8, 0)));
    shop.vendor.set(|state| state.takes = None);
    assert_eq!(shop.passes(false).await, (12, 0));
    assert_eq!(shop.vendor.rows(), 12, "nobody twice");
    assert_eq!(shop.vendor.members(), addresses(1..=20));
    shop.change(1..=20, Membership::Leave).await;
    shop.vendor.set(|state| state.takes = Some(3));
    assert!(shop.pass(false).await.is_err());
    shop.vendor.set(|state| state.takes = None);
    assert_eq!(shop.passes(false).await, (0, 8));
    assert_eq!((shop.vendor.rows(), shop.sizes().await), (20, (0, 0)));
}

#[tokio::test]
async fn run_keeps_a_pending_person_whose_repetition_is_refused() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    shop.fill(1..=1).await;
    let kept = shop.kept().await;
    let row = AudienceRow::of(&"01@a").unwrap();
    shop.segments
        .record_member_changes(kept.id, vec![(ProfileId(1), SyncedMemberChange::Pending(row, 5))])
        .await
        .unwrap();
    shop.vendor.set(|state| state.refuses = addresses([1]).into_iter().collect());
    assert_eq!(shop.pass(false).await.unwrap().left_out, [("bad_row", 1)].into());
    shop.vendor.set(|state| state.refuses.clear());
    shop.change([1], Membership::Leave).await;
    shop.vendor.calls();
    shop.pass(false).await.unwrap();
    assert_eq!(shop.vendor.calls(), [(AudienceChange::Remove, addresses([1]))]);
}

#[tokio::test]
async fn events_report_joins_and_leaves_under_the_consent_at_joining() {
    let shop = SyncTestBed::open(SyncKind::Events).await;
    shop.fill(1..=2).await;
    assert_eq!(shop.passes(false).await, (2, 0));
    shop.execute("DELETE FROM profiles WHERE id = 1").await;
    assert_eq!(shop.passes(true).await, (0, 1));
    assert_eq!(shop.passes(true).await, (0, 0));
    let limit = JournalReadLimits { events: 10, bytes: 1 << 20 };
    let records = shop.journal.read(shop.site, 0, 10, limit).await.unwrap();
    let reported: Vec<Value> =
        records.iter().map(|it| serde_json::from_slice(&it.body).unwrap()).collect();
    let short = |it: &Value| {
        format!("{} {}", it["event"].as_str().unwrap(), it["userId"].as_str().unwrap())
    };
    let short: Vec<String> = reported.iter().map(short).collect();
    assert_eq!(short, ["Segment Entered u1", "Segment Entered u2", "Segment Exited u1"]);
    let last = &reported[2];
    assert_eq!(last["context"]["consent"]["categoryPreferences"]["marketing"], true);
    assert_eq!(last["integrations"], json!({ "All": false, "crm": true }));
    assert_eq!(shop.vendor.rows(), 0, "its list is left alone");
}

#[tokio::test]
async fn missing_choice_is_consent_only_in_opt_out_countries() {
    let mut shop = SyncTestBed::open(SyncKind::List).await;
    shop.opt_in = &["DE", "FR"];
    shop.connect(false).await;
    shop.connect(true).await;
    shop.fill(1..=4).await;
    shop.execute("UPDATE profiles SET consent = '{}' WHERE id < 4").await;
    shop.execute("UPDATE profiles SET place = '{\"country\":\"CH\"}' WHERE id = 1").await;
    shop.execute("UPDATE profiles SET place = '{\"country\":\"DE\"}' WHERE id IN (2, 4)").await;
    let counts = shop.pass(false).await.unwrap();
    assert_eq!(shop.vendor.members(), addresses([1, 4]), "of 3 no country is known");
    assert_eq!(counts.left_out.values().sum::<u64>(), 2);
    shop.execute("UPDATE profiles SET place = '{\"country\":\"FR\"}' WHERE id = 1").await;
    assert_eq!(shop.passes(false).await, (0, 1));
    assert_eq!(shop.vendor.members(), addresses([4]));
}

#[tokio::test]
async fn events_carry_the_country_only_if_it_allowed_sending() {
    let mut shop = SyncTestBed::open(SyncKind::Events).await;
    shop.opt_in = &["DE"];
    shop.connect(false).await;
    shop.connect(true).await;
    shop.fill(1..=2).await;
    shop.execute("UPDATE profiles SET place = '{\"country\":\"CH\"}'").await;
    shop.execute("UPDATE profiles SET consent = '{}' WHERE id = 1").await;
    assert_eq!(shop.passes(false).await, (2, 0));
    // The row has the country, so that the events of their leaving can be sent as well.
    shop.execute("DELETE FROM profiles").await;
    assert_eq!(shop.passes(false).await, (0, 2));
    let limit = JournalReadLimits { events: 10, bytes: 1 << 20 };
    let settings = shop.dispatcher.destination_handle("shop", "crm").unwrap().settings;
    for record in shop.journal.read(shop.site, 0, 10, limit).await.unwrap() {
        let event: tagway_core::event::Event = serde_json::from_slice(&record.body).unwrap();
        let place = event.facts.place.as_ref().and_then(|place| place.country.as_deref());
        let wanted = (event.user_id.as_deref() == Some("u1")).then_some("CH");
        assert_eq!(place, wanted, "{event:?}");
        assert!(settings.is_for(&event), "{event:?}");
    }
}
