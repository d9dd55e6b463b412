//! Somebody ends, holds or sets going a trace or a subtree.

use tower_domain::control::{Control, ControlAction, ControlEvent};
use tower_domain::event::EventType;
use tower_domain::id::TaskId;
use tower_domain::json::Json;
use tower_domain::lifecycle::{Cancel, Pause, Refusal, Resume, Stage, TaskState, Transition};
use tower_domain::step::Signal;

use tower_domain::task::Status;

use super::settle::payload_of;
use super::unit::Unit;
use crate::StoreError;
use crate::fault::Point;
use crate::work::Answer;

impl Unit<'_> {
    pub(super) async fn control(&mut self, order: ControlEvent) -> Result<Answer, StoreError> {
        // What earlier commands of the batch did must be in the tables that the subtree is read from.
        self.propagate().await?;
        self.flush().await?;
        self.load_traces(vec![order.trace_id]).await?;
        let Some(trace) = self.trace(order.trace_id) else { return Ok(Answer::NotFound) };
        let top = order.task_id.unwrap_or(trace.root_task_id);
        if trace.status.is_terminal() {
            return Ok(Answer::AlreadyEnded);
        }
        if trace.cancelling {
            return Ok(Answer::AlreadyCancelling);
        }
        self.load_tasks(vec![top]).await?;
        match self.task(top) {
            Some(row) if row.trace_id != order.trace_id => return Ok(Answer::NotFound),
            Some(row) if row.state.is_ended() => return Ok(Answer::AlreadyEnded),
            Some(row) if row.state.control == Control::Cancel => return Ok(Answer::AlreadyCancelling),
            Some(_) => {}
            None => return Ok(Answer::NotFound),
        }
        let decide: fn(&TaskState) -> Result<Transition, Refusal> = match order.action {
            ControlAction::Cancel => |state| Cancel.decide(state),
            ControlAction::Pause => |state| Pause.decide(state),
            ControlAction::Run => |state| Resume.decide(state),
            // Begins a trace and is no order to one that runs.
            ControlAction::Retry => return Ok(Answer::NothingToDo),
        };
        let is_whole = order.action == ControlAction::Cancel && order.task_id.is_none();
        let rows = if is_whole { self.first_to_cancel(order.trace_id).await? } else { self.tx.open_tasks(order.trace_id, order.task_id).await? };
        let ids: Vec<TaskId> = rows.iter().map(|row| row.id).collect();
        self.adopt(rows).await?;
        let signal = match order.action {
            ControlAction::Cancel => Signal::Cancel(order.reason.as_str().into()),
            ControlAction::Pause => Signal::Pause,
            ControlAction::Run | ControlAction::Retry => Signal::GoOn,
        };
        let noted = self.out.events.len();
        let (mut changed, mut moved, mut running) = (0, 0, 0);
        for id in ids {
            let Some(row) = self.task(id) else { continue };
            let row = row.clone();
            match decide(&row.state) {
                Ok(transition) => {
                    if transition.next.stage == Stage::Claimed {
                        running += 1;
                        self.out.to_tell.push((id, signal.clone()));
                    }
                    changed += 1;
                    moved += u64::from(transition.next.stage != row.state.stage);
                    let payload = transition.event.and_then(|_| payload_of(&transition, 0));
                    self.apply(id, transition, payload)?;
                }
                Err(Refusal::AlreadyCancelling | Refusal::AlreadyEnded | Refusal::AlreadyPaused | Refusal::NotPaused) => {}
                Err(refusal) => return Err(StoreError::inconsistent("tasks", format!("{} of {id}: {refusal}", order.action))),
            }
        }
        if changed == 0 {
            return Ok(Answer::NothingToDo);
        }
        if is_whole {
            self.trace_mut(order.trace_id)?.cancelling = true;
        }
        self.tell_watchers(&order, top)?;
        self.tx.insert_control_event(&order).await?;
        self.between(Point::OrderWritten).await?;
        self.propagate().await?;
        let ended = self.out.events[noted..].iter().filter(|event| event.to.is_some_and(Status::is_terminal)).count() as u64;
        let done = match order.action {
            // What is still to be swept will not run any more either.
            ControlAction::Cancel if self.out.unswept.contains(&order.trace_id) => ended + self.trace(order.trace_id).map_or(0, |trace| trace.counts.pending),
            ControlAction::Cancel => ended,
            ControlAction::Pause | ControlAction::Run | ControlAction::Retry => moved,
        };
        Ok(Answer::Ordered { done, running })
    }

    /// Whoever watches the tree hears of a pause even where nothing in it could be held at once.
    fn tell_watchers(&mut self, order: &ControlEvent, top: TaskId) -> Result<(), StoreError> {
        let event_type = match order.action {
            ControlAction::Pause => EventType::Paused,
            ControlAction::Run => EventType::Resumed,
            ControlAction::Cancel | ControlAction::Retry => return Ok(()),
        };
        let Some(row) = self.task(top) else { return Ok(()) };
        if matches!(row.state.stage, Stage::Paused | Stage::Queued) {
            return Ok(());
        }
        let status = row.state.status();
        let payload = (!order.reason.is_empty()).then(|| Json::of(&std::collections::BTreeMap::from([("reason", &order.reason)])).ok()).flatten();
        self.note(top, event_type, Some(status), payload)
    }
}
