//! What becomes of traces when the host dies, or goes down in order.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::host::Host;

/// Each task has one outcome that was accepted, the tree is whole, and the database's invariants hold.
async fn check(host: &mut Host, trace: &str, children: usize) {
    let ended = host.ended(trace).await;
    assert_eq!(ended["status"], "SUCCESS", "{ended}");
    let tasks = host.all(&format!("/api/v1/traces/{trace}/tasks")).await;
    let mut keys: HashMap<String, usize> = HashMap::new();
    for task in &tasks {
        assert_eq!(task["status"], "SUCCESS", "{task}");
        *keys.entry(task["key"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(tasks.len(), children + 1, "no child is missing");
    assert!(keys.values().all(|count| *count == 1), "no child is doubled");
    let mut outcomes: HashMap<String, usize> = HashMap::new();
    let events = host.events(trace).await;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1, "the history has no gap");
        if matches!(event["to"].as_str(), Some("SUCCESS" | "FAILED" | "CANCELLED" | "SKIPPED")) {
            *outcomes.entry(event["task_id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(outcomes.len(), children + 1);
    assert!(outcomes.values().all(|count| *count == 1), "every task has exactly one accepted outcome");
    host.terminate().await;
    let store = tower_store::sqlite::open(tower_store::sqlite::SqliteOptions::file(host.data.join("tower.db"))).await.unwrap();
    let violations = tower_store::invariants::check(&store).await.unwrap();
    assert!(violations.is_empty(), "{violations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_goes_on_where_it_was() {
    let mut host = Host::start(&["--slots", "8"]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "split", "n": 2000, "params": { "do": "nap_in_host", "ms": 4 } })).await;
    for share in [300, 900, 1500] {
        let done = |body: &Value| (body["counts"]["success"].as_u64()? >= share).then_some(());
        host.until("part of the tasks to be done", &format!("/api/v1/traces/{trace}"), done).await;
        host.kill_9().await;
        host.restart().await;
    }
    check(&mut host, &trace, 2000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_asked_to_end_gives_its_claims_back_unharmed() {
    let mut host = Host::start(&["--slots", "4", "--cancel-grace", "200ms"]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "split", "n": 40, "params": { "do": "nap_in_host", "ms": 700, "obey": false } })).await;
    host.until("guests to run", &format!("/api/v1/traces/{trace}/tasks?status=RUNNING&layer=1"), |page| (!page["items"].as_array()?.is_empty()).then_some(()))
        .await;
    assert!(host.terminate().await.success());
    host.restart().await;
    let tasks = host.ended(&trace).await;
    assert_eq!(tasks["status"], "SUCCESS", "{tasks}");
    for task in host.all(&format!("/api/v1/traces/{trace}/tasks?layer=1")).await {
        assert!(task["attempt"].as_u64().unwrap() <= 1, "giving back uses up no retry: {task}");
    }
    check(&mut host, &trace, 40).await;
}
