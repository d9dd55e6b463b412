//! Children, dependencies, folding.

use tower_domain::definition::AggregationPolicy;
use tower_domain::event::EventType;
use tower_domain::id::TaskId;
use tower_domain::split::PlannedChild;
use tower_domain::step::Summary;
use tower_domain::task::{ActorType, Leg, Output, Phase, RunOn, Status};
use tower_domain::trace::Counts;
use tower_store::work::{Claimed, NewTrace, SettledEnd};

use crate::world::{World, inline, json, key};

fn of<'a>(claimed: &'a [Claimed], text: &str) -> &'a Claimed {
    claimed.iter().find(|claimed| claimed.key == key(text)).unwrap()
}

pub(crate) async fn children_run_and_are_folded(world: World) {
    let (trace_id, root) = world.submit().await;
    let claimed = world.claim_one().await;
    let (a, b) = (world.child(&claimed, "a"), world.child(&claimed, "b"));
    world.split(&claimed, vec![a.clone(), b.clone()]).await;
    let task = world.task(root).await;
    assert_eq!((task.status, task.phase, task.split_count, task.completed_children), (Status::Running, Phase::WaitingChildren, 2, 0));
    assert_eq!(world.trace(trace_id).await.counts, Counts { pending: 2, running: 1, ..Counts::default() });
    let existing = world.stores.read.existing_children(root).await.unwrap();
    assert_eq!(existing.iter().map(|child| (child.id, child.params.clone())).collect::<Vec<_>>(), [(a.id, a.params.clone()), (b.id, b.params.clone())]);

    let children = world.claim(10).await;
    assert_eq!((children.len(), children[0].layer, children[0].depth, children[0].parent_id), (2, 1, 1, Some(root)));
    assert_eq!(children[0].trace_tasks, 3);
    world.finish(of(&children, "a"), "1").await;
    assert!(world.claim(10).await.is_empty());
    world.finish(of(&children, "b"), "2").await;

    let fold = world.claim_one().await;
    assert_eq!((fold.task_id, fold.leg, fold.attempt, fold.fence), (root, Leg::Aggregate, 1, 2));
    assert_eq!(fold.carried, Some(inline(r#""carried""#)));
    assert_eq!(fold.summary, Some(Summary { expected: 2, succeeded: 2, ..Summary::default() }));
    assert_eq!((fold.children.split, fold.children.succeeded), (2, 2));
    assert_eq!(world.task(root).await.phase, Phase::Aggregating);
    let page = world.stores.read.child_results(root, None, 10).await.unwrap();
    assert_eq!(page.items.iter().map(|item| (item.task_id, item.output.clone())).collect::<Vec<_>>(), [(a.id, Some(inline("1"))), (b.id, Some(inline("2")))]);
    assert!(page.next.is_none());
    let committed = world.finish(&fold, "3").await;
    assert_eq!(committed.ended, [(trace_id, Status::Success)]);
    let trace = world.trace(trace_id).await;
    assert_eq!((trace.counts, trace.is_partial()), (Counts { success: 3, ..Counts::default() }, false));
    assert_eq!(
        world.history(trace_id, root).await,
        [EventType::Queued, EventType::Started, EventType::Split, EventType::Queued, EventType::Started, EventType::Completed]
    );
}

pub(crate) async fn those_who_wait_for_tasks_that_end_together_go_on_however_many_and_nobody_else(world: World) {
    for many in [1, 200] {
        world.submit().await;
        let root = world.claim_one().await;
        let after = |text: String, on: &str| world.child_after(&root, &text, &[on]);
        let mut children = vec![world.child(&root, "first"), world.child(&root, "between"), world.child(&root, "last")];
        let waits = after("m".to_owned(), "between");
        let waiting = waits.id;
        children.push(waits);
        children.push(after("l".to_owned(), "last"));
        children.extend((0..many).map(|number| after(format!("f{number}"), "first")));
        world.split(&root, children).await;
        let running = world.claim(10).await;
        assert_eq!(running.len(), 3);
        world.commit(vec![world.good(of(&running, "last"), "1"), world.good(of(&running, "first"), "1")]).await;
        let mut next: Vec<String> = world.claim(1_000).await.iter().map(|claimed| claimed.key.to_string()).collect();
        next.sort_unstable();
        let mut expected: Vec<String> = (0..many).map(|number| format!("f{number}")).chain(["l".to_owned()]).collect();
        expected.sort_unstable();
        assert_eq!(next, expected);
        assert_eq!(world.task(waiting).await.phase, Phase::WaitingDeps, "what it waits for runs");
    }
}

pub(crate) async fn a_dependent_waits_and_is_handed_what_it_named(world: World) {
    world.submit().await;
    let root = world.claim_one().await;
    let late = world.child_after(&root, "late", &["b", "a"]);
    let children = vec![world.child(&root, "a"), world.child(&root, "b"), late.clone()];
    world.split(&root, children).await;
    let task = world.task(late.id).await;
    assert_eq!((task.phase, task.open_deps, task.depends_on), (Phase::WaitingDeps, 2, vec![key("b"), key("a")]));
    let open = |limit| world.stores.read.open_dependencies(late.id, limit);
    assert_eq!(open(100).await.unwrap(), [key("a"), key("b")]);
    assert_eq!(open(1).await.unwrap(), [key("a")]);
    let first = world.claim(10).await;
    assert_eq!(first.len(), 2);
    world.finish(of(&first, "a"), "\"from a\"").await;
    assert_eq!(world.task(late.id).await.open_deps, 1);
    assert_eq!(open(100).await.unwrap(), [key("b")]);
    assert!(world.claim(10).await.is_empty());
    world.finish(of(&first, "b"), "\"from b\"").await;
    let claimed = world.claim_one().await;
    assert_eq!(claimed.task_id, late.id);
    let upstream: Vec<_> = claimed.upstream.iter().map(|result| (result.key.as_str(), result.output.clone())).collect();
    assert_eq!(upstream, [("b", Some(inline("\"from b\""))), ("a", Some(inline("\"from a\"")))]);
    // In the order in which they were split off.
    let page = world.stores.read.dependency_results(late.id, None, 1).await.unwrap();
    assert_eq!(page.items[0].key, key("a"));
    let rest = world.stores.read.dependency_results(late.id, page.next, 1).await.unwrap();
    assert_eq!((rest.items[0].key.clone(), rest.next), (key("b"), None));
}

pub(crate) async fn a_failed_dependency_skips_all_that_wait_for_it(world: World) {
    let (trace_id, root_id) = world.submit().await;
    let root = world.claim_one().await;
    let chain: Vec<PlannedChild> = vec![
        world.child(&root, "a"),
        world.child_after(&root, "b", &["a"]),
        world.child_after(&root, "c", &["b"]),
        world.child_after(&root, "d", &["c", "e"]),
        world.child(&root, "e"),
    ];
    let ids: Vec<TaskId> = chain.iter().map(|child| child.id).collect();
    world.split(&root, chain).await;
    let claimed = world.claim(10).await;
    let committed = world.fail_for_good(of(&claimed, "a")).await;
    let skipped = committed.events.iter().filter(|event| event.event_type == EventType::Skipped).count();
    assert_eq!(skipped, 3);
    for id in &ids[1..4] {
        let task = world.task(*id).await;
        assert_eq!((task.status, task.error.unwrap().code.as_str()), (Status::Skipped, "DEPENDENCY_FAILED"));
    }
    world.finish(of(&claimed, "e"), "1").await;
    let fold = world.claim_one().await;
    assert_eq!((fold.task_id, fold.summary), (root_id, Some(Summary { expected: 5, succeeded: 1, failed: 1, skipped: 3, cancelled: 0 })));
    world.finish(&fold, "1").await;
    assert!(world.trace(trace_id).await.is_partial());
}

pub(crate) async fn run_on_finished_runs_whatever_became_of_the_dependency(world: World) {
    world.submit().await;
    let root = world.claim_one().await;
    let after = PlannedChild { run_on: RunOn::Finished, ..world.child_after(&root, "after", &["a"]) };
    world.split(&root, vec![world.child(&root, "a"), after]).await;
    world.fail_for_good(&world.claim_one().await).await;
    let claimed = world.claim_one().await;
    assert_eq!(claimed.key, key("after"));
    assert_eq!((claimed.upstream[0].status, claimed.upstream[0].error.as_ref().unwrap().code.as_str()), (Status::Failed, "BAD"));
}

pub(crate) async fn a_group_aggregator_sees_all_its_siblings(world: World) {
    world.submit().await;
    let root = world.claim_one().await;
    let group = PlannedChild { actor_type: ActorType::GroupAgg, on_all_siblings: true, run_on: RunOn::Finished, ..world.child(&root, "group") };
    let single = PlannedChild { actor_type: ActorType::SingleAgg, run_on: RunOn::Finished, ..world.child_after(&root, "single", &["a"]) };
    let children = vec![world.child(&root, "a"), group.clone(), world.child(&root, "b"), single, world.child(&root, "c")];
    world.split(&root, children).await;
    assert_eq!(world.task(group.id).await.open_deps, 3);
    let claimed = world.claim(10).await;
    assert_eq!(claimed.len(), 3);
    world.fail_for_good(of(&claimed, "a")).await;
    world.finish(of(&claimed, "b"), "2").await;
    assert_eq!(world.stores.read.open_dependencies(group.id, 100).await.unwrap(), [key("c")], "aggregators are none of it");
    world.finish(of(&claimed, "c"), "3").await;
    let folds = world.claim(10).await;
    assert_eq!(folds.len(), 2);
    let folding = of(&folds, "group");
    assert_eq!(folding.summary, Some(Summary { expected: 3, succeeded: 2, failed: 1, ..Summary::default() }));
    assert!(folding.upstream.is_empty());
    let page = world.stores.read.dependency_results(group.id, None, 10).await.unwrap();
    assert_eq!(page.items.iter().map(|item| item.key.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let single = of(&folds, "single");
    assert_eq!((single.summary.unwrap().expected, single.upstream.len()), (1, 1));
}

pub(crate) async fn a_policy_that_is_not_met_fails_the_parent(world: World) {
    let (trace_id, root_id) = world.submit_as(NewTrace { aggregation: AggregationPolicy::All, ..world.new_trace() }).await;
    let root = world.claim_one().await;
    world.split(&root, vec![world.child(&root, "a"), world.child(&root, "b")]).await;
    let claimed = world.claim(10).await;
    world.finish(of(&claimed, "a"), "1").await;
    let committed = world.fail_for_good(of(&claimed, "b")).await;
    assert_eq!(committed.ended, [(trace_id, Status::Failed)]);
    let task = world.task(root_id).await;
    assert_eq!((task.status, task.error.unwrap().code.as_str(), task.succeeded_children), (Status::Failed, "CHILDREN_FAILED", 1));
}

pub(crate) async fn a_fold_may_split_again(world: World) {
    let (trace_id, root_id) = world.submit().await;
    let root = world.claim_one().await;
    let first = world.child(&root, "a");
    world.split(&root, vec![first.clone()]).await;
    world.finish(&world.claim_one().await, "1").await;
    let fold = world.claim_one().await;
    let group = PlannedChild { actor_type: ActorType::GroupAgg, on_all_siblings: true, run_on: RunOn::Finished, ..world.child(&fold, "group") };
    // One that names a child of the step before, which has ended.
    let second = world.child_after(&fold, "b", &["a"]);
    world.split(&fold, vec![second.clone(), group.clone()]).await;
    assert_eq!(world.task(second.id).await.phase, Phase::Queued);
    assert_eq!((world.task(group.id).await.open_deps, world.task(root_id).await.split_count), (1, 3));
    let claimed = world.claim_one().await;
    assert_eq!(claimed.upstream[0].output, Some(inline("1")));
    world.finish(&claimed, "2").await;
    let folding = world.claim_one().await;
    assert_eq!((folding.task_id, folding.summary.unwrap().expected), (group.id, 2));
    world.finish(&folding, "3").await;
    let fold = world.claim_one().await;
    assert_eq!((fold.task_id, fold.leg, fold.attempt, fold.summary.unwrap().expected), (root_id, Leg::Aggregate, 1, 3));
    world.finish(&fold, "4").await;
    assert_eq!(world.trace(trace_id).await.status, Status::Success);
}

pub(crate) async fn a_split_beyond_the_traces_bound_fails_the_step(mut world: World) {
    world.trace_tasks_max = 3;
    let (trace_id, root_id) = world.submit().await;
    let root = world.claim_one().await;
    let children = (0..3).map(|number| world.child(&root, &format!("c{number}"))).collect();
    world.split(&root, children).await;
    let task = world.task(root_id).await;
    assert_eq!((task.status, task.error.unwrap().code.as_str(), task.split_count), (Status::Failed, "TRACE_TOO_LARGE", 0));
    assert_eq!(world.trace(trace_id).await.counts.total(), 1);
}

pub(crate) async fn a_wide_tree_is_folded_from_many_batches(world: World) {
    let (trace_id, _) = world.submit().await;
    let root = world.claim_one().await;
    // More than the longest list of values holds, and no multiple of it.
    let children = (0..1_003).map(|number| world.child(&root, &format!("c{number}"))).collect();
    world.split(&root, children).await;
    let mut done = 0;
    loop {
        let claimed = world.try_batch(Vec::new(), Some(world.wish(97))).await.claimed;
        if claimed.is_empty() {
            break;
        }
        done += claimed.len();
        let commands = claimed.iter().map(|claimed| world.good(claimed, "1")).collect();
        world.try_batch(commands, None).await;
    }
    assert_eq!(done, 1_004);
    let trace = world.trace(trace_id).await;
    assert_eq!((trace.status, trace.counts.success, trace.last_seq), (Status::Success, 1_004, 3 * 1_004 + 3));
    world.is_sound().await;
}

/// It is written in pieces, and a child may wait for one of another piece.
pub(crate) async fn a_split_of_thousands_is_whole(world: World) {
    const CHILDREN: usize = 5_003;
    let (trace_id, _) = world.submit().await;
    let root = world.claim_one().await;
    let mut children: Vec<_> = (0..CHILDREN - 2).map(|number| world.child(&root, &format!("c{number:04}"))).collect();
    children.push(world.child_after(&root, "last", &["c0000"]));
    children.push(world.child_after(&root, "both", &["c0000", "last"]));
    let [last, both] = [children[CHILDREN - 2].id, children[CHILDREN - 1].id];
    world.split(&root, children).await;
    let trace = world.trace(trace_id).await;
    assert_eq!((trace.counts.pending as usize, trace.counts.running, trace.last_seq as usize), (CHILDREN, 1, 3 + CHILDREN));
    let first = world.claim(1).await.remove(0);
    assert_eq!((first.key.clone(), first.trace_tasks as usize), (key("c0000"), CHILDREN + 1));
    world.finish(&first, "1").await;
    assert_eq!((world.task(last).await.phase, world.task(both).await.phase), (Phase::Queued, Phase::WaitingDeps));
}

pub(crate) async fn a_carried_output_by_reference_comes_back(world: World) {
    let (_, root_id) = world.submit().await;
    let root = world.claim_one().await;
    let by_ref = Output::Ref("sha256:00".to_owned());
    let children = vec![world.child(&root, "a")];
    world.commit(vec![world.settle(&root, SettledEnd::Finished { output: by_ref.clone(), children: children.into(), round: None })]).await;
    let child = world.claim_one().await;
    world.commit(vec![world.settle(&child, SettledEnd::Finished { output: by_ref.clone(), children: [].into(), round: None })]).await;
    let fold = world.claim_one().await;
    assert_eq!(fold.carried, Some(by_ref.clone()));
    world.fail(&fold, tower_domain::step::StepFailure::retryable("X", "y"), std::time::Duration::ZERO).await;
    let fold = world.claim_one().await;
    assert_eq!((fold.attempt, fold.carried.clone()), (2, Some(by_ref.clone())));
    world.finish(&fold, r#"{"digits":18446744073709551616}"#).await;
    let task = world.task(root_id).await;
    assert_eq!((task.output, task.error), (Some(Output::Inline(json(r#"{"digits":18446744073709551616}"#))), None));
    assert_eq!(world.stores.read.child_results(root_id, None, 0).await.unwrap().items[0].output, Some(by_ref));
}

/// Claims, an end, children and theirs, each of them after the clock was set back by an hour: `World::batch` asks whether their times are in order.
pub(crate) async fn what_happens_to_a_trace_happens_in_order_whatever_the_clock_says(world: World) {
    let back = || world.clock.set_micros(world.now().as_micros() - 3_600_000_000);
    world.submit().await;
    back();
    let root = world.claim_one().await;
    back();
    world.split(&root, vec![world.child(&root, "a")]).await;
    back();
    let child = world.claim_one().await;
    back();
    world.finish(&child, "1").await;
    back();
    let fold = world.claim_one().await;
    back();
    world.finish(&fold, "1").await;
    let task = world.task(fold.task_id).await;
    assert!(task.status == Status::Success && task.finished_at >= Some(task.created_at) && task.finished_at >= task.started_at, "{task:?}");
}
