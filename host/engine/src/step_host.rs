//! The four powers of a step, for every executor in one place.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::id::TaskId;
use tower_domain::json::Json;
use tower_domain::name::Name;
use tower_domain::session::bounds::SDK_SESSION_ID_BYTES_MAX;
use tower_domain::split::{ChildRequest, PlannedChild, SplitRefused, Splitter, Staging};
use tower_domain::step::{HostTrouble, LOG_LINE_BYTES_MAX, LogLevel, LogLine, LogStream, RESULT_PAGE_MAX, ResultPage, Signal, StepHost, Stop};
use tower_domain::task::{Leg, clean};

use tower_store::fault::{self, Point};

use crate::catalog::{Fetched, Loaded};
use crate::inner::Inner;
use crate::observer::{Observer, Reported};
use crate::running::Orders;

/// Longest progress message that is kept, in bytes.
const PROGRESS_BYTES_MAX: usize = 1_000;
/// Largest piece of output that is shown before the end, in bytes.
const PARTIAL_BYTES_MAX: usize = LOG_LINE_BYTES_MAX;
/// What a line costs in the database however little it says, in bytes: lines of nothing are not for nothing.
const ROW_BYTES: u64 = 128;

/// One step's host.
pub(crate) struct EngineStepHost {
    pub(crate) inner: Arc<Inner>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) task_id: TaskId,
    pub(crate) leg: Leg,
    pub(crate) splitter: Splitter,
    pub(crate) has_children: bool,
    pub(crate) trace_created_at: Timestamp,
    pub(crate) staging: tokio::sync::Mutex<Option<Staging>>,
    /// What the code calls its session from now on.
    pub(crate) sdk_session_id: parking_lot::Mutex<Option<String>>,
}

impl EngineStepHost {
    /// The children that the step staged.
    pub(crate) async fn take_plan(&self) -> Vec<PlannedChild> {
        self.staging.lock().await.take().map(Staging::into_plan).unwrap_or_default()
    }

    fn report(&self, add: impl FnOnce(&mut Reported, Timestamp)) {
        let now = self.inner.clock.now();
        if self.observer.add(|reported| add(reported, now)) {
            self.inner.list_observer(self.observer.clone());
        }
    }

    async fn definitions(&self, requests: &[ChildRequest]) -> Result<Fetched, HostTrouble> {
        let names: BTreeSet<Name> = requests.iter().filter_map(|request| Name::new(&request.definition).ok()).collect();
        let mut found: HashMap<Name, Arc<Loaded>> = HashMap::with_capacity(names.len());
        for name in names {
            if let Some(loaded) = self.inner.catalog.as_of(&name, self.trace_created_at).await.map_err(trouble)? {
                found.insert(name, loaded);
            }
        }
        Ok(Fetched(found))
    }
}

fn trouble(error: tower_store::StoreError) -> HostTrouble {
    HostTrouble(error.to_string())
}

#[async_trait]
impl StepHost for EngineStepHost {
    async fn split(&self, children: Vec<ChildRequest>) -> Result<Result<Vec<TaskId>, SplitRefused>, HostTrouble> {
        let definitions = self.definitions(&children).await?;
        let mut slot = self.staging.lock().await;
        if slot.is_none() {
            let existing = if self.has_children { self.inner.stores.read.existing_children(self.task_id).await.map_err(trouble)? } else { Vec::new() };
            *slot = Some(Staging::beside(existing));
        }
        let staging = slot.get_or_insert_with(Staging::default);
        let staged = staging.split(&self.splitter, &children, &definitions, self.inner.ids.as_ref());
        let _ = fault::point(Point::Splitting).await;
        Ok(staged)
    }

    fn progress(&self, percent: u8, message: &str) {
        let message = clean(message, PROGRESS_BYTES_MAX);
        self.report(|reported, _| reported.progress = Some((percent.min(100), message)));
    }

    fn log(&self, line: LogLine) {
        self.report(|reported, now| {
            if reported.cut {
                return;
            }
            let line = LogLine { message: clean(&line.message, LOG_LINE_BYTES_MAX), ..line };
            let bytes = ROW_BYTES + (line.message.len() + line.fields.as_ref().map_or(0, |fields| fields.as_str().len())) as u64;
            if bytes > reported.room {
                reported.cut = true;
                reported.logs.push((
                    now,
                    LogLine { message: "the log of this attempt is cut here: it is over resource_profile.log_bytes".to_owned(), fields: None, ..line },
                ));
                return;
            }
            reported.room -= bytes;
            reported.logs.push((now, line));
        });
    }

    fn partial_output(&self, value: Json) {
        self.report(|reported, now| {
            let bytes = ROW_BYTES + value.as_str().len() as u64;
            if value.as_str().len() <= PARTIAL_BYTES_MAX && bytes <= reported.room {
                reported.room -= bytes;
                reported.partials.push((now, value));
            }
        });
    }

    fn signal(&self) -> Signal {
        self.orders.signal()
    }

    async fn signalled(&self, heard: &Signal) {
        let is_news = |signal: Signal| match signal {
            Signal::GoOn => false,
            Signal::Pause => *heard != Signal::Pause,
            Signal::Cancel(_) => true,
        };
        self.orders.until(|orders| is_news(orders.signal()).then_some(())).await;
    }

    fn stop(&self) -> Option<Stop> {
        self.orders.stop()
    }

    async fn stopped(&self) -> Stop {
        self.orders.until(Orders::stop).await
    }

    async fn results(&self, after: Option<TaskId>, limit: u32) -> Result<ResultPage, HostTrouble> {
        let _ = fault::point(Point::Folding).await;
        let limit = limit.clamp(1, RESULT_PAGE_MAX);
        let read = &self.inner.stores.read;
        match self.leg {
            Leg::Aggregate => read.child_results(self.task_id, after, limit).await,
            Leg::Run if self.splitter.actor_type.is_aggregator() => read.dependency_results(self.task_id, after, limit).await,
            Leg::Run => Ok(ResultPage::default()),
        }
        .map_err(trouble)
    }

    fn set_sdk_session_id(&self, id: String) {
        if id.len() <= SDK_SESSION_ID_BYTES_MAX && !id.chars().any(char::is_control) {
            *self.sdk_session_id.lock() = Some(id);
            return;
        }
        let message = format!("an sdk_session_id is at most {SDK_SESSION_ID_BYTES_MAX} bytes of text without control characters: it stays as it was");
        self.log(LogLine { stream: LogStream::Log, level: LogLevel::Warn, message, fields: None });
    }
}
