//! Containers that are kept for a session, and when they go.

use reqwest::Method;
use serde_json::{Value, json};

use super::{define, tower, until_containers};
use crate::host::Host;

/// Containers of two sessions' own and one of nobody's, from one definition and another.
async fn kept(host: &Host) -> [String; 2] {
    let container = json!({ "protocol": "SERVICE", "mode": "PERSISTENT", "command": ["serve"] });
    define(host, "theirs", json!({ "container": container, "capabilities": { "session": "READ_WRITE" } })).await;
    define(host, "everybodys", json!({ "container": container })).await;
    let mut sessions = [String::new(), String::new()];
    for session in &mut sessions {
        *session = host.post("/api/v1/sessions", json!({ "user_id": "ada" })).await["session_id"].as_str().unwrap().to_owned();
        assert_eq!(step(host, "theirs", session).await["served"], 0, "each session has its own");
        step(host, "everybodys", session).await;
    }
    sessions
}

async fn step(host: &Host, definition: &str, session: &str) -> Value {
    let body = json!({ "definition": definition, "params": { "do": "echo" }, "session_id": session });
    let trace = host.post("/api/v1/traces", body).await["trace_id"].as_str().unwrap().to_owned();
    let ended = host.ended(&trace).await;
    assert_eq!(ended["status"], "SUCCESS", "{ended}");
    ended["output"].clone()
}

/// The sessions that containers belong to, in order; none is nobody's.
async fn owners(host: &Host) -> Vec<Option<String>> {
    let list = host.get("/api/v1/containers").await;
    let mut owners: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["session_id"].as_str().map(str::to_owned)).collect();
    owners.sort();
    owners
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_session_is_closed_and_it_goes() {
    let host = tower(&[]).await;
    let [one, two] = kept(&host).await;
    assert_eq!(owners(&host).await, [None, Some(one.clone()), Some(two.clone())]);
    assert_eq!(step(&host, "theirs", &one).await["served"], 1, "from trace to trace");
    let (status, closed) = host.send(Method::DELETE, &format!("/api/v1/sessions/{one}"), None).await;
    assert_eq!((status.as_u16(), &closed["status"]), (200, &json!("CLOSED")), "{closed}");
    assert_eq!(owners(&host).await, [None, Some(two.clone())], "it is gone with the answer, and nobody else's is");
    assert_eq!(step(&host, "theirs", &two).await["served"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_idle_sessions_go_and_come_again_with_the_next_use() {
    let host = tower(&["--session-idle", "1s"]).await;
    let [one, _] = kept(&host).await;
    // What belongs to no session stays: that is what `--container-idle` is for.
    until_containers(&host, 1).await;
    assert_eq!(owners(&host).await, [None]);
    assert_eq!(host.get(&format!("/api/v1/sessions/{one}")).await["status"], "IDLE");
    assert_eq!(step(&host, "theirs", &one).await["served"], 0, "a new one");
}
