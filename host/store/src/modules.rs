//! What is known of modules. Their bytes are in [`crate::blobs`].

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::module::{Module, ModuleTag};
use tower_domain::name::Name;

use crate::StoreError;
use crate::read::{Page, PageRequest};

/// What came of moving a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagMove {
    /// It points there now.
    Moved,
    /// The digest is not known; nothing changed.
    UnknownModule,
    /// It points elsewhere than was expected; nothing changed.
    Stale {
        /// Where, if it is there at all.
        current: Option<Digest>,
    },
}

/// Keeps what is known of modules.
#[async_trait]
pub trait ModuleStore: Send + Sync {
    /// Registers a module under a name and moves the tags to it, in one transaction. The same digest again changes nothing but the
    /// tags. Answers whether the digest is new.
    async fn add(&self, module: &Module, name: &Name, tags: &[Name], now: Timestamp) -> Result<bool, StoreError>;

    /// Moves a tag; with `expected` only if that is where it points.
    async fn set_tag(&self, name: &Name, tag: &Name, digest: &Digest, expected: Option<&Digest>, now: Timestamp) -> Result<TagMove, StoreError>;

    /// Where a reference points.
    async fn resolve(&self, module: &ModuleRef) -> Result<Option<Digest>, StoreError>;

    /// One module.
    async fn find(&self, digest: &Digest) -> Result<Option<Module>, StoreError>;

    /// Tags of a name, by tag.
    async fn tags(&self, name: &Name) -> Result<Vec<ModuleTag>, StoreError>;

    /// All tags, by name and tag. The cursor is the last name and tag.
    async fn list(&self, page: &PageRequest<(Name, Name)>) -> Result<Page<ModuleTag, (Name, Name)>, StoreError>;
}
