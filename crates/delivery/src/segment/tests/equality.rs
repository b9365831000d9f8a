//! Tests that any rule selects the same people in memory, in SQLite and in PostgreSQL.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::segment::rule::{
    AmountCondition, ComparisonOperator, ProfilePart, PropertyFilter, RuleLiteral, RuleMoment,
    RuleTimeSpan, RuleValueTest,
};
use crate::segment::sql::compile;
use crate::segment::sqlite::dialect::SqliteDialect;

const TEXTS: [&str; 12] = [
    "",
    "a",
    "ab",
    "ba",
    "B",
    "é",
    "x\u{0}y",
    "2026-11-20",
    "2026-11-20T10:00:00Z",
    "2026-11-20T10:00:00.5Z",
    "2026-11-20T10:00:00+02:00",
    "2026-11-20 10:00",
];
const WHOLE: [i64; 9] =
    [-1, 0, 1, 2, 9_007_199_254_740_993, i64::MAX, i64::MIN, 1_763_632_800, 1_763_632_800_000];
const REAL: [f64; 5] = [-0.5, 0.25, 1.0, 1_763_632_800.5, 9.3e18];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(TEXTS.to_vec()).prop_map(Value::from),
        select(WHOLE.to_vec()).prop_map(Value::from),
        select(REAL.to_vec()).prop_map(Value::from),
        Just(Value::from(u64::MAX)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => scalar(),
        1 => vec(scalar(), 0..3).prop_map(Value::from),
        1 => scalar().prop_map(|inner| json!({ "k": inner })),
        1 => scalar().prop_map(|inner| json!([{ "k": inner }])),
    ]
}

fn values() -> impl Strategy<Value = JsonObject> {
    btree_map(select(vec!["k", "t.t", "o"]), value(), 0..3)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn literal() -> impl Strategy<Value = RuleLiteral> {
    prop_oneof![
        select(TEXTS[1..6].to_vec()).prop_map(|text| RuleLiteral::Text(text.to_owned())),
        select(WHOLE.to_vec()).prop_map(RuleLiteral::Integer),
        select(REAL.to_vec()).prop_map(RuleLiteral::Real),
        any::<bool>().prop_map(RuleLiteral::Boolean),
    ]
}

fn comparison() -> impl Strategy<Value = ComparisonOperator> {
    select(ComparisonOperator::ALL.to_vec()).prop_map(|(_, comparison)| comparison)
}

fn moment() -> impl Strategy<Value = RuleMoment> {
    let at = |text: &str| RuleMoment::At(text.parse().unwrap());
    prop_oneof![
        (0_u64..12).prop_map(|days| RuleMoment::Ago(Duration::from_secs(days * 86_400))),
        (0_u64..48).prop_map(|hours| RuleMoment::Ago(Duration::from_secs(hours * 3600))),
        select(vec![at("2026-11-20T00:00:00Z"), at("2026-11-20T10:00:00Z")]),
    ]
}

fn span() -> impl Strategy<Value = RuleTimeSpan> {
    (proptest::option::of(moment()), proptest::option::of(moment()))
        .prop_map(|(after, before)| RuleTimeSpan { after, before })
}

fn test() -> impl Strategy<Value = RuleValueTest> {
    let text = || select(TEXTS[1..7].to_vec()).prop_map(str::to_owned);
    prop_oneof![
        4 => (comparison(), literal()).prop_filter_map("an order of truth", |(comparison, literal)| {
            let is_ordered = !matches!(comparison, ComparisonOperator::Equal | ComparisonOperator::Unequal);
            let is_truth = matches!(literal, RuleLiteral::Boolean(_));
            (!(is_ordered && is_truth)).then_some(RuleValueTest::Compare(comparison, literal))
        }),
        1 => vec(literal(), 1..5).prop_map(RuleValueTest::In),
        1 => literal().prop_map(RuleValueTest::Contains),
        1 => text().prop_map(RuleValueTest::StartsWith),
        1 => text().prop_map(RuleValueTest::EndsWith),
        1 => any::<bool>().prop_map(RuleValueTest::Exists),
        1 => moment().prop_map(RuleValueTest::Before),
        1 => moment().prop_map(RuleValueTest::After),
    ]
}

fn amount() -> impl Strategy<Value = AmountCondition> {
    (comparison(), 0..6_i32).prop_map(|(comparison, number)| AmountCondition {
        comparison,
        number: f64::from(number) / 2.0,
    })
}

fn filter() -> impl Strategy<Value = PropertyFilter> {
    prop_oneof![
        2 => Just(PropertyFilter::new()),
        1 => Just(PropertyFilter::from([(vec!["a".to_owned()], vec![RuleValueTest::Exists(true)])])),
    ]
}

fn event() -> impl Strategy<Value = SegmentRule> {
    use proptest::option::of;
    let days = (1_u64..12).prop_map(|days| Duration::from_secs(days * 86_400));
    let hours = (1_u64..60).prop_filter("no days", |hours| hours % 24 != 0);
    let hours = hours.prop_map(|hours| Duration::from_secs(hours * 3600));
    let name = || select(vec!["A", "B", "C"]).prop_map(str::to_owned);
    let counted = (name(), filter(), of(days), of(amount()), of(amount()), span(), span());
    let whole = counted.prop_map(|(event, filter, within, count, sum, first, last)| {
        SegmentRule::Event(EventCondition { event, filter, within, count, sum, first, last })
    });
    let within = (name(), hours, any::<bool>()).prop_map(|(event, within, never)| {
        let never =
            never.then_some(AmountCondition { comparison: ComparisonOperator::Equal, number: 0.0 });
        let open = RuleTimeSpan::default();
        SegmentRule::Event(EventCondition {
            event,
            filter: PropertyFilter::new(),
            within: Some(within),
            count: never,
            sum: None,
            first: open,
            last: open,
        })
    });
    prop_oneof![3 => whole, 1 => within]
}

fn condition() -> impl Strategy<Value = SegmentRule> {
    let places = [
        ProfilePart::Traits,
        ProfilePart::Consent,
        ProfilePart::Device,
        ProfilePart::Place,
        ProfilePart::Touches,
    ];
    let paths = [vec!["k"], vec!["t.t"], vec!["o", "k"], vec!["o"]];
    let paths = paths.map(|path| path.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let kinds = select(vec!["email", "user", "ga"]).prop_map(str::to_owned);
    prop_oneof![
        4 => (select(places.to_vec()), select(paths.to_vec()), vec(test(), 1..3))
            .prop_map(|(place, path, tests)| SegmentRule::Known { place, path, tests }),
        1 => (kinds, any::<bool>()).prop_map(|(kind, exists)| SegmentRule::Identity { kind, exists }),
        1 => (any::<bool>(), span()).prop_map(|(first, when)| SegmentRule::Seen { first, when }),
        3 => event(),
    ]
}

fn any_rule() -> impl Strategy<Value = SegmentRule> {
    condition().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(SegmentRule::All),
            vec(inner.clone(), 1..4).prop_map(SegmentRule::Any),
            inner.prop_map(|rule| SegmentRule::Not(Box::new(rule))),
        ]
    })
}

fn activity() -> impl Strategy<Value = BTreeMap<String, BTreeMap<i64, DailyTally>>> {
    let filtered = EventCondition {
        event: "A".to_owned(),
        filter: PropertyFilter::from([(vec!["a".to_owned()], vec![RuleValueTest::Exists(true)])]),
        within: None,
        count: None,
        sum: None,
        first: RuleTimeSpan::default(),
        last: RuleTimeSpan::default(),
    };
    let names = vec!["A".to_owned(), "B".to_owned(), filtered.key()];
    let tally = (1_i64..4, 0..86_400_i64, 0..86_400_i64, -4..8_i32);
    btree_map(select(names), btree_map(0_i64..12, tally, 1..4), 0..3).prop_map(|names| {
        let today = now_ms().div_euclid(86_400_000);
        let day = |(ago, (count, a, b, sum)): (i64, (i64, i64, i64, i32))| {
            let start = (today - ago) * 86_400_000;
            let at = |seconds: i64| start + seconds * 1000;
            let (first, last) = (at(a.min(b)), at(a.max(b)));
            (today - ago, DailyTally { count, first, last, sum: f64::from(sum) / 4.0 })
        };
        let days =
            |(name, days): (String, BTreeMap<_, _>)| (name, days.into_iter().map(day).collect());
        names.into_iter().map(days).collect()
    })
}

fn person() -> impl Strategy<Value = (RuleProfile, Option<&'static str>)> {
    let seen = || proptest::option::of((0..1_000_000_i64).prop_map(|ago| now_ms() - ago * 1000));
    let kinds = btree_set(select(vec!["email", "user", "ga"]).prop_map(str::to_owned), 0..3);
    let objects = (values(), values(), values(), values(), values());
    let group = proptest::option::of(select(vec!["g1", "g2"]));
    (objects, kinds, (seen(), seen()), activity(), group).prop_map(
        |(
            (traits, consent, device, place, touches),
            identities,
            (first_seen, last_seen),
            activity,
            group,
        )| {
            let person = RuleProfile {
                traits,
                identities,
                consent,
                device,
                place,
                touches,
                first_seen,
                last_seen,
                activity,
            };
            (person, group)
        },
    )
}

/// Runs the statement in PostgreSQL, for these people alone.
struct PostgresEvaluator {
    runtime: tokio::runtime::Runtime,
    database: Arc<PostgresDatabase>,
}

impl PostgresEvaluator {
    fn new() -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = PostgresDatabase::of_test(&[profile::SCHEMA, SCHEMA])?;
        Some(Self { runtime, database })
    }

    fn select(
        &self,
        people: &[(RuleProfile, Option<&str>)],
        evaluation: &RuleEvaluation,
    ) -> (String, Vec<i64>) {
        let dialect = crate::segment::postgres::dialect::PostgresDialect;
        let statement = compile(evaluation, 7, &dialect);
        let mut filling = String::from("BEGIN;");
        for (id, (person, group)) in (1_i64..).zip(people) {
            filling += &added(id, 7, person, *group);
            filling += &added(id + 100, 8, person, *group);
        }
        let found = self.runtime.block_on(async {
            let client = self.database.client().await.unwrap();
            client.batch_execute(&filling).await.unwrap();
            let query = client.prepare(&statement.text).await.unwrap();
            let bound = statement.parameters.iter().map(crate::segment::postgres::dialect::bound);
            let rows = client.query_raw(&query, bound.collect::<Vec<_>>()).await.unwrap();
            let rows: Vec<_> = futures_util::TryStreamExt::try_collect(rows).await.unwrap();
            client.batch_execute("ROLLBACK").await.unwrap();
            rows.iter().map(|row: &tokio_postgres::Row| row.get(0)).collect()
        });
        (statement.text, found)
    }
}

#[test]
fn databases_select_the_same_people_as_the_evaluator() {
    let shared = PostgresEvaluator::new();
    proptest!(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }, |(
        rule in any_rule(),
        people in vec(person(), 1..12),
        is_of_groups in any::<bool>(),
        of in proptest::option::of(btree_set(1..14_i64, 1..6)),
    )| {
        let c = Connection::open_in_memory().unwrap();
        for step in profile::MIGRATIONS.steps {
            c.execute_batch(step).unwrap();
        }
        for (id, (person, group)) in (1_i64..).zip(&people) {
            add(&c, id, 7, person, *group);
            // People of another site must not be selected.
            add(&c, id + 100, 8, person, *group);
        }
        let holds: Vec<bool> = people.iter().map(|(person, _)| rule.holds(person, now_ms())).collect();
        let is_member = |index: usize| {
            if !is_of_groups {
                return holds[index];
            }
            let group = people[index].1;
            let same = people.iter().zip(&holds).any(|((_, other), holds)| *holds && *other == group);
            group.is_some() && same
        };
        let is_asked = |id: &i64| of.as_ref().is_none_or(|of| of.contains(id));
        let all = (0..people.len()).filter(|index| is_member(*index)).map(|index| index as i64 + 1);
        let expected: Vec<i64> = all.filter(is_asked).collect();
        let only: Option<Vec<ProfileId>> = of.map(|of| of.into_iter().map(ProfileId).collect());
        let unit = if is_of_groups { MembershipUnit::Group } else { MembershipUnit::User };
        let (rule, now_ms) = (Arc::new(rule), now_ms());
        let evaluation = RuleEvaluation { rule, unit, now_ms, only };
        let statement = compile(&evaluation, 7, &SqliteDialect);
        let mut query = c.prepare(&statement.text).unwrap();
        let rows = query.query_map(rusqlite::params_from_iter(&statement.parameters), |row| row.get(0));
        let mut found: Vec<i64> = rows.unwrap().map(Result::unwrap).collect();
        found.sort_unstable();
        prop_assert_eq!(&found, &expected, "{}", statement.text);
        if let Some(shared) = &shared {
            let (text, mut found) = shared.select(&people, &evaluation);
            found.sort_unstable();
            prop_assert_eq!(found, expected, "{}", text);
        }
    });
}
