//! Queued tasks pass the gates of their limits, or wait at one of them.
//!
//! A task waits at one gate at a time, the first that is full; nothing looks at it there until somebody leaves that gate or its time
//! comes. Then those that wait are tried in their order, each at all its gates. So the cost follows what leaves and arrives, not what
//! waits, and a place that is free is never kept for a task that something else holds up.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tower_domain::clock::Timestamp;
use tower_domain::id::TaskId;
use tower_domain::limit::{Gate, GateLimit, GateState, Gates, Limits};
use tower_domain::name::Name;

use super::tx::{GateRow, ParkedTask, QueuePlace, Tx};
use super::unit::Unit;
use crate::StoreError;

/// Gates whose time has come that are looked at in one batch; the rest follows in the next.
const OPENING_MAX: u32 = 1_000;
/// Waiting tasks that are read at once.
const READ_MAX: u32 = 4_096;
/// Waiting tasks of one gate and priority that are read at once.
const EACH_MAX: u32 = 256;
/// Waiting tasks that are tried in one batch; the rest follows in the next.
const TRIED_MAX: usize = 4_096;

/// What happened at gates in this batch and was not dealt with yet.
#[derive(Default)]
pub(super) struct GateBook {
    /// How many tasks left each.
    left: BTreeMap<Gate, u32>,
    /// Gates at which somebody arrived, or may be let in.
    stirred: BTreeSet<Gate>,
}

impl GateBook {
    /// A task that had passed is out of the queue.
    pub(super) fn leave(&mut self, gates: &Gates) {
        for gate in gates.as_slice() {
            *self.left.entry(gate.clone()).or_default() += 1;
            if !matches!(gate, Gate::Rate(_)) {
                self.stirred.insert(gate.clone());
            }
        }
    }

    /// A task waits.
    pub(super) fn arrive(&mut self, gate: &Gate) {
        self.stirred.insert(gate.clone());
    }
}

/// Gates in memory.
struct Board {
    now: Timestamp,
    user_max: Option<u32>,
    limits: HashMap<Name, Limits>,
    /// Each as it was read, and as it is.
    states: BTreeMap<Gate, (Option<GateState>, GateState)>,
}

impl Board {
    async fn load(&mut self, tx: &mut dyn Tx, gates: impl Iterator<Item = &Gate>) -> Result<(), StoreError> {
        let unknown: BTreeSet<Gate> = gates.filter(|gate| !self.states.contains_key(gate)).cloned().collect();
        let unknown: Vec<Gate> = unknown.into_iter().collect();
        // Gates first, which may have to be waited for; whoever changes what a definition limits looks at its gates after that.
        for GateRow { gate, state } in tx.gates(&unknown).await? {
            self.states.insert(gate, (Some(state.clone()), state));
        }
        let definitions: BTreeSet<&Name> = unknown.iter().filter_map(Gate::definition).filter(|name| !self.limits.contains_key(name)).collect();
        let definitions: Vec<Name> = definitions.into_iter().cloned().collect();
        self.limits.extend(tx.limits(&definitions).await?);
        for gate in unknown {
            self.states.entry(gate).or_default();
        }
        Ok(())
    }

    fn limit(&self, gate: &Gate) -> Option<GateLimit> {
        match gate {
            Gate::User(_) => self.user_max.map(GateLimit::Places),
            Gate::Key { definition, .. } | Gate::Definition(definition) | Gate::Rate(definition) => {
                self.limits.get(definition).and_then(|limits| limits.at(gate))
            }
        }
    }

    fn state(&mut self, gate: &Gate) -> &mut GateState {
        &mut self.states.entry(gate.clone()).or_default().1
    }

    fn room(&self, gate: &Gate) -> u32 {
        self.states.get(gate).map_or(u32::MAX, |(_, state)| state.room(self.limit(gate), self.now))
    }

    fn is_open(&self, gate: &Gate) -> bool {
        self.room(gate) > 0
    }

    fn pass(&mut self, gates: &Gates) {
        let now = self.now;
        for gate in gates.as_slice() {
            let limit = self.limit(gate);
            self.state(gate).pass(limit, now);
        }
    }

    /// Writes what changed; what says nothing any more is forgotten.
    async fn write(self, tx: &mut dyn Tx) -> Result<(), StoreError> {
        let (mut put, mut delete) = (Vec::new(), Vec::new());
        for (gate, (was, state)) in self.states {
            match (was, state.is_idle(self.now)) {
                (Some(_), true) => delete.push(gate),
                (None, true) => {}
                (was, false) if was.as_ref() == Some(&state) => {}
                (_, false) => put.push(GateRow { gate, state }),
            }
        }
        tx.put_gates(&put).await?;
        tx.delete_gates(&delete).await
    }
}

impl Unit<'_> {
    /// Finds the gates whose time has come.
    pub(super) async fn open_gates(&mut self) -> Result<(), StoreError> {
        let opening = self.tx.opening(self.now, OPENING_MAX).await?;
        self.gates.stirred.extend(opening);
        Ok(())
    }

    /// Lets in whoever can pass. What is in memory must have been written.
    pub(super) async fn pass_gates(&mut self) -> Result<(), StoreError> {
        let GateBook { left, stirred: mut waited_at } = std::mem::take(&mut self.gates);
        if left.is_empty() && waited_at.is_empty() {
            return Ok(());
        }
        let mut board = Board { now: self.now, user_max: self.user_max_concurrent, limits: HashMap::new(), states: BTreeMap::new() };
        board.load(self.tx, left.keys().chain(&waited_at)).await?;
        for (gate, tasks) in left {
            board.state(&gate).leave(tasks);
        }
        let mut tried = 0;
        loop {
            let open: Vec<Gate> = waited_at.iter().filter(|gate| board.is_open(gate)).cloned().collect();
            if open.is_empty() {
                break;
            }
            if tried >= TRIED_MAX {
                open.iter().for_each(|gate| board.state(gate).opens_at = Some(self.now));
                waited_at.retain(|gate| !board.is_open(gate));
                break;
            }
            let room = open.iter().map(|gate| board.room(gate)).max().unwrap_or(1);
            // One more than can pass, to see whether anybody stays.
            let each = room.saturating_add(1).min(READ_MAX / u32::try_from(open.len()).unwrap_or(READ_MAX)).clamp(1, EACH_MAX);
            let parked = self.tx.parked(&open, each).await?;
            tried += parked.len();
            self.load_tasks(parked.iter().map(|task| task.task_id).collect()).await?;
            let gates: Vec<Gates> = parked.iter().filter_map(|task| self.task(task.task_id)).map(|row| row.gates.clone()).collect();
            board.load(self.tx, gates.iter().flat_map(Gates::as_slice)).await?;
            self.try_in_order(&mut board, &parked, &mut waited_at)?;
            self.propagate().await?;
            self.flush().await?;
            for gate in open {
                let all_read = parked.iter().filter(|task| task.gate == gate).count() < each as usize;
                // Some may have come here from another gate just now.
                if all_read && !parked.iter().any(|task| self.waits_at(task.task_id, &gate)) {
                    board.state(&gate).opens_at = None;
                    waited_at.remove(&gate);
                }
            }
        }
        for gate in waited_at {
            let opening = board.limit(&gate);
            let state = board.state(&gate);
            state.opens_at = state.opening(opening);
        }
        board.write(self.tx).await
    }

    /// The most urgent first, but one in a few by fair order alone, as claims are.
    fn try_in_order(&mut self, board: &mut Board, parked: &[ParkedTask], waited_at: &mut BTreeSet<Gate>) -> Result<(), StoreError> {
        let mut by_priority: Vec<usize> = (0..parked.len()).collect();
        let mut by_rank = by_priority.clone();
        by_priority.sort_unstable_by_key(|at| (std::cmp::Reverse(parked[*at].priority), parked[*at].rank, parked[*at].task_id));
        by_rank.sort_unstable_by_key(|at| (parked[*at].rank, parked[*at].task_id));
        let (mut by_priority, mut by_rank) = (by_priority.into_iter(), by_rank.into_iter());
        let mut tried = vec![false; parked.len()];
        loop {
            let list = if self.order.is_fair_pass() { &mut by_rank } else { &mut by_priority };
            let Some(at) = list.find(|at| !tried[*at]) else { return Ok(()) };
            tried[at] = true;
            let task = &parked[at];
            // Those before it may have filled the gate that it waits at.
            if board.is_open(&task.gate) {
                self.try_one(board, task, waited_at)?;
            }
        }
    }

    fn waits_at(&self, id: TaskId, gate: &Gate) -> bool {
        self.task(id).is_some_and(|row| row.parked.and_then(|at| row.gates.as_slice().get(usize::from(at))) == Some(gate))
    }

    fn try_one(&mut self, board: &mut Board, task: &ParkedTask, waited_at: &mut BTreeSet<Gate>) -> Result<(), StoreError> {
        let id: TaskId = task.task_id;
        if self.end_with_its_trace(id)? {
            // Nobody passes in vain: a start that a rate grants is another's.
            return Ok(());
        }
        let row = self.task(id).ok_or_else(|| StoreError::inconsistent("queue", format!("task {id} is missing")))?;
        let (gates, lane) = (row.gates.clone(), row.lane.clone());
        let full = gates.as_slice().iter().position(|gate| !board.is_open(gate));
        let place = match full {
            None => {
                board.pass(&gates);
                self.readied(&lane);
                self.order.passes += 1;
                QueuePlace::Ready(lane)
            }
            Some(at) => {
                let gate = gates.as_slice()[at].clone();
                waited_at.insert(gate.clone());
                QueuePlace::Parked(gate)
            }
        };
        self.task_mut(id)?.row.parked = full.and_then(|at| u8::try_from(at).ok());
        self.requeue(id, task.rank, place)
    }
}
