//! Several hosts on one PostgreSQL database, and hosts that stop in the middle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tower_domain::clock::Timestamp;
use tower_domain::control::ControlAction;
use tower_domain::definition::DefinitionSpec;
use tower_domain::event::EventType;
use tower_domain::id::TaskId;
use tower_domain::limit::Gates;
use tower_domain::schedule::NightWindow;
use tower_domain::split::PlannedChild;
use tower_domain::step::StepFailure;
use tower_domain::task::Status;
use tower_store::StoreError;
use tower_store::blobs::MemoryBlobs;
use tower_store::news::News;
use tower_store::postgres::{self, PostgresOptions, PostgresStore};
use tower_store::work::{Answer, Batch, Claim, Claimed, Command, Committed, Expire, Idempotency, NewTrace, Observe, OutsideEvent, SettledEnd, WorkStore};
use tower_test_postgres::{Cluster, Database};

use crate::backends::{Backend, host};
use crate::sqlite_files::{Cut, cut_off};
use crate::world::{HOST, LEASE, World, definition, json, name, queue};

/// A world whose database other hosts use as well.
pub(crate) async fn shared() -> (World, Arc<Database>) {
    let database = Arc::new(Cluster::shared().database());
    let store = host(&database).await;
    let backend = Backend { stores: store.stores(Arc::new(MemoryBlobs::default())), inspect: Arc::new(store), keep: Box::new(database.clone()) };
    (World::on(backend), database)
}

pub(crate) async fn connect(database: &Database) -> PgConnection {
    database.url().parse::<sqlx::postgres::PgConnectOptions>().unwrap().connect().await.unwrap()
}

pub(crate) fn batch(world: &World, host: &str, commands: Vec<Command>, limit: u32) -> Batch {
    let claim = (limit > 0).then(|| Claim { host: host.to_owned(), limit, elsewhere: Vec::new(), lease: LEASE });
    Batch {
        now: world.now(),
        host: host.to_owned(),
        trace_tasks_max: 10_000,
        cancel_max: 1_000,
        night: NightWindow::default(),
        user_max_concurrent: None,
        others: true,
        commands,
        claim,
    }
}

async fn commit(world: &World, store: &PostgresStore, host: &str, commands: Vec<Command>, limit: u32) -> Committed {
    store.commit(batch(world, host, commands, limit)).await.unwrap()
}

/// Waits until a question of the database is answered with yes.
async fn wait_until(conn: &mut PgConnection, question: &'static str) {
    let begun = std::time::Instant::now();
    while !sqlx::query_scalar::<_, bool>(question).fetch_one(&mut *conn).await.unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not so within 30 seconds: {question}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether somebody waits for a lock in this database.
const SOMEBODY_WAITS: &str = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Whether nothing is open in this database but what asks.
const NOTHING_IS_OPEN: &str =
    "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_claim_at_once_claim_each_task_once() {
    let (world, database) = shared().await;
    let mut traces = HashSet::new();
    for _ in 0..20 {
        traces.insert(world.submit().await.0);
    }
    for root in world.claim(20).await {
        world.split(&root, (0..20).map(|number| world.child(&root, &format!("c{number}"))).collect()).await;
    }
    let hosts = join_all((0..4).map(|_| host(&database))).await;
    let claimed = join_all(hosts.iter().enumerate().map(|(number, store)| {
        let world = &world;
        async move {
            let name = format!("host-{number}");
            let mut claimed: Vec<Claimed> = Vec::new();
            loop {
                let committed = commit(world, store, &name, Vec::new(), 7).await;
                let done = committed.claimed.is_empty() && !committed.more_ready;
                let ends = committed.claimed.iter().map(|claimed| world.good(claimed, "1")).collect();
                claimed.extend(committed.claimed);
                for answer in commit(world, store, &name, ends, 0).await.answers {
                    assert_eq!(answer, Answer::Done);
                }
                if done {
                    return claimed;
                }
            }
        }
    }))
    .await;
    let all: Vec<TaskId> = claimed.iter().flatten().filter(|claimed| claimed.parent_id.is_some()).map(|claimed| claimed.task_id).collect();
    assert_eq!(all.len(), 400);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 400);
    assert!(claimed.iter().filter(|claimed| !claimed.is_empty()).count() > 1, "a single host did it all");
    world.run_dry().await;
    world.is_sound().await;
    for trace in traces {
        assert_eq!(world.trace(trace).await.status, Status::Success);
    }
}

/// A batch goes by what its host's last one saw, and says where that is out of date.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_host_has_put_there_meanwhile_is_done_a_batch_later() {
    let (world, database) = shared().await;
    let other = host(&database).await;
    let (_, retried) = world.submit().await;
    // Nothing waits for its time yet, nor in a lane of its own.
    let seen = world.batch(Vec::new(), None).await;
    assert_eq!((seen.next_due, seen.more_elsewhere), (None, false));
    let claimed = commit(&world, &other, "other", Vec::new(), 1).await.claimed.remove(0);
    let failure = StepFailure::retryable("SLOW", "this time");
    let failed = world.settle(&claimed, SettledEnd::Failed { failure, delay: Duration::from_secs(1) });
    let elsewhere = NewTrace { lane: queue("gpu"), ..world.new_trace() };
    let outside = elsewhere.root_task_id;
    commit(&world, &other, "other", vec![failed, Command::Submit(Box::new(elsewhere))], 0).await;
    world.clock.advance(Duration::from_secs(2));
    let first = world.batch(Vec::new(), Some(world.wish(10))).await;
    assert!(first.claimed.is_empty(), "{:#?}", first.claimed);
    assert!(first.more_elsewhere && first.next_due.is_some_and(|due| due <= world.now()), "the next batch is to begin at once: {:?}", first.next_due);
    let second = world.batch(Vec::new(), Some(world.wish(10))).await;
    assert_eq!(second.claimed.iter().map(|claimed| claimed.task_id).collect::<HashSet<_>>(), HashSet::from([retried, outside]));
}

#[tokio::test]
async fn what_another_host_has_made_ready_is_claimed_at_once_where_nothing_else_is_to_do_and_else_a_batch_later() {
    let (world, database) = shared().await;
    let other = host(&database).await;
    for commands in [0, 1] {
        let (_, own) = world.submit().await;
        let mine = world.claim_one().await;
        assert_eq!(mine.task_id, own);
        // Nothing is left that could be claimed.
        assert!(!world.batch(Vec::new(), Some(world.wish(10))).await.more_ready);
        let new = world.new_trace();
        let theirs = new.root_task_id;
        commit(&world, &other, "other", vec![Command::Submit(Box::new(new))], 0).await;
        let ends = [world.good(&mine, "1")];
        let first = world.batch(ends.iter().take(commands).cloned().collect(), Some(world.wish(10))).await;
        let claimed = if commands == 0 {
            first.claimed
        } else {
            assert!(first.claimed.is_empty() && first.more_ready, "the next batch is to begin at once: {:?}", first.claimed);
            world.batch(Vec::new(), Some(world.wish(10))).await.claimed
        };
        assert_eq!(claimed.iter().map(|claimed| claimed.task_id).collect::<Vec<_>>(), [theirs]);
        world.finish(&claimed[0], "1").await;
        if commands == 0 {
            world.finish(&mine, "1").await;
        }
    }
    world.is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_begins_one_trace_whichever_host_is_asked() {
    let (world, database) = shared().await;
    let hosts = join_all((0..4).map(|_| host(&database))).await;
    for round in 0..10 {
        let answers = join_all(hosts.iter().map(|store| {
            let idempotency = Idempotency { key: format!("key-{round}"), fingerprint: [7; 32], not_before: world.now() };
            let new = NewTrace { idempotency: Some(idempotency), ..world.new_trace() };
            commit(&world, store, HOST, vec![Command::Submit(Box::new(new))], 0)
        }))
        .await;
        let mut begun = HashMap::new();
        for answer in answers.iter().map(|committed| &committed.answers[0]) {
            match answer {
                Answer::Submitted { trace_id, .. } => begun.entry(*trace_id).or_insert((0, 0)).0 += 1,
                Answer::Replayed { trace_id, .. } => begun.entry(*trace_id).or_insert((0, 0)).1 += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(begun.into_values().collect::<Vec<_>>(), [(1, 3)]);
    }
    world.is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_outside_event_is_kept_once_whichever_host_is_told() {
    let (world, database) = shared().await;
    let (trace_id, root) = world.submit().await;
    world.submit().await;
    let hosts = join_all((0..4).map(|_| host(&database))).await;
    for round in 0..10 {
        let event = OutsideEvent {
            event_id: format!("event-{round}"),
            trace_id: None,
            task_id: root,
            event_type: EventType::Progress,
            progress: None,
            payload: Some(json("1")),
        };
        let answers = join_all(hosts.iter().map(|store| commit(&world, store, HOST, vec![Command::PostEvent(event.clone())], 0))).await;
        let count = |wanted: Answer| answers.iter().filter(|committed| committed.answers[0] == wanted).count();
        assert_eq!((count(Answer::Done), count(Answer::Duplicate)), (1, 3));
    }
    assert_eq!(world.events(trace_id).await.iter().filter(|event| event.event_id.is_some()).count(), 10);
    world.is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instant_fires_once_whichever_host_asks() {
    let (world, database) = shared().await;
    let hosts = join_all((0..4).map(|_| host(&database))).await;
    let schedule = crate::schedules::due_once(&world).await;
    let answers = join_all(hosts.iter().map(|store| commit(&world, store, HOST, vec![crate::schedules::fire_of(&world, &schedule)], 0))).await;
    let count = |wanted: Answer| answers.iter().filter(|committed| committed.answers[0] == wanted).count();
    assert_eq!((count(Answer::Fired { waits: false }), count(Answer::ScheduleMoved)), (1, 3));
    world.is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_that_several_hosts_put_has_one_history() {
    let (world, database) = shared().await;
    let hosts = join_all((0..4).map(|_| host(&database))).await;
    for round in 0..5 {
        let id = name(&format!("d{round}"));
        let specs: Vec<_> = (0..4)
            .map(|number| {
                let mut spec = definition("d").spec.clone();
                spec.description = format!("version {number}");
                spec
            })
            .collect();
        let put = join_all(hosts.iter().zip(&specs).map(|(store, spec)| {
            let (id, now) = (&id, world.now());
            async move { tower_store::definitions::DefinitionStore::put(store, id, spec, None, now).await.unwrap() }
        }))
        .await;
        assert_eq!(put.iter().filter(|put| matches!(put, tower_store::definitions::Put::Created(_))).count(), 1, "{put:#?}");
        assert_eq!(world.stores.definitions.find(&id).await.unwrap().unwrap().version, 4);
    }
}

#[tokio::test]
async fn what_another_host_holds_is_left_to_it_and_the_rest_is_claimed() {
    let (world, database) = shared().await;
    let (held, _) = world.submit().await;
    let (free, _) = world.submit().await;
    let mut other = connect(&database).await;
    let mut tx = other.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM traces WHERE trace_id = $1::text::uuid FOR UPDATE").bind(uuid(held.to_bytes())).execute(&mut *tx).await.unwrap();
    let committed = tokio::time::timeout(Duration::from_secs(60), world.try_batch(Vec::new(), Some(world.wish(10)))).await.unwrap();
    assert_eq!(committed.claimed.iter().map(|claimed| claimed.trace_id).collect::<Vec<_>>(), [free]);
    assert!(committed.more_ready, "what is held now can be claimed in a moment");
    tx.rollback().await.unwrap();
    let committed = world.batch(Vec::new(), Some(world.wish(10))).await;
    assert_eq!(committed.claimed.iter().map(|claimed| claimed.trace_id).collect::<Vec<_>>(), [held]);
    assert!(!committed.more_ready);
}

fn uuid(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_batch_that_is_undone_for_a_deadlock_is_run_again() {
    let (world, database) = shared().await;
    let (first, second) = (world.submit().await.0, world.submit().await.0);
    let mut roots = world.claim(2).await;
    roots.sort_by_key(|claimed| claimed.trace_id);
    let (mut other, mut looks) = (connect(&database).await, connect(&database).await);
    // The batch is to be the one that PostgreSQL undoes.
    sqlx::raw_sql("SET deadlock_timeout = '100s'").execute(&mut other).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    let lock = "SELECT 1 FROM traces WHERE trace_id = $1::text::uuid FOR UPDATE";
    sqlx::query(lock).bind(uuid(second.to_bytes())).execute(&mut *tx).await.unwrap();
    let commands = roots.iter().map(|claimed| world.good(claimed, "1")).collect();
    let work = world.stores.work.clone();
    let waiting = batch(&world, HOST, commands, 0);
    let commit = tokio::spawn(async move { work.commit(waiting).await });
    wait_until(&mut looks, SOMEBODY_WAITS).await;
    sqlx::query(lock).bind(uuid(first.to_bytes())).execute(&mut *tx).await.unwrap();
    // It was let have what the batch had held: that was undone.
    tx.commit().await.unwrap();
    let committed = commit.await.unwrap().unwrap();
    assert_eq!(committed.answers, [Answer::Done, Answer::Done]);
    assert_eq!(committed.ended.len(), 2);
    world.is_sound().await;
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_fails_its_batch_and_no_other() {
    let (world, database) = shared().await;
    let (trace, _) = world.submit().await;
    let claimed = world.claim_one().await;
    let (mut other, mut looks) = (connect(&database).await, connect(&database).await);
    let mut tx = other.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM traces FOR UPDATE").execute(&mut *tx).await.unwrap();
    let work = world.stores.work.clone();
    let waiting = batch(&world, HOST, vec![world.good(&claimed, "1")], 0);
    let commit = tokio::spawn(async move { work.commit(waiting).await });
    wait_until(&mut looks, SOMEBODY_WAITS).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let killed: i64 = sqlx::query_scalar(kill).fetch_one(&mut looks).await.unwrap();
    assert_eq!(killed, 1);
    let error = commit.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Database(_)) && error.is_outage(), "{error:?}");
    tx.rollback().await.unwrap();
    assert_eq!(world.status(claimed.task_id).await, Status::Running);
    world.finish(&claimed, "1").await;
    assert_eq!(world.trace(trace).await.status, Status::Success);
}

#[tokio::test]
async fn a_commit_that_is_dropped_in_the_middle_leaves_all_or_nothing() {
    let (world, database) = shared().await;
    let mut looks = connect(&database).await;
    let (mut cut, mut whole) = (0, 0);
    for when in [Cut::Waiting, Cut::Answered] {
        let (trace_id, _) = world.submit().await;
        let root = world.claim_one().await;
        world.split(&root, (0..40).map(|number| world.child(&root, &format!("c{number}"))).collect()).await;
        for polls in 0.. {
            let claimed = world.claim(3).await;
            let before = world.trace(trace_id).await;
            let commands: Vec<Command> = claimed.iter().map(|claimed| world.good(claimed, "1")).collect();
            let end = cut_off(world.stores.work.commit(batch(&world, HOST, commands, 2)), polls, when).await;
            // The connection was handed back, and somebody else may have it by now.
            wait_until(&mut looks, NOTHING_IS_OPEN).await;
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
            world.commit(vec![Command::Expire(Expire::Overdue)]).await;
            if end.is_some() {
                break;
            }
        }
        world.run_dry().await;
    }
    // Each pass begins with one that was never polled, and ends with one that came to its end.
    assert!(cut >= 2 && whole >= 2, "{cut} cut, {whole} whole");
}

#[tokio::test]
async fn an_error_in_the_middle_undoes_the_batch_and_the_next_one_works() {
    let (world, _database) = shared().await;
    let (trace_id, root) = world.submit().await;
    // The second trace has the first one's id: the table refuses it after the first was written.
    let fresh = world.new_trace();
    let twice = NewTrace { trace_id, ..world.new_trace() };
    let commands = vec![Command::Submit(Box::new(fresh.clone())), Command::Submit(Box::new(twice))];
    let error = world.stores.work.commit(batch(&world, HOST, commands, 0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Database(_)) && !error.is_outage(), "{error:?}");
    assert!(world.stores.read.trace(fresh.trace_id).await.unwrap().is_none());
    world.is_sound().await;
    world.submit_as(fresh).await;
    assert_eq!(world.claim(10).await.len(), 2);
    assert_eq!(world.status(root).await, Status::Running);
}

#[tokio::test]
async fn a_guests_nul_is_kept_as_the_sign_for_what_cannot_be_shown() {
    let (world, _database) = shared().await;
    world.submit().await;
    let claimed = world.claim_one().await;
    let progress = Some((50, "half\0way".to_owned()));
    let observe = Observe { task_id: claimed.task_id, fence: claimed.fence, progress, logs: Vec::new(), partials: Vec::new() };
    world.commit(vec![Command::Observe(observe)]).await;
    assert_eq!(world.task(claimed.task_id).await.progress_message, "half\u{FFFD}way");
}

/// Hosts that settle, split, cancel, pause and expire over the same traces, all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariants_hold_while_hosts_work_on_the_same_traces() {
    let (world, database) = shared().await;
    let world = &world;
    let mut traces = Vec::new();
    for _ in 0..6 {
        traces.push(world.submit().await.0);
    }
    let hosts = join_all((0..4).map(|_| host(&database))).await;
    let traces = &traces;
    join_all(hosts.iter().enumerate().map(|(number, store)| async move {
        let name = format!("host-{number}");
        let mut held: Vec<Claimed> = Vec::new();
        for round in 0..40usize {
            let mut commands: Vec<Command> = Vec::new();
            for claimed in std::mem::take(&mut held) {
                let seed = usize::from(claimed.task_id.to_bytes()[15]);
                commands.push(match (claimed.depth, seed % 8) {
                    (0..=2, 0..=4) => {
                        let children = (0..3).map(|child| world.child(&claimed, &format!("{name}-{round}-{child}"))).collect();
                        world.settle(&claimed, tower_store::work::SettledEnd::Finished { output: crate::world::inline("1"), children, round: None })
                    }
                    (_, 5) => world.settle(&claimed, tower_store::work::SettledEnd::Released),
                    _ => world.good(&claimed, "1"),
                });
            }
            let trace = traces[(number + round) % traces.len()];
            match round % 10 {
                3 => commands.push(Command::Control(world.order(ControlAction::Pause, trace, None))),
                5 => commands.push(Command::Control(world.order(ControlAction::Run, trace, None))),
                6 => commands.push(Command::Expire(Expire::Overdue)),
                8 => commands.push(Command::Submit(Box::new(world.new_trace()))),
                9 if round > 30 => commands.push(Command::Control(world.order(ControlAction::Cancel, trace, None))),
                _ => {}
            }
            commands.push(Command::Renew { host: name.clone(), held: Vec::new(), lease: Some(LEASE) });
            // Now and then a host is so slow that its leases run out.
            world.clock.advance(Duration::from_millis(if round == 20 { 40_000 } else { 5 }));
            held = commit(world, store, &name, commands, 6).await.claimed;
        }
        let given_back = held.iter().map(|claimed| world.settle(claimed, tower_store::work::SettledEnd::Released)).collect();
        commit(world, store, &name, given_back, 0).await;
    }))
    .await;
    world.is_sound().await;
    let resume = traces.iter().map(|trace| Command::Control(world.order(ControlAction::Run, *trace, None))).collect();
    world.commit(resume).await;
    world.run_dry().await;
    for trace in traces {
        assert!(world.trace(*trace).await.status.is_terminal());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_for_all_hosts_together() {
    const LIMIT: u32 = 3;
    let (world, database) = shared().await;
    let mut limited = (*definition("child-def")).clone();
    limited.spec.max_concurrent = Some(LIMIT);
    world.stores.definitions.put(&name("child-def"), &limited.spec, None, world.now()).await.unwrap();
    let limited = Arc::new(limited);
    for _ in 0..4 {
        world.submit().await;
    }
    for root in world.claim(4).await {
        let child = |number| PlannedChild { definition: limited.clone(), ..world.child(&root, &format!("c{number}")) };
        world.split(&root, (0..15).map(child).collect()).await;
    }
    let hosts = join_all((0..4).map(|_| host(&database))).await;
    let done = std::sync::atomic::AtomicUsize::new(0);
    let (world, done, database) = (&world, &done, &database);
    join_all(hosts.iter().enumerate().map(|(number, store)| async move {
        let name = format!("host-{number}");
        let mut looks = connect(database).await;
        while done.load(std::sync::atomic::Ordering::SeqCst) < 60 {
            let claimed = commit(world, store, &name, Vec::new(), 2).await.claimed;
            let running: i64 = sqlx::query_scalar("SELECT count(*) FROM queue AS q JOIN tasks AS t ON t.id = q.task_id WHERE q.place = 2 AND t.depth = 1")
                .fetch_one(&mut looks)
                .await
                .unwrap();
            assert!(running <= LIMIT.into(), "{running} run at once");
            let children = claimed.iter().filter(|claimed| claimed.parent_id.is_some()).count();
            let ends = claimed.iter().map(|claimed| world.good(claimed, "1")).collect();
            commit(world, store, &name, ends, 0).await;
            done.fetch_add(children, std::sync::atomic::Ordering::SeqCst);
        }
    }))
    .await;
    world.is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_come_to_a_fresh_limit_at_once_share_it() {
    let (world, database) = shared().await;
    let hosts = join_all((0..4).map(|_| host(&database))).await;
    let mut looks = connect(&database).await;
    for round in 0..10 {
        let id = name(&format!("limited-{round}"));
        let spec = DefinitionSpec { max_concurrent: Some(1), ..definition("x").spec.clone() };
        world.stores.definitions.put(&id, &spec, None, world.now()).await.unwrap();
        join_all(hosts.iter().map(|store| {
            let gates = Gates::of(&id, &spec.limits(), &json("{}"), None);
            let new = NewTrace { definition_id: id.clone(), gates, ..world.new_trace() };
            commit(&world, store, HOST, vec![Command::Submit(Box::new(new))], 0)
        }))
        .await;
        let passed = "SELECT count(*) FROM queue AS q JOIN tasks AS t ON t.id = q.task_id WHERE q.place = 0 AND t.job_id = $1";
        assert_eq!(sqlx::query_scalar::<_, i64>(passed).bind(id.as_str()).fetch_one(&mut looks).await.unwrap(), 1);
    }
    world.is_sound().await;
}

#[tokio::test]
async fn leases_are_judged_by_the_databases_clock() {
    let (world, database) = shared().await;
    let (trace, _) = world.submit().await;
    let [early, late] = [(); 2].map(|()| postgres::open(PostgresOptions::at(database.url())));
    let (early, late) = (early.await.unwrap(), late.await.unwrap());
    let of_clock = |micros: i64, commands: Vec<Command>, limit: u32| Batch { now: Timestamp::from_micros(micros), ..batch(&world, HOST, commands, limit) };
    let claimed = early.commit(of_clock(1, Vec::new(), 1)).await.unwrap();
    assert_eq!(claimed.claimed.len(), 1);
    let swept = late.commit(of_clock(i64::MAX / 2, vec![Command::Expire(Expire::Overdue)], 0)).await.unwrap();
    assert!((0..60_000_000).contains(&(swept.now.as_micros() - claimed.now.as_micros())), "{} and {}", swept.now, claimed.now);
    assert_eq!(world.trace(trace).await.counts.running, 1, "the lease was taken for overdue");
    late.commit(of_clock(2, vec![world.good(&claimed.claimed[0], "1")], 0)).await.unwrap();
    world.is_sound().await;
}

#[tokio::test]
async fn who_listens_goes_on_when_the_connection_was_lost() {
    let (world, database) = shared().await;
    let mut theirs = world.stores.news.listen("host-2").await.unwrap();
    let mut looks = connect(&database).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'";
    assert_eq!(sqlx::query_scalar::<_, i64>(kill).fetch_one(&mut looks).await.unwrap(), 1);
    assert_eq!(theirs.next().await.unwrap(), News::Anything);
    let next = tokio::spawn(async move { theirs.next().await.unwrap() });
    wait_until(&mut looks, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%' AND state = 'idle'").await;
    world.submit().await;
    assert_eq!(next.await.unwrap(), News::Work);
}
