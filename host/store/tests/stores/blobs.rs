//! Bytes, wherever they are kept.

use tower_domain::code_ref::Digest;
use tower_store::StoreError;
use tower_store::blobs::{BlobStore, FolderBlobs, MemoryBlobs, ObjectBlobs};
use tower_test_objects::{Server, environment_at};

async fn bytes_are_kept_by_what_they_are(blobs: &dyn BlobStore) {
    let digest = blobs.put(b"abc".to_vec()).await.unwrap();
    assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(blobs.put(b"abc".to_vec()).await.unwrap(), digest);
    assert_eq!(blobs.get(&digest).await.unwrap().unwrap(), b"abc");
    assert_eq!(blobs.get(&Digest([0; 32])).await.unwrap(), None);
    let empty = blobs.put(Vec::new()).await.unwrap();
    assert_eq!(blobs.get(&empty).await.unwrap().unwrap(), b"");
    let large: Vec<u8> = (0..3u32 << 20).map(|number| (number % 251) as u8).collect();
    let gone = blobs.put(b"gone".to_vec()).await.unwrap();
    for _ in 0..2 {
        blobs.delete(&gone).await.unwrap();
        assert_eq!(blobs.get(&gone).await.unwrap(), None);
    }
    assert_eq!(blobs.put(b"gone".to_vec()).await.unwrap(), gone, "it may come again");
    blobs.delete(&gone).await.unwrap();
    let puts = futures::future::join_all((0..4).map(|_| blobs.put(large.clone()))).await;
    for digest in puts {
        assert_eq!(blobs.get(&digest.unwrap()).await.unwrap().unwrap(), large);
    }
}

#[tokio::test]
async fn in_memory() {
    bytes_are_kept_by_what_they_are(&MemoryBlobs::default()).await;
}

#[tokio::test]
async fn in_postgresql() {
    let database = tower_test_postgres::Cluster::shared().database();
    let store = crate::backends::host(&database).await;
    bytes_are_kept_by_what_they_are(&store).await;
    let digest = store.put(vec![7; 3 << 20]).await.unwrap();
    // Another host finds them; damaged ones are refused.
    let other = crate::backends::host(&database).await;
    assert_eq!(other.get(&digest).await.unwrap().unwrap().len(), 3 << 20);
    database.run("UPDATE blobs SET bytes = 'abX' WHERE bytes = 'abc'");
    let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse().unwrap();
    assert!(other.get(&abc).await.unwrap_err().to_string().contains("reading"));
}

#[tokio::test]
async fn hosts_that_share_a_folder_leave_each_others_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let one = FolderBlobs::open(folder.path(), "one").unwrap();
    std::fs::write(folder.path().join("tmp-one/17"), b"half").unwrap();
    let two = FolderBlobs::open(folder.path(), "two").unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("tmp-one")).unwrap().count(), 1, "one may still write it");
    let digest = one.put(b"abc".to_vec()).await.unwrap();
    assert_eq!(two.get(&digest).await.unwrap().unwrap(), b"abc");
}

#[tokio::test]
async fn in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    bytes_are_kept_by_what_they_are(&FolderBlobs::open(folder.path(), "host").unwrap()).await;
}

#[tokio::test]
async fn many_writers_of_the_same_bytes_leave_one_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path().join("made/here"), "host").unwrap();
    let bytes = vec![7u8; 100_000];
    let puts = (0..20).map(|_| blobs.put(bytes.clone()));
    let digests = futures::future::try_join_all(puts).await.unwrap();
    assert_eq!(blobs.get(&digests[0]).await.unwrap().unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path().join("made/here/tmp-host")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_a_cut_one_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path(), "host").unwrap();
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
    let digest = FolderBlobs::open(folder.path(), "host").unwrap().put(b"abc".to_vec()).await.unwrap();
    std::fs::write(folder.path().join("tmp-host/17"), b"half").unwrap();
    let blobs = FolderBlobs::open(folder.path(), "host").unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("tmp-host")).unwrap().count(), 0);
    assert_eq!(blobs.get(&digest).await.unwrap().unwrap(), b"abc");
}

fn environment(of: Vec<(&'static str, String)>) -> impl Iterator<Item = (String, String)> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    of.into_iter().map(|(name, value)| (name.to_owned(), value))
}

/// The keys in a bucket, as the server lists them.
fn keys_in(server: &Server, bucket: &str) -> Vec<String> {
    let listed = server.ask("GET", &format!("/{bucket}?list-type=2"), "");
    listed.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket() {
    let server = Server::shared();
    let url = format!("{}/of/a/tower/", server.bucket("kept"));
    let blobs = ObjectBlobs::open(&url, environment(server.environment())).await.unwrap();
    bytes_are_kept_by_what_they_are(&blobs).await;
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let key = format!("of/a/tower/ba/78/{abc}");
    // Three objects, each once, and the mark.
    let keys = keys_in(server, "kept");
    assert!(keys.len() == 4 && keys.contains(&key) && keys.contains(&"of/a/tower/command-tower".to_owned()), "{keys:?}");
    // Another host finds them, and damaged ones are refused.
    let other = ObjectBlobs::open(&url, environment(server.environment())).await.unwrap();
    let digest = format!("sha256:{abc}").parse().unwrap();
    assert_eq!(other.get(&digest).await.unwrap().unwrap(), b"abc");
    server.ask("PUT", &format!("/kept/{key}"), "abX");
    let error = other.get(&digest).await.unwrap_err();
    assert!(!error.is_outage() && error.to_string().contains("reading"), "{error:?}");
    // One that was cut is written anew.
    server.ask("PUT", &format!("/kept/{key}"), "ab");
    blobs.put(b"abc".to_vec()).await.unwrap();
    assert_eq!(other.get(&digest).await.unwrap().unwrap(), b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_be_used_is_refused_at_the_start() {
    let server = Server::shared();
    let said = async |url: &str, environment| format!("{:?}", ObjectBlobs::open(url, environment).await.unwrap_err());
    let text = said("s3://no-such-bucket/here", environment(server.environment())).await;
    assert!(text.contains("no-such-bucket/here") && text.contains("NoSuchBucket"), "{text}");
    // Nobody listens there.
    let nobody = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string() };
    let error = ObjectBlobs::open("s3://any", environment(environment_at(&nobody))).await.unwrap_err();
    assert!(error.is_outage(), "{error:?}");
    let text = format!("{error:?}");
    assert!(!text.contains("secret-of-tests") && !text.contains("key-of-tests"), "{text}");
    let text = said("s3://key:secret@any", environment(Vec::new())).await;
    assert!(matches!(ObjectBlobs::open("gs://any", environment(Vec::new())).await, Err(StoreError::Unusable(_))) && text.contains("AWS_"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_is_an_outage_and_one_that_is_gone_is_none() {
    let server = Server::shared();
    let url = server.bucket("gone");
    let blobs = ObjectBlobs::open(&url, environment(server.environment())).await.unwrap();
    let digest = blobs.put(b"abc".to_vec()).await.unwrap();
    for key in keys_in(server, "gone") {
        server.ask("DELETE", &format!("/gone/{key}"), "");
    }
    assert_eq!(blobs.get(&digest).await.unwrap(), None);
    server.ask("DELETE", "/gone", "");
    let error = blobs.get(&digest).await.unwrap_err();
    assert!(!error.is_outage(), "{error:?}");
    assert!(blobs.put(b"abc".to_vec()).await.is_err());
}
