use super::*;
use crate::cli::term::PLAIN;

const TRACE: &str = "01JD3R5N7Q8V9W0X1Y2Z3A4B5C";

fn id(number: usize) -> String {
    format!("01JD3R5N7Q8V9W0X1Y2Z3A{number:04}")
}

fn trace(status: &str, total: u64) -> TraceBody {
    let ended = status != "RUNNING";
    serde_json::from_value(serde_json::json!({
        "trace_id": TRACE, "root_task_id": id(0), "definition_id": "research", "definition_version": 1, "status": status, "cancelling": false, "paused": false,
        "partial": false, "progress": 60, "counts": { "total": total, "pending": 0, "running": 0, "success": total, "failed": 0, "cancelled": 0, "skipped": 0 },
        "user_id": "", "trigger_type": "API", "triggered_by": "api", "idempotency_key": null, "rerun_of": null, "labels": {}, "params": {},
        "output": null, "output_ref": null, "error": null, "last_seq": 9, "created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:00Z",
        "finished_at": ended.then_some("2026-01-01T00:00:11.2Z"), "links": { "self": "", "tasks": "", "events": "" },
    }))
    .unwrap()
}

fn task(number: usize, parent: Option<usize>, key: &str, actor: &str, phase: &str, more: serde_json::Value) -> TaskBody {
    let status = match phase {
        "DONE" => "SUCCESS",
        "DEAD_LETTER" => "FAILED",
        "EXECUTING" | "WAITING_CHILDREN" | "AGGREGATING" => "RUNNING",
        _ => "PENDING",
    };
    let started = (status != "PENDING").then_some("2026-01-01T00:00:01Z");
    let mut body = serde_json::json!({
        "id": id(number), "trace_id": TRACE, "parent_id": parent.map(id), "job_id": "research", "definition_version": 1, "key": key,
        "actor_type": actor, "role": "", "layer": 0, "depth": 0, "is_leaf_agent": false, "node_path": "", "round_index": 0, "status": status,
        "phase": phase, "cancelling": false, "paused": false, "waiting_on": [], "depends_on": [], "run_on": "SUCCESS", "open_deps": 0, "split_count": 0,
    });
    let rest = serde_json::json!({
        "completed_children": 0, "succeeded_children": 0, "priority": 5, "attempt": 1, "max_retries": 2, "timeout_sec": 60, "run_after": null,
        "lease_owner": null, "lease_expires_at": null, "fence": 1, "input_params": {}, "output": null, "output_ref": null, "progress": 0,
        "progress_message": "", "error_code": null, "error_msg": null, "created_at": "2026-01-01T00:00:00Z", "started_at": started,
        "finished_at": matches!(phase, "DONE" | "DEAD_LETTER").then_some("2026-01-01T00:00:02.9Z"), "updated_at": "2026-01-01T00:00:00Z",
    });
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

fn now() -> Timestamp {
    serde_json::from_str("\"2026-01-01T00:00:04Z\"").unwrap()
}

fn research() -> Vec<TaskBody> {
    let wait = serde_json::json!({ "kind": "dependency", "ref": null, "open": 2, "since": "2026-01-01T00:00:00Z", "until": null });
    vec![
        task(0, None, "root", "AGENT", "WAITING_CHILDREN", serde_json::json!({ "split_count": 4, "completed_children": 1 })),
        task(1, Some(0), "fundamental", "EXECUTION", "DONE", serde_json::json!({ "progress_message": "score 0.87" })),
        task(2, Some(0), "sentiment", "EXECUTION", "EXECUTING", serde_json::json!({ "progress": 62, "progress_message": "filing 14 of 22" })),
        task(
            3,
            Some(0),
            "technical",
            "EXECUTION",
            "BACKOFF",
            serde_json::json!({ "attempt": 2, "run_after": "2026-01-01T00:00:08Z", "error_code": "TOOL_UNAVAILABLE", "error_msg": "quote-feed 503" }),
        ),
        task(4, Some(0), "summary", "GROUP_AGG", "WAITING_DEPS", serde_json::json!({ "open_deps": 2, "waiting_on": [wait] })),
    ]
}

#[test]
fn a_tree_says_state_time_and_why_it_waits() {
    let text = lines(&PLAIN, Window::WHOLE, &trace("RUNNING", 5), &research(), now()).join("\n");
    insta::assert_snapshot!(text, @r"
    ● research        AGENT      RUNNING     3.00s  waits for 3 of 4 children
    ├─ ✓ fundamental  EXECUTION  SUCCESS     1.90s  score 0.87
    ├─ ● sentiment    EXECUTION  RUNNING     3.00s  ████░░░░  62%  filing 14 of 22
    ├─ ◌ technical    EXECUTION  PENDING            retry 2 of 2 in 4.00s  TOOL_UNAVAILABLE quote-feed …
    └─ ◌ summary      GROUP_AGG  PENDING            waits for sentiment, technical
    ");
}

#[test]
fn ascii_has_signs_for_everything() {
    let term = Term { ascii: true, ..PLAIN };
    let text = lines(&term, Window::WHOLE, &trace("RUNNING", 5), &research(), now()).join("\n");
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn many_siblings_are_counted_and_the_failed_ones_shown() {
    let mut tasks = vec![task(0, None, "root", "AGENT", "WAITING_CHILDREN", serde_json::json!({ "split_count": 1000, "completed_children": 90 }))];
    tasks.extend((1..100).map(|n| task(n, Some(0), &format!("c{n}"), "EXECUTION", if n == 50 { "DEAD_LETTER" } else { "DONE" }, serde_json::json!({}))));
    let text = lines(&PLAIN, Window { siblings: 3, lines: 100 }, &trace("RUNNING", 1001), &tasks, now()).join("\n");
    insta::assert_snapshot!(text, @r"
    ● research  AGENT      RUNNING     3.00s  waits for 910 of 1000 children
    ├─ ✓ c1     EXECUTION  SUCCESS     1.90s
    ├─ ✓ c2     EXECUTION  SUCCESS     1.90s
    ├─ ✗ c50    EXECUTION  FAILED      1.90s
    └─ … 997 more (96 SUCCESS, 901 not read)
    ");
}

#[test]
fn a_live_tree_fits_the_terminal() {
    let mut tasks = vec![task(0, None, "root", "AGENT", "WAITING_CHILDREN", serde_json::json!({ "split_count": 50 }))];
    tasks.extend((1..=50).map(|n| task(n, Some(0), &format!("c{n}"), "EXECUTION", "QUEUED", serde_json::json!({}))));
    let term = Term { height: 12, ..PLAIN };
    assert!(lines(&term, Window::live(&term), &trace("RUNNING", 51), &tasks, now()).len() <= 11);
}

#[test]
fn wide_messages_are_cut_at_the_edge() {
    let tasks = [task(0, None, "root", "AGENT", "EXECUTING", serde_json::json!({ "progress": 10, "progress_message": "正在读取文件".repeat(20) }))];
    let term = Term { width: 80, ..PLAIN };
    for line in lines(&term, Window::WHOLE, &trace("RUNNING", 1), &tasks, now()) {
        assert!(width(&line) <= 80, "{} cells: {line}", width(&line));
    }
}

#[test]
fn the_lines_around_the_tree() {
    let head = headline(&PLAIN, &trace("RUNNING", 5), now());
    assert_eq!(head, format!("● RUNNING  research  {TRACE}  ██████░░░░  60%  4.00s"));
    let mut ended = trace("SUCCESS", 5);
    ended.partial = true;
    ended.counts.failed = 1;
    assert_eq!(summary(&PLAIN, &ended, now()), "SUCCESS (partial)  11.2s  5 tasks, 1 failed");
}

#[test]
fn what_waits_for_many_siblings_names_a_few_and_counts_them_where_they_were_not_all_read() {
    let keys: Vec<String> = (1..=6).map(|n| format!("c{n}")).collect();
    let mut tasks = vec![task(0, None, "root", "AGENT", "WAITING_CHILDREN", serde_json::json!({ "split_count": 7 }))];
    tasks.push(task(7, Some(0), "late", "EXECUTION", "WAITING_DEPS", serde_json::json!({ "open_deps": 5, "depends_on": keys })));
    tasks.extend((1..=6).map(|n| task(n, Some(0), &format!("c{n}"), "EXECUTION", if n == 2 { "DONE" } else { "QUEUED" }, serde_json::json!({}))));
    let drawn = |tasks: &[TaskBody]| lines(&PLAIN, Window::WHOLE, &trace("RUNNING", 8), tasks, now()).join("\n");
    assert!(drawn(&tasks).contains("waits for c1, c3, c4, c5 and 1 more"), "{}", drawn(&tasks));
    tasks.pop();
    assert!(drawn(&tasks).contains("waits for 5 siblings"), "{}", drawn(&tasks));
}
