//! What lists, usage lines and forms of output say.

use serde_json::{Value, json};

use super::{install_once, ok, run};
use crate::host::{Host, tower};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_something_that_is_not_there_says_so() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let one = host.trigger("probe", json!({ "do": "echo" })).await;
    host.ended(&one).await;
    let some = Some(&host);
    for args in [
        &["traces", "--def", "nobody"][..],
        &["dlq", "ls", "--def", "nobody"],
        &["tasks", &one, "--parent", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        &["tasks", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
    ] {
        assert_eq!(run(some, args).status.code(), Some(3), "{args:?}");
    }
    // What is there and has nothing is an empty list.
    assert_eq!(ok(some, &["traces", "--def", "probe-exec", "--json"]), r#"{"items":[],"next_cursor":null}"#);
    let root = host.tasks(&one).await.into_values().next().unwrap();
    ok(some, &["tasks", &one, "--parent", root["id"].as_str().unwrap()]);
    for args in [
        &["push", "/no/such.wasm"][..],
        &["run", "/no/such/folder"],
        &["run", "/no/such.wasm"],
        &["apply", "-f", "/no/such.toml"],
        &["trigger", "probe", "--params", "/no/such.json"],
    ] {
        let refused = run(some, args);
        assert_eq!(refused.status.code(), Some(3), "{args:?}: {}", String::from_utf8_lossy(&refused.stderr));
    }
}

#[test]
fn a_server_in_the_environment_is_no_part_of_the_usage() {
    let said = tower().env("TOWER_URL", "http://127.0.0.1:1").arg("trigger").output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("Usage: tower trigger") && !said.contains("--url"), "{said}");
}

#[test]
fn a_wrong_command_line_is_a_problem_object_too() {
    for args in [&["trigger", "--json"][..], &["traces", "-o", "json", "--limit", "0"], &["fly", "--json"]] {
        let refused = run(None, args);
        let problem: Value = serde_json::from_slice(&refused.stderr).unwrap_or_else(|error| panic!("{args:?}: {error}: {refused:?}"));
        assert_eq!((refused.status.code(), &problem["code"]), (Some(2), &json!("USAGE")), "{args:?}");
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_watch_have_every_form() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let some = Some(&host);
    let id = host.trigger("probe", json!({ "do": "log", "lines": 3, "bytes": 10, "level": "info" })).await;
    host.ended(&id).await;
    let body: Value = serde_json::from_str(&ok(some, &["logs", &id, "--json"])).unwrap();
    assert_eq!((body["items"].as_array().unwrap().len(), &body["next_cursor"]), (3, &Value::Null));
    assert_eq!(ok(some, &["logs", &id, "-o", "jsonl"]).lines().count(), 3);
    let ids = ok(some, &["logs", &id, "-o", "id"]);
    assert_eq!(ids.lines().next().unwrap(), body["items"][0]["seq"].to_string());
    assert_eq!(ok(some, &["watch", &id, "-o", "id"]).trim(), id);
    for line in ok(some, &["watch", &id, "--json"]).lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["seq"].is_u64(), "{line}");
    }
    let silent = host.trigger("probe", json!({ "do": "echo" })).await;
    host.ended(&silent).await;
    assert_eq!(ok(some, &["logs", &silent, "--json"]), r#"{"items":[],"next_cursor":null}"#);
    ok(some, &["modules", "show", "probe"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_task_was_cancelled_is_shown() {
    let host = Host::start(&["--cancel-grace", "100ms"]).await;
    host.install("probe").await;
    let id = host.trigger("probe", json!({ "do": "nap_in_host", "ms": 60000 })).await;
    ok(Some(&host), &["cancel", &id, "--reason", "the customer left"]);
    host.ended(&id).await;
    let task = host.tasks(&id).await.into_values().next().unwrap();
    let said = ok(Some(&host), &["task", task["id"].as_str().unwrap()]);
    assert!(said.contains("the customer left"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_quoted_without_what_was_printed_before() {
    let host = Host::start(&[]).await;
    install_once(&host).await;
    let ended = host.run("probe-once", json!({ "do": "panic", "message": "no data" })).await;
    let text = ended["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(text.contains("panicked at") && !text.contains("RUST_BACKTRACE"), "{ended}");
}
