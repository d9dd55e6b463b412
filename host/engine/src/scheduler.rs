//! What fires definitions at their instants. It looks at what is due and at nothing else, so that its cost does not grow with what is
//! scheduled; who fires an instant is settled by the store, so that any number of hosts may look at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tower_domain::clock::Timestamp;
use tower_domain::control::ControlAction;
use tower_domain::json::Json;
use tower_domain::schedule::{Due, Overlap, Plan, Schedule, ScheduleType};
use tower_domain::trace::TriggerType;
use tower_store::StoreError;
use tower_store::work::{Answer, Command, Fire, NewTrace};

use crate::catalog::Loaded;
use crate::committer::{RETRY_AFTER, chain};
use crate::engine::Engine;
use crate::orders::{StoreFailure, Trigger};

/// Who traces of schedules are begun by.
const BY: &str = "schedule";
/// Schedules that are dealt with in one go.
const CHUNK: u32 = 500;
/// Longest sleep while something is scheduled: a clock that is stepped, and what another host puts, are seen as late as this.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Longest sleep while nothing is: another host may put something.
const IDLE_SLEEP_MAX: Duration = Duration::from_secs(10);

/// How the rest of the engine reaches the scheduler.
#[derive(Default)]
pub(crate) struct SchedulerBell {
    bell: Notify,
    /// Whether a schedule waits for the end of a trace.
    waiting: AtomicBool,
}

impl SchedulerBell {
    /// Something about schedules has changed.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Traces have ended.
    pub(crate) fn traces_ended(&self) {
        if self.waiting.load(Ordering::Acquire) {
            self.ring();
        }
    }
}

/// Fires until the engine is stopped.
pub(crate) async fn run(engine: Engine) {
    loop {
        let sleep = match engine.fire_due().await {
            Ok(next_at) => {
                let longest = next_at.map_or(IDLE_SLEEP_MAX, |_| SLEEP_MAX);
                next_at.map_or(longest, |at| at.since(engine.clock().now()).min(longest))
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "schedules wait for the store");
                RETRY_AFTER
            }
        };
        tokio::select! {
            biased;
            () = engine.inner.stop.cancelled() => return,
            () = engine.inner.scheduler.bell.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

impl Engine {
    /// Fires what is due by now, and answers when the next is. The engine does so by itself; where time is simulated, it is called.
    pub async fn fire_due(&self) -> Result<Option<Timestamp>, StoreFailure> {
        let inner = &self.inner;
        while !inner.stop.is_cancelled() {
            let rows = inner.stores.schedules.due(inner.clock.now(), CHUNK).await?;
            if rows.is_empty() {
                break;
            }
            let mut commands = Vec::new();
            for row in rows {
                let id = row.definition_id.clone();
                match self.decide(row).await {
                    Ok(Some(fire)) => commands.push(fire),
                    Ok(None) => {}
                    Err(error) if error.is_outage() => return Err(error.into()),
                    Err(error) => tracing::error!(definition.id = %id, error = %chain(&error), "a schedule cannot be fired"),
                }
            }
            if commands.is_empty() {
                // None of them can be dealt with: the next look finds the same ones.
                tokio::time::sleep(RETRY_AFTER).await;
                break;
            }
            let asked = commands.into_iter().map(|fire| inner.commits.ask(Command::Fire(Box::new(fire))));
            for answer in futures::future::join_all(asked).await {
                match answer {
                    Some(Ok(Answer::Fired { .. } | Answer::ScheduleMoved | Answer::NotFound)) => {}
                    Some(Ok(other)) => tracing::error!(answer = ?other, "a firing was answered oddly"),
                    Some(Err(failure)) => return Err(failure),
                    None => return Ok(None),
                }
            }
        }
        let ahead = inner.stores.schedules.ahead().await?;
        inner.scheduler.waiting.store(ahead.waiting, Ordering::Release);
        Ok(ahead.next_at)
    }

    /// What is to be done about a schedule that is due; none: it is not any more.
    async fn decide(&self, row: Schedule) -> Result<Option<Fire>, StoreError> {
        let catalog = &self.inner.catalog;
        let Some(mut loaded) = catalog.current(&row.definition_id).await? else { return Ok(None) };
        if loaded.definition.version < row.definition_version {
            // The row is of a version that came after what was in memory.
            catalog.forget(&row.definition_id);
            match catalog.current(&row.definition_id).await? {
                Some(newer) => loaded = newer,
                None => return Ok(None),
            }
        }
        let Some(plan) = Plan::of(&loaded.definition.spec) else { return Ok(None) };
        let now = self.inner.clock.now();
        let Due { fire, missed, mut skipped, next_at } = plan.due(&row, now);
        let found = fire.len();
        let traces: Vec<(Timestamp, NewTrace)> = fire.into_iter().filter_map(|at| Some((at, self.firing(&loaded, &plan, at)?))).collect();
        skipped += (found - traces.len()) as u64;
        let cancel = row.last_trace_id.filter(|_| plan.overlap == Overlap::CancelPrevious && found > 0);
        let cancel = cancel.map(|last| self.order(ControlAction::Cancel, last, None, BY.to_owned(), "the next firing came before its end"));
        Ok(Some(Fire { definition_id: row.definition_id, revision: row.revision, overlap: plan.overlap, traces, missed, skipped, next_at, cancel }))
    }

    /// The trace of an instant; none: the definition cannot be triggered as it is.
    fn firing(&self, loaded: &Arc<Loaded>, plan: &Plan, at: Timestamp) -> Option<NewTrace> {
        let definition = &loaded.definition;
        let trigger = Trigger {
            definition_id: definition.id.clone(),
            params: Json::empty_object(),
            priority: None,
            run_at: plan.run_after(&definition.id, at),
            window: None,
            user_id: None,
            labels: std::collections::BTreeMap::new(),
            trigger_type: match definition.spec.schedule_type {
                ScheduleType::Once => TriggerType::Schedule,
                ScheduleType::Cron => TriggerType::Cron,
                ScheduleType::Loop => TriggerType::Loop,
            },
            triggered_by: BY.to_owned(),
            idempotency_key: None,
            session_id: None,
        };
        match self.new_trace(trigger, loaded) {
            Ok(new) => Some(NewTrace { cron_trigger_time: Some(at), ..new }),
            Err(refused) => {
                tracing::warn!(definition.id = %definition.id, instant = %at, error = %refused, "a firing was left out");
                None
            }
        }
    }
}
