//! An ended trace is retried as a new one: what succeeded is taken over, the rest runs again.

use std::collections::{BTreeSet, HashMap, HashSet};

use tower_domain::aggregation::ChildCounts;
use tower_domain::event::EventType;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::lifecycle::{Admit, ChildrenEnded, End, Stage, TaskState, Transition};
use tower_domain::limit::{Gates, Limits};
use tower_domain::name::Name;
use tower_domain::task::Status;

use super::tx::{NewTask, OldTask, TaskWrites};
use super::unit::Unit;
use crate::StoreError;
use crate::work::{Answer, NewTrace, Rerun, RerunFrom};

/// The tasks of the new trace, parents before children, each with the transition that it begins with.
pub(super) type RerunPlan = Vec<(NewTask, Transition, Option<Json>)>;

impl Unit<'_> {
    /// Reads the old trace and says what becomes of each of its tasks; or why it cannot be retried.
    pub(super) async fn plan_rerun(&mut self, rerun: &Rerun, new: &NewTrace) -> Result<Result<RerunPlan, Answer>, StoreError> {
        self.propagate().await?;
        self.flush().await?;
        self.load_traces(vec![rerun.of]).await?;
        let Some(old) = self.trace(rerun.of) else { return Ok(Err(Answer::NotFound)) };
        if !old.status.is_terminal() {
            return Ok(Err(Answer::NotEnded));
        }
        let old_root = old.root_task_id;
        let mut plan: RerunPlan = Vec::new();
        let spoilt: HashSet<TaskId> = self.tx.spoilt_tasks(rerun.of, rerun.from.as_ref().map(|from| from.task_id)).await?.into_iter().collect();
        let mut level = self.tx.old_tasks(rerun.of, None).await?;
        // Which new task stands for a reopened old parent, and where it is in the plan.
        let mut reopened: HashMap<TaskId, (TaskId, usize)> = HashMap::new();
        if spoilt.is_empty() {
            return Ok(Err(Answer::NothingToRetry));
        }
        let mut reached = rerun.from.is_none();
        while !level.is_empty() {
            let taken = taken_over(&level, &spoilt);
            let ids: HashMap<TaskId, TaskId> =
                level.iter().map(|old| (old.task.row.id, if old.task.row.parent_id.is_none() { new.root_task_id } else { (rerun.ids.0)() })).collect();
            let mut next_parents = Vec::new();
            let definitions: BTreeSet<Name> = level.iter().map(|old| old.task.job_id.clone()).collect();
            let limits: HashMap<Name, Limits> = self.tx.limits(&definitions.into_iter().collect::<Vec<_>>()).await?.into_iter().collect();
            for old in level {
                let old_id = old.task.row.id;
                let parent = old.task.row.parent_id.and_then(|parent| reopened.get(&parent).copied());
                let from = rerun.from.as_ref().filter(|from| from.task_id == old_id);
                reached |= from.is_some();
                let (mut task, transition, payload) = self.plan_task(old, &ids, &taken, from);
                // What is limited now, and not what was when the old task was made.
                task.row.gates =
                    limits.get(&task.job_id).map_or_else(Gates::default, |limits| Gates::of(&task.job_id, limits, &task.input_params, new.gates.user()));
                task.row.trace_id = new.trace_id;
                task.row.parent_id = parent.map(|(id, _)| id);
                if transition.next.stage == Stage::WaitingChildren {
                    reopened.insert(old_id, (task.row.id, plan.len()));
                    next_parents.push(old_id);
                } else if let (Stage::Ended(End::Success { .. }), Some((_, at))) = (transition.next.stage, parent) {
                    plan[at].1.next.children.ended += 1;
                    plan[at].1.next.children.succeeded += 1;
                }
                plan.push((task, transition, payload));
            }
            level = if next_parents.is_empty() { Vec::new() } else { self.tx.old_tasks(rerun.of, Some(&next_parents)).await? };
        }
        if !reached {
            return Ok(Err(Answer::NotReached));
        }
        self.tx.insert_control_event(&rerun.order).await?;
        self.tx.copy_rounds(old_root, new.root_task_id).await?;
        Ok(Ok(plan))
    }

    /// Makes the tasks of a plan.
    pub(super) fn begin_rerun(&mut self, plan: RerunPlan) -> Result<(), StoreError> {
        let mut reopened = Vec::new();
        for (task, transition, payload) in plan {
            let id = task.row.id;
            let waits = transition.next.stage == Stage::WaitingChildren;
            let trace_id: TraceId = task.row.trace_id;
            self.add_task(task, transition, payload)?;
            if waits {
                reopened.push(id);
                let now = self.now;
                self.trace_mut(trace_id)?.status = Status::Running;
                self.trace_mut(trace_id)?.started_at.get_or_insert(now);
            }
        }
        // What was taken over is counted in the plan; it has nobody left to tell.
        self.ended.clear();
        // Children first: a parent all of whose children were taken over folds them again.
        for id in reopened.into_iter().rev() {
            let Some(row) = self.task(id) else { continue };
            let again = ChildrenEnded { ended: 0, succeeded: 0, policy: row.aggregation }
                .decide(&row.state)
                .map_err(|refusal| StoreError::inconsistent("tasks", refusal))?;
            if again.next.stage != Stage::WaitingChildren {
                self.apply(id, again, None)?;
            }
        }
        Ok(())
    }

    fn plan_task(&self, old: OldTask, ids: &HashMap<TaskId, TaskId>, taken: &HashSet<TaskId>, from: Option<&RerunFrom>) -> (NewTask, Transition, Option<Json>) {
        let now = self.now;
        let OldTask { mut task, depends_on_ids, output, carried } = old;
        let old_id = task.row.id;
        let was = task.row.state.clone();
        task.row.id = ids[&old_id];
        task.row.started_at = None;
        task.row.finished_at = None;
        task.row.parked = None;
        task.row.progress = 0;
        task.row.progress_message.clear();
        task.created_at = now;
        task.writes = TaskWrites::default();
        if let Some(params) = from.and_then(|from| from.params.clone()) {
            task.input_params = params;
        }
        let (ended, open): (Vec<TaskId>, Vec<TaskId>) = depends_on_ids.iter().partition(|id| taken.contains(id));
        let renamed = |list: Vec<TaskId>| list.into_iter().filter_map(|id| ids.get(&id).copied()).collect::<Vec<_>>();
        task.ended_deps = renamed(ended);
        task.open_deps = renamed(open);
        // A LOOP goes on with the round that it was in.
        let state = TaskState { round: was.round, hours: was.hours, ..TaskState::new(was.max_retries, was.run_on, None) };
        task.row.state = state.clone();
        let origin = Json::of(&std::collections::BTreeMap::from([("taken_over_from", old_id)])).ok();
        if taken.contains(&old_id) {
            task.writes.output = output;
            task.row.started_at = Some(now);
            task.row.progress = 100;
            let next = TaskState { stage: Stage::Ended(End::Success { cached: true }), ..state };
            return (task, Transition { next, event: Some(EventType::Completed), error: None }, origin);
        }
        // What depends on something that runs again begins anew: what it split off was planned from the old results. So does what is
        // to begin anew.
        if was.children.split > 0 && task.open_deps.is_empty() && from.is_none() {
            task.writes.carried = carried;
            task.row.started_at = Some(now);
            let next = TaskState { stage: Stage::WaitingChildren, children: ChildCounts { split: was.children.split, ended: 0, succeeded: 0 }, ..state };
            return (task, Transition { next, event: Some(EventType::Split), error: None }, origin);
        }
        let open_deps = u32::try_from(task.open_deps.len()).unwrap_or(u32::MAX);
        let admit = Admit { open_deps, dep_failed: false, now };
        let transition = admit.decide(&state).unwrap_or(Transition { next: state, event: None, error: None });
        (task, transition, None)
    }
}

/// Of tasks of one level: those that succeeded with everything below them and depend on nothing that runs again.
fn taken_over(level: &[OldTask], spoilt: &HashSet<TaskId>) -> HashSet<TaskId> {
    let mut taken: HashSet<TaskId> = level.iter().map(|old| old.task.row.id).filter(|id| !spoilt.contains(id)).collect();
    loop {
        let spoilt: Vec<TaskId> = level
            .iter()
            .filter(|old| taken.contains(&old.task.row.id) && old.depends_on_ids.iter().any(|id| !taken.contains(id)))
            .map(|old| old.task.row.id)
            .collect();
        if spoilt.is_empty() {
            return taken;
        }
        for id in spoilt {
            taken.remove(&id);
        }
    }
}
