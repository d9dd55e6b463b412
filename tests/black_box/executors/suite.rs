//! What holds of steps whatever runs them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::kinds::{Kind, World};

pub(super) async fn a_step_returns_its_output(kind: Kind) {
    let world = World::start(kind, &[]).await;
    world.put("code", json!({})).await;
    let value = json!({ "digits": "0.1", "text": "指令塔", "list": [1, null, true] });
    let trace = world.host.run("code", json!({ "do": "echo", "value": value })).await;
    assert_eq!((&trace["status"], &trace["output"]), (&json!("SUCCESS"), &value), "{trace}");
    let root = world.root(trace["trace_id"].as_str().unwrap()).await;
    let lane = match kind {
        Kind::Component => "wasm",
        Kind::Queue => "worker/probes",
        Kind::Http => "http",
        Kind::Container => "docker",
    };
    assert_eq!((&root["lane"], root["attempts"].as_array().unwrap().len()), (&json!(lane), 1), "{root}");
}

pub(super) async fn a_step_splits_and_its_children_wait_for_each_other(kind: Kind) {
    let world = World::start(kind, &[]).await;
    world.put("code", json!({})).await;
    world.put("leaf", json!({ "actor_type": "EXECUTION" })).await;
    let echo = |value: u32| json!({ "do": "echo", "value": value });
    let children = json!([
        { "key": "a", "definition": "leaf", "params": echo(1) },
        { "key": "b", "definition": "leaf", "params": echo(2), "after": ["a"] },
        { "key": "c", "definition": "leaf", "params": echo(3), "after": ["a", "b"] },
    ]);
    let trace = world.host.run("code", json!({ "do": "children", "children": children, "fold": { "outputs": true } })).await;
    assert_eq!((&trace["status"], &trace["counts"]["success"]), (&json!("SUCCESS"), &json!(4)), "{trace}");
    // Code that folds says more; the outputs by key are there in any case.
    let outputs = if kind == Kind::Component { &trace["output"]["outputs"] } else { &trace["output"] };
    assert_eq!(outputs, &json!({ "a": 1, "b": 2, "c": 3 }), "{trace}");
    let tasks = world.host.tasks(trace["trace_id"].as_str().unwrap()).await;
    let at = |key: &str, field: &str| tasks[key][field].as_str().unwrap().to_owned();
    assert!(at("a", "finished_at") <= at("b", "started_at") && at("b", "finished_at") <= at("c", "started_at"));
    // A refusal registers nothing and fails the step that hands it on.
    let cycle = json!([{ "key": "a", "definition": "leaf", "params": echo(1), "after": ["b"] }, { "key": "b", "definition": "leaf", "params": echo(2), "after": ["a"] }]);
    let trace = world.host.run("code", json!({ "do": "children", "children": cycle })).await;
    assert_eq!((&trace["status"], &trace["counts"]["failed"]), (&json!("FAILED"), &json!(1)), "{trace}");
    assert!(trace["error"]["code"].as_str().unwrap().starts_with("SPLIT_"), "{trace}");
}

pub(super) async fn what_a_step_reports_is_seen(kind: Kind) {
    let world = World::start(kind, &[]).await;
    world.put("code", json!({})).await;
    let trace = world.host.run("code", json!({ "do": "log", "level": "warn" })).await;
    let logs = world.host.get(&format!("/api/v1/traces/{}/logs", trace["trace_id"].as_str().unwrap())).await;
    // Beside what the host itself has to say about it.
    let line = logs["items"].as_array().unwrap().iter().find(|line| line["level"] == "WARN").unwrap_or_else(|| panic!("{logs}"));
    assert_eq!((&line["stream"], line["message"].as_str().unwrap().is_empty()), (&json!("LOG"), false), "{logs}");
    let trace = world.host.run("code", json!({ "do": "progress", "reports": 7 })).await;
    let events = world.host.events(trace["trace_id"].as_str().unwrap()).await;
    let reports: Vec<_> = events.iter().filter(|event| event["event_type"] == "PROGRESS").collect();
    assert!((1..=7).contains(&reports.len()), "{events:?}");
    let last = reports.last().unwrap()["payload"]["percent"].as_u64().unwrap();
    assert!(last > 0, "{reports:?}");
}

pub(super) async fn a_step_hears_that_it_is_cancelled(kind: Kind) {
    let world = World::start(kind, &["--cancel-grace", "60s"]).await;
    world.put("code", json!({})).await;
    let trace = world.host.trigger("code", json!({ "do": "nap_in_host", "ms": 60_000 })).await;
    world.runs(&trace).await;
    let begun = Instant::now();
    world.host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({ "reason": "enough" })).await;
    let ended = world.host.ended(&trace).await;
    assert_eq!(ended["status"], "CANCELLED", "{ended}");
    assert!(begun.elapsed() < Duration::from_secs(30), "by itself, long before its grace time was over");
}

pub(super) async fn a_step_that_does_not_care_is_stopped_after_its_grace_time(kind: Kind) {
    let world = World::start(kind, &["--cancel-grace", "200ms"]).await;
    world.put("code", json!({})).await;
    let trace = world.host.trigger("code", json!({ "do": "nap_in_host", "ms": 60_000, "obey": false })).await;
    world.runs(&trace).await;
    world.host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;
    let ended = world.host.ended(&trace).await;
    assert_eq!(ended["status"], "CANCELLED", "{ended}");
}

pub(super) async fn a_step_that_takes_too_long_fails(kind: Kind) {
    let world = World::start(kind, &[]).await;
    world.put("code", json!({ "timeout_sec": 1, "max_retries": 1 })).await;
    let trace = world.host.run("code", json!({ "do": "nap_in_host", "ms": 60_000, "obey": false })).await;
    assert_eq!((&trace["status"], &trace["error"]["code"]), (&json!("FAILED"), &json!("GUEST_TIMEOUT")), "{trace}");
    let root = world.root(trace["trace_id"].as_str().unwrap()).await;
    assert_eq!((&root["phase"], root["attempts"].as_array().unwrap().len()), (&json!("DEAD_LETTER"), 2), "{root}");
}

pub(super) async fn a_step_is_tried_again_when_that_may_help(kind: Kind) {
    let world = World::start(kind, &[]).await;
    world.put("code", json!({ "max_retries": 3 })).await;
    let trace = world.host.run("code", json!({ "do": "retryable", "until": 3 })).await;
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    let root = world.root(trace["trace_id"].as_str().unwrap()).await;
    let results: Vec<_> = root["attempts"].as_array().unwrap().iter().map(|attempt| attempt["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["RETRYABLE", "RETRYABLE", "SUCCESS"], "{root}");
}

pub(super) async fn a_fatal_failure_ends_the_task(kind: Kind) {
    let world = World::start(kind, &[]).await;
    world.put("code", json!({})).await;
    let trace = world.host.run("code", json!({ "do": "fatal", "code": "NO_DATA" })).await;
    assert_eq!((&trace["status"], &trace["error"]["code"]), (&json!("FAILED"), &json!("NO_DATA")), "{trace}");
    let root = world.root(trace["trace_id"].as_str().unwrap()).await;
    assert_eq!(root["attempts"].as_array().unwrap().len(), 1, "{root}");
}

pub(super) async fn code_that_breaks_off_is_tried_again(kind: Kind) {
    let world = World::start(kind, &[]).await;
    world.put("code", json!({ "max_retries": 1 })).await;
    let trace = world.host.run("code", json!({ "do": "panic" })).await;
    let code = match kind {
        Kind::Component => "GUEST_TRAP",
        Kind::Queue | Kind::Http => "WORKER_PANIC",
        // The process is the step's own, and ends with it.
        Kind::Container => "CONTAINER_EXIT",
    };
    assert_eq!((&trace["status"], &trace["error"]["code"]), (&json!("FAILED"), &json!(code)), "{trace}");
    assert!(trace["error"]["message"].as_str().unwrap().contains("told"), "{trace}");
    let root = world.root(trace["trace_id"].as_str().unwrap()).await;
    assert_eq!((&root["phase"], root["attempts"].as_array().unwrap().len()), (&json!("DEAD_LETTER"), 2), "{root}");
    // What ran it goes on.
    assert_eq!(world.host.run("code", json!({ "do": "echo", "value": 1 })).await["status"], "SUCCESS");
}

pub(super) async fn a_paused_step_goes_on_from_where_it_was(kind: Kind) {
    let world = World::start(kind, &[]).await;
    world.put("code", json!({})).await;
    let params = match kind {
        Kind::Component => json!({ "do": "pausable", "units": 3_000, "pace_ms": 10 }),
        Kind::Queue | Kind::Http | Kind::Container => json!({ "do": "nap_in_host", "ms": 60_000 }),
    };
    let trace = world.host.trigger("code", params).await;
    world.runs(&trace).await;
    world.host.post(&format!("/api/v1/traces/{trace}/pause"), json!({})).await;
    let tasks = format!("/api/v1/traces/{trace}/tasks");
    world.host.until("it to have ended early", &tasks, |page| (page["items"][0]["phase"] == "PAUSED").then_some(())).await;
    let root = world.root(&trace).await;
    assert_eq!((root["attempts"][0]["result"].as_str(), &root["attempt"]), (Some("PAUSED"), &json!(0)), "no retry is used up: {root}");
    world.host.post(&format!("/api/v1/traces/{trace}/resume"), json!({})).await;
    world.runs(&trace).await;
    world.host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;
    assert_eq!(world.host.ended(&trace).await["status"], "CANCELLED");
}

pub(super) async fn a_step_runs_again_when_its_host_dies(kind: Kind) {
    let mut world = World::start(kind, &[]).await;
    world.put("code", json!({})).await;
    let trace = world.host.trigger("code", json!({ "do": "nap_in_host", "ms": 1_000, "obey": false })).await;
    world.runs(&trace).await;
    world.host.kill_9().await;
    world.host.restart().await;
    world.hire();
    let ended = world.host.ended(&trace).await;
    assert_eq!(ended["status"], "SUCCESS", "{ended}");
    let root = world.root(&trace).await;
    let good = root["attempts"].as_array().unwrap().iter().filter(|attempt| attempt["result"] == "SUCCESS").count();
    assert_eq!((good, world.kind()), (1, kind), "{root}");
}
