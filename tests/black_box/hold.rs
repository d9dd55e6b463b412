//! Pauses: of a trace, of a subtree, of guests that listen; over restarts, and from the command line.

use std::time::Duration;

use serde_json::{Value, json};

use crate::host::{Host, tower};

fn is(event: &Value, event_type: &str) -> bool {
    event["event_type"] == event_type
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_thousands_of_queued_tasks_holds_over_a_restart() {
    let mut host = Host::start(&["--slots", "2"]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "split", "n": 10_000, "params": { "do": "nap_in_host", "ms": 1 } })).await;
    let path = format!("/api/v1/traces/{trace}");
    host.until("some to have run", &path, |trace| (trace["counts"]["success"].as_u64()? >= 20).then_some(())).await;
    let answer = host.post(&format!("{path}/pause"), json!({ "reason": "a closer look" })).await;
    assert_eq!(answer["outcome"], "ORDERED");
    assert!(answer["changed"].as_u64().unwrap() > 5_000, "{answer}");
    host.kill_9().await;
    host.restart().await;
    // What was running at the death is held as well, now that it is queued again.
    let held = host.until("nothing to run", &path, |trace| (trace["counts"]["running"] == 1).then(|| trace.clone())).await;
    assert_eq!((&held["status"], &held["paused"]), (&json!("RUNNING"), &json!(true)));
    let task = &host.get(&format!("{path}/tasks?phase=PAUSED&limit=1")).await["items"][0];
    assert_eq!(task["waiting_on"][0]["kind"], "pause", "{task}");
    // Other traces are not concerned.
    assert_eq!(host.run("probe", json!({ "do": "echo", "value": 1 })).await["status"], "SUCCESS");
    assert_eq!(host.get(&path).await["counts"], held["counts"], "nothing of it moved meanwhile");
    assert_eq!(host.post(&format!("{path}/resume"), json!({})).await["outcome"], "ORDERED");
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["counts"]["success"]), (&json!("SUCCESS"), &json!(10_001)), "{ended}");
    let events = host.events(&trace).await;
    let begin = events.iter().position(|event| is(event, "PAUSED")).unwrap();
    let end = events.iter().position(|event| is(event, "RESUMED")).unwrap();
    assert!(events[begin..end].iter().all(|event| !is(event, "STARTED")), "nothing began in between");
    assert!(events[end..].iter().filter(|event| is(event, "STARTED")).count() > 5_000);
    let orders = host.get(&format!("{path}/control-events")).await;
    let orders: Vec<_> = orders["items"].as_array().unwrap().iter().map(|order| (order["action"].clone(), order["reason"].clone())).collect();
    assert_eq!(orders, [(json!("PAUSE"), json!("a closer look")), (json!("RUN"), json!(""))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_listens_stops_and_goes_on_from_where_it_was() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "pausable", "units": 40, "pace_ms": 20 })).await;
    let path = format!("/api/v1/traces/{trace}");
    let root = format!("/api/v1/tasks/{}", host.get(&path).await["root_task_id"].as_str().unwrap());
    for _ in 0..2 {
        host.until("it to work", &root, |task| (task["phase"] == "EXECUTING").then_some(())).await;
        host.post(&format!("{path}/pause"), json!({})).await;
        let task = host.until("it to stop", &root, |task| (task["phase"] == "PAUSED").then(|| task.clone())).await;
        assert_eq!((&task["status"], &task["attempt"]), (&json!("PENDING"), &json!(0)), "{task}");
        host.post(&format!("{path}/resume"), json!({})).await;
    }
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["output"]["pauses"]), (&json!("SUCCESS"), &json!(2)), "{ended}");
    let task = host.get(&root).await;
    let results: Vec<_> = task["attempts"].as_array().unwrap().iter().map(|attempt| attempt["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["PAUSED", "PAUSED", "SUCCESS"]);
    assert_eq!(task["attempt"], 1, "pauses use up no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subtree_is_held_from_the_command_line_and_the_rest_goes_on() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let children = json!([
        { "key": "first", "params": { "do": "nap_in_host", "ms": 300, "obey": false } },
        { "key": "held", "params": { "do": "echo", "value": 5 }, "after": ["first"] },
        { "key": "fine", "params": { "do": "echo", "value": 6 }, "after": ["first"] },
    ]);
    let trace = host.trigger("probe", json!({ "do": "children", "children": children })).await;
    let tasks = format!("/api/v1/traces/{trace}/tasks");
    let id = host
        .until("the children", &tasks, |page| {
            page["items"].as_array()?.iter().find(|task| task["key"] == "held").map(|task| task["id"].as_str().unwrap().to_owned())
        })
        .await;
    let cli = async |args: &[&str]| {
        let output = tokio::process::Command::from(tower()).args(["--url", &host.url]).args(args).output().await.unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(cli(&["pause", &id]).await.starts_with("paused: "));
    assert_eq!(cli(&["pause", &id]).await, "it was paused already\n");
    let state = |key: &'static str, phase: &'static str| {
        move |page: &Value| page["items"].as_array()?.iter().find(|task| task["key"] == key && task["phase"] == phase).map(|_| ())
    };
    host.until("the others to end", &tasks, state("fine", "DONE")).await;
    host.until("the held one to be ready but for the order", &tasks, state("held", "PAUSED")).await;
    let waiting: Value = serde_json::from_str(&cli(&["task", &id, "--json"]).await).unwrap();
    assert_eq!(waiting["waiting_on"][0]["kind"], "pause");
    assert_eq!(cli(&["resume", &id]).await, "resumed: 1 queued again, 0 running were told\n");
    assert_eq!(host.ended(&trace).await["status"], "SUCCESS");
    assert_eq!(cli(&["resume", &trace]).await, "it had ended already\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_does_not_listen_goes_on_and_what_it_splits_off_is_held() {
    let host = Host::start(&["--cancel-grace", "100ms"]).await;
    host.install("probe").await;
    let nap = json!({ "key": "nap", "definition": "probe", "params": { "do": "split", "n": 3, "fold": { "pace_ms": 0 } } });
    let trace = host.trigger("probe", json!({ "do": "children", "children": [nap] })).await;
    let path = format!("/api/v1/traces/{trace}");
    host.post(&format!("{path}/pause"), json!({})).await;
    // Wherever it was caught: nothing of it runs any more after a moment, and it has not ended.
    let quiet = host
        .until("quiet", &format!("{path}/tasks"), |page| {
            let open: Vec<_> = page["items"].as_array()?.iter().filter(|task| task["finished_at"].is_null()).collect();
            (!open.is_empty() && open.iter().all(|task| task["phase"] == "PAUSED" || task["phase"] == "WAITING_CHILDREN")).then_some(open.len())
        })
        .await;
    assert!(quiet >= 1);
    assert_eq!(host.post(&format!("{path}/cancel"), json!({})).await["outcome"], "ORDERED", "what is held can be ended");
    let ended = tokio::time::timeout(Duration::from_secs(20), host.ended(&trace)).await.unwrap();
    assert_eq!(ended["status"], "CANCELLED");
}
