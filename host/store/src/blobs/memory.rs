//! Bytes in memory: for `tower run` and for tests.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tower_domain::code_ref::Digest;

use super::BlobStore;
use crate::StoreError;

/// Keeps bytes until the process ends.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs {
    bytes: Arc<Mutex<HashMap<Digest, Vec<u8>>>>,
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = digest_of(&bytes);
        self.bytes.lock().insert(digest, bytes);
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.bytes.lock().get(digest).cloned())
    }

    async fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        self.bytes.lock().remove(digest);
        Ok(())
    }
}

/// What bytes are called.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}
