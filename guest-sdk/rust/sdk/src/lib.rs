//! Write a step of an agent workflow as a plain function; Command Tower runs it as a sandboxed WebAssembly component.
//!
//! ```
//! use command_tower::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Params {
//!     cities: Vec<String>,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Output {
//!     warmest: f64,
//! }
//!
//! /// Asks for the weather of every city at the same time.
//! #[command_tower::step]
//! fn run(task: Task<Params>) -> Result<Output> {
//!     let mut children = Vec::new();
//!     for city in &task.params.cities {
//!         children.push(Child::new(city, "weather").params(&json!({ "city": city }))?.priority(8));
//!     }
//!     split(children)?;
//!     report::progress(50, "asked");
//!     Ok(Output { warmest: f64::NAN })
//! }
//!
//! /// Runs when all of them have ended.
//! #[command_tower::aggregate]
//! fn fold(_task: Task<Params>, results: Results) -> Result<Output> {
//!     let mut warmest = f64::MIN;
//!     for result in results {
//!         check_cancel()?;
//!         if result.succeeded() {
//!             warmest = warmest.max(result.output::<f64>()?);
//!         }
//!     }
//!     Ok(Output { warmest })
//! }
//! # fn main() {}
//! ```
//!
//! Build it with `cargo build --release --target wasm32-wasip2` (`crate-type = ["cdylib"]`). The component exports what has
//! an attribute, and imports of the tower what the code calls.
//!
//! In reading order:
//! - [`step`] and [`aggregate`]: the two functions of a component;
//! - [`Task`]: what a function is given; [`TaskResult`] and [`Results`]: what others came to;
//! - [`Error`] and [`Outcome`]: how it ends;
//! - [`split()`] and [`Child`]: handing work on;
//! - [`report`] and [`log`]: telling the outside; [`check_cancel`], [`signal`] and [`sleep`]: hearing it;
//! - [`testing`]: calling a step in an ordinary `cargo test`.
//!
//! Every attempt runs in a fresh instance: statics begin anew, and nothing but the task's output is left behind. Params and outputs are
//! JSON, up to 1 MiB each unless the host says less.
#![warn(missing_docs)]

mod bindings;
mod child;
mod control;
mod error;
mod glue;
mod host;
pub mod log;
mod outcome;
pub mod report;
mod results;
mod task;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use child::{Child, Refusal, RunOn, SplitError, split};
pub use command_tower_sdk_macros::{aggregate, step};
pub use control::{Signal, check_cancel, signal, sleep, sleep_signal};
pub use error::{Error, Result};
pub use outcome::{IntoOutcome, Outcome, State};
pub use results::{Results, Summary};
pub use serde_json::{Value, json};
pub use task::{Actor, Fault, Status, Task, TaskResult};

/// Everything that most steps use, for one `use` line.
pub mod prelude {
    pub use crate::{
        Actor, Child, Error, Outcome, Result, Results, RunOn, Signal, Status, Task, TaskResult, Value, check_cancel, json, log, report, signal, sleep, split,
    };
}

/// What the attributes expand to. Not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::agent as step;
    pub use crate::bindings::agent::export_step;
    pub use crate::bindings::agent::exports::command_tower::agent::step::Guest as StepGuest;
    pub use crate::bindings::fold;
    pub use crate::bindings::fold::export_aggregate;
    pub use crate::bindings::fold::exports::command_tower::agent::aggregate::{Guest as AggregateGuest, Summary as RawSummary};
    pub use crate::bindings::types::{Outcome as RawOutcome, StepError as RawError, Task as RawTask};
    pub use crate::glue::{run_aggregate, run_step};
    pub use crate::log::write;
    pub use serde_json;
}
