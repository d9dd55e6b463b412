//! Somebody ends a trace or a subtree.

use tower_domain::control::{Control, ControlEvent};
use tower_domain::lifecycle::{Cancel, Refusal, Stage};

use tower_domain::task::Status;

use super::settle::payload_of;
use super::unit::Unit;
use crate::StoreError;
use crate::fault::Point;
use crate::work::Answer;

impl Unit<'_> {
    pub(super) async fn cancel(&mut self, order: ControlEvent) -> Result<Answer, StoreError> {
        // What earlier commands of the batch did must be in the tables that the subtree is read from.
        self.propagate().await?;
        self.flush().await?;
        self.load_traces(vec![order.trace_id]).await?;
        let Some(trace) = self.trace(order.trace_id) else { return Ok(Answer::NotFound) };
        if trace.status.is_terminal() {
            return Ok(Answer::AlreadyEnded);
        }
        if trace.cancelling {
            return Ok(Answer::AlreadyCancelling);
        }
        if let Some(id) = order.task_id {
            self.load_tasks(vec![id]).await?;
            match self.task(id) {
                Some(row) if row.trace_id != order.trace_id => return Ok(Answer::NotFound),
                Some(row) if row.state.is_ended() => return Ok(Answer::AlreadyEnded),
                Some(row) if row.state.control == Control::Cancel => return Ok(Answer::AlreadyCancelling),
                Some(_) => {}
                None => return Ok(Answer::NotFound),
            }
        } else {
            self.trace_mut(order.trace_id)?.cancelling = true;
        }
        self.tx.insert_control_event(&order).await?;
        self.between(Point::OrderWritten).await?;
        let rows = self.tx.open_tasks(order.trace_id, order.task_id).await?;
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        self.adopt(rows).await?;
        let noted = self.out.events.len();
        let mut running = 0;
        for id in ids {
            let Some(row) = self.task(id) else { continue };
            let row = row.clone();
            match Cancel.decide(&row.state) {
                Ok(transition) => {
                    match transition.next.stage {
                        Stage::Claimed => {
                            running += 1;
                            self.out.to_cancel.push((id, order.reason.clone()));
                        }
                        Stage::Ended(_) | Stage::Scheduled | Stage::WaitingDeps | Stage::Backoff | Stage::Queued | Stage::WaitingChildren => {}
                    }
                    let payload = transition.event.and_then(|_| payload_of(&transition, 0));
                    self.apply(id, transition, payload)?;
                }
                Err(Refusal::AlreadyCancelling | Refusal::AlreadyEnded) => {}
                Err(refusal) => return Err(StoreError::inconsistent("tasks", format!("cancel of {id}: {refusal}"))),
            }
        }
        self.propagate().await?;
        let ended = self.out.events[noted..].iter().filter(|event| event.to.is_some_and(Status::is_terminal)).count() as u64;
        Ok(Answer::Cancelled { ended, running })
    }
}
