//! Containers that wait for work, and how many there are.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{define, tower, until_containers};
use crate::host;

#[tokio::test(flavor = "multi_thread")]
async fn a_persistent_container_takes_one_step_after_another_until_it_is_idle() {
    let host = tower(&["--container-idle", "3s"]).await;
    define(&host, "kept", json!({ "container": { "protocol": "SERVICE", "mode": "PERSISTENT", "command": ["serve"] } })).await;
    for (served, later) in [(0, false), (1, true), (2, false)] {
        let trace = host.run("kept", json!({ "do": "echo", "later": later })).await;
        assert_eq!(trace["output"]["served"], served, "{trace}");
    }
    let list = host.get("/api/v1/containers").await;
    assert_eq!((&list["load"]["kept"], &list["items"][0]["idle"], &list["items"][0]["container_mode"]), (&json!(1), &json!(true), &json!("PERSISTENT")));
    until_containers(&host, 0).await;
    // One that has died meanwhile is not used.
    let trace = host.run("kept", json!({ "do": "die" })).await;
    assert_eq!(trace["status"], "FAILED");
    let trace = host.run("kept", json!({ "do": "echo" })).await;
    assert_eq!(trace["output"]["served"], 0, "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_container_is_used_once() {
    let host = tower(&[]).await;
    define(&host, "service", json!({ "container": { "protocol": "SERVICE", "command": ["serve"] } })).await;
    let warmed = host::tower().args(["--url", &host.url, "containers", "warm", "service", "--count", "2", "--json"]).output().unwrap();
    assert!(warmed.status.success(), "{}", String::from_utf8_lossy(&warmed.stderr));
    host.until("two to stand ready", "/api/v1/containers", |list| (list["load"]["warm"] == 2).then_some(())).await;
    let before = until_containers(&host, 2).await;
    for _ in 0..3 {
        let trace = host.run("service", json!({ "do": "echo" })).await;
        assert_eq!(trace["output"]["served"], 0, "{trace}");
    }
    host.until("two to stand ready again", "/api/v1/containers", |list| (list["load"]["warm"] == 2 && list["load"]["containers"] == 2).then_some(())).await;
    let after = until_containers(&host, 2).await;
    assert!(after.iter().all(|name| !before.contains(name)), "{before:?} {after:?}");
    let listed = host::tower().args(["--url", &host.url, "containers", "ls"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("WARM") && listed.contains(&after[0]), "{listed}");
    // Taken away by hand, one is made again.
    let removed = host::tower().args(["--url", &host.url, "containers", "rm", &after[0]]).output().unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    host.until("two to stand ready once more", "/api/v1/containers", |list| (list["load"]["warm"] == 2).then_some(())).await;
    let (status, _) = host.send(Method::DELETE, &format!("/api/v1/containers/{}", after[0]), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_containers_than_the_operator_says() {
    let host = tower(&["--containers-max", "2"]).await;
    define(&host, "command", json!({})).await;
    define(&host, "kept", json!({ "container": { "protocol": "SERVICE", "mode": "PERSISTENT", "command": ["serve"] } })).await;
    // It waits for work, and makes room when there is some for others.
    host.run("kept", json!({ "do": "echo" })).await;
    let mut traces = Vec::new();
    for _ in 0..6 {
        traces.push(host.trigger("command", json!({ "do": "sleep", "ms": 300 })).await);
    }
    let watch = async {
        let mut most = 0;
        loop {
            let list = host.get("/api/v1/containers").await;
            most = most.max(list["items"].as_array().unwrap().len());
            assert!(most <= 2, "{list}");
            if host.get(&format!("/api/v1/traces/{}", traces[5])).await["status"] == "SUCCESS" {
                return most;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(watch.await, 2);
    for trace in &traces {
        assert_eq!(host.ended(trace).await["status"], "SUCCESS");
    }
}
