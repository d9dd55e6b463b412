//! Workers of a tower with several hosts may speak to any of them.

use command_tower_worker::Worker;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tower_test_probe::probe;

use crate::host::Host;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reaches_its_step_on_whatever_host() {
    let first = Host::on_postgres(&[]).await;
    let second = Host::beside(&first, &[]).await;
    let spec = json!({ "actor_type": "AGENT", "code_ref": "worker://hands" });
    assert_eq!(first.send(Method::PUT, "/api/v1/definitions/code", Some(spec)).await.0, StatusCode::CREATED);
    // Triggered on one, fetched on the other, as soon as it is there.
    let fetching = second.request(Method::POST, "/api/v1/workers/claim").json(&json!({ "queue": "hands", "wait": "30s" })).send();
    let (fetched, trace) = tokio::join!(fetching, first.trigger("code", json!({})));
    let handed: serde_json::Value = fetched.unwrap().json().await.unwrap();
    assert_eq!(handed["step"]["trace_id"], json!(trace));
    // Spoken about on the host that does not hold it.
    let (task, token) = (handed["step"]["task_id"].as_str().unwrap(), handed["attempt"]["token"].as_str().unwrap());
    let call =
        |path: &str, body: serde_json::Value| first.request(Method::POST, &format!("/api/v1/attempts/{task}/{path}")).bearer_auth(token).json(&body).send();
    assert_eq!(call("heartbeat", json!({})).await.unwrap().status(), StatusCode::OK);
    assert_eq!(call("complete", json!({ "output": 7 })).await.unwrap().status(), StatusCode::OK);
    assert_eq!(first.ended(&trace).await["output"], 7);
    let over = call("complete", json!({ "output": 8 })).await.unwrap();
    assert!([401, 409].contains(&over.status().as_u16()), "{}", over.status());
    // With the SDK, and many at once.
    let worker = Worker::new(&second.url, "hands").concurrency(4);
    let working = tokio::spawn(worker.run(std::future::pending::<()>(), probe));
    let mut traces = Vec::new();
    for value in 0..20 {
        traces.push(first.trigger("code", json!({ "do": "echo", "value": value })).await);
    }
    for (value, trace) in traces.iter().enumerate() {
        assert_eq!(first.ended(trace).await["output"], json!(value));
    }
    working.abort();
}
