//! `tower dlq`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{install_once, ok, run};
use crate::host::Host;

/// Two traces that failed for good with NOT_YET, and one with GUEST_TRAP.
async fn with_dead_letters() -> Host {
    let host = Host::start(&[]).await;
    install_once(&host).await;
    for params in [json!({ "do": "retryable" }), json!({ "do": "retryable" }), json!({ "do": "panic", "message": "ouch" })] {
        assert_eq!(host.run("probe-once", params).await["status"], "FAILED");
    }
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_counted_and_shown() {
    let host = with_dead_letters().await;
    let some = Some(&host);
    let ids = |args: &[&str]| ok(some, args).lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(ids(&["dlq", "ls", "-o", "id"]).len(), 3);
    let trapped = ids(&["dlq", "ls", "--error", "GUEST_TRAP", "-o", "id"]);
    assert_eq!(trapped.len(), 1);
    assert_eq!(ids(&["dlq", "ls", "--def", "probe-once", "--since", "1h", "-o", "id"]).len(), 3);
    assert_eq!(ids(&["dlq", "ls", "--filter", "error=NOT_YET since=1h", "-o", "id"]).len(), 2);
    assert_eq!(ids(&["dlq", "ls", "--group", "error", "-o", "id"]), ["NOT_YET", "GUEST_TRAP"]);
    let groups: Value = serde_json::from_str(&ok(some, &["dlq", "ls", "--group", "definition", "--json"])).unwrap();
    assert_eq!(
        (&groups["items"][0]["group"], &groups["items"][0]["dead_letters"], &groups["items"][0]["traces"]),
        (&json!("probe-once"), &json!(3), &json!(3))
    );
    assert!(ok(some, &["dlq", "show", &trapped[0]]).contains("ouch"));
    assert_eq!(run(some, &["dlq", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]).status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn replaying_by_filter_asks_first_and_retries_each_trace_once() {
    let host = with_dead_letters().await;
    let some = Some(&host);
    let traces = async || host.all("/api/v1/traces").await.len();
    let replay = ["dlq", "replay", "--error", "NOT_YET"];
    let with = |more: &[&'static str]| replay.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    let dry: Value = serde_json::from_str(&ok(some, &with(&["--dry-run", "--json"]))).unwrap();
    assert_eq!((dry["items"].as_array().unwrap().len(), &dry["dead_letters"], &dry["more"]), (2, &json!(2), &json!(false)));
    assert!(dry["items"].as_array().unwrap().iter().all(|item| item["trace_id"].is_null() && item["error"].is_null()), "{dry}");
    let unasked = run(some, &replay);
    assert_eq!(unasked.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("2 dead letters of 2 traces"), "{unasked:?}");
    assert_eq!(traces().await, 3, "nothing was retried");
    let new: Vec<String> = ok(some, &with(&["--yes", "-o", "id"])).lines().map(str::to_owned).collect();
    assert_eq!((new.len(), traces().await), (2, 5));
    for id in &new {
        assert_eq!(host.ended(id).await["trigger_type"], "REPLAY");
    }
    // What was retried is dealt with; its retries, which failed again, are dead letters of their own.
    let open = ok(some, &["dlq", "ls", "--error", "NOT_YET", "--json"]);
    assert!(new.iter().all(|id| open.contains(id.as_str())), "{open}");
    let next: Vec<String> = ok(some, &with(&["--dry-run", "-o", "id"])).lines().map(str::to_owned).collect();
    assert_eq!(next.iter().collect::<BTreeSet<_>>(), new.iter().collect::<BTreeSet<_>>());
    assert_eq!(run(some, &["dlq", "replay"]).status.code(), Some(2));
    assert_eq!(run(some, &["dlq", "replay", "--filter", "colour=red", "--yes"]).status.code(), Some(2));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_is_enough_to_say_yes() {
    let host = with_dead_letters().await;
    for (answer, traces) in [("n\n", 3), ("y\n", 5)] {
        // `script` lends a terminal.
        let line = format!("{} dlq replay --error NOT_YET", env!("CARGO_BIN_EXE_tower"));
        let mut command = std::process::Command::new("timeout");
        command.args(["60", "script", "-qec", &line, "/dev/null"]).env("TOWER_URL", &host.url).stdin(std::process::Stdio::piped());
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("2 dead letters of 2 traces"), "{output:?}");
        assert_eq!((output.status.success(), host.all("/api/v1/traces").await.len()), (traces == 5, traces));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replaying_by_id_under_one_key_is_one_replay() {
    let host = with_dead_letters().await;
    let some = Some(&host);
    let id = ok(some, &["dlq", "ls", "--error", "GUEST_TRAP", "-o", "id"]);
    let once = ok(some, &["dlq", "replay", id.trim(), "--key", "monday", "-o", "id"]);
    assert_eq!(ok(some, &["dlq", "replay", id.trim(), "--key", "monday", "-o", "id"]), once);
    assert_ne!(ok(some, &["dlq", "replay", id.trim(), "-o", "id"]), once);
    assert_eq!(run(some, &["dlq", "replay", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]).status.code(), Some(3));
    let good = host.run("probe", json!({ "do": "echo" })).await;
    let refused = run(some, &["dlq", "replay", good["root_task_id"].as_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("NOTHING_TO_RETRY"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_retry_that_is_not_clear_is_refused() {
    let host = with_dead_letters().await;
    let path = "/api/v1/dead-letters/retry";
    let some_id = host.get("/api/v1/dead-letters").await["items"][0]["id"].clone();
    for wrong in [json!({}), json!({ "task_ids": [some_id], "filter": {} }), json!({ "filter": { "colour": "red" } }), json!({ "filter": { "since": "soon" } })]
    {
        let (status, body) = host.send(reqwest::Method::POST, path, Some(wrong.clone())).await;
        assert_eq!((status.as_u16(), &body["code"]), (422, &json!("BAD_FIELDS")), "{wrong}: {body}");
    }
    let (status, body) = host.send(reqwest::Method::GET, "/api/v1/dead-letters?group_by=colour", None).await;
    assert_eq!((status.as_u16(), &body["code"]), (422, &json!("BAD_QUERY")), "{body}");
    let all = host.post(path, json!({ "filter": {}, "dry_run": true })).await;
    assert_eq!(all["dead_letters"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_letter_is_replayed_with_other_params() {
    let host = with_dead_letters().await;
    let some = Some(&host);
    let letters: Vec<String> = ok(some, &["dlq", "ls", "-o", "id"]).lines().map(str::to_owned).collect();
    let old = host.get(&format!("/api/v1/tasks/{}", letters[0])).await;
    // A dry run does nothing.
    let dry: Value = serde_json::from_str(&ok(some, &["dlq", "replay", &letters[0], "-p", "do=echo", "--dry-run", "--json"])).unwrap();
    assert_eq!((&dry["items"][0]["rerun_of"], &dry["items"][0]["trace_id"]), (&old["trace_id"], &Value::Null));
    let new = ok(some, &["dlq", "replay", &letters[0], "-p", "do=echo", "-p", "value=mended", "--reason", "wrong params", "-o", "id"]);
    let ended = host.ended(new.trim()).await;
    assert_eq!((&ended["status"], &ended["output"], &ended["rerun_of"]), (&json!("SUCCESS"), &json!("mended"), &old["trace_id"]), "{ended}");
    let params = &host.get(&format!("/api/v1/tasks/{}", ended["root_task_id"].as_str().unwrap())).await["input_params"];
    assert_eq!((&params["do"], &params["message"]), (&json!("echo"), &old["input_params"]["message"]), "laid over its own");
    assert!(!ok(some, &["dlq", "ls", "-o", "id"]).contains(&letters[0]), "it is dealt with");
    for several in [vec!["dlq", "replay", &letters[1], &letters[2], "-p", "do=echo"], vec!["dlq", "replay", "--error", "NOT_YET", "-p", "do=echo", "--yes"]] {
        let refused = run(some, &several);
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("one by one"), "{refused:?}");
    }
    let path = "/api/v1/dead-letters/retry";
    for wrong in
        [json!({ "task_ids": [letters[1]], "params": 5 }), json!({ "task_ids": [letters[1], letters[2]], "params": {} }), json!({ "filter": {}, "params": {} })]
    {
        let (status, body) = host.send(reqwest::Method::POST, path, Some(wrong.clone())).await;
        assert_eq!((status.as_u16(), &body["errors"][0]["pointer"]), (422, &json!("/params")), "{wrong}: {body}");
    }
    // Params that do not fit the task's schema are refused by name.
    let schema = json!({ "type": "object", "properties": { "ms": { "type": "integer" } } });
    let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "max_retries": 0, "params_schema": schema });
    host.send(reqwest::Method::PUT, "/api/v1/definitions/strict", Some(spec)).await;
    let failed = host.run("strict", json!({ "do": "retryable" })).await;
    let body = json!({ "task_ids": [failed["root_task_id"]], "params": { "ms": "soon" } });
    let (status, body) = host.send(reqwest::Method::POST, path, Some(body)).await;
    assert_eq!((status.as_u16(), body["errors"][0]["pointer"].as_str()), (422, Some("/params/ms")), "{body}");
}
