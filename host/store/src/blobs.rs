//! Bytes by what they are: modules and large outputs, keyed by SHA-256.

use async_trait::async_trait;
use tower_domain::code_ref::Digest;

use crate::StoreError;

mod folder;
mod memory;

pub use folder::FolderBlobs;
pub use memory::MemoryBlobs;

/// Keeps bytes.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Keeps bytes durably and answers their digest. The same bytes twice are kept once.
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, StoreError>;

    /// The bytes; none: not here.
    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError>;
}
