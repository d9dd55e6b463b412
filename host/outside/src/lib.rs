//! Steps whose code runs outside of the host's process. Knows only the domain: [`tower_domain::step`] is the interface on one side, REST
//! and the Docker Engine the other.
//!
//! In reading order:
//!
//! - [`wire`]: what a step and its code say to each other, as JSON
//! - [`desk`]: the attempts that are under way outside, each with a token of its own: where the four powers are reached from
//! - [`ends`]: how an attempt ended → how the step ended
//! - `answer`: a step that is posted, and what the answer to that says
//! - [`queue`]: workers that fetch steps
//! - [`push`]: workers that are called
//! - [`docker`]: steps in containers
//!
//! What holds: a token is good for one attempt and nothing else, and dies with it; an attempt ends once, and whoever ended it is told
//! whether that was kept; whatever the code does, [`run`](tower_domain::step::Executor::run) answers within the step's timeout; what comes
//! from outside is checked, and its text cleaned, before anybody else sees it.

mod answer;
pub mod desk;
pub mod docker;
pub mod ends;
pub mod push;
pub mod queue;
pub mod wire;
