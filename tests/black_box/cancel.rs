//! Cancels: of a trace, of a subtree, of guests that listen and of guests that do not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::host::Host;

fn running(task: &Value) -> bool {
    task["status"] == "RUNNING" && task["phase"] == "EXECUTING"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_cancelled_half_way_ends_everywhere() {
    let host = Host::start(&["--cancel-grace", "60s"]).await;
    host.install("financial-analysis").await;
    let trace = host.trigger("financial-analysis", json!({ "company": "Tesla", "fiscal_year": 2024, "pace_ms": 5000 })).await;
    let tasks = format!("/api/v1/traces/{trace}/tasks");
    host.until("three strategies to run", &tasks, |page| {
        (page["items"].as_array()?.iter().filter(|task| running(task) && task["key"] != "root").count() == 3).then_some(())
    })
    .await;
    let begin = Instant::now();
    let answer = host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({ "reason": "enough" })).await;
    assert_eq!((&answer["outcome"], &answer["running"]), (&json!("ORDERED"), &json!(3)), "{answer}");
    let ended = host.ended(&trace).await;
    // They listen (check-cancel in their pauses): well before the grace time is over.
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert_eq!(ended["status"], "CANCELLED");
    for (key, task) in host.tasks(&trace).await {
        assert_eq!((&task["status"], &task["lease_owner"]), (&json!("CANCELLED"), &Value::Null), "{key}: {task}");
    }
    let orders = host.get(&format!("/api/v1/traces/{trace}/control-events")).await;
    assert_eq!((&orders["items"][0]["action"], &orders["items"][0]["reason"]), (&json!("CANCEL"), &json!("enough")));
    // Again is no error, and changes nothing.
    let again = host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;
    assert_eq!(again["outcome"], "ALREADY_ENDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_is_stopped_after_its_grace_time() {
    let host = Host::start(&["--cancel-grace", "300ms"]).await;
    host.install("probe").await;
    for params in [
        json!({ "do": "loop" }),
        json!({ "do": "loop", "ask": true }),
        json!({ "do": "nap_in_host", "ms": 60000, "obey": false }),
        json!({ "do": "sleep", "ms": 60000, "obey": false }),
    ] {
        let trace = host.trigger("probe", params.clone()).await;
        host.until("the guest to run", &format!("/api/v1/traces/{trace}/tasks"), |page| page["items"].as_array()?.iter().any(running).then_some(())).await;
        let begin = Instant::now();
        host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;
        let ended = host.ended(&trace).await;
        assert_eq!(ended["status"], "CANCELLED", "{params}: {ended}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{params}: {:?}", begin.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subtree_is_cancelled_and_the_rest_goes_on() {
    let host = Host::start(&["--cancel-grace", "200ms"]).await;
    host.install("probe").await;
    let stuck = json!({ "do": "split", "n": 3, "params": { "do": "nap_in_host", "ms": 60000 } });
    let children = json!([
        { "key": "stuck", "definition": "probe", "params": stuck },
        { "key": "fine", "params": { "do": "echo", "value": 5 } },
        { "key": "after", "params": { "do": "echo", "value": 6 }, "after": ["stuck"] },
    ]);
    let trace = host.trigger("probe", json!({ "do": "children", "children": children })).await;
    let tasks = format!("/api/v1/traces/{trace}/tasks");
    let id = host
        .until("the subtree to run", &tasks, |page| {
            let items = page["items"].as_array()?;
            let stuck = items.iter().find(|task| task["key"] == "stuck" && task["phase"] == "WAITING_CHILDREN")?;
            (items.iter().filter(|task| task["parent_id"] == stuck["id"] && running(task)).count() == 3).then(|| stuck["id"].as_str().unwrap().to_owned())
        })
        .await;
    host.post(&format!("/api/v1/tasks/{id}/cancel"), json!({ "reason": "that branch" })).await;
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["partial"]), (&json!("SUCCESS"), &json!(true)), "{ended}");
    let all = host.all(&tasks).await;
    for task in &all {
        let expected = match task["key"].as_str().unwrap() {
            "root" | "fine" => "SUCCESS",
            "after" => "SKIPPED",
            _ => "CANCELLED",
        };
        assert_eq!(task["status"], expected, "{task}");
    }
    assert_eq!(all.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_waiting_tasks_are_cancelled_at_once() {
    let host = Host::start(&["--slots", "4", "--cancel-grace", "100ms"]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "split", "n": 3000, "params": { "do": "nap_in_host", "ms": 30000 } })).await;
    host.until("guests to run", &format!("/api/v1/traces/{trace}/tasks?status=RUNNING&layer=1"), |page| (!page["items"].as_array()?.is_empty()).then_some(()))
        .await;
    host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["counts"]["cancelled"]), (&json!("CANCELLED"), &json!(3001)), "{ended}");
    // Nothing began after the order was recorded.
    let events = host.events(&trace).await;
    let first_cancelled = events.iter().position(|event| event["event_type"] == "CANCELLED").unwrap();
    assert!(events[first_cancelled..].iter().all(|event| event["event_type"] != "STARTED"));
}
