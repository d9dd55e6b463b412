//! The invariants find what is wrong: each with a fault planted into a sound database.

use std::sync::Arc;

use sqlx::{ConnectOptions, Connection};
use tower_domain::step::StepFailure;
use tower_store::blobs::MemoryBlobs;
use tower_store::invariants::{ALL, check};
use tower_store::sqlite::{self, SqliteOptions};
use tower_test_postgres::Cluster;

use crate::backends::Backend;
use crate::world::World;

/// A fault, and the invariant that must find it. CHECK constraints and unique indexes, which refuse some of them, are switched off.
const FAULTS: &[(&str, &str)] = &[
    ("I01", "UPDATE tasks SET succeeded_children = succeeded_children - 1 WHERE depth = 0 AND succeeded_children > 0"),
    ("I02", "UPDATE tasks SET split_count = split_count + 1 WHERE depth = 0"),
    ("I03", "UPDATE tasks SET parent_id = x'00112233445566778899AABBCCDDEEFF' WHERE id = (SELECT min(id) FROM tasks WHERE key = 'a')"),
    ("I04", "UPDATE traces SET root_task_id = (SELECT id FROM tasks WHERE key = 'a')"),
    ("I05", "UPDATE tasks SET layer = 3 WHERE key = 'a'"),
    ("I06", "UPDATE events SET from_status = 3 WHERE from_status = 1 AND to_status = 2"),
    ("I07", "UPDATE events SET to_status = 3 WHERE event_type = 0"),
    ("I08", "DROP INDEX events_outside; UPDATE events SET event_id = 'twice' WHERE seq <= 2"),
    ("I09", "UPDATE events SET from_status = 5 WHERE event_type = 0"),
    ("I10", "UPDATE tasks SET state = 13 WHERE key = 'a'"),
    ("I11", "DELETE FROM queue WHERE place = 2"),
    ("I12", "UPDATE queue SET owner = 'nobody', place = 2, lease_until = 1 WHERE place = 0"),
    ("I13", "UPDATE tasks SET finished_at = 1 WHERE key = 'a'"),
    ("I14", "UPDATE tasks SET attempt = 9 WHERE key = 'a'"),
    ("I15", "UPDATE tasks SET fence = fence + 1 WHERE key = 'a'"),
    ("I16", "CREATE TABLE f AS SELECT * FROM cron_fires; DROP TABLE cron_fires; CREATE TABLE cron_fires AS SELECT * FROM f UNION ALL SELECT * FROM f"),
    ("I17", "UPDATE cron_fires SET instant = instant + 1"),
    ("I20", "UPDATE task_deps SET depends_on = (SELECT id FROM tasks WHERE depth = 0 LIMIT 1)"),
    ("I21", "INSERT OR IGNORE INTO task_deps (task_id, depends_on) SELECT depends_on, task_id FROM task_deps"),
    ("I22", "DELETE FROM events WHERE to_status = 2 AND task_id = (SELECT id FROM tasks WHERE key = 'a')"),
    ("I24", "UPDATE traces SET status = 2, finished_at = 1 WHERE status < 2"),
    ("I26", "DELETE FROM events WHERE to_status >= 2 AND task_id IN (SELECT id FROM tasks WHERE depth = 1)"),
    ("I27", "UPDATE tasks SET round_index = 1 WHERE depth = 0"),
    ("I28", "UPDATE events SET event_type = 10 WHERE event_type = 5"),
    ("I36", "DELETE FROM events WHERE seq = 2"),
    ("I37", "DELETE FROM queue WHERE place = 0"),
    ("I38", "UPDATE traces SET count_success = count_success + 1"),
    ("I39", "DROP INDEX tasks_by_key; UPDATE tasks SET key = 'a' WHERE key = 'b'"),
    ("I40", "UPDATE tasks SET open_deps = open_deps + 1 WHERE state = 1"),
    ("I41", "UPDATE tasks SET completed_children = split_count WHERE state = 6"),
    ("I42", "UPDATE attempts SET fence = fence + 7"),
    ("I43", "UPDATE tasks SET gates = '[\"definition/other\"]' WHERE parked IS NOT NULL"),
    ("I44", "UPDATE gates SET taken = taken + 1"),
    ("I45", "DELETE FROM gates"),
    ("I46", "UPDATE queue SET lane = 'worker/other' WHERE place = 4"),
    ("I47", "UPDATE artifacts SET trace_id = x'00112233445566778899AABBCCDDEEFF'"),
    ("I48", "UPDATE artifacts SET trace_id = NULL"),
];

/// What PostgreSQL says differently.
const FAULTS_ON_POSTGRES: &[(&str, &str)] = &[
    ("I03", "UPDATE tasks SET parent_id = '00112233-4455-6677-8899-aabbccddeeff' WHERE id = (SELECT id FROM tasks WHERE key = 'a' ORDER BY id LIMIT 1)"),
    ("I04", "UPDATE traces SET root_task_id = (SELECT id FROM tasks WHERE key = 'a' LIMIT 1)"),
    ("I21", "INSERT INTO task_deps (task_id, depends_on) SELECT depends_on, task_id FROM task_deps ON CONFLICT DO NOTHING"),
    ("I22", "DELETE FROM events WHERE to_status = 2 AND task_id = (SELECT id FROM tasks WHERE key = 'a' ORDER BY id LIMIT 1)"),
    ("I47", "UPDATE artifacts SET trace_id = '00112233-4455-6677-8899-aabbccddeeff'"),
];

/// A trace whose output is kept apart, one that folded, one that waits for children and siblings, one that is queued, one that runs and one that waits for its limit.
async fn sound(world: &World) {
    crate::retention::one_with_a_large_output(world).await;
    for folded in [true, false] {
        world.submit().await;
        let root = world.claim_one().await;
        world.split(&root, vec![world.child(&root, "a"), world.child(&root, "b"), world.child_after(&root, "c", &["a"])]).await;
        if folded {
            let first = world.claim(1).await.remove(0);
            world.fail(&first, StepFailure::retryable("X", "y"), std::time::Duration::ZERO).await;
            world.run_dry().await;
        } else {
            world.claim(1).await;
        }
    }
    world.submit_as(tower_store::work::NewTrace { priority: 1, ..world.new_trace() }).await;
    world.submit_as(tower_store::work::NewTrace { lane: crate::world::queue("cpu"), ..world.new_trace() }).await;
    crate::schedules::fired_once(world).await;
    crate::limits::one_runs_and_one_waits(world).await;
    world.is_sound().await;
}

#[tokio::test]
async fn each_invariant_finds_its_fault() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    let store = sqlite::open(SqliteOptions::file(&whole)).await.unwrap();
    let backend = Backend { stores: store.stores(Arc::new(MemoryBlobs::default())), inspect: Arc::new(store.clone()), keep: Box::new(()) };
    sound(&World::on(backend)).await;
    store.close().await.unwrap();
    assert_eq!(FAULTS.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ALL.iter().map(|invariant| invariant.id).collect::<Vec<_>>());
    for (id, fault) in FAULTS {
        let path = folder.path().join(format!("{id}.db"));
        std::fs::copy(&whole, &path).unwrap();
        let mut conn = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).pragma("ignore_check_constraints", "ON").connect().await.unwrap();
        sqlx::raw_sql(*fault).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        let store = sqlite::open(SqliteOptions::file(&path)).await.unwrap();
        let violations = check(&store).await.unwrap();
        assert!(violations.iter().any(|violation| violation.id == *id), "{id} overlooks `{fault}`: {violations:#?}");
    }
}

#[tokio::test]
async fn each_invariant_finds_its_fault_on_postgres() {
    let whole = Cluster::shared().database();
    let store = crate::backends::host(&whole).await;
    let backend = Backend { stores: store.stores(Arc::new(MemoryBlobs::default())), inspect: Arc::new(store.clone()), keep: Box::new(()) };
    sound(&World::on(backend)).await;
    store.close().await;
    whole.run(
        "DO $$ DECLARE c record; BEGIN FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0 LOOP \
         EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP; END $$",
    );
    for (id, fault) in FAULTS {
        let fault = FAULTS_ON_POSTGRES.iter().find(|(other, _)| other == id).map_or(*fault, |(_, fault)| *fault);
        let database = Cluster::shared().database_with(&format!("TEMPLATE {}", whole.name()));
        database.run(fault);
        let store = crate::backends::host(&database).await;
        let violations = check(&store).await.unwrap();
        assert!(violations.iter().any(|violation| violation.id == *id), "{id} overlooks `{fault}`: {violations:#?}");
        store.close().await;
    }
}
