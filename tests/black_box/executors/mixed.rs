//! One trace whose strategies are run by a component, a worker in Python and a container.

use std::process::Stdio;

use serde_json::{Value, json};
use tower_test_docker::Engine;

use crate::host::{Host, repository, tower};

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_runs_in_a_component_a_worker_in_python_and_a_container() {
    let engine = Engine::shared();
    engine.build("examples/mixed-strategies/image.sh", &[]);
    let host = Host::start(&["--docker", &format!("unix://{}", engine.socket().display())]).await;
    host.install("financial-analysis").await;
    let params = json!({ "company": "Tesla", "fiscal_year": 2024 });
    let by_components = host.run("financial-analysis", params.clone()).await;
    let example = repository().join("examples/mixed-strategies");
    let applied = tower().args(["--url", &host.url, "apply", "-f"]).arg(example.join("workers.toml")).output().unwrap();
    assert!(applied.status.success(), "{applied:?}");
    let mut worker = tokio::process::Command::new("python3");
    let _worker = worker.arg(example.join("sentiment.py")).arg(&host.url).kill_on_drop(true).stdout(Stdio::null()).spawn().unwrap();

    let trace = host.run("financial-analysis", params.clone()).await;
    assert_eq!((&trace["status"], &trace["counts"]["success"], &trace["partial"]), (&json!("SUCCESS"), &json!(5), &json!(false)), "{trace}");
    let tasks = host.tasks(trace["trace_id"].as_str().unwrap()).await;
    let lane = |key: &str| tasks[key]["lane"].as_str().unwrap().to_owned();
    assert_eq!([lane("fundamental"), lane("sentiment"), lane("technical")], ["wasm", "worker/sentiment", "docker"], "{tasks:?}");
    assert!((0.0..=1.0).contains(&tasks["sentiment"]["output"]["score"].as_f64().unwrap()), "{tasks:?}");
    // The same code came to the same, whatever ran it.
    let technical = |trace: &Value| trace["output"]["strategies"]["technical"].clone();
    assert_eq!(technical(&trace), technical(&by_components), "{trace}");
    for (key, said) in [("sentiment", "good words"), ("technical", "in 12 months")] {
        let logs = host.get(&format!("/api/v1/tasks/{}/logs", tasks[key]["id"].as_str().unwrap())).await;
        assert!(logs["items"].as_array().unwrap().iter().any(|line| line["message"].as_str().unwrap().contains(said)), "{key}: {logs}");
    }
    // What they are told, they do.
    for told in ["sentiment", "technical"] {
        let failed = host.run("financial-analysis", json!({ "company": "Tesla", "fiscal_year": 2024, "fail": told })).await;
        assert_eq!(
            (&failed["status"], &failed["partial"], &failed["output"]["missing"][0]["strategy"]),
            (&json!("SUCCESS"), &json!(true), &json!(told)),
            "{failed}"
        );
    }
    let listed = tower().args(["--url", &host.url, "executors"]).output().unwrap();
    let shown = String::from_utf8(listed.stdout).unwrap();
    for lane in ["worker/sentiment", "docker"] {
        assert!(shown.lines().any(|line| line.starts_with(lane)), "{lane}: {shown}");
    }
}
