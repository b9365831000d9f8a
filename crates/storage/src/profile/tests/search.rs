//! Tests of the operators' search for profiles.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

in_every_backend!(
    search_finds_names_and_their_beginnings_page_by_page,
    search_lists_a_person_once_and_other_sites_never,
    list_of_all_profiles_is_newest_first,
);

impl ProfileTestBed {
    fn search(
        &self,
        text: Option<&str>,
        after: Option<SearchPosition>,
        limit: usize,
    ) -> ProfilePage {
        let search = ProfileSearch { text: text.map(str::to_owned), after, limit };
        self.runtime.block_on(self.store().search(SITE, search)).unwrap()
    }

    /// The user ids of all pages.
    fn found(&self, text: Option<&str>, limit: usize) -> Vec<String> {
        let (mut users, mut after) = (Vec::new(), None);
        loop {
            let page = self.search(text, after, limit);
            assert!(page.profiles.len() <= limit);
            users.extend(page.profiles.into_iter().map(|it| it.user_id.unwrap_or_default()));
            match page.next {
                Some(next) => after = Some(next.to_string().parse().unwrap()),
                None => return users,
            }
        }
    }
}

fn known(user_id: &str, device: &str) -> ProfileUpdate {
    let devices = vec![weak(anonymous(device))];
    ProfileUpdate { user: Some(user(user_id)), devices, ..ProfileUpdate::default() }
}

fn search_finds_names_and_their_beginnings_page_by_page(make: TestBedFactory<'_>) {
    let Some(bed) = make(LIMITS) else { return };
    let people = (0..25).map(|n| known(&format!("user-{n:02}"), &format!("device-{n:02}")));
    let mut names = Identity::candidates_for_name("ana@shop.example").into_iter();
    let email = names.find(|it| it.kind == IdentityKind::Email);
    let ana = ProfileUpdate { email, ..known("ana", "phone") };
    bed.apply(1, people.chain([ana]).collect());
    let all: Vec<String> = (0..25).map(|n| format!("user-{n:02}")).collect();
    for limit in [1, 7, 25, 100] {
        assert_eq!(bed.found(Some("user-"), limit), all, "{limit}");
    }
    assert_eq!(bed.found(Some("user-1"), 4), all[10..20]);
    assert_eq!(bed.found(Some("device-07"), 10), ["user-07"]);
    assert_eq!(bed.found(Some("an"), 10), ["ana"]);
    assert_eq!(bed.found(Some("Ana@Shop.Example "), 10), ["ana"], "by the whole address");
    assert_eq!(bed.found(Some("ana@shop"), 10), Vec::<String>::new());
    assert_eq!(bed.found(Some("User-"), 10), Vec::<String>::new(), "names have their case");
    assert_eq!(bed.found(Some("user_"), 10), Vec::<String>::new(), "no pattern");
    let found = bed.search(Some("ana"), None, 1).profiles.remove(0);
    assert!(
        found.identities.contains(&anonymous("phone")) && found.identities.contains(&user("ana"))
    );
}

fn search_lists_a_person_once_and_other_sites_never(make: TestBedFactory<'_>) {
    let Some(bed) = make(LIMITS) else { return };
    bed.apply(1, vec![known("a-1", "a-2"), known("a-3", "a-4"), known("b", "a-5")]);
    for limit in [1, 2, 10] {
        // The anonymous ids come first in the index.
        assert_eq!(bed.found(Some("a-"), limit), ["a-1", "a-3", "b"], "{limit}");
    }
    let position = SearchPosition { kind: "user".to_owned(), profile: ProfileId(-1) };
    let page = bed.search(Some("a-"), Some(position), 10);
    assert_eq!(page.profiles.len(), 3, "a position that is gone is the start");
    let other = ProfileSearch { text: Some("a-".to_owned()), after: None, limit: 10 };
    if let TestBedStore::Sqlite(profiles, ..) = &bed.backend {
        let page = bed.runtime.block_on(profiles.search(SiteId(2), other)).unwrap();
        assert_eq!(page, ProfilePage::default());
    }
}

fn list_of_all_profiles_is_newest_first(make: TestBedFactory<'_>) {
    let Some(bed) = make(LIMITS) else { return };
    bed.apply(1, (0..5).map(|n| known(&format!("u{n}"), &format!("d{n}"))).collect());
    for limit in [1, 2, 5, 9] {
        assert_eq!(bed.found(None, limit), ["u4", "u3", "u2", "u1", "u0"], "{limit}");
    }
}

/// The longest time for a page.
const PAGE_TIME: Duration = Duration::from_millis(100);

/// Adds this many people to the one of another update.
fn fill(bed: &ProfileTestBed, people: i64) {
    let (numbers, pad) = match &bed.backend {
        TestBedStore::Sqlite(..) => (
            format!(
                "WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < {people})"
            ),
            "printf('%07d', i)",
        ),
        TestBedStore::Postgres(..) => (
            format!("WITH n (i) AS (SELECT * FROM generate_series(1000, {people}))"),
            "lpad(i::text, 7, '0')",
        ),
    };
    let site = "(SELECT max(site) FROM profiles)";
    let sql = [
        format!(
            "{numbers} INSERT INTO profiles (id, site, user_id, last_seen)
             SELECT i, {site}, 'user-' || {pad}, i FROM n;"
        ),
        format!(
            "{numbers} INSERT INTO identities (site, kind, value, profile)
             SELECT {site}, 'user', 'user-' || {pad}, i FROM n;"
        ),
        format!(
            "{numbers} INSERT INTO identities (site, kind, value, profile)
             SELECT {site}, 'anonymous', 'device-' || {pad}, i FROM n;"
        ),
    ];
    bed.runtime.block_on(async {
        match &bed.backend {
            TestBedStore::Sqlite(_, store, _) => {
                store.write(move |c| c.execute_batch(&sql.concat())).await.unwrap();
            }
            TestBedStore::Postgres(_, database) => {
                let client = database.client().await.unwrap();
                let all = format!("SET statement_timeout = 0; {} ANALYZE", sql.concat());
                client.simple_query(&all).await.unwrap();
            }
        }
    });
}

fn pages_of_a_million_are_fast(backend: TestBackend) {
    let Some(bed) = ProfileTestBed::new(backend, LIMITS) else { return };
    bed.apply(1, vec![known("first", "first-device")]);
    fill(&bed, 1_000_000);
    for text in
        [None, Some("user-"), Some("user-05"), Some("device-"), Some("user-0999999"), Some("x")]
    {
        let mut after = None;
        for _ in 0..3 {
            let started = Instant::now();
            let page = bed.search(text, after.clone(), 50);
            let took = started.elapsed();
            println!("{text:?} {:?} {} {took:?}", after, page.profiles.len());
            assert!(took < PAGE_TIME, "{text:?}: {took:?}");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
}

#[test]
#[ignore = "fills a database with a million people; run it alone"]
fn pages_of_a_million_people_are_fast_in_sqlite() {
    pages_of_a_million_are_fast(TestBackend::Sqlite);
}

#[test]
#[ignore = "fills a database with a million people; run it alone"]
fn pages_of_a_million_people_are_fast_in_postgres() {
    pages_of_a_million_are_fast(TestBackend::Postgres);
}
