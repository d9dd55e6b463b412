//! How a step in a container ends, and what it can ask for while it runs: for commands and for services alike.

use serde_json::{Value, json};
use tower_domain::clock::{Clock, SystemClock};
use tower_test_docker::Engine;

use super::{code, define, tower, until_containers};
use crate::host::Host;

/// The same step as a command and as a service.
async fn both(host: &Host, fields: Value) -> [&'static str; 2] {
    define(host, "command", fields.clone()).await;
    let mut service = fields;
    service["container"] = json!({ "protocol": "SERVICE", "command": ["serve"] });
    define(host, "service", service).await;
    ["command", "service"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_reads_its_task_and_its_output_is_the_tasks() {
    let host = tower(&[]).await;
    for definition in both(&host, json!({})).await {
        let trace = host.run(definition, json!({ "do": "echo", "x": [1, "two"] })).await;
        assert_eq!((&trace["status"], &trace["output"]["params"]["x"]), (&json!("SUCCESS"), &json!([1, "two"])), "{definition}: {trace}");
    }
    // Later, with a call instead of an answer.
    let trace = host.run("service", json!({ "do": "echo", "later": true, "x": 3 })).await;
    assert_eq!(trace["output"]["params"]["x"], 3, "{trace}");
    let trace = host.run("command", json!({ "do": "complete", "output": { "by": "call" } })).await;
    assert_eq!(trace["output"], json!({ "by": "call" }), "what it did after its call is nobody's business: {trace}");
    until_containers(&host, 0).await;
}

/// What the log of a trace's root holds: streams and lines.
pub(super) async fn log(host: &Host, trace: &Value) -> Vec<(String, String)> {
    let lines = host.all(&format!("/api/v1/tasks/{}/logs", trace["root_task_id"].as_str().unwrap())).await;
    lines.iter().map(|line| (line["stream"].as_str().unwrap().to_owned(), line["message"].as_str().unwrap().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steps_log_is_whole_when_the_step_has_ended() {
    let host = tower(&[]).await;
    both(&host, json!({})).await;
    define(&host, "kept", json!({ "container": { "protocol": "SERVICE", "command": ["serve"], "mode": "PERSISTENT" } })).await;
    let all: Vec<String> = (0..300).map(|line| format!("line {line}")).collect();
    for definition in ["command", "service", "kept", "kept"] {
        let trace = host.run(definition, json!({ "do": "talk", "lines": all.len() })).await;
        assert_eq!(trace["output"], "said", "{definition}: {trace}");
        let lines = log(&host, &trace).await;
        let said: Vec<&String> = lines.iter().filter(|(stream, line)| stream == "STDERR" && line.starts_with("line ")).map(|(_, line)| line).collect();
        assert!(said.iter().copied().eq(&all), "{definition}: of {} lines {} came: {said:?}", all.len(), said.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ended_its_step_with_a_call_may_tidy_up() {
    let host = tower(&[]).await;
    let exit_codes = || {
        let owner = format!("label=command-tower.owner={}", super::owner(&host));
        let now = SystemClock.now().as_micros();
        let now = format!("{}.{:06}", now / 1_000_000, now % 1_000_000);
        let format = "{{.Actor.Attributes.exitCode}}";
        let said = Engine::shared().ask(&["events", "--since", "1h", "--until", &now, "--filter", "event=die", "--filter", &owner, "--format", format]);
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    define(&host, "command", json!({})).await;
    let trace = host.run("command", json!({ "do": "complete", "output": 7, "ms": 500 })).await;
    assert_eq!(trace["output"], 7, "{trace}");
    until_containers(&host, 0).await;
    assert_eq!(exit_codes(), ["3"], "it ended by itself");
    // Not for as long as it likes.
    let trace = host.run("command", json!({ "do": "complete", "output": 8, "ms": 120_000 })).await;
    assert_eq!(trace["output"], 8, "{trace}");
    until_containers(&host, 0).await;
    assert_eq!(exit_codes(), ["3", "137"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_splits_reports_and_reaches_nothing_else() {
    let host = tower(&[]).await;
    for definition in both(&host, json!({})).await {
        let children = json!([
            { "key": "one", "definition": definition, "params": { "do": "echo", "x": 1 } },
            { "key": "two", "definition": definition, "params": { "do": "echo", "x": 2 }, "depends_on": ["one"] },
        ]);
        let trace = host.run(definition, json!({ "do": "split", "children": children })).await;
        assert_eq!(trace["status"], "SUCCESS", "{definition}: {trace}");
        assert_eq!((&trace["output"]["one"]["params"]["x"], &trace["output"]["two"]["params"]["x"]), (&json!(1), &json!(2)), "{trace}");

        let trace = host.trigger(definition, json!({ "do": "report" })).await;
        let ended = host.ended(&trace).await;
        assert_eq!(ended["output"], true, "it could read its task again: {ended}");
        let lines = log(&host, &ended).await;
        let said = |stream: &str, line: &str| lines.iter().any(|known| known.0 == stream && known.1 == line);
        assert!(said("STDERR", "on standard error") && said("LOG", "through the socket"), "{lines:?}");
        assert!(lines.iter().any(|(_, line)| line.starts_with("runs ") && line.contains("sha256:")), "it says which bytes it runs: {lines:?}");

        let trace = host.run(definition, json!({ "do": "strangers" })).await;
        assert_eq!(trace["output"], json!({ "stolen": "401", "traces": "404" }), "{trace}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_container_ends_is_how_the_step_ends() {
    let host = tower(&[]).await;
    define(&host, "command", json!({})).await;
    for (params, expected, said) in [
        (json!({ "do": "exit", "code": 65, "say": "no such company" }), "CONTAINER_REFUSED", "exit code 65: no such company"),
        (json!({ "do": "exit", "code": 75, "say": "not now" }), "CONTAINER_EXIT", "exit code 75: not now"),
        (json!({ "do": "die" }), "CONTAINER_EXIT", "wrote nothing"),
        (json!({ "do": "fail" }), "MINE", "as it was told to"),
        (json!({ "do": "raw", "text": "hello" }), "GUEST_BAD_RESULT", "begins with `hello`"),
        (json!({ "do": "flood", "bytes": 3_000_000 }), "GUEST_RESULT_TOO_LARGE", "1048576"),
    ] {
        let trace = host.run("command", params.clone()).await;
        assert_eq!((&trace["status"], code(&trace)), (&json!("FAILED"), expected), "{params}: {trace}");
        assert!(trace["error"]["message"].as_str().unwrap().contains(said), "{params}: {trace}");
    }
    let trace = host.run("command", json!({ "do": "raw", "text": " \n" })).await;
    assert_eq!((&trace["status"], &trace["output"]), (&json!("SUCCESS"), &Value::Null), "{trace}");
    define(&host, "no-image", json!({ "code_ref": "docker://127.0.0.1:9/no/such:image" })).await;
    let trace = host.run("no-image", json!({})).await;
    assert_eq!(code(&trace), "IMAGE_PULL_FAILED", "{trace}");
    until_containers(&host, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_crashes_is_tried_again() {
    let host = tower(&[]).await;
    for definition in both(&host, json!({ "max_retries": 2 })).await {
        let trace = host.run(definition, json!({ "do": "crash_first" })).await;
        assert_eq!((&trace["status"], &trace["output"]["attempt"]), (&json!("SUCCESS"), &json!(2)), "{definition}: {trace}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long_is_stopped() {
    let host = tower(&[]).await;
    for definition in both(&host, json!({ "timeout_sec": 3 })).await {
        let trace = host.run(definition, json!({ "do": "sleep", "ms": 60_000 })).await;
        assert_eq!((&trace["status"], code(&trace)), (&json!("FAILED"), "GUEST_TIMEOUT"), "{definition}: {trace}");
    }
    until_containers(&host, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_container_is_told_to_terminate_and_then_killed() {
    let host = tower(&["--cancel-grace", "2s"]).await;
    for definition in both(&host, json!({})).await {
        for what in ["until_terminated", "until_cancelled", "sleep"] {
            let trace = host.trigger(definition, json!({ "do": what, "ms": 60_000 })).await;
            let path = format!("/api/v1/traces/{trace}");
            let root = host.get(&path).await["root_task_id"].as_str().unwrap().to_owned();
            host.until("a container", "/api/v1/containers", |list| (list["items"][0]["state"] == "running").then_some(())).await;
            host.until("it to run", &format!("/api/v1/tasks/{root}"), |task| (task["phase"] == "EXECUTING").then_some(())).await;
            host.post(&format!("{path}/cancel"), json!({})).await;
            let ended = host.ended(&trace).await;
            assert_eq!(ended["status"], "CANCELLED", "{definition} {what}: {ended}");
            until_containers(&host, 0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_container_ends_early_and_another_goes_on_from_there() {
    // Nobody is killed here: what ends, ends by itself.
    let host = tower(&["--cancel-grace", "60s"]).await;
    for definition in both(&host, json!({})).await {
        let trace = host.trigger(definition, json!({ "do": "until_cancelled" })).await;
        let running = |list: &Value| (list["items"][0]["state"] == "running").then(|| list["items"][0]["name"].clone());
        let first = host.until("a container", "/api/v1/containers", running).await;
        host.post(&format!("/api/v1/traces/{trace}/pause"), json!({})).await;
        let tasks = format!("/api/v1/traces/{trace}/tasks");
        let task = host.until("it to have ended early", &tasks, |page| (page["items"][0]["phase"] == "PAUSED").then(|| page["items"][0].clone())).await;
        until_containers(&host, 0).await;
        host.post(&format!("/api/v1/traces/{trace}/resume"), json!({})).await;
        let second = host.until("another container", "/api/v1/containers", running).await;
        assert_ne!(first, second, "{definition}");
        let root = format!("/api/v1/tasks/{}", task["id"].as_str().unwrap());
        // What the first one left is what the second one begins with.
        host.until("what was carried", &format!("{root}/logs"), |logs| {
            logs["items"].as_array()?.iter().any(|line| line["message"] == "goes on from \"so far\"").then_some(())
        })
        .await;
        host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;
        assert_eq!(host.ended(&trace).await["status"], "CANCELLED", "{definition}");
        let attempts = host.get(&root).await["attempts"].clone();
        assert_eq!((&attempts[0]["result"], attempts.as_array().unwrap().len()), (&json!("PAUSED"), 2), "{attempts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_ready_in_time_is_tried_again() {
    let host = tower(&["--container-ready-within", "1s"]).await;
    for (command, environment, said) in [("serve", json!({ "UNWELL": "1" }), "it answers 503"), ("sleep", json!({}), "GET /health")] {
        define(&host, "service", json!({ "max_retries": 1, "container": { "protocol": "SERVICE", "command": [command], "env": environment } })).await;
        let trace = host.run("service", json!({ "do": "echo" })).await;
        assert_eq!((&trace["status"], code(&trace)), (&json!("FAILED"), "CONTAINER_NOT_READY"), "{trace}");
        assert!(trace["error"]["message"].as_str().unwrap().contains(said), "{trace}");
        let root = host.get(&format!("/api/v1/tasks/{}", trace["root_task_id"].as_str().unwrap())).await;
        assert_eq!(root["attempts"].as_array().unwrap().len(), 2, "{root}");
    }
    until_containers(&host, 0).await;
    let refused = Host::new(&["--container-ready-within", "0"]).begin().await;
    assert!(!refused, "no service is ready at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_be_started_ends_the_task() {
    let engine = Engine::shared();
    let host = tower(&[]).await;
    // Images of nothing at all: one does not say what to run, and one names what is not there.
    for (name, changes, said) in
        [("tower-test/mute", &[][..], "command"), ("tower-test/hollow", &["--change", "ENTRYPOINT [\"/no/such/program\"]"][..], "/no/such/program")]
    {
        engine.import(name, changes, &[0; 1024]);
        for container in [json!({}), json!({ "protocol": "SERVICE" })] {
            define(&host, "code", json!({ "code_ref": format!("docker://{name}"), "max_retries": 3, "container": container })).await;
            let trace = host.run("code", json!({})).await;
            assert_eq!((&trace["status"], code(&trace)), (&json!("FAILED"), "CONTAINER_NOT_STARTED"), "{name}: {trace}");
            assert!(trace["error"]["message"].as_str().unwrap().contains(said), "{name}: {trace}");
            let root = host.get(&format!("/api/v1/tasks/{}", trace["root_task_id"].as_str().unwrap())).await;
            assert_eq!(root["attempts"].as_array().unwrap().len(), 1, "trying again is of no use: {root}");
        }
    }
    until_containers(&host, 0).await;
}
