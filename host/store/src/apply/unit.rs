//! The rows of a batch in memory: what was loaded, what changed, what is new.

use std::collections::{HashMap, HashSet};

use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::event::{EventType, TaskEvent};
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::lifecycle::{Stage, Transition};
use tower_domain::limit::Gates;
use tower_domain::schedule::NightWindow;
use tower_domain::task::{Attempt, Status};

use super::ClaimOrder;
use super::gates::GateBook;
use super::schedule::Schedules;
use super::tx::{KnownKey, NewTask, NewTraceRow, QueuePlace, QueueRow, RoundRow, StepInput, TaskRow, TaskWrites, TraceRow, Tx};
use crate::StoreError;
use crate::fault::{self, Point};
use crate::work::{Batch, Claim, Committed};

/// New tasks that are held in memory before they are written.
pub(super) const NEW_TASKS_MAX: usize = 5_000;

/// A task in memory.
pub(super) struct Entry {
    pub(super) row: TaskRow,
    pub(super) writes: TaskWrites,
    dirty: bool,
}

/// A trace in memory.
struct TraceEntry {
    row: TraceRow,
    dirty: bool,
}

/// One batch under way.
pub(super) struct Unit<'a> {
    pub(super) tx: &'a mut dyn Tx,
    pub(super) now: Timestamp,
    pub(super) host: String,
    pub(super) trace_tasks_max: u64,
    pub(super) cancel_max: u32,
    pub(super) night: NightWindow,
    pub(super) user_max_concurrent: Option<u32>,
    pub(super) order: ClaimOrder,
    pub(super) gates: GateBook,
    pub(super) keys: HashMap<String, KnownKey>,
    pub(super) known_events: HashMap<String, TaskEvent>,
    /// Tasks that ended and whose parents and dependents have not heard of it yet.
    pub(super) ended: Vec<TaskId>,
    pub(super) attempts: Vec<(TaskId, Attempt)>,
    pub(super) rounds: Vec<RoundRow>,
    pub(super) out: Committed,
    /// Whether something can be claimed that could not before.
    pub(super) readied: bool,
    /// The same, of lanes other than that of the process.
    pub(super) readied_elsewhere: bool,
    pub(super) schedules: Schedules,
    tasks: HashMap<TaskId, Entry>,
    /// New tasks in the order in which they were made; their rows are in `tasks`.
    fresh: Vec<NewTask>,
    /// What the steps of new tasks are handed, of as many as may be claimed at once.
    inputs: HashMap<TaskId, StepInput>,
    claims_max: usize,
    /// Who among the new tasks waits for a task.
    fresh_deps: HashMap<TaskId, Vec<TaskId>>,
    traces: HashMap<TraceId, TraceEntry>,
    new_traces: Vec<NewTraceRow>,
    queue: HashMap<TaskId, Option<QueueRow>>,
    events_written: usize,
}

impl<'a> Unit<'a> {
    pub(super) fn new(tx: &'a mut dyn Tx, batch: &Batch, order: ClaimOrder) -> Self {
        Self {
            tx,
            now: batch.now,
            host: batch.host.clone(),
            trace_tasks_max: batch.trace_tasks_max,
            cancel_max: batch.cancel_max,
            night: batch.night,
            user_max_concurrent: batch.user_max_concurrent,
            order,
            gates: GateBook::default(),
            keys: HashMap::new(),
            known_events: HashMap::new(),
            ended: Vec::new(),
            attempts: Vec::new(),
            rounds: Vec::new(),
            out: Committed::at(batch.now),
            readied: false,
            readied_elsewhere: false,
            schedules: Schedules::default(),
            tasks: HashMap::new(),
            fresh: Vec::new(),
            inputs: HashMap::new(),
            claims_max: batch.claim.as_ref().map_or(0, Claim::most),
            fresh_deps: HashMap::new(),
            traces: HashMap::new(),
            new_traces: Vec::new(),
            queue: HashMap::new(),
            events_written: 0,
        }
    }

    /// Loads the tasks that are not in memory yet, and their traces.
    pub(super) async fn load_tasks(&mut self, mut ids: Vec<TaskId>) -> Result<(), StoreError> {
        ids.retain(|id| !self.tasks.contains_key(id));
        if ids.is_empty() {
            return Ok(());
        }
        ids.sort_unstable();
        ids.dedup();
        let rows = self.tx.tasks(&ids).await?;
        self.adopt(rows).await
    }

    /// Takes rows that were just read into memory; rows that are there already win.
    pub(super) async fn adopt(&mut self, rows: Vec<TaskRow>) -> Result<(), StoreError> {
        let traces: HashSet<TraceId> = rows.iter().map(|row| row.trace_id).collect();
        self.load_traces(traces.into_iter().collect()).await?;
        for row in rows {
            self.tasks.entry(row.id).or_insert(Entry { row, writes: TaskWrites::default(), dirty: false });
        }
        Ok(())
    }

    /// Loads the traces that are not in memory yet.
    pub(super) async fn load_traces(&mut self, mut ids: Vec<TraceId>) -> Result<(), StoreError> {
        ids.retain(|id| !self.traces.contains_key(id));
        if ids.is_empty() {
            return Ok(());
        }
        for row in self.tx.traces(&ids).await? {
            // Another host's clock may be ahead, or this batch has waited for it: what happens to a trace happens in order.
            self.now = self.now.max(row.changed_at.unwrap_or(self.now));
            self.traces.insert(row.trace_id, TraceEntry { row, dirty: false });
        }
        Ok(())
    }

    /// A task that was loaded.
    pub(super) fn task(&self, id: TaskId) -> Option<&TaskRow> {
        self.tasks.get(&id).map(|entry| &entry.row)
    }

    /// Pairs (dependency, dependent) for all that wait for one of these, new tasks among them.
    pub(super) async fn dependents_of(&mut self, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError> {
        let mut pairs = self.tx.dependents(ids).await?;
        if !self.fresh_deps.is_empty() {
            for id in ids {
                pairs.extend(self.fresh_deps.get(id).into_iter().flatten().map(|dependent| (*id, *dependent)));
            }
        }
        Ok(pairs)
    }

    /// A trace that was loaded.
    pub(super) fn trace(&self, id: TraceId) -> Option<&TraceRow> {
        self.traces.get(&id).map(|entry| &entry.row)
    }

    /// The entry of a task, to be changed.
    pub(super) fn task_mut(&mut self, id: TaskId) -> Result<&mut Entry, StoreError> {
        let entry = self.tasks.get_mut(&id).ok_or_else(|| StoreError::inconsistent("tasks", format!("task {id} is missing")))?;
        entry.dirty = true;
        Ok(entry)
    }

    /// The row of a trace, to be changed.
    pub(super) fn trace_mut(&mut self, id: TraceId) -> Result<&mut TraceRow, StoreError> {
        let entry = self.traces.get_mut(&id).ok_or_else(|| StoreError::inconsistent("traces", format!("trace {id} is missing")))?;
        entry.dirty = true;
        entry.row.changed_at = Some(self.now);
        Ok(&mut entry.row)
    }

    /// A trace that is about to be inserted.
    pub(super) fn add_trace(&mut self, new: NewTraceRow) {
        self.traces.insert(new.row.trace_id, TraceEntry { row: new.row.clone(), dirty: false });
        self.new_traces.push(new);
    }

    /// Makes room for so many new tasks at once: rows are large, and are not to be moved each time that there are twice as many.
    pub(super) fn expect_tasks(&mut self, count: usize) {
        self.tasks.reserve(count);
        self.fresh.reserve(count);
        self.queue.reserve(count);
        self.out.events.reserve(count);
    }

    /// Writes new tasks once they are many, and forgets those of them that are open: a large split is not held in memory as a whole.
    pub(super) async fn write_new_tasks_if_many(&mut self) -> Result<(), StoreError> {
        if self.fresh.len() < NEW_TASKS_MAX {
            return Ok(());
        }
        let new: Vec<TaskId> = self.fresh.iter().map(|new| new.row.id).collect();
        self.flush().await?;
        for id in new {
            // What has ended is still to be told to others.
            if self.task(id).is_some_and(|row| !row.state.is_ended()) {
                self.tasks.remove(&id);
            }
        }
        Ok(())
    }

    /// A task that is about to be inserted, in the state that `transition` leads to.
    pub(super) fn add_task(&mut self, new: NewTask, transition: Transition, payload: Option<Json>) -> Result<(), StoreError> {
        let (id, trace_id) = (new.row.id, new.row.trace_id);
        self.tasks.insert(id, Entry { row: new.row.clone(), writes: new.writes.clone(), dirty: false });
        for dependency in &new.open_deps {
            self.fresh_deps.entry(*dependency).or_default().push(id);
        }
        self.fresh.push(new);
        let status = transition.next.status();
        *self.trace_mut(trace_id)?.counts.of(status) += 1;
        self.enter(id, transition, None, payload)
    }

    /// Moves a task to where a decision leads, with everything that follows from it.
    pub(super) fn apply(&mut self, id: TaskId, transition: Transition, payload: Option<Json>) -> Result<(), StoreError> {
        let row = &self.task_mut(id)?.row;
        let (trace_id, from, to) = (row.trace_id, row.state.status(), transition.next.status());
        if from != to {
            let counts = &mut self.trace_mut(trace_id)?.counts;
            let less = counts.of(from).checked_sub(1);
            *counts.of(from) = less.ok_or_else(|| StoreError::inconsistent("traces", format!("trace {trace_id} counts none that is {from}")))?;
            *counts.of(to) += 1;
        }
        self.enter(id, transition, Some(from), payload)
    }

    fn enter(&mut self, id: TaskId, transition: Transition, from: Option<Status>, payload: Option<Json>) -> Result<(), StoreError> {
        let now = self.now;
        let Transition { next, event, error } = transition;
        let entry = self.task_mut(id)?;
        let was_queued = from.is_some() && matches!(entry.row.state.stage, Stage::Scheduled | Stage::Backoff | Stage::Queued | Stage::Claimed);
        let moved = from.is_none() || entry.row.state.stage != next.stage;
        let passed = from.is_some() && entry.row.has_passed();
        entry.writes.next_round |= from.is_some() && entry.row.state.round != next.round;
        entry.row.state = next;
        let stage = entry.row.state.stage;
        let gates = if moved { entry.row.gates.clone() } else { Gates::default() };
        let first_gate = gates.as_slice().first().filter(|_| stage == Stage::Queued);
        if moved {
            entry.row.parked = first_gate.map(|_| 0);
        }
        match (error, stage) {
            (Some(error), _) => entry.writes.error = Some(error),
            (None, Stage::Ended(_)) => entry.writes.clear_error = true,
            (None, _) => {}
        }
        if let Stage::Ended(_) = stage {
            entry.row.finished_at = Some(now);
        }
        let (trace_id, priority, due) = (entry.row.trace_id, entry.row.priority, entry.row.state.run_after);
        let lane = entry.row.lane.clone();
        if passed && moved && stage != Stage::Claimed {
            self.gates.leave(&gates);
        }
        if moved {
            match stage {
                Stage::Scheduled | Stage::Backoff => {
                    let rank = self.next_rank(trace_id)?;
                    self.queue.insert(id, Some(QueueRow { task_id: id, priority, rank, place: QueuePlace::Due(due.unwrap_or(now)) }));
                }
                Stage::Queued => {
                    let rank = self.next_rank(trace_id)?;
                    let place = match first_gate {
                        Some(gate) => {
                            self.gates.arrive(gate);
                            QueuePlace::Parked(gate.clone())
                        }
                        None => {
                            self.readied(&lane);
                            QueuePlace::Ready(lane)
                        }
                    };
                    self.queue.insert(id, Some(QueueRow { task_id: id, priority, rank, place }));
                }
                Stage::WaitingDeps | Stage::Paused | Stage::WaitingChildren | Stage::Ended(_) if was_queued => {
                    self.queue.insert(id, None);
                }
                Stage::WaitingDeps | Stage::Paused | Stage::WaitingChildren | Stage::Ended(_) | Stage::Claimed => {}
            }
        }
        if let Some(event_type) = event {
            self.note(id, event_type, from, payload)?;
        }
        if let Stage::Ended(_) = stage {
            self.ended.push(id);
            self.end_trace_with(id)?;
        }
        Ok(())
    }

    /// Start-time fair queueing (P. Goyal, H. Vin, H. Cheng, 1996) with a task as the unit of service: a trace's next task stands behind
    /// its last one, but never behind the virtual time, so that a small trace does not wait for a large one's backlog.
    fn next_rank(&mut self, trace_id: TraceId) -> Result<u64, StoreError> {
        let virtual_time = self.order.virtual_time;
        let trace = self.trace_mut(trace_id)?;
        trace.rank = trace.rank.max(virtual_time) + 1;
        Ok(trace.rank)
    }

    /// A task can be claimed that could not before.
    pub(super) fn readied(&mut self, lane: &Lane) {
        if *lane == Lane::Process {
            self.readied = true;
        } else {
            self.readied_elsewhere = true;
        }
    }

    /// Moves a task that is in the queue to another place of it.
    pub(super) fn requeue(&mut self, id: TaskId, rank: u64, place: QueuePlace) -> Result<(), StoreError> {
        let priority = self.task_mut(id)?.row.priority;
        self.queue.insert(id, Some(QueueRow { task_id: id, priority, rank, place }));
        Ok(())
    }

    /// Appends an event of the host's own. `from` is given for transitions; the status after is the task's present one.
    pub(super) fn note(&mut self, id: TaskId, event_type: EventType, from: Option<Status>, payload: Option<Json>) -> Result<(), StoreError> {
        let row = &self.task_mut(id)?.row;
        let observed = matches!(event_type, EventType::Progress | EventType::Log | EventType::PartialOutput);
        let event = TaskEvent {
            event_id: None,
            seq: 0,
            trace_id: row.trace_id,
            task_id: id,
            parent_id: row.parent_id,
            actor_type: row.actor_type,
            event_type,
            from,
            to: (!observed).then(|| row.state.status()),
            payload,
            at: self.now,
        };
        self.push_event(event)
    }

    /// Gives an event its place in the trace's history.
    pub(super) fn push_event(&mut self, event: TaskEvent) -> Result<(), StoreError> {
        let trace = self.trace_mut(event.trace_id)?;
        trace.last_seq += 1;
        let seq = trace.last_seq;
        self.out.events.push(TaskEvent { seq, ..event });
        Ok(())
    }

    fn end_trace_with(&mut self, id: TaskId) -> Result<(), StoreError> {
        let now = self.now;
        let row = &self.task_mut(id)?.row;
        let (trace_id, status, is_root) = (row.trace_id, row.state.status(), row.parent_id.is_none());
        if is_root {
            let trace = self.trace_mut(trace_id)?;
            trace.status = status;
            trace.finished_at = Some(now);
            self.out.ended.push((trace_id, status));
        }
        Ok(())
    }

    /// What the steps of claimed tasks need.
    pub(super) async fn step_inputs(&mut self, tasks: &[TaskRow]) -> Result<HashMap<TaskId, StepInput>, StoreError> {
        let mut inputs = std::mem::take(&mut self.inputs);
        let read = if inputs.is_empty() {
            self.tx.step_inputs(tasks).await?
        } else {
            let unknown: Vec<TaskRow> = tasks.iter().filter(|task| !inputs.contains_key(&task.id)).cloned().collect();
            self.tx.step_inputs(&unknown).await?
        };
        inputs.extend(read.into_iter().map(|input| (input.task_id, input)));
        Ok(inputs)
    }

    /// Writes everything that changed. What is in memory stays there and is true.
    pub(super) async fn flush(&mut self) -> Result<(), StoreError> {
        let mut new_traces = std::mem::take(&mut self.new_traces);
        for new in &mut new_traces {
            if let Some(entry) = self.traces.get_mut(&new.row.trace_id) {
                new.row = entry.row.clone();
                entry.dirty = false;
            }
        }
        self.tx.insert_traces(&new_traces).await?;
        self.between(Point::TracesWritten).await?;
        let mut fresh = std::mem::take(&mut self.fresh);
        self.fresh_deps.clear();
        for new in &mut fresh {
            if let Some(entry) = self.tasks.get_mut(&new.row.id) {
                new.row = entry.row.clone();
                new.writes = std::mem::take(&mut entry.writes);
                entry.dirty = false;
            }
            if self.inputs.len() < self.claims_max
                && let Some(input) = StepInput::of_new(new)
            {
                self.inputs.insert(new.row.id, input);
            }
        }
        self.tx.insert_tasks(&fresh).await?;
        self.between(Point::ChildrenWritten).await?;
        let mut changed = Vec::new();
        for entry in self.tasks.values_mut().filter(|entry| entry.dirty) {
            entry.dirty = false;
            changed.push((entry.row.clone(), std::mem::take(&mut entry.writes)));
        }
        // In the order of the table, for the pages' sake.
        changed.sort_unstable_by_key(|(row, _)| row.id);
        self.tx.update_tasks(&changed, self.now).await?;
        self.between(Point::TasksWritten).await?;
        let (mut put, mut delete) = (Vec::new(), Vec::new());
        for (id, place) in self.queue.drain() {
            match place {
                Some(row) => put.push(row),
                None => delete.push(id),
            }
        }
        self.tx.delete_queue(&delete).await?;
        put.sort_unstable_by_key(|row| row.task_id);
        self.tx.put_queue(&put).await?;
        self.between(Point::QueueWritten).await?;
        self.tx.insert_events(&self.out.events[self.events_written..]).await?;
        self.events_written = self.out.events.len();
        self.between(Point::EventsWritten).await?;
        let attempts = std::mem::take(&mut self.attempts);
        self.tx.insert_attempts(&attempts).await?;
        let rounds = std::mem::take(&mut self.rounds);
        self.tx.insert_rounds(&rounds).await?;
        self.between(Point::AttemptsWritten).await?;
        let mut traces = Vec::new();
        for entry in self.traces.values_mut().filter(|entry| entry.dirty) {
            entry.dirty = false;
            traces.push(entry.row.clone());
        }
        self.tx.update_traces(&traces).await
    }

    /// Stands between two statements, for tests.
    pub(super) async fn between(&mut self, point: Point) -> Result<(), StoreError> {
        if fault::COMPILED { self.tx.between(point).await } else { Ok(()) }
    }
}
