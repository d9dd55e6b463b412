//! The example of everything that a module should not do: its README says how each case ends, and this is held against what happens.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::host::{Host, tower};

/// The tables of the README: definition → how it ends. First those that run, then those that are refused when they are uploaded.
fn promised() -> [BTreeMap<String, String>; 2] {
    let readme = command_tower_examples::find("misbehaving").unwrap().readme;
    let (runs, refused) = readme.split_once("Some need not be run").unwrap();
    [runs, refused].map(|part| {
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |"));
        rows.map(|row| (row.split_once('`').unwrap().0.to_owned(), row.rsplit_once('`').unwrap().1.to_owned())).collect()
    })
}

#[test]
fn everything_at_once_ends_as_the_readme_says() {
    let [runs, _] = promised();
    let output = tower().args(["run", "example:misbehaving"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ends: BTreeMap<String, String> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ends, runs);
    assert!(runs.len() > 15);
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("database lost") && !shown.contains('\u{7}') && !shown.contains('\u{202e}'), "{shown}");
}

#[test]
fn modules_that_are_no_good_are_refused_as_the_readme_says() {
    let [_, refused] = promised();
    assert!(refused.len() > 9);
    for (definition, code) in refused {
        let wanted = format!("example:misbehaving/{definition}");
        let output = tower().args(["run", &wanted, "--json", "--compile-cpu-sec-max", "2"]).output().unwrap();
        let problem: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!((output.status.code(), &problem["code"]), (Some(2), &Value::from(code)), "{definition}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w22_w24_floods_of_reports_leave_little_behind() {
    let host = Host::start(&[]).await;
    host.install("misbehaving").await;
    for (definition, events_max) in [("flood-log", 10_000), ("flood-progress", 1_000)] {
        let trace = host.run(definition, serde_json::json!({})).await;
        assert_eq!(trace["status"], "SUCCESS", "{trace}");
        let id = trace["trace_id"].as_str().unwrap();
        let last = host.get(&format!("/api/v1/traces/{id}/events?after={events_max}")).await;
        assert_eq!(last["items"].as_array().unwrap().len(), 0, "{definition}: no more than {events_max} events are kept of 300 000");
    }
    let trace = host.run("flood-log", serde_json::json!({})).await;
    let logs = host.all(&format!("/api/v1/traces/{}/logs", trace["trace_id"].as_str().unwrap())).await;
    assert!(logs.last().unwrap()["message"].as_str().unwrap().contains("is cut here"), "the mark stands where it was cut");
}
