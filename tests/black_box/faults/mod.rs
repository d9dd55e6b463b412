//! Faults: what becomes of everything when the host dies at any place, the disk is full, or the database is in other hands.
//!
//! - `load`: work that passes every place, and the client's book of what was acknowledged
//! - `check`: what must hold afterwards; one checker for all, the runs with a guard off included
//! - `points`: the host dies at each named place; `kills`: a hundred kills at random moments
//! - `guards`: with a guard off, the checker must find something
//! - `storage`: full, locked, damaged, out of reach; `process`: signals, descriptors, many leases, a task that kills its host
//! - `machine`: a disk that can be filled, a network that can be cut
//! - `hosts`: several hosts on one PostgreSQL that are killed, frozen and cut off, and whose database goes away
//!
//! The host that is started has faults only in a build with debug assertions (see `tower_store::fault`), and so has this module.

mod check;
mod guards;
mod hosts;
mod kills;
mod load;
mod machine;
mod points;
mod process;
mod storage;
