//! How PostgreSQL means to answer each statement, with the settings of the store: by an index, and sorting only what is bounded.
//!
//! Statements are declared with `statements!` or as [`Rows`], and both are looked through here; one that is not is not covered. Plans are
//! generic, as for statements that were prepared long ago, and of empty tables, which is when PostgreSQL would rather read all of them.

use std::collections::HashMap;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use tower_test_postgres::Cluster;

use super::values::{Rows, together};
use super::{
    PostgresOptions, artifacts, blobs, definitions, hosts, lists, modules, nouns, open, read, results, retention, schedules, sessions, tx_gates, tx_queue,
    tx_read, tx_write,
};

/// Statements that sort, and why what they sort is bounded.
const SORTED: &[(&str, &str)] = &[
    ("definitions::AS_OF", "versions of one definition"),
    ("lists::TRACES_BY_STATUS", "a page for each status"),
    ("lists::TRACES_BY_DEFINITION", "a page for each status"),
    ("lists::TRACES_BY_USER", "a page for each status"),
    ("lists::TRACES_BY_SESSION", "a page for each status"),
    ("lists::TASKS_BY_STATE", "a page for each pair of state and layer"),
    ("lists::DEAD_LETTER_GROUPS", "as many as are counted"),
    ("read::LOGS_OF_FEW", "lines of few tasks"),
    ("schedules::MANY", "the schedules of a batch"),
    ("tx_queue::FAIR", "the head of each priority"),
    ("tx_queue::FAIR_IN", "the head of each priority"),
    ("tx_queue::UPSTREAM", "what the claimed tasks named"),
    ("tx_queue::COUNT_CHILDREN", "children of the claimed tasks"),
    ("tx_queue::COUNT_DEPENDENCIES", "dependencies of the claimed tasks"),
    ("tx_queue::CLAIMED_BY", "claims of one host"),
    ("tx_read::LOCK", "the traces of a batch"),
    ("tx_read::TRACES", "the traces of a batch"),
    ("tx_read::CHILDREN", "children of one task"),
    ("results::EXISTING_CHILDREN", "children of one task"),
    ("INSERT_KEYS", "the keys of a batch"),
    ("schedules::PUT", "the schedules of a batch"),
    ("together", "the keys and the schedules of a batch"),
];

/// A connection with the settings of the store, to a database with its schema.
async fn connect(url: &str) -> PgConnection {
    open(PostgresOptions::at(url)).await.unwrap().close().await;
    open::settings(PgConnectOptions::from_str(url).unwrap(), 0).connect().await.unwrap()
}

/// The lines of a statement's plan.
async fn plan(conn: &mut PgConnection, name: &str, statement: &str) -> Vec<String> {
    let count = (1..1_000).take_while(|number| statement.contains(&format!("${number}"))).count();
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE looked_at {} AS {statement}", types(name, count))))
        .execute(&mut *conn)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let nulls = if count > 0 { format!("({})", vec!["NULL"; count].join(", ")) } else { String::new() };
    let rows =
        sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN EXECUTE looked_at{nulls}"))).fetch_all(&mut *conn).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    sqlx::raw_sql("DEALLOCATE looked_at").execute(&mut *conn).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

/// The first column of each index.
async fn first_columns(conn: &mut PgConnection) -> HashMap<String, String> {
    let question = "SELECT c.relname::text, a.attname::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid \
         JOIN pg_attribute AS a ON a.attrelid = i.indexrelid AND a.attnum = 1";
    sqlx::query_as(question).fetch_all(conn).await.unwrap().into_iter().collect()
}

/// Types that do not follow from the statement.
fn types(name: &str, count: usize) -> String {
    let known: &[(usize, &str)] = match name {
        "lists::TRACES_BY_STATUS" | "lists::TRACES_BY_DEFINITION" | "lists::TRACES_BY_USER" => {
            &[(1, "bigint[]"), (5, "text"), (6, "text"), (7, "bigint"), (8, "bigint")]
        }
        "lists::TRACES_BY_SESSION" => &[(1, "bigint[]"), (5, "text"), (6, "text"), (7, "bigint"), (8, "bigint"), (9, "uuid")],
        "sessions::LIST" | "sessions::LIST_OF_USER" => &[(2, "bigint")],
        "sessions::TOUCH" | "sessions::MEASURED" => &[(2, "bigint")],
        "lists::TASKS_BY_STATE" | "lists::TASKS_BY_PARENT" => &[(2, "bigint"), (3, "bigint"), (4, "bigint")],
        "lists::DEAD_LETTERS" | "lists::DEAD_LETTER_GROUPS" => &[(2, "bigint"), (3, "text"), (4, "text"), (5, "bigint"), (7, "bigint")],
        "lists::ROUNDS" => &[(2, "bigint")],
        "definitions::LIST" | "definitions::LIST_OF_USER" | "schedules::LIST" => &[(2, "bigint")],
        "schedules::ORDERS" | "schedules::ORDERS_OF_TRACE" | "schedules::ORDERS_OF_DEFINITION" => &[(2, "bigint"), (3, "bigint")],
        "modules::SET_TAG" => &[(1, "text"), (2, "text"), (3, "bytea"), (4, "bigint")],
        "read::LOGS_OF_FEW" | "read::LOGS_OF_MANY" => &[(4, "uuid")],
        "read::SUBTREE_SIZE" | "tx_read::OPEN_TASKS_BELOW" => &[(1, "uuid")],
        "tx_read::IDLE_TASKS" => &[(2, "bigint")],
        "tx_read::UNSWEPT" => &[(1, "bigint")],
        "tx_gates::PARKED" => &[(1, "text[]")],
        "definitions::STIR_GATES" | "hosts::BEAT" => &[(1, "text"), (2, "bigint")],
        "tx_queue::UPSTREAM" => &[(1, "uuid[]")],
        _ => &[],
    };
    if known.is_empty() {
        return String::new();
    }
    let list: Vec<&str> = (1..=count).map(|number| known.iter().find(|(known, _)| *known == number).map_or("unknown", |(_, kind)| kind)).collect();
    format!("({})", list.join(", "))
}

/// What is wrong with a plan: a table that is read as a whole, an index that is without a condition, or something that is sorted unbounded.
fn faults(name: &str, plan: &[String], first: &HashMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in plan.iter().enumerate() {
        let step = line.trim_start().trim_start_matches("->").trim_start();
        let sorts = step.starts_with("Sort  (") || step.starts_with("Incremental Sort");
        if sorts && !SORTED.iter().any(|(known, _)| *known == name) {
            faults.push(format!("{name}: {step}"));
        }
        // A condition on later columns only is compared with every entry of the index.
        let index = step.split(" using ").nth(1).and_then(|rest| rest.split(' ').next());
        let condition = plan.get(number + 1).map_or("", |next| next.trim()).strip_prefix("Index Cond:");
        if let (Some(index), Some(condition)) = (index, condition)
            && !condition.contains(&first[index])
        {
            faults.push(format!("{name}: {step}{condition}"));
        }
        let scans = step.starts_with("Seq Scan") || step.starts_with("Bitmap") || step.starts_with("Parallel");
        // Lists that go on until the page is full, and looks at the first entry, have nothing to compare with.
        let walks = (step.starts_with("Index Scan") || step.starts_with("Index Only Scan"))
            && condition.is_none()
            && !WALKED.iter().any(|(known, index)| *known == name && step.contains(index));
        let joins = step.contains("Hash Join") || step.contains("Merge Join");
        // There are as many hosts as fit into a page.
        if (scans || walks || joins) && !step.contains(" on hosts") {
            faults.push(format!("{name}: {step}"));
        }
    }
    faults
}

/// Statements that walk an index without a condition, and which: in its order, up to their limit.
const WALKED: &[(&str, &str)] = &[
    ("retention::RETIRING", "retired_pkey"),
    ("tx_queue::READY", "queue_ready"),
    ("tx_queue::LANES", "queue_ready"),
    ("NEXT_DUE", "queue_due"),
    ("NEXT_DUE", "queue_ready"),
    ("NEXT_DUE", "gates_opening"),
    ("tx_queue::CLAIMED_UP_TO", "queue_claimed"),
    ("tx_queue::CLAIMED_UP_TO", "queue_leases"),
    ("tx_queue::VIRTUAL_TIME", "queue_claimed"),
    ("tx_queue::VIRTUAL_TIME", "queue_leases"),
    ("tx_queue::VIRTUAL_TIME", "queue_ready"),
    ("tx_read::UNSWEPT", "traces_cancelling"),
    ("schedules::AHEAD", "schedules_due"),
    ("schedules::AHEAD", "schedules_waiting"),
];

fn all() -> Vec<(String, &'static str)> {
    let files: [(&str, &[(&str, &'static str)]); 16] = [
        ("artifacts", artifacts::STATEMENTS),
        ("blobs", blobs::STATEMENTS),
        ("hosts", hosts::STATEMENTS),
        ("tx_gates", tx_gates::STATEMENTS),
        ("definitions", definitions::STATEMENTS),
        ("lists", lists::STATEMENTS),
        ("modules", modules::STATEMENTS),
        ("nouns", nouns::STATEMENTS),
        ("read", read::STATEMENTS),
        ("results", results::STATEMENTS),
        ("retention", retention::STATEMENTS),
        ("schedules", schedules::STATEMENTS),
        ("sessions", sessions::STATEMENTS),
        ("tx_queue", tx_queue::STATEMENTS),
        ("tx_read", tx_read::STATEMENTS),
        ("tx_write", tx_write::STATEMENTS),
    ];
    let mut all: Vec<(String, &'static str)> =
        files.iter().flat_map(|(file, statements)| statements.iter().map(move |(name, text)| (format!("{file}::{name}"), *text))).collect();
    let rows: [&[(&str, &'static Rows)]; 4] = [schedules::ROWS, tx_gates::ROWS, tx_queue::ROWS, tx_write::ROWS];
    all.extend(rows.into_iter().flatten().map(|(name, rows)| ((*name).to_owned(), rows.sql())));
    // And all that write to tables of their own in one.
    let mut one_each: Vec<&'static Rows> = Vec::new();
    for (_, rows) in rows.into_iter().flatten() {
        if one_each.iter().all(|other| other.table() != rows.table()) {
            one_each.push(rows);
        }
    }
    all.push(("together".to_owned(), together(&one_each)));
    all
}

#[tokio::test]
async fn every_statement_uses_an_index() {
    let database = Cluster::shared().database();
    let mut conn = connect(&database.url()).await;
    let first = first_columns(&mut conn).await;
    let mut found = Vec::new();
    let all = all();
    for (name, statement) in &all {
        let plan = plan(&mut conn, name, statement).await;
        let faults = faults(name, &plan, &first);
        if !faults.is_empty() {
            println!("{name}\n{}\n", plan.join("\n"));
        }
        found.extend(faults);
    }
    conn.close().await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
    assert!(all.len() > 70, "{}", all.len());
}

#[tokio::test]
async fn what_readers_and_claims_ask_most_uses_the_index_made_for_it() {
    let database = Cluster::shared().database();
    let mut conn = connect(&database.url()).await;
    let all = all();
    for (wanted, index) in [
        ("tx_queue::READY", "queue_ready"),
        ("tx_queue::FAIR", "queue_ready"),
        ("tx_queue::READY_IN", "queue_lanes"),
        ("tx_queue::FAIR_IN", "queue_lanes"),
        ("tx_gates::PARKED", "queue_parked"),
        ("tx_gates::OPENING", "gates_opening"),
        ("tx_queue::DUE", "queue_due"),
        ("tx_queue::OVERDUE", "queue_leases"),
        ("NEXT_DUE", "queue_due"),
        ("tx_queue::CLAIMED_BY", "queue_claimed"),
        ("tx_queue::UPSTREAM", "tasks_by_key"),
        ("tx_read::OPEN_TASKS", "tasks_by_state"),
        ("tx_read::BUSY_TASKS", "tasks_by_state"),
        ("tx_read::IDLE_TASKS", "tasks_by_state"),
        ("tx_read::UNSWEPT", "traces_cancelling"),
        ("tx_read::SPOILT", "tasks_by_state"),
        ("tx_read::OLD_ROOT", "tasks_root"),
        ("tx_read::LOCK", "traces_pkey"),
        ("tx_read::LOCK", "tasks_pkey"),
        ("tx_read::KNOWN_EVENTS", "events_outside"),
        ("tx_read::DEPENDENTS", "task_deps_pkey"),
        ("lists::TASKS_BY_STATE", "tasks_by_state"),
        ("lists::TASKS_BY_PARENT", "tasks_by_parent"),
        ("lists::TRACES_BY_STATUS", "traces_by_status"),
        ("lists::TRACES_BY_DEFINITION", "traces_by_definition"),
        ("lists::TRACES_BY_USER", "traces_by_user"),
        ("lists::TRACES_BY_SESSION", "traces_by_session"),
        ("sessions::LIST_OF_USER", "sessions_by_user"),
        ("sessions::ARCHIVABLE", "sessions_by_use"),
        ("lists::DEAD_LETTERS", "tasks_dead_letters"),
        ("lists::DEAD_LETTERS", "traces_by_rerun_of"),
        ("results::DEPENDENCY_RESULTS", "task_deps_by_task"),
        ("read::EVENTS", "events_pkey"),
        ("read::LOGS", "events_logs_by_trace"),
        ("read::LOGS_OF_FEW", "events_logs_by_task"),
        ("schedules::DUE", "schedules_due"),
        ("schedules::RELEASE", "schedules_waiting"),
        ("schedules::ORDERS_OF_TRACE", "control_events_by_trace"),
        ("schedules::ORDERS_OF_DEFINITION", "control_events_by_definition"),
        ("artifacts::OWNERLESS", "artifacts_by_trace"),
        ("retention::PASS_ON", "artifacts_by_trace"),
        ("retention::PASS_ON", "tasks_by_output_ref"),
        ("retention::PASS_ON", "tasks_by_carried_ref"),
        ("retention::PASS_ON", "rounds_by_output_ref"),
        ("UPDATE_TASKS", "tasks_pkey"),
        ("UPDATE_TRACES", "traces_pkey"),
    ] {
        let statement = all.iter().find(|(name, _)| name == wanted).unwrap_or_else(|| panic!("{wanted}")).1;
        let plan = plan(&mut conn, wanted, statement).await;
        assert!(plan.iter().any(|step| step.contains(&format!(" using {index} "))), "{wanted} without {index}: {plan:#?}");
    }
    conn.close().await.unwrap();
}
