//! Pages.

use std::collections::BTreeSet;
use std::time::Duration;

use tower_domain::id::TaskId;
use tower_domain::task::{ActorType, Phase, Status};
use tower_store::read::{DeadLetterFilter, GroupBy, PageRequest, TaskFilter, TraceFilter};
use tower_store::work::{Claimed, NewTrace};

use crate::world::{World, json, name};

fn page<C>(after: Option<C>, limit: u32) -> PageRequest<C> {
    PageRequest { after, limit }
}

pub(crate) async fn pages_of_traces_are_stable_under_inserts(world: World) {
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(world.submit().await.0);
    }
    made.reverse();
    let filter = TraceFilter::default();
    let first = world.stores.read.traces(&filter, &page(None, 3)).await.unwrap();
    assert_eq!(first.items.iter().map(|trace| trace.trace_id).collect::<Vec<_>>(), made[..3]);
    world.submit().await;
    let second = world.stores.read.traces(&filter, &page(first.next, 3)).await.unwrap();
    assert_eq!(second.items.iter().map(|trace| trace.trace_id).collect::<Vec<_>>(), made[3..6]);
    let last = world.stores.read.traces(&filter, &page(second.next, 3)).await.unwrap();
    assert_eq!((last.items.len(), last.next), (1, None));
    let all = world.stores.read.traces(&filter, &page(None, 8)).await.unwrap();
    assert_eq!((all.items.len(), all.next), (8, None));
}

pub(crate) async fn a_page_of_large_items_is_shorter_and_nothing_is_left_out(world: World) {
    let large = json(&format!(r#"{{"text":"{}"}}"#, "x".repeat(1_000_000)));
    let mut made = Vec::new();
    for _ in 0..40 {
        made.push(world.submit_as(NewTrace { params: large.clone(), ..world.new_trace() }).await.0);
    }
    made.reverse();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = world.stores.read.traces(&TraceFilter::default(), &page(after, 500)).await.unwrap();
        assert!((1..=16).contains(&page.items.len()), "16 MiB at the most, and no empty page: {}", page.items.len());
        seen.extend(page.items.iter().map(|trace| trace.trace_id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, made);
}

pub(crate) async fn traces_are_filtered(world: World) {
    let (done, _) = world.submit().await;
    world.finish(&world.claim_one().await, "1").await;
    world.clock.advance(Duration::from_secs(3_600));
    let since = world.now();
    let (theirs, _) = world.submit_as(NewTrace { user_id: "eve".to_owned(), ..world.new_trace() }).await;
    let until = world.now();
    let (other, _) = world.submit_as(NewTrace { definition_id: name("other-def"), ..world.new_trace() }).await;
    let find = |filter: TraceFilter| {
        let read = world.stores.read.clone();
        async move { read.traces(&filter, &page(None, 10)).await.unwrap().items.into_iter().map(|trace| trace.trace_id).collect::<Vec<_>>() }
    };
    let any = TraceFilter::default;
    assert_eq!(find(any()).await, [other, theirs, done]);
    assert_eq!(find(TraceFilter { status: vec![Status::Success, Status::Failed], ..any() }).await, [done]);
    assert_eq!(find(TraceFilter { status: vec![Status::Pending], ..any() }).await, [other, theirs]);
    assert_eq!(find(TraceFilter { definition_id: Some(name("root-def")), ..any() }).await, [theirs, done]);
    assert_eq!(find(TraceFilter { definition_id: Some(name("root-def")), status: vec![Status::Pending], ..any() }).await, [theirs]);
    assert_eq!(find(TraceFilter { user_id: Some("eve".to_owned()), ..any() }).await, [theirs]);
    assert_eq!(find(TraceFilter { user_id: Some("ada".to_owned()), definition_id: Some(name("root-def")), ..any() }).await, [done]);
    assert_eq!(find(TraceFilter { since: Some(since), ..any() }).await, [other, theirs]);
    assert_eq!(find(TraceFilter { until: Some(since), ..any() }).await, [done]);
    // From the very instant, up to before the instant.
    assert_eq!(find(TraceFilter { since: Some(until), ..any() }).await, [other, theirs]);
    assert_eq!(find(TraceFilter { until: Some(until), ..any() }).await, [done]);
    assert!(find(TraceFilter { user_id: Some("nobody".to_owned()), ..any() }).await.is_empty());
}

/// A root with `count` children, of which the first failed and the second runs.
async fn fan_out(world: &World, count: usize) -> (Claimed, Vec<TaskId>) {
    world.submit().await;
    let root = world.claim_one().await;
    let children: Vec<_> = (0..count).map(|number| world.child(&root, &format!("c{number:03}"))).collect();
    let ids: Vec<_> = children.iter().map(|child| child.id).collect();
    world.split(&root, children).await;
    let claimed = world.claim(2).await;
    world.fail_for_good(claimed.iter().find(|claimed| claimed.task_id == ids[0]).unwrap()).await;
    (root, ids)
}

pub(crate) async fn pages_of_tasks_are_stable_under_inserts(world: World) {
    let (root, ids) = fan_out(&world, 10).await;
    let read = world.stores.read.clone();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let found = read.tasks(root.trace_id, &TaskFilter::default(), &page(after, 3)).await.unwrap();
        seen.extend(found.items.into_iter().map(|task| task.id));
        // The tree moves on between pages.
        for claimed in world.claim(1).await {
            let grown = vec![world.child(&claimed, "grown")];
            world.split(&claimed, grown).await;
        }
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    let unique: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!(unique.len(), seen.len(), "no task twice");
    assert!(seen.is_sorted());
    assert!(ids.iter().chain([&root.task_id]).all(|id| unique.contains(id)), "every task that was there before");
    let whole = read.tasks(root.trace_id, &TaskFilter::default(), &page(None, 500)).await.unwrap();
    assert!(whole.next.is_none());
    assert_eq!(read.tasks(root.trace_id, &TaskFilter::default(), &page(None, 0)).await.unwrap().items.len(), 1);
}

pub(crate) async fn tasks_are_filtered(world: World) {
    let (root, ids) = fan_out(&world, 5).await;
    let grandparent = world.stores.read.task(ids[1]).await.unwrap().unwrap();
    assert_eq!(grandparent.phase, Phase::Executing);
    world.submit().await;
    let find = |filter: TaskFilter| {
        let read = world.stores.read.clone();
        async move { read.tasks(root.trace_id, &filter, &page(None, 10)).await.unwrap().items.into_iter().map(|task| task.id).collect::<Vec<_>>() }
    };
    let any = TaskFilter::default;
    assert_eq!(find(any()).await.len(), 6);
    assert_eq!(find(TaskFilter { status: vec![Status::Failed], ..any() }).await, [ids[0]]);
    assert_eq!(find(TaskFilter { status: vec![Status::Running], ..any() }).await, [root.task_id, ids[1]]);
    assert_eq!(find(TaskFilter { phase: vec![Phase::WaitingChildren], ..any() }).await, [root.task_id]);
    assert_eq!(find(TaskFilter { phase: vec![Phase::Queued, Phase::Executing], ..any() }).await, ids[1..]);
    assert_eq!(find(TaskFilter { status: vec![Status::Pending, Status::Failed], ..any() }).await, [ids[0], ids[2], ids[3], ids[4]]);
    assert_eq!(find(TaskFilter { status: vec![Status::Failed], phase: vec![Phase::DeadLetter], ..any() }).await, []);
    assert_eq!(find(TaskFilter { layer: Some(0), ..any() }).await, [root.task_id]);
    assert_eq!(find(TaskFilter { layer: Some(1), ..any() }).await, ids);
    assert_eq!(find(TaskFilter { layer: Some(1), status: vec![Status::Running], ..any() }).await, [ids[1]]);
    assert_eq!(find(TaskFilter { layer: Some(2), ..any() }).await, []);
    assert_eq!(find(TaskFilter { parent_id: Some(root.task_id), ..any() }).await, ids);
    assert_eq!(find(TaskFilter { parent_id: Some(root.task_id), status: vec![Status::Failed], ..any() }).await, [ids[0]]);
    assert_eq!(find(TaskFilter { parent_id: Some(ids[0]), ..any() }).await, []);
    assert_eq!(find(TaskFilter { actor_type: Some(ActorType::Agent), ..any() }).await.len(), 6);
    assert_eq!(find(TaskFilter { actor_type: Some(ActorType::GroupAgg), ..any() }).await, []);
}

pub(crate) async fn a_tasks_path_leads_from_the_root(world: World) {
    let (trace_id, root_id) = world.submit().await;
    let mut path = format!("/{trace_id}/{root_id}/");
    let mut claimed = world.claim_one().await;
    for depth in 0..5 {
        let child = world.child(&claimed, &format!("d{depth}"));
        path.push_str(&format!("{}/", child.id));
        world.split(&claimed, vec![child]).await;
        claimed = world.claim_one().await;
    }
    assert_eq!(world.task(claimed.task_id).await.node_path, path);
    let listed = world.stores.read.tasks(trace_id, &TaskFilter::default(), &page(None, 100)).await.unwrap();
    for task in listed.items {
        assert!(path.starts_with(&task.node_path), "{}", task.node_path);
        assert_eq!(task.node_path.matches('/').count() as u32, task.depth + 3);
    }
}

pub(crate) async fn dead_letters_come_newest_first_and_close_with_a_retry(world: World) {
    let mut dead = Vec::new();
    for _ in 0..3 {
        let (trace_id, root) = world.submit_as(NewTrace { max_retries: 0, ..world.new_trace() }).await;
        world.fail(&world.claim_one().await, tower_domain::step::StepFailure::retryable("X", "y"), Duration::ZERO).await;
        dead.push((trace_id, root));
    }
    let read = world.stores.read.clone();
    let open = DeadLetterFilter { open: true, ..DeadLetterFilter::default() };
    let first = read.dead_letters(&open, &page(None, 2)).await.unwrap();
    assert_eq!(first.items.iter().map(|task| task.id).collect::<Vec<_>>(), [dead[2].1, dead[1].1]);
    let last = read.dead_letters(&open, &page(first.next, 2)).await.unwrap();
    assert_eq!((last.items[0].id, last.items.len(), last.next), (dead[0].1, 1, None));
    world.submit_as(world.retry_of(dead[1].0)).await;
    let left = read.dead_letters(&open, &page(None, 10)).await.unwrap();
    assert_eq!(left.items.iter().map(|task| task.id).collect::<Vec<_>>(), [dead[2].1, dead[0].1]);
    assert_eq!(read.dead_letters(&DeadLetterFilter::default(), &page(None, 10)).await.unwrap().items.len(), 3);
}

pub(crate) async fn dead_letters_are_chosen_and_counted_by_what_they_have_in_common(world: World) {
    let mut dead = Vec::new();
    for code in ["RARE", "OFTEN", "OFTEN"] {
        let (_, root) = world.submit_as(NewTrace { max_retries: 0, ..world.new_trace() }).await;
        world.fail(&world.claim_one().await, tower_domain::step::StepFailure::retryable(code, code.to_lowercase()), Duration::ZERO).await;
        dead.push(root);
        world.clock.advance(Duration::from_secs(60));
    }
    let read = world.stores.read.clone();
    let ids = async |filter: DeadLetterFilter| -> Vec<TaskId> {
        read.dead_letters(&filter, &page(None, 10)).await.unwrap().items.into_iter().map(|task| task.id).collect()
    };
    let any = DeadLetterFilter::default();
    assert_eq!(ids(DeadLetterFilter { error_code: Some("OFTEN".to_owned()), ..any.clone() }).await, [dead[2], dead[1]]);
    let newest_at = world.task(dead[2]).await.finished_at;
    assert_eq!(ids(DeadLetterFilter { since: newest_at, ..any.clone() }).await, [dead[2]]);
    let definition = world.task(dead[0]).await.job_id;
    assert_eq!(ids(DeadLetterFilter { definition_id: Some(definition.clone()), ..any.clone() }).await.len(), 3);
    assert!(ids(DeadLetterFilter { definition_id: Some(name("other")), ..any.clone() }).await.is_empty());
    let by_error = read.dead_letter_groups(&any, GroupBy::Error).await.unwrap();
    let told: Vec<_> =
        by_error.iter().map(|group| (group.name.as_str(), group.dead_letters, group.traces, group.newest, group.newest_message.as_str())).collect();
    assert_eq!(told, [("OFTEN", 2, 2, dead[2], "often"), ("RARE", 1, 1, dead[0], "rare")]);
    let by_definition = read.dead_letter_groups(&any, GroupBy::Definition).await.unwrap();
    assert_eq!(by_definition.iter().map(|group| (group.name.as_str(), group.dead_letters)).collect::<Vec<_>>(), [(definition.as_str(), 3)]);
}

pub(crate) async fn pages_of_results_hold_every_child_once(world: World) {
    let (root, ids) = fan_out(&world, 25).await;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let found = world.stores.read.child_results(root.task_id, after, 7).await.unwrap();
        seen.extend(found.items.into_iter().map(|result| result.task_id));
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
}
