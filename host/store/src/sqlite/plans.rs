//! How SQLite means to answer each statement: by an index, and sorting only what is bounded.
//!
//! Statements are declared with `statements!`, and are looked through here; one that is not is not covered.

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    SqliteOptions, artifacts, definitions, hosts, lists, modules, nouns, open, read, results, retention, schedules, sessions, tx_gates, tx_queue, tx_read,
    tx_write,
};

/// Names that stand for something of a page's size: lists of parameters, what a common table expression found, a page of ids.
const SMALL: &[&str] = &["i", "s", "j", "k", "p", "v", "json_each", "up", "below", "arms", "page", "CONSTANT", "(subquery-1)", "(subquery-3)"];

/// Statements that sort, and why what they sort is bounded.
const SORTED: &[(&str, &str)] = &[
    ("lists::TRACES_BY_STATUS", "a page for each status"),
    ("lists::TRACES_BY_DEFINITION", "a page for each status"),
    ("lists::TRACES_BY_USER", "a page for each status"),
    ("lists::TRACES_BY_SESSION", "a page for each status"),
    ("lists::TASKS_BY_STATE", "a page for each pair of state and layer"),
    ("lists::DEAD_LETTER_GROUPS", "as many as are counted"),
    ("read::LOGS_OF_FEW", "lines of few tasks, and no more of them kept than the page holds"),
    ("tx_queue::FAIR", "the head of each priority"),
    ("tx_queue::FAIR_IN", "the head of each priority"),
    ("tx_queue::UPSTREAM", "what the claimed tasks named"),
    ("tx_queue::COUNT_CHILDREN", "a group for each claimed task and state"),
    ("tx_queue::COUNT_DEPENDENCIES", "a group for each claimed task and state"),
];

/// Statements that walk a whole index, and why it is short.
const WALKED: &[(&str, &str)] = &[
    ("retention::RETIRING", "SCAN r: traces that are being deleted, up to the limit"),
    ("tx_queue::READY", "SCAN queue USING COVERING INDEX queue_ready: in its order, up to the limit"),
    ("tx_queue::LANES", "SCAN r USING COVERING INDEX queue_ready: as many as are counted"),
    ("tx_queue::LANES", "SCAN w: as many as are counted"),
    ("tx_queue::LANES", "SCAN l: one row a lane"),
    ("tx_queue::LANES", "SCAN u: one row a lane"),
    ("tx_queue::NEXT_DUE", "SCAN queue USING COVERING INDEX queue_due: its first entry"),
    ("tx_queue::OVERDUE", "SCAN queue USING INDEX queue_claimed: one entry a claim"),
    ("tx_read::UNSWEPT", "SCAN t USING INDEX traces_cancelling: one entry a cancel that is under way"),
];

async fn plan(conn: &mut SqliteConnection, statement: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"))).fetch_all(conn).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}

fn fault(name: &str, step: &str) -> Option<String> {
    let words: Vec<&str> = step.split(' ').collect();
    let sorted = step.starts_with("USE TEMP B-TREE") && !SORTED.iter().any(|(known, _)| *known == name);
    let walked = words[0] == "SCAN" && !SMALL.contains(&words[1]) && !WALKED.iter().any(|(known, why)| *known == name && why.starts_with(step));
    let automatic = step.contains("AUTOMATIC");
    (sorted || walked || automatic).then(|| format!("{name}: {step}"))
}

#[tokio::test]
async fn every_statement_uses_an_index() {
    let store = open(SqliteOptions::memory()).await.unwrap();
    let mut writer = store.write().await;
    let files: [(&str, &[(&str, &str)]); 15] = [
        ("artifacts", artifacts::STATEMENTS),
        ("hosts", hosts::STATEMENTS),
        ("definitions", definitions::STATEMENTS),
        ("lists", lists::STATEMENTS),
        ("modules", modules::STATEMENTS),
        ("nouns", nouns::STATEMENTS),
        ("read", read::STATEMENTS),
        ("results", results::STATEMENTS),
        ("retention", retention::STATEMENTS),
        ("schedules", schedules::STATEMENTS),
        ("sessions", sessions::STATEMENTS),
        ("tx_gates", tx_gates::STATEMENTS),
        ("tx_queue", tx_queue::STATEMENTS),
        ("tx_read", tx_read::STATEMENTS),
        ("tx_write", tx_write::STATEMENTS),
    ];
    let mut faults = Vec::new();
    let mut looked_at = 0;
    for (file, statements) in files {
        for (name, statement) in statements {
            let name = format!("{file}::{name}");
            looked_at += 1;
            faults.extend(plan(&mut writer.conn, statement).await.iter().filter_map(|step| fault(&name, step)));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(looked_at > 60, "{looked_at}");
}

#[tokio::test]
async fn what_readers_and_claims_ask_most_uses_the_index_made_for_it() {
    let store = open(SqliteOptions::memory()).await.unwrap();
    let mut writer = store.write().await;
    let find = |list: &'static [(&'static str, &'static str)], wanted: &str| list.iter().find(|(name, _)| *name == wanted).unwrap().1;
    for (statement, index) in [
        (find(tx_queue::STATEMENTS, "READY"), "USING COVERING INDEX queue_ready"),
        (find(tx_queue::STATEMENTS, "FAIR"), "queue_ready (priority=?)"),
        (find(tx_queue::STATEMENTS, "READY_IN"), "USING COVERING INDEX queue_lanes (lane=?)"),
        (find(tx_queue::STATEMENTS, "FAIR_IN"), "queue_lanes (lane=? AND priority=?)"),
        (find(tx_gates::STATEMENTS, "PARKED"), "queue_parked (gate=? AND priority=?)"),
        (find(tx_gates::STATEMENTS, "OPENING"), "gates_opening (opens_at<?)"),
        (find(tx_queue::STATEMENTS, "DUE"), "INDEX queue_due (due<?)"),
        (find(tx_queue::STATEMENTS, "NEXT_DUE"), "INDEX queue_due"),
        (find(tx_queue::STATEMENTS, "CLAIMED_BY"), "INDEX queue_claimed (owner=?)"),
        (find(tx_queue::STATEMENTS, "RENEW"), "INDEX queue_claimed (owner=? AND task_id=?)"),
        (find(tx_queue::STATEMENTS, "UPSTREAM"), "tasks_by_key (parent_id=? AND round_index=? AND key=?)"),
        (find(tx_read::STATEMENTS, "OPEN_TASKS"), "tasks_by_state (trace_id=? AND state=?)"),
        (find(tx_read::STATEMENTS, "BUSY_TASKS"), "tasks_by_state (trace_id=? AND state=?)"),
        (find(tx_read::STATEMENTS, "IDLE_TASKS"), "tasks_by_state (trace_id=? AND state<?)"),
        (find(tx_read::STATEMENTS, "UNSWEPT"), "traces_cancelling"),
        (find(tx_read::STATEMENTS, "SPOILT"), "tasks_by_state (trace_id=? AND state=?)"),
        (find(tx_read::STATEMENTS, "OLD_ROOT"), "tasks_root (trace_id=?)"),
        (find(lists::STATEMENTS, "TASKS_BY_STATE"), "tasks_by_state (trace_id=? AND state=? AND layer=? AND id>?)"),
        (find(lists::STATEMENTS, "TASKS_BY_STATE"), "tasks_by_state (trace_id=? AND state=? AND layer>?)"),
        (find(lists::STATEMENTS, "TASKS_BY_PARENT"), "tasks_by_parent (parent_id=? AND id>?)"),
        (find(lists::STATEMENTS, "TRACES_BY_STATUS"), "traces_by_status (status=? AND trace_id>? AND trace_id<?)"),
        (find(lists::STATEMENTS, "TRACES_BY_DEFINITION"), "traces_by_definition (definition_id=? AND status=? AND trace_id>? AND trace_id<?)"),
        (find(lists::STATEMENTS, "TRACES_BY_USER"), "traces_by_user (user_id=? AND status=? AND trace_id>? AND trace_id<?)"),
        (find(lists::STATEMENTS, "DEAD_LETTERS"), "tasks_dead_letters (id<?)"),
        (find(lists::STATEMENTS, "DEAD_LETTERS"), "traces_by_rerun_of (rerun_of=?)"),
        (find(results::STATEMENTS, "CHILD_RESULTS"), "tasks_by_parent (parent_id=? AND id>?)"),
        (find(results::STATEMENTS, "DEPENDENCY_RESULTS"), "task_deps_by_task (task_id=? AND depends_on>?)"),
        (find(results::STATEMENTS, "OPEN_DEPENDENCIES"), "task_deps_by_task (task_id=?)"),
        (find(read::STATEMENTS, "EVENTS"), "PRIMARY KEY (trace_id=? AND seq>?)"),
        (find(read::STATEMENTS, "LOGS"), "events_logs_by_trace (trace_id=? AND seq>?)"),
        (find(read::STATEMENTS, "LOGS_OF_FEW"), "events_logs_by_task (task_id=? AND seq>?)"),
        (find(read::STATEMENTS, "LOGS_OF_MANY"), "events_logs_by_trace (trace_id=? AND seq>?)"),
        (find(tx_read::STATEMENTS, "KNOWN_EVENTS"), "events_outside (event_id=?)"),
        (find(tx_read::STATEMENTS, "CHANGED_AT"), "PRIMARY KEY (trace_id=?)"),
        (find(tx_read::STATEMENTS, "DEPENDENTS"), "PRIMARY KEY (depends_on=?)"),
        (find(schedules::STATEMENTS, "DUE"), "schedules_due (next_at<?)"),
        (find(schedules::STATEMENTS, "AHEAD"), "schedules_due"),
        (find(schedules::STATEMENTS, "RELEASE"), "schedules_waiting (waiting_trace_id=?)"),
        (find(schedules::STATEMENTS, "ORDERS_OF_TRACE"), "control_events_by_trace (trace_id=? AND id<?)"),
        (find(schedules::STATEMENTS, "ORDERS_OF_DEFINITION"), "control_events_by_definition (definition_id=? AND id<?)"),
        (find(read::STATEMENTS, "ATTEMPTS"), "PRIMARY KEY (task_id=?)"),
        (find(artifacts::STATEMENTS, "OWNERLESS"), "artifacts_by_trace (trace_id=?)"),
        (find(retention::STATEMENTS, "PASS_ON"), "artifacts_by_trace (trace_id=?)"),
        (find(retention::STATEMENTS, "PASS_ON"), "tasks_by_output_ref (output_ref=?)"),
        (find(retention::STATEMENTS, "PASS_ON"), "tasks_by_carried_ref (carried_ref=?)"),
        (find(retention::STATEMENTS, "PASS_ON"), "rounds_by_output_ref (output_ref=?)"),
    ] {
        let steps = plan(&mut writer.conn, statement).await;
        assert!(steps.iter().any(|step| step.contains(index)), "{index} is not used: {steps:#?}");
    }
}
