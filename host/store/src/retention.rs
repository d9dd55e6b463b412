//! What is kept no longer: ended traces, with all that is known of them.
//!
//! A trace goes in pieces, so that no transaction is long: its own row first, with what refers to it, and from then on it is not there for
//! anybody who asks; then its events and tasks, over as many transactions as they take; last, its artifacts are passed on to those who have
//! taken its results over, or are nobody's from then on ([`crate::artifacts`]). What was begun is remembered and gone on with, by whichever
//! host comes next.

use std::time::Duration;

use async_trait::async_trait;
use tower_domain::clock::Timestamp;

use crate::StoreError;

/// Traces that one transaction deals with.
pub(crate) const TRACES_MAX: usize = 50;

/// What one piece of work came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retired {
    /// Traces that are not there any more.
    pub traces: u64,
    /// Rows of events and tasks that were deleted, and artifacts that were passed on.
    pub rows: u64,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// Deletes what is kept no longer.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// Deletes up to `rows_max` rows of traces that ended longer ago than `kept`, the longest first. Only one host at a time does so; where
    /// another does, there is nothing to do.
    async fn retire(&self, now: Timestamp, kept: Duration, rows_max: u32) -> Result<Retired, StoreError>;
}
