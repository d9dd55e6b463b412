//! The store as a host of the simulation reaches it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::control::{ControlEvent, KeptOrder};
use tower_domain::definition::{Definition, DefinitionSpec};
use tower_domain::event::TaskEvent;
use tower_domain::id::{ControlEventId, TaskId, TraceId};
use tower_domain::limit::Gate;
use tower_domain::module::{Module, ModuleTag};
use tower_domain::name::{Key, Name};
use tower_domain::schedule::Schedule;
use tower_domain::split::ExistingChild;
use tower_domain::step::ResultPage;
use tower_domain::task::{Attempt, Round, Task};
use tower_domain::trace::Trace;
use tower_store::definitions::{DefinitionFilter, DefinitionStore, Put};
use tower_store::hosts::{HostBeat, HostRow, HostStore, Told};
use tower_store::modules::{ModuleStore, TagMove};
use tower_store::news::{Listener, News, Newsroom};
use tower_store::read::{DeadLetterFilter, DeadLetterGroup, GroupBy, KeyUse, LaneUse, LimitUse, Page, PageRequest, Reader, TaskFilter, TraceFilter};
use tower_store::schedules::{Ahead, OrderFilter, ScheduleFilter, ScheduleStore};
use tower_store::work::{Batch, Committed, WorkStore};
use tower_store::{StoreError, Stores};

use crate::life::Life;

/// The stores of one life.
pub(crate) fn around(stores: Stores, life: &Arc<Life>) -> Stores {
    let (sessions, artifacts) = (stores.sessions.clone(), stores.artifacts.clone());
    let seam = Arc::new(Seam { blobs: stores.blobs.clone(), stores, life: life.clone() });
    Stores {
        work: seam.clone(),
        read: seam.clone(),
        definitions: seam.clone(),
        modules: seam.clone(),
        schedules: seam.clone(),
        sessions,
        hosts: seam.clone(),
        news: seam.clone(),
        blobs: seam.blobs.clone(),
        artifacts,
        retention: seam.stores.retention.clone(),
    }
}

struct Seam {
    stores: Stores,
    blobs: Arc<dyn tower_store::blobs::BlobStore>,
    life: Arc<Life>,
}

#[async_trait]
impl WorkStore for Seam {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let commit = || {
            // As a database does that several machines share: by its own clock.
            let batch = Batch { now: self.life.database_time(), ..batch };
            let at = self.life.at();
            async move {
                let committed = self.stores.work.commit(batch).await?;
                for event in &committed.events {
                    let line = format!("{} {} {} {} {}", self.life.name, event.trace_id, event.seq, event.task_id, event.event_type);
                    self.life.common.note(at, &line);
                }
                Ok(committed)
            }
        };
        self.life.pass("commit", commit).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.life.pass("check_writable", || self.stores.work.check_writable()).await
    }
}

macro_rules! forward {
    ($trait:ident of $store:ident { $(fn $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)+ }) => {
        #[async_trait]
        impl $trait for Seam {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$answer, StoreError> {
                self.life.pass(stringify!($name), || self.stores.$store.$name($($arg),*)).await
            })+
        }
    };
}

forward!(Reader of read {
    fn trace(id: TraceId) -> Option<Trace>;
    fn traces(filter: &TraceFilter, page: &PageRequest<TraceId>) -> Page<Trace, TraceId>;
    fn task(id: TaskId) -> Option<Task>;
    fn tasks(trace: TraceId, filter: &TaskFilter, page: &PageRequest<TaskId>) -> Page<Task, TaskId>;
    fn attempts(task: TaskId) -> Vec<Attempt>;
    fn rounds(task: TaskId, page: &PageRequest<u32>) -> Page<Round, u32>;
    fn events(trace: TraceId, after: u64, limit: u32) -> Vec<TaskEvent>;
    fn logs(trace: TraceId, subtree: Option<TaskId>, after: u64, limit: u32) -> Vec<TaskEvent>;
    fn child_results(task: TaskId, after: Option<TaskId>, limit: u32) -> ResultPage;
    fn dependency_results(task: TaskId, after: Option<TaskId>, limit: u32) -> ResultPage;
    fn open_dependencies(task: TaskId, limit: u32) -> Vec<Key>;
    fn existing_children(task: TaskId) -> Vec<ExistingChild>;
    fn dead_letters(filter: &DeadLetterFilter, page: &PageRequest<TaskId>) -> Page<Task, TaskId>;
    fn dead_letter_groups(filter: &DeadLetterFilter, by: GroupBy) -> Vec<DeadLetterGroup>;
    fn limits(page: &PageRequest<Gate>) -> Page<LimitUse, Gate>;
    fn lanes() -> Vec<LaneUse>;
    fn control_events(trace: TraceId) -> Vec<ControlEvent>;
    fn key_use(key: &str, not_before: Timestamp) -> Option<KeyUse>;
    fn ping() -> ();
});

forward!(DefinitionStore of definitions {
    fn put(id: &Name, spec: &DefinitionSpec, expected: Option<u32>, now: Timestamp) -> Put;
    fn find(id: &Name) -> Option<Definition>;
    fn find_version(id: &Name, version: u32) -> Option<Definition>;
    fn find_as_of(id: &Name, at: Timestamp) -> Option<Definition>;
    fn list(filter: &DefinitionFilter, page: &PageRequest<Name>) -> Page<Definition, Name>;
});

forward!(ModuleStore of modules {
    fn add(module: &Module, name: &Name, tags: &[Name], now: Timestamp) -> bool;
    fn set_tag(name: &Name, tag: &Name, digest: &Digest, expected: Option<&Digest>, now: Timestamp) -> TagMove;
    fn resolve(module: &ModuleRef) -> Option<Digest>;
    fn find(digest: &Digest) -> Option<Module>;
    fn tags(name: &Name) -> Vec<ModuleTag>;
    fn list(page: &PageRequest<(Name, Name)>) -> Page<ModuleTag, (Name, Name)>;
});

forward!(ScheduleStore of schedules {
    fn due(now: Timestamp, limit: u32) -> Vec<Schedule>;
    fn ahead() -> Ahead;
    fn find(definition: &Name) -> Option<Schedule>;
    fn find_many(definitions: &[Name]) -> Vec<Schedule>;
    fn list(filter: &ScheduleFilter, page: &PageRequest<Name>) -> Page<Schedule, Name>;
    fn orders(filter: &OrderFilter, page: &PageRequest<ControlEventId>) -> Page<KeptOrder, ControlEventId>;
});

#[async_trait]
impl HostStore for Seam {
    async fn beat(&self, beat: &HostBeat, _: Timestamp, others_within: Duration) -> Result<Told, StoreError> {
        self.life.pass("beat", || self.stores.hosts.beat(beat, self.life.database_time(), others_within)).await
    }

    async fn leave(&self, id: &str, _: Timestamp) -> Result<(), StoreError> {
        self.life.pass("leave", || self.stores.hosts.leave(id, self.life.database_time())).await
    }

    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.life.pass("hosts", || self.stores.hosts.hosts()).await
    }

    async fn drain(&self, id: &str, draining: bool) -> Result<bool, StoreError> {
        self.life.pass("drain", || self.stores.hosts.drain(id, draining)).await
    }
}

#[async_trait]
impl Newsroom for Seam {
    async fn listen(&self, host: &str) -> Result<Box<dyn Listener>, StoreError> {
        let ear = self.life.pass("listen", || self.stores.news.listen(host)).await?;
        Ok(Box::new(Ear { ear, again: None, life: self.life.clone() }))
    }
}

/// Hears late, twice, or never.
struct Ear {
    ear: Box<dyn Listener>,
    again: Option<News>,
    life: Arc<Life>,
}

#[async_trait]
impl Listener for Ear {
    async fn next(&mut self) -> Result<News, StoreError> {
        if let Some(again) = self.again.take() {
            return Ok(again);
        }
        loop {
            let news = self.ear.next().await?;
            let common = &self.life.common;
            if common.is_calm() {
                return Ok(news);
            }
            let (lot, late) = {
                let mut dice = common.dice.lock();
                (dice.below(20), Duration::from_millis(dice.between(1, 2_000)))
            };
            match lot {
                _ if common.deaf => continue,
                0..5 => continue,
                5..8 => tokio::time::sleep(late).await,
                8 => self.again = Some(news.clone()),
                9 => return Err(StoreError::Unusable("simulated: the line is dead".to_owned())),
                _ => {}
            }
            return Ok(news);
        }
    }
}
