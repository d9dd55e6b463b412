//! The workspace of a session, in containers.

use reqwest::Method;
use serde_json::{Value, json};

use super::{code, define, tower, until_containers};
use crate::host::Host;

async fn note(host: &Host, definition: &str, session: &str, text: &str) -> Value {
    let body = json!({ "definition": definition, "params": { "do": "note", "text": text }, "session_id": session });
    let started = host.post("/api/v1/traces", body).await;
    host.ended(started["trace_id"].as_str().unwrap()).await["output"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_session_find_what_those_before_them_left() {
    let host = tower(&[]).await;
    define(&host, "writer", json!({ "capabilities": { "session": "READ_WRITE" } })).await;
    define(&host, "reader", json!({ "capabilities": { "session": "READ" } })).await;
    define(&host, "stranger", json!({})).await;
    let session = host.post("/api/v1/sessions", json!({ "user_id": "ada" })).await["session_id"].as_str().unwrap().to_owned();
    assert_eq!(note(&host, "writer", &session, "one").await, json!({ "notes": ["one"] }));
    assert_eq!(note(&host, "writer", &session, "two").await, json!({ "notes": ["one", "two"] }));
    let file = host.request(Method::GET, &format!("/api/v1/sessions/{session}/files/output/notes.txt")).send().await.unwrap();
    assert_eq!(file.text().await.unwrap(), "one\ntwo\n");
    // Who may read may not write, and who was granted nothing has no such folder.
    for definition in ["reader", "stranger"] {
        let refused = note(&host, definition, &session, "three").await;
        assert!(refused["refused"].is_string(), "{definition}: {refused}");
    }
    let other = host.post("/api/v1/sessions", json!({ "user_id": "bob" })).await["session_id"].as_str().unwrap().to_owned();
    assert_eq!(note(&host, "writer", &other, "one").await, json!({ "notes": ["one"] }), "another session has another folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_fills_its_workspace_is_killed_while_it_runs() {
    let host = tower(&[]).await;
    let granted = json!({ "session": "READ_WRITE" });
    define(&host, "command", json!({ "capabilities": granted, "timeout_sec": 600 })).await;
    let kept = json!({ "protocol": "SERVICE", "mode": "PERSISTENT", "command": ["serve"] });
    define(&host, "kept", json!({ "capabilities": granted, "timeout_sec": 600, "container": kept })).await;
    for definition in ["command", "kept"] {
        let session = host.post("/api/v1/sessions", json!({ "user_id": "ada", "quota_bytes": 1_000_000 })).await["session_id"].clone();
        let params = json!({ "do": "fill", "bytes": 2_000_000, "ms": 1_000_000 });
        let trace = host.post("/api/v1/traces", json!({ "definition": definition, "params": params, "session_id": session })).await["trace_id"].clone();
        let ended = host.ended(trace.as_str().unwrap()).await;
        assert_eq!((&ended["status"], code(&ended)), (&json!("FAILED"), "WORKSPACE_QUOTA"), "{definition}: {ended}");
        until_containers(&host, 0).await;
    }
}
