//! The tower from outside: the real binary, real components, a real database file, and nothing but HTTP and the command line.
//!
//! One program for all of it, since each further one links the whole runtime again.

mod cancel;
mod cli;
mod crash;
mod events;
mod host;
mod rest;
mod sandbox;
mod trees;
