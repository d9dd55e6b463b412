//! What must hold: the database's own invariants, and what is known outside of it.

use std::collections::{BTreeMap, BTreeSet};

use tower_domain::id::{TaskId, TraceId};
use tower_domain::schedule::{Misfire, Plan, Schedule};
use tower_domain::task::{Output, Phase, Status, Task};
use tower_domain::trace::Trace;
use tower_store::Stores;
use tower_store::read::{PageRequest, TaskFilter, TraceFilter};
use tower_store::schedules::{OrderFilter, ScheduleFilter};
use tower_store::sqlite::SqliteStore;

use crate::book::{Book, Moment, Run, What};
use crate::life::drive;
use crate::steps::{Left, Script};
use crate::world::World;

fn ask<T>(question: impl Future<Output = Result<T, tower_store::StoreError>>) -> T {
    drive(question, None).expect("not cut").expect("memory answers")
}

pub(crate) fn invariants(store: &SqliteStore) -> Vec<String> {
    ask(tower_store::invariants::check(store)).into_iter().map(|found| format!("{} ({}): {}", found.id, found.says, found.row)).collect()
}

/// All of them.
pub(crate) fn traces(stores: &Stores) -> Vec<Trace> {
    let (mut traces, mut after) = (Vec::new(), None);
    loop {
        let page = ask(stores.read.traces(&TraceFilter::default(), &PageRequest { after, limit: 500 }));
        traces.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return traces,
        }
    }
}

fn tasks(stores: &Stores, trace: TraceId) -> Vec<Task> {
    let (mut tasks, mut after) = (Vec::new(), None);
    loop {
        let page = ask(stores.read.tasks(trace, &TaskFilter::default(), &PageRequest { after, limit: 500 }));
        tasks.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return tasks,
        }
    }
}

pub(crate) fn rows(stores: &Stores) -> Vec<Schedule> {
    ask(stores.schedules.list(&ScheduleFilter::default(), &PageRequest { after: None, limit: 500 })).items
}

/// Each instant of a schedule that nobody has held was fired, or counted as left out.
pub(crate) fn schedules(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in rows(&world.stores) {
        let definition = ask(world.stores.definitions.find(&row.definition_id)).expect("it is there");
        let plan = Plan::of(&definition.spec).expect("it has a schedule");
        let filter = OrderFilter { definition_id: Some(row.definition_id.clone()), ..OrderFilter::default() };
        let was_held = !ask(world.stores.schedules.orders(&filter, &PageRequest { after: None, limit: 1 })).items.is_empty();
        let Some(next_at) = row.next_at.filter(|_| !was_held) else { continue };
        let instants = std::iter::successors(plan.next(row.anchor, row.anchor), |at| plan.next(*at, row.anchor)).take_while(|at| *at < next_at).count() as u64;
        if instants != row.fired + row.missed + row.skipped {
            let misfire: Misfire = plan.misfire;
            wrong.push(format!("{instants} instants were due, and dealt with are {row:?}, {misfire:?}"));
        }
    }
    wrong
}

/// Everything, when all hosts have gone.
pub(crate) fn all(world: &World) -> Vec<String> {
    let (stores, book) = (&world.stores, world.common.book.lock());
    let mut wrong = invariants(&world.store);
    wrong.extend(book.odd.iter().cloned());
    let traces = traces(stores);
    let tasks: BTreeMap<TaskId, Task> = traces.iter().flat_map(|trace| tasks(stores, trace.trace_id)).map(|task| (task.id, task)).collect();
    wrong.extend(tasks.values().filter(|task| !matches!(task.phase, Phase::Done | Phase::Cached | Phase::DeadLetter)).map(|task| format!("open: {task:?}")));
    let gates = ask(stores.read.limits(&PageRequest { after: None, limit: 500 })).items;
    wrong.extend(gates.iter().filter(|used| used.running + used.waiting > 0).map(|used| format!("not left: {used:?}")));
    keys(&book, &traces, &mut wrong);
    told(world, &book, &mut wrong);
    instants(&traces, &mut wrong);
    effects(world, &book, &traces, &tasks, &mut wrong);
    runs(&book, &tasks, &mut wrong);
    wrong
}

/// A key begins one trace, and nothing that was acknowledged is lost.
fn keys(book: &Book, traces: &[Trace], wrong: &mut Vec<String>) {
    let mut by_key: BTreeMap<&str, BTreeSet<TraceId>> = BTreeMap::new();
    for trace in traces {
        if let Some(key) = &trace.idempotency_key {
            by_key.entry(key).or_default().insert(trace.trace_id);
        }
    }
    wrong.extend(by_key.iter().filter(|(_, traces)| traces.len() > 1).map(|(key, traces)| format!("one key, {key}, began {traces:?}")));
    for ask in &book.asks {
        if let What::Trigger { key, .. } | What::Rerun { key, .. } = &ask.what
            && !ask.begun.is_empty()
            && by_key.get(key.as_str()) != Some(&ask.begun)
        {
            wrong.push(format!("under {key} was acknowledged {:?}, and there is {:?}", ask.begun, by_key.get(key.as_str())));
        }
    }
}

/// What was told from outside was kept once, if that was acknowledged, and never more than once.
fn told(world: &World, book: &Book, wrong: &mut Vec<String>) {
    for ask in &book.asks {
        let What::Tell { trace, event, .. } = &ask.what else { continue };
        let (mut kept, mut after) = (0, 0);
        loop {
            let events = ask_events(world, *trace, after);
            let Some(last) = events.last() else { break };
            after = last.seq;
            kept += events.iter().filter(|kept| kept.event_id.as_deref() == Some(event)).count();
        }
        if kept > 1 || ask.accepted > 1 || (ask.accepted + ask.duplicate > 0 && kept == 0) {
            wrong.push(format!("{event} is kept {kept} times, accepted {} times, known {} times", ask.accepted, ask.duplicate));
        }
    }
}

fn ask_events(world: &World, trace: TraceId, after: u64) -> Vec<tower_domain::event::TaskEvent> {
    ask(world.stores.read.events(trace, after, 500))
}

/// No instant has two traces.
fn instants(traces: &[Trace], wrong: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for trace in traces {
        if let Some(at) = trace.cron_trigger_time
            && !seen.insert((trace.definition_id.clone(), at))
        {
            wrong.push(format!("{} of {at} began twice", trace.definition_id));
        }
    }
}

/// What a task came to, and what it split into, is what the step of an accepted claim said.
fn effects(world: &World, book: &Book, traces: &[Trace], tasks: &BTreeMap<TaskId, Task>, wrong: &mut Vec<String>) {
    let finished: BTreeSet<(TaskId, u64)> = book.runs.iter().filter(|run| run.finished).map(|run| (run.task, run.fence)).collect();
    let reruns: BTreeSet<TraceId> = traces.iter().filter(|trace| trace.rerun_of.is_some()).map(|trace| trace.trace_id).collect();
    let mut splits: BTreeMap<TaskId, BTreeSet<u64>> = BTreeMap::new();
    for task in tasks.values() {
        if task.status == Status::Success && task.phase == Phase::Done {
            let left = task.output.as_ref().and_then(|output| match output {
                Output::Inline(json) => json.read::<Left>().ok(),
                Output::Ref(_) => None,
            });
            match left {
                Some(Left { fence }) if fence == task.fence && finished.contains(&(task.id, fence)) => {}
                left => wrong.push(format!("task {} of fence {} ended with {left:?}, and no such step finished", task.id, task.fence)),
            }
        }
        let Some(parent) = task.parent_id.filter(|_| !reruns.contains(&task.trace_id)) else { continue };
        let by = task.input_params.read::<Script>().map_or(0, |script| script.by);
        let accepted = splits.entry(parent).or_insert_with(|| {
            let attempts = ask(world.stores.read.attempts(parent));
            attempts.into_iter().filter(|attempt| attempt.result == "SPLIT").map(|attempt| attempt.fence).collect()
        });
        if !accepted.contains(&by) {
            wrong.push(format!("task {} was asked for by claim {by} of {parent}; accepted were {accepted:?}", task.id));
        }
    }
}

/// Code ran once a claim, under claims that there were, and never in two places at once, but for hosts that were frozen.
fn runs(book: &Book, tasks: &BTreeMap<TaskId, Task>, wrong: &mut Vec<String>) {
    let mut by_task: BTreeMap<TaskId, Vec<&Run>> = BTreeMap::new();
    for run in &book.runs {
        by_task.entry(run.task).or_default().push(run);
    }
    for (id, runs) in by_task {
        let fences: BTreeSet<u64> = runs.iter().map(|run| run.fence).collect();
        if fences.len() != runs.len() {
            wrong.push(format!("task {id}: one claim ran more than once"));
        }
        match tasks.get(&id) {
            None => wrong.push(format!("task {id} ran, and there is no such task")),
            Some(task) if fences.last().is_some_and(|last| *last > task.fence) => wrong.push(format!("task {id} ran under a claim that it never had")),
            Some(_) => {}
        }
        for (at, run) in runs.iter().enumerate() {
            for other in &runs[at + 1..] {
                let (begun, ended) = (run.begun.max(other.begun), end(book, run).min(end(book, other)));
                let overlap = begun < ended && run.life != other.life;
                if overlap && !was_frozen(book, run) && !was_frozen(book, other) {
                    let told = |run: &Run| format!("{} {:?} to {:?} (claim {}, {})", book.lives[run.life].name, run.begun, end(book, run), run.fence, run.leg);
                    wrong.push(format!("task {id} ran in two places at once: {} and {}", told(run), told(other)));
                }
            }
        }
    }
}

fn end(book: &Book, run: &Run) -> Moment {
    run.ended.or(book.lives[run.life].died).unwrap_or(Moment { order: u64::MAX, at: u64::MAX })
}

/// Whether the host stood still shortly before or while it ran.
fn was_frozen(book: &Book, run: &Run) -> bool {
    book.lives[run.life].frozen.iter().any(|(from, until)| *from < end(book, run).at && run.begun.at <= *until)
}
