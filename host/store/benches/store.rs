//! What a back end can do on this machine: `cargo bench -p tower-store -- <tasks>` (default 100 000) for SQLite,
//! `cargo bench -p tower-store -- postgres <tasks>` for a PostgreSQL of its own on the same disk.
//!
//! A root splits in two layers, its leaves are claimed and settled in batches of 500, and then pages are read from the full table. Absolute times
//! drift with the machine; the first line is the yardstick, a durable commit of a single row on the same disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_domain::clock::{Clock, SystemClock};
use tower_domain::definition::{AggregationPolicy, Definition};
use tower_domain::id::{IdSource, MonotonicIds};
use tower_domain::json::Json;
use tower_domain::name::{Key, Name};
use tower_domain::schedule::{NightWindow, Window};
use tower_domain::split::PlannedChild;
use tower_domain::task::{ActorType, Output, RunOn, Status};
use tower_domain::trace::TriggerType;
use tower_store::Stores;
use tower_store::blobs::MemoryBlobs;
use tower_store::postgres::{self, PostgresOptions};
use tower_store::read::{PageRequest, TaskFilter};
use tower_store::sqlite::{SqliteOptions, open};
use tower_store::work::{Batch, Claim, Claimed, Command, Committed, NewTrace, Settle, SettledEnd};
use tower_test_postgres::{Cluster, Database, Options};

/// Settles in a batch.
const BATCH: u32 = 500;

/// Children of one task: what a definition allows by default.
const CHILDREN_MAX: usize = 10_000;

struct Host {
    stores: Stores,
    ids: MonotonicIds<SystemClock>,
    definition: Arc<Definition>,
}

impl Host {
    async fn commit(&self, commands: Vec<Command>, limit: u32) -> Committed {
        let now = SystemClock.now();
        let claim = (limit > 0).then(|| Claim { host: "bench-host-01".to_owned(), limit, elsewhere: Vec::new(), lease: Duration::from_secs(60) });
        self.stores
            .work
            .commit(Batch {
                now,
                host: "bench-host-01".to_owned(),
                trace_tasks_max: u64::MAX,
                cancel_max: 1_000,
                night: NightWindow::default(),
                user_max_concurrent: None,
                others: false,
                commands,
                claim,
            })
            .await
            .expect("commits")
    }

    fn trace(&self) -> Command {
        Command::Submit(Box::new(NewTrace {
            trace_id: self.ids.trace(),
            root_task_id: self.ids.task(),
            definition_id: self.definition.id.clone(),
            definition_version: 1,
            user_id: String::new(),
            trigger_type: TriggerType::Api,
            triggered_by: "bench".to_owned(),
            idempotency: None,
            params: Json::empty_object(),
            labels: Default::default(),
            actor_type: ActorType::Agent,
            priority: 5,
            timeout_sec: 300,
            max_retries: 3,
            aggregation: AggregationPolicy::default(),
            is_leaf_agent: false,
            run_after: None,
            window: Window::Immediate,
            lane: Default::default(),
            gates: Default::default(),
            rerun: None,
            cron_trigger_time: None,
            session_id: None,
        }))
    }

    fn child(&self, of: &Claimed, number: usize) -> PlannedChild {
        PlannedChild {
            id: self.ids.task(),
            key: Key::new(&format!("c{number:06}")).expect("a key"),
            definition: self.definition.clone(),
            params: Json::trusted(format!("{{\"n\":{number}}}")),
            depends_on: Vec::new(),
            on_all_siblings: false,
            run_on: RunOn::Success,
            actor_type: ActorType::Agent,
            priority: 5,
            timeout_sec: 300,
            max_retries: 3,
            layer: of.layer + 1,
            depth: of.depth + 1,
            is_leaf_agent: false,
        }
    }

    fn settle(&self, claimed: &Claimed, children: Vec<PlannedChild>) -> Command {
        let output = Output::Inline(Json::trusted("{\"ok\":true}"));
        Command::Settle(Box::new(Settle {
            task_id: claimed.task_id,
            fence: claimed.fence,
            started_at: SystemClock.now(),
            end: SettledEnd::Finished { output, children: children.into(), round: None },
            sdk_session_id: None,
        }))
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// The database that is measured.
enum Place {
    Sqlite(PathBuf),
    Postgres(Database),
}

#[tokio::main]
async fn main() {
    let tasks: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Arc::new(MemoryBlobs::default());
    let (stores, place) = if std::env::args().any(|argument| argument == "postgres") {
        let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options { durable: true, ..Options::default() })));
        let database = cluster.database();
        let store = postgres::open(PostgresOptions::at(database.url())).await.expect("opens");
        (store.stores(blobs), Place::Postgres(database))
    } else {
        let path = folder.path().join("tower.db");
        (open(SqliteOptions::file(&path)).await.expect("opens").stores(blobs), Place::Sqlite(path))
    };
    let spec = Json::trusted(r#"{"actor_type":"AGENT","code_ref":"wasm://probe"}"#).read().expect("a definition");
    let at = SystemClock.now();
    let definition = Arc::new(Definition { id: Name::new("probe").expect("a name"), version: 1, spec, created_at: at, updated_at: at });
    let host = Host { stores, ids: MonotonicIds::new(SystemClock), definition };

    match &place {
        Place::Sqlite(_) => yardstick(folder.path()).await,
        Place::Postgres(database) => postgres_yardstick(database).await,
    }
    lone_tasks(&host).await;
    splits(&host).await;
    let (root, group) = fan_out(&host, tasks, &place).await;
    pages(&host, &root, &group).await;
}

/// A durable commit of one row.
async fn yardstick(folder: &std::path::Path) {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
    use sqlx::{ConnectOptions, Connection};
    let options = SqliteConnectOptions::new().filename(folder.join("yardstick.db")).create_if_missing(true);
    let mut conn = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full).connect().await.expect("connects");
    sqlx::raw_sql("CREATE TABLE t (a INTEGER)").execute(&mut conn).await.expect("makes a table");
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let begun = Instant::now();
        sqlx::query("INSERT INTO t VALUES (1)").execute(&mut conn).await.expect("inserts");
        times.push(begun.elapsed());
    }
    println!("c, a durable commit of one row: p50 {:?}", median(times));
    conn.close().await.expect("closes");
}

/// The same on PostgreSQL, and the way there and back.
async fn postgres_yardstick(database: &Database) {
    let mut conn = connect(database).await;
    sqlx::raw_sql("CREATE TABLE yardstick (a bigint)").execute(&mut conn).await.expect("makes a table");
    for (what, statement) in [("c, a durable commit of one row", "INSERT INTO yardstick VALUES (1)"), ("a way there and back", "SELECT 1")] {
        let mut times = Vec::new();
        for _ in 0..1_000 {
            let begun = Instant::now();
            sqlx::query(statement).execute(&mut conn).await.expect("runs");
            times.push(begun.elapsed());
        }
        println!("{what}: p50 {:?}", median(times));
    }
}

async fn connect(database: &Database) -> sqlx::PgConnection {
    use sqlx::ConnectOptions;
    database.url().parse::<sqlx::postgres::PgConnectOptions>().expect("an address").connect().await.expect("connects")
}

async fn lone_tasks(host: &Host) {
    let (mut submits, mut settles) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let begun = Instant::now();
        let claimed = host.commit(vec![host.trace()], 1).await.claimed.remove(0);
        submits.push(begun.elapsed());
        let begun = Instant::now();
        host.commit(vec![host.settle(&claimed, Vec::new())], 1).await;
        settles.push(begun.elapsed());
    }
    println!("a lone task: submit and claim p50 {:?}, settle p50 {:?}", median(submits), median(settles));
}

/// Settles that each bring about one child.
async fn splits(host: &Host) {
    let traces = (0..BATCH).map(|_| host.trace()).collect();
    let mut claimed = host.commit(traces, BATCH).await.claimed;
    let mut times = Vec::new();
    for level in 0..10 {
        let commands = claimed.iter().map(|claimed| host.settle(claimed, vec![host.child(claimed, level)])).collect();
        let begun = Instant::now();
        claimed = host.commit(commands, BATCH).await.claimed;
        times.push(begun.elapsed());
    }
    let p50 = median(times);
    println!("a batch of {BATCH} settles, {BATCH} inserts and {BATCH} claims: p50 {p50:?}, {:.0} tasks/s", rate(BATCH as usize, p50));
    while !claimed.is_empty() {
        let commands = claimed.iter().map(|claimed| host.settle(claimed, Vec::new())).collect();
        claimed = host.commit(commands, BATCH).await.claimed;
    }
}

/// A wide tree, folded. Answers its root and one of the tasks below that.
async fn fan_out(host: &Host, tasks: usize, place: &Place) -> (Claimed, Claimed) {
    let before = size(place).await;
    let root = host.commit(vec![host.trace()], 1).await.claimed.remove(0);
    let groups = tasks.div_ceil(CHILDREN_MAX);
    let middle = (0..groups).map(|number| host.child(&root, number)).collect();
    let middle = host.commit(vec![host.settle(&root, middle)], groups as u32).await.claimed;
    let (begun, mut times) = (Instant::now(), Vec::new());
    for group in &middle {
        let children = (0..tasks / groups).map(|number| host.child(group, number)).collect();
        let split = Instant::now();
        host.commit(vec![host.settle(group, children)], 0).await;
        times.push(split.elapsed());
    }
    let took = begun.elapsed();
    println!("{groups} splits into {}: p50 {:?}, {:.0} rows/s", tasks / groups, median(times), rate(tasks, took));
    let (begun, mut times) = (Instant::now(), Vec::new());
    let mut claimed = host.commit(Vec::new(), BATCH).await.claimed;
    while !claimed.is_empty() {
        let commands = claimed.iter().map(|claimed| host.settle(claimed, Vec::new())).collect();
        let batch = Instant::now();
        claimed = host.commit(commands, BATCH).await.claimed;
        times.push(batch.elapsed());
    }
    let took = begun.elapsed();
    let longest = times.iter().max().copied().unwrap_or_default();
    println!(
        "{tasks} settled and claimed in batches of {BATCH}: {took:?}, {:.0} tasks/s; a batch p50 {:?}, longest {longest:?}",
        rate(tasks, took),
        median(times)
    );
    let bytes = size(place).await - before;
    println!("bytes a finished task: {:.0}", bytes as f64 / tasks as f64);
    (root, middle.into_iter().next().expect("a group"))
}

/// Bytes of the database; of SQLite, with nothing left in the write-ahead log.
async fn size(place: &Place) -> u64 {
    use sqlx::{ConnectOptions, Connection};
    match place {
        Place::Sqlite(path) => {
            let mut conn = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.expect("connects");
            sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut conn).await.expect("checkpoints");
            conn.close().await.expect("closes");
            std::fs::metadata(path).expect("a file").len()
        }
        Place::Postgres(database) => {
            let mut conn = connect(database).await;
            let bytes: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(&mut conn).await.expect("a size");
            bytes.unsigned_abs()
        }
    }
}

async fn pages(host: &Host, root: &Claimed, group: &Claimed) {
    let any = TaskFilter::default;
    for (what, filter) in [
        ("no filter", any()),
        ("status SUCCESS", TaskFilter { status: vec![Status::Success], ..any() }),
        ("status FAILED (none)", TaskFilter { status: vec![Status::Failed], ..any() }),
        ("layer 0 (one)", TaskFilter { layer: Some(0), ..any() }),
        ("layer 2, SUCCESS", TaskFilter { layer: Some(2), status: vec![Status::Success], ..any() }),
        ("parent", TaskFilter { parent_id: Some(group.task_id), ..any() }),
        ("parent, FAILED (none): walks the children", TaskFilter { parent_id: Some(group.task_id), status: vec![Status::Failed], ..any() }),
        ("actor GROUP_AGG (none): walks the trace", TaskFilter { actor_type: Some(ActorType::GroupAgg), ..any() }),
    ] {
        let (mut times, mut after, mut found) = (Vec::new(), None, 0);
        for _ in 0..15 {
            let begun = Instant::now();
            let page = host.stores.read.tasks(root.trace_id, &filter, &PageRequest { after, limit: 100 }).await.expect("reads");
            times.push(begun.elapsed());
            found = page.items.len();
            after = page.next;
        }
        println!("a page of tasks, {what}: p50 {:?} ({found} on the last)", median(times));
    }
    let mut times = Vec::new();
    let mut after = None;
    for _ in 0..CHILDREN_MAX / 1_000 {
        let begun = Instant::now();
        after = host.stores.read.child_results(group.task_id, after, 1_000).await.expect("reads").next;
        times.push(begun.elapsed());
    }
    println!("a page of 1 000 results: p50 {:?}", median(times));
    let begun = Instant::now();
    host.stores.read.events(root.trace_id, 1_000, 1_000).await.expect("reads");
    println!("1 000 events: {:?}", begun.elapsed());
}
