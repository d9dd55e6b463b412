//! What only a file can do: refuse to be opened, survive, be cut off in the middle.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tower_domain::clock::Timestamp;
use tower_domain::schedule::NightWindow;
use tower_domain::task::{Phase, Status};
use tower_store::StoreError;
use tower_store::blobs::MemoryBlobs;
use tower_store::sqlite::{self, SqliteOptions, SqliteStore};
use tower_store::work::{Batch, Claim, Command, NewTrace};

use crate::backends::Backend;
use crate::world::{HOST, World, json};

async fn open(path: &Path) -> SqliteStore {
    sqlite::open(SqliteOptions::file(path)).await.unwrap()
}

fn world(store: SqliteStore) -> World {
    World::on(Backend { stores: store.stores(Arc::new(MemoryBlobs::default())), inspect: Arc::new(store), keep: Box::new(()) })
}

async fn refusal(path: &Path) -> String {
    match sqlite::open(SqliteOptions::file(path)).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(StoreError::Unusable(message) | StoreError::OtherSchema(message) | StoreError::InUse(message)) => {
            assert!(message.contains(&*path.to_string_lossy()), "{message} does not name the file");
            message
        }
        Err(error) => panic!("not clear enough: {error:?}"),
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.db");
    for content in ["x", "SQLite format 3\0 and then nothing of the kind", &"text ".repeat(10_000)] {
        std::fs::write(&path, content).unwrap();
        refusal(&path).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "it was changed");
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refusal(folder.path()).await.contains("folder"));
    assert!(refusal(&folder.path().join("missing/tower.db")).await.contains("cannot be written"));
    std::fs::write(folder.path().join("file"), "").unwrap();
    refusal(&folder.path().join("file/tower.db")).await;
    let mut sealed = folder.path().metadata().unwrap().permissions();
    let path = folder.path().join("tower.db");
    drop(open(&path).await);
    sealed.set_readonly(true);
    std::fs::set_permissions(&path, sealed).unwrap();
    // Whoever may write everything is not stopped by it.
    if std::fs::OpenOptions::new().write(true).open(&path).is_err() {
        assert!(refusal(&path).await.contains("cannot be written"));
    }
}

#[tokio::test]
async fn a_file_may_be_called_whatever_the_system_lets_it() {
    use std::os::unix::ffi::OsStringExt;
    let folder = tempfile::tempdir().unwrap();
    for name in [&b"a b.db"[..], b"50%25?mode=memory#1.db", "\u{5854}.db".as_bytes(), b"file:x.db"] {
        let path = folder.path().join(std::ffi::OsString::from_vec(name.to_vec()));
        let world = world(open(&path).await);
        let (trace, _) = world.submit().await;
        assert!(world.stores.read.trace(trace).await.unwrap().is_some(), "{}", path.display());
        drop(world);
        let look = sqlite::look(&path).await.unwrap();
        let read = look.store.stores(Arc::new(MemoryBlobs::default())).read;
        assert!(read.trace(trace).await.unwrap().is_some(), "{}", path.display());
    }
}

async fn change(path: &Path, statement: &'static str) {
    let mut conn = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mail.db");
    change(&path, "CREATE TABLE mails (id INTEGER)").await;
    let before = std::fs::read(&path).unwrap();
    assert!(refusal(&path).await.contains("another program"));
    assert_eq!(std::fs::read(&path).unwrap(), before, "it was changed");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.db");
    open(&path).await.close().await.unwrap();
    change(&path, "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)").await;
    assert!(refusal(&path).await.contains("newer"));
}

fn files(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

#[tokio::test]
async fn looking_at_a_database_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.db");
    let store = open(&path).await;
    let world = world(store.clone());
    world.submit().await;
    // While a tower has it open.
    let used = sqlite::look(&path).await.unwrap();
    assert!(used.file.in_use && used.was_still());
    assert_eq!(used.file.schema, sqlite::schema_of_this_version());
    assert_eq!(tower_store::invariants::check(&used.store).await.unwrap(), []);
    drop((used, world));
    store.close().await.unwrap();
    drop(store);
    // Connections end on threads of their own, and the last one takes the log away.
    let begin = std::time::Instant::now();
    while folder.path().join("tower.db-wal").exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the log stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // And when none has: not a file more, not a byte else.
    let before = files(folder.path());
    let look = sqlite::look(&path).await.unwrap();
    assert_eq!(look.integrity().await.unwrap(), Vec::<String>::new());
    assert_eq!(tower_store::invariants::check(&look.store).await.unwrap(), []);
    assert!(!look.file.in_use && look.was_still());
    drop(look);
    assert!(files(folder.path()) == before, "looking made a file, or changed one");
    // Somebody who begins to write meanwhile is noticed.
    let look = sqlite::look(&path).await.unwrap();
    change(&path, "CREATE TABLE meanwhile (id INTEGER)").await;
    assert!(!look.was_still());
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_said_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.db");
    let said = async || match sqlite::look(&path).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => format!("{error:?}"),
    };
    assert!(said().await.contains("cannot be read"));
    assert!(!path.exists(), "looking made a file");
    std::fs::write(&path, "a letter to somebody, and surely no database").unwrap();
    assert!(said().await.contains("Unusable"));
    std::fs::remove_file(&path).unwrap();
    change(&path, "CREATE TABLE mails (id INTEGER)").await;
    assert!(said().await.contains("not the database of a tower"));
    std::fs::remove_file(&path).unwrap();
    open(&path).await.close().await.unwrap();
    change(&path, "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)").await;
    assert!(said().await.starts_with("OtherSchema") && said().await.contains("older"));
    change(&path, "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)").await;
    assert!(said().await.starts_with("OtherSchema") && said().await.contains("newer"));
}

#[tokio::test]
async fn a_second_tower_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.db");
    let first = open(&path).await;
    assert!(refusal(&path).await.contains("in use"));
    let stores = first.stores(Arc::new(MemoryBlobs::default()));
    drop(first);
    refusal(&path).await;
    drop(stores);
    open(&path).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.db");
    let first = world(open(&path).await);
    let (trace_id, root) = first.submit().await;
    first.claim_one().await;
    let events = first.events(trace_id).await;
    // What a kill leaves: the files as they are, the write-ahead log unmerged.
    let crashed = folder.path().join("crashed.db");
    for suffix in ["", "-wal"] {
        std::fs::copy(format!("{}{suffix}", path.display()), format!("{}{suffix}", crashed.display())).unwrap();
    }
    let second = world(open(&crashed).await);
    second.clock.set_micros(first.now().as_micros());
    assert_eq!(second.events(trace_id).await, events);
    assert_eq!(second.task(root).await.phase, Phase::Executing);
    second.is_sound().await;
    second.commit(vec![Command::Expire(tower_store::work::Expire::Host { host: HOST.to_owned(), suspects: Vec::new() })]).await;
    second.finish(&second.claim_one().await, "1").await;
    assert_eq!(second.trace(trace_id).await.status, Status::Success);
    drop(first);
    assert_eq!(world(open(&path).await).events(trace_id).await, events);
}

/// When a future is dropped.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// As soon as it waits for something, which then happens without it.
    Waiting,
    /// When what it waited for has happened, which it does not learn.
    Answered,
}

/// A future takes more steps than this only if it never ends.
const STEPS_MAX: usize = 2_000;

/// Polls a future so many times, each time when it has been woken, and then drops it. So a step is a step of its work on any machine,
/// however long it takes.
pub(crate) async fn cut_off<F: Future>(future: F, polls: usize, cut: Cut) -> Option<F::Output> {
    assert!(polls < STEPS_MAX, "it does not end");
    let mut future = Box::pin(future);
    let woken = Arc::new(Woken::default());
    let waker = std::task::Waker::from(woken.clone());
    for poll in 1..=polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            return Some(output);
        }
        if poll < polls || matches!(cut, Cut::Answered) {
            tokio::time::timeout(Duration::from_secs(60), woken.0.notified()).await.expect("what was polled is never woken");
        }
    }
    None
}

#[derive(Default)]
struct Woken(tokio::sync::Notify);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_commit_that_is_dropped_in_the_middle_leaves_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (number, memory) in [false, true].into_iter().enumerate() {
        let options = if memory { SqliteOptions::memory() } else { SqliteOptions::file(folder.path().join(format!("{number}.db"))) };
        let world = world(sqlite::open(options).await.unwrap());
        let (mut cut, mut whole) = (0, 0);
        for when in [Cut::Waiting, Cut::Answered] {
            let (trace_id, _) = world.submit().await;
            let root = world.claim_one().await;
            world.split(&root, (0..100).map(|number| world.child(&root, &format!("c{number}"))).collect()).await;
            for polls in 0.. {
                let claimed = world.claim(3).await;
                let before = world.trace(trace_id).await;
                let commands: Vec<Command> = claimed.iter().map(|claimed| world.good(claimed, "1")).collect();
                let claim = Some(Claim { host: HOST.to_owned(), limit: 2, elsewhere: Vec::new(), lease: Duration::ZERO });
                let batch = Batch {
                    now: world.now(),
                    host: HOST.to_owned(),
                    trace_tasks_max: 1_000,
                    cancel_max: 1_000,
                    night: NightWindow::default(),
                    user_max_concurrent: None,
                    others: false,
                    commands,
                    claim,
                };
                let end = cut_off(world.stores.work.commit(batch), polls, when).await;
                let after = world.trace(trace_id).await;
                world.is_sound().await;
                if after == before {
                    assert!(end.is_none());
                    cut += 1;
                } else {
                    assert_eq!(after.counts.success, before.counts.success + 3, "half of it was done");
                    whole += 1;
                }
                world.clock.advance(Duration::from_secs(60));
                world.commit(vec![Command::Expire(tower_store::work::Expire::Overdue)]).await;
                if end.is_some() {
                    break;
                }
            }
            world.run_dry().await;
        }
        // Each pass begins with one that was never polled, and ends with one that came to its end.
        assert!(cut >= 2 && whole >= 2, "{cut} cut, {whole} whole");
    }
}

#[tokio::test]
async fn an_error_in_the_middle_undoes_the_batch_and_the_next_one_works() {
    let world = World::on(crate::backends::sqlite_file().await);
    let (trace_id, root) = world.submit().await;
    // The second trace has the first one's id: the table refuses it after the first was written.
    let fresh = world.new_trace();
    let twice = tower_store::work::NewTrace { trace_id, ..world.new_trace() };
    let commands = vec![Command::Submit(Box::new(fresh.clone())), Command::Submit(Box::new(twice))];
    let batch = Batch {
        now: world.now(),
        host: HOST.to_owned(),
        trace_tasks_max: 10,
        cancel_max: 1_000,
        night: NightWindow::default(),
        user_max_concurrent: None,
        others: false,
        commands,
        claim: None,
    };
    assert!(matches!(world.stores.work.commit(batch).await, Err(StoreError::Batch(_))));
    assert!(world.stores.read.trace(fresh.trace_id).await.unwrap().is_none());
    world.is_sound().await;
    world.submit_as(fresh).await;
    assert_eq!(world.claim(10).await.len(), 2);
    assert_eq!(world.status(root).await, Status::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_do_not_wait_for_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.db");
    let world = world(open(&path).await);
    let (trace_id, _) = world.submit().await;
    // Another process, a backup say, holds the write lock for a moment: readers go on, the writer waits.
    let mut other = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let new = Box::new(world.new_trace());
    let batch = Batch {
        now: Timestamp::from_micros(1),
        host: HOST.to_owned(),
        trace_tasks_max: 10,
        cancel_max: 1_000,
        night: NightWindow::default(),
        user_max_concurrent: None,
        others: false,
        commands: vec![Command::Submit(new)],
        claim: None,
    };
    let work = world.stores.work.clone();
    let commit = tokio::spawn(async move { work.commit(batch).await });
    tokio::time::timeout(Duration::from_secs(30), world.trace(trace_id)).await.unwrap();
    assert!(!commit.is_finished());
    other.close().await.unwrap();
    commit.await.unwrap().unwrap();
}

/// A database as it was before there were schedules: the migrations of then, and a trace with an order.
#[tokio::test]
async fn what_was_there_before_a_migration_is_there_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, then) = (folder.path().join("tower.db"), folder.path().join("then"));
    std::fs::create_dir(&then).unwrap();
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite");
    for file in std::fs::read_dir(&all).unwrap().map(|entry| entry.unwrap().file_name()) {
        if file.to_str().unwrap() < "0006" {
            std::fs::copy(all.join(&file), then.join(&file)).unwrap();
        }
    }
    let migrator = sqlx::migrate::Migrator::new(then).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut conn = sqlx::ConnectOptions::connect(&options).await.unwrap();
    migrator.run(&mut conn).await.unwrap();
    let rows = "INSERT INTO traces VALUES (x'01000000000000000000000000000001', x'02000000000000000000000000000002', 2, 0, 0, 0, 1, 0, 0, 0, 0, 7, \
             10, 20, 30, 1, 2, x'03000000000000000000000000000003', 'd', 'ada', 'api', 'key', '{\"a\":\"b\"}'); \
         INSERT INTO control_events VALUES (x'01000000000000000000000000000001', x'04000000000000000000000000000004', NULL, 2, 25, 'bob', 'enough')";
    sqlx::raw_sql(rows).execute(&mut conn).await.unwrap();
    sqlx::Connection::close(conn).await.unwrap();
    let store = open(&path).await;
    let world = world(store.clone());
    let trace = tower_domain::id::TraceId::from_bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let orders = world.stores.read.control_events(trace).await.unwrap();
    assert_eq!((orders.len(), orders[0].triggered_by.as_str(), orders[0].reason.as_str()), (1, "bob", "enough"));
    drop((world, store));
    let mut conn = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let row = sqlx::query("SELECT rank, created_at, trigger_type, hex(rerun_of), labels, cron_trigger_time FROM traces").fetch_one(&mut conn).await.unwrap();
    use sqlx::Row as _;
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1), row.get::<i64, _>(2)), (7, 10, 2));
    assert_eq!((row.get::<String, _>(3).as_str(), row.get::<String, _>(4).as_str()), ("03000000000000000000000000000003", "{\"a\":\"b\"}"));
    assert_eq!(row.get::<Option<i64>, _>(5), None);
}

/// What the next life knows of it is the newest task.
#[tokio::test]
async fn a_clock_that_is_behind_that_of_an_earlier_life_goes_on_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.db");
    let before = world(open(&path).await);
    before.clock.advance(Duration::from_secs(3_600));
    before.submit().await;
    drop(before);
    let after = world(open(&path).await);
    let root = after.claim_one().await;
    after.finish(&root, "1").await;
}

/// So many traces with long params, in transactions of 4 MiB each. Answers the length of the log after each.
async fn fill(world: &World, log: &Path, mib: u64) -> Vec<u64> {
    let params = format!(r#"{{"text":"{}"}}"#, "x".repeat(200 << 10));
    let mut lengths = Vec::new();
    for _ in 0..mib / 4 {
        let long = || Command::Submit(Box::new(NewTrace { params: json(&params), ..world.new_trace() }));
        world.commit((0..20).map(|_| long()).collect()).await;
        lengths.push(std::fs::metadata(log).unwrap().len());
    }
    lengths
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_moved_into_the_file_while_batches_are_written_and_begins_anew() {
    const MIB: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = (folder.path().join("tower.db"), folder.path().join("tower.db-wal"));
    let store = open(&path).await;
    let world = world(store.clone());
    let lengths = fill(&world, &log, 200).await;
    assert!(lengths.iter().all(|length| *length < 80 * MIB), "{lengths:?}");
    let moved = std::fs::metadata(&path).unwrap().len();
    assert!(moved > 100 * MIB, "{moved}");
    // Somebody who reads what was there keeps it from beginning anew, for as long as that takes.
    let mut reader = SqliteConnectOptions::new().filename(&path).read_only(true).connect().await.unwrap();
    sqlx::query("BEGIN").execute(&mut reader).await.unwrap();
    let read: i64 = sqlx::query_scalar("SELECT count(*) FROM traces").fetch_one(&mut reader).await.unwrap();
    let lengths = fill(&world, &log, 160).await;
    assert!(lengths.last().is_some_and(|length| *length > 120 * MIB), "{lengths:?}");
    let still: i64 = sqlx::query_scalar("SELECT count(*) FROM traces").fetch_one(&mut reader).await.unwrap();
    assert_eq!((read, still), (1_000, 1_000));
    reader.close().await.unwrap();
    let lengths = fill(&world, &log, 160).await;
    assert!(lengths.last().is_some_and(|length| *length < 80 * MIB), "{lengths:?}");
    world.is_sound().await;
    store.close().await.unwrap();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_closed_while_its_log_is_moved_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = (folder.path().join("tower.db"), folder.path().join("tower.db-wal"));
    for _ in 0..10 {
        let store = open(&path).await;
        let world = world(store.clone());
        fill(&world, &log, 20).await;
        store.close().await.unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
    }
}
