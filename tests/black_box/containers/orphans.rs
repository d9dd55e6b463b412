//! A host that is killed while containers run.

use reqwest::Method;
use serde_json::{Value, json};
use tower_test_docker::Engine;

use super::{define, owner, tower, until_containers};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_leaves_no_orphans_once_it_is_back_and_each_step_counts_once() {
    let engine = Engine::shared();
    let mut host = tower(&["--containers-max", "4", "--containers-warm", "1"]).await;
    define(&host, "command", json!({ "max_retries": 3 })).await;
    define(&host, "service", json!({ "max_retries": 3, "container": { "protocol": "SERVICE", "command": ["serve"] } })).await;
    let children: Vec<_> = (0..8)
        .map(|number| json!({ "key": format!("c{number}"), "definition": if number % 2 == 0 { "command" } else { "service" }, "params": { "do": "sleep", "ms": 1_500 } }))
        .collect();
    let trace = host.trigger("command", json!({ "do": "split", "children": children })).await;
    let path = format!("/api/v1/traces/{trace}");
    host.until("some to have ended", &path, |trace| (trace["counts"]["success"].as_u64()? >= 2 && trace["counts"]["running"].as_u64()? >= 2).then_some(()))
        .await;
    let before = engine.containers(&owner(&host));
    host.kill_9().await;
    assert!(!before.is_empty() && engine.containers(&owner(&host)).iter().any(|name| before.contains(name)), "they outlive the host");
    host.restart().await;
    let left = engine.containers(&owner(&host));
    assert!(left.iter().all(|name| !before.contains(name)), "{left:?}");
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["counts"]["success"]), (&json!("SUCCESS"), &json!(9)), "{ended}");
    // Nothing was done twice: every task has one attempt that counts.
    let tasks = host.get(&format!("{path}/tasks?limit=100")).await;
    for task in tasks["items"].as_array().unwrap() {
        let task = host.get(&format!("/api/v1/tasks/{}", task["task_id"].as_str().or(task["id"].as_str()).unwrap())).await;
        let good = task["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|attempt| attempt["leg"] == "RUN" && (attempt["result"] == "SUCCESS" || attempt["result"] == "SPLIT"))
            .count();
        assert_eq!(good, 1, "{task}");
    }
    host.terminate().await;
    until_containers(&host, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_of_an_attempt_that_is_over_says_does_not_count() {
    let mut host = tower(&[]).await;
    define(&host, "command", json!({ "max_retries": 3 })).await;
    let trace = host.trigger("command", json!({ "do": "sleep", "ms": 2_000 })).await;
    let running = |list: &Value| (list["items"][0]["state"] == "running").then(|| list["items"][0].clone());
    let item = host.until("a container", "/api/v1/containers", running).await;
    // What it was handed outlives its host, as it does.
    let found: Value = serde_json::from_str(&Engine::shared().ask(&["inspect", item["name"].as_str().unwrap()])).unwrap();
    let variables = found[0]["Config"]["Env"].as_array().unwrap();
    let handed = |name: &str| variables.iter().find_map(|one| one.as_str().unwrap().strip_prefix(&format!("{name}="))).unwrap().to_owned();
    let (path, token) = (handed("TOWER_ATTEMPT_URL").strip_prefix("http://tower").unwrap().to_owned(), handed("TOWER_TOKEN"));
    host.kill_9().await;
    host.restart().await;
    host.until("it to run again", "/api/v1/containers", running).await;
    for (call, body) in [("complete", json!({ "output": "a zombie's" })), ("fail", json!({ "code": "ZOMBIE", "message": "it is mine" }))] {
        let answer = host.request(Method::POST, &format!("{path}/{call}")).bearer_auth(&token).json(&body).send().await.unwrap();
        assert!([401, 409].contains(&answer.status().as_u16()), "{call}: {}", answer.status());
    }
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("SUCCESS"), &json!("slept")), "{ended}");
}
