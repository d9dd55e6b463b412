//! The command line: what goes to stdout, what the exit codes say, and that the first command of the README does what it says.

mod api;
mod completions;
mod config;
mod dlq;
mod doctor;
mod help;
#[cfg(target_os = "linux")]
mod keys;
mod lists;

use std::process::Output;

use serde_json::{Value, json};

use crate::host::{Host, repository, tower};

fn run(host: Option<&Host>, args: &[&str]) -> Output {
    let mut command = tower();
    if let Some(host) = host {
        command.env("TOWER_URL", &host.url);
    }
    command.args(args).output().unwrap()
}

fn ok(host: Option<&Host>, args: &[&str]) -> String {
    let output = run(host, args);
    assert!(output.status.success(), "{args:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The probe, and a definition of it that is never retried.
async fn install_once(host: &Host) {
    host.install("probe").await;
    let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "max_retries": 0 });
    let (status, body) = host.send(reqwest::Method::PUT, "/api/v1/definitions/probe-once", Some(spec)).await;
    assert!(status.is_success(), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_runs_the_main_job_from_nothing() {
    let source = repository().join("examples");
    let output = run(None, &["demo", "--source", source.to_str().unwrap()]);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    for word in ["fundamental", "sentiment", "technical", "summary", "code-survey", "SUCCESS"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_pushed_applied_triggered_and_watched() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let host = Some(&host);
    let wasm = tempfile::tempdir().unwrap();
    let file = wasm.path().join("probe.wasm");
    std::fs::write(&file, command_tower_examples::find("probe").unwrap().modules[0].wasm).unwrap();
    let file = file.to_str().unwrap();
    assert!(ok(None, &["inspect", file]).contains("command-tower:agent/step@0.1.0"));
    assert!(ok(host, &["push", file, "--name", "mine", "--tag", "v1"]).contains("sha256:"));
    assert!(ok(host, &["modules", "ls"]).contains("mine"));
    assert!(ok(host, &["modules", "wit", "mine:v1"]).contains("export"));
    let manifest = wasm.path().join("tower.toml");
    std::fs::write(&manifest, "[[definition]]\nid = \"mine\"\nactor_type = \"AGENT\"\ncode_ref = \"wasm://mine:v1\"\n").unwrap();
    ok(host, &["apply", "-f", manifest.to_str().unwrap()]);
    assert!(ok(host, &["defs", "ls"]).contains("mine"));

    let id = ok(host, &["trigger", "mine", "-p", "do=split", "-p", "n=3", "-p", "definition=probe-exec"]);
    let id = id.trim();
    assert_eq!(id.len(), 26, "the id alone: {id}");
    let watched = run(host, &["watch", id]);
    assert_eq!(watched.status.code(), Some(0), "{watched:?}");
    assert!(String::from_utf8_lossy(&watched.stdout).contains("SUCCESS"));
    let shown: Value = serde_json::from_str(&ok(host, &["traces", "--json"])).unwrap();
    assert_eq!(shown["items"][0]["trace_id"], json!(id));
    assert!(ok(host, &["tasks", id]).contains("SUCCESS"));
    ok(host, &["logs", id]);
    let printing = ok(
        host,
        &[
            "trigger",
            "probe",
            "-p",
            "do=children",
            "-p",
            r#"children=[{"key":"a","params":{"do":"print","stdout":"from a\\n"}},{"key":"b","params":{"do":"print","stdout":"from b\\n"}}]"#,
            "--wait",
            "--json",
        ],
    );
    let printing: Value = serde_json::from_str(&printing).unwrap();
    let tasks: Value = serde_json::from_str(&ok(host, &["tasks", printing["trace_id"].as_str().unwrap(), "--json"])).unwrap();
    let a = tasks["items"].as_array().unwrap().iter().find(|task| task["key"] == "a").unwrap();
    let followed = ok(host, &["logs", "-f", &format!("tsk_{}", a["id"].as_str().unwrap())]);
    assert!(followed.contains("from a") && !followed.contains("from b"), "{followed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_happened() {
    let host = Host::start(&["--cancel-grace", "100ms"]).await;
    host.install("probe").await;
    let some = Some(&host);
    let code = |output: &Output| output.status.code().unwrap();
    assert_eq!(code(&run(some, &["trigger", "probe", "-p", "do=echo", "--wait"])), 0);
    assert_eq!(code(&run(some, &["trigger", "probe", "-p", "do=fatal", "--wait"])), 1);
    assert_eq!(code(&run(some, &["trigger"])), 2);
    let missing = run(some, &["trigger", "nobody"]);
    assert_eq!(code(&missing), 3);
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(said.contains("nobody") && said.contains("help:"), "{said}");
    assert!(missing.stdout.is_empty());
    let as_json = run(some, &["trigger", "nobody", "--json"]);
    let problem: Value = serde_json::from_slice(if as_json.stdout.is_empty() { &as_json.stderr } else { &as_json.stdout }).unwrap();
    assert_eq!(problem["code"], "NO_SUCH_DEFINITION");
    let mut unreachable = tower();
    unreachable.env("TOWER_URL", "http://127.0.0.1:1").args(["traces"]);
    assert_eq!(code(&unreachable.output().unwrap()), 6);
    let nap = host.trigger("probe", json!({ "do": "nap_in_host", "ms": 60000 })).await;
    assert_eq!(code(&run(some, &["cancel", &nap])), 0);
    assert_eq!(host.ended(&nap).await["status"], "CANCELLED");
    assert_eq!(code(&run(some, &["watch", &nap])), 8);
}

#[test]
fn a_component_runs_with_no_server() {
    let output = run(None, &["run", "example:probe", "-p", "do=fatal", "-p", "code=NO_DATA"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("NO_DATA") || String::from_utf8_lossy(&output.stdout).contains("NO_DATA"));
    let output = run(None, &["run", "example:probe", "-p", "do=loop", "--cancel-after", "200ms"]);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    let output = run(None, &["run", "example:nobody"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("financial-analysis"), "it says what there is");
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_on_a_terminal_draws_its_tree_and_ends() {
    // `script` lends a terminal. Several times: what went wrong here once was a race.
    for _ in 0..5 {
        let line = format!("{} run example:probe -p do=split -p n=20", env!("CARGO_BIN_EXE_tower"));
        let output =
            std::process::Command::new("timeout").args(["60", "script", "-qec", &line, "/dev/null"]).stdin(std::process::Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{:?}: {said}", output.status);
        assert!(said.contains('\u{1b}') && said.contains("SUCCESS"), "{said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_are_no_success() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = tower().args(["run", "example:probe", "-p", "do=echo"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_kept_apart_is_printed_all_the_same() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let here = ok(None, &["run", "example:probe", "-p", "do=big_output", "-p", "bytes=100000"]);
    let there = ok(Some(&host), &["trigger", "probe", "-p", "do=big_output", "-p", "bytes=100000", "--wait"]);
    assert!(here.len() > 99_000 && here == there, "{} and {} bytes", here.len(), there.len());
    let body: Value = serde_json::from_str(&ok(None, &["run", "example:probe", "-p", "do=big_output", "-p", "bytes=100000", "--json"])).unwrap();
    assert_eq!((body["output"].as_str().map(str::len), &body["output_ref"]), (Some(99_998), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_told_which_trace_it_is_and_that_it_goes_on() {
    let host = Host::start(&["--cancel-grace", "100ms"]).await;
    host.install("probe").await;
    let waited = run(Some(&host), &["trigger", "probe", "-p", "do=nap_in_host", "-p", "ms=60000", "--wait=300ms"]);
    assert_eq!(waited.status.code(), Some(7));
    let said = String::from_utf8_lossy(&waited.stderr);
    let id = said.lines().next().unwrap().strip_prefix("trace ").unwrap();
    assert!(said.contains(&format!("tower watch {id}")) && said.contains(&format!("tower cancel {id}")), "{said}");
    ok(Some(&host), &["cancel", id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_with_a_mistake_changes_nothing_and_names_it() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let before = ok(Some(&host), &["defs", "ls", "-o", "id"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tower.toml");
    let one = |id: &str, more: &str| format!("[[definition]]\nid = \"{id}\"\nactor_type = \"AGENT\"\ncode_ref = \"wasm://probe\"\n{more}\n");
    for (second, named) in [(one("second", "priority = 44"), "/priority"), (one("second", "nonsense = 1"), "nonsense"), (one("first", ""), "twice")] {
        std::fs::write(&file, one("first", "") + &second).unwrap();
        let refused = run(Some(&host), &["apply", "-f", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(named) && said.contains("definition `"), "{said}");
        assert_eq!(ok(Some(&host), &["defs", "ls", "-o", "id"]), before);
    }
    std::fs::write(&file, one("first", "") + &one("second", "capabilities = { workspace = \"nowhere\" }")).unwrap();
    let partly = run(Some(&host), &["apply", "-f", file.to_str().unwrap(), "-o", "id"]);
    assert_eq!(partly.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&partly.stdout), "first\nsecond\n");
    assert!(String::from_utf8_lossy(&partly.stderr).contains("--mount"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_start_says_what_to_do() {
    let host = Host::start(&[]).await;
    let data = host.data.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("data");
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let address = host.url.strip_prefix("http://").unwrap();
    for (args, code, help) in [
        (["serve", "--listen", "127.0.0.1:0", "--data-dir", data], 5, "--data-dir"),
        (["serve", "--listen", address, "--data-dir", other.to_str().unwrap()], 5, "--listen"),
        (["serve", "--listen", "127.0.0.1:0", "--data-dir", file.to_str().unwrap()], 2, "--data-dir"),
    ] {
        let refused = run(None, &args);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains("help:") && said.contains(help) && refused.stdout.is_empty(), "{said}");
    }
}
