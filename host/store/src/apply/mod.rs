//! One batch as a unit of work, the same for every back end.
//!
//! Rows are loaded in sets, `tower_domain::lifecycle` decides about each in memory, and what changed is written in sets. Files, in the
//! order of a batch: `unit` (rows in memory, and writing them), `submit`, `rerun`, `schedule`, `settle`, `control`, `observe`, `expire` (a file a
//! command), `propagate` (what an ended task means to its parent and dependents), `claim`.

mod claim;
mod control;
mod expire;
mod observe;
mod propagate;
mod rerun;
mod schedule;
mod settle;
mod submit;
pub(crate) mod tx;
mod unit;

use std::collections::HashSet;

use tower_domain::id::TaskId;

use crate::StoreError;
use crate::fault::{self, Guard, Point};
use crate::work::{Answer, Batch, Command, Committed};
use tx::Tx;
use unit::Unit;

/// Callers' keys that are forgotten with one command.
const KEYS_CHUNK: u32 = 20_000;

/// Applies a batch inside an open transaction. Takes and answers the virtual time of fair shares: the rank of the latest claim.
pub(crate) async fn run(tx: &mut dyn Tx, batch: Batch, virtual_time: u64) -> Result<(Committed, u64), StoreError> {
    let mut unit = Unit::new(tx, &batch, virtual_time);
    unit.preload(&batch.commands).await?;
    let mut answers = Vec::with_capacity(batch.commands.len());
    for command in batch.commands {
        let answer = match command {
            Command::Submit(new) => unit.submit(*new).await?,
            Command::Fire(fire) => unit.fire(*fire).await?,
            Command::ChangeSchedule(change) => unit.change_schedule(*change).await?,
            Command::Settle(settle) => unit.settle(*settle).await?,
            Command::Control(order) => unit.control(order).await?,
            Command::Observe(observe) => unit.observe(observe),
            Command::PostEvent(event) => unit.post_event(event),
            Command::Renew { host, held, until } => {
                unit.tx.renew(&host, &held, until).await?;
                Answer::Done
            }
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
    unit.flush().await?;
    unit.flush_schedules().await?;
    if let Some(claim) = &batch.claim {
        unit.claim(claim).await?;
    }
    unit.out.next_due = unit.tx.next_due().await?;
    unit.between(Point::BatchWritten).await?;
    unit.out.answers = answers;
    Ok((unit.out, unit.virtual_time))
}

impl Unit<'_> {
    /// Loads in one go what the commands are about.
    async fn preload(&mut self, commands: &[Command]) -> Result<(), StoreError> {
        let mut tasks: HashSet<TaskId> = HashSet::new();
        let mut keys = Vec::new();
        let mut not_before = None;
        let mut event_ids = Vec::new();
        let mut schedules = Vec::new();
        for command in commands {
            match command {
                Command::Submit(new) => {
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
                Command::Control(order) => tasks.extend(order.task_id),
                Command::Fire(fire) => schedules.push(fire.definition_id.clone()),
                Command::ChangeSchedule(change) => schedules.push(change.order.definition_id.clone()),
                Command::Renew { .. } | Command::Expire(_) | Command::ForgetKeys { .. } => {}
            }
        }
        self.load_tasks(tasks.into_iter().collect()).await?;
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
