//! What every part of the engine shares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_domain::clock::Clock;
use tower_domain::code_ref::Lane;
use tower_domain::id::{IdSource, TraceId};
use tower_domain::step::Executor;
use tower_store::Stores;

use crate::catalog::Catalog;
use crate::commit::CommitSender;
use crate::config::EngineConfig;
use crate::feed::Feed;
use crate::hosts::Company;
use crate::journal::Journal;
use crate::observer::Observer;
use crate::running::Claims;
use crate::scheduler::SchedulerBell;

/// What every part of the engine shares.
pub(crate) struct Inner {
    pub(crate) config: EngineConfig,
    pub(crate) stores: Stores,
    pub(crate) executors: Vec<Arc<dyn Executor>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) catalog: Catalog,
    pub(crate) claims: Claims,
    pub(crate) feed: Arc<Feed>,
    pub(crate) commits: CommitSender,
    pub(crate) journal: Option<Journal>,
    pub(crate) observers: Mutex<Vec<Arc<Observer>>>,
    pub(crate) waiters: Mutex<BTreeMap<TraceId, watch::Sender<()>>>,
    pub(crate) scheduler: SchedulerBell,
    pub(crate) company: Company,
    pub(crate) tracker: TaskTracker,
    /// Nothing runs any more: the committer and the report writer end.
    pub(crate) stop: CancellationToken,
    /// The grace time of everything is over.
    pub(crate) hard_stop: CancellationToken,
    /// Whether the last thing that was to be written was written.
    pub(crate) healthy: AtomicBool,
}

impl Inner {
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// How many more may be claimed of each lane but that of the process.
    pub(crate) fn room_elsewhere(&self) -> Vec<(Lane, u32)> {
        self.claims.room_elsewhere(self.executors.iter().flat_map(|executor| executor.slots()))
    }

    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Release);
    }
}
