//! A retry: a new trace that takes over what succeeded.

use tower_domain::control::ControlAction;
use tower_domain::task::{Phase, Status, Task};
use tower_domain::trace::TriggerType;
use tower_store::read::{PageRequest, TaskFilter};
use tower_store::work::{Answer, Claimed, Command, RerunFrom};

use crate::world::{World, inline, json, key};

async fn tasks(world: &World, trace: tower_domain::id::TraceId) -> Vec<Task> {
    world.stores.read.tasks(trace, &TaskFilter::default(), &PageRequest { after: None, limit: 500 }).await.unwrap().items
}

fn of<'a>(claimed: &'a [Claimed], text: &str) -> &'a Claimed {
    claimed.iter().find(|claimed| claimed.key == key(text)).unwrap()
}

fn named<'a>(tasks: &'a [Task], text: &str) -> &'a Task {
    tasks.iter().find(|task| task.key == key(text)).unwrap()
}

pub(crate) async fn a_retry_takes_over_what_succeeded_and_runs_the_rest(world: World) {
    let (old, _) = world.submit().await;
    let root = world.claim_one().await;
    world.split(&root, vec![world.child(&root, "good"), world.child(&root, "bad"), world.child_after(&root, "after", &["bad", "good"])]).await;
    let claimed = world.claim(10).await;
    world.finish(of(&claimed, "good"), "\"kept\"").await;
    world.fail_for_good(of(&claimed, "bad")).await;
    world.fail_for_good(&world.claim_one().await).await;
    assert_eq!(world.trace(old).await.status, Status::Failed);
    let before = (world.trace(old).await, tasks(&world, old).await, world.events(old).await);

    let (new, new_root) = world.submit_as(world.retry_of(old)).await;
    let trace = world.trace(new).await;
    assert_eq!((trace.rerun_of, trace.trigger_type, trace.counts.total(), trace.counts.success), (Some(old), TriggerType::Replay, 4, 1));
    let found = tasks(&world, new).await;
    let good = named(&found, "good");
    assert_eq!((good.status, good.phase, good.output.clone()), (Status::Success, Phase::Cached, Some(inline("\"kept\""))));
    assert_eq!((named(&found, "bad").phase, named(&found, "after").phase), (Phase::Queued, Phase::WaitingDeps));
    assert_eq!((named(&found, "root").id, named(&found, "root").phase, named(&found, "root").completed_children), (new_root, Phase::WaitingChildren, 1));
    assert!(found.iter().all(|task| before.1.iter().all(|old| old.id != task.id)));

    let again = world.claim_one().await;
    assert_eq!((again.key.as_str(), again.attempt), ("bad", 1));
    world.finish(&again, "\"now\"").await;
    let after = world.claim_one().await;
    assert_eq!(after.upstream.iter().map(|result| result.output.clone()).collect::<Vec<_>>(), [Some(inline("\"now\"")), Some(inline("\"kept\""))]);
    world.finish(&after, "1").await;
    let fold = world.claim_one().await;
    assert_eq!((fold.task_id, fold.carried.clone(), fold.summary.unwrap().succeeded), (new_root, Some(inline("\"carried\"")), 3));
    world.finish(&fold, "2").await;
    assert_eq!(world.trace(new).await.status, Status::Success);
    assert_eq!((world.trace(old).await, tasks(&world, old).await, world.events(old).await), before, "history is not rewritten");
    let orders = world.stores.read.control_events(old).await.unwrap();
    assert_eq!((orders.len(), orders[0].action), (1, ControlAction::Retry));
}

pub(crate) async fn a_retry_of_what_went_well_or_has_not_ended_is_refused(world: World) {
    let (trace_id, _) = world.submit().await;
    let submit = |of| Command::Submit(Box::new(world.retry_of(of)));
    assert_eq!(world.answer(submit(trace_id)).await, Answer::NotEnded);
    world.finish(&world.claim_one().await, "1").await;
    assert_eq!(world.answer(submit(trace_id)).await, Answer::NothingToRetry);
    assert_eq!(world.answer(submit(world.trace_id())).await, Answer::NotFound);
    let traces = world.stores.read.traces(&Default::default(), &PageRequest { after: None, limit: 10 }).await.unwrap();
    assert_eq!(traces.items.len(), 1);
    assert!(world.stores.read.control_events(trace_id).await.unwrap().is_empty());
}

pub(crate) async fn a_dependent_of_something_that_runs_again_runs_again(world: World) {
    use tower_domain::split::PlannedChild;
    use tower_domain::task::RunOn;
    let (old, _) = world.submit().await;
    let root = world.claim_one().await;
    let after = PlannedChild { run_on: RunOn::Finished, ..world.child_after(&root, "after", &["bad"]) };
    world.split(&root, vec![world.child(&root, "bad"), after, world.child(&root, "apart")]).await;
    let claimed = world.claim(10).await;
    world.fail_for_good(of(&claimed, "bad")).await;
    world.finish(of(&claimed, "apart"), "1").await;
    world.run_dry().await;
    assert_eq!(world.trace(old).await.status, Status::Success);
    let (new, _) = world.submit_as(world.retry_of(old)).await;
    let found = tasks(&world, new).await;
    assert_eq!((named(&found, "bad").phase, named(&found, "after").phase, named(&found, "apart").phase), (Phase::Queued, Phase::WaitingDeps, Phase::Cached));
    world.run_dry().await;
    let trace = world.trace(new).await;
    assert_eq!((trace.status, trace.counts.success), (Status::Success, 4));
}

pub(crate) async fn a_failure_deep_down_is_retried_and_what_waits_for_it_plans_anew(world: World) {
    let (old, _) = world.submit().await;
    let root = world.claim_one().await;
    world.split(&root, vec![world.child(&root, "middle"), world.child(&root, "apart")]).await;
    let claimed = world.claim(10).await;
    let middle = of(&claimed, "middle").clone();
    world.finish(of(&claimed, "apart"), "1").await;
    world.split(&middle, vec![world.child(&middle, "lower")]).await;
    let lower = world.claim_one().await;
    world.split(&lower, vec![world.child(&lower, "fine"), world.child(&lower, "broken")]).await;
    let claimed = world.claim(10).await;
    world.finish(of(&claimed, "fine"), "1").await;
    world.fail_for_good(of(&claimed, "broken")).await;
    world.run_dry().await;
    assert_eq!(world.trace(old).await.status, Status::Success, "a partial success all the way up");
    let (new, _) = world.submit_as(world.retry_of(old)).await;
    let found = tasks(&world, new).await;
    let phases = ["root", "middle", "lower", "fine", "broken", "apart"].map(|text| named(&found, text).phase);
    assert_eq!(phases, [Phase::WaitingChildren, Phase::WaitingChildren, Phase::WaitingChildren, Phase::Cached, Phase::Queued, Phase::Cached]);
    world.run_dry().await;
    let trace = world.trace(new).await;
    assert_eq!((trace.status, trace.counts.success, trace.counts.total()), (Status::Success, 6, 6));
}

pub(crate) async fn a_split_dependent_of_something_that_runs_again_begins_anew(world: World) {
    use tower_domain::split::PlannedChild;
    use tower_domain::task::RunOn;
    let (old, _) = world.submit().await;
    let root = world.claim_one().await;
    let planner = PlannedChild { run_on: RunOn::Finished, ..world.child_after(&root, "planner", &["bad"]) };
    world.split(&root, vec![world.child(&root, "bad"), planner]).await;
    world.fail_for_good(&world.claim_one().await).await;
    let planner = world.claim_one().await;
    world.split(&planner, vec![world.child(&planner, "planned")]).await;
    world.run_dry().await;
    assert_eq!(world.trace(old).await.status, Status::Success);
    let (new, _) = world.submit_as(world.retry_of(old)).await;
    let found = tasks(&world, new).await;
    assert_eq!((found.len(), named(&found, "planner").phase, named(&found, "planner").split_count), (3, Phase::WaitingDeps, 0));
    world.run_dry().await;
    assert_eq!((world.trace(new).await.status, world.trace(new).await.counts.success), (Status::Success, 3));
}

pub(crate) async fn a_rerun_from_a_task_runs_it_anew_with_what_follows_from_it_and_no_more(world: World) {
    let (old, _) = world.submit().await;
    let root = world.claim_one().await;
    world.split(&root, vec![world.child(&root, "a"), world.child(&root, "b"), world.child_after(&root, "c", &["a"])]).await;
    let claimed = world.claim(10).await;
    // `a` plans children of its own.
    let a = of(&claimed, "a").clone();
    world.split(&a, vec![world.child(&a, "a1"), world.child(&a, "a2")]).await;
    world.finish(of(&claimed, "b"), "\"kept\"").await;
    world.run_dry().await;
    assert_eq!(world.trace(old).await.status, Status::Success);
    let mut again = world.retry_of(old);
    again.rerun.as_mut().unwrap().from = Some(RerunFrom { task_id: a.task_id, params: Some(json(r#"{"key":"otherwise"}"#)) });
    let (new, _) = world.submit_as(again).await;
    let found = tasks(&world, new).await;
    assert_eq!(found.len(), 4, "what stood below it is planned anew");
    assert_eq!((named(&found, "b").phase, named(&found, "b").output.clone()), (Phase::Cached, Some(inline("\"kept\""))));
    assert_eq!((named(&found, "a").phase, named(&found, "c").phase), (Phase::Queued, Phase::WaitingDeps));
    assert_eq!((named(&found, "root").phase, named(&found, "a").input_params.as_str()), (Phase::WaitingChildren, r#"{"key":"otherwise"}"#));
    assert_eq!(named(&found, "c").input_params.as_str(), r#"{"key":"c"}"#);
    let a = world.claim_one().await;
    assert_eq!((a.key.as_str(), a.params.as_str(), a.attempt), ("a", r#"{"key":"otherwise"}"#, 1));
    world.finish(&a, "1").await;
    world.run_dry().await;
    assert_eq!(world.trace(new).await.status, Status::Success);
    let orders = world.stores.read.control_events(old).await.unwrap();
    assert_eq!((orders.len(), orders[0].action), (1, ControlAction::Retry));
}

pub(crate) async fn a_rerun_from_the_root_is_the_whole_again_and_one_from_nowhere_is_refused(world: World) {
    let (old, old_root) = world.submit().await;
    let root = world.claim_one().await;
    world.split(&root, vec![world.child(&root, "a"), world.child_after(&root, "b", &["a"])]).await;
    let a = world.claim_one().await;
    world.finish(&a, "1").await;
    let b = world.claim_one().await;
    world.split(&b, vec![world.child(&b, "b1")]).await;
    let b1 = world.claim_one().await;
    world.finish(&b1, "1").await;
    world.run_dry().await;
    let from = |task_id| {
        let mut again = world.retry_of(old);
        again.rerun.as_mut().unwrap().from = Some(RerunFrom { task_id, params: None });
        Command::Submit(Box::new(again))
    };
    // Another trace's task is none of this one.
    let (other, other_root) = world.submit().await;
    assert_eq!(world.answer(from(other_root)).await, Answer::NothingToRetry);
    world.cancel(other, None).await;
    let Answer::Submitted { trace_id, .. } = world.answer(from(old_root)).await else { panic!("the root can always run again") };
    assert_eq!(tasks(&world, trace_id).await.len(), 1);
    world.run_dry().await;
    // `b` depends on what failed and begins anew: what stood below it is out of reach.
    let (old, _) = world.submit().await;
    let root = world.claim_one().await;
    let mut b = world.child_after(&root, "b", &["a"]);
    b.run_on = tower_domain::task::RunOn::Finished;
    world.split(&root, vec![world.child(&root, "a"), b]).await;
    world.fail_for_good(&world.claim_one().await).await;
    let b = world.claim_one().await;
    world.split(&b, vec![world.child(&b, "b1")]).await;
    let b1 = world.claim_one().await;
    world.run_dry().await;
    world.finish(&b1, "1").await;
    world.run_dry().await;
    let mut again = world.retry_of(old);
    again.rerun.as_mut().unwrap().from = Some(RerunFrom { task_id: b1.task_id, params: None });
    assert_eq!(world.answer(Command::Submit(Box::new(again))).await, Answer::NotReached);
}
