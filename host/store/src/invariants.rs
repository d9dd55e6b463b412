//! What must hold of any database after any batch: for tests, and for operators who want to know.
//!
//! Each invariant is a question for the rows that break it. The back end knows how to ask; what is asked, and under which name, is said
//! here once.

use async_trait::async_trait;

use crate::StoreError;

/// Rows that are told of one invariant; a broken one rarely has a single row, and the first few show why.
pub const ROWS_MAX: u32 = 20;

/// Something that must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Invariant {
    /// Its short name, stable.
    pub id: &'static str,
    /// What must hold, in words.
    pub says: &'static str,
}

/// A row that breaks an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub id: &'static str,
    /// What should hold.
    pub says: &'static str,
    /// The row: its id, and what is odd about it.
    pub row: String,
}

/// A database that can be asked.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// Up to [`ROWS_MAX`] rows that break one of [`ALL`].
    async fn violations(&self, invariant: Invariant) -> Result<Vec<String>, StoreError>;
}

/// Asks about all of them. Reads every row of tasks and events: not for a hot path.
pub async fn check(database: &dyn Inspect) -> Result<Vec<Violation>, StoreError> {
    let mut violations = Vec::new();
    for invariant in ALL {
        let rows = database.violations(*invariant).await?;
        violations.extend(rows.into_iter().map(|row| Violation { id: invariant.id, says: invariant.says, row }));
    }
    Ok(violations)
}

macro_rules! invariants {
    ($($id:literal $says:literal)+) => {
        /// Every invariant.
        pub const ALL: &[Invariant] = &[$(Invariant { id: $id, says: $says }),+];
    };
}

invariants! {
    "I01" "a task's counters of ended and succeeded children are what its children say"
    "I02" "a task's split_count is the number of its children"
    "I03" "a task's parent exists and is of the same trace"
    "I04" "a trace has exactly one root, the one that it names"
    "I05" "a task stands one layer and one step deeper than its parent, a root at 0"
    "I06" "no event leads out of a final status"
    "I07" "a task has at most one event that ends it"
    "I08" "an outside event is kept once"
    "I09" "each transition of a task begins where the one before ended"
    "I10" "a task's status is where its last transition led"
    "I11" "a claimed task has a lease"
    "I12" "only claimed tasks have a lease"
    "I13" "finished_at is set exactly when a task has ended, and its times are in order"
    "I14" "a task's attempts are within its budget"
    "I15" "each claim raised the fence by one: as many STARTED events as the fence says"
    "I16" "an instant of a definition fires at most once"
    "I17" "what fired began the trace of that instant, as long as that is kept, and no other trace has one"
    "I20" "dependencies are siblings, and not the task itself"
    "I21" "no task waits for itself by way of others"
    "I22" "a task was claimed only after what it depends on had ended as it needs"
    "I24" "a trace has ended exactly when its root has, likewise, and then so has every task"
    "I26" "an aggregation was claimed only after all children of before had ended"
    "I27" "each round of a LOOP that ended well is kept once, and none is missing before the present one"
    "I28" "a task is claimed right after it was queued or resumed, and so never while it is held"
    "I36" "a trace's events are numbered from 1 without a gap up to last_seq"
    "I37" "a task is in the queue exactly when it can be claimed, waits for its time, or is claimed"
    "I38" "a trace's counters are what its tasks say"
    "I39" "no two children of one round have the same key"
    "I40" "a task that waits for siblings counts those that are open, and there are some"
    "I41" "a task that waits for children has open ones"
    "I42" "no attempt has a fence that its task never had"
    "I43" "a task waits at a gate only while it is queued, and the queue names the same gate"
    "I44" "a gate counts the tasks that have passed it and not left"
    "I45" "whoever waits at a gate is looked at again: somebody has passed it, or it opens by time"
    "I46" "a queued task that passed its gates waits in its own lane"
    "I47" "an artifact is nobody's, or goes with a trace that is there or being deleted"
    "I48" "an artifact that is nobody's is no task's and no round's"
}
