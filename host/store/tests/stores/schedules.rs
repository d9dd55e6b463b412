//! Schedules: what a put makes of them, and what fires once.

use std::time::Duration;

use tower_domain::clock::Timestamp;
use tower_domain::control::{ControlAction, ScheduleOrder};
use tower_domain::definition::DefinitionSpec;
use tower_domain::id::IdSource;
use tower_domain::schedule::{Overlap, Plan, Schedule, ScheduleState, ScheduleType};
use tower_domain::task::Status;
use tower_domain::trace::TriggerType;
use tower_store::definitions::Put;
use tower_store::read::PageRequest;
use tower_store::schedules::{Ahead, OrderFilter, ScheduleFilter};
use tower_store::work::{Answer, ChangeSchedule, Command, Fire, NewTrace};

use crate::world::{World, definition, name};

const MINUTE: Duration = Duration::from_secs(60);

/// Every minute.
fn spec() -> DefinitionSpec {
    DefinitionSpec { schedule_type: ScheduleType::Cron, interval_sec: Some(60), ..definition("x").spec.clone() }
}

async fn put(world: &World, spec: &DefinitionSpec) -> Option<Schedule> {
    world.stores.definitions.put(&name("s"), spec, None, world.now()).await.unwrap();
    row(world).await
}

async fn row(world: &World) -> Option<Schedule> {
    world.stores.schedules.find(&name("s")).await.unwrap()
}

/// What a host makes of a row that is due.
fn fire(world: &World, row: &Schedule, overlap: Overlap) -> Fire {
    let due = Plan::of(&spec()).unwrap().due(row, world.now());
    let trace = |at: Timestamp| NewTrace { definition_id: name("s"), trigger_type: TriggerType::Cron, cron_trigger_time: Some(at), ..world.new_trace() };
    let cancel = row.last_trace_id.map(|last| world.order(ControlAction::Cancel, last, None));
    Fire {
        definition_id: name("s"),
        revision: row.revision,
        overlap,
        traces: due.fire.into_iter().map(|at| (at, trace(at))).collect(),
        missed: due.missed,
        skipped: due.skipped,
        next_at: due.next_at,
        cancel,
    }
}

/// Lets so many minutes pass, and fires what is due.
async fn pass(world: &World, minutes: u32, overlap: Overlap) -> Answer {
    world.clock.advance(MINUTE * minutes);
    let row = row(world).await.unwrap();
    world.answer(Command::Fire(Box::new(fire(world, &row, overlap)))).await
}

const FIRED: Answer = Answer::Fired { waits: false };

/// A database with something that fired.
pub(crate) async fn fired_once(world: &World) {
    put(world, &spec()).await;
    assert_eq!(pass(world, 1, Overlap::Allow).await, FIRED);
}

/// A schedule that is due.
pub(crate) async fn due_once(world: &World) -> Schedule {
    put(world, &spec()).await;
    world.clock.advance(MINUTE);
    row(world).await.unwrap()
}

/// What a host makes of it.
pub(crate) fn fire_of(world: &World, row: &Schedule) -> Command {
    Command::Fire(Box::new(fire(world, row, Overlap::Allow)))
}

pub(crate) async fn a_put_begins_changes_and_ends_a_schedule(world: World) {
    assert_eq!(put(&world, &definition("x").spec).await, None);
    let begun = put(&world, &spec()).await.unwrap();
    assert_eq!((begun.state, begun.next_at, begun.definition_version), (ScheduleState::Active, Some(world.now().plus(MINUTE)), 2));
    world.clock.advance(MINUTE / 2);
    let same = put(&world, &DefinitionSpec { role: "other".into(), ..spec() }).await.unwrap();
    assert_eq!(same, begun, "what says nothing about when leaves the schedule as it is");
    let off = put(&world, &DefinitionSpec { is_active: false, ..spec() }).await.unwrap();
    assert_eq!((off.state, off.next_at), (ScheduleState::Active, None));
    world.clock.advance(10 * MINUTE);
    let on = put(&world, &spec()).await.unwrap();
    assert_eq!((on.next_at, on.missed), (Some(begun.anchor.plus(11 * MINUTE)), 0), "in the old step, and without what passed");
    let changed = put(&world, &DefinitionSpec { interval_sec: Some(10), ..spec() }).await.unwrap();
    assert_eq!((changed.next_at, changed.fired), (Some(world.now().plus(Duration::from_secs(10))), 0));
    assert!(changed.revision > on.revision);
    assert_eq!(put(&world, &definition("x").spec).await, None);
    assert_eq!(world.stores.schedules.ahead().await.unwrap(), Ahead::default());
}

pub(crate) async fn an_instant_fires_once_whoever_asks(world: World) {
    let begun = put(&world, &spec()).await.unwrap();
    assert!(world.stores.schedules.due(world.now(), 10).await.unwrap().is_empty());
    world.clock.advance(MINUTE);
    let due = world.stores.schedules.due(world.now(), 10).await.unwrap();
    assert_eq!(due, [begun]);
    let (one, other) = (fire(&world, &due[0], Overlap::Allow), fire(&world, &due[0], Overlap::Allow));
    let trace_id = one.traces[0].1.trace_id;
    let answers = world.commit(vec![Command::Fire(Box::new(one)), Command::Fire(Box::new(other.clone()))]).await.answers;
    assert_eq!(answers, [FIRED, Answer::ScheduleMoved]);
    assert_eq!(world.answer(Command::Fire(Box::new(other))).await, Answer::ScheduleMoved);
    let (row, trace) = (row(&world).await.unwrap(), world.trace(trace_id).await);
    assert_eq!((row.fired, row.last_at, row.last_trace_id), (1, trace.cron_trigger_time, Some(trace_id)));
    assert_eq!((trace.trigger_type, trace.cron_trigger_time), (TriggerType::Cron, due[0].next_at));
    assert_eq!(world.stores.schedules.ahead().await.unwrap(), Ahead { next_at: row.next_at, waiting: false });
    assert!(world.stores.schedules.due(world.now(), 10).await.unwrap().is_empty());
}

pub(crate) async fn what_fired_does_not_fire_again_after_a_change(world: World) {
    put(&world, &spec()).await;
    pass(&world, 1, Overlap::Allow).await;
    let fired = row(&world).await.unwrap();
    // The clock was put back, and the schedule changes.
    world.clock.set_micros(fired.last_at.unwrap().as_micros() - 30_000_000);
    let once = DefinitionSpec { schedule_type: ScheduleType::Once, run_at: fired.last_at, interval_sec: None, ..spec() };
    assert_eq!(put(&world, &once).await.unwrap().state, ScheduleState::Completed);
    put(&world, &definition("x").spec).await;
    assert_eq!(put(&world, &once).await.unwrap().state, ScheduleState::Completed, "also when the row was gone in between");
}

pub(crate) async fn a_skipped_overlap_is_counted(world: World) {
    put(&world, &spec()).await;
    assert_eq!(pass(&world, 1, Overlap::Skip).await, FIRED);
    assert_eq!(pass(&world, 1, Overlap::Skip).await, FIRED);
    let skipped = row(&world).await.unwrap();
    assert_eq!((skipped.fired, skipped.skipped), (1, 1));
    world.run_dry().await;
    pass(&world, 1, Overlap::Skip).await;
    assert_eq!(row(&world).await.unwrap().fired, 2);
}

pub(crate) async fn a_queued_overlap_fires_when_the_trace_has_ended(world: World) {
    put(&world, &spec()).await;
    pass(&world, 1, Overlap::Queue).await;
    assert_eq!(pass(&world, 1, Overlap::Queue).await, Answer::Fired { waits: true });
    let waiting = row(&world).await.unwrap();
    assert_eq!((waiting.waiting_trace_id, waiting.fired), (waiting.last_trace_id, 1));
    world.clock.advance(5 * MINUTE);
    assert!(world.stores.schedules.due(world.now(), 10).await.unwrap().is_empty(), "what waits is not due");
    assert!(world.stores.schedules.ahead().await.unwrap().waiting);
    world.run_dry().await;
    // One after the other: the second waited for the first, the third waits for the second, and none was missed.
    for fired in 2..=7 {
        let due = world.stores.schedules.due(world.now(), 10).await.unwrap();
        assert_eq!(due.len(), 1, "before firing {fired}");
        world.answer(Command::Fire(Box::new(fire(&world, &due[0], Overlap::Queue)))).await;
        let row = row(&world).await.unwrap();
        assert_eq!((row.fired, row.missed, row.skipped), (fired, 0, 0));
        world.run_dry().await;
    }
}

pub(crate) async fn a_long_queue_keeps_the_latest_instants(world: World) {
    put(&world, &spec()).await;
    pass(&world, 1, Overlap::Queue).await;
    assert_eq!(pass(&world, 1, Overlap::Queue).await, Answer::Fired { waits: true });
    // More than is looked at in one go.
    world.clock.advance(25_000 * MINUTE);
    world.run_dry().await;
    let mut looks = 0;
    while row(&world).await.unwrap().fired == 1 {
        let due = world.stores.schedules.due(world.now(), 10).await.unwrap();
        world.answer(Command::Fire(Box::new(fire(&world, &due[0], Overlap::Queue)))).await;
        looks += 1;
    }
    let row = row(&world).await.unwrap();
    // One fired before, one fires now, 99 wait, and the rest was queued and became too much.
    assert_eq!((row.missed, row.skipped, looks), (0, 25_002 - 101, 3));
}

pub(crate) async fn an_overlap_may_end_the_trace_before(world: World) {
    put(&world, &spec()).await;
    pass(&world, 1, Overlap::CancelPrevious).await;
    let first = row(&world).await.unwrap().last_trace_id.unwrap();
    pass(&world, 1, Overlap::CancelPrevious).await;
    let second = row(&world).await.unwrap().last_trace_id.unwrap();
    assert_eq!((world.trace(first).await.status, world.trace(second).await.status), (Status::Cancelled, Status::Pending));
}

pub(crate) async fn a_schedule_is_held_and_goes_on(world: World) {
    let begun = put(&world, &spec()).await.unwrap();
    let change = |action, row: &Schedule, state, next_at| {
        let order = ScheduleOrder {
            id: world.ids.control_event(),
            definition_id: name("s"),
            action,
            triggered_by: "bob".into(),
            reason: "why".into(),
            created_at: world.now(),
        };
        Command::ChangeSchedule(Box::new(ChangeSchedule { order, revision: row.revision, state, next_at }))
    };
    let pause = change(ControlAction::Pause, &begun, ScheduleState::Paused, None);
    assert_eq!(world.answer(pause.clone()).await, Answer::Done);
    assert_eq!(world.answer(pause).await, Answer::ScheduleMoved);
    let paused = row(&world).await.unwrap();
    assert_eq!((paused.state, paused.next_at), (ScheduleState::Paused, None));
    let next = world.now().plus(7 * MINUTE);
    assert_eq!(world.answer(change(ControlAction::Run, &paused, ScheduleState::Active, Some(next))).await, Answer::Done);
    let resumed = row(&world).await.unwrap();
    assert_eq!((resumed.state, resumed.next_at), (ScheduleState::Active, Some(next)));
    assert_eq!(world.answer(change(ControlAction::Cancel, &resumed, ScheduleState::Cancelled, None)).await, Answer::Done);
    let cancelled = row(&world).await.unwrap();
    assert_eq!((cancelled.state, cancelled.next_at), (ScheduleState::Cancelled, None));
    let (trace, _) = world.submit().await;
    world.cancel(trace, None).await;
    let orders = |filter: OrderFilter, after, limit| {
        let store = world.stores.schedules.clone();
        async move { store.orders(&filter, &PageRequest { after, limit }).await.unwrap() }
    };
    let of_it = orders(OrderFilter { definition_id: Some(name("s")), ..OrderFilter::default() }, None, 10).await.items;
    assert_eq!(of_it.iter().map(|order| order.action).collect::<Vec<_>>(), [ControlAction::Cancel, ControlAction::Run, ControlAction::Pause]);
    let of_trace = orders(OrderFilter { trace_id: Some(trace), ..OrderFilter::default() }, None, 10).await.items;
    assert_eq!((of_trace.len(), of_trace[0].trace_id, of_trace[0].definition_id.clone()), (1, Some(trace), None));
    let first = orders(OrderFilter { action: Some(ControlAction::Cancel), ..OrderFilter::default() }, None, 1).await;
    assert_eq!((first.items[0].trace_id, first.next.is_some()), (Some(trace), true));
    let second = orders(OrderFilter { action: Some(ControlAction::Cancel), ..OrderFilter::default() }, first.next, 1).await;
    assert_eq!((second.items[0].definition_id.clone(), second.next), (Some(name("s")), None));
}

pub(crate) async fn a_schedule_without_a_next_instant_is_completed(world: World) {
    let at = world.now().plus(MINUTE);
    let once = DefinitionSpec { schedule_type: ScheduleType::Once, interval_sec: None, run_at: Some(at), ..spec() };
    let begun = put(&world, &once).await.unwrap();
    assert_eq!((begun.state, begun.next_at), (ScheduleState::Active, Some(at)));
    world.clock.advance(MINUTE);
    let fire = Fire { next_at: None, ..fire(&world, &begun, Overlap::Allow) };
    assert_eq!(world.answer(Command::Fire(Box::new(fire))).await, FIRED);
    assert_eq!(row(&world).await.unwrap().state, ScheduleState::Completed);
}

pub(crate) async fn schedules_are_listed_by_page(world: World) {
    for id in ["a", "b", "c"] {
        let put = world.stores.definitions.put(&name(id), &spec(), None, world.now()).await.unwrap();
        assert!(matches!(put, Put::Created(_)));
    }
    let list = |state, after, limit| {
        let store = world.stores.schedules.clone();
        async move {
            let page = store.list(&ScheduleFilter { state }, &PageRequest { after, limit }).await.unwrap();
            (page.items.into_iter().map(|row| row.definition_id.to_string()).collect::<Vec<_>>(), page.next)
        }
    };
    assert_eq!(list(None, None, 2).await, (vec!["a".into(), "b".into()], Some(name("b"))));
    assert_eq!(list(Some(ScheduleState::Active), Some(name("b")), 2).await, (vec!["c".into()], None));
    assert!(list(Some(ScheduleState::Paused), None, 2).await.0.is_empty());
    let mut found: Vec<String> =
        world.stores.schedules.find_many(&["c", "nobody", "a"].map(name)).await.unwrap().into_iter().map(|row| row.definition_id.to_string()).collect();
    found.sort();
    assert_eq!(found, ["a", "c"]);
    assert_eq!(world.stores.schedules.find_many(&[]).await.unwrap(), []);
}

pub(crate) async fn what_waits_for_a_cancelled_trace_goes_on_wherever_that_ends(mut world: World) {
    world.cancel_max = 1;
    put(&world, &spec()).await;
    pass(&world, 1, Overlap::Queue).await;
    let trace = row(&world).await.unwrap().last_trace_id.unwrap();
    let root = world.claim_one().await;
    world.split(&root, (0..3).map(|number| world.child(&root, &format!("c{number}"))).collect()).await;
    assert_eq!(pass(&world, 1, Overlap::Queue).await, Answer::Fired { waits: true });
    assert_eq!(world.cancel(trace, None).await.unswept, [trace]);
    // Nobody sweeps it: the last of its tasks end as they would be claimed.
    assert!(world.claim(10).await.is_empty());
    assert_eq!(world.trace(trace).await.status, Status::Cancelled);
    assert_eq!(world.stores.schedules.due(world.now(), 10).await.unwrap().len(), 1, "its turn has come");
}
