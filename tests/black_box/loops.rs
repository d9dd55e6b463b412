//! LOOPs: rounds of one trace.

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Host, repository, tower};

async fn put(host: &Host, id: &str, loop_config: Value) {
    let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "schedule_type": "LOOP", "loop_config": loop_config, "max_retries": 0 });
    let (status, body) = host.send(Method::PUT, &format!("/api/v1/definitions/{id}"), Some(spec)).await;
    assert!(status.is_success(), "{body}");
}

async fn rounds(host: &Host, trace: &str) -> Vec<Value> {
    host.all(&format!("/api/v1/traces/{trace}/rounds")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends_when_its_component_says_so_and_each_round_is_kept() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    put(&host, "rounds", json!({ "max_rounds": 100_000 })).await;
    let trace = host.run("rounds", json!({ "do": "last", "rounds": 60 })).await;
    assert_eq!((&trace["status"], &trace["output"]), (&json!("SUCCESS"), &json!({ "round": 59 })), "{trace}");
    let id = trace["trace_id"].as_str().unwrap();
    let kept = rounds(&host, id).await;
    assert_eq!(kept.len(), 60, "over two pages");
    assert!(kept.iter().enumerate().all(|(n, round)| round["round_index"] == n && round["output"]["round"] == n));
    let root = host.get(&format!("/api/v1/tasks/{}", trace["root_task_id"].as_str().unwrap())).await;
    assert_eq!((&root["round_index"], &root["attempt"]), (&json!(59), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_have_children_of_their_own_and_end_at_the_most_that_is_allowed() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    put(&host, "rounds", json!({ "max_rounds": 3 })).await;
    let trace = host.run("rounds", json!({ "do": "split", "n": 4 })).await;
    assert_eq!((&trace["status"], &trace["output"]["count"]), (&json!("SUCCESS"), &json!(4)), "{trace}");
    let id = trace["trace_id"].as_str().unwrap();
    let kept = rounds(&host, id).await;
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|round| round["output"]["count"] == 4 && round["split_count"] == 4));
    let tasks = host.all(&format!("/api/v1/traces/{id}/tasks")).await;
    for round in 0..3 {
        let mut keys: Vec<_> =
            tasks.iter().filter(|task| !task["parent_id"].is_null() && task["round_index"] == round).map(|task| task["key"].as_str().unwrap()).collect();
        keys.sort_unstable();
        assert_eq!(keys.len(), 4, "round {round}");
        keys.dedup();
        assert_eq!(keys.len(), 4, "the same keys are free again in each round");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_waits_between_rounds_over_a_restart_and_is_cancelled_there() {
    let mut host = Host::start(&[]).await;
    host.install("probe").await;
    put(&host, "rounds", json!({ "interval_sec": 1 })).await;
    let trace = host.trigger("rounds", json!({ "do": "task" })).await;
    let path = format!("/api/v1/traces/{trace}");
    let two = |page: &Value| (page["items"].as_array()?.len() >= 2).then(|| page["items"].clone());
    let kept = host.until("two rounds", &format!("{path}/rounds"), two).await;
    assert_eq!((&kept[1]["output"]["round_index"], &kept[1]["output"]["carried"]["round_index"]), (&json!(1), &json!(0)), "{kept}");
    host.kill_9().await;
    host.restart().await;
    let root = host.get(&path).await["root_task_id"].as_str().unwrap().to_owned();
    let waiting = host
        .until("it to wait for a round", &format!("/api/v1/tasks/{root}"), |task| {
            (task["phase"] == "SCHEDULED" && task["round_index"].as_u64()? >= 3).then(|| task.clone())
        })
        .await;
    assert_eq!((&waiting["status"], &waiting["waiting_on"][0]["kind"]), (&json!("PENDING"), &json!("time")), "{waiting}");
    assert_eq!(host.post(&format!("{path}/cancel"), json!({})).await["outcome"], "ORDERED");
    assert_eq!(host.ended(&trace).await["status"], "CANCELLED");
    assert!(rounds(&host, &trace).await.len() >= 3, "what they left stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_fails_ends_the_loop_and_as_a_child_it_runs_once() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    put(&host, "rounds", json!({ "max_rounds": 3 })).await;
    let trace = host.run("rounds", json!({ "do": "fatal", "code": "BROKEN" })).await;
    assert_eq!((&trace["status"], &trace["error"]["code"]), (&json!("FAILED"), &json!("BROKEN")), "{trace}");
    assert!(rounds(&host, trace["trace_id"].as_str().unwrap()).await.is_empty());
    // As a child it runs once.
    let child = json!({ "key": "once", "definition": "rounds", "params": { "do": "echo", "value": 7 } });
    let trace = host.run("probe", json!({ "do": "children", "children": [child], "fold": { "outputs": true } })).await;
    assert_eq!((&trace["status"], &trace["output"]["outputs"]["once"]), (&json!("SUCCESS"), &json!(7)), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monitor_sees_each_change_and_ends_by_its_word() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.txt");
    std::fs::write(&file, "one").unwrap();
    let host = Host::start(&["--mount", &format!("watched={}", folder.path().display())]).await;
    host.install("monitor").await;
    let trace = host.trigger("monitor", json!({})).await;
    let path = format!("/api/v1/traces/{trace}/rounds");
    let rounds = |count: usize| move |page: &Value| (page["items"].as_array()?.len() >= count).then(|| page["items"].clone());
    let seen = host.until("a look", &path, rounds(1)).await;
    assert_eq!((&seen[0]["output"]["bytes"], &seen[0]["output"]["changed"]), (&json!(3), &json!(false)));
    std::fs::write(&file, "other").unwrap();
    host.until("the change to be seen", &path, |page| page["items"].as_array()?.iter().find(|round| round["output"]["changed"] == true).map(|_| ())).await;
    std::fs::write(&file, "DONE").unwrap();
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["output"]["changes"]), (&json!("SUCCESS"), &json!(2)), "{ended}");
}

#[test]
fn the_daily_report_is_made_without_a_server_too() {
    let logs = format!("logs={}", repository().join("examples/daily-report/logs").display());
    let output = tower().args(["run", "example:daily-report", "--mount", &logs]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["files"], &report["errors"], &report["warnings"]), (&json!(2), &json!(2), &json!(1)), "{report}");
}
