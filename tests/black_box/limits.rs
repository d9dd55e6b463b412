//! How many tasks run at once and begin in a while, as those who run them see it.

use reqwest::Method;
use serde_json::{Value, json};
use tower_domain::clock::Timestamp;

use crate::host::{Host, tower};

/// A definition of the probe under that name with these fields.
async fn put(host: &Host, id: &str, fields: Value) {
    let mut spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe" });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let (status, body) = host.send(Method::PUT, &format!("/api/v1/definitions/{id}"), Some(spec)).await;
    assert!(status.is_success(), "{body}");
}

/// A trace that splits into these children of a definition.
async fn split(host: &Host, children: &[(String, &str, Value)]) -> String {
    let children: Vec<Value> = children.iter().map(|(key, definition, params)| json!({ "key": key, "definition": definition, "params": params })).collect();
    host.trigger("probe", json!({ "do": "children", "children": children })).await
}

fn naps(count: usize, definition: &'static str, ms: u32) -> Vec<(String, &'static str, Value)> {
    (0..count).map(|number| (format!("c{number:03}"), definition, json!({ "do": "nap_in_host", "ms": ms }))).collect()
}

/// The most steps of the tasks with such keys that ran at once, by the trace's history.
async fn most_at_once(host: &Host, trace: &str, chosen: impl Fn(&str) -> bool) -> usize {
    let keys: std::collections::HashMap<String, String> =
        host.tasks(trace).await.into_iter().map(|(key, task)| (task["id"].as_str().unwrap().to_owned(), key)).collect();
    let (mut running, mut most) = (0_usize, 0);
    for event in host.events(trace).await {
        if !chosen(&keys[event["task_id"].as_str().unwrap()]) {
            continue;
        }
        match event["event_type"].as_str().unwrap() {
            "STARTED" => running += 1,
            "COMPLETED" | "FAILED" | "RETRYING" | "SPLIT" => running -= 1,
            _ => {}
        }
        most = most.max(running);
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_runs_no_more_tasks_at_once_than_it_allows_whatever_dies() {
    let mut host = Host::start(&[]).await;
    host.install("probe").await;
    put(&host, "narrow", json!({ "max_concurrent": 3 })).await;
    let trace = split(&host, &naps(60, "narrow", 100)).await;
    let path = format!("/api/v1/traces/{trace}");
    host.until("some to have run", &path, |trace| (trace["counts"]["success"].as_u64()? >= 6).then_some(())).await;
    let waiting = host.until("one to wait", &format!("{path}/tasks?phase=QUEUED&limit=500"), |page| page["items"].get(10).cloned()).await;
    assert_eq!(waiting["waiting_on"][0]["kind"], "limit", "{waiting}");
    assert_eq!(waiting["waiting_on"][0]["ref"], "definition/narrow", "{waiting}");
    let limits = host.until("it to be listed", "/api/v1/limits", |page| page["items"].get(0).cloned()).await;
    assert_eq!((&limits["limit"], &limits["max_concurrent"], &limits["running"]), (&json!("definition/narrow"), &json!(3), &json!(3)), "{limits}");
    assert!(limits["waiting"].as_u64().unwrap() > 10, "{limits}");
    let output = tower().args(["--url", &host.url, "limits"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("definition/narrow  3    3"), "{shown}");
    // What else there is goes on beside it.
    assert_eq!(host.run("probe", json!({ "do": "echo" })).await["status"], "SUCCESS");
    host.kill_9().await;
    host.restart().await;
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["counts"]["success"]), (&json!("SUCCESS"), &json!(61)), "{ended}");
    // A death takes the running ones back to the queue without a word of theirs; the events of that moment are counted twice.
    assert!(most_at_once(&host, &trace, |key| key != "root").await <= 6);
    assert_eq!(host.get("/api/v1/limits").await["items"], json!([]), "nothing is taken once all have ended");
    let after = split(&host, &naps(20, "narrow", 10)).await;
    host.ended(&after).await;
    assert_eq!(most_at_once(&host, &after, |key| key != "root").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_with_one_value_of_the_key_run_one_after_another_and_others_beside_them() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    put(&host, "per-company", json!({ "concurrency_key": "/company" })).await;
    let children: Vec<_> = (0..12)
        .map(|number| {
            let company = if number % 2 == 0 { "Acme" } else { "Other" };
            (format!("{company}-{number}"), "per-company", json!({ "do": "nap_in_host", "ms": 50, "company": company }))
        })
        .collect();
    let trace = split(&host, &children).await;
    assert_eq!(host.ended(&trace).await["status"], "SUCCESS");
    for company in ["Acme", "Other"] {
        assert_eq!(most_at_once(&host, &trace, |key| key.starts_with(company)).await, 1, "{company}");
    }
    assert_eq!(most_at_once(&host, &trace, |key| key != "root").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_traces_share_the_operators_limit() {
    let host = Host::start(&["--user-max-concurrent", "2"]).await;
    host.install("probe").await;
    let begin = |user: &'static str| {
        let params = json!({ "do": "split", "n": 8, "params": { "do": "nap_in_host", "ms": 50 } });
        host.post("/api/v1/traces", json!({ "definition": "probe", "params": params, "user_id": user }))
    };
    let (ada, eve) = (begin("ada").await, begin("eve").await);
    for trace in [&ada, &eve] {
        let trace = trace["trace_id"].as_str().unwrap();
        assert_eq!(host.ended(trace).await["status"], "SUCCESS");
        assert_eq!(most_at_once(&host, trace, |key| key != "root").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_keep_to_the_rate_and_what_waits_says_until_when() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    put(&host, "slow", json!({ "rate_limit": { "max": 10, "per_sec": 1, "burst": 1 } })).await;
    let children: Vec<_> = (0..8).map(|number| (format!("c{number}"), "slow", json!({ "do": "echo" }))).collect();
    let trace = split(&host, &children).await;
    let path = format!("/api/v1/traces/{trace}/tasks?phase=QUEUED");
    let waiting = host.until("one to wait", &path, |page| page["items"].get(0).cloned()).await;
    let wait = &waiting["waiting_on"][0];
    assert_eq!((&wait["kind"], &wait["ref"]), (&json!("limit"), &json!("rate/slow")), "{waiting}");
    assert!(wait["until"].is_string(), "{waiting}");
    host.ended(&trace).await;
    let mut starts: Vec<i64> = Vec::new();
    for (key, task) in host.tasks(&trace).await {
        if key != "root" {
            let at: Timestamp = serde_json::from_value(task["started_at"].clone()).unwrap();
            starts.push(at.as_micros());
        }
    }
    starts.sort_unstable();
    for (number, at) in starts.iter().enumerate() {
        assert!(at - starts[0] >= number as i64 * 100_000, "{starts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_raised_lets_those_in_that_wait() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    put(&host, "narrow", json!({ "max_concurrent": 1 })).await;
    let hold = json!({ "do": "nap_in_host", "ms": 60_000 });
    let trace = split(&host, &[("one".to_owned(), "narrow", hold.clone()), ("two".to_owned(), "narrow", hold)]).await;
    let tasks = format!("/api/v1/traces/{trace}/tasks");
    let phases = |page: &Value, wanted: &str| page["items"].as_array().unwrap().iter().filter(|task| task["phase"] == wanted).count();
    host.until("one to run and one to wait", &tasks, |page| (phases(page, "EXECUTING") == 1 && phases(page, "QUEUED") == 1).then_some(())).await;
    put(&host, "narrow", json!({ "max_concurrent": 2 })).await;
    host.until("both to run", &tasks, |page| (phases(page, "EXECUTING") == 2).then_some(())).await;
    host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;
    host.ended(&trace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_make_no_sense_are_refused_by_field() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    for (fields, pointer) in [
        (json!({ "max_concurrent": 0 }), "/max_concurrent"),
        (json!({ "concurrency_key": "company" }), "/concurrency_key"),
        (json!({ "concurrency_key": "/a~2" }), "/concurrency_key"),
        (json!({ "max_concurrent_per_key": 2 }), "/max_concurrent_per_key"),
        (json!({ "rate_limit": { "max": 0, "per_sec": 1 } }), "/rate_limit"),
        (json!({ "rate_limit": { "max": 1, "per_sec": 86_401 } }), "/rate_limit"),
        (json!({ "rate_limit": { "max": 1, "per_sec": 1, "burst": 0 } }), "/rate_limit"),
    ] {
        let mut spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe" });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, body) = host.send(Method::PUT, "/api/v1/definitions/d", Some(spec)).await;
        assert_eq!((status.as_u16(), &body["code"]), (422, &json!("BAD_FIELDS")), "{body}");
        assert_eq!(body["errors"][0]["pointer"], pointer, "{body}");
    }
    let (status, body) = host.send(Method::GET, "/api/v1/limits?cursor=nonsense", None).await;
    assert_eq!((status.as_u16(), &body["code"]), (422, &json!("BAD_CURSOR")), "{body}");
}
