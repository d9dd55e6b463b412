//! What must hold of a data folder at any time, whatever happened to the hosts that worked on it.
//!
//! Three witnesses are held against each other: the database (with its own invariants), the ledger of what guests really did, which is
//! written outside of it, and the client's book of what was acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};
use tower_domain::id::{TaskId, TraceId};
use tower_store::invariants::Violation;
use tower_store::postgres::{self, PostgresOptions};
use tower_store::sqlite::{SqliteOptions, open};

use super::load::Book;
use crate::host::Host;

/// States of a task, as `migrations/sqlite/0002_traces_and_tasks.sql` numbers them.
const DONE: i64 = 8;
const DEAD_LETTER: i64 = 11;

/// Reads [`Facts`] on a connection, with what ids are read by there: the same questions to both back ends.
macro_rules! facts {
    ($conn:ident, $id:literal, $task_id:literal, $trace_id:literal) => {{
        let mut facts = Facts::default();
        let tasks = concat!("SELECT ", $id, ", fence, CAST(state AS bigint), split_count, coalesce(output, output_ref), error_code FROM tasks");
        for row in sqlx::query(tasks).fetch_all(&mut $conn).await.unwrap() {
            let task =
                Task { fence: row.get::<i64, _>(1) as u64, state: row.get(2), split: row.get::<i64, _>(3) as u64, output: row.get(4), error: row.get(5) };
            facts.tasks.insert(id(row.get(0)), task);
        }
        let attempts = concat!("SELECT ", $task_id, ", fence, result FROM attempts");
        for row in sqlx::query(attempts).fetch_all(&mut $conn).await.unwrap() {
            facts.attempts.insert((id(row.get(0)), row.get::<i64, _>(1) as u64), row.get(2));
        }
        let keys = concat!("SELECT idempotency_key, ", $trace_id, " FROM traces WHERE idempotency_key IS NOT NULL");
        for row in sqlx::query(keys).fetch_all(&mut $conn).await.unwrap() {
            let trace = TraceId::from_bytes(row.get::<&[u8], _>(1).try_into().unwrap());
            facts.begun.entry(row.get(0)).or_default().push(trace.to_string());
        }
        facts.kept = sqlx::query_scalar("SELECT event_id FROM events WHERE event_id IS NOT NULL").fetch_all(&mut $conn).await.unwrap();
        facts
    }};
}

/// What is wrong; empty: nothing.
///
/// Looks at a copy of a file, so that the next host finds what the last one left, and recovers it itself.
pub(crate) async fn violations(host: &Host, book: &Book) -> Vec<String> {
    let (broken, facts) = match &host.database {
        Some(database) => in_postgres(&database.url()).await,
        None => in_a_file(host).await,
    };
    let mut found: Vec<String> = broken.iter().map(|broken| format!("{} {}: {}", broken.id, broken.says, broken.row)).collect();
    found.extend(facts.against(&Ledger::read(&ledger_of(host))));
    found.extend(facts.against_book(book));
    found
}

async fn in_postgres(url: &str) -> (Vec<Violation>, Facts) {
    let store = postgres::open(PostgresOptions::at(url)).await.unwrap();
    let broken = tower_store::invariants::check(&store).await.unwrap();
    store.close().await;
    let mut conn = sqlx::PgConnection::connect(url).await.unwrap();
    let facts = facts!(conn, "uuid_send(id)", "uuid_send(task_id)", "uuid_send(trace_id)");
    conn.close().await.unwrap();
    (broken, facts)
}

async fn in_a_file(host: &Host) -> (Vec<Violation>, Facts) {
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("tower.db");
    for end in ["", "-wal"] {
        let (from, to) = (with_end(&host.data.join("tower.db"), end), with_end(&path, end));
        if from.exists() {
            std::fs::copy(from, to).unwrap();
        }
    }
    if !path.exists() {
        return (Vec::new(), Facts::default());
    }
    let store = open(SqliteOptions::file(&path)).await.unwrap();
    let broken = tower_store::invariants::check(&store).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let mut conn = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let facts = facts!(conn, "id", "task_id", "trace_id");
    conn.close().await.unwrap();
    (broken, facts)
}

/// Nothing is.
pub(crate) async fn is_sound(host: &Host, book: &Book, when: &str) {
    let found = violations(host, book).await;
    assert!(found.is_empty(), "{when}: {found:#?}");
}

/// Where a host is told to write what its guests do.
pub(crate) fn ledger_of(host: &Host) -> PathBuf {
    host.data.with_file_name("ledger")
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", path.display()))
}

/// A task's claim.
type Claim = (TaskId, u64);

/// What guests did.
#[derive(Default)]
struct Ledger {
    /// How often the code of a claim began.
    begun: HashMap<Claim, u32>,
    ended: HashMap<Claim, Vec<Line>>,
}

#[derive(Debug, Deserialize)]
struct Line {
    what: String,
    task: TaskId,
    fence: u64,
    end: Option<String>,
    output: Option<String>,
    children: Option<u64>,
}

impl Ledger {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut ledger = Self::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line: Line = serde_json::from_str(line).unwrap();
            let claim = (line.task, line.fence);
            match line.what.as_str() {
                "begun" => *ledger.begun.entry(claim).or_default() += 1,
                _ => ledger.ended.entry(claim).or_default().push(line),
            }
        }
        ledger
    }

    /// The one line of a claim that ended in this way.
    fn ended(&self, claim: Claim, end: &str) -> Option<&Line> {
        match self.ended.get(&claim).map(Vec::as_slice) {
            Some([line]) if line.end.as_deref() == Some(end) => Some(line),
            _ => None,
        }
    }
}

struct Task {
    fence: u64,
    state: i64,
    split: u64,
    output: Option<String>,
    error: Option<String>,
}

/// What the database says.
#[derive(Default)]
struct Facts {
    tasks: BTreeMap<TaskId, Task>,
    /// With how they ended.
    attempts: BTreeMap<Claim, String>,
    /// Callers' keys, with what began under them.
    begun: HashMap<String, Vec<String>>,
    /// Outside events that were kept.
    kept: Vec<String>,
}

fn id(bytes: &[u8]) -> TaskId {
    TaskId::from_bytes(bytes.try_into().unwrap())
}

impl Facts {
    /// I35 and what follows from it: the database and the guests tell the same story.
    fn against(&self, ledger: &Ledger) -> Vec<String> {
        let mut found = Vec::new();
        let mut claim_fails = |says: &str, (task, fence): Claim| found.push(format!("I35 {says}: task {task}, fence {fence}"));
        for (claim, times) in &ledger.begun {
            let task = self.tasks.get(&claim.0);
            if *times > 1 {
                claim_fails("the code of a claim runs once", *claim);
            }
            // With I15 (as many STARTED events as the fence says): every start that guests know of is an event.
            if task.is_none_or(|task| task.fence < claim.1) {
                claim_fails("code runs only under a claim that is durable", *claim);
            }
            if task.is_some_and(|task| task.fence > claim.1) && !self.attempts.contains_key(claim) && !(claim.1 == 1 && self.is_done(claim.0)) {
                claim_fails("a claim that is over was ended by somebody", *claim);
            }
        }
        for (claim, lines) in &ledger.ended {
            if lines.len() > 1 || !ledger.begun.contains_key(claim) {
                claim_fails("a claim comes to one result, after it began", *claim);
            }
        }
        let mut split: HashMap<TaskId, u64> = HashMap::new();
        for ((id, fence), result) in &self.attempts {
            let claim = (*id, *fence);
            match result.as_str() {
                "SPLIT" => match ledger.ended(claim, "finished") {
                    Some(line) => *split.entry(*id).or_default() += line.children.unwrap_or(0),
                    None => claim_fails("a split was asked for by a guest", claim),
                },
                "SUCCESS" if ledger.ended(claim, "finished").is_none() => claim_fails("a success was a guest's", claim),
                "FAILED" | "RETRYABLE" if ledger.ended(claim, "failed").is_none() => claim_fails("a failure was a guest's", claim),
                _ => {}
            }
        }
        for (id, task) in &self.tasks {
            let claim = (*id, task.fence);
            if task.state == DONE {
                let line = ledger.ended(claim, "finished");
                if line.is_none_or(|line| line.children != Some(0) || line.output != task.output) {
                    claim_fails("an accepted result is the one that the guest of the last claim came to", claim);
                }
            }
            if split.get(id).copied().unwrap_or(0) != task.split {
                claim_fails("children are those that accepted steps asked for", claim);
            }
            let deaths = || ledger.begun.keys().filter(|(begun, _)| begun == id).count();
            if task.state == DEAD_LETTER && task.error.as_deref() == Some("HOST_CRASHED") && deaths() < 3 {
                claim_fails("a task is given up only after three deaths", claim);
            }
        }
        found
    }

    fn is_done(&self, id: TaskId) -> bool {
        self.tasks.get(&id).is_some_and(|task| task.state == DONE)
    }

    /// What was acknowledged is there, and what was asked twice is there once.
    fn against_book(&self, book: &Book) -> Vec<String> {
        let mut found = Vec::new();
        for wish in &book.wishes {
            let traces = self.begun.get(&wish.key).map_or(&[][..], Vec::as_slice);
            if traces.len() > 1 {
                found.push(format!("one key begins one trace: {} began {traces:?}", wish.key));
            }
            if wish.trace.as_ref().is_some_and(|acknowledged| !traces.contains(acknowledged)) {
                found.push(format!("an acknowledged trace is there: {:?} of {}", wish.trace, wish.key));
            }
        }
        for report in book.reports.iter().filter(|report| report.acknowledged && !self.kept.contains(&report.event_id)) {
            found.push(format!("an acknowledged event is there: {}", report.event_id));
        }
        found
    }
}
