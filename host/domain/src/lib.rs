//! The nouns and rules of Command Tower. Nothing here does I/O, reads a clock or knows SQL, HTTP or Wasm.
//!
//! In reading order:
//!
//! - [`id`]: ids as newtypes over ULIDs, and the source of new ones
//! - [`clock`]: instants in microseconds, and the clock that is handed in
//! - [`json`]: JSON text that was checked once, at the border
//! - [`name`]: what people may call things
//! - [`definition`], [`code_ref`], [`module`], [`container`]: the templates, and the code behind them
//! - [`schedule`]: when definitions fire by themselves
//! - [`limit`]: how many tasks may run at once, and how many may begin in a while
//! - [`session`]: a user's continuing work, over several traces
//! - [`trace`], [`task`]: one run, and the nodes of its tree
//! - [`event`], [`control`]: what happened, and what somebody ordered
//! - [`lifecycle`]: the state machine of a task; the only place that decides transitions
//! - [`split`]: a guest's wish for children → a checked plan, or a refusal
//! - [`aggregation`]: what becomes of a task once its children have ended
//! - [`retry`]: how long to wait before an attempt
//! - [`codes`]: every code that errors carry, with what it means and what to do
//! - [`step`]: the one interface between the tower and the code that it runs
//!
//! Invariants that everything else relies on: a terminal state never changes; every claim raises the fence; whatever a
//! running step wants to change carries the fence of its claim.

pub mod aggregation;
pub mod clock;
pub mod code_ref;
pub mod codes;
pub mod container;
pub mod control;
pub mod definition;
pub mod event;
pub mod id;
pub mod json;
pub mod lifecycle;
pub mod limit;
pub mod module;
pub mod name;
pub mod retry;
pub mod schedule;
pub mod session;
pub mod split;
pub mod step;
pub mod task;
pub mod trace;
pub mod words;
