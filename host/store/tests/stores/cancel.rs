//! Orders to end.

use tower_domain::control::ControlAction;
use tower_domain::id::TraceId;
use tower_domain::step::Signal;
use tower_domain::task::{Phase, Status};
use tower_store::work::{Answer, Claimed, Command, Expire, SettledEnd};

use crate::world::{World, key};

pub(crate) async fn a_cancelled_trace_ends_what_waits_and_tells_what_runs(world: World) {
    let (trace_id, root_id) = world.submit().await;
    let root = world.claim_one().await;
    let children = vec![world.child(&root, "a"), world.child(&root, "b"), world.child_after(&root, "c", &["a", "b"])];
    let ids: Vec<_> = children.iter().map(|child| child.id).collect();
    world.split(&root, children).await;
    let running = world.claim(1).await.remove(0);
    let committed = world.cancel(trace_id, None).await;
    assert_eq!(committed.answers, [Answer::Ordered { done: 2, running: 1 }]);
    assert_eq!(committed.to_tell, [(running.task_id, Signal::Cancel("enough".into()))]);
    assert!(committed.ended.is_empty());
    assert_eq!((world.status(ids[1]).await, world.status(ids[2]).await), (Status::Cancelled, Status::Cancelled));
    let (task, trace) = (world.task(running.task_id).await, world.trace(trace_id).await);
    assert_eq!((task.status, task.cancelling, trace.status, trace.cancelling), (Status::Running, true, Status::Running, true));
    assert!(world.claim(10).await.is_empty(), "nothing of a cancelled trace is claimed");
    let committed = world.commit(vec![world.settle(&running, SettledEnd::Cancelled)]).await;
    assert_eq!(committed.ended, [(trace_id, Status::Cancelled)]);
    let (root, trace) = (world.task(root_id).await, world.trace(trace_id).await);
    assert_eq!((root.status, root.cancelling, trace.cancelling, trace.counts.cancelled), (Status::Cancelled, false, false, 4));
    let orders = world.stores.read.control_events(trace_id).await.unwrap();
    assert_eq!((orders.len(), orders[0].action, orders[0].reason.as_str()), (1, ControlAction::Cancel, "enough"));
}

pub(crate) async fn a_subtree_is_cancelled_and_the_rest_goes_on(world: World) {
    let (trace_id, _) = world.submit().await;
    let root = world.claim_one().await;
    world.split(&root, vec![world.child(&root, "left"), world.child(&root, "right")]).await;
    let claimed = world.claim(10).await;
    let left = claimed.iter().find(|claimed| claimed.key == key("left")).unwrap();
    let right = claimed.iter().find(|claimed| claimed.key == key("right")).unwrap();
    let grandchildren = vec![world.child(left, "x"), world.child(left, "y")];
    let ids: Vec<_> = grandchildren.iter().map(|child| child.id).collect();
    world.split(left, grandchildren).await;
    let committed = world.cancel(trace_id, Some(left.task_id)).await;
    assert_eq!(committed.answers, [Answer::Ordered { done: 3, running: 0 }]);
    for id in ids.into_iter().chain([left.task_id]) {
        assert_eq!(world.status(id).await, Status::Cancelled);
    }
    assert_eq!(world.status(right.task_id).await, Status::Running);
    assert!(!world.trace(trace_id).await.cancelling);
    world.finish(right, "1").await;
    world.run_dry().await;
    let trace = world.trace(trace_id).await;
    assert_eq!((trace.status, trace.is_partial()), (Status::Success, true));
}

pub(crate) async fn a_cancelled_claim_ends_cancelled_whatever_it_came_to(world: World) {
    for end in 0..5 {
        let (trace_id, root) = world.submit().await;
        let claimed = world.claim_one().await;
        world.cancel(trace_id, None).await;
        let end = match end {
            0 => world.good(&claimed, "1"),
            1 => world.settle(&claimed, SettledEnd::Released),
            2 => world
                .settle(&claimed, SettledEnd::Finished { output: crate::world::inline("1"), children: vec![world.child(&claimed, "a")].into(), round: None }),
            3 => world.settle(&claimed, SettledEnd::Failed { failure: tower_domain::step::StepFailure::retryable("X", "y"), delay: std::time::Duration::ZERO }),
            _ => Command::Expire(tower_store::work::Expire::Host { host: crate::world::HOST.to_owned(), suspects: vec![root] }),
        };
        let committed = world.commit(vec![end]).await;
        assert_eq!(committed.ended, [(trace_id, Status::Cancelled)]);
        let task = world.task(root).await;
        assert_eq!((task.status, task.phase, task.output, task.split_count), (Status::Cancelled, Phase::Done, None, 0));
    }
}

pub(crate) async fn orders_that_have_nothing_to_do_say_so(world: World) {
    let (trace_id, root) = world.submit().await;
    let order = |trace_id, task_id| Command::Control(world.order(ControlAction::Cancel, trace_id, task_id));
    assert_eq!(world.answer(order(world.trace_id(), None)).await, Answer::NotFound);
    assert_eq!(world.answer(order(trace_id, Some(world.task_id()))).await, Answer::NotFound);
    let (other, _) = world.submit().await;
    assert_eq!(world.answer(order(other, Some(root))).await, Answer::NotFound);
    assert!(world.stores.read.control_events(other).await.unwrap().is_empty());
    let claimed = world.claim(10).await;
    world.cancel(trace_id, None).await;
    assert_eq!(world.answer(order(trace_id, None)).await, Answer::AlreadyCancelling);
    for claimed in claimed {
        world.finish(&claimed, "1").await;
    }
    assert_eq!(world.answer(order(trace_id, None)).await, Answer::AlreadyEnded);
    assert_eq!(world.answer(order(other, None)).await, Answer::AlreadyEnded);
    assert_eq!(world.status(root).await, Status::Cancelled);
    assert_eq!(world.stores.read.control_events(trace_id).await.unwrap().len(), 1);
}

pub(crate) async fn a_submit_and_its_cancel_in_one_batch(world: World) {
    let new = world.new_trace();
    let (trace_id, root_task_id) = (new.trace_id, new.root_task_id);
    let cancel = Command::Control(world.order(ControlAction::Cancel, trace_id, None));
    let committed = world.batch(vec![Command::Submit(Box::new(new)), cancel], Some(world.wish(10))).await;
    assert_eq!(committed.answers, [Answer::Submitted { trace_id, root_task_id }, Answer::Ordered { done: 1, running: 0 }]);
    assert!(committed.claimed.is_empty());
    assert_eq!(committed.ended, [(trace_id, Status::Cancelled)]);
}

/// A trace of a hundred children in two groups, two of which run; some wait for others.
async fn wide(world: &World) -> (TraceId, Vec<Claimed>) {
    let (trace_id, _) = world.submit().await;
    let root = world.claim_one().await;
    let mut children: Vec<_> = (0..60).map(|number| world.child(&root, &format!("f{number}"))).collect();
    children.extend((0..40).map(|number| world.child_after(&root, &format!("w{number}"), &[&format!("f{number}")])));
    world.split(&root, children).await;
    (trace_id, world.claim(2).await)
}

pub(crate) async fn a_large_cancel_holds_at_once_and_is_swept_in_pieces(mut world: World) {
    world.cancel_max = 30;
    let (trace_id, running) = wide(&world).await;
    let committed = world.cancel(trace_id, None).await;
    assert_eq!(committed.answers, [Answer::Ordered { done: 98, running: 2 }], "all that does not run will not");
    assert_eq!(committed.to_tell.len(), 2);
    assert_eq!(committed.unswept, [trace_id]);
    let trace = world.trace(trace_id).await;
    assert!(trace.cancelling && trace.counts.pending > 0 && trace.counts.cancelled >= 30, "{trace:?}");
    assert_eq!(world.cancel(trace_id, None).await.answers, [Answer::AlreadyCancelling]);
    assert_eq!(world.pause(trace_id, None).await.answers, [Answer::AlreadyCancelling]);
    // Another trace begins, though the queue is full of what must not.
    let (_, other) = world.submit().await;
    let mut begun = Vec::new();
    for _ in 0..100 {
        begun.extend(world.claim(1).await.iter().map(|claimed| claimed.task_id));
    }
    assert_eq!(begun, [other]);
    // Whoever was to sweep it is gone: the next who looks finds it, once there is something to sweep.
    let (second, _) = wide(&world).await;
    assert_eq!(world.cancel(second, None).await.unswept, [second]);
    assert_eq!(world.commit(vec![Command::Expire(Expire::Overdue)]).await.unswept, [second]);
    let mut pieces = 0;
    let mut unswept = vec![second];
    while !unswept.is_empty() {
        pieces += 1;
        unswept = world.commit(unswept.into_iter().map(Command::Sweep).collect()).await.unswept;
    }
    assert!((2..=3).contains(&pieces), "{pieces}");
    assert_eq!(world.trace(second).await.counts.pending, 0);
    assert_eq!(world.answer(Command::Sweep(second)).await, Answer::Done, "there is nothing left to sweep, and no harm in it");
    for claimed in &running {
        world.commit(vec![world.settle(claimed, SettledEnd::Cancelled)]).await;
    }
    let trace = world.trace(trace_id).await;
    assert_eq!((trace.status, trace.counts.cancelled), (Status::Cancelled, 101));
    assert_eq!(world.answer(Command::Sweep(trace_id)).await, Answer::NothingToDo);
}

pub(crate) async fn what_ends_while_a_large_cancel_is_swept_is_cancelled_too(mut world: World) {
    world.cancel_max = 1;
    let (trace_id, running) = wide(&world).await;
    world.cancel(trace_id, None).await;
    // Their dependents are not skipped for it, nor is a split of theirs brought about.
    let late = vec![world.child(&running[1], "late")];
    world.finish(&running[0], "1").await;
    world.split(&running[1], late).await;
    let mut unswept = vec![trace_id];
    while !unswept.is_empty() {
        unswept = world.commit(unswept.into_iter().map(Command::Sweep).collect()).await.unswept;
    }
    let trace = world.trace(trace_id).await;
    assert_eq!((trace.status, trace.counts.cancelled, trace.counts.skipped), (Status::Cancelled, 101, 0), "{trace:?}");
}
