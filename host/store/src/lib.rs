//! Durable truth behind traits that are named after their callers. One method is one transaction.
//!
//! In reading order:
//!
//! - [`work`]: what moves tasks: a [`Batch`](work::Batch) of commands in, what came of it out
//! - [`read`]: what readers ask
//! - [`definitions`], [`modules`], [`blobs`]: what people put in; [`tags`]: modules' tags, remembered for a moment
//! - [`schedules`]: which definitions fire by themselves, and when next
//! - [`sessions`]: users' continuing work over several traces
//! - [`artifacts`]: large outputs among the bytes, and which trace they go with
//! - [`retention`]: what is kept no longer
//! - [`hosts`], [`news`]: who works on the database, and what they tell each other
//! - `apply`: one batch as a unit of work, the same for every back end: loads rows, asks `tower_domain::lifecycle`, writes rows
//! - `rows`: between columns and the domain, the same for every back end
//! - [`sqlite`]: the embedded back end; [`postgres`]: the one for many hosts
//! - [`invariants`]: what must hold of any database, checked by tests and by operators
//! - [`fault`]: for tests: places where a process can be made to die, guards that can be switched off; in no release build
//!
//! Invariants: no row type leaves its back end's folder; a step's outcome, its children, the counters that it changes, the dependents
//! that it releases and its events are written in one transaction or not at all; a write that carries a stale fence changes nothing.

pub mod artifacts;
pub mod blobs;
pub mod definitions;
pub mod fault;
pub mod hosts;
pub mod invariants;
pub mod modules;
pub mod news;
pub mod postgres;
pub mod read;
pub mod retention;
pub mod schedules;
pub mod sessions;
pub mod sqlite;
pub mod tags;
pub mod work;

mod apply;
mod error;
mod rows;

pub use error::StoreError;

use std::sync::Arc;

/// Everything that a host needs of a database, as handed on at start.
#[derive(Clone)]
pub struct Stores {
    /// Moves tasks.
    pub work: Arc<dyn work::WorkStore>,
    /// Answers readers.
    pub read: Arc<dyn read::Reader>,
    /// Keeps definitions.
    pub definitions: Arc<dyn definitions::DefinitionStore>,
    /// Keeps what is known of modules.
    pub modules: Arc<dyn modules::ModuleStore>,
    /// Answers about schedules.
    pub schedules: Arc<dyn schedules::ScheduleStore>,
    /// Keeps what is known of sessions.
    pub sessions: Arc<dyn sessions::SessionStore>,
    /// Keeps what is known of hosts.
    pub hosts: Arc<dyn hosts::HostStore>,
    /// Keeps whose large outputs are.
    pub artifacts: Arc<dyn artifacts::ArtifactStore>,
    /// Deletes what is kept no longer.
    pub retention: Arc<dyn retention::RetentionStore>,
    /// What hosts tell each other.
    pub news: Arc<dyn news::Newsroom>,
    /// Keeps bytes: modules and large outputs.
    pub blobs: Arc<dyn blobs::BlobStore>,
}
