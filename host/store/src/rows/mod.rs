//! Between columns and the domain, the same for every back end: what is not SQL.
//!
//! In reading order:
//!
//! - `words`: words as small integers
//! - `columns`: reading a row's columns one after the other; `bind`: handing a row's values over, likewise
//! - `nouns`: what readers are told: traces, tasks, events, definitions, modules, schedules
//! - `work`: what a batch reads and writes
//! - `hosts`, `limits`, `sessions`: likewise, of these
//! - `pages`: cursors and filters of lists
//! - `checks`: the queries behind the invariants

pub(crate) mod bind;
pub(crate) mod checks;
pub(crate) mod columns;
pub(crate) mod hosts;
pub(crate) mod limits;
pub(crate) mod nouns;
pub(crate) mod pages;
pub(crate) mod sessions;
pub(crate) mod words;
pub(crate) mod work;

pub(crate) use bind::Bind;
pub(crate) use columns::{Cells, Columns, Id};
