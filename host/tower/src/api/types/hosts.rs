//! Hosts in bodies.

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_store::hosts::{HostBeat, HostRow};
use utoipa::ToSchema;

/// A host of this tower's database, as it was seen last.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Host)]
pub(crate) struct HostBody {
    /// What its leases are held under.
    pub(crate) id: String,
    /// Of the program.
    pub(crate) version: String,
    /// Whether it was seen of late, and did not say that it goes.
    pub(crate) alive: bool,
    /// Whether it was ordered to take no more work.
    pub(crate) draining: bool,
    /// Steps that ran when it was seen last.
    pub(crate) running: u32,
    /// Steps that it runs at the same time.
    pub(crate) slots: u32,
    /// Where the others reach it, if it says so.
    pub(crate) url: Option<String>,
    /// Whether it is the one that answers.
    pub(crate) this: bool,
    /// When its present life began.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) seen_at: Timestamp,
    /// When it went in peace.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) left_at: Option<Timestamp>,
}

impl HostBody {
    /// From what the store knows.
    pub(crate) fn of(row: HostRow, alive: bool, this: bool) -> Self {
        let HostRow { beat: HostBeat { id, version, started_at, slots, running, url }, seen_at, draining, left_at } = row;
        Self { id, version, alive, draining, running, slots, url, this, started_at, seen_at, left_at }
    }
}
