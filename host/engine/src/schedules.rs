//! Orders about schedules, and their next instants.

use std::sync::Arc;

use tower_domain::clock::Timestamp;
use tower_domain::control::{ControlAction, ScheduleOrder};
use tower_domain::definition::bounds;
use tower_domain::name::Name;
use tower_domain::schedule::{Plan, Schedule, ScheduleState};
use tower_domain::task::clean;
use tower_store::work::{Answer, ChangeSchedule, Command};

use crate::catalog::Loaded;
use crate::engine::Engine;
use crate::orders::StoreFailure;

/// How often an order is tried again, as the schedule fired in between.
const TRIES: u32 = 20;

/// What is wanted of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleWish {
    /// That it does not fire until it is resumed.
    Pause,
    /// That it fires again, from now on.
    Resume,
    /// That it never fires again.
    Cancel,
}

/// Why an order about a schedule was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// No such definition.
    #[error("there is no definition `{0}`")]
    UnknownDefinition(Name),
    /// It fires only when somebody triggers it.
    #[error("definition `{0}` has no schedule")]
    NotScheduled(Name),
    /// It has fired for the last time, or was cancelled.
    #[error("the schedule of definition `{id}` is {state}")]
    Ended {
        /// Whose.
        id: Name,
        /// How.
        state: ScheduleState,
    },
    /// It changes faster than an order can be given.
    #[error("the schedule of definition `{0}` changes too fast")]
    Busy(Name),
    /// The host goes down.
    #[error("the host is shutting down")]
    ShuttingDown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl Engine {
    /// Holds a schedule, has it go on, or ends it. Answers with where it stands then, and whether that is new.
    pub async fn order_schedule(&self, id: &Name, wish: ScheduleWish, by: &str, reason: &str) -> Result<(Schedule, bool), ScheduleError> {
        for _ in 0..TRIES {
            let (loaded, plan, row) = self.schedule_of(id).await?;
            let (action, state) = match (wish, row.state) {
                (ScheduleWish::Pause, ScheduleState::Paused)
                | (ScheduleWish::Resume, ScheduleState::Active)
                | (ScheduleWish::Cancel, ScheduleState::Cancelled) => return Ok((row, false)),
                (_, state @ (ScheduleState::Cancelled | ScheduleState::Completed)) => return Err(ScheduleError::Ended { id: id.clone(), state }),
                (ScheduleWish::Pause, ScheduleState::Active) => (ControlAction::Pause, ScheduleState::Paused),
                (ScheduleWish::Resume, ScheduleState::Paused) => (ControlAction::Run, ScheduleState::Active),
                (ScheduleWish::Cancel, ScheduleState::Active | ScheduleState::Paused) => (ControlAction::Cancel, ScheduleState::Cancelled),
            };
            let next = if state == ScheduleState::Active { plan.resumed(&row, self.inner.clock.now()) } else { None };
            let state = if state == ScheduleState::Active && next.is_none() { ScheduleState::Completed } else { state };
            // One that is switched off goes on when it is switched on.
            let next_at = next.filter(|_| loaded.definition.spec.is_active);
            let order = ScheduleOrder {
                id: self.inner.ids.control_event(),
                definition_id: id.clone(),
                action,
                triggered_by: clean(by, bounds::TEXT_BYTES_MAX),
                reason: clean(reason, bounds::TEXT_BYTES_MAX),
                created_at: self.inner.clock.now(),
            };
            let change = Command::ChangeSchedule(Box::new(ChangeSchedule { order, revision: row.revision, state, next_at }));
            let answer = self.inner.commits.ask(change).await.ok_or(ScheduleError::ShuttingDown)??;
            self.inner.scheduler.ring();
            if answer == Answer::Done {
                return Ok((self.schedule_of(id).await?.2, true));
            }
        }
        Err(ScheduleError::Busy(id.clone()))
    }

    /// A definition with the rules of its schedule, and where that stands.
    async fn schedule_of(&self, id: &Name) -> Result<(Arc<Loaded>, Plan, Schedule), ScheduleError> {
        let loaded = self.inner.catalog.current(id).await.map_err(StoreFailure::from)?;
        let loaded = loaded.ok_or_else(|| ScheduleError::UnknownDefinition(id.clone()))?;
        let row = self.inner.stores.schedules.find(id).await.map_err(StoreFailure::from)?;
        let plan = Plan::of(&loaded.definition.spec);
        match plan.zip(row) {
            Some((plan, row)) => Ok((loaded, plan, row)),
            None => Err(ScheduleError::NotScheduled(id.clone())),
        }
    }

    /// The next instants of a definition's schedule; none of one that is held, ended or switched off.
    pub async fn next_firings(&self, id: &Name, count: usize) -> Result<(Plan, Vec<Timestamp>), ScheduleError> {
        let (_, plan, row) = self.schedule_of(id).await?;
        let instants = std::iter::successors(row.next_at, |at| plan.next(*at, row.anchor)).take(count).collect();
        Ok((plan, instants))
    }
}
