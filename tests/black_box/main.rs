//! The tower from outside: the real binary, real components, a real database file, and nothing but HTTP and the command line.
//!
//! One program for all of it, since each further one links the whole runtime again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod artifacts;
mod bombs;
mod bulk;
mod cancel;
mod cli;
#[cfg(target_os = "linux")]
mod containers;
mod crash;
mod events;
mod executors;
#[cfg(all(unix, debug_assertions))]
mod faults;
mod hold;
mod host;
mod limits;
mod loops;
mod many;
mod misbehaving;
mod night;
mod rest;
mod retention;
mod sandbox;
mod schedules;
mod sessions;
mod task_service;
mod trees;
