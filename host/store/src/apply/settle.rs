//! A claim comes to its end.

use std::collections::HashMap;
use std::sync::Arc;

use tower_domain::codes;
use tower_domain::control::Control;
use tower_domain::id::TaskId;
use tower_domain::json::Json;
use tower_domain::lifecycle::{Admit, ConfirmCancel, Fail, Finish, Hours, NextRound, Refusal, Release, Stage, Suspend, TaskState, Transition};
use tower_domain::limit::Gates;
use tower_domain::name::Key;
use tower_domain::split::PlannedChild;
use tower_domain::step::StepFailure;
use tower_domain::task::{Attempt, Leg, Status, TaskError};

use super::tx::{NewTask, RoundRow, TaskRow, TaskWrites};
use super::unit::{NEW_TASKS_MAX, Unit};
use crate::StoreError;
use crate::fault::{self, Guard};
use crate::work::{Answer, RoundEnd, Settle, SettledEnd};

impl Unit<'_> {
    pub(super) async fn settle(&mut self, settle: Settle) -> Result<Answer, StoreError> {
        let Settle { task_id, fence, started_at, end, sdk_session_id } = settle;
        let Some(row) = self.task(task_id) else { return Ok(Answer::NotFound) };
        let mut row = row.clone();
        let fence = if fault::is_on(Guard::Fence) { fence } else { row.state.fence };
        if row.state.is_ended() && !fault::is_on(Guard::Terminal) {
            row.state.stage = Stage::Claimed;
        }
        let (output, children, end) = match end {
            SettledEnd::Finished { output, children, round } => {
                let room = self.trace(row.trace_id).map_or(0, |trace| self.trace_tasks_max.saturating_sub(trace.counts.total()));
                if children.len() as u64 > room {
                    let message = format!("the trace would hold more than {} tasks", self.trace_tasks_max);
                    (
                        None,
                        Arc::default(),
                        Ended::Failed { failure: StepFailure::fatal(codes::TRACE_TOO_LARGE.name, message), delay: std::time::Duration::ZERO },
                    )
                } else {
                    let round = if children.is_empty() { round } else { None };
                    (Some(output), children, Ended::Finished { round })
                }
            }
            SettledEnd::Failed { failure, delay } => (None, Arc::default(), Ended::Failed { failure, delay }),
            SettledEnd::Suspended { carried } => (Some(carried), Arc::default(), Ended::Suspended),
            SettledEnd::Cancelled => (None, Arc::default(), Ended::Cancelled),
            SettledEnd::Released => (None, Arc::default(), Ended::Released),
        };
        let decided = match &end {
            Ended::Finished { round } => {
                let next_round = match round {
                    Some(RoundEnd::Next { delay }) => Some(NextRound { at: self.now.plus(*delay), now: self.now }),
                    Some(RoundEnd::Last) | None => None,
                };
                Finish { fence, children: u32::try_from(children.len()).unwrap_or(u32::MAX), next_round }.decide(&row.state)
            }
            Ended::Suspended => Suspend { fence }.decide(&row.state),
            Ended::Failed { failure, delay } => Fail { fence, failure, retry_at: self.now.plus(*delay) }.decide(&row.state),
            Ended::Cancelled => match (ConfirmCancel { fence }).decide(&row.state) {
                // The host stopped it although nobody ordered so: that is the host's fault, and the task runs again.
                Err(Refusal::WrongStage) => Release { fence }.decide(&row.state),
                decided => decided,
            },
            Ended::Released => Release { fence }.decide(&row.state),
        };
        let transition = match decided {
            Ok(transition) => transition,
            Err(
                Refusal::LeaseLost | Refusal::AlreadyEnded | Refusal::AlreadyCancelling | Refusal::AlreadyPaused | Refusal::NotPaused | Refusal::WrongStage,
            ) => return Ok(Answer::LeaseLost),
        };
        let is_next_round = transition.next.round > row.state.round;
        let how = match &end {
            Ended::Suspended if !transition.next.is_ended() => Some("PAUSED"),
            Ended::Finished { .. } if is_next_round => Some("ROUND"),
            Ended::Suspended | Ended::Finished { .. } | Ended::Failed { .. } | Ended::Cancelled | Ended::Released => None,
        };
        self.remember_attempt(&row, fence, started_at, &transition, how);
        let payload = payload_of(&transition, children.len());
        let splits = transition.next.stage == Stage::WaitingChildren;
        let succeeds = transition.next.status() == Status::Success;
        if let Ended::Finished { round: Some(_) } = end
            && (is_next_round || succeeds)
        {
            let (round, children) = (row.state.round, row.state.children);
            self.rounds.push(RoundRow { task_id, round, children, output: output.clone(), finished_at: self.now });
        }
        if let (Ended::Finished { .. }, Some(sdk)) = (&end, sdk_session_id)
            && let Some(session) = self.trace(row.trace_id).and_then(|trace| trace.session_id)
        {
            self.tx.set_sdk_session(session, &sdk).await?;
        }
        let entry = self.task_mut(task_id)?;
        if splits || how.is_some() {
            // For the aggregation, for the run after the pause, or for the next round.
            entry.writes.carried = output;
        } else if succeeds {
            entry.row.progress = 100;
            entry.writes.output = output;
        }
        if is_next_round {
            entry.row.progress = 0;
            entry.row.progress_message.clear();
            entry.writes.clear_error = true;
        }
        self.apply(task_id, transition, payload)?;
        if splits {
            self.bring_about(&row, &children).await?;
        }
        Ok(Answer::Done)
    }

    /// Keeps how an attempt ended, unless it is the plain good end of the only one, which the task's own row tells.
    pub(super) fn remember_attempt(
        &mut self,
        row: &TaskRow,
        fence: u64,
        started_at: tower_domain::clock::Timestamp,
        transition: &Transition,
        how: Option<&'static str>,
    ) {
        let result = how.unwrap_or(match transition.next.stage {
            Stage::Ended(_) => transition.next.status().as_str(),
            Stage::WaitingChildren => "SPLIT",
            Stage::Backoff => "RETRYABLE",
            Stage::Scheduled | Stage::WaitingDeps | Stage::Paused | Stage::Queued | Stage::Claimed => "RELEASED",
        });
        if fence == 1 && row.state.leg == Leg::Run && result == "SUCCESS" {
            return;
        }
        let attempt = Attempt {
            fence,
            attempt: row.state.attempt,
            leg: row.state.leg,
            host: self.host.clone(),
            started_at,
            finished_at: self.now,
            result: result.to_owned(),
            error: transition.error.clone(),
        };
        self.attempts.push((row.id, attempt));
    }

    /// Makes the children that a step split off.
    async fn bring_about(&mut self, parent: &TaskRow, children: &[PlannedChild]) -> Result<(), StoreError> {
        // Siblings that a child may depend on: this step's, and those of earlier steps.
        let mut siblings: HashMap<Key, (TaskId, bool, Option<Status>)> = HashMap::new();
        let some_depend = children.iter().any(|child| child.on_all_siblings || !child.depends_on.is_empty());
        if some_depend && parent.state.children.split > 0 {
            for row in self.tx.children(parent.id).await? {
                let ended = row.state.is_ended().then(|| row.state.status());
                siblings.insert(row.key.clone(), (row.id, row.actor_type.is_aggregator(), ended));
            }
        }
        if some_depend {
            siblings.extend(children.iter().map(|child| (child.key.clone(), (child.id, child.actor_type.is_aggregator(), None))));
        }
        let all: Vec<_> = if children.iter().any(|child| child.on_all_siblings) {
            siblings.values().filter(|(_, is_aggregator, _)| !is_aggregator).copied().collect()
        } else {
            Vec::new()
        };
        self.expect_tasks(children.len().min(NEW_TASKS_MAX));
        for child in children {
            let mut open_deps = Vec::new();
            let mut ended_deps = Vec::new();
            let mut dep_failed = false;
            let named = child.depends_on.iter().filter_map(|key| siblings.get(key));
            let all = if child.on_all_siblings { all.as_slice() } else { &[] };
            for (id, _, ended) in named.chain(all) {
                match ended {
                    None => open_deps.push(*id),
                    Some(status) => {
                        dep_failed |= *status != Status::Success;
                        ended_deps.push(*id);
                    }
                }
            }
            open_deps.sort_unstable();
            // Of the round that its parent is in; and held if that is.
            let held = if parent.state.control == Control::Pause { Control::Pause } else { Control::Run };
            let hours = Hours::of(child.definition.spec.window);
            let state = TaskState { round: parent.state.round, control: held, hours, ..TaskState::new(child.max_retries, child.run_on, None) };
            let open = u32::try_from(open_deps.len()).unwrap_or(u32::MAX);
            let transition =
                Admit { open_deps: open, dep_failed, now: self.now }.decide(&state).map_err(|refusal| StoreError::inconsistent("tasks", refusal))?;
            let payload = (open > 0).then(|| Json::trusted(format!("{{\"open_deps\":{open}}}")));
            let gates = Gates::of(&child.definition.id, &child.definition.spec.limits(), &child.params, parent.gates.user());
            let new = NewTask {
                row: TaskRow {
                    id: child.id,
                    trace_id: parent.trace_id,
                    parent_id: Some(parent.id),
                    key: child.key.clone(),
                    actor_type: child.actor_type,
                    priority: child.priority,
                    aggregation: child.definition.spec.aggregation,
                    state,
                    lane: child.definition.spec.code_ref.lane(),
                    gates,
                    parked: None,
                    started_at: None,
                    finished_at: None,
                    progress: 0,
                    progress_message: String::new(),
                },
                job_id: child.definition.id.clone(),
                definition_version: child.definition.version,
                timeout_sec: child.timeout_sec,
                layer: child.layer,
                depth: child.depth,
                is_leaf_agent: child.is_leaf_agent,
                input_params: child.params.clone(),
                depends_on: child.depends_on.clone(),
                open_deps,
                ended_deps,
                writes: TaskWrites::default(),
                created_at: self.now,
            };
            self.add_task(new, transition, payload)?;
            self.write_new_tasks_if_many().await?;
        }
        Ok(())
    }
}

/// [`SettledEnd`] without what was taken out of it.
enum Ended {
    Finished { round: Option<RoundEnd> },
    Suspended,
    Failed { failure: StepFailure, delay: std::time::Duration },
    Cancelled,
    Released,
}

/// What readers are told beside the transition.
pub(super) fn payload_of(transition: &Transition, children: usize) -> Option<Json> {
    #[derive(serde::Serialize)]
    struct Payload<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a TaskError>,
        #[serde(skip_serializing_if = "Option::is_none")]
        run_after: Option<tower_domain::clock::Timestamp>,
        #[serde(skip_serializing_if = "Option::is_none")]
        children: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        round: Option<u32>,
    }
    let payload = Payload {
        error: transition.error.as_ref(),
        run_after: transition.next.run_after,
        children: (children > 0).then_some(children),
        round: Some(transition.next.round).filter(|round| *round > 0),
    };
    if payload.error.is_none() && payload.run_after.is_none() && payload.children.is_none() && payload.round.is_none() {
        return None;
    }
    Json::of(&payload).ok()
}
