//! What hosts of one database tell each other, so that none has to ask all the time.
//!
//! News only wake: whoever hears looks at the database, and whoever hears nothing looks from time to time. So news that are lost cost
//! time and nothing else.

use async_trait::async_trait;
use tower_domain::id::TraceId;

use crate::StoreError;

/// Something that others may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// There are tasks that can be claimed.
    Work,
    /// Running tasks are wanted to do something else.
    Orders,
    /// Something happened in these traces.
    Traces(Vec<TraceId>),
    /// Definitions have changed.
    Definitions,
    /// Hosts are ordered something.
    Hosts,
    /// Some may have been lost: anything may have happened.
    Anything,
}

/// Where news come from.
#[async_trait]
pub trait Newsroom: Send + Sync {
    /// Hears of what happens from now on, but for what this host does itself.
    async fn listen(&self, host: &str) -> Result<Box<dyn Listener>, StoreError>;
}

/// Hears news.
#[async_trait]
pub trait Listener: Send {
    /// Waits for the next. After an error it is of no use any more.
    async fn next(&mut self) -> Result<News, StoreError>;
}
