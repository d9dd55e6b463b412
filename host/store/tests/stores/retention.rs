//! What is kept no longer.

use std::time::Duration;

use tower_domain::code_ref::Digest;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::split::PlannedChild;
use tower_domain::step::StepFailure;
use tower_domain::task::{Output, Status};
use tower_store::artifacts::{self, Origin};
use tower_store::blobs::MemoryBlobs;
use tower_store::read::{DeadLetterFilter, PageRequest, TraceFilter};
use tower_store::retention::Retired;
use tower_store::work::{Answer, Claimed, Command, Idempotency, RoundEnd, SettledEnd};

use crate::world::World;

const DAY: Duration = Duration::from_secs(24 * 3_600);
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A trace that has ended, with a bit of everything: children that depend on each other, a dead letter, a retry of attempts, orders, a key.
async fn ended(world: &World, key: &str) -> (TraceId, TaskId) {
    let idempotency = Some(Idempotency { key: key.to_owned(), fingerprint: [7; 32], not_before: world.now() });
    let (trace, task) = world.submit_as(tower_store::work::NewTrace { idempotency, ..world.new_trace() }).await;
    let root = world.claim_one().await;
    let after = PlannedChild { run_on: tower_domain::task::RunOn::Finished, ..world.child_after(&root, "c", &["a", "b"]) };
    world.split(&root, vec![world.child(&root, "a"), world.child(&root, "b"), after]).await;
    world.pause(trace, None).await;
    world.resume(trace, None).await;
    let claimed = world.claim(10).await;
    world.finish(&claimed[1], "1").await;
    let again = StepFailure::retryable("AGAIN", "not yet");
    world.fail(&claimed[0], again.clone(), Duration::ZERO).await;
    world.clock.advance(Duration::from_secs(1));
    let second = world.claim_one().await;
    world.fail(&second, again, Duration::ZERO).await;
    world.run_dry().await;
    assert_eq!(world.trace(trace).await.status, Status::Success);
    (trace, task)
}

async fn retire(world: &World, rows_max: u32) -> Retired {
    let retired = world.stores.retention.retire(world.now(), KEPT, rows_max).await.unwrap();
    world.is_sound().await;
    retired
}

async fn all_traces(world: &World) -> Vec<TraceId> {
    let page = world.stores.read.traces(&TraceFilter::default(), &PageRequest { after: None, limit: 100 }).await.unwrap();
    page.items.into_iter().map(|trace| trace.trace_id).collect()
}

pub(crate) async fn what_is_old_goes_with_everything_and_nothing_else_does(world: World) {
    let (old, old_root) = ended(&world, "old").await;
    let retry = world.retry_of(old);
    let (retried, _) = world.submit_as(retry).await;
    world.run_dry().await;
    let (open, _) = world.submit().await;
    world.clock.advance(DAY);
    let waiting = world.claim_one().await;
    let (young, _) = ended(&world, "young").await;
    world.clock.advance(KEPT - DAY / 2);
    assert_eq!(retire(&world, 1_000).await.traces, 2);
    let mut left = all_traces(&world).await;
    left.sort_unstable();
    let mut wanted = vec![open, young];
    wanted.sort_unstable();
    assert_eq!(left, wanted, "the one that was retried, and the retry, are gone");
    assert!(world.stores.read.trace(old).await.unwrap().is_none() && world.stores.read.task(old_root).await.unwrap().is_none());
    assert!(world.stores.read.trace(retried).await.unwrap().is_none());
    assert!(world.events(old).await.is_empty());
    assert!(world.stores.read.control_events(old).await.unwrap().is_empty());
    assert!(world.stores.read.key_use("old", tower_domain::clock::Timestamp::from_micros(0)).await.unwrap().is_none());
    assert!(world.stores.read.key_use("young", tower_domain::clock::Timestamp::from_micros(0)).await.unwrap().is_some());
    let letters = world.stores.read.dead_letters(&DeadLetterFilter::default(), &PageRequest { after: None, limit: 10 }).await.unwrap();
    assert!(letters.items.iter().all(|task| task.trace_id == young) && letters.items.len() == 1, "{letters:?}");
    // A retry of what is gone begins nothing.
    assert_eq!(world.answer(Command::Submit(Box::new(world.retry_of(old)))).await, Answer::NotFound);
    assert_eq!(retire(&world, 1_000).await, Retired::default());
    world.finish(&waiting, "1").await;
    assert_eq!(world.trace(open).await.status, Status::Success);
}

pub(crate) async fn a_large_trace_goes_in_pieces_and_is_gone_from_the_first(world: World) {
    let (trace, task) = world.submit().await;
    let root = world.claim_one().await;
    world.split(&root, (0..120).map(|number| world.child(&root, &format!("c{number}"))).collect()).await;
    let child = world.claim(1).await.remove(0);
    world.finish(&child, "1").await;
    world.run_dry().await;
    world.clock.advance(KEPT + DAY);
    let mut pieces = Vec::new();
    loop {
        let piece = retire(&world, 50).await;
        assert!(piece.rows <= 50);
        assert!(world.stores.read.trace(trace).await.unwrap().is_none());
        assert!(all_traces(&world).await.is_empty());
        pieces.push(piece);
        if !piece.more {
            break;
        }
        // Others go on meanwhile.
        let (new, _) = world.submit().await;
        world.run_dry().await;
        assert_eq!(world.trace(new).await.status, Status::Success);
        world.clock.advance(KEPT + DAY);
    }
    assert!(pieces.len() >= 10, "{pieces:?}");
    assert!(world.stores.read.task(task).await.unwrap().is_none() && world.stores.read.task(child.task_id).await.unwrap().is_none());
    let rows: u64 = pieces.iter().map(|piece| piece.rows).sum();
    assert!(rows > 121 * 3, "{rows}");
}

pub(crate) async fn a_schedule_outlives_its_traces_and_never_fires_an_instant_again(world: World) {
    let schedule = crate::schedules::due_once(&world).await;
    world.commit(vec![crate::schedules::fire_of(&world, &schedule)]).await;
    world.run_dry().await;
    let before = world.stores.schedules.find(&schedule.definition_id).await.unwrap().unwrap();
    assert!(before.last_trace_id.is_some());
    world.clock.advance(KEPT + DAY);
    assert_eq!(retire(&world, 1_000).await.traces, 1);
    let after = world.stores.schedules.find(&schedule.definition_id).await.unwrap().unwrap();
    assert_eq!((after.last_trace_id, after.fired, after.last_at), (None, before.fired, before.last_at));
    assert_eq!(world.answer(crate::schedules::fire_of(&world, &schedule)).await, Answer::ScheduleMoved);
}

pub(crate) async fn rounds_of_a_loop_go_with_it(world: World) {
    let (trace, task) = world.submit().await;
    for number in 0..3 {
        let claimed = world.claim_one().await;
        let end = if number < 2 { RoundEnd::Next { delay: Duration::ZERO } } else { RoundEnd::Last };
        assert_eq!(world.answer(world.round(&claimed, "1", end)).await, Answer::Done);
    }
    assert_eq!(world.trace(trace).await.status, Status::Success);
    world.clock.advance(KEPT + DAY);
    assert_eq!(retire(&world, 1_000).await.traces, 1);
    assert!(world.stores.read.task(task).await.unwrap().is_none());
}

/// Keeps an output of a claim as an engine does.
async fn keep(world: &World, claimed: &Claimed, json: &str) -> Option<Digest> {
    let origin = Origin { trace_id: claimed.trace_id, task_id: claimed.task_id, fence: claimed.fence };
    artifacts::put(&world.stores, origin, json).await.unwrap()
}

/// Ends a claim with an output that is kept apart.
async fn finish_large(world: &World, claimed: &Claimed, children: Vec<PlannedChild>, round: Option<RoundEnd>) -> Digest {
    let digest = keep(world, claimed, "\"large\"").await.unwrap();
    let end = SettledEnd::Finished { output: Output::Ref(artifacts::url_of(&digest)), children: children.into(), round };
    assert_eq!(world.answer(world.settle(claimed, end)).await, Answer::Done);
    digest
}

/// A trace whose output is an artifact.
pub(crate) async fn one_with_a_large_output(world: &World) -> (Claimed, Digest) {
    world.submit().await;
    let root = world.claim_one().await;
    let digest = finish_large(world, &root, Vec::new(), None).await;
    (root, digest)
}

async fn ownerless(world: &World) -> Vec<Digest> {
    let mut digests = world.stores.artifacts.ownerless(100).await.unwrap();
    digests.sort_unstable();
    digests
}

fn sorted<const N: usize>(mut digests: [Digest; N]) -> [Digest; N] {
    digests.sort_unstable();
    digests
}

pub(crate) async fn an_artifact_is_its_traces_and_then_nobodys(world: World) {
    let (old, output) = one_with_a_large_output(&world).await;
    // What it came to under a claim that was overtaken, say.
    let lost = keep(&world, &Claimed { fence: old.fence + 1, ..old.clone() }, "\"large\"").await.unwrap();
    assert_eq!(keep(&world, &old, "\"large\"").await, Some(output), "the same again is the same");
    world.clock.advance(DAY);
    let (_, young) = one_with_a_large_output(&world).await;
    assert_eq!([output, lost, young].iter().collect::<std::collections::HashSet<_>>().len(), 3, "the same JSON, and bytes of their own");
    world.clock.advance(KEPT - DAY / 2);
    // One row at a time: the trace's own, and what belongs to it, before any artifact.
    let mut pieces = 0;
    while retire(&world, 1).await.more {
        pieces += 1;
    }
    assert!(pieces >= 5, "{pieces}");
    assert_eq!(ownerless(&world).await, sorted([output, lost]));
    assert_eq!(world.stores.artifacts.ownerless(1).await.unwrap().len(), 1);
    // Their bytes are there until somebody deletes them, and those that are somebody's are not forgotten.
    assert_eq!(artifacts::get(&*world.stores.blobs, &output).await.unwrap().unwrap(), b"\"large\"");
    world.stores.artifacts.forget(&[output, young]).await.unwrap();
    assert_eq!(ownerless(&world).await, [lost]);
    world.stores.artifacts.forget(&[lost, lost]).await.unwrap();
    world.stores.artifacts.forget(&[]).await.unwrap();
    assert_eq!(ownerless(&world).await, []);
    assert_eq!(keep(&world, &old, "\"large\"").await, None, "nothing is kept for a trace that is gone");
    assert_eq!(ownerless(&world).await, []);
    world.clock.advance(DAY);
    assert_eq!(retire(&world, 1_000).await.traces, 1);
    assert_eq!(ownerless(&world).await, [young]);
}

pub(crate) async fn an_artifact_that_was_taken_over_goes_with_the_last_that_has_it(world: World) {
    let (old, _) = world.submit().await;
    let first = world.claim_one().await;
    let round = finish_large(&world, &first, Vec::new(), Some(RoundEnd::Next { delay: Duration::ZERO })).await;
    let root = world.claim_one().await;
    let carried = finish_large(&world, &root, vec![world.child(&root, "good"), world.child(&root, "bad")], None).await;
    let mut output = None;
    for child in world.claim(10).await {
        if child.key.as_str() == "bad" {
            world.fail_for_good(&child).await;
        } else {
            output = Some(finish_large(&world, &child, Vec::new(), None).await);
        }
    }
    let output = output.unwrap();
    let fold = world.claim_one().await;
    let folded = finish_large(&world, &fold, Vec::new(), Some(RoundEnd::Last)).await;
    assert_eq!(world.trace(old).await.status, Status::Success);
    // A retry of it, and one of that: each takes over all but the fold.
    let mut retried = old;
    for _ in 0..2 {
        world.clock.advance(DAY);
        (retried, _) = world.submit_as(world.retry_of(retried)).await;
        let bad = world.claim_one().await;
        world.fail_for_good(&bad).await;
        let fold = world.claim_one().await;
        assert_eq!(fold.carried, Some(Output::Ref(artifacts::url_of(&carried))));
        assert_eq!(world.answer(world.round(&fold, "1", RoundEnd::Last)).await, Answer::Done);
    }
    world.clock.advance(KEPT - DAY - DAY / 2);
    assert_eq!(retire(&world, 1_000).await.traces, 1);
    assert_eq!(ownerless(&world).await, [folded]);
    world.stores.artifacts.forget(&[folded]).await.unwrap();
    world.clock.advance(DAY);
    assert_eq!(retire(&world, 1_000).await.traces, 1);
    assert_eq!(ownerless(&world).await, [], "the last one has them");
    world.clock.advance(DAY);
    assert_eq!(retire(&world, 1_000).await.traces, 1);
    assert_eq!(ownerless(&world).await, sorted([round, carried, output]));
    assert!(world.stores.read.trace(retried).await.unwrap().is_none());
}

pub(crate) async fn traces_that_go_together_leave_nothing_to_each_other(world: World) {
    let (old, _) = world.submit().await;
    let root = world.claim_one().await;
    let carried = finish_large(&world, &root, vec![world.child(&root, "bad")], None).await;
    world.fail_for_good(&world.claim_one().await).await;
    world.run_dry().await;
    let (retry, _) = world.submit_as(world.retry_of(old)).await;
    world.run_dry().await;
    assert!(world.trace(old).await.status.is_terminal() && world.trace(retry).await.status.is_terminal());
    world.clock.advance(KEPT + DAY);
    // In pieces: one is given what the other leaves while it is being deleted itself.
    while retire(&world, 3).await.more {}
    assert!(all_traces(&world).await.is_empty());
    assert_eq!(ownerless(&world).await, [carried]);
}

/// Whoever comes first, the other sees it: a retry has what it took over, or there is none.
#[tokio::test]
async fn a_retry_and_a_host_that_retires_its_trace_see_each_other() {
    let database = tower_test_postgres::Cluster::shared().database();
    let store = crate::backends::host(&database).await;
    let stores = store.stores(std::sync::Arc::new(MemoryBlobs::default()));
    let world = World::on(crate::backends::Backend { stores, inspect: std::sync::Arc::new(store), keep: Box::new(()) });
    let other = crate::backends::host(&database).await;
    use tower_store::retention::RetentionStore;
    for _ in 0..20 {
        let (old, _) = world.submit().await;
        let root = world.claim_one().await;
        let carried = finish_large(&world, &root, vec![world.child(&root, "bad")], None).await;
        world.fail_for_good(&world.claim_one().await).await;
        world.run_dry().await;
        world.clock.advance(KEPT + DAY);
        let retry = vec![Command::Submit(Box::new(world.retry_of(old)))];
        let (committed, retired) = futures::future::join(world.try_batch(retry, None), other.retire(world.now(), KEPT, 1_000)).await;
        world.is_sound().await;
        let has_begun = matches!(committed.answers[0], Answer::Submitted { .. });
        assert!(has_begun || committed.answers[0] == Answer::NotFound, "{committed:?}");
        while retire(&world, 1_000).await.more {}
        assert_eq!(ownerless(&world).await.contains(&carried), !has_begun, "{retired:?}");
        world.run_dry().await;
    }
}

/// One host at a time; what another has begun, the next one goes on with.
#[tokio::test]
async fn hosts_take_turns() {
    let database = tower_test_postgres::Cluster::shared().database();
    let store = crate::backends::host(&database).await;
    let stores = store.stores(std::sync::Arc::new(MemoryBlobs::default()));
    let keep = Box::new(());
    let world = World::on(crate::backends::Backend { stores, inspect: std::sync::Arc::new(store), keep });
    ended(&world, "old").await;
    world.clock.advance(KEPT + DAY);
    assert!(retire(&world, 5).await.more);
    let other = crate::backends::host(&database).await;
    use tower_store::retention::RetentionStore;
    let (mine, theirs) = futures::future::join(world.stores.retention.retire(world.now(), KEPT, 3), other.retire(world.now(), KEPT, 3)).await;
    assert!(mine.unwrap().rows + theirs.unwrap().rows >= 3);
    world.is_sound().await;
    while other.retire(world.now(), KEPT, 10).await.unwrap().more {
        world.is_sound().await;
    }
    assert!(all_traces(&world).await.is_empty());
    assert_eq!(retire(&world, 10).await, Retired::default());
}
