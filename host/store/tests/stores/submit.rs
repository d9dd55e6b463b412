//! A trace begins.

use std::time::Duration;

use tower_domain::clock::Timestamp;
use tower_domain::event::EventType;
use tower_domain::task::{Phase, Status};
use tower_domain::trace::Counts;
use tower_store::read::KeyUse;
use tower_store::work::{Answer, Command, Idempotency, NewTrace};

use crate::world::{World, json};

pub(crate) async fn a_trace_begins_with_its_root_queued(world: World) {
    let labels = [("team".to_owned(), "blue".to_owned())].into();
    let (trace_id, root) = world.submit_as(NewTrace { labels, ..world.new_trace() }).await;
    let trace = world.trace(trace_id).await;
    assert_eq!((trace.status, trace.root_task_id, trace.last_seq), (Status::Pending, root, 1));
    assert_eq!(trace.counts, Counts { pending: 1, ..Counts::default() });
    assert_eq!((trace.params, trace.user_id.as_str(), trace.labels["team"].as_str()), (json(r#"{"n":1}"#), "ada", "blue"));
    assert_eq!((trace.created_at, trace.started_at, trace.finished_at), (world.now(), None, None));
    let task = world.task(root).await;
    assert_eq!((task.status, task.phase, task.key.as_str(), task.depth), (Status::Pending, Phase::Queued, "root", 0));
    assert_eq!(task.node_path, format!("/{trace_id}/{root}/"));
    assert_eq!(world.history(trace_id, root).await, [EventType::Queued]);
    assert!(world.stores.read.trace(world.trace_id()).await.unwrap().is_none());
    assert!(world.stores.read.task(world.task_id()).await.unwrap().is_none());
    world.stores.read.ping().await.unwrap();
}

fn with_key(world: &World, fingerprint: u8) -> NewTrace {
    let idempotency =
        Idempotency { key: "k'\"1".to_owned(), fingerprint: [fingerprint; 32], not_before: Timestamp::from_micros(world.now().as_micros() - 86_400_000_000) };
    NewTrace { idempotency: Some(idempotency), ..world.new_trace() }
}

pub(crate) async fn the_same_key_for_the_same_is_answered_with_the_first_trace(world: World) {
    let begin = world.now();
    let (trace_id, root_task_id) = world.submit_as(with_key(&world, 1)).await;
    let again = Answer::Replayed { trace_id, root_task_id };
    assert_eq!(world.answer(Command::Submit(Box::new(with_key(&world, 1)))).await, again);
    let known = world.stores.read.key_use("k'\"1", begin).await.unwrap();
    assert_eq!(known, Some(KeyUse { fingerprint: [1; 32], trace_id, root_task_id }));
    let later = Timestamp::from_micros(world.now().as_micros() + 1);
    assert_eq!(world.stores.read.key_use("k'\"1", later).await.unwrap(), None, "kept for too short a time");
    // Within one batch as well.
    let other = |fingerprint| {
        let mut new = with_key(&world, fingerprint);
        new.idempotency.as_mut().unwrap().key = "other".to_owned();
        new
    };
    let first = other(2);
    let (trace_id, root_task_id) = (first.trace_id, first.root_task_id);
    let committed = world.commit(vec![Command::Submit(Box::new(first)), Command::Submit(Box::new(other(2))), Command::Submit(Box::new(other(3)))]).await;
    assert_eq!(committed.answers, [Answer::Submitted { trace_id, root_task_id }, Answer::Replayed { trace_id, root_task_id }, Answer::KeyTaken { trace_id }]);
    assert_eq!(world.trace(trace_id).await.idempotency_key.as_deref(), Some("other"));
}

pub(crate) async fn the_same_key_for_something_else_is_refused(world: World) {
    let (trace_id, _) = world.submit_as(with_key(&world, 1)).await;
    assert_eq!(world.answer(Command::Submit(Box::new(with_key(&world, 2)))).await, Answer::KeyTaken { trace_id });
}

pub(crate) async fn a_key_is_forgotten_in_time(world: World) {
    let (first, _) = world.submit_as(with_key(&world, 1)).await;
    world.clock.advance(Duration::from_secs(86_401));
    let (second, root_task_id) = world.submit_as(with_key(&world, 2)).await;
    assert_ne!(first, second);
    assert_eq!(world.answer(Command::Submit(Box::new(with_key(&world, 2)))).await, Answer::Replayed { trace_id: second, root_task_id });
}

pub(crate) async fn old_keys_are_deleted_and_young_ones_are_not(world: World) {
    let keyed = |key: &str, not_before| Idempotency { key: key.to_owned(), not_before, ..with_key(&world, 1).idempotency.unwrap() };
    let submit = |idempotency| world.submit_as(NewTrace { idempotency: Some(idempotency), ..world.new_trace() });
    let long_ago = world.now();
    let (old, _) = submit(keyed("old", long_ago)).await;
    world.clock.advance(Duration::from_secs(60));
    let not_before = world.now();
    let (young, _) = submit(keyed("young", long_ago)).await;
    assert_eq!(world.answer(Command::ForgetKeys { not_before }).await, Answer::Done);
    // By its age alone each would still be known.
    let (again, _) = submit(keyed("old", long_ago)).await;
    assert_ne!(again, old);
    let same = NewTrace { idempotency: Some(keyed("young", long_ago)), ..world.new_trace() };
    assert!(matches!(world.answer(Command::Submit(Box::new(same))).await, Answer::Replayed { trace_id, .. } if trace_id == young));
}

pub(crate) async fn a_trace_with_a_later_time_waits_for_it(world: World) {
    let at = world.now().plus(Duration::from_secs(60));
    let (_, root) = world.submit_as(NewTrace { run_after: Some(at), ..world.new_trace() }).await;
    let task = world.task(root).await;
    assert_eq!((task.phase, task.run_after), (Phase::Scheduled, Some(at)));
    let committed = world.batch(Vec::new(), Some(world.wish(10))).await;
    assert!(committed.claimed.is_empty());
    assert_eq!(committed.next_due, Some(at));
    world.clock.advance(Duration::from_secs(60));
    let committed = world.batch(Vec::new(), Some(world.wish(10))).await;
    assert_eq!(committed.claimed.len(), 1);
    assert_eq!(committed.next_due, None);
    assert_eq!(world.task(root).await.phase, Phase::Executing);
}
