//! One batch as a unit of work, the same for every back end.
//!
//! Rows are loaded in sets, `tower_domain::lifecycle` decides about each in memory, and what changed is written in sets. Files, in the
//! order of a batch: `unit` (rows in memory, and writing them), `submit`, `rerun`, `schedule`, `settle`, `control`, `sweep` (of a large cancel), `observe`, `renew`, `expire` (a file a
//! command), `propagate` (what an ended task means to its parent and dependents), `gates` (limits), `claim`.

mod claim;
mod control;
mod expire;
mod gates;
mod observe;
mod propagate;
mod renew;
mod rerun;
mod schedule;
mod settle;
mod submit;
mod sweep;
pub(crate) mod tx;
mod unit;

use std::collections::HashSet;

use tower_domain::id::{TaskId, TraceId};

use crate::StoreError;
use crate::fault::{self, Guard, Point};
use crate::work::{Answer, Batch, Command, Committed};
use tx::Tx;
use unit::Unit;

/// Callers' keys that are forgotten with one command.
const KEYS_CHUNK: u32 = 20_000;

/// In what order tasks are claimed, carried from batch to batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClaimOrder {
    /// Virtual time of fair shares: the rank of the latest claim.
    pub(crate) virtual_time: u64,
    /// Claims up to now; one in [`FAIR_EVERY`] is made without a look at priorities.
    pub(crate) claims: u64,
    /// Tasks that passed the gates of their limits, likewise.
    pub(crate) passes: u64,
}

impl ClaimOrder {
    /// How many of the next `count` are to be picked by fair order alone.
    fn fair_among(self, count: u64) -> u64 {
        (self.claims + count) / FAIR_EVERY - self.claims / FAIR_EVERY
    }

    /// Whether the next task that passes its gates is.
    fn is_fair_pass(self) -> bool {
        self.passes % FAIR_EVERY == FAIR_EVERY - 1
    }
}

/// So that nothing starves: of so many claims one goes to whoever is next in fair order, whatever its priority. A trace of the lowest
/// priority keeps at least this part of the share that it would have if all were alike.
const FAIR_EVERY: u64 = 10;

/// Applies a batch inside an open transaction.
pub(crate) async fn run(tx: &mut dyn Tx, batch: Batch, order: ClaimOrder) -> Result<(Committed, ClaimOrder), StoreError> {
    let mut unit = Unit::new(tx, &batch, order);
    unit.preload(&batch.commands).await?;
    let mut answers = Vec::with_capacity(batch.commands.len());
    for command in batch.commands {
        let answer = match command {
            Command::Submit(new) => unit.submit(*new).await?,
            Command::Fire(fire) => unit.fire(*fire).await?,
            Command::ChangeSchedule(change) => unit.change_schedule(*change).await?,
            Command::Settle(settle) => unit.settle(*settle).await?,
            Command::Control(order) => unit.control(order).await?,
            Command::Sweep(trace_id) => unit.sweep(trace_id).await?,
            Command::Observe(observe) => unit.observe(observe),
            Command::PostEvent(event) => unit.post_event(event),
            Command::Renew { host, held, lease } => unit.renew(&host, held, lease).await?,
            Command::Expire(expire) => unit.expire(expire).await?,
            Command::ForgetKeys { not_before } => {
                unit.tx.delete_keys(not_before, KEYS_CHUNK).await?;
                Answer::Done
            }
        };
        answers.push(answer);
    }
    unit.propagate().await?;
    unit.promote_due().await?;
    unit.open_gates().await?;
    unit.flush().await?;
    unit.pass_gates().await?;
    if let Some(claim) = &batch.claim {
        unit.claim(claim).await?;
        // By day, tasks of the night leave their places to others.
        unit.pass_gates().await?;
    }
    // Last of all: a trace that is being cancelled may have come to its end where its tasks were to be claimed.
    unit.flush_schedules().await?;
    unit.out.next_due = unit.tx.next_due().await?;
    unit.between(Point::BatchWritten).await?;
    unit.out.answers = answers;
    unit.out.now = unit.now;
    if batch.others {
        unit.out.news = unit.news(batch.claim.is_some_and(|claim| claim.limit > 0));
    }
    Ok((unit.out, unit.order))
}

impl Unit<'_> {
    /// Locks and loads in one go what the commands are about.
    async fn preload(&mut self, commands: &[Command]) -> Result<(), StoreError> {
        let mut tasks: HashSet<TaskId> = HashSet::new();
        let mut traces: HashSet<TraceId> = HashSet::new();
        let mut keys = Vec::new();
        let mut not_before = None;
        let mut event_ids = Vec::new();
        let mut schedules = Vec::new();
        for command in commands {
            match command {
                Command::Submit(new) => {
                    traces.extend(new.rerun.as_ref().map(|rerun| rerun.of));
                    if let Some(idempotency) = &new.idempotency {
                        keys.push(idempotency.key.clone());
                        not_before = not_before.max(Some(idempotency.not_before));
                    }
                }
                Command::Settle(settle) => {
                    tasks.insert(settle.task_id);
                }
                Command::Observe(observe) => {
                    tasks.insert(observe.task_id);
                }
                Command::PostEvent(event) => {
                    tasks.insert(event.task_id);
                    event_ids.push(event.event_id.clone());
                }
                Command::Control(order) => {
                    traces.insert(order.trace_id);
                    tasks.extend(order.task_id);
                }
                Command::Sweep(trace_id) => {
                    traces.insert(*trace_id);
                }
                Command::Fire(fire) => schedules.push(fire.definition_id.clone()),
                Command::ChangeSchedule(change) => schedules.push(change.order.definition_id.clone()),
                Command::Renew { .. } | Command::Expire(_) | Command::ForgetKeys { .. } => {}
            }
        }
        let (tasks, traces): (Vec<TaskId>, Vec<TraceId>) = (tasks.into_iter().collect(), traces.into_iter().collect());
        if let Some(now) = self.tx.lock(&tasks, &traces, &schedules).await? {
            self.now = now;
        }
        self.load_tasks(tasks).await?;
        self.load_schedules(&schedules).await?;
        if !fault::is_on(Guard::Dedupe) {
            return Ok(());
        }
        if let Some(not_before) = not_before {
            for known in self.tx.known_keys(&keys, not_before).await? {
                self.keys.insert(known.key.clone(), known);
            }
        }
        if !event_ids.is_empty() {
            for event in self.tx.known_events(&event_ids).await? {
                if let Some(id) = event.event_id.clone() {
                    self.known_events.insert(id, event);
                }
            }
        }
        Ok(())
    }
}
