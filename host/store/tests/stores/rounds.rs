//! LOOPs: rounds of one trace.

use std::time::Duration;

use tower_domain::step::StepFailure;
use tower_domain::task::{Leg, Output, Phase, Round, Status};
use tower_store::read::PageRequest;
use tower_store::work::{Answer, RoundEnd, SettledEnd};

use crate::world::{World, inline};

const NEXT: RoundEnd = RoundEnd::Next { delay: Duration::ZERO };

async fn rounds(world: &World, task: tower_domain::id::TaskId) -> Vec<Round> {
    let page = PageRequest { after: None, limit: 100 };
    world.stores.read.rounds(task, &page).await.unwrap().items
}

pub(crate) async fn a_round_follows_another_after_its_pause_and_all_outputs_are_kept(world: World) {
    let (trace_id, root_id) = world.submit().await;
    for round in 0..3u32 {
        let claimed = world.claim_one().await;
        assert_eq!((claimed.round_index, claimed.attempt, claimed.leg), (round, 1, Leg::Run));
        let before = (round > 0).then(|| inline(&(round - 1).to_string()));
        assert_eq!(claimed.carried, before, "what the round before left");
        let delay = Duration::from_secs(60);
        world.commit(vec![world.round(&claimed, &round.to_string(), RoundEnd::Next { delay })]).await;
        let root = world.task(root_id).await;
        assert_eq!((root.phase, root.status, root.round_index), (Phase::Scheduled, Status::Pending, round + 1));
        assert_eq!(world.trace(trace_id).await.status, Status::Running);
        assert!(world.claim(1).await.is_empty(), "not before its time");
        world.clock.advance(delay);
    }
    let claimed = world.claim_one().await;
    world.commit(vec![world.round(&claimed, "3", RoundEnd::Last)]).await;
    let trace = world.trace(trace_id).await;
    assert_eq!((trace.status, trace.output), (Status::Success, Some(inline("3"))));
    let kept: Vec<Option<Output>> = rounds(&world, root_id).await.into_iter().map(|round| round.output).collect();
    assert_eq!(kept, ["0", "1", "2", "3"].map(|output| Some(inline(output))));
    let attempts = world.stores.read.attempts(root_id).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.result.as_str()).collect::<Vec<_>>(), ["ROUND", "ROUND", "ROUND", "SUCCESS"]);
}

pub(crate) async fn children_of_one_round_are_no_part_of_the_next(world: World) {
    let (trace_id, root_id) = world.submit().await;
    for round in 0..3u32 {
        let root = world.claim_one().await;
        assert!(world.stores.read.existing_children(root_id).await.unwrap().is_empty(), "keys are free again");
        let children: Vec<_> = (0..round + 2).map(|n| world.child(&root, &format!("k{n}"))).collect();
        world.split(&root, children).await;
        for child in world.claim(10).await {
            if child.key.as_str() == "k0" {
                world.fail_for_good(&child).await
            } else {
                world.finish(&child, "1").await
            };
        }
        let fold = world.claim_one().await;
        let summary = fold.summary.unwrap();
        assert_eq!((fold.leg, summary.expected, summary.succeeded, summary.failed), (Leg::Aggregate, round + 2, round + 1, 1));
        let results = world.stores.read.child_results(root_id, None, 100).await.unwrap();
        assert_eq!(results.items.len() as u32, round + 2);
        let end = if round == 2 { RoundEnd::Last } else { NEXT };
        world.commit(vec![world.round(&fold, "1", end)]).await;
    }
    assert_eq!(world.trace(trace_id).await.status, Status::Success);
    let counts: Vec<(u32, u32)> = rounds(&world, root_id).await.iter().map(|round| (round.children.split, round.children.succeeded)).collect();
    assert_eq!(counts, [(2, 1), (3, 2), (4, 3)]);
}

pub(crate) async fn a_loop_is_cancelled_and_held_between_rounds(world: World) {
    let (trace_id, root_id) = world.submit().await;
    let later = RoundEnd::Next { delay: Duration::from_secs(9) };
    let claimed = world.claim_one().await;
    world.commit(vec![world.round(&claimed, "0", later)]).await;
    assert_eq!(world.pause(trace_id, None).await.answers, [Answer::Ordered { done: 0, running: 0 }]);
    world.clock.advance(Duration::from_secs(10));
    assert!(world.claim(1).await.is_empty());
    assert_eq!(world.task(root_id).await.phase, Phase::Paused);
    world.resume(trace_id, None).await;
    let claimed = world.claim_one().await;
    assert_eq!(claimed.round_index, 1);
    // Held while the round runs: the next one waits for the order.
    world.pause(trace_id, None).await;
    world.commit(vec![world.round(&claimed, "1", NEXT)]).await;
    assert_eq!((world.task(root_id).await.phase, world.task(root_id).await.round_index), (Phase::Paused, 2));
    world.cancel(trace_id, None).await;
    assert_eq!(world.trace(trace_id).await.status, Status::Cancelled);
    assert_eq!(rounds(&world, root_id).await.len(), 2, "what they left stays");
}

pub(crate) async fn a_retry_of_a_loop_goes_on_with_the_round_that_failed(world: World) {
    let (trace_id, _) = world.submit().await;
    let first = world.claim_one().await;
    world.commit(vec![world.round(&first, "0", NEXT)]).await;
    let second = world.claim_one().await;
    world.split(&second, vec![world.child(&second, "good"), world.child(&second, "bad")]).await;
    for child in world.claim(10).await {
        if child.key.as_str() == "bad" {
            world.fail_for_good(&child).await
        } else {
            world.finish(&child, "1").await
        };
    }
    let fold = world.claim_one().await;
    world.commit(vec![world.settle(&fold, SettledEnd::Failed { failure: StepFailure::fatal("BAD", "no"), delay: Duration::ZERO })]).await;
    assert_eq!(world.trace(trace_id).await.status, Status::Failed);
    let (_, root_id) = world.submit_as(world.retry_of(trace_id)).await;
    let again = world.claim_one().await;
    assert_eq!((again.key.as_str(), again.round_index), ("bad", 1));
    world.finish(&again, "1").await;
    let fold = world.claim_one().await;
    assert_eq!((fold.task_id, fold.round_index, fold.summary.unwrap().succeeded), (root_id, 1, 2));
    world.commit(vec![world.round(&fold, "1", RoundEnd::Last)]).await;
    let kept: Vec<_> = rounds(&world, root_id).await.into_iter().map(|round| (round.round_index, round.output)).collect();
    assert_eq!(kept, [(0, Some(inline("0"))), (1, Some(inline("1")))]);
}
