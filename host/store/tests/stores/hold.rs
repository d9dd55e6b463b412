//! Orders to hold and to go on.

use std::time::Duration;

use tower_domain::control::ControlAction;
use tower_domain::event::EventType;
use tower_domain::step::{Signal, StepFailure};
use tower_domain::task::{Phase, Status};
use tower_store::work::{Answer, SettledEnd};

use crate::world::{World, inline};

pub(crate) async fn nothing_of_a_paused_trace_is_claimed_until_it_is_resumed(world: World) {
    let (trace_id, root_id) = world.submit().await;
    let root = world.claim_one().await;
    let children = vec![world.child(&root, "a"), world.child(&root, "b"), world.child_after(&root, "c", &["a"])];
    let ids: Vec<_> = children.iter().map(|child| child.id).collect();
    world.split(&root, children).await;
    let running = world.claim(1).await.remove(0);
    let committed = world.pause(trace_id, None).await;
    assert_eq!(committed.answers, [Answer::Ordered { done: 1, running: 1 }]);
    assert_eq!(committed.to_tell, [(running.task_id, Signal::Pause)]);
    assert_eq!((world.task(ids[1]).await.phase, world.task(ids[1]).await.status), (Phase::Paused, Status::Pending));
    let trace = world.trace(trace_id).await;
    assert!(trace.paused && trace.status == Status::Running);
    assert!(world.claim(10).await.is_empty());
    // What runs may end, and what it sets free is held.
    world.finish(&running, "1").await;
    assert_eq!(world.task(ids[2]).await.phase, Phase::Paused);
    assert!(world.claim(10).await.is_empty());
    let committed = world.resume(trace_id, None).await;
    assert_eq!(committed.answers, [Answer::Ordered { done: 2, running: 0 }]);
    assert!(!world.trace(trace_id).await.paused);
    world.run_dry().await;
    assert_eq!(world.trace(trace_id).await.status, Status::Success);
    assert!(world.history(trace_id, ids[1]).await.starts_with(&[EventType::Queued, EventType::Paused, EventType::Resumed, EventType::Started]));
    assert_eq!(world.history(trace_id, root_id).await.iter().filter(|event| matches!(event, EventType::Paused | EventType::Resumed)).count(), 2);
    let orders = world.stores.read.control_events(trace_id).await.unwrap();
    assert_eq!(orders.iter().map(|order| order.action).collect::<Vec<_>>(), [ControlAction::Pause, ControlAction::Run]);
}

pub(crate) async fn a_subtree_is_held_and_the_rest_goes_on(world: World) {
    let (trace_id, _) = world.submit().await;
    let root = world.claim_one().await;
    let (left, right) = (world.child(&root, "left"), world.child(&root, "right"));
    let (left_id, right_id) = (left.id, right.id);
    world.split(&root, vec![left, right]).await;
    assert_eq!(world.pause(trace_id, Some(left_id)).await.answers, [Answer::Ordered { done: 1, running: 0 }]);
    assert!(!world.trace(trace_id).await.paused, "the trace itself is not");
    let claimed = world.claim_one().await;
    assert_eq!(claimed.task_id, right_id);
    world.finish(&claimed, "1").await;
    assert!(world.claim(10).await.is_empty());
    // And the other way round: the whole is held, and a part goes on.
    assert_eq!(world.pause(trace_id, None).await.answers, [Answer::Ordered { done: 0, running: 0 }]);
    assert_eq!(world.resume(trace_id, Some(left_id)).await.answers, [Answer::Ordered { done: 1, running: 0 }]);
    let claimed = world.claim_one().await;
    world.finish(&claimed, "1").await;
    assert_eq!(world.task(root.task_id).await.phase, Phase::Paused, "its fold is held with the trace");
    world.resume(trace_id, None).await;
    world.run_dry().await;
    assert_eq!(world.trace(trace_id).await.status, Status::Success);
}

pub(crate) async fn what_a_held_step_splits_off_and_what_comes_due_is_held(world: World) {
    let (trace_id, _) = world.submit().await;
    let root = world.claim_one().await;
    world.pause(trace_id, None).await;
    let child = world.child(&root, "a");
    let child_id = child.id;
    world.split(&root, vec![child]).await;
    assert_eq!((world.task(child_id).await.phase, world.task(child_id).await.paused), (Phase::Paused, true));
    world.resume(trace_id, None).await;
    let claimed = world.claim_one().await;
    world.fail(&claimed, StepFailure::retryable("SLOW", "this time"), Duration::from_secs(5)).await;
    world.pause(trace_id, None).await;
    assert_eq!(world.task(child_id).await.phase, Phase::Backoff);
    world.clock.advance(Duration::from_secs(6));
    world.commit(Vec::new()).await;
    let child = world.task(child_id).await;
    assert_eq!((child.phase, child.run_after), (Phase::Paused, None));
    world.resume(trace_id, None).await;
    world.run_dry().await;
    assert_eq!(world.trace(trace_id).await.status, Status::Success);
}

pub(crate) async fn a_step_that_stops_early_goes_on_from_there_and_uses_up_no_attempt(world: World) {
    let (trace_id, root_id) = world.submit().await;
    for round in 1..=4u32 {
        let claimed = world.claim_one().await;
        assert_eq!((claimed.attempt, claimed.fence), (1, u64::from(round)));
        assert_eq!(claimed.carried.is_some(), round > 1);
        world.pause(trace_id, None).await;
        let suspended = world.settle(&claimed, SettledEnd::Suspended { carried: inline(&round.to_string()) });
        assert_eq!(world.commit(vec![suspended]).await.answers, [Answer::Done]);
        assert_eq!(world.task(root_id).await.phase, Phase::Paused);
        world.resume(trace_id, None).await;
    }
    let claimed = world.claim_one().await;
    assert_eq!(claimed.carried, Some(inline("4")));
    // Resumed before it stopped: it runs again at once.
    world.pause(trace_id, None).await;
    world.resume(trace_id, None).await;
    world.commit(vec![world.settle(&claimed, SettledEnd::Suspended { carried: inline("5") })]).await;
    let claimed = world.claim_one().await;
    assert_eq!(claimed.carried, Some(inline("5")));
    world.finish(&claimed, "1").await;
    let attempts = world.stores.read.attempts(root_id).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.result.as_str()).collect::<Vec<_>>(), ["PAUSED", "PAUSED", "PAUSED", "PAUSED", "PAUSED", "SUCCESS"]);
}

pub(crate) async fn a_held_trace_can_be_cancelled_and_orders_without_effect_say_so(world: World) {
    let (trace_id, root_id) = world.submit().await;
    assert_eq!(world.resume(trace_id, None).await.answers, [Answer::NothingToDo]);
    assert_eq!(world.pause(trace_id, None).await.answers, [Answer::Ordered { done: 1, running: 0 }]);
    assert_eq!(world.pause(trace_id, None).await.answers, [Answer::NothingToDo]);
    assert_eq!(world.pause(trace_id, Some(world.task_id())).await.answers, [Answer::NotFound]);
    assert_eq!(world.cancel(trace_id, None).await.answers, [Answer::Ordered { done: 1, running: 0 }]);
    let root = world.task(root_id).await;
    assert_eq!((root.status, root.paused), (Status::Cancelled, false));
    for answer in [world.pause(trace_id, None).await, world.resume(trace_id, None).await] {
        assert_eq!(answer.answers, [Answer::AlreadyEnded]);
    }
    assert_eq!(world.pause(world.trace_id(), None).await.answers, [Answer::NotFound]);
    let orders = world.stores.read.control_events(trace_id).await.unwrap();
    assert_eq!(orders.len(), 2, "what had no effect is no order");
    // Nor is one that is being cancelled.
    let (trace_id, _) = world.submit().await;
    let claimed = world.claim_one().await;
    world.cancel(trace_id, None).await;
    assert_eq!(world.pause(trace_id, None).await.answers, [Answer::AlreadyCancelling]);
    world.commit(vec![world.settle(&claimed, SettledEnd::Cancelled)]).await;
}
