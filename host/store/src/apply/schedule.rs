//! A schedule fires, or somebody orders something about it. Whoever asks says which revision of the row was read; a row that has moved
//! on since stays as it is.

use tower_domain::clock::Timestamp;
use tower_domain::id::TraceId;
use tower_domain::name::Name;
use tower_domain::schedule::{Overlap, Schedule, ScheduleState};

use super::unit::Unit;
use crate::StoreError;
use crate::fault::{self, Guard, Point};
use crate::work::{Answer, ChangeSchedule, Fire, NewTrace};

/// Rows of schedules in memory.
#[derive(Default)]
pub(super) struct Schedules {
    rows: std::collections::HashMap<Name, Schedule>,
    changed: std::collections::HashSet<Name>,
    fires: Vec<(Name, Timestamp, TraceId)>,
}

impl Unit<'_> {
    /// Loads the schedules of these definitions, and the traces that they began last.
    pub(super) async fn load_schedules(&mut self, definitions: &[Name]) -> Result<(), StoreError> {
        let rows = self.tx.schedules(definitions).await?;
        self.load_traces(rows.iter().filter_map(|row| row.last_trace_id).collect()).await?;
        self.schedules.rows.extend(rows.into_iter().map(|row| (row.definition_id.clone(), row)));
        Ok(())
    }

    pub(super) async fn fire(&mut self, fire: Fire) -> Result<Answer, StoreError> {
        let Some(row) = self.schedules.rows.get(&fire.definition_id) else { return Ok(Answer::NotFound) };
        let moved = row.revision != fire.revision || row.next_at.is_none() || row.waiting_trace_id.is_some();
        if moved && fault::is_on(Guard::CronOnce) {
            return Ok(Answer::ScheduleMoved);
        }
        let mut row = row.clone();
        row.revision += 1;
        row.updated_at = self.now;
        row.missed += fire.missed;
        row.skipped += fire.skipped;
        row.next_at = fire.next_at;
        let mut runs = row.last_trace_id.filter(|last| self.trace(*last).is_some_and(|trace| !trace.status.is_terminal()));
        let mut traces = fire.traces.into_iter();
        match fire.overlap {
            Overlap::Allow => {
                for (at, trace) in traces {
                    self.begin_firing(&mut row, at, trace).await?;
                }
            }
            Overlap::Skip => {
                for (at, trace) in traces {
                    match runs {
                        Some(_) => row.skipped += 1,
                        None => runs = Some(self.begin_firing(&mut row, at, trace).await?),
                    }
                }
            }
            Overlap::Queue => {
                if runs.is_none()
                    && let Some((at, trace)) = traces.next()
                {
                    runs = Some(self.begin_firing(&mut row, at, trace).await?);
                }
                if let Some((at, _)) = traces.next() {
                    // The rest stays ahead, however long the trace takes; nothing of it counts as missed.
                    row.next_at = Some(at);
                    row.waiting_trace_id = runs;
                }
            }
            Overlap::CancelPrevious => {
                if let Some((at, trace)) = traces.next_back() {
                    row.skipped += traces.len() as u64;
                    if let Some(order) = fire.cancel.filter(|order| Some(order.trace_id) == runs) {
                        self.control(order).await?;
                    }
                    self.begin_firing(&mut row, at, trace).await?;
                }
            }
        }
        if row.next_at.is_none() {
            row.state = ScheduleState::Completed;
        }
        // What is still ahead of what was queued was queued as well.
        row.waited_until = row.waited_until.filter(|until| row.next_at.is_some_and(|next| next <= *until));
        let waits = row.waiting_trace_id.is_some();
        self.keep_schedule(row);
        Ok(Answer::Fired { waits })
    }

    async fn begin_firing(&mut self, row: &mut Schedule, at: Timestamp, trace: NewTrace) -> Result<TraceId, StoreError> {
        let id = trace.trace_id;
        match self.submit(trace).await? {
            Answer::Submitted { .. } => {}
            other => return Err(StoreError::inconsistent("schedules", format!("a firing was answered with {other:?}"))),
        }
        row.fired += 1;
        row.last_at = row.last_at.max(Some(at));
        row.last_trace_id = Some(id);
        self.schedules.fires.push((row.definition_id.clone(), at, id));
        Ok(id)
    }

    pub(super) async fn change_schedule(&mut self, change: ChangeSchedule) -> Result<Answer, StoreError> {
        let Some(row) = self.schedules.rows.get(&change.order.definition_id) else { return Ok(Answer::NotFound) };
        if row.revision != change.revision {
            return Ok(Answer::ScheduleMoved);
        }
        let (state, next_at) = (change.state, change.next_at);
        let row = Schedule { revision: row.revision + 1, state, next_at, waiting_trace_id: None, waited_until: None, updated_at: self.now, ..row.clone() };
        self.tx.insert_schedule_order(&change.order).await?;
        self.keep_schedule(row);
        Ok(Answer::Done)
    }

    fn keep_schedule(&mut self, row: Schedule) {
        self.schedules.changed.insert(row.definition_id.clone());
        self.schedules.rows.insert(row.definition_id.clone(), row);
    }

    /// Writes what changed, and has those go on that waited for a trace that has ended.
    pub(super) async fn flush_schedules(&mut self) -> Result<(), StoreError> {
        let Schedules { rows, changed, fires } = &mut self.schedules;
        let changed: Vec<Schedule> = changed.drain().filter_map(|id| rows.get(&id).cloned()).collect();
        let fires = std::mem::take(fires);
        self.tx.put_schedules(&changed).await?;
        if !fires.is_empty() {
            self.between(Point::SchedulesWritten).await?;
            self.tx.insert_fires(&fires).await?;
        }
        let scheduled = |trace: &TraceId| self.trace(*trace).is_none_or(|row| row.is_scheduled);
        let ended: Vec<TraceId> = self.out.ended.iter().map(|(trace, _)| *trace).filter(scheduled).collect();
        self.tx.release_schedules(&ended, self.now).await
    }
}
