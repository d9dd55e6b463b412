//! Tasks that are due are queued, and queued tasks are claimed.

use std::collections::HashSet;

use tower_domain::code_ref::Lane;
use tower_domain::id::TaskId;
use tower_domain::json::Json;
use tower_domain::lifecycle::{Claim as ClaimTask, ComeDue, Defer};
use tower_domain::task::{Leg, Status};

use super::settle::payload_of;
use super::tx::QueuePlace;
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
            if self.end_with_its_trace(id)? {
                continue;
            }
            let Some(row) = self.task(id) else { continue };
            // A command of this batch may have moved it on; then the queue is about to be told.
            if let Ok(transition) = ComeDue.decide(&row.state) {
                self.apply(id, transition, None)?;
            }
        }
        Ok(())
    }

    /// What is next in a lane.
    async fn pick(&mut self, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let process = *lane == Lane::Process;
        let fair = u32::try_from(self.order.fair_among(limit.into())).unwrap_or(limit);
        let mut ready = match fair {
            0 => Vec::new(),
            fair if process => self.tx.fair(fair).await?,
            fair => self.tx.fair_in(lane, fair).await?,
        };
        // Fewer than were asked for: these are all there are, of whatever priority.
        if ready.len() >= fair as usize {
            let picked: HashSet<TaskId> = ready.iter().map(|(id, _)| *id).collect();
            let one_more = limit.saturating_add(1);
            let urgent = if process { self.tx.ready(one_more).await? } else { self.tx.ready_in(lane, one_more).await? };
            ready.extend(urgent.into_iter().filter(|(id, _)| !picked.contains(id)));
        }
        if process {
            self.out.more_ready = ready.len() > limit as usize;
        }
        ready.truncate(limit as usize);
        Ok(ready)
    }

    pub(super) async fn claim(&mut self, claim: &Claim) -> Result<(), StoreError> {
        let mut ready = self.pick(&Lane::Process, claim.limit).await?;
        for (lane, limit) in &claim.elsewhere {
            ready.extend(self.pick(lane, *limit).await?);
        }
        if ready.is_empty() {
            return Ok(());
        }
        self.load_tasks(ready.iter().map(|(id, _)| *id).collect()).await?;
        let now = self.now;
        let by_day = !self.night.contains(now);
        let mut rows = Vec::with_capacity(ready.len());
        for (id, rank) in &ready {
            if self.end_with_its_trace(*id)? {
                self.out.more_ready = true;
                self.out.more_elsewhere = true;
                continue;
            }
            let row = self.task(*id).ok_or_else(|| StoreError::inconsistent("queue", format!("task {id} is missing")))?;
            if by_day && let Ok(transition) = (Defer { until: self.night.opens_after(now) }).decide(&row.state) {
                let payload = payload_of(&transition, 0);
                self.apply(*id, transition, payload)?;
                // There may be others behind it, or some that waited for its place, in whatever lane.
                self.out.more_ready = true;
                self.out.more_elsewhere = true;
                continue;
            }
            let transition = ClaimTask.decide(&row.state).map_err(|refusal| StoreError::inconsistent("queue", format!("task {id}: {refusal}")))?;
            let (attempt, leg) = (transition.next.attempt, transition.next.leg);
            let payload = (attempt > 1 || leg == Leg::Aggregate).then(|| Json::trusted(format!("{{\"attempt\":{attempt},\"leg\":\"{leg}\"}}")));
            self.apply(*id, transition, payload)?;
            self.requeue(*id, *rank, QueuePlace::Claimed { owner: claim.host.clone(), until: now.plus(claim.lease) })?;
            self.order.claims += 1;
            self.order.virtual_time = self.order.virtual_time.max(*rank);
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
        // What did not start any more may have been the last of its parent.
        self.propagate().await?;
        let mut inputs = self.step_inputs(&rows).await?;
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
                lane: row.lane,
                parent_id: row.parent_id,
                session_id: trace.session_id,
            });
        }
        self.flush().await
    }
}
