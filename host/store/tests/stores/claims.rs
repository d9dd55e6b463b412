//! Claims, and how they end.

use std::time::Duration;

use tower_domain::clock::Timestamp;
use tower_domain::event::EventType;
use tower_domain::lifecycle::CRASHES_MAX;
use tower_domain::schedule::NightWindow;
use tower_domain::step::{Signal, StepFailure};
use tower_domain::task::{Leg, Phase, Status};
use tower_store::work::{Answer, Batch, Claim, Command, Expire, NewTrace, SettledEnd};

use crate::world::{HOST, LEASE, World, definition, inline, json, name};

pub(crate) async fn a_claim_hands_over_all_that_the_step_needs(world: World) {
    world.stores.definitions.put(&name("root-def"), &definition("root-def").spec, None, world.now()).await.unwrap();
    let (trace_id, root) = world.submit().await;
    let claimed = world.claim_one().await;
    assert_eq!((claimed.task_id, claimed.trace_id, claimed.key.as_str()), (root, trace_id, "root"));
    assert_eq!((claimed.definition_id.as_str(), claimed.definition_version), ("root-def", 1));
    assert_eq!((claimed.attempt, claimed.fence, claimed.max_retries, claimed.timeout_sec), (1, 1, 3, 300));
    assert_eq!((claimed.leg, &claimed.params, claimed.trace_tasks), (Leg::Run, &json(r#"{"n":1}"#), 1));
    assert!(claimed.summary.is_none() && claimed.carried.is_none() && claimed.upstream.is_empty() && claimed.parent_id.is_none());
    let task = world.task(root).await;
    assert_eq!((task.status, task.phase, task.role.as_str()), (Status::Running, Phase::Executing, "tester"));
    assert_eq!((task.lease_owner.as_deref(), task.started_at), (Some(HOST), Some(world.now())));
    assert!(task.lease_expires_at.unwrap() > world.now());
    let trace = world.trace(trace_id).await;
    assert_eq!((trace.status, trace.started_at), (Status::Running, Some(world.now())));

    let committed = world.finish(&claimed, r#"{"ok":true}"#).await;
    assert_eq!(committed.ended, [(trace_id, Status::Success)]);
    let (trace, task) = (world.trace(trace_id).await, world.task(root).await);
    assert_eq!((trace.status, trace.output, trace.finished_at), (Status::Success, Some(inline(r#"{"ok":true}"#)), Some(world.now())));
    assert_eq!((task.phase, task.progress, task.lease_owner, task.lease_expires_at), (Phase::Done, 100, None, None));
    assert_eq!(world.history(trace_id, root).await, [EventType::Queued, EventType::Started, EventType::Completed]);
}

pub(crate) async fn urgent_tasks_go_first_and_then_the_oldest(world: World) {
    let mut roots = Vec::new();
    for priority in [5, 1, 10, 5] {
        roots.push(world.submit_as(NewTrace { priority, ..world.new_trace() }).await.1);
    }
    let committed = world.batch(Vec::new(), Some(world.wish(3))).await;
    let order: Vec<_> = committed.claimed.iter().map(|claimed| claimed.task_id).collect();
    assert_eq!(order, [roots[2], roots[0], roots[3]]);
    assert!(committed.more_ready);
    let committed = world.batch(Vec::new(), Some(world.wish(3))).await;
    assert_eq!(committed.claimed.len(), 1);
    assert!(!committed.more_ready);
}

pub(crate) async fn a_small_trace_does_not_wait_for_a_large_ones_backlog(world: World) {
    world.submit().await;
    let root = world.claim_one().await;
    let children = (0..200).map(|number| world.child(&root, &format!("c{number}"))).collect();
    world.split(&root, children).await;
    for claimed in world.claim(20).await {
        world.finish(&claimed, "1").await;
    }
    let (_, small) = world.submit().await;
    let next: Vec<_> = world.claim(20).await.into_iter().map(|claimed| claimed.task_id).collect();
    assert!(next.contains(&small), "a trace of one task stands behind 180 of another");
}

pub(crate) async fn a_stale_claim_changes_nothing(world: World) {
    let (trace_id, root) = world.submit().await;
    let first = world.claim_one().await;
    world.clock.advance(LEASE + Duration::from_secs(1));
    world.commit(vec![Command::Expire(Expire::Overdue)]).await;
    let second = world.claim_one().await;
    assert_eq!((second.fence, second.attempt), (2, 1));
    let before = (world.task(root).await, world.events(trace_id).await);
    for end in [
        SettledEnd::Finished { output: inline("1"), children: [].into(), round: None },
        SettledEnd::Failed { failure: StepFailure::fatal("BAD", "x"), delay: Duration::ZERO },
        SettledEnd::Cancelled,
        SettledEnd::Released,
    ] {
        assert_eq!(world.answer(world.settle(&first, end)).await, Answer::LeaseLost);
    }
    assert_eq!((world.task(root).await, world.events(trace_id).await), before);
    world.finish(&second, "2").await;
    assert_eq!(world.answer(world.good(&second, "3")).await, Answer::LeaseLost);
    assert_eq!(world.task(root).await.output, Some(inline("2")));
    let nobody = tower_store::work::Claimed { task_id: world.task_id(), ..second };
    assert_eq!(world.answer(world.good(&nobody, "3")).await, Answer::NotFound);
}

pub(crate) async fn a_released_claim_uses_up_no_retry(world: World) {
    let (_, root) = world.submit().await;
    for fence in 1..=6 {
        let claimed = world.claim_one().await;
        assert_eq!((claimed.attempt, claimed.fence), (1, fence));
        assert_eq!(world.answer(world.settle(&claimed, SettledEnd::Released)).await, Answer::Done);
        assert_eq!(world.task(root).await.phase, Phase::Queued);
    }
}

pub(crate) async fn a_failure_backs_off_and_then_becomes_a_dead_letter(world: World) {
    let (trace_id, root) = world.submit_as(NewTrace { max_retries: 2, ..world.new_trace() }).await;
    for attempt in 1..=3 {
        let claimed = world.claim_one().await;
        assert_eq!(claimed.attempt, attempt);
        let committed = world.fail(&claimed, StepFailure::retryable("SLOW", format!("take {attempt}")), Duration::from_secs(5)).await;
        let task = world.task(root).await;
        if attempt < 3 {
            assert_eq!((task.status, task.phase), (Status::Pending, Phase::Backoff));
            assert_eq!((task.run_after, committed.next_due), (Some(world.now().plus(Duration::from_secs(5))), task.run_after));
            assert!(world.claim(10).await.is_empty());
            world.clock.advance(Duration::from_secs(5));
        } else {
            assert_eq!((task.status, task.phase), (Status::Failed, Phase::DeadLetter));
            assert_eq!(task.error.unwrap().message, "take 3");
            assert_eq!(committed.ended, [(trace_id, Status::Failed)]);
        }
    }
    assert_eq!(world.trace(trace_id).await.error.unwrap().code, "SLOW");
}

pub(crate) async fn a_fatal_failure_ends_at_once(world: World) {
    let (_, root) = world.submit().await;
    world.fail_for_good(&world.claim_one().await).await;
    let task = world.task(root).await;
    assert_eq!((task.status, task.phase, task.error.unwrap().code.as_str()), (Status::Failed, Phase::Done, "BAD"));
}

pub(crate) async fn an_overdue_claim_is_taken_back_and_a_renewed_one_is_not(world: World) {
    let (_, one) = world.submit().await;
    let (_, other) = world.submit().await;
    let theirs = Claim { host: "host-2".to_owned(), limit: 1, elsewhere: Vec::new(), lease: LEASE };
    assert_eq!(world.batch(Vec::new(), Some(theirs)).await.claimed[0].task_id, one);
    assert_eq!(world.claim_one().await.task_id, other);
    world.clock.advance(LEASE / 2);
    let committed = world.commit(vec![Command::Renew { host: HOST.to_owned(), held: vec![one, other], lease: Some(LEASE) }]).await;
    assert_eq!(world.task(other).await.lease_expires_at, Some(world.now().plus(LEASE)));
    assert_eq!((committed.lost, committed.to_tell), (vec![one], vec![(other, Signal::GoOn)]), "somebody else's is none of this host's");
    world.clock.advance(LEASE / 2 + Duration::from_secs(1));
    assert_eq!(world.answer(Command::Expire(Expire::Overdue)).await, Answer::Done);
    assert_eq!((world.task(one).await.phase, world.task(other).await.phase), (Phase::Queued, Phase::Executing));
    let attempts = world.stores.read.attempts(one).await.unwrap();
    assert_eq!((attempts[0].host.as_str(), attempts[0].result.as_str()), ("host-2", "LEASE_EXPIRED"), "who held it, not who took it back");
}

pub(crate) async fn a_host_that_starts_anew_gets_its_tasks_back_in_the_queue(world: World) {
    let (_, mine) = world.submit().await;
    world.claim_one().await;
    let (_, theirs) = world.submit().await;
    world.batch(Vec::new(), Some(Claim { host: "host-2".to_owned(), limit: 1, elsewhere: Vec::new(), lease: LEASE })).await;
    world.commit(vec![Command::Expire(Expire::Host { host: HOST.to_owned(), suspects: Vec::new() })]).await;
    assert_eq!((world.task(mine).await.phase, world.task(theirs).await.phase), (Phase::Queued, Phase::Executing));
    assert_eq!(world.claim_one().await.attempt, 1);
}

pub(crate) async fn a_task_that_was_there_when_its_host_died_three_times_is_a_dead_letter(world: World) {
    let (_, root) = world.submit().await;
    for _ in 0..CRASHES_MAX {
        let claimed = world.claim_one().await;
        world.commit(vec![Command::Expire(Expire::Host { host: HOST.to_owned(), suspects: vec![claimed.task_id] })]).await;
    }
    let task = world.task(root).await;
    assert_eq!((task.phase, task.error.unwrap().code.as_str()), (Phase::DeadLetter, "HOST_CRASHED"));
    assert!(world.claim(10).await.is_empty());
}

pub(crate) async fn a_stop_that_nobody_ordered_is_a_release(world: World) {
    let (_, root) = world.submit().await;
    let claimed = world.claim_one().await;
    assert_eq!(world.answer(world.settle(&claimed, SettledEnd::Cancelled)).await, Answer::Done);
    assert_eq!(world.task(root).await.phase, Phase::Queued);
}

/// Several engines on one database, say: who looked at the clock first need not be who comes first.
pub(crate) async fn batches_happen_in_the_order_in_which_they_are_committed(world: World) {
    let now = world.now();
    let at = |micros: i64, commands: Vec<Command>, claim: Option<Claim>| Batch {
        now: Timestamp::from_micros(now.as_micros() + micros),
        host: HOST.to_owned(),
        trace_tasks_max: 1_000,
        cancel_max: 1_000,
        night: NightWindow::default(),
        user_max_concurrent: None,
        others: true,
        commands,
        claim,
    };
    let submit = Command::Submit(Box::new(world.new_trace()));
    let made = world.stores.work.commit(at(700, vec![submit], None)).await.unwrap().now;
    let claimed = world.stores.work.commit(at(0, Vec::new(), Some(world.wish(1)))).await.unwrap();
    assert_eq!((claimed.claimed.len(), claimed.now >= made), (1, true), "it began before it was made");
    world.is_sound().await;
}
