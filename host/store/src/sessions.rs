//! What is known of sessions. Their files are not here.

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Digest;
use tower_domain::id::SessionId;
use tower_domain::session::{Session, SessionStatus};

use crate::StoreError;
use crate::read::{Page, PageRequest};

/// Which sessions. Newest first; what the filter leaves out is walked over.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Of this user.
    pub user_id: Option<String>,
    /// Standing there.
    pub status: Option<SessionStatus>,
}

/// What came of closing a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// It is closed; or was before.
    Closed,
    /// A trace of it has not ended; nothing changed.
    InUse,
    /// There is none.
    NotFound,
}

/// Keeps what is known of sessions. "In use" is one with a trace that has not ended.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// A new one.
    async fn create(&self, session: &Session) -> Result<(), StoreError>;

    /// One of them.
    async fn find(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// Newest first.
    async fn list(&self, filter: &SessionFilter, page: &PageRequest<SessionId>) -> Result<Page<Session, SessionId>, StoreError>;

    /// It is used: an idle one is active again. As it is then; nothing: there is none.
    async fn touch(&self, id: SessionId, now: Timestamp) -> Result<Option<Session>, StoreError>;

    /// It was used, and its workspace holds so much.
    async fn measured(&self, id: SessionId, bytes: u64, files: u64, now: Timestamp) -> Result<(), StoreError>;

    /// Those become idle that are not in use and were not used since. How many.
    async fn idle(&self, since: Timestamp) -> Result<u64, StoreError>;

    /// Idle ones that were not used since, those that waited longest first.
    async fn archivable(&self, since: Timestamp, limit: u32) -> Result<Vec<Session>, StoreError>;

    /// An idle one is archived, unless it is in use or was used since `last_used_at`. Whether it is.
    async fn archived(&self, id: SessionId, last_used_at: Timestamp, pieces: &[Digest]) -> Result<bool, StoreError>;

    /// Its workspace is back: an archived one is active again.
    async fn restored(&self, id: SessionId) -> Result<(), StoreError>;

    /// It takes no more traces, unless it is in use.
    async fn close(&self, id: SessionId, now: Timestamp) -> Result<Closing, StoreError>;

    /// Those that were closed before, and whose files are not gone yet.
    async fn purgeable(&self, closed_before: Timestamp, limit: u32) -> Result<Vec<Session>, StoreError>;

    /// Its files are gone.
    async fn purged(&self, id: SessionId) -> Result<(), StoreError>;
}
