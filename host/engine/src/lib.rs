//! What moves tasks: claims, runs, commits. Knows the domain and the store's traits, never Wasmtime or HTTP.
//!
//! In reading order:
//!
//! - [`config`]: what an operator may set
//! - [`orders`]: what the outside may ask of an [`Engine`], and the answers
//! - `engine`: the facade, and starting and stopping
//! - `inner`: what its parts share
//! - `commit`, `committer`: group commit: one writer, one transaction at a time, whatever gathered meanwhile in the next
//! - `pipeline`: slots and running steps; `ahead`: claims that wait for a slot
//! - `sessions`: the workspace of a step's session, before and after it
//! - `step_host`: the four powers of a step, for every executor; `observer`: what steps report until it is written
//! - `ledger`: for tests: what steps did, told by another witness than the database
//! - `running`: the claims that this host holds; `journal`: which of them to suspect after a crash
//! - `scheduler`: fires definitions at their instants; [`schedules`]: orders about that
//! - `retention`: deletes traces that ended long ago, and their large outputs
//! - `hosts`: this host among others on one database
//! - `catalog`: definitions in memory, and schemas compiled once
//! - [`feed`]: live events to any number of readers, bounded
//!
//! Invariants: a caller hears of something only after it is durable; every claim that is taken is settled, given back, or lapses with
//! its lease; nothing here decides a transition.

pub mod config;
pub mod feed;
pub mod orders;
pub mod schedules;

mod ahead;
mod catalog;
mod commit;
mod committer;
mod engine;
mod hosts;
mod inner;
mod journal;
mod ledger;
mod observer;
mod pipeline;
mod retention;
mod running;
mod scheduler;
mod sessions;
mod step_host;

pub use config::EngineConfig;
pub use engine::{Engine, StartError};
pub use tower_store::artifacts::ARTIFACT_URL;
