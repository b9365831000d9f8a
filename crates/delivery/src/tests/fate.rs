//! Tests of lookups of events' outcomes, and of paused destinations.

use super::*;
use tagway_storage::journal::{EventAtReader, LastVendorCall, ReaderEventState, ReaderPause};
use tagway_vendors::{VendorCallError, VendorReply, classify_reply};

/// Makes a real call for each event of a batch alone.
struct CallingDestination(http::Uri);

#[async_trait]
impl Destination for CallingDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered)).delivery_limits()
    }

    fn admit_event(&self, event: &EnrichedEvent, _now: jiff::Timestamp) -> Result<(), Outcome> {
        match event.event.label() {
            "unwanted" => Err(Outcome::Skipped(OutcomeReason::detailed("not_selected", "by name"))),
            _ => Ok(()),
        }
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for event in batch {
            call.set_current_event(event.seq);
            let mut request = http::Request::new(format!("[{}]", event.event.message_id).into());
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = self.0.clone();
            let result: Result<VendorReply, VendorCallError> = call.call(request).await;
            outcomes.push(classify_reply(&result, call.now()));
        }
        outcomes
    }
}

/// Starts a server that answers each request with this status, and echoes its body.
async fn server(status: &'static str) -> (http::Uri, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/in?key=k", listener.local_addr().unwrap()).parse().unwrap();
    let serving = Handle::current().spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..length]);
            let body = format!("no: {}", text.rsplit("\r\n").next().unwrap());
            let answer = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (uri, serving)
}

impl DeliveryTestBench {
    async fn event_at(&self, name: &str, seq: u64) -> EventAtReader {
        let reader = self.reader(name).reader;
        let event = self.journal.event(self.site.id, seq, vec![reader]).await.unwrap();
        event.unwrap().readers.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_lookup_returns_outcome_attempts_and_last_call() {
    let bench = DeliveryTestBench::new().await;
    let (uri, serving) = server("400 Bad Request").await;
    bench.run_any(&[("crm", Arc::new(CallingDestination(uri.clone())))]).await;
    bench.append([(1, "v", "x"), (2, "v", "unwanted"), (3, "v", "y")]).await;
    let ledger = bench.settled("crm").await;
    assert_eq!((ledger.skipped, ledger.dead), (1, 2));
    let dead = bench.event_at("crm", 3).await;
    let outcome = dead.outcome.unwrap();
    assert_eq!((outcome.outcome, &*outcome.reason), ("dead", "refused"));
    assert!(outcome.attempts >= 1);
    let letter = dead.letter.unwrap();
    let LastVendorCall { request, status, reply, .. } = letter.last_call.unwrap();
    assert_eq!((request, status, &*reply), (format!("POST {uri}\n\n[3]"), Some(400), "no: [3]"));
    let skipped = bench.event_at("crm", 2).await.outcome.unwrap();
    assert_eq!(
        (skipped.outcome, &*skipped.reason, &*skipped.detail, skipped.attempts),
        ("skipped", "not_selected", "by name", 0)
    );
    bench.end().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_returns_the_last_try_of_a_waiting_event() {
    let bench = DeliveryTestBench::new().await;
    let (uri, serving) = server("503 Service Unavailable").await;
    bench.run_any(&[("crm", Arc::new(CallingDestination(uri)))]).await;
    bench.append([(1, "v", "x")]).await;
    let reader = bench.reader("crm").reader;
    let deadline = Instant::now() + Duration::from_secs(60);
    let failure = loop {
        match bench.dispatcher.failure(reader, 1).filter(|failure| failure.attempts > 1) {
            Some(failure) => break failure,
            None => assert!(Instant::now() < deadline),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert_eq!(failure.reason.code, "vendor_error");
    let call = failure.call.unwrap();
    assert_eq!((call.status, &*call.reply), (Some(503), "no: [1]"));
    assert!(bench.event_at("crm", 1).await.outcome.is_none());
    bench.end().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_lookup_returns_the_attempts_of_a_delivered_event() {
    let bench = DeliveryTestBench::new().await;
    let twice =
        |_: &EnrichedEvent, tries| if tries < 2 { retry_outcome() } else { Outcome::Delivered };
    bench.run(&[("crm", ScriptedDestination::new(BatchScope::Site, Box::new(twice)))]).await;
    bench.append([(1, "v", "x")]).await;
    bench.settled("crm").await;
    let fate = bench.event_at("crm", 1).await;
    let outcome = fate.outcome.unwrap();
    assert_eq!(
        (fate.state, outcome.outcome, outcome.attempts),
        (ReaderEventState::Settled, "delivered", 2)
    );
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_destination_keeps_events_and_resumes_where_it_stood() {
    let bench = DeliveryTestBench::new().await;
    let (one, two) = (
        ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered)),
        ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered)),
    );
    bench.run(&[("one", one.clone()), ("two", two.clone())]).await;
    bench.append([(1, "v", "x")]).await;
    bench.settled("one").await;
    let paused = bench.dispatcher.pause("shop", "one", ReaderPause::default()).await.unwrap();
    assert_eq!(paused, DestinationStatus::Paused(PauseInitiator::Operator));
    bench.append([(2, "v", "x"), (3, "w", "x")]).await;
    bench.settled("two").await;
    // A reload keeps the operator's pause.
    bench.apply(Vec::new()).await;
    bench.run(&[("one", one.clone()), ("two", two.clone())]).await;
    assert_eq!(bench.reader("one").status, DestinationStatus::Paused(PauseInitiator::Operator));
    assert!(bench.dispatcher.destination_handle("shop", "one").is_none(), "segments wait as well");
    assert!(bench.dispatcher.is_configured("shop", "one"));
    assert_eq!((bench.ledger("one").await.pending, one.taken()), (2, vec![1]));
    bench.dispatcher.resume("shop", "one").await.unwrap();
    bench.settled("one").await;
    assert_eq!(one.taken(), [1, 2, 3]);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_ends_at_its_time_and_is_stored_with_its_reason() {
    let bench = DeliveryTestBench::new().await;
    let taking = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
    bench.run(&[("one", taking.clone())]).await;
    let now = tagway_core::clock::Clock::now(&SystemClock);
    let hour = jiff::SignedDuration::from_hours(1);
    let past = ReaderPause::new("ana", "", now, Some(now - hour));
    let refused = bench.dispatcher.pause("shop", "one", past).await;
    assert!(matches!(refused, Err(PauseError::Past)), "{refused:?}");
    let pause = ReaderPause::new("ana", "broken tag", now, Some(now + hour));
    bench.dispatcher.pause("shop", "one", pause.clone()).await.unwrap();
    bench.append([(1, "v", "x")]).await;
    // A reload reads the pause from the journal.
    bench.apply(Vec::new()).await;
    bench.run(&[("one", taking.clone())]).await;
    let stored =
        |bench: &DeliveryTestBench| bench.dispatcher.inspect_destinations()[0].pause.clone();
    assert_eq!(stored(&bench), Some(pause.clone()));
    let early = pause.until.unwrap() - jiff::SignedDuration::from_millis(1);
    assert_eq!(bench.dispatcher.resume_due(early).await.unwrap(), 0);
    assert_eq!(bench.reader("one").status, DestinationStatus::Paused(PauseInitiator::Operator));
    assert_eq!(bench.dispatcher.resume_due(pause.until.unwrap()).await.unwrap(), 1);
    bench.settled("one").await;
    assert_eq!((taking.taken(), stored(&bench)), (vec![1], None));
    let reader = bench.reader("one").reader;
    assert_eq!(bench.journal.pause(reader).await.unwrap(), None);
    // A pause that ended while the process did not run is lifted at the start.
    bench.apply(Vec::new()).await;
    let over = ReaderPause { until: Some(now - hour), ..pause };
    bench.journal.set_pause(reader, Some(over)).await.unwrap();
    bench.run(&[("one", taking.clone())]).await;
    assert_eq!(bench.reader("one").status, DestinationStatus::Running);
    assert_eq!(bench.journal.pause(reader).await.unwrap(), None);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activity_has_the_last_failure_and_survives_a_pause() {
    let bench = DeliveryTestBench::new().await;
    let script: OutcomeScript = Box::new(|event, _| match event.event.label() {
        "bad" => Outcome::Dead(OutcomeReason::detailed("refused", "HTTP 400")),
        _ => Outcome::Delivered,
    });
    let taking = ScriptedDestination::new(BatchScope::Site, script);
    bench.run(&[("one", taking.clone())]).await;
    let activity = || bench.dispatcher.inspect_destinations()[0].activity.clone();
    assert_eq!(activity().credentials, CredentialState::Unknown);
    bench
        .append([(1, "v", "bad"), (2, "w", "unwanted"), (3, "w", "unwanted"), (4, "x", "good")])
        .await;
    bench.settled("one").await;
    bench.dispatcher.pause("shop", "one", ReaderPause::default()).await.unwrap();
    let seen = activity();
    assert_eq!(seen.last_failure.unwrap().reason, OutcomeReason::detailed("refused", "HTTP 400"));
    assert_eq!(seen.credentials, CredentialState::Accepted);
    assert_eq!(seen.skipped, [("unwanted", 2)].into());
    bench.dispatcher.resume("shop", "one").await.unwrap();
    taking.now_answer(Box::new(|_, _| Outcome::Unauthorised(OutcomeReason::new("unauthorised"))));
    bench.append([(5, "v", "x")]).await;
    bench.eventually("one", |_, status| status == DestinationStatus::Unauthorised).await;
    assert_eq!(activity().credentials, CredentialState::Refused);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_of_the_configuration_is_not_lifted_by_operators() {
    let bench = DeliveryTestBench::new().await;
    let taking = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
    let mut settings = DestinationSettings::for_tests("crm", taking.clone());
    settings.paused = true;
    bench.apply(vec![Arc::new(settings)]).await;
    bench.append([(1, "v", "x")]).await;
    assert_eq!(
        bench.reader("crm").status,
        DestinationStatus::Paused(PauseInitiator::Configuration)
    );
    let refused = bench.dispatcher.resume("shop", "crm").await;
    assert!(matches!(refused, Err(PauseError::Configured)), "{refused:?}");
    let unknown = bench.dispatcher.pause("shop", "other", ReaderPause::default()).await;
    assert!(matches!(unknown, Err(PauseError::Unknown)), "{unknown:?}");
    assert_eq!(bench.ledger("crm").await.pending, 1);
    bench.apply(Vec::new()).await;
    bench.run(&[("crm", taking.clone())]).await;
    bench.settled("crm").await;
    assert_eq!(taking.taken(), [1]);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_and_counters_of_one_scrape_add_up() {
    let bench = DeliveryTestBench::new().await;
    let taking = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
    bench.run(&[("crm", taking)]).await;
    let labels = tagway_core::metrics::OutcomeLabels {
        site: "shop".into(),
        destination: "crm".into(),
        outcome: "delivered",
        reason: "",
    };
    let of = DestinationLabels { site: "shop".into(), destination: "crm".into() };
    for id in 0..40 {
        bench.append([(id, "v", "x")]).await;
        let metrics = &bench.metrics;
        let (delivered, pending) = bench
            .dispatcher
            .observe(|| {
                let counts = metrics.deliveries.counts();
                let own = counts.iter().find(|(of, _)| *of == labels);
                let delivered = own.map_or(0, |(_, count)| *count);
                (delivered, metrics.pending_events.get_or_create(&of).get())
            })
            .await
            .unwrap();
        assert_eq!(delivered + pending, id + 1);
    }
    bench.end().await;
}
