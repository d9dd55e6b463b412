//! A trace begins.

use tower_domain::lifecycle::{Admit, Hours, TaskState};
use tower_domain::name::Key;
use tower_domain::task::{RunOn, Status};
use tower_domain::trace::Counts;

use super::tx::{KnownKey, NewTask, NewTraceRow, TaskRow, TaskWrites, TraceRow};
use super::unit::Unit;
use crate::StoreError;
use crate::work::{Answer, NewTrace};

impl Unit<'_> {
    pub(super) async fn submit(&mut self, new: NewTrace) -> Result<Answer, StoreError> {
        if let Some(idempotency) = &new.idempotency
            && let Some(known) = self.keys.get(&idempotency.key)
        {
            return Ok(if known.fingerprint == idempotency.fingerprint {
                Answer::Replayed { trace_id: known.trace_id, root_task_id: known.root_task_id }
            } else {
                Answer::KeyTaken { trace_id: known.trace_id }
            });
        }
        let rerun = match &new.rerun {
            Some(rerun) => match self.plan_rerun(rerun, &new).await? {
                Ok(plan) => Some(plan),
                Err(answer) => return Ok(answer),
            },
            None => None,
        };
        if let Some(session) = new.session_id
            && !self.tx.use_session(session, self.now).await?
        {
            return Ok(Answer::SessionClosed);
        }
        if let Some(idempotency) = &new.idempotency {
            let known = KnownKey { key: idempotency.key.clone(), fingerprint: idempotency.fingerprint, trace_id: new.trace_id, root_task_id: new.root_task_id };
            self.tx.insert_key(&known, self.now).await?;
            self.keys.insert(idempotency.key.clone(), known);
        }
        self.add_trace(trace_row(&new, self.now));
        match rerun {
            Some(plan) => self.begin_rerun(plan)?,
            None => {
                let root = root_task(&new, self.now);
                let transition = Admit { open_deps: 0, dep_failed: false, now: self.now }
                    .decide(&root.row.state)
                    .map_err(|refusal| StoreError::inconsistent("tasks", refusal))?;
                self.add_task(root, transition, None)?;
            }
        }
        Ok(Answer::Submitted { trace_id: new.trace_id, root_task_id: new.root_task_id })
    }
}

fn trace_row(new: &NewTrace, now: tower_domain::clock::Timestamp) -> NewTraceRow {
    NewTraceRow {
        row: TraceRow {
            trace_id: new.trace_id,
            root_task_id: new.root_task_id,
            counts: Counts::default(),
            last_seq: 0,
            rank: 0,
            status: Status::Pending,
            cancelling: false,
            started_at: None,
            finished_at: None,
            created_at: now,
            session_id: new.session_id,
            is_scheduled: new.cron_trigger_time.is_some(),
            changed_at: Some(now),
        },
        definition_id: new.definition_id.clone(),
        definition_version: new.definition_version,
        user_id: new.user_id.clone(),
        trigger_type: new.trigger_type,
        triggered_by: new.triggered_by.clone(),
        idempotency_key: new.idempotency.as_ref().map(|idempotency| idempotency.key.clone()),
        labels: new.labels.clone(),
        rerun_of: new.rerun.as_ref().map(|rerun| rerun.of),
        cron_trigger_time: new.cron_trigger_time,
    }
}

fn root_task(new: &NewTrace, now: tower_domain::clock::Timestamp) -> NewTask {
    NewTask {
        row: TaskRow {
            id: new.root_task_id,
            trace_id: new.trace_id,
            parent_id: None,
            key: Key::root(),
            actor_type: new.actor_type,
            priority: new.priority,
            aggregation: new.aggregation,
            state: TaskState { hours: Hours::of(new.window), ..TaskState::new(new.max_retries, RunOn::Success, new.run_after) },
            lane: new.lane.clone(),
            gates: new.gates.clone(),
            parked: None,
            started_at: None,
            finished_at: None,
            progress: 0,
            progress_message: String::new(),
        },
        job_id: new.definition_id.clone(),
        definition_version: new.definition_version,
        timeout_sec: new.timeout_sec,
        layer: 0,
        depth: 0,
        is_leaf_agent: new.is_leaf_agent,
        input_params: new.params.clone(),
        depends_on: Vec::new(),
        open_deps: Vec::new(),
        ended_deps: Vec::new(),
        writes: TaskWrites::default(),
        created_at: now,
    }
}
