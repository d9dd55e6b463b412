//! Bytes by what they are: modules and large outputs, keyed by SHA-256.

use async_trait::async_trait;
use tower_domain::code_ref::Digest;

use crate::StoreError;

mod folder;
mod memory;
mod objects;

pub use folder::FolderBlobs;
pub use memory::MemoryBlobs;
pub(crate) use memory::digest_of;
pub use objects::{ObjectBlobs, SCHEME as OBJECTS_SCHEME, bucket_of};

/// Keeps bytes.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Keeps bytes durably and answers their digest. The same bytes twice are kept once.
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, StoreError>;

    /// The bytes; none: not here.
    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError>;

    /// The bytes are kept no longer; that they were not here is the same. For whoever knows that nobody else has bytes like these.
    async fn delete(&self, digest: &Digest) -> Result<(), StoreError>;
}
