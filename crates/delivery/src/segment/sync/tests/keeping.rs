//! Tests of whole syncs: after runs, through reloads, and with destinations that come and go.

use super::*;

impl SyncTestBed {
    /// Starts a sync whose destination has three members.
    async fn synced_manager(&self) -> SyncManager {
        self.fill(1..=3).await;
        self.ran(1000).await;
        let syncs = self.syncs();
        syncs.apply(&self.sites(true)).await.unwrap();
        until(|| syncs.states().iter().any(|it| it.size == 3)).await;
        assert_eq!(self.vendor.rows(), 3);
        syncs
    }

    /// Starts the same sync, but its destination is deleted.
    async fn abandoned(&self) -> SyncManager {
        let syncs = self.synced_manager().await;
        self.connect(false).await;
        syncs.apply(&self.sites(false)).await.unwrap();
        until(|| syncs.states().iter().any(|it| it.stand == SyncState::Abandoned)).await;
        syncs
    }

    fn has_series(&self, name: &str) -> bool {
        self.metrics.render().contains(&format!("tagway_segment_{name}{LABELS}"))
    }
}

const LABELS: &str = "{site=\"shop\",segment=\"vip\",destination=\"crm\"}";

#[tokio::test(start_paused = true)]
async fn deleted_list_is_made_anew_with_all_members() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    shop.fill(1..=6).await;
    shop.ran(1000).await;
    let syncs = shop.syncs();
    syncs.apply(&shop.sites(true)).await.unwrap();
    until(|| shop.vendor.members().len() == 6).await;
    until(|| syncs.states().iter().any(|it| it.size == 6)).await;
    shop.vendor.set(|state| {
        state.is_gone = true;
        state.members.clear();
        state.calls.clear();
    });
    shop.change([6], Membership::Leave).await;
    shop.ran(2000).await;
    syncs.notify_run();
    until(|| syncs.states().iter().any(|it| it.synced_ms == Some(2000))).await;
    assert_eq!(shop.vendor.members(), addresses(1..=5));
    assert_eq!(shop.vendor.rows(), 1 + 5, "one call finds out");
    assert_eq!(shop.kept().await.list.as_deref(), Some("l2"));
    syncs.stop().await;
}

#[tokio::test(start_paused = true)]
async fn new_list_gets_all_members_if_the_old_one_is_gone() {
    let mut shop = SyncTestBed::open(SyncKind::List).await;
    let syncs = shop.synced_manager().await;
    shop.vendor.set(|state| {
        state.is_gone = true;
        state.members.clear();
    });
    shop.sync.list = Some("mine".to_owned());
    shop.ran(2000).await;
    syncs.apply(&shop.sites(true)).await.unwrap();
    until(|| shop.vendor.members().len() == 3).await;
    until(|| syncs.states().iter().any(|it| it.list.as_deref() == Some("mine"))).await;
    syncs.stop().await;
}

#[tokio::test(start_paused = true)]
async fn sync_of_a_deleted_destination_is_abandoned_until_it_is_back() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    let syncs = shop.abandoned().await;
    let state = syncs.states().remove(0);
    assert_eq!((state.size, state.problem.is_some()), (3, true), "{state:?}");
    assert!(shop.metrics.render().contains(&format!("abandoned_members{LABELS} 3")));
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(shop.vendor.rows(), 0);
    shop.connect(true).await;
    shop.change([1], Membership::Leave).await;
    shop.ran(2000).await;
    syncs.apply(&shop.sites(true)).await.unwrap();
    until(|| shop.vendor.members() == addresses(2..=3)).await;
    until(|| syncs.states().iter().any(|it| it.synced_ms == Some(2000))).await;
    assert_eq!(shop.vendor.rows(), 1, "the others were told before");
    let state = syncs.states().remove(0);
    assert_eq!((state.stand, state.size, state.problem), (SyncState::Follows, 2, None));
    assert!(!shop.has_series("abandoned_members") && shop.has_series("synced_members"));
    syncs.stop().await;
}

#[tokio::test(start_paused = true)]
async fn forget_deletes_the_rows_of_a_deleted_destination() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    let syncs = shop.abandoned().await;
    let vip = shop.segments.list_segments(shop.site).await.unwrap().remove(0);
    let other = syncs.forget("shop", &vip, "other").await;
    assert!(matches!(other, Err(SegmentError::NothingSynced)), "{other:?}");
    assert_eq!(syncs.forget("shop", &vip, "crm").await.unwrap(), 3);
    syncs.apply(&shop.sites(false)).await.unwrap();
    assert_eq!((syncs.states().len(), shop.sizes().await), (0, (0, 0)));
    assert!(!shop.has_series("abandoned_members") && !shop.has_series("synced_members"));
    assert!(matches!(syncs.forget("shop", &vip, "crm").await, Err(SegmentError::NothingSynced)));
    // Once it is back, it gets everyone, without another run.
    shop.connect(true).await;
    syncs.apply(&shop.sites(true)).await.unwrap();
    until(|| syncs.states().iter().any(|it| it.size == 3)).await;
    assert_eq!(shop.vendor.rows(), 3);
    let forgotten = syncs.forget("shop", &vip, "crm").await;
    assert!(matches!(forgotten, Err(SegmentError::StillSynced)), "{forgotten:?}");
    syncs.stop().await;
}

#[tokio::test(start_paused = true)]
async fn drained_sync_leaves_no_state() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    let syncs = shop.synced_manager().await;
    assert!(shop.has_series("synced_members") && shop.has_series("synced_timestamp_seconds"));
    syncs.apply(&shop.sites(false)).await.unwrap();
    let stands: Vec<SyncState> = syncs.states().iter().map(|it| it.stand).collect();
    assert_eq!(stands, [SyncState::Drains], "it is seen for as long as it has something to do");
    until(|| syncs.states().is_empty()).await;
    assert_eq!(shop.vendor.members(), [""; 0]);
    assert!(!shop.has_series("synced_members") && !shop.has_series("synced_timestamp_seconds"));
    // Configured again, it gets everyone, without another run.
    syncs.apply(&shop.sites(true)).await.unwrap();
    until(|| shop.vendor.members() == addresses(1..=3)).await;
    syncs.stop().await;
}

#[tokio::test(start_paused = true)]
async fn drained_sync_retries_failed_removals_at_each_recheck() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    let syncs = shop.synced_manager().await;
    shop.vendor.set(|state| state.refuses = addresses([2]).into_iter().collect());
    syncs.apply(&shop.sites(false)).await.unwrap();
    until(|| syncs.states().iter().any(|it| it.stuck == 1)).await;
    assert_eq!(syncs.states()[0].stand, SyncState::Drains);
    assert_eq!(shop.vendor.members(), addresses([2]));
    shop.vendor.set(|state| state.refuses.clear());
    until(|| syncs.states().is_empty()).await;
    assert_eq!(shop.vendor.members().len(), 0);
    syncs.stop().await;
}

#[tokio::test(start_paused = true)]
async fn push_syncs_only_changed_people_without_a_run() {
    let shop = SyncTestBed::open(SyncKind::List).await;
    let syncs = shop.synced_manager().await;
    shop.change([1], Membership::Leave).await;
    shop.change([2], Membership::Leave).await;
    shop.execute("UPDATE profiles SET traits = '{\"email\":\"new@a\"}' WHERE id = 3").await;
    syncs.push(shop.segment, &[ProfileId(1), ProfileId(3)]);
    until(|| shop.vendor.members() == ["02@a", "new@a"]).await;
    assert_eq!(shop.vendor.rows(), 3, "1 and the old row of 3 off, the new one on");
    // A vendor that does not answer gets them later.
    shop.vendor.set(|state| state.takes = Some(0));
    syncs.push(shop.segment, &[ProfileId(2)]);
    until(|| syncs.states().iter().any(|it| it.problem.is_some())).await;
    shop.vendor.set(|state| state.takes = None);
    until(|| shop.vendor.members() == ["new@a"]).await;
    until(|| syncs.states().iter().any(|it| it.problem.is_none() && it.size == 1)).await;
    assert_eq!(shop.sizes().await, (1, 0));
    // A destination whose list is gone gets everyone.
    shop.vendor.set(|state| {
        state.is_gone = true;
        state.members.clear();
    });
    shop.change([1, 2], Membership::Join).await;
    syncs.push(shop.segment, &[ProfileId(1)]);
    until(|| shop.vendor.members() == ["01@a", "02@a", "new@a"]).await;
    syncs.stop().await;
}
