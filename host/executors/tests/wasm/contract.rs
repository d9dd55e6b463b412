//! What a well-behaved module can do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tower_domain::code_ref::ModuleRef;
use tower_domain::json::Json;
use tower_domain::split::{SplitRefusal, SplitRefused};
use tower_domain::step::{Executor, LogLevel, LogStream, Signal, StepEnd};
use tower_domain::task::{ActorType, Leg};

use crate::bench::{Bench, FakeHost, fatal, output, results, retryable, step, wait_until};
use crate::guests::{DONE, Guest};

#[tokio::test]
async fn an_echo_answers_with_its_params() {
    let bench = Bench::new();
    let value = json!({ "text": "ünïcödé", "number": 1.5, "list": [1, null] });
    let step = bench.probe(json!({ "do": "echo", "value": value })).await;
    assert_eq!(output(bench.run(step).await), value);
}

#[tokio::test]
async fn a_step_sees_its_task_as_the_host_has_it() {
    let bench = Bench::new();
    let mut step = bench.probe(json!({ "do": "task" })).await.spec("role", json!("router"));
    step.step.attempt = 3;
    step.step.carried = Some(Json::trusted("[1]"));
    step.step.upstream = results(2, &Json::trusted("5"));
    let deadline_ms = step.step.deadline.as_millis();
    let seen = output(bench.run(step).await);
    assert_eq!((&seen["attempt"], &seen["role"], &seen["definition"], &seen["carried"]), (&json!(3), &json!("router"), &json!("tested"), &json!([1])));
    assert_eq!((&seen["deadline_ms"], &seen["idempotency_key"]), (&json!(deadline_ms), &json!("00000000000000000000000007:0:RUN")));
    assert_eq!(seen["upstream"][1], json!({ "key": "k00001", "status": "Success", "output": 5 }));
}

#[tokio::test]
async fn nothing_is_left_over_from_one_step_to_the_next() {
    let bench = Bench::new();
    // Counts its calls in a global of its own: a second call would return another digit.
    let counts = Guest::new("(global.set $calls (i32.add (global.get $calls) (i32.const 1))) (i32.store8 (i32.const 2048) (i32.add (i32.const 48) (global.get $calls))) (i32.const 1024)")
        .part("(global $calls (mut i32) (i32.const 0))")
        .component();
    for _ in 0..3 {
        let step = bench.step(counts.clone(), json!({})).await;
        assert_eq!(output(bench.run(step).await), json!(1));
    }
}

#[tokio::test]
async fn children_reach_the_host_as_they_were_asked_for() {
    let bench = Bench::new();
    let children = json!([{ "key": "a", "definition": "x" }, { "key": "b", "definition": "x", "after": ["a"], "finished": true, "priority": 9, "timeout_sec": 5, "max_retries": 0 }]);
    let step = bench.probe(json!({ "do": "children", "children": children })).await;
    let host = Arc::new(FakeHost::new());
    output(bench.executor.run(step.build(), host.clone()).await);
    let splits = host.splits.lock().unwrap();
    let [a, b] = splits[0].as_slice() else { panic!("two children") };
    assert_eq!((a.key.as_str(), a.definition.as_str(), a.priority), ("a", "x", None));
    assert_eq!((b.depends_on.as_slice(), b.priority, b.timeout_sec, b.max_retries), (["a".to_owned()].as_slice(), Some(9), Some(5), Some(0)));
}

#[tokio::test]
async fn ten_thousand_children_fit_in_one_call() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "split", "n": 10_000, "params": { "do": "echo", "value": "x".repeat(100) } })).await;
    let host = Arc::new(FakeHost::new());
    output(bench.executor.run(step.build(), host.clone()).await);
    assert_eq!(host.splits.lock().unwrap().iter().map(Vec::len).sum::<usize>(), 10_000);
}

#[tokio::test]
async fn a_refused_split_is_the_guests_to_handle() {
    let bench = Bench::new();
    let params = json!({ "do": "children", "children": [{ "key": "a", "definition": "x" }], "catch": true });
    let step = bench.probe(params).await;
    let host = Arc::new(FakeHost::new());
    *host.split_refusal.lock().unwrap() = Some(SplitRefused { reason: SplitRefusal::Cycle, key: Some("a".to_owned()), message: "waits for itself".to_owned() });
    let caught = output(bench.executor.run(step.build(), host).await).to_string();
    assert!(caught.contains("waits for itself"), "{caught}");
}

#[tokio::test]
async fn reports_and_output_reach_the_host_line_by_line() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    for params in [
        json!({ "do": "log", "lines": 1, "bytes": 9, "level": "warn" }),
        json!({ "do": "progress", "reports": 2 }),
        json!({ "do": "partial", "values": [1, "two"] }),
        json!({ "do": "print", "stdout": "one\r\ntwo\n\nthree", "stderr": "odd\n" }),
    ] {
        let step = bench.probe(params).await;
        output(bench.executor.run(step.build(), host.clone()).await);
    }
    assert_eq!(host.progress.lock().unwrap().last().map(|(percent, _)| *percent), Some(100));
    assert_eq!(host.partial.lock().unwrap().iter().map(Json::as_str).collect::<Vec<_>>(), ["1", "\"two\""]);
    let log = host.log.lock().unwrap();
    assert_eq!((log[0].stream, log[0].level, log[0].fields.as_ref().map(Json::as_str)), (LogStream::Log, LogLevel::Warn, Some("{\"number\":1}")));
    drop(log);
    // Standard error is not buffered by the guest, what was not ended comes at the end.
    let mut lines = host.lines().split_off(1);
    lines.sort();
    assert_eq!(lines, ["STDERR WARN odd", "STDOUT INFO one", "STDOUT INFO three", "STDOUT INFO two"]);
}

#[tokio::test]
async fn an_error_of_the_guest_keeps_its_class_code_and_delay() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "fatal", "code": "NO_DATA", "message": "gone\u{1b}[31m" })).await;
    assert_eq!(fatal(bench.run(step).await), ("NO_DATA".to_owned(), "gone\\u{1b}[31m".to_owned()));
    let step = bench.probe(json!({ "do": "retryable", "after_ms": 1500 })).await;
    let StepEnd::Failed(failure) = bench.run(step).await else { panic!("it fails") };
    assert_eq!((failure.error.code.as_str(), failure.after), ("NOT_YET", Some(Duration::from_millis(1500))));
}

#[tokio::test]
async fn the_last_round_of_a_loop_says_so() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "last", "rounds": 1 })).await;
    assert!(matches!(bench.run(step).await, StepEnd::Finished { last: true, .. }));
}

#[tokio::test]
async fn a_paused_step_leaves_what_it_goes_on_with() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    let step = bench.probe(json!({ "do": "pausable", "units": 1_000_000, "pace_ms": 1 })).await;
    let running = bench.start(step, &host);
    wait_until("it has begun", || !host.progress.lock().unwrap().is_empty()).await;
    host.signal.send_replace(Signal::Pause);
    // The order may be taken back before the step has returned: it was told, so that it may act on it.
    let end = running.await.unwrap();
    assert!(matches!(end, StepEnd::Paused { .. }), "{end:?}");
}

#[tokio::test]
async fn a_step_that_pauses_or_cancels_itself_fails() {
    let bench = Bench::new();
    // The case of the outcome, one byte at 1032, says `paused`; then the result says `error`, and its case `cancelled`.
    let paused = Guest::new("(i32.store8 (i32.const 1032) (i32.const 2)) (i32.const 1024)").component();
    let step = bench.step(paused, json!({})).await;
    assert_eq!(fatal(bench.run(step).await).0, "NOT_PAUSED");
    let cancelled = Guest::new("(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1032) (i32.const 2)) (i32.const 1024)").component();
    let step = bench.step(cancelled, json!({})).await;
    assert_eq!(fatal(bench.run(step).await).0, "GUEST_CANCELLED_ITSELF");
}

#[tokio::test]
async fn an_aggregate_reads_all_results_page_by_page() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    *host.results.lock().unwrap() = results(2_500, &Json::trusted("2"));
    for (leg, actor) in [(Leg::Aggregate, ActorType::Agent), (Leg::Run, ActorType::GroupAgg)] {
        let step = bench.probe(json!({ "do": "echo" })).await.leg(leg).actor(actor).summary(2_500);
        let folded = output(bench.executor.run(step.build(), host.clone()).await);
        assert_eq!((&folded["count"], &folded["sum"]), (&json!(2_500), &json!(5_000)), "{leg} {actor}");
    }
}

#[tokio::test]
async fn a_page_of_large_outputs_is_cut_short_and_nothing_is_lost() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    // 50 MB in all: a page of a thousand would not fit into the guest's memory.
    let large = Json::of(&Value::String("x".repeat(64 * 1024 - 100))).unwrap();
    *host.results.lock().unwrap() = results(800, &large);
    let step = bench.probe(json!({ "do": "echo" })).await.leg(Leg::Aggregate).summary(800);
    assert_eq!(output(bench.executor.run(step.build(), host).await)["count"], 800);
}

#[tokio::test]
async fn without_an_aggregate_export_outputs_are_folded_by_key() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    *host.results.lock().unwrap() = results(2, &Json::trusted("[1]"));
    let plain = Guest::new(DONE).component();
    let step = bench.step(plain.clone(), json!({})).await.leg(Leg::Aggregate).summary(2);
    assert_eq!(output(bench.executor.run(step.build(), host.clone()).await), json!({ "k00000": [1], "k00001": [1] }));
    *host.results.lock().unwrap() = results(200, &Json::of(&"x".repeat(10_000)).unwrap());
    let step = bench.step(plain, json!({})).await.leg(Leg::Aggregate).summary(200);
    let (code, message) = fatal(bench.executor.run(step.build(), host).await);
    assert!(code == "GUEST_RESULT_TOO_LARGE" && message.contains("export `aggregate`"), "{code} {message}");
}

#[tokio::test]
async fn an_aggregator_without_the_export_gets_the_results_as_upstream() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    *host.results.lock().unwrap() = results(1_500, &Json::trusted("2"));
    // How many there are stands in the task at a place that the contract fixes: the length of `upstream`.
    let plain =
        Guest::new(&format!("(i32.store (i32.const 1040) (i32.const 4)) {} {DONE}", digits("(i32.load offset=56 (local.get $task))"))).pages(64).component();
    let step = bench.step(plain.clone(), json!({})).await.actor(ActorType::GroupAgg).summary(1_500);
    let end = bench.executor.run(step.build(), host.clone()).await;
    assert_eq!(output(end), json!(1_500));
    *host.results.lock().unwrap() = results(10_001, &Json::trusted("2"));
    let step = bench.step(plain, json!({})).await.actor(ActorType::GroupAgg).summary(10_001);
    assert_eq!(fatal(bench.executor.run(step.build(), host).await).0, "UPSTREAM_TOO_LARGE");
}

/// Writes a number of four digits at 2048.
fn digits(number: &str) -> String {
    let digit = |at: u32, unit: u32| {
        format!("(i32.store8 (i32.const {at}) (i32.add (i32.const 48) (i32.rem_u (i32.div_u {number} (i32.const {unit})) (i32.const 10))))")
    };
    [digit(2048, 1000), digit(2049, 100), digit(2050, 10), digit(2051, 1)].join(" ")
}

#[tokio::test]
async fn a_host_that_cannot_answer_is_not_the_steps_fault() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    *host.trouble.lock().unwrap() = true;
    let step = bench.probe(json!({ "do": "split", "n": 1 })).await;
    assert_eq!(retryable(bench.executor.run(step.build(), host).await).0, "HOST_TROUBLE");
}

#[tokio::test]
async fn a_host_with_connections_can_be_asked_from_the_guests_threads() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    *host.connects.lock().unwrap() = true;
    *host.results.lock().unwrap() = results(3, &Json::trusted("2"));
    let step = bench.probe(json!({ "do": "split", "n": 1 })).await;
    output(bench.executor.run(step.build(), host.clone()).await);
    let step = bench.probe(json!({ "do": "echo" })).await.leg(Leg::Aggregate).summary(3);
    assert_eq!(output(bench.executor.run(step.build(), host).await)["count"], 3);
}

#[tokio::test]
async fn w30_a_host_that_panics_lives_on() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    *host.panics.lock().unwrap() = true;
    let step = bench.probe(json!({ "do": "progress", "reports": 1 })).await;
    assert_eq!(retryable(bench.executor.run(step.build(), host).await).0, "HOST_BUG");
    let step = bench.probe(json!({ "do": "echo", "value": 1 })).await;
    assert_eq!(output(bench.run(step).await), json!(1));
}

#[tokio::test]
async fn w39_nothing_of_the_hosts_surroundings_is_seen() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "env" })).await;
    assert_eq!(output(bench.run(step).await), json!({ "env": {}, "args": [] }));
    let step = bench.probe(json!({ "do": "stdin" })).await;
    assert_eq!(output(bench.run(step).await), json!({ "bytes": 0 }));
}

#[tokio::test]
async fn w40_clock_and_random_numbers_are_given() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "random" })).await;
    let drawn = output(bench.run(step).await);
    assert_ne!(drawn[0], drawn[1]);
    let step = bench.probe(json!({ "do": "clock" })).await;
    let deadline_ms = step.step.deadline.as_millis();
    let wall_ms = output(bench.run(step).await)["wall_ms"].as_i64().unwrap();
    assert!((deadline_ms - 60_000..deadline_ms).contains(&wall_ms), "{wall_ms} against {deadline_ms}");
}

#[tokio::test]
async fn a_module_that_is_not_there_is_named_with_the_remedy() {
    let bench = Bench::new();
    let module: ModuleRef = "nobody:latest".parse().unwrap();
    let (code, message) = fatal(bench.run(step(&module, json!({}))).await);
    assert!(code == "MODULE_UNKNOWN" && message.contains("tower push"), "{code} {message}");
    let spec = &step(&module, json!({})).build().definition.spec;
    assert_eq!(bench.executor.check(spec).await.unwrap_err().code, "MODULE_UNKNOWN");
}
