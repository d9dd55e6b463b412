//! Definitions and their versions.

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::definition::{Definition, DefinitionSpec};
use tower_domain::name::Name;

use crate::StoreError;
use crate::read::{Page, PageRequest};

/// What came of putting a definition.
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// It is new.
    Created(Definition),
    /// It has a new version.
    Updated(Definition),
    /// It says what it said before: no new version.
    Unchanged(Definition),
    /// It has moved on since the version that the caller saw.
    Stale {
        /// Where it is now; 0: it does not exist.
        current: u32,
    },
}

/// Which definitions. By id.
#[derive(Debug, Clone, Default)]
pub struct DefinitionFilter {
    /// Of this owner.
    pub user_id: Option<String>,
    /// Only those that can be triggered.
    pub active: Option<bool>,
}

/// Keeps definitions.
#[async_trait]
pub trait DefinitionStore: Send + Sync {
    /// Makes a version. With `expected`: only if that is the current version (0: only if there is none).
    async fn put(&self, id: &Name, spec: &DefinitionSpec, expected: Option<u32>, now: Timestamp) -> Result<Put, StoreError>;

    /// The current version.
    async fn find(&self, id: &Name) -> Result<Option<Definition>, StoreError>;

    /// One version.
    async fn find_version(&self, id: &Name, version: u32) -> Result<Option<Definition>, StoreError>;

    /// The version that was current at an instant; the first one if it was made later.
    async fn find_as_of(&self, id: &Name, at: Timestamp) -> Result<Option<Definition>, StoreError>;

    /// Current versions, by id.
    async fn list(&self, filter: &DefinitionFilter, page: &PageRequest<Name>) -> Result<Page<Definition, Name>, StoreError>;
}
