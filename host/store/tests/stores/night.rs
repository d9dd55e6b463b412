//! NIGHTLY tasks: claimed at night and not by day.

use std::time::Duration;

use tower_domain::clock::Timestamp;
use tower_domain::event::EventType;
use tower_domain::schedule::{NightWindow, Window};
use tower_domain::task::{Phase, Status};
use tower_store::work::{Command, NewTrace};

use crate::world::World;

/// Two hours of the day: the world begins at 22:13:20 UTC.
fn world_with_a_night(mut world: World) -> World {
    world.night = "23:00-01:00".parse::<NightWindow>().unwrap();
    world
}

fn clock(world: &World, text: &str) {
    let at: Timestamp = serde_json::from_value(serde_json::Value::String(text.to_owned())).unwrap();
    world.clock.set_micros(at.as_micros());
}

pub(crate) async fn a_nightly_task_waits_for_the_night_and_others_do_not(world: World) {
    let world = world_with_a_night(world);
    let (nightly, nightly_root) = world.submit_as(NewTrace { window: Window::Nightly, priority: 10, ..world.new_trace() }).await;
    let (_, other_root) = world.submit().await;
    // The more urgent one is passed over; the other is behind it.
    let committed = world.batch(Vec::new(), Some(world.wish(1))).await;
    assert!(committed.claimed.is_empty() && committed.more_ready);
    assert_eq!(world.claim_one().await.task_id, other_root);
    let task = world.task(nightly_root).await;
    assert_eq!((task.phase, task.status, task.waits_for_night), (Phase::Scheduled, Status::Pending, true));
    let opens = task.run_after.unwrap();
    assert_eq!(opens.to_string(), "2023-11-14T23:00:00.000000Z");
    let committed = world.commit(Vec::new()).await;
    assert_eq!(committed.next_due, Some(opens), "whoever sleeps until something is due wakes for it");
    clock(&world, "2023-11-14T23:00:00Z");
    let claimed = world.claim_one().await;
    assert_eq!((claimed.task_id, claimed.attempt), (nightly_root, 1));
    // What runs when the night ends goes on; what it splits off has hours of its own.
    clock(&world, "2023-11-15T01:30:00Z");
    let mut child = world.child(&claimed, "by-night");
    let mut definition = (*child.definition).clone();
    definition.spec.window = Window::Nightly;
    child.definition = std::sync::Arc::new(definition);
    world.split(&claimed, vec![child, world.child(&claimed, "any-time")]).await;
    assert_eq!(world.claim_one().await.key.as_str(), "any-time");
    let history = world.history(nightly, nightly_root).await;
    assert_eq!(history[..4], [EventType::Queued, EventType::Waiting, EventType::Queued, EventType::Started]);
}

pub(crate) async fn what_is_left_when_the_night_ends_waits_for_the_next(world: World) {
    let world = world_with_a_night(world);
    clock(&world, "2023-11-14T23:59:00Z");
    for _ in 0..3 {
        world.submit_as(NewTrace { window: Window::Nightly, ..world.new_trace() }).await;
    }
    let first = world.claim(1).await.remove(0);
    clock(&world, "2023-11-15T01:00:00Z");
    assert!(world.claim(10).await.is_empty());
    world.finish(&first, "1").await;
    assert!(world.claim(10).await.is_empty());
    clock(&world, "2023-11-15T23:00:00Z");
    assert_eq!(world.claim(10).await.len(), 2);
}

pub(crate) async fn a_nightly_task_that_waits_is_held_and_cancelled_like_any_other(world: World) {
    let world = world_with_a_night(world);
    let nightly = || Command::Submit(Box::new(NewTrace { window: Window::Nightly, ..world.new_trace() }));
    world.commit(vec![nightly(), nightly()]).await;
    assert!(world.claim(10).await.is_empty());
    let page = tower_store::read::PageRequest { after: None, limit: 10 };
    let traces = world.stores.read.traces(&tower_store::read::TraceFilter::default(), &page).await.unwrap().items;
    world.pause(traces[0].trace_id, None).await;
    world.cancel(traces[1].trace_id, None).await;
    world.clock.advance(Duration::from_secs(3_600));
    assert!(world.claim(10).await.is_empty());
    assert_eq!(world.task(traces[0].root_task_id).await.phase, Phase::Paused);
    world.resume(traces[0].trace_id, None).await;
    assert_eq!(world.claim_one().await.trace_id, traces[0].trace_id);
}
