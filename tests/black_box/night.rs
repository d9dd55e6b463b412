//! NIGHTLY traces: in the operator's hours, whatever they are.

use reqwest::Method;
use serde_json::json;
use tower_domain::clock::{Clock, SystemClock};

use crate::host::{Host, tower};

/// Hours that are far from now, or that are now, by a clock that has no summer time.
fn hours(now: bool) -> String {
    let minute = SystemClock.now().as_micros() / 60_000_000 % 1_440;
    let text = |minute: i64| format!("{:02}:{:02}", minute % 1440 / 60, minute % 60);
    if now { format!("{}-{}", text(minute + 1440 - 60), text(minute + 600)) } else { format!("{}-{}", text(minute + 600), text(minute + 660)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nightly_trace_waits_for_the_operators_hours_and_says_so() {
    let host = Host::start(&["--night-window", &hours(false)]).await;
    host.install("probe").await;
    let output = tower().args(["--url", &host.url, "trigger", "probe", "-p", "do=echo", "--mode", "nightly"]).output().unwrap();
    let trace = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let path = format!("/api/v1/traces/{trace}");
    let root = host.get(&path).await["root_task_id"].as_str().unwrap().to_owned();
    let task = host.until("it to wait", &format!("/api/v1/tasks/{root}"), |task| (task["phase"] == "SCHEDULED").then(|| task.clone())).await;
    assert_eq!((&task["waiting_on"][0]["kind"], &task["waiting_on"][0]["until"]), (&json!("window"), &task["run_after"]), "{task}");
    // Others run by day; a nightly one does too when somebody wants it at once.
    let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "window": "NIGHTLY", "default_params": { "do": "echo" } });
    host.send(Method::PUT, "/api/v1/definitions/nightly", Some(spec)).await;
    let begun = host.post("/api/v1/definitions/nightly/trigger?wait=30s", json!({ "window": "IMMEDIATE" })).await;
    assert_eq!(begun["status"], "SUCCESS", "{begun}");
    let (status, body) = host.send(Method::POST, "/api/v1/definitions/nightly/trigger", Some(json!({ "window": "SCHEDULED" }))).await;
    assert_eq!((status.as_u16(), &body["errors"][0]["pointer"]), (422, &json!("/run_at")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_night_a_nightly_trace_runs_at_once() {
    let host = Host::start(&["--night-window", &hours(true)]).await;
    host.install("probe").await;
    let begun = host.post("/api/v1/definitions/probe/trigger?wait=30s", json!({ "window": "NIGHTLY", "params": { "do": "echo" } })).await;
    assert_eq!(begun["status"], "SUCCESS", "{begun}");
    for (flag, value, hint) in [("--night-window", "02:00", "02:00-08:00"), ("--night-timezone", "Europe/Berlim", "Europe/Berlin")] {
        let output = tower().args(["serve", flag, value]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains(hint), "{told}");
    }
}
