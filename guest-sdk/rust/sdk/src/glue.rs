//! Between the contract's types and the author's function.

use serde::de::DeserializeOwned;

use crate::__private::{RawError, RawOutcome, RawSummary, RawTask};
use crate::error::Result;
use crate::outcome::IntoOutcome;
use crate::results::{Results, Summary};
use crate::task::Task;

/// Runs the author's step on a task as it came over the border.
pub fn run_step<P, R>(task: RawTask, step: impl FnOnce(Task<P>) -> Result<R>) -> Result<RawOutcome, RawError>
where
    P: DeserializeOwned,
    R: IntoOutcome,
{
    Task::read(task).and_then(step).and_then(IntoOutcome::into_outcome).map_err(RawError::from)
}

/// Runs the author's aggregate on a task as it came over the border.
pub fn run_aggregate<P, R>(task: RawTask, summary: RawSummary, aggregate: impl FnOnce(Task<P>, Results) -> Result<R>) -> Result<RawOutcome, RawError>
where
    P: DeserializeOwned,
    R: IntoOutcome,
{
    let RawSummary { expected, succeeded, failed, cancelled, skipped } = summary;
    let results = Results::new(Summary { expected, succeeded, failed, cancelled, skipped });
    Task::read(task).and_then(|task| aggregate(task, results)).and_then(IntoOutcome::into_outcome).map_err(RawError::from)
}
