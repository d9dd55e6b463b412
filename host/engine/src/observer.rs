//! What running steps report, gathered until somebody writes it.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tower_domain::clock::Timestamp;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::step::LogLine;
use tower_store::work::Observe;

/// What a step has reported and nobody has written yet.
#[derive(Default)]
pub(crate) struct Reported {
    pub(crate) progress: Option<(u8, String)>,
    pub(crate) logs: Vec<(Timestamp, LogLine)>,
    pub(crate) partials: Vec<(Timestamp, Json)>,
    /// Bytes of log and partial output that may still be kept of this attempt.
    pub(crate) room: u64,
    /// Whether the mark for a cut log stands already.
    pub(crate) cut: bool,
}

/// The reports of one step, gathered until somebody writes them.
pub(crate) struct Observer {
    pub(crate) trace_id: TraceId,
    task_id: TaskId,
    fence: u64,
    reported: Mutex<Reported>,
    listed: AtomicBool,
}

impl Observer {
    pub(crate) fn new(trace_id: TraceId, task_id: TaskId, fence: u64, log_bytes: u64) -> Self {
        Self { trace_id, task_id, fence, reported: Mutex::new(Reported { room: log_bytes, ..Reported::default() }), listed: AtomicBool::new(false) }
    }

    /// Hands on what was reported since the last time, if there is anything. `tell` is called before anybody else can collect, so
    /// that nothing overtakes it.
    pub(crate) fn collect(&self, tell: impl FnOnce(Observe)) {
        let mut reported = self.reported.lock();
        self.listed.store(false, Ordering::Release);
        let (progress, logs, partials) = (reported.progress.take(), std::mem::take(&mut reported.logs), std::mem::take(&mut reported.partials));
        if progress.is_some() || !logs.is_empty() || !partials.is_empty() {
            tell(Observe { task_id: self.task_id, fence: self.fence, progress, logs, partials });
        }
    }

    /// Adds to what was reported. Answers whether the observer is to be listed: somebody has something to write.
    pub(crate) fn add(&self, add: impl FnOnce(&mut Reported)) -> bool {
        add(&mut self.reported.lock());
        !self.listed.swap(true, Ordering::AcqRel)
    }
}
