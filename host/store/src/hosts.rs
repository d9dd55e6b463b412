//! The hosts of one database, and what is ordered of them.

use std::time::Duration;

use async_trait::async_trait;
use tower_domain::clock::Timestamp;

use crate::StoreError;

/// How long a host that is not seen any more is remembered.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBeat {
    /// Its name, under which it holds leases.
    pub id: String,
    /// Of the program.
    pub version: String,
    /// When this life of it began.
    pub started_at: Timestamp,
    /// Steps that it runs at the same time.
    pub slots: u32,
    /// Steps that it runs now.
    pub running: u32,
    /// Where the others reach it, if it says so.
    pub url: Option<String>,
}

/// A host, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRow {
    /// What it said.
    pub beat: HostBeat,
    /// When.
    pub seen_at: Timestamp,
    /// Whether it is to take no more work.
    pub draining: bool,
    /// When it went in peace, if it did.
    pub left_at: Option<Timestamp>,
}

/// What a host is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Whether it is to take no more work.
    pub draining: bool,
    /// Other hosts that were seen of late.
    pub others: u32,
}

/// Keeps what is known of hosts.
#[async_trait]
pub trait HostStore: Send + Sync {
    /// A host lives. Others count for so long after they were seen. A new life of a host is ordered nothing.
    async fn beat(&self, beat: &HostBeat, now: Timestamp, others_within: Duration) -> Result<Told, StoreError>;

    /// A host goes in peace.
    async fn leave(&self, id: &str, now: Timestamp) -> Result<(), StoreError>;

    /// All hosts that are remembered, by name.
    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError>;

    /// Orders a host to take no more work, or to take work again. False: there is no such host.
    async fn drain(&self, id: &str, draining: bool) -> Result<bool, StoreError>;
}
