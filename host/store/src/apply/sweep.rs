//! The cancel of a trace that is too large for one transaction.
//!
//! The order marks what runs and what waits for children, ends as many of the others as one transaction may, and marks the trace. From
//! then on nothing of it starts: whoever comes to an idle task of such a trace, ends it. What nobody comes to is swept, some in each
//! transaction, so that others have their turn in between.

use tower_domain::id::{TaskId, TraceId};
use tower_domain::lifecycle::Cancel;
use tower_domain::task::Status;

use super::settle::payload_of;
use super::tx::TaskRow;
use super::unit::Unit;
use crate::StoreError;
use crate::work::Answer;

/// Traces that one look for those that nobody sweeps finds.
const UNSWEPT_MAX: u32 = 10;

impl Unit<'_> {
    /// What the order to cancel a trace changes in its own transaction.
    pub(super) async fn first_to_cancel(&mut self, trace_id: TraceId) -> Result<Vec<TaskRow>, StoreError> {
        let mut rows = self.tx.busy_tasks(trace_id).await?;
        rows.extend(self.idle(trace_id).await?);
        Ok(rows)
    }

    pub(super) async fn sweep(&mut self, trace_id: TraceId) -> Result<Answer, StoreError> {
        // What earlier commands of the batch did must be in the tables that idle tasks are read from.
        self.propagate().await?;
        self.flush().await?;
        self.load_traces(vec![trace_id]).await?;
        if !self.is_cancelling(trace_id) {
            return Ok(Answer::NothingToDo);
        }
        let rows = self.idle(trace_id).await?;
        let ids: Vec<TaskId> = rows.iter().map(|row| row.id).collect();
        self.adopt(rows).await?;
        for id in ids {
            self.end_with_its_trace(id)?;
        }
        Ok(Answer::Done)
    }

    /// Looks for traces whose sweep has stopped in the middle.
    pub(super) async fn find_unswept(&mut self) -> Result<(), StoreError> {
        for trace_id in self.tx.unswept(UNSWEPT_MAX).await? {
            if !self.out.unswept.contains(&trace_id) {
                self.out.unswept.push(trace_id);
            }
        }
        Ok(())
    }

    async fn idle(&mut self, trace_id: TraceId) -> Result<Vec<TaskRow>, StoreError> {
        let limit = self.cancel_max.max(1);
        let rows = self.tx.idle_tasks(trace_id, limit).await?;
        if rows.len() >= limit as usize && !self.out.unswept.contains(&trace_id) {
            self.out.unswept.push(trace_id);
        }
        Ok(rows)
    }

    fn is_cancelling(&self, trace_id: TraceId) -> bool {
        self.trace(trace_id).is_some_and(|trace| trace.cancelling && !trace.status.is_terminal())
    }

    /// Ends an idle task whose whole trace is being cancelled. Answers whether it is one.
    pub(super) fn end_with_its_trace(&mut self, id: TaskId) -> Result<bool, StoreError> {
        let Some(row) = self.task(id) else { return Ok(false) };
        if !self.is_cancelling(row.trace_id) || row.state.status() != Status::Pending {
            return Ok(false);
        }
        let transition = Cancel.decide(&row.state).map_err(|refusal| StoreError::inconsistent("tasks", format!("cancel of {id}: {refusal}")))?;
        let payload = transition.event.and_then(|_| payload_of(&transition, 0));
        self.apply(id, transition, payload)?;
        Ok(true)
    }
}
