//! What is known outside of the database: what steps did, what lives hosts had, what clients asked for and were told.

use std::collections::BTreeSet;

use tower_domain::id::{TaskId, TraceId};
use tower_domain::task::Leg;
use tower_engine::orders::Control;
use tower_engine::schedules::ScheduleWish;

/// What is known outside of the database.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) runs: Vec<Run>,
    pub(crate) lives: Vec<LifeTold>,
    pub(crate) asks: Vec<Ask>,
    moments: u64,
    /// Answers that no caller should ever be given.
    pub(crate) odd: Vec<String>,
}

/// When something happened. Hosts are driven one after the other through the same few milliseconds, so that only the order tells what
/// came before what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) order: u64,
    pub(crate) at: u64,
}

/// A step's code ran.
pub(crate) struct Run {
    pub(crate) task: TaskId,
    pub(crate) trace: TraceId,
    pub(crate) fence: u64,
    pub(crate) leg: Leg,
    pub(crate) life: usize,
    pub(crate) begun: Moment,
    /// None: it runs, or its host died.
    pub(crate) ended: Option<Moment>,
    /// It came to a result.
    pub(crate) finished: bool,
}

/// The life of a host.
pub(crate) struct LifeTold {
    pub(crate) name: String,
    pub(crate) died: Option<Moment>,
    /// When none of it got on.
    pub(crate) frozen: Vec<(u64, u64)>,
}

/// What a client wants.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A trace, under a key.
    Trigger { definition: &'static str, params: String, key: String },
    /// An ended trace again, under a key.
    Rerun { trace: TraceId, key: String },
    /// To tell of progress, under an id.
    Tell { trace: TraceId, task: TaskId, event: String, percent: u64 },
    /// To end, hold or set going.
    Order { control: Control, trace: TraceId, task: Option<TaskId> },
    /// To hold, end or set going what fires by itself.
    Schedule { definition: &'static str, wish: ScheduleWish },
    /// A host to take no more work, or to take it again.
    Drain { host: String, draining: bool },
    /// Another limit for a definition.
    Limit { most: u64 },
    /// To read a trace's events as they come.
    Follow { trace: TraceId },
}

impl What {
    /// Whether the client asks until it is answered.
    pub(crate) fn insists(&self) -> bool {
        match self {
            Self::Trigger { .. } | Self::Rerun { .. } | Self::Tell { .. } => true,
            Self::Order { .. } | Self::Schedule { .. } | Self::Drain { .. } | Self::Limit { .. } | Self::Follow { .. } => false,
        }
    }
}

/// A wish and what came of it.
pub(crate) struct Ask {
    pub(crate) what: What,
    pub(crate) sent_at: u64,
    pub(crate) done: bool,
    /// Traces that its answers named.
    pub(crate) begun: BTreeSet<TraceId>,
    /// Answers that said that it was kept, for the first time or as before.
    pub(crate) accepted: u64,
    pub(crate) duplicate: u64,
}

impl Book {
    pub(crate) fn moment(&mut self, at: u64) -> Moment {
        self.moments += 1;
        Moment { order: self.moments, at }
    }

    /// A life ends, if it has not before.
    pub(crate) fn died(&mut self, life: usize, at: u64) {
        let died = self.moment(at);
        self.lives[life].died.get_or_insert(died);
    }

    /// Traces that were acknowledged.
    pub(crate) fn acknowledged(&self) -> Vec<TraceId> {
        self.asks.iter().flat_map(|ask| ask.begun.iter().copied()).collect()
    }

    /// Whether a client still waits for an answer that it insists on.
    pub(crate) fn has_open(&self) -> bool {
        self.asks.iter().any(|ask| ask.what.insists() && !ask.done)
    }
}
