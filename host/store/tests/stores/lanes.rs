//! Steps that run outside of the host wait in lanes of their own.

use std::sync::Arc;
use std::time::Duration;

use tower_domain::code_ref::Lane;
use tower_domain::control::ControlAction;
use tower_domain::id::TaskId;
use tower_domain::step::StepFailure;
use tower_domain::task::Phase;
use tower_store::news::News;
use tower_store::read::LaneUse;
use tower_store::work::{Claim, Claimed, Command, Expire, NewTrace, SettledEnd};

use crate::world::{HOST, LEASE, World, definition, queue};

fn in_lane(world: &World, lane: &Lane) -> NewTrace {
    NewTrace { lane: lane.clone(), ..world.new_trace() }
}

async fn claim_in(world: &World, lanes: &[(Lane, u32)]) -> Vec<Claimed> {
    let claim = Claim { host: HOST.to_owned(), limit: 0, elsewhere: lanes.to_vec(), lease: LEASE };
    world.batch(Vec::new(), Some(claim)).await.claimed
}

fn ids(claimed: &[Claimed]) -> Vec<TaskId> {
    claimed.iter().map(|claimed| claimed.task_id).collect()
}

pub(crate) async fn a_task_is_claimed_by_who_has_room_in_its_lane(world: World) {
    let (_, here) = world.submit().await;
    let (_, gpu) = world.submit_as(in_lane(&world, &queue("gpu"))).await;
    let (_, docker) = world.submit_as(in_lane(&world, &Lane::Containers)).await;
    let process = Claim { host: HOST.to_owned(), limit: 10, elsewhere: Vec::new(), lease: LEASE };
    assert_eq!(ids(&world.batch(Vec::new(), Some(process)).await.claimed), [here]);
    assert_eq!(claim_in(&world, &[(queue("cpu"), 5), (Lane::Http, 5), (queue("gpu"), 0)]).await.len(), 0);
    let claimed = claim_in(&world, &[(queue("gpu"), 5), (Lane::Containers, 5)]).await;
    assert_eq!(ids(&claimed), [gpu, docker]);
    assert_eq!(claimed.iter().map(|claimed| claimed.lane.to_string()).collect::<Vec<_>>(), ["worker/gpu", "docker"]);
    for claimed in &claimed {
        world.finish(claimed, "1").await;
    }
}

pub(crate) async fn a_task_stays_in_its_lane_wherever_it_was(world: World) {
    let lane = queue("cpu");
    let (trace, task) = world.submit_as(in_lane(&world, &lane)).await;
    let only = [(lane.clone(), 1)];
    let mut claimed = claim_in(&world, &only).await.remove(0);
    // Back at once, after a wait, after a hold, after its host was away, and after children.
    world.commit(vec![world.settle(&claimed, SettledEnd::Released)]).await;
    assert_eq!(world.claim(10).await.len(), 0);
    claimed = claim_in(&world, &only).await.remove(0);
    world.fail(&claimed, StepFailure::retryable("SLOW", "this time"), Duration::from_secs(1)).await;
    assert_eq!(claim_in(&world, &only).await.len(), 0);
    world.clock.advance(Duration::from_secs(2));
    world.commit(Vec::new()).await;
    world.commit(vec![Command::Control(world.order(ControlAction::Pause, trace, None))]).await;
    assert_eq!((world.task(task).await.phase, claim_in(&world, &only).await.len()), (Phase::Paused, 0));
    world.commit(vec![Command::Control(world.order(ControlAction::Run, trace, None))]).await;
    claim_in(&world, &only).await;
    world.clock.advance(LEASE + Duration::from_secs(1));
    world.commit(vec![Command::Expire(Expire::Overdue)]).await;
    claimed = claim_in(&world, &only).await.remove(0);
    world.split(&claimed, vec![world.child(&claimed, "child")]).await;
    let child = world.claim(10).await;
    assert_eq!(child.iter().map(|child| child.key.as_str()).collect::<Vec<_>>(), ["child"], "a child is in its own definition's lane");
    world.finish(&child[0], "1").await;
    assert_eq!(world.claim(10).await.len(), 0);
    claimed = claim_in(&world, &only).await.remove(0);
    world.fail_for_good(&claimed).await;
    world.commit(vec![Command::Submit(Box::new(NewTrace { lane: lane.clone(), ..world.retry_of(trace) }))]).await;
    assert_eq!((world.claim(10).await.len(), claim_in(&world, &only).await.len()), (0, 1), "a retry is as well");
}

pub(crate) async fn children_wait_in_the_lanes_of_their_definitions(world: World) {
    world.submit().await;
    let root = world.claim_one().await;
    let child = |text: &str, code: &str| {
        let mut child = world.child(&root, text);
        let mut outside = (*definition("child-def")).clone();
        outside.spec.code_ref = code.parse().unwrap();
        child.definition = Arc::new(outside);
        child
    };
    world.split(&root, vec![child("a", "docker://tool"), child("b", "worker://cpu"), child("c", "http://127.0.0.1:1/"), child("d", "wasm://probe")]).await;
    assert_eq!(world.claim(10).await.iter().map(|claimed| claimed.key.as_str()).collect::<Vec<_>>(), ["d"]);
    for (lane, key) in [(Lane::Containers, "a"), (queue("cpu"), "b"), (Lane::Http, "c")] {
        let claimed = claim_in(&world, &[(lane, 10)]).await;
        assert_eq!(claimed.iter().map(|claimed| claimed.key.as_str()).collect::<Vec<_>>(), [key]);
    }
}

pub(crate) async fn within_a_lane_urgent_tasks_go_first_and_none_starves(world: World) {
    let lane = queue("cpu");
    let (_, old) = world.submit_as(NewTrace { priority: 1, ..in_lane(&world, &lane) }).await;
    for _ in 0..20 {
        world.submit_as(NewTrace { priority: 9, ..in_lane(&world, &lane) }).await;
    }
    assert_ne!(claim_in(&world, &[(lane.clone(), 1)]).await[0].task_id, old, "an urgent one first");
    let mut before = 1;
    while claim_in(&world, &[(lane.clone(), 1)]).await[0].task_id != old {
        before += 1;
        assert!(before <= 10, "one claim in ten goes to whoever is next");
    }
}

pub(crate) async fn a_limit_is_passed_into_the_lane(world: World) {
    let lane = queue("cpu");
    let mut spec = definition("root-def").spec.clone();
    spec.max_concurrent = Some(1);
    world.stores.definitions.put(&crate::world::name("root-def"), &spec, None, world.now()).await.unwrap();
    let gates = || tower_domain::limit::Gates::of(&crate::world::name("root-def"), &spec.limits(), &crate::world::json("{}"), None);
    for _ in 0..2 {
        world.submit_as(NewTrace { gates: gates(), ..in_lane(&world, &lane) }).await;
    }
    let first = claim_in(&world, &[(lane.clone(), 10)]).await;
    assert_eq!(first.len(), 1);
    let committed = world.commit(vec![world.good(&first[0], "1")]).await;
    assert!(committed.news.contains(&News::Work), "another host may have room for it");
    assert_eq!((world.claim(10).await.len(), claim_in(&world, &[(lane, 10)]).await.len()), (0, 1));
}

pub(crate) async fn lanes_are_listed_with_how_many_wait(world: World) {
    let lanes = || async { world.stores.read.lanes().await.unwrap() };
    let wait = |lane: Lane, ready| LaneUse { lane, ready };
    assert_eq!(lanes().await, [wait(Lane::Process, 0)]);
    for lane in [Lane::Process, queue("b"), Lane::Containers, queue("a"), queue("b"), Lane::Http] {
        world.submit_as(in_lane(&world, &lane)).await;
    }
    let mut listed = lanes().await;
    listed[1..].sort_by_key(|used| used.lane.to_string());
    let expected = [wait(Lane::Process, 1), wait(Lane::Containers, 1), wait(Lane::Http, 1), wait(queue("a"), 1), wait(queue("b"), 2)];
    assert_eq!(listed, expected);
    claim_in(&world, &[(queue("b"), 2)]).await;
    assert!(!lanes().await.iter().any(|used| used.lane == queue("b")));
}
