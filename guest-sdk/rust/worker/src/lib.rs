//! Work on steps of a Command Tower from outside.
//!
//! ```no_run
//! use command_tower_worker::{Outcome, StepError, Worker};
//!
//! # async fn doc() -> Result<(), command_tower_worker::Error> {
//! Worker::new("http://127.0.0.1:8001", "gpu")
//!     .concurrency(2)
//!     .run(std::future::pending::<()>(), |task| async move {
//!         let params: serde_json::Value = task.params()?;
//!         task.progress(50, "half way").await;
//!         if task.is_cancelled() {
//!             return Err(StepError::Cancelled);
//!         }
//!         Ok(Outcome::done(&params)?)
//!     })
//!     .await
//! # }
//! ```
//!
//! - [`Worker`]: fetches steps of `worker://queue` and works on several at a time
//! - [`work_on`]: works on one step that came otherwise, such as by POST to an `http://…` worker
//! - [`run_command`]: works on the step of a `docker://…` container, which is the program's standard input
//! - [`Task`]: the step, and its four powers: read, split, report, hear what the outside wants
//! - [`Outcome`], [`StepError`]: how it ends
//!
//! What holds: while a step is worked on, the tower is told so often enough that the step is kept; a step that was lost to somebody else is
//! dropped where it waits; an end whose answer got lost is told again, and counts once.

mod client;
#[cfg(unix)]
mod command;
mod task;
mod wire;
mod worker;

pub use client::Error;
#[cfg(unix)]
pub use command::run_command;
pub use task::{Outcome, Signal, StepError, Task};
pub use wire::{Child, Handed, Level, RunOn, Summary, TaskResult};
pub use worker::{Worker, work_on};
