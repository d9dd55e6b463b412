//! How a step's code runs. Knows only the domain: [`tower_domain::step`] is the interface on one side, the sandbox the other.
//!
//! - [`wasm`]: uploaded components, run in this process
//!
//! What every executor keeps to: whatever the code does, [`run`](tower_domain::step::Executor::run) answers within the step's
//! timeout, with a [`StepEnd`](tower_domain::step::StepEnd) whose code is stable and whose text is fit for a terminal.

pub mod wasm;
