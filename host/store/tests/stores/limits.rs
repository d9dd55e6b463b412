//! How many tasks run at once and begin in a while; and that nothing starves.

use std::sync::Arc;
use std::time::Duration;

use tower_domain::control::ControlAction;
use tower_domain::definition::DefinitionSpec;
use tower_domain::id::TaskId;
use tower_domain::limit::{GateLimit, Gates};
use tower_domain::step::StepFailure;
use tower_domain::task::{Phase, Status};
use tower_store::read::PageRequest;
use tower_store::work::{Claimed, Command, Expire, NewTrace, SettledEnd};

use crate::world::{LEASE, World, definition, json, name};

async fn put(world: &World, id: &str, limits: &str) -> DefinitionSpec {
    let spec = json(&format!(r#"{{"actor_type":"AGENT","code_ref":"wasm://probe",{limits}}}"#)).read().unwrap();
    world.stores.definitions.put(&name(id), &spec, None, world.now()).await.unwrap();
    spec
}

/// A root of that definition with these params.
fn root(world: &World, id: &str, spec: &DefinitionSpec, params: &str) -> NewTrace {
    let user = world.user_max_concurrent.map(|_| "ada");
    let gates = Gates::of(&name(id), &spec.limits(), &json(params), user);
    NewTrace { definition_id: name(id), params: json(params), gates, ..world.new_trace() }
}

async fn submit(world: &World, id: &str, spec: &DefinitionSpec, params: &str) -> TaskId {
    world.submit_as(root(world, id, spec, params)).await.1
}

fn ids(claimed: &[Claimed]) -> Vec<TaskId> {
    claimed.iter().map(|claimed| claimed.task_id).collect()
}

/// The limit that a task waits for, by name.
async fn waits_for(world: &World, task: TaskId) -> Option<String> {
    world.task(task).await.limit.map(|wait| wait.gate.to_string())
}

/// For tests of other things: a task that has passed its limit, and one that waits for it.
pub(crate) async fn one_runs_and_one_waits(world: &World) {
    let spec = put(world, "limited", r#""max_concurrent":1"#).await;
    for _ in 0..2 {
        submit(world, "limited", &spec, "{}").await;
    }
}

pub(crate) async fn no_more_tasks_of_a_definition_run_at_once_than_it_allows(world: World) {
    let spec = put(&world, "d", r#""max_concurrent":2"#).await;
    let mut roots = Vec::new();
    for _ in 0..5 {
        roots.push(submit(&world, "d", &spec, "{}").await);
    }
    let (_, free) = world.submit().await;
    let claimed = world.claim(10).await;
    assert_eq!(ids(&claimed), [roots[0], roots[1], free]);
    for waiting in &roots[2..] {
        assert_eq!(waits_for(&world, *waiting).await.as_deref(), Some("definition/d"));
        assert_eq!(world.task(*waiting).await.phase, Phase::Queued);
    }
    // Whoever leaves lets the next in, in the same batch.
    let committed = world.batch(vec![world.good(&claimed[0], "1")], Some(world.wish(10))).await;
    assert_eq!(ids(&committed.claimed), [roots[2]]);
    assert_eq!(waits_for(&world, roots[2]).await, None);
    world.finish(&claimed[1], "1").await;
    world.finish(&committed.claimed[0], "1").await;
    assert_eq!(ids(&world.claim(10).await), [roots[3], roots[4]]);
}

pub(crate) async fn tasks_with_one_value_of_the_key_run_one_after_another(world: World) {
    let spec = put(&world, "d", r#""concurrency_key":"/company","max_concurrent":3"#).await;
    let mut acme = Vec::new();
    for _ in 0..3 {
        acme.push(submit(&world, "d", &spec, r#"{"company":"Acme"}"#).await);
    }
    let other = submit(&world, "d", &spec, r#"{"company":"Other"}"#).await;
    let keyless = submit(&world, "d", &spec, "{}").await;
    let claimed = world.claim(10).await;
    assert_eq!(ids(&claimed), [acme[0], other, keyless]);
    assert_eq!(waits_for(&world, acme[1]).await.as_deref(), Some("key/d/Acme"));
    let fourth = submit(&world, "d", &spec, r#"{"company":"Fourth"}"#).await;
    assert_eq!(waits_for(&world, fourth).await.as_deref(), Some("definition/d"));
    // A place of the definition is not kept for a company that is busy.
    let committed = world.batch(vec![world.good(&claimed[1], "1")], Some(world.wish(10))).await;
    assert_eq!(ids(&committed.claimed), [fourth]);
    let committed = world.batch(vec![world.good(&claimed[0], "1")], Some(world.wish(10))).await;
    assert_eq!(ids(&committed.claimed), [acme[1]]);
}

pub(crate) async fn tasks_of_a_user_share_a_limit_and_children_count(mut world: World) {
    world.user_max_concurrent = Some(2);
    let spec = put(&world, "d", r#""description":"no limit""#).await;
    let first = submit(&world, "d", &spec, "{}").await;
    let claimed = world.claim(10).await;
    assert_eq!(ids(&claimed), [first]);
    let children = (0..3).map(|number| world.child(&claimed[0], &format!("c{number}"))).collect();
    world.split(&claimed[0], children).await;
    let eves = Gates::of(&name("d"), &spec.limits(), &json("{}"), Some("eve"));
    let (_, eve) = world.submit_as(NewTrace { user_id: "eve".to_owned(), gates: eves, ..root(&world, "d", &spec, "{}") }).await;
    let claimed = world.claim(10).await;
    assert_eq!(claimed.len(), 3, "two of one user, one of the other");
    assert!(ids(&claimed).contains(&eve));
    world.run_dry().await;
    for claim in &claimed {
        world.finish(claim, "1").await;
    }
    world.run_dry().await;
    assert_eq!(world.status(first).await, Status::Success);
    // Somebody raised it, or took it away, while tasks waited: their next look tells.
    world.user_max_concurrent = Some(1);
    let (one, two) = (submit(&world, "d", &spec, "{}").await, submit(&world, "d", &spec, "{}").await);
    let claimed = world.claim(10).await;
    assert_eq!((ids(&claimed), waits_for(&world, two).await.as_deref()), (vec![one], Some("user/ada")));
    world.user_max_concurrent = None;
    world.finish(&claimed[0], "1").await;
    assert_eq!(ids(&world.claim(10).await), [two]);
}

pub(crate) async fn a_task_with_several_limits_holds_none_while_it_waits_for_one(mut world: World) {
    world.user_max_concurrent = Some(1);
    let narrow = put(&world, "narrow", r#""max_concurrent":1"#).await;
    let wide = put(&world, "wide", r#""max_concurrent":5"#).await;
    let eves = |spec: &DefinitionSpec, id: &str| Gates::of(&name(id), &spec.limits(), &json("{}"), Some("eve"));
    // Ada runs something wide; her narrow one waits for her, and must not keep the narrow place from Eve.
    let running = submit(&world, "wide", &wide, "{}").await;
    let adas = submit(&world, "narrow", &narrow, "{}").await;
    let (_, eve) = world.submit_as(NewTrace { gates: eves(&narrow, "narrow"), ..root(&world, "narrow", &narrow, "{}") }).await;
    let claimed = world.claim(10).await;
    assert_eq!(ids(&claimed), [running, eve]);
    assert_eq!(waits_for(&world, adas).await.as_deref(), Some("user/ada"));
    // Now Eve has the narrow place: Ada's task moves on to wait for that.
    let committed = world.batch(vec![world.good(&claimed[0], "1")], Some(world.wish(10))).await;
    assert!(committed.claimed.is_empty());
    assert_eq!(waits_for(&world, adas).await.as_deref(), Some("definition/narrow"));
    let another = submit(&world, "wide", &wide, "{}").await;
    let claim = world.claim_one().await;
    assert_eq!(claim.task_id, another, "a task that waits for something else holds nothing of hers");
    let committed = world.batch(vec![world.good(&claim, "1"), world.good(&claimed[1], "1")], Some(world.wish(10))).await;
    assert_eq!(ids(&committed.claimed), [adas]);
}

pub(crate) async fn starts_are_spread_by_the_rate(world: World) {
    let spec = put(&world, "d", r#""rate_limit":{"max":10,"per_sec":1,"burst":2}"#).await;
    let mut roots = Vec::new();
    for _ in 0..6 {
        roots.push(root(&world, "d", &spec, "{}"));
    }
    let begin = world.now();
    let order: Vec<TaskId> = roots.iter().map(|root| root.root_task_id).collect();
    let submits = roots.into_iter().map(|root| Command::Submit(Box::new(root))).collect();
    let mut committed = world.batch(submits, Some(world.wish(10))).await;
    let mut claimed = ids(&committed.claimed);
    assert_eq!(claimed, order[..2], "the burst");
    let wait = world.task(order[2]).await.limit.unwrap();
    assert_eq!((wait.gate.to_string().as_str(), wait.opens_at), ("rate/d", committed.next_due));
    let mut starts = Vec::new();
    while claimed.len() < 6 {
        let due = committed.next_due.expect("the next token");
        world.clock.advance(due.since(world.now()).saturating_sub(Duration::from_millis(1)));
        committed = world.batch(Vec::new(), Some(world.wish(10))).await;
        claimed.extend(ids(&committed.claimed));
        starts.extend(committed.claimed.iter().map(|_| world.now().since(begin).as_millis()));
    }
    assert_eq!(claimed, order);
    assert_eq!(starts, [101, 201, 301, 401], "one an interval");
    assert_eq!(committed.next_due, None, "nobody waits, nothing is due");
    // A start counts, however long it runs: nothing comes back with the end.
    let last = submit(&world, "d", &spec, "{}").await;
    assert!(world.claim(10).await.is_empty());
    assert_eq!(waits_for(&world, last).await.as_deref(), Some("rate/d"));
}

pub(crate) async fn a_place_comes_back_however_the_claim_ends(world: World) {
    let spec = put(&world, "d", r#""max_concurrent":1"#).await;
    for end in ["fatal", "retryable", "cancelled", "released", "suspended", "split", "expired", "round"] {
        let first = submit(&world, "d", &spec, "{}").await;
        let claim = world.claim_one().await;
        assert_eq!(claim.task_id, first, "{end}");
        let second = submit(&world, "d", &spec, "{}").await;
        assert!(world.claim(10).await.is_empty(), "{end}");
        let failed = |failure, delay| SettledEnd::Failed { failure, delay };
        let finished = |children, round| SettledEnd::Finished { output: crate::world::inline("1"), children, round };
        let settle = match end {
            "fatal" => failed(StepFailure::fatal("BAD", "bad"), Duration::ZERO),
            "retryable" => failed(StepFailure::retryable("SLOW", "slow"), Duration::from_secs(3_600)),
            "cancelled" => {
                world.cancel(claim.trace_id, None).await;
                SettledEnd::Cancelled
            }
            "suspended" => {
                world.pause(claim.trace_id, None).await;
                SettledEnd::Suspended { carried: crate::world::inline("1") }
            }
            "split" => finished([world.child(&claim, "c")].into(), None),
            "round" => finished([].into(), Some(tower_store::work::RoundEnd::Next { delay: Duration::from_secs(3_600) })),
            _ => SettledEnd::Released,
        };
        if end == "expired" {
            world.clock.advance(LEASE + Duration::from_secs(1));
            world.commit(vec![Command::Expire(Expire::Overdue)]).await;
        } else {
            world.commit(vec![world.settle(&claim, settle)]).await;
        }
        // What was given back goes first: it has waited for longer.
        let next = world.claim(10).await;
        let again = matches!(end, "released" | "expired");
        let expected = if again { first } else { second };
        assert!(ids(&next).contains(&expected), "{end}: {next:#?}");
        assert_eq!(ids(&next).contains(&second), !again, "{end}");
        for trace in [claim.trace_id, world.task(second).await.trace_id] {
            world.cancel(trace, None).await;
        }
        let leave = next.iter().map(|claim| world.settle(claim, SettledEnd::Cancelled)).collect();
        world.commit(leave).await;
        assert!(gates(&world).await.is_empty(), "{end}: what nobody has passed is forgotten");
    }
}

/// Gates that are remembered: name, running, waiting.
async fn gates(world: &World) -> Vec<(String, u32, u32)> {
    let page = world.stores.read.limits(&PageRequest { after: None, limit: 100 }).await.unwrap();
    page.items.into_iter().map(|used| (used.gate.to_string(), used.running, used.waiting)).collect()
}

pub(crate) async fn limits_in_use_are_listed_with_who_runs_and_waits(world: World) {
    let spec = put(&world, "d", r#""max_concurrent":2,"rate_limit":{"max":3,"per_sec":60},"concurrency_key":"/k","max_concurrent_per_key":2"#).await;
    for _ in 0..5 {
        submit(&world, "d", &spec, r#"{"k":true}"#).await;
    }
    let claimed = world.claim(10).await;
    assert_eq!(claimed.len(), 2);
    assert_eq!(gates(&world).await, [("definition/d".into(), 2, 0), ("key/d/true".into(), 2, 3), ("rate/d".into(), 2, 0)]);
    let page = world.stores.read.limits(&PageRequest { after: None, limit: 1 }).await.unwrap();
    assert_eq!(page.items[0].limit, Some(GateLimit::Places(2)));
    let page = world.stores.read.limits(&PageRequest { after: page.next, limit: 500 }).await.unwrap();
    assert_eq!(page.items.len(), 2);
    assert!(page.next.is_none());
    world.finish(&claimed[0], "1").await;
    let claimed = world.claim(10).await;
    assert_eq!(claimed.len(), 1);
    world.finish(&claimed[0], "1").await;
    assert_eq!(gates(&world).await, [("definition/d".into(), 1, 0), ("key/d/true".into(), 1, 0), ("rate/d".into(), 1, 2)]);
}

pub(crate) async fn a_limit_that_is_changed_counts_for_those_that_wait(world: World) {
    let spec = put(&world, "d", r#""max_concurrent":1"#).await;
    let mut roots = Vec::new();
    for _ in 0..5 {
        roots.push(submit(&world, "d", &spec, "{}").await);
    }
    assert_eq!(world.claim(10).await.len(), 1);
    put(&world, "d", r#""max_concurrent":3"#).await;
    assert_eq!(ids(&world.claim(10).await), roots[1..3]);
    // Fewer: nobody is stopped, and nobody begins until there is room.
    put(&world, "d", r#""max_concurrent":1"#).await;
    assert!(world.claim(10).await.is_empty());
    put(&world, "d", r#""description":"no limit""#).await;
    assert_eq!(ids(&world.claim(10).await), roots[3..]);
}

pub(crate) async fn what_waits_for_a_limit_is_held_and_cancelled_like_any_other(world: World) {
    let spec = put(&world, "d", r#""max_concurrent":1"#).await;
    let first = submit(&world, "d", &spec, "{}").await;
    let claim = world.claim_one().await;
    assert_eq!(claim.task_id, first);
    let held = world.submit_as(root(&world, "d", &spec, "{}")).await;
    let cancelled = world.submit_as(root(&world, "d", &spec, "{}")).await;
    let last = submit(&world, "d", &spec, "{}").await;
    world.pause(held.0, None).await;
    world.cancel(cancelled.0, None).await;
    assert_eq!((world.task(held.1).await.phase, world.status(cancelled.1).await), (Phase::Paused, Status::Cancelled));
    assert_eq!(waits_for(&world, held.1).await, None);
    let committed = world.batch(vec![world.good(&claim, "1")], Some(world.wish(10))).await;
    assert_eq!(ids(&committed.claimed), [last]);
    world.resume(held.0, None).await;
    assert_eq!(waits_for(&world, held.1).await.as_deref(), Some("definition/d"));
    // One that has passed and is not claimed yet gives its place back as well.
    world.finish(&committed.claimed[0], "1").await;
    assert_eq!(waits_for(&world, held.1).await, None);
    let next = submit(&world, "d", &spec, "{}").await;
    world.commit(vec![Command::Control(world.order(ControlAction::Pause, held.0, None))]).await;
    assert_eq!(ids(&world.claim(10).await), [next]);
}

pub(crate) async fn urgent_tasks_pass_a_limit_first_and_none_starves(world: World) {
    let spec = put(&world, "d", r#""max_concurrent":1"#).await;
    let urgent = |world: &World| Command::Submit(Box::new(NewTrace { priority: 10, ..root(world, "d", &spec, "{}") }));
    let first = submit(&world, "d", &spec, "{}").await;
    let mut claim = world.claim_one().await;
    assert_eq!(claim.task_id, first);
    let (_, slow) = world.submit_as(NewTrace { priority: 1, ..root(&world, "d", &spec, "{}") }).await;
    let mut turns = 0;
    // However many that are more urgent keep coming.
    while claim.task_id != slow {
        turns += 1;
        assert!(turns < 25, "it waits for ever");
        let commands = vec![urgent(&world), urgent(&world), world.good(&claim, "1")];
        let mut committed = world.batch(commands, Some(world.wish(10))).await;
        assert_eq!(committed.claimed.len(), 1);
        claim = committed.claimed.remove(0);
    }
    assert!(turns > 5, "urgent ones go first");
}

pub(crate) async fn of_ten_claims_one_is_made_in_fair_order(world: World) {
    let (_, slow) = world.submit_as(NewTrace { priority: 1, ..world.new_trace() }).await;
    let mut turns = 0;
    loop {
        turns += 1;
        assert!(turns < 25, "it waits for ever");
        let urgent = (0..3).map(|_| Command::Submit(Box::new(NewTrace { priority: 10, ..world.new_trace() }))).collect();
        let claimed = world.batch(urgent, Some(world.wish(1))).await.claimed;
        assert_eq!(claimed.len(), 1);
        world.finish(&claimed[0], "1").await;
        if claimed[0].task_id == slow {
            break;
        }
    }
    assert!(turns > 5, "urgent ones go first");
    // Many at once: a tenth of them.
    let backlog = (0..100).map(|_| Command::Submit(Box::new(NewTrace { priority: 1, ..world.new_trace() }))).collect();
    world.commit(backlog).await;
    world.run_dry().await;
    let slow = (0..100).map(|_| Command::Submit(Box::new(NewTrace { priority: 1, ..world.new_trace() }))).collect();
    world.commit(slow).await;
    let urgent = (0..100).map(|_| Command::Submit(Box::new(NewTrace { priority: 10, ..world.new_trace() }))).collect();
    world.commit(urgent).await;
    let mut slow = 0;
    for claim in world.claim(50).await {
        slow += u32::from(world.task(claim.task_id).await.priority == 1);
    }
    assert_eq!(slow, 5);
}

pub(crate) async fn a_retry_has_the_limits_of_now(world: World) {
    let spec = put(&world, "root-def", r#""description":"no limit""#).await;
    let mut failed = Vec::new();
    for _ in 0..2 {
        let (trace, _) = world.submit_as(root(&world, "root-def", &spec, "{}")).await;
        let claim = world.claim_one().await;
        world.fail_for_good(&claim).await;
        failed.push(trace);
    }
    put(&world, "root-def", r#""max_concurrent":1"#).await;
    let retries: Vec<_> = failed.into_iter().map(|trace| Command::Submit(Box::new(world.retry_of(trace)))).collect();
    let committed = world.batch(retries, Some(world.wish(10))).await;
    assert_eq!(committed.claimed.len(), 1, "{:#?}", committed.answers);
    world.finish(&committed.claimed[0], "1").await;
    assert_eq!(world.claim(10).await.len(), 1);
}

pub(crate) async fn a_wide_split_passes_its_limit_few_by_few(world: World) {
    put(&world, "child-def", r#""max_concurrent":7"#).await;
    let (trace_id, _) = world.submit().await;
    let claim = world.claim_one().await;
    let mut limited = definition("child-def");
    std::sync::Arc::make_mut(&mut limited).spec.max_concurrent = Some(7);
    let children =
        (0..300).map(|number| tower_domain::split::PlannedChild { definition: limited.clone(), ..world.child(&claim, &format!("c{number:03}")) }).collect();
    let mut committed = world.batch(vec![world.settle(&claim, SettledEnd::Finished { output: crate::world::inline("1"), children, round: None })], None).await;
    assert!(committed.claimed.is_empty());
    let mut keys = Vec::new();
    let mut done = Vec::new();
    loop {
        committed = world.try_batch(done, Some(world.wish(50))).await;
        assert!(committed.claimed.len() <= 7);
        if committed.claimed.iter().any(|claim| claim.key.as_str() == "root") {
            break;
        }
        keys.extend(committed.claimed.iter().map(|claim| claim.key.to_string()));
        done = committed.claimed.iter().map(|claim| world.good(claim, "1")).collect();
    }
    world.is_sound().await;
    assert_eq!(keys.len(), 300);
    assert!(keys.is_sorted(), "in the order in which they were split off");
    world.finish(&committed.claimed[0], "1").await;
    assert_eq!(world.trace(trace_id).await.status, Status::Success);
}

pub(crate) async fn what_a_large_cancel_has_not_come_to_takes_nobodys_turn(mut world: World) {
    world.cancel_max = 1;
    let spec = put(&world, "d", r#""rate_limit":{"max":1,"per_sec":60,"burst":1}"#).await;
    submit(&world, "d", &spec, "{}").await;
    let first = world.claim_one().await;
    world.finish(&first, "1").await;
    // Its children wait for the next turn, and are cancelled but for their rows.
    let (trace_id, _) = world.submit().await;
    let parent = world.claim_one().await;
    let children = (0..4).map(|number| {
        let mut child = world.child(&parent, &format!("c{number}"));
        let definition = Arc::make_mut(&mut child.definition);
        (definition.id, definition.spec) = (name("d"), spec.clone());
        child
    });
    world.split(&parent, children.collect()).await;
    let after = submit(&world, "d", &spec, "{}").await;
    assert!(world.claim(10).await.is_empty());
    assert_eq!(world.cancel(trace_id, None).await.unswept, [trace_id]);
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(ids(&world.claim(10).await), [after]);
}
