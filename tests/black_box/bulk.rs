//! One order to many traces.

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Host, tower};

fn outcomes(result: &Value) -> Vec<(&str, &str)> {
    result["items"].as_array().unwrap().iter().map(|item| (item["trace_id"].as_str().unwrap(), item["outcome"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_traces_are_chosen_shown_and_ordered_and_others_left_alone() {
    let host = Host::start(&["--cancel-grace", "100ms"]).await;
    host.install("probe").await;
    // Deaf to a pause, and not to a cancel.
    let nap = json!({ "do": "sleep", "ms": 60_000 });
    let mut mine = Vec::new();
    for _ in 0..3 {
        let begun = host.post("/api/v1/traces", json!({ "definition": "probe", "params": nap, "user_id": "ada" })).await;
        mine.push(begun["trace_id"].as_str().unwrap().to_owned());
    }
    let other = host.trigger("probe", nap.clone()).await;
    mine.reverse();
    let order = |action: &str, dry_run: bool| json!({ "action": action, "filter": { "user_id": "ada" }, "dry_run": dry_run, "reason": "spring cleaning" });
    let plan = host.post("/api/v1/bulk/traces", order("CANCEL", true)).await;
    assert_eq!(outcomes(&plan), mine.iter().map(|id| (id.as_str(), "FOUND")).collect::<Vec<_>>(), "newest first");
    assert_eq!(host.get(&format!("/api/v1/traces/{}", mine[0])).await["cancelling"], false, "nothing was done");
    let paused = host.post("/api/v1/bulk/traces", order("PAUSE", false)).await;
    assert!(outcomes(&paused).iter().all(|(_, outcome)| *outcome == "DONE"), "{paused}");
    let again = host.post("/api/v1/bulk/traces", order("PAUSE", false)).await;
    assert!(outcomes(&again).iter().all(|(_, outcome)| *outcome == "NOTHING_TO_DO"), "{again}");
    // From the command line: asked for first, and a script has to say that it means it.
    let cli = |args: &[&str]| {
        let output = tower().args(["--url", &host.url, "bulk"]).args(args).stdin(std::process::Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, _, told) = cli(&["cancel", "--user", "ada"]);
    assert!(code == Some(2) && told.contains("NOT_CONFIRMED") && told.contains("3 traces would be cancelled"), "{code:?} {told}");
    let (code, ids, told) = cli(&["cancel", "--user", "ada", "--yes", "--reason", "done with them", "-o", "id"]);
    assert_eq!((code, ids.lines().collect::<Vec<_>>()), (Some(0), mine.iter().map(String::as_str).collect()), "{told}");
    for id in &mine {
        assert_eq!(host.ended(id).await["status"], "CANCELLED");
        let orders = host.get(&format!("/api/v1/traces/{id}/control-events")).await;
        assert_eq!(orders["items"].as_array().unwrap().last().unwrap()["reason"], "done with them");
    }
    assert_eq!(host.get(&format!("/api/v1/traces/{other}")).await["cancelling"], false);
    let retried = host.post("/api/v1/bulk/traces", order("RETRY", false)).await;
    let new = retried["items"][0]["new_trace_id"].as_str().unwrap();
    assert_eq!(host.get(&format!("/api/v1/traces/{new}")).await["rerun_of"], json!(mine[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_to_everything_or_of_what_cannot_be_is_refused() {
    let host = Host::start(&[]).await;
    for (body, pointer) in [
        (json!({ "action": "CANCEL", "filter": {} }), "/filter"),
        (json!({ "action": "CANCEL", "filter": { "status": ["FAILED"] } }), "/filter/status"),
        (json!({ "action": "RETRY", "filter": { "status": ["RUNNING"] } }), "/filter/status"),
        (json!({ "action": "EXPLODE", "filter": { "user_id": "a" } }), "/action"),
        (json!({ "action": "CANCEL" }), "/filter"),
        (json!({ "action": "CANCEL", "filter": { "colour": "red" } }), "/filter/colour"),
    ] {
        let (status, answer) = host.send(Method::POST, "/api/v1/bulk/traces", Some(body.clone())).await;
        assert_eq!((status.as_u16(), &answer["errors"][0]["pointer"]), (422, &json!(pointer)), "{body}: {answer}");
    }
    let output = tower().args(["--url", &host.url, "bulk", "cancel"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let nothing = host.post("/api/v1/bulk/traces", json!({ "action": "RETRY", "filter": { "definition_id": "nobody" } })).await;
    assert_eq!(nothing, json!({ "items": [], "next_cursor": null, "more": false }));
}
