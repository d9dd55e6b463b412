//! Bytes, on both of their stores.

use tower_domain::code_ref::Digest;
use tower_store::blobs::{BlobStore, FolderBlobs, MemoryBlobs};

async fn bytes_are_kept_by_what_they_are(blobs: &dyn BlobStore) {
    let digest = blobs.put(b"abc".to_vec()).await.unwrap();
    assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(blobs.put(b"abc".to_vec()).await.unwrap(), digest);
    assert_eq!(blobs.get(&digest).await.unwrap().unwrap(), b"abc");
    assert_eq!(blobs.get(&Digest([0; 32])).await.unwrap(), None);
    let empty = blobs.put(Vec::new()).await.unwrap();
    assert_eq!(blobs.get(&empty).await.unwrap().unwrap(), b"");
}

#[tokio::test]
async fn in_memory() {
    bytes_are_kept_by_what_they_are(&MemoryBlobs::default()).await;
}

#[tokio::test]
async fn in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    bytes_are_kept_by_what_they_are(&FolderBlobs::open(folder.path()).unwrap()).await;
}

#[tokio::test]
async fn many_writers_of_the_same_bytes_leave_one_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path().join("made/here")).unwrap();
    let bytes = vec![7u8; 100_000];
    let puts = (0..20).map(|_| blobs.put(bytes.clone()));
    let digests = futures::future::try_join_all(puts).await.unwrap();
    assert_eq!(blobs.get(&digests[0]).await.unwrap().unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path().join("made/here/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_a_cut_one_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).unwrap();
    let digest = blobs.put(b"abc".to_vec()).await.unwrap();
    std::fs::write(blobs.path_of(&digest), b"abX").unwrap();
    assert!(blobs.get(&digest).await.unwrap_err().to_string().contains("reading"));
    std::fs::write(blobs.path_of(&digest), b"ab").unwrap();
    blobs.put(b"abc".to_vec()).await.unwrap();
    assert_eq!(blobs.get(&digest).await.unwrap().unwrap(), b"abc");
}

#[tokio::test]
async fn what_a_crash_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let digest = FolderBlobs::open(folder.path()).unwrap().put(b"abc".to_vec()).await.unwrap();
    std::fs::write(folder.path().join("tmp/17"), b"half").unwrap();
    let blobs = FolderBlobs::open(folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(blobs.get(&digest).await.unwrap().unwrap(), b"abc");
}
