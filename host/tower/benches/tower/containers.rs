//! How long it takes until a step in a container has begun and ended: in one of its own, in one that stood ready, in one that is kept.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tower_test_docker::{Engine, IMAGE};

use crate::host::{Backend, Host};
use crate::table::Table;

/// Trigger → finished, one step that does nothing, in each kind of container.
pub(crate) async fn starts(table: &mut Table, times: u64) {
    if let Err(why) = Engine::possible() {
        println!("\ncontainers are left out: {why}");
        return;
    }
    let engine = Engine::shared();
    let host = Host::on(Backend::Sqlite, &["--docker", &format!("unix://{}", engine.socket().display())]).await;
    let service = |mode: &str| json!({ "protocol": "SERVICE", "mode": mode, "command": ["serve"] });
    for (id, container) in [("command", json!({})), ("service", service("EPHEMERAL")), ("warm", service("EPHEMERAL")), ("kept", service("PERSISTENT"))] {
        let spec = json!({ "actor_type": "EXECUTION", "code_ref": format!("docker://{IMAGE}"), "max_retries": 0, "container": container });
        host.ask(Method::PUT, &format!("/api/v1/definitions/{id}"), Some(spec)).await;
    }
    for (id, name) in [
        ("command", "container of its own, command: trigger → finished"),
        ("service", "container of its own, service: trigger → finished"),
        ("kept", "persistent container: trigger → finished"),
        ("warm", "container from the warm pool: trigger → finished"),
    ] {
        let mut seen = Vec::new();
        for turn in 0..times.max(1) + 1 {
            if id == "warm" {
                host.ask(Method::POST, "/api/v1/containers/warm", Some(json!({ "definition_id": id, "count": 1 }))).await;
                until(&host, |list| list["load"]["warm"] == 1).await;
            }
            // What the turn before left is gone, and takes no time of this one.
            until(&host, |list| list["load"]["containers"] == json!(u32::from(id == "warm" || id == "kept" && turn > 0))).await;
            let begin = Instant::now();
            let body = json!({ "definition": id, "params": { "do": "echo" } });
            let trace = host.ask(Method::POST, "/api/v1/traces?wait=60s", Some(body)).await;
            let took = begin.elapsed();
            assert_eq!(trace["status"], "SUCCESS", "{trace}");
            // The first one warms up, and makes the container that is kept.
            if turn > 0 {
                seen.push(took);
            }
        }
        table.times(name, seen);
        for item in host.ask(Method::GET, "/api/v1/containers", None).await["items"].as_array().unwrap() {
            let path = format!("{}/api/v1/containers/{}", host.url, item["name"].as_str().unwrap());
            host.client.delete(path).send().await.unwrap();
        }
    }
    host.stop().await;
}

async fn until(host: &Host, holds: impl Fn(&Value) -> bool) {
    while !holds(&host.ask(Method::GET, "/api/v1/containers", None).await) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
