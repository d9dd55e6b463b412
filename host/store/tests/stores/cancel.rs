//! Orders to end.

use tower_domain::control::ControlAction;
use tower_domain::step::Signal;
use tower_domain::task::{Phase, Status};
use tower_store::work::{Answer, Command, SettledEnd};

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
            2 => world.settle(&claimed, SettledEnd::Finished { output: crate::world::inline("1"), children: vec![world.child(&claimed, "a")], round: None }),
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
