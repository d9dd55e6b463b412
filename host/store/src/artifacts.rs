//! Large outputs in the artifact store, as bytes that are one trace's alone, so that they can be deleted with it.
//!
//! Bytes are kept by what they are, and the same JSON may be many a task's output. So it is kept with a mark in front, which says what
//! claim came to it: nobody else has bytes like these, and their digest is a name for the JSON, not its own digest.
//!
//! A row says whose an artifact is. It is written before the bytes are, so that those of an outcome that never came to be are not lost
//! track of. Once the trace is kept no longer, the artifact is another's that has taken the result over, or nobody's; what is nobody's is
//! deleted, the bytes first. What an older tower kept has neither a mark nor a row: it is read as it is, and stays.

use async_trait::async_trait;
use tower_domain::code_ref::Digest;
use tower_domain::id::{TaskId, TraceId};

use crate::blobs::{BlobStore, digest_of};
use crate::{StoreError, Stores};

/// What stands before the digest in an `output_ref`.
pub const ARTIFACT_URL: &str = "/api/v1/artifacts/";

/// What stands before the digits of the digest there.
pub(crate) const BEFORE_DIGITS: &str = "/api/v1/artifacts/sha256:";

/// What the mark begins with: nothing that is JSON or a module.
const MARK: &[u8] = b"\0twa1\0";

/// Bytes of a whole mark: two ids and a fence follow, as text.
const MARK_BYTES: usize = MARK.len() + 26 + 26 + 16;

/// The claim that came to an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The trace that the output goes with.
    pub trace_id: TraceId,
    /// The task.
    pub task_id: TaskId,
    /// Of the claim.
    pub fence: u64,
}

impl Origin {
    fn mark(&self) -> Vec<u8> {
        let Self { trace_id, task_id, fence } = self;
        [MARK, format!("{trace_id}{task_id}{fence:016x}").as_bytes()].concat()
    }
}

/// Keeps whose artifacts are.
#[async_trait]
pub trait ArtifactStore: Send + Sync {
    /// Notes whose bytes these will be. False: the trace is not there any more, so that nobody would ever delete them.
    async fn own(&self, digest: &Digest, trace: TraceId) -> Result<bool, StoreError>;

    /// Some that are nobody's.
    async fn ownerless(&self, limit: u32) -> Result<Vec<Digest>, StoreError>;

    /// Forgets those of them that are nobody's: their bytes are deleted.
    async fn forget(&self, digests: &[Digest]) -> Result<(), StoreError>;
}

/// Keeps an output, and answers its name. None: its trace is not there any more.
pub async fn put(stores: &Stores, origin: Origin, json: &str) -> Result<Option<Digest>, StoreError> {
    let mut bytes = origin.mark();
    bytes.extend_from_slice(json.as_bytes());
    if !stores.artifacts.own(&digest_of(&bytes), origin.trace_id).await? {
        return Ok(None);
    }
    stores.blobs.put(bytes).await.map(Some)
}

/// The JSON of an output; none: there is no output of this name. Modules and archives are kept in the same place, and are none.
pub async fn get(blobs: &dyn BlobStore, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(mut bytes) = blobs.get(digest).await? else { return Ok(None) };
    if bytes.starts_with(MARK) && bytes.len() > MARK_BYTES {
        bytes.drain(..MARK_BYTES);
    }
    Ok(Some(bytes).filter(|bytes| !bytes.starts_with(b"\0")))
}

/// Where an output of this name is read.
pub fn url_of(digest: &Digest) -> String {
    format!("{ARTIFACT_URL}{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::MemoryBlobs;

    #[test]
    fn a_mark_has_its_length_and_an_url_its_beginning() {
        for fence in [0, 1, u64::MAX] {
            let origin = Origin { trace_id: TraceId::from_bytes([0xFF; 16]), task_id: TaskId::from_bytes([0; 16]), fence };
            assert_eq!(origin.mark().len(), MARK_BYTES);
        }
        assert_eq!(url_of(&Digest([0xAB; 32])), format!("{BEFORE_DIGITS}{}", "ab".repeat(32)));
    }

    #[tokio::test]
    async fn what_an_older_tower_kept_is_read_and_what_is_no_output_is_not() {
        let blobs = MemoryBlobs::default();
        let origin = Origin { trace_id: TraceId::from_bytes([1; 16]), task_id: TaskId::from_bytes([2; 16]), fence: 3 };
        let marked = [origin.mark().as_slice(), b"[1]"].concat();
        for (kept, read) in [(marked, Some("[1]")), (b"[1]".to_vec(), Some("[1]")), (b"\0asm\x01".to_vec(), None), (b"\0tws2\0x".to_vec(), None)] {
            let digest = blobs.put(kept).await.unwrap();
            assert_eq!(get(&blobs, &digest).await.unwrap().as_deref(), read.map(str::as_bytes));
        }
        assert_eq!(get(&blobs, &Digest([9; 32])).await.unwrap(), None);
    }
}
