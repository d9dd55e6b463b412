//! The engine over a real database, steps played by a script.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod scripted;

use std::sync::atomic::Ordering;
use std::time::Duration;

use scripted::{config, name, start};
use tower_domain::event::EventType;
use tower_domain::task::{Output, Phase, Status};
use tower_engine::EngineConfig;
use tower_engine::orders::{Control, ControlOutcome, ControlRequest, OrderError, RerunRequest};
use tower_store::read::{DeadLetterFilter, PageRequest, TaskFilter};
use tower_store::sqlite::SqliteOptions;

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_is_joined_and_every_claim_is_settled() {
    let bench = start(SqliteOptions::memory(), EngineConfig { slots: 7, claims_ahead: 3, ..config() }).await;
    let trace = bench.run(r#"{"do":"split","n":500,"of":"nothing"}"#).await;
    assert_eq!((trace.status, trace.counts.success), (Status::Success, 501));
    assert_eq!(
        trace.output,
        Some(Output::Inline(tower_domain::json::Json::trusted(r#"{"expected":500,"succeeded":500,"failed":0,"cancelled":0,"skipped":0}"#)))
    );
    assert!(bench.script.most.load(Ordering::SeqCst) <= 7, "never more steps than slots");
    assert_eq!(bench.script.begun.load(Ordering::SeqCst), 502, "500 children, the root twice");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_trace_is_not_held_up_by_a_large_one() {
    let bench = start(SqliteOptions::memory(), EngineConfig { slots: 2, claims_ahead: 2, ..config() }).await;
    let large = bench.trigger(r#"{"do":"split","n":3000,"of":"nothing"}"#).await;
    while bench.script.begun.load(Ordering::SeqCst) < 100 {
        tokio::task::yield_now().await;
    }
    let before = bench.script.begun.load(Ordering::SeqCst);
    let small = bench.run(r#"{"do":"split","n":5,"of":"nothing"}"#).await;
    let meanwhile = bench.script.begun.load(Ordering::SeqCst) - before;
    assert_eq!(small.status, Status::Success);
    assert!(meanwhile < 2000, "{meanwhile} steps of the large trace went before");
    assert_eq!(bench.ended(large).await.status, Status::Success);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_retried_and_then_listed() {
    let bench = start(SqliteOptions::memory(), config()).await;
    assert_eq!(bench.run(r#"{"do":"until","n":3}"#).await.status, Status::Success);
    let failed = bench.run(r#"{"do":"fail"}"#).await;
    assert_eq!(failed.status, Status::Failed);
    let read = &bench.engine.stores().read;
    let (page, open) = (PageRequest { after: None, limit: 10 }, DeadLetterFilter { open: true, ..DeadLetterFilter::default() });
    let letters = read.dead_letters(&open, &page).await.unwrap().items;
    assert_eq!((letters.len(), letters[0].phase, letters[0].trace_id), (1, Phase::DeadLetter, failed.trace_id));
    assert_eq!(read.attempts(letters[0].id).await.unwrap().len(), 3);
    let again = bench.engine.rerun(RerunRequest::retry(failed.trace_id, "test", "", None)).await.unwrap();
    assert_eq!(bench.ended(again.trace_id).await.status, Status::Failed);
    let letters = read.dead_letters(&open, &page).await.unwrap().items;
    assert_eq!(letters.iter().map(|task| task.trace_id).collect::<Vec<_>>(), [again.trace_id], "the retried one is dealt with; its retry is not");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_executor_costs_an_attempt_and_no_more() {
    let bench = start(SqliteOptions::memory(), config()).await;
    let trace = bench.run(r#"{"do":"panic"}"#).await;
    assert_eq!((trace.status, trace.error.unwrap().code.as_str()), (Status::Failed, "HOST_BUG"));
    assert_eq!(bench.run(r#"{"do":"nothing"}"#).await.status, Status::Success);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_output_is_kept_apart_and_carried() {
    let bench = start(SqliteOptions::memory(), config()).await;
    let trace = bench.run(r#"{"do":"large","n":200000}"#).await;
    let Some(Output::Ref(url)) = trace.output else { panic!("{:?}", trace.output) };
    let digest = url.strip_prefix(tower_engine::ARTIFACT_URL).unwrap().parse().unwrap();
    let stores = bench.engine.stores();
    assert_eq!(tower_store::artifacts::get(&*stores.blobs, &digest).await.unwrap().unwrap().len(), 200_002);
    // The same from another trace is kept apart, so that each can go by itself.
    assert_ne!(bench.run(r#"{"do":"large","n":200000}"#).await.output, Some(Output::Ref(url)));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_what_waits_tells_what_runs_and_stops_what_does_not_listen() {
    let bench = start(SqliteOptions::memory(), EngineConfig { slots: 2, claims_ahead: 3, ..config() }).await;
    for of in ["wait", "listen"] {
        let trace = bench.trigger(&format!(r#"{{"do":"split","n":50,"of":"{of}"}}"#)).await;
        while bench.engine.load().running < 2 || bench.engine.stores().read.trace(trace).await.unwrap().unwrap().counts.running < 3 {
            tokio::task::yield_now().await;
        }
        let request = ControlRequest { control: Control::Cancel, trace_id: trace, task_id: None, triggered_by: "test".to_owned(), reason: "enough".to_owned() };
        let outcome = bench.engine.control(request.clone()).await.unwrap();
        assert!(matches!(outcome, ControlOutcome::Ordered { running: 2..=5, done: 45..=48 }), "{outcome:?}");
        let ended = bench.ended(trace).await;
        assert_eq!((ended.status, ended.counts.cancelled), (Status::Cancelled, 51));
        assert_eq!(bench.engine.control(request).await.unwrap(), ControlOutcome::AlreadyEnded);
    }
    let nobody = ControlRequest {
        control: Control::Cancel,
        trace_id: tower_domain::id::TraceId::from_bytes([1; 16]),
        task_id: None,
        triggered_by: String::new(),
        reason: String::new(),
    };
    assert!(matches!(bench.engine.control(nobody).await, Err(OrderError::NotFound)));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_open_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.db");
    let bench = start(SqliteOptions::file(&path), EngineConfig { slots: 4, ..config() }).await;
    let trace = bench.trigger(r#"{"do":"split","n":20,"of":"wait"}"#).await;
    while bench.script.now.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
    }
    bench.engine.shutdown(Duration::ZERO).await;
    drop(bench);
    let bench = start(SqliteOptions::file(&path), EngineConfig { slots: 4, ..config() }).await;
    let tasks = bench.engine.stores().read.tasks(trace, &TaskFilter::default(), &PageRequest { after: None, limit: 100 }).await.unwrap().items;
    assert!(tasks.iter().all(|task| !task.status.is_terminal() && task.attempt <= 1), "given back, with no retry used up");
    let request = ControlRequest { control: Control::Cancel, trace_id: trace, task_id: None, triggered_by: "test".to_owned(), reason: String::new() };
    bench.engine.control(request).await.unwrap();
    assert_eq!(bench.ended(trace).await.counts.cancelled, 21);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_the_whole_history_once_and_in_order() {
    let bench = start(SqliteOptions::memory(), config()).await;
    let trace = bench.trigger(r#"{"do":"split","n":300,"of":"nothing"}"#).await;
    let mut follow = bench.engine.follow(trace, 0);
    let mut events = Vec::new();
    while let Some(batch) = follow.next().await {
        events.extend(batch.unwrap());
    }
    assert!(events.iter().enumerate().all(|(index, event)| event.seq == index as u64 + 1));
    let count = |event_type| events.iter().filter(|event| event.event_type == event_type).count();
    assert_eq!((count(EventType::Completed), count(EventType::Started), count(EventType::Split)), (301, 302, 1));
    assert!(bench.engine.follow(tower_domain::id::TraceId::from_bytes([1; 16]), 0).next().await.is_none());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_checked_before_it_is_saved() {
    let bench = start(SqliteOptions::memory(), config()).await;
    let put = async |spec: &str| bench.engine.put_definition(&name("other"), serde_json::from_str(spec).unwrap(), None).await;
    assert!(put(r#"{"actor_type":"AGENT","code_ref":"wasm://x","max_retries":1000}"#).await.is_err());
    assert!(put(r#"{"actor_type":"AGENT","code_ref":"wasm://x","params_schema":{"type":7}}"#).await.is_err());
    assert!(put(r#"{"actor_type":"AGENT","code_ref":"wasm://x","params_schema":{"$ref":"http://elsewhere.example/schema"}}"#).await.is_err());
    assert!(
        put(r#"{"actor_type":"AGENT","code_ref":"wasm://x","default_params":{"n":"x"},"params_schema":{"properties":{"n":{"type":"integer"}}}}"#)
            .await
            .is_err()
    );
    assert!(put(r#"{"actor_type":"AGENT","code_ref":"wasm://x","params_schema":{"required":["n"]}}"#).await.is_ok());
    bench.stop().await;
}
