//! Tasks that are due are queued, and queued tasks are claimed.

use std::collections::HashMap;

use tower_domain::json::Json;
use tower_domain::lifecycle::{Claim as ClaimTask, ComeDue, Defer};
use tower_domain::task::{Leg, Status};

use super::settle::payload_of;
use super::tx::StepInput;
use super::unit::Unit;
use crate::StoreError;
use crate::work::{Claim, Claimed};

/// Waiting tasks that are queued in one batch; the rest follows in the next.
const DUE_CHUNK: u32 = 1_000;

impl Unit<'_> {
    pub(super) async fn promote_due(&mut self) -> Result<(), StoreError> {
        let due = self.tx.due(self.now, DUE_CHUNK).await?;
        self.load_tasks(due.clone()).await?;
        for id in due {
            let Some(row) = self.task(id) else { continue };
            // A command of this batch may have moved it on; then the queue is about to be told.
            if let Ok(transition) = ComeDue.decide(&row.state) {
                self.apply(id, transition, None)?;
            }
        }
        Ok(())
    }

    pub(super) async fn claim(&mut self, claim: &Claim) -> Result<(), StoreError> {
        if claim.limit == 0 {
            return Ok(());
        }
        let mut ready = self.tx.ready(claim.limit.saturating_add(1)).await?;
        self.out.more_ready = ready.len() > claim.limit as usize;
        ready.truncate(claim.limit as usize);
        if ready.is_empty() {
            return Ok(());
        }
        self.load_tasks(ready.iter().map(|(id, _)| *id).collect()).await?;
        let now = self.now;
        let by_day = !self.night.contains(now);
        let mut rows = Vec::with_capacity(ready.len());
        for (id, rank) in &ready {
            let row = self.task(*id).ok_or_else(|| StoreError::inconsistent("queue", format!("task {id} is missing")))?;
            if by_day && let Ok(transition) = (Defer { until: self.night.opens_after(now) }).decide(&row.state) {
                let payload = payload_of(&transition, 0);
                self.apply(*id, transition, payload)?;
                // There may be others behind it.
                self.out.more_ready = true;
                continue;
            }
            let transition = ClaimTask.decide(&row.state).map_err(|refusal| StoreError::inconsistent("queue", format!("task {id}: {refusal}")))?;
            let (attempt, leg) = (transition.next.attempt, transition.next.leg);
            let payload = (attempt > 1 || leg == Leg::Aggregate).then(|| Json::trusted(format!("{{\"attempt\":{attempt},\"leg\":\"{leg}\"}}")));
            self.apply(*id, transition, payload)?;
            self.hold(*id, *rank, &claim.host, claim.lease_until)?;
            self.virtual_time = self.virtual_time.max(*rank);
            let entry = self.task_mut(*id)?;
            entry.row.started_at.get_or_insert(now);
            rows.push(entry.row.clone());
            let trace_id = entry.row.trace_id;
            let trace = self.trace_mut(trace_id)?;
            if trace.status == Status::Pending {
                trace.status = Status::Running;
                trace.started_at = Some(now);
            }
        }
        let mut inputs: HashMap<_, StepInput> = self.tx.step_inputs(&rows).await?.into_iter().map(|input| (input.task_id, input)).collect();
        for row in rows {
            let input = inputs.remove(&row.id).ok_or_else(|| StoreError::inconsistent("tasks", format!("task {} is missing", row.id)))?;
            let trace = self.trace(row.trace_id).ok_or_else(|| StoreError::inconsistent("traces", format!("trace {} is missing", row.trace_id)))?;
            self.out.claimed.push(Claimed {
                task_id: row.id,
                trace_id: row.trace_id,
                key: row.key,
                definition_id: input.definition_id,
                definition_version: input.definition_version,
                trace_created_at: trace.created_at,
                trace_tasks: trace.counts.total(),
                actor_type: row.actor_type,
                leg: row.state.leg,
                params: input.params,
                upstream: input.upstream,
                summary: input.summary,
                carried: input.carried,
                attempt: row.state.attempt,
                max_retries: row.state.max_retries,
                timeout_sec: input.timeout_sec,
                round_index: row.state.round,
                layer: input.layer,
                depth: input.depth,
                children: row.state.children,
                fence: row.state.fence,
                crashes: row.state.crashes,
                parent_id: row.parent_id,
            });
        }
        self.flush().await
    }
}
