//! Two back ends as one: whatever is done is done on both, whatever is asked is asked of both, and the answers must be the same.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::control::ControlEvent;
use tower_domain::definition::{Definition, DefinitionSpec};
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::limit::Gate;
use tower_domain::name::{Key, Name};
use tower_domain::split::ExistingChild;
use tower_domain::step::ResultPage;
use tower_domain::task::{Attempt, Round, Task};
use tower_domain::trace::Trace;
use tower_store::definitions::{DefinitionFilter, DefinitionStore, Put};
use tower_store::invariants::{Inspect, Invariant};
use tower_store::read::{DeadLetterFilter, DeadLetterGroup, GroupBy, KeyUse, LaneUse, LimitUse, Page, PageRequest, Reader, TaskFilter, TraceFilter};
use tower_store::work::{Batch, Command, Committed, IdMaker, WorkStore};
use tower_store::{StoreError, Stores};

use crate::backends::{Backend, postgres, sqlite_memory};

struct Twins {
    one: Stores,
    other: Stores,
    inspect: [Arc<dyn Inspect>; 2],
}

/// SQLite and PostgreSQL, side by side.
pub(crate) async fn both() -> Backend {
    let (one, other) = (sqlite_memory().await, postgres().await);
    let inspect = [one.inspect, other.inspect];
    let twins = Arc::new(Twins { one: one.stores.clone(), other: other.stores, inspect });
    let stores = Stores { work: twins.clone(), read: twins.clone(), definitions: twins.clone(), ..one.stores };
    Backend { stores, inspect: twins, keep: Box::new((one.keep, other.keep)) }
}

fn is_alike(what: &str, one: &impl std::fmt::Debug, other: &impl std::fmt::Debug) {
    let (one, other) = (format!("{one:#?}"), format!("{other:#?}"));
    if one != other {
        let lines = one.lines().zip(other.lines()).enumerate().filter(|(_, (one, other))| one != other);
        let shown: Vec<String> = lines.take(5).map(|(number, (one, other))| format!("line {number}: {one} | {other}")).collect();
        panic!("{what}: {shown:#?} of\n{one}");
    }
}

/// Asks both.
macro_rules! both {
    ($twins:ident, $store:ident.$method:ident($($argument:expr),*)) => {{
        let one = $twins.one.$store.$method($($argument),*).await?;
        let other = $twins.other.$store.$method($($argument),*).await?;
        is_alike(stringify!($method), &one, &other);
        Ok(one)
    }};
}

#[async_trait]
impl Inspect for Twins {
    async fn violations(&self, invariant: Invariant) -> Result<Vec<String>, StoreError> {
        let [one, other] = &self.inspect;
        let (one, other) = (one.violations(invariant).await?, other.violations(invariant).await?);
        assert!(one.is_empty() && other.is_empty(), "{}: {one:#?} {other:#?}", invariant.id);
        Ok(one)
    }
}

#[async_trait]
impl WorkStore for Twins {
    async fn commit(&self, mut batch: Batch) -> Result<Committed, StoreError> {
        let mut copy = batch.clone();
        for (command, copy) in batch.commands.iter_mut().zip(&mut copy.commands) {
            if let (Command::Submit(new), Command::Submit(copy)) = (command, copy)
                && let (Some(rerun), Some(copy)) = (&mut new.rerun, &mut copy.rerun)
            {
                let made = Arc::new(Mutex::new(Vec::new()));
                copy.ids = told_again(&rerun.ids, &made);
                rerun.ids = told_again(&rerun.ids, &made);
            }
        }
        let (mut one, mut other) = (self.one.work.commit(batch).await?, self.other.work.commit(copy).await?);
        // A host tells each of its steps on its own, and may have asked twice.
        for committed in [&mut one, &mut other] {
            committed.to_tell.sort_by_key(|(id, _)| *id);
            committed.to_tell.dedup();
            // Each has statements of its own.
            committed.statements = 0;
        }
        is_alike("commit", &one, &other);
        Ok(one)
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        both!(self, work.check_writable())
    }
}

/// Makes the same ids for whoever has one of these.
fn told_again(ids: &IdMaker, made: &Arc<Mutex<Vec<TaskId>>>) -> IdMaker {
    let (ids, made, next) = (ids.clone(), made.clone(), AtomicUsize::new(0));
    IdMaker(Arc::new(move || {
        let (mut made, at) = (made.lock().unwrap(), next.fetch_add(1, Ordering::SeqCst));
        if made.len() == at {
            made.push((ids.0)());
        }
        made[at]
    }))
}

#[async_trait]
impl DefinitionStore for Twins {
    async fn put(&self, id: &Name, spec: &DefinitionSpec, expected: Option<u32>, now: Timestamp) -> Result<Put, StoreError> {
        both!(self, definitions.put(id, spec, expected, now))
    }

    async fn find(&self, id: &Name) -> Result<Option<Definition>, StoreError> {
        both!(self, definitions.find(id))
    }

    async fn find_version(&self, id: &Name, version: u32) -> Result<Option<Definition>, StoreError> {
        both!(self, definitions.find_version(id, version))
    }

    async fn find_as_of(&self, id: &Name, at: Timestamp) -> Result<Option<Definition>, StoreError> {
        both!(self, definitions.find_as_of(id, at))
    }

    async fn list(&self, filter: &DefinitionFilter, page: &PageRequest<Name>) -> Result<Page<Definition, Name>, StoreError> {
        both!(self, definitions.list(filter, page))
    }
}

#[async_trait]
impl Reader for Twins {
    async fn trace(&self, id: TraceId) -> Result<Option<Trace>, StoreError> {
        both!(self, read.trace(id))
    }

    async fn traces(&self, filter: &TraceFilter, page: &PageRequest<TraceId>) -> Result<Page<Trace, TraceId>, StoreError> {
        both!(self, read.traces(filter, page))
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        both!(self, read.task(id))
    }

    async fn tasks(&self, trace: TraceId, filter: &TaskFilter, page: &PageRequest<TaskId>) -> Result<Page<Task, TaskId>, StoreError> {
        both!(self, read.tasks(trace, filter, page))
    }

    async fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>, StoreError> {
        both!(self, read.attempts(task))
    }

    async fn rounds(&self, task: TaskId, page: &PageRequest<u32>) -> Result<Page<Round, u32>, StoreError> {
        both!(self, read.rounds(task, page))
    }

    async fn events(&self, trace: TraceId, after: u64, limit: u32) -> Result<Vec<TaskEvent>, StoreError> {
        both!(self, read.events(trace, after, limit))
    }

    async fn logs(&self, trace: TraceId, subtree: Option<TaskId>, after: u64, limit: u32) -> Result<Vec<TaskEvent>, StoreError> {
        both!(self, read.logs(trace, subtree, after, limit))
    }

    async fn child_results(&self, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
        both!(self, read.child_results(task, after, limit))
    }

    async fn dependency_results(&self, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
        both!(self, read.dependency_results(task, after, limit))
    }

    async fn open_dependencies(&self, task: TaskId, limit: u32) -> Result<Vec<Key>, StoreError> {
        both!(self, read.open_dependencies(task, limit))
    }

    async fn existing_children(&self, task: TaskId) -> Result<Vec<ExistingChild>, StoreError> {
        both!(self, read.existing_children(task))
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter, page: &PageRequest<TaskId>) -> Result<Page<Task, TaskId>, StoreError> {
        both!(self, read.dead_letters(filter, page))
    }

    async fn dead_letter_groups(&self, filter: &DeadLetterFilter, by: GroupBy) -> Result<Vec<DeadLetterGroup>, StoreError> {
        both!(self, read.dead_letter_groups(filter, by))
    }

    async fn limits(&self, page: &PageRequest<Gate>) -> Result<Page<LimitUse, Gate>, StoreError> {
        both!(self, read.limits(page))
    }

    async fn lanes(&self) -> Result<Vec<LaneUse>, StoreError> {
        both!(self, read.lanes())
    }

    async fn control_events(&self, trace: TraceId) -> Result<Vec<ControlEvent>, StoreError> {
        both!(self, read.control_events(trace))
    }

    async fn key_use(&self, key: &str, not_before: Timestamp) -> Result<Option<KeyUse>, StoreError> {
        both!(self, read.key_use(key, not_before))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        both!(self, read.ping())
    }
}

/// Asks the readers all that there is to ask about these traces, page by page.
pub(crate) async fn ask_everything(read: &dyn Reader, traces: &[TraceId], tasks: &[TaskId], now: Timestamp) {
    use tower_domain::task::{ActorType, Phase, Status};
    let since = Timestamp::from_micros(now.as_micros() - 3_600_000_000);
    for status in [vec![], vec![Status::Success], vec![Status::Failed, Status::Cancelled]] {
        let user_id = status.is_empty().then(|| "ada".to_owned());
        for filter in [
            TraceFilter { status: status.clone(), ..TraceFilter::default() },
            TraceFilter { status: status.clone(), user_id, since: Some(since), ..TraceFilter::default() },
            TraceFilter { status, definition_id: Some(crate::world::name("root-def")), until: Some(now), ..TraceFilter::default() },
        ] {
            let mut after = None;
            while let Some(next) = read.traces(&filter, &PageRequest { after, limit: 3 }).await.unwrap().next {
                after = Some(next);
            }
        }
    }
    for trace in traces {
        for filter in [
            TaskFilter::default(),
            TaskFilter { status: vec![Status::Success, Status::Skipped], ..TaskFilter::default() },
            TaskFilter { phase: vec![Phase::DeadLetter, Phase::Done], layer: Some(1), ..TaskFilter::default() },
            TaskFilter { actor_type: Some(ActorType::GroupAgg), ..TaskFilter::default() },
        ] {
            let mut after = None;
            while let Some(next) = read.tasks(*trace, &filter, &PageRequest { after, limit: 4 }).await.unwrap().next {
                after = Some(next);
            }
        }
        read.events(*trace, 2, 7).await.unwrap();
        read.control_events(*trace).await.unwrap();
    }
    for (number, task) in tasks.iter().enumerate().filter(|(number, _)| number % 5 == 0) {
        let task = *task;
        let seen = read.task(task).await.unwrap().unwrap();
        read.attempts(task).await.unwrap();
        read.rounds(task, &PageRequest { after: None, limit: 2 }).await.unwrap();
        let first = read.child_results(task, None, 2).await.unwrap();
        read.child_results(task, first.next, 2).await.unwrap();
        read.dependency_results(task, None, 2).await.unwrap();
        read.open_dependencies(task, 5).await.unwrap();
        read.existing_children(task).await.unwrap();
        read.logs(seen.trace_id, (number % 2 == 0).then_some(task), 0, 5).await.unwrap();
        let filter = TaskFilter { parent_id: Some(task), ..TaskFilter::default() };
        read.tasks(seen.trace_id, &filter, &PageRequest { after: None, limit: 3 }).await.unwrap();
    }
    for filter in [DeadLetterFilter::default(), DeadLetterFilter { open: true, since: Some(since), ..DeadLetterFilter::default() }] {
        let first = read.dead_letters(&filter, &PageRequest { after: None, limit: 2 }).await.unwrap();
        read.dead_letters(&filter, &PageRequest { after: first.next, limit: 2 }).await.unwrap();
        read.dead_letter_groups(&filter, GroupBy::Error).await.unwrap();
        read.dead_letter_groups(&filter, GroupBy::Definition).await.unwrap();
    }
    let first = read.limits(&PageRequest { after: None, limit: 1 }).await.unwrap();
    read.limits(&PageRequest { after: first.next, limit: 50 }).await.unwrap();
    read.lanes().await.unwrap();
}
