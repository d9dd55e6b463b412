//! Traces that run to their end: the examples, and the semantics of splitting, dependencies, aggregation and retries.

use serde_json::{Value, json};

use crate::host::{Host, repository, tower};

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_split_answered_and_summed_up() {
    let host = Host::start(&[]).await;
    host.install("financial-analysis").await;
    let trace = host.run("financial-analysis", json!({ "company": "Tesla", "fiscal_year": 2024 })).await;
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    assert_eq!(trace["partial"], false);
    assert_eq!(trace["output"]["complete"], true);
    let tasks = host.tasks(trace["trace_id"].as_str().unwrap()).await;
    assert_eq!(tasks.len(), 5);
    for (key, actor) in [("root", "AGENT"), ("fundamental", "EXECUTION"), ("sentiment", "EXECUTION"), ("technical", "EXECUTION"), ("summary", "GROUP_AGG")] {
        assert_eq!((&tasks[key]["status"], &tasks[key]["actor_type"]), (&json!("SUCCESS"), &json!(actor)), "{key}");
    }
    assert_eq!((&tasks["root"]["split_count"], &tasks["root"]["completed_children"]), (&json!(4), &json!(4)));
    // The summary began after all that it depends on had ended.
    for key in ["fundamental", "sentiment", "technical"] {
        assert!(tasks[key]["finished_at"].as_str() <= tasks["summary"]["started_at"].as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_strategy_leaves_a_partial_success_and_is_made_good_by_a_retry() {
    let host = Host::start(&[]).await;
    host.install("financial-analysis").await;
    let trace = host.run("financial-analysis", json!({ "company": "Tesla", "fiscal_year": 2024, "fail": "technical" })).await;
    assert_eq!((&trace["status"], &trace["partial"]), (&json!("SUCCESS"), &json!(true)), "{trace}");
    assert_eq!(trace["output"]["complete"], false);
    assert!(trace["output"]["missing"].to_string().contains("technical"), "{}", trace["output"]);
    let id = trace["trace_id"].as_str().unwrap();
    let tasks = host.tasks(id).await;
    assert_eq!(tasks["technical"]["status"], "FAILED");
    for key in ["fundamental", "sentiment"] {
        assert_eq!(tasks[key]["status"], "SUCCESS");
        assert!(trace["output"]["strategies"].to_string().contains(key));
    }
    // The retry takes over the two results and runs the rest: the strategy that failed, the summary that depends on it, the answer.
    let again = host.post(&format!("/api/v1/traces/{id}/retry"), json!({ "reason": "once more" })).await;
    let again = host.ended(again["trace_id"].as_str().unwrap()).await;
    assert_eq!((&again["rerun_of"], &again["trigger_type"]), (&json!(id), &json!("REPLAY")));
    let retried = host.tasks(again["trace_id"].as_str().unwrap()).await;
    for key in ["fundamental", "sentiment"] {
        assert_eq!((&retried[key]["phase"], &retried[key]["output"]), (&json!("CACHED"), &tasks[key]["output"]), "{key}");
        assert_eq!(retried[key]["fence"], 0, "{key} was not run again");
    }
    assert_eq!(retried["technical"]["fence"], 1);
    assert_eq!(retried["summary"]["fence"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_runs_again_from_one_of_its_tasks_with_other_params() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let children = json!([
        { "key": "kept", "params": { "do": "random" } },
        { "key": "one", "params": { "do": "add", "values": [1] } },
        { "key": "sum", "params": { "do": "add", "values": [10] }, "after": ["one"] },
    ]);
    let old = host.run("probe", json!({ "do": "children", "children": children, "fold": { "outputs": true } })).await;
    assert_eq!(old["output"]["outputs"]["sum"], 11, "{old}");
    let id = old["trace_id"].as_str().unwrap();
    let one = host.tasks(id).await["one"]["id"].as_str().unwrap().to_owned();
    let cli = |args: &[&str]| {
        let output = tower().args(["--url", &host.url]).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap().trim().to_owned(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, new, stderr) = cli(&["rerun", id, "--from", &one, "-p", "values=[5]", "--reason", "a better guess"]);
    assert_eq!(code, Some(0), "{stderr}");
    let again = host.ended(&new).await;
    assert_eq!((&again["rerun_of"], &again["output"]["outputs"]["sum"]), (&json!(id), &json!(15)), "{again}");
    assert_eq!(again["output"]["outputs"]["kept"], old["output"]["outputs"]["kept"], "taken over");
    let tasks = host.tasks(&new).await;
    assert_eq!((&tasks["one"]["input_params"], &tasks["kept"]["phase"]), (&json!({ "do": "add", "values": [5] }), &json!("CACHED")));
    let orders = host.get(&format!("/api/v1/traces/{id}/control-events")).await;
    assert_eq!((&orders["items"][0]["task_id"], &orders["items"][0]["reason"]), (&json!(one), &json!("a better guess")));
    // The whole with other params; and what cannot be.
    let (_, whole, _) = cli(&["rerun", id, "-p", "do=echo", "-p", "value=7"]);
    assert_eq!(host.ended(&whole).await["output"], 7);
    let (code, _, stderr) = cli(&["rerun", id, "-p", "do=1"]);
    assert!(code == Some(2) && stderr.contains("PARAMS_INVALID") && stderr.contains("/params/do"), "{code:?} {stderr}");
    let foreign = json!({ "from": again["root_task_id"] });
    let (status, body) = host.send(reqwest::Method::POST, &format!("/api/v1/traces/{id}/rerun"), Some(foreign)).await;
    assert_eq!((status.as_u16(), &body["code"]), (404, &json!("NO_SUCH_TASK")), "{body}");
    // Whose they are.
    let mine = host.post("/api/v1/traces", json!({ "definition": "probe-exec", "user_id": "ada" })).await;
    let page = host.get("/api/v1/users/ada/traces").await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["items"][0]["trace_id"]), (1, &mine["trace_id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_tree_is_counted_as_find_and_wc_count_it() {
    let source = repository();
    let host = Host::start(&["--mount", &format!("source={}", source.display())]).await;
    host.install("code-survey").await;
    let params = json!({ "path": "", "include": ["*.rs", "*.toml", "*.wit", "*.md", "*.sql"], "exclude": [".git", "target"] });
    let trace = host.run("code-survey", params.clone()).await;
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    let names = ["*.rs", "*.toml", "*.wit", "*.md", "*.sql"];
    let find =
        format!("find . \\( -name .git -o -name target \\) -prune -o -type f \\( {} \\) -print0", names.map(|name| format!("-name '{name}'")).join(" -o "));
    let count = |pipe: &str| -> u64 {
        let output = std::process::Command::new("sh").arg("-c").arg(format!("{find} | {pipe}")).current_dir(&source).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    assert_eq!(trace["output"]["lines"], count("xargs -0 cat | wc -l"));
    assert_eq!(trace["output"]["bytes"], count("xargs -0 cat | wc -c"));
    assert_eq!(trace["output"]["files"], count("tr -cd '\\0' | wc -c"));
    // A task for every folder, and nothing but the sandbox differs when it is run without a server.
    assert_eq!(trace["counts"]["total"], trace["output"]["folders"]);
    let local = run_locally("example:code-survey", &params, &["--mount", &format!("source={}", source.display())]);
    assert_eq!(local, trace["output"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_result_is_the_same() {
    let host = Host::start(&[]).await;
    host.install("financial-analysis").await;
    for fail in ["", "sentiment"] {
        let params = json!({ "company": "Tesla", "fiscal_year": 2024, "question": "How did it do?", "pace_ms": 0, "fail": fail });
        let trace = host.run("financial-analysis", params.clone()).await;
        assert_eq!(run_locally("example:financial-analysis", &params, &[]), trace["output"]);
    }
}

/// The output of `tower run --json`, in an empty folder that stays empty.
fn run_locally(target: &str, params: &Value, args: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("params.json"), params.to_string()).unwrap();
    let output = tower().args(["run", target, "--params", "params.json", "--json"]).args(args).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no file was left behind");
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(body["status"], "SUCCESS");
    body["output"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn children_run_after_what_they_depend_on_and_see_its_output() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let children = json!([
        { "key": "one", "params": { "do": "echo", "value": 1 } },
        { "key": "two", "params": { "do": "echo", "value": 2 } },
        { "key": "sum", "params": { "do": "add", "values": [10] }, "after": ["one", "two"] },
        { "key": "twice", "params": { "do": "add" }, "after": ["sum", "one"] },
    ]);
    let trace = host.run("probe", json!({ "do": "children", "children": children })).await;
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    let tasks = host.tasks(trace["trace_id"].as_str().unwrap()).await;
    assert_eq!(tasks["sum"]["output"].as_f64(), Some(13.0));
    assert_eq!(tasks["twice"]["output"].as_f64(), Some(14.0));
    assert_eq!(tasks["sum"]["depends_on"], json!(["one", "two"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_a_failure_is_skipped_unless_it_asked_not_to_be() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let children = json!([
        { "key": "bad", "params": { "do": "fatal", "code": "NO_DATA", "message": "there is none" } },
        { "key": "good", "params": { "do": "echo", "value": 1 } },
        { "key": "needs", "params": { "do": "echo", "value": 1 }, "after": ["bad"] },
        { "key": "needs-needs", "params": { "do": "echo", "value": 1 }, "after": ["needs", "good"] },
        { "key": "anyway", "params": { "do": "echo", "value": 7 }, "after": ["bad", "good"], "finished": true },
    ]);
    let trace = host.run("probe", json!({ "do": "children", "children": children })).await;
    assert_eq!((&trace["status"], &trace["partial"]), (&json!("SUCCESS"), &json!(true)), "{trace}");
    let tasks = host.tasks(trace["trace_id"].as_str().unwrap()).await;
    let status = |key: &str| tasks[key]["status"].as_str().unwrap();
    assert_eq!((status("bad"), status("needs"), status("needs-needs"), status("anyway")), ("FAILED", "SKIPPED", "SKIPPED", "SUCCESS"));
    assert_eq!((&tasks["bad"]["error_code"], &tasks["bad"]["error_msg"]), (&json!("NO_DATA"), &json!("there is none")));
    assert_eq!(tasks["bad"]["fence"], 1, "a fatal error is not retried");
    let good = host.get(&format!("/api/v1/tasks/{}", tasks["good"]["id"].as_str().unwrap())).await;
    assert_eq!((good["attempts"].as_array().unwrap().len(), &good["attempts"][0]["result"]), (1, &json!("SUCCESS")));
    assert_eq!(trace["counts"], json!({ "total": 6, "pending": 0, "running": 0, "success": 3, "failed": 1, "cancelled": 0, "skipped": 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_counted_kept_and_spent() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.run("probe-exec", json!({ "do": "retryable", "until": 3 })).await;
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    let task = host.get(&format!("/api/v1/tasks/{}", trace["root_task_id"].as_str().unwrap())).await;
    let results: Vec<_> = task["attempts"].as_array().unwrap().iter().map(|attempt| attempt["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["RETRYABLE", "RETRYABLE", "SUCCESS"], "{task}");

    let trace = host.run("probe-exec", json!({ "do": "retryable" })).await;
    assert_eq!(trace["status"], "FAILED");
    let root = trace["root_task_id"].as_str().unwrap();
    let task = host.get(&format!("/api/v1/tasks/{root}")).await;
    assert_eq!((&task["phase"], task["attempts"].as_array().unwrap().len()), (&json!("DEAD_LETTER"), 4));
    let letters = host.all("/api/v1/dead-letters").await;
    assert_eq!(letters.iter().map(|letter| &letter["id"]).collect::<Vec<_>>(), [root]);
    // Retried, it is no longer open.
    let answer = host.post("/api/v1/dead-letters/retry", json!({ "task_ids": [root] })).await;
    assert!(host.all("/api/v1/dead-letters").await.is_empty(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_children_are_folded_without_being_held_at_once() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.run("probe", json!({ "do": "split", "n": 1500, "params": { "do": "echo", "value": 1 }, "group": "probe-group" })).await;
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    assert_eq!(trace["counts"]["success"], 1502);
    let tasks = host.all(&format!("/api/v1/traces/{}/tasks?actor_type=GROUP_AGG", trace["trace_id"].as_str().unwrap())).await;
    assert_eq!((tasks.len(), &tasks[0]["output"]["sum"]), (1, &json!(1500)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_siblings_names_those_that_are_open() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let nap = json!({ "do": "nap_in_host", "ms": 60_000 });
    let children = json!([
        { "key": "quick", "params": { "do": "echo" } }, { "key": "slow", "params": nap }, { "key": "slower", "params": nap },
        { "key": "late", "params": { "do": "echo" }, "after": ["slower", "quick", "slow"] },
    ]);
    let trace = host.trigger("probe", json!({ "do": "children", "children": children })).await;
    let list = format!("/api/v1/traces/{trace}/tasks");
    let of = |list: &Value, key: &str| list["items"].as_array().unwrap().iter().find(|task| task["key"] == key).cloned();
    let late = host.until("the quick one to end", &list, |list| of(list, "late").filter(|late| late["open_deps"] == 2)).await;
    let id = late["id"].as_str().unwrap();
    let waits = |body: &Value| -> Vec<(Value, Value)> {
        body["waiting_on"].as_array().unwrap().iter().map(|wait| (wait["ref"].clone(), wait["open"].clone())).collect()
    };
    assert_eq!(waits(&late), [(Value::Null, json!(2))], "a list counts them");
    let task = host.get(&format!("/api/v1/tasks/{id}")).await;
    assert_eq!(waits(&task), [(json!("slow"), json!(1)), (json!("slower"), json!(1))]);
    assert_eq!((&task["waiting_on"][0]["kind"], &task["waiting_on"][0]["since"]), (&json!("dependency"), &task["updated_at"]));
    let output = tower().args(["--url", &host.url, "task", id]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("siblings slow, slower\n"), "{said}");
    // Of very many, a hundred are named.
    let wide = json!({ "do": "split", "n": 150, "params": nap, "group": "probe-group" });
    let wide = host.trigger("probe", wide).await;
    let groups = format!("/api/v1/traces/{wide}/tasks?actor_type=GROUP_AGG");
    let group = host.until("the split", &groups, |list| list["items"][0]["id"].as_str().map(str::to_owned)).await;
    let named = waits(&host.get(&format!("/api/v1/tasks/{group}")).await);
    assert_eq!((named.len(), &named[100]), (101, &(Value::Null, json!(50))));
    assert!(named[..100].iter().all(|(name, open)| name.is_string() && *open == 1), "{named:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_may_split_again() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.run("probe", json!({ "do": "split", "n": 2, "params": { "do": "echo", "value": 1 }, "fold": { "phases": 2 } })).await;
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    let root = host.get(&format!("/api/v1/tasks/{}", trace["root_task_id"].as_str().unwrap())).await;
    assert!(root["split_count"].as_u64().unwrap() > 2, "{root}");
    assert_eq!(root["split_count"], root["completed_children"]);
    assert!(root["fence"].as_u64().unwrap() >= 3, "{root}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_grow_to_any_depth_within_their_bounds() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.run("probe", json!({ "do": "tree", "width": 3, "depth": 4 })).await;
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    assert_eq!(trace["counts"]["total"], 1 + 3 + 9 + 27 + 81);
    let deepest = host.all(&format!("/api/v1/traces/{}/tasks?layer=4", trace["trace_id"].as_str().unwrap())).await;
    assert_eq!(deepest.len(), 81);
    let path = deepest[0]["node_path"].as_str().unwrap();
    assert_eq!(path.matches('/').count(), 1 + 1 + 5, "{path}");
    assert!(path.starts_with(&format!("/{}/{}/", trace["trace_id"].as_str().unwrap(), trace["root_task_id"].as_str().unwrap())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_split_is_told_to_the_guest_and_registers_nothing() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let cases = [
        (json!([{ "key": "a", "after": ["a"] }]), "CYCLE"),
        (json!([{ "key": "a", "after": ["b"] }, { "key": "b", "after": ["a"] }]), "CYCLE"),
        (json!([{ "key": "a", "after": ["ghost"] }]), "UNKNOWN_DEPENDENCY"),
        (json!([{ "key": "a", "definition": "nobody" }]), "UNKNOWN_DEFINITION"),
        (json!([{ "key": "a/b" }]), "INVALID_CHILD"),
    ];
    for (children, code) in cases {
        let trace = host.run("probe", json!({ "do": "children", "children": children, "catch": true })).await;
        assert_eq!(trace["status"], "SUCCESS", "{trace}");
        let said = trace["output"].to_string().to_uppercase().replace('-', "_");
        assert!(said.contains(code), "{code}: {said}");
        assert_eq!(trace["counts"]["total"], 1);
    }
    let trace = host.run("probe-exec", json!({ "do": "split", "n": 1 })).await;
    assert_eq!((&trace["status"], &trace["counts"]["total"]), (&json!("FAILED"), &json!(1)), "an EXECUTION never splits");
}
