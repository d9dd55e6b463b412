//! How the host is, in bodies.

use serde::{Deserialize, Serialize};
use tower_engine::orders::Load;
use utoipa::ToSchema;

/// The process is there.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    pub(crate) status: String,
    /// The host's version.
    pub(crate) version: String,
}

impl Health {
    /// It is.
    pub(crate) fn ok() -> Self {
        Self { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// Whether the host takes work.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready` or `not_ready`.
    pub(crate) status: String,
    /// Whether the database answers and can be written, and what was to be written last was written.
    pub(crate) database: bool,
    /// Whether work is being taken.
    pub(crate) accepting: bool,
    /// Steps that run.
    pub(crate) running: u32,
    /// Steps that may run at the same time.
    pub(crate) slots: u32,
}

impl Readiness {
    /// From what the parts say.
    pub(crate) fn of(database: bool, load: Load) -> Self {
        let ready = database && load.accepting;
        let status = if ready { "ready" } else { "not_ready" }.to_owned();
        Self { status, database, accepting: load.accepting, running: load.running, slots: load.slots }
    }

    /// Whether it is.
    pub(crate) fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}
