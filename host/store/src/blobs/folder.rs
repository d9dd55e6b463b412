//! Bytes as files, named after what they are.
//!
//! `<root>/ab/cd/<64 hexadecimal digits>`. A file is written beside its place, made durable, and then given its name: whoever finds a
//! name finds all of it. What a crash leaves behind are files in `<root>/tmp-<host>`, which are removed when that host opens the folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tower_domain::code_ref::Digest;

use super::BlobStore;
use super::memory::digest_of;
use crate::StoreError;
use crate::fault::{self, Point};

/// Keeps bytes in a folder. Several processes may share it, each under a name of its own.
#[derive(Debug, Clone)]
pub struct FolderBlobs {
    root: PathBuf,
    /// For files that are being written.
    temporary: PathBuf,
    /// Tells files apart that are being written.
    written: Arc<AtomicU64>,
}

impl FolderBlobs {
    /// Opens the folder, or makes it. `host` is who writes there.
    pub fn open(root: impl Into<PathBuf>, host: &str) -> Result<Self, StoreError> {
        let root = root.into();
        let temporary = root.join(format!("tmp-{host}"));
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("removing what a crash left in", &temporary)(error)),
            _ => {}
        }
        fs::create_dir_all(&temporary).map_err(failed("making", &temporary))?;
        Ok(Self { root, temporary, written: Arc::default() })
    }

    /// Where bytes are, or would be.
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        let text = digest.to_string();
        let digits = text.strip_prefix("sha256:").unwrap_or(&text);
        self.root.join(&digits[..2]).join(&digits[2..4]).join(digits)
    }

    fn put_now(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = digest_of(bytes);
        let path = self.path_of(&digest);
        // A file with another length is a damaged one, and is replaced.
        if fs::metadata(&path).is_ok_and(|found| found.len() == bytes.len() as u64) {
            return Ok(digest);
        }
        let folder = path.parent().unwrap_or(&self.root);
        let temporary = self.temporary.join(self.written.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(folder).map_err(failed("making", folder))?;
        let written = File::create(&temporary).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        let written = written.map_err(failed("writing", &temporary)).and_then(|()| fault::point_now(Point::BlobWritten));
        let placed = written.and_then(|()| fs::rename(&temporary, &path).map_err(failed("placing", &path)));
        if placed.is_err() {
            // It is removed at the next start if it is not now.
            let _ = fs::remove_file(&temporary);
        }
        placed?;
        // The file's name, and those of the two folders above it, which may be new.
        for folder in path.ancestors().skip(1).take(3) {
            sync_folder(folder).map_err(failed("making durable", folder))?;
        }
        fault::point_now(Point::BlobPlaced)?;
        Ok(digest)
    }

    fn get_now(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path_of(digest);
        match fs::read(&path) {
            Ok(bytes) if digest_of(&bytes) == *digest => Ok(Some(bytes)),
            Ok(_) => Err(failed("reading", &path)(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is damaged: its bytes do not have the digest that it is named after",
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("reading", &path)(error)),
        }
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Folders cannot be opened as files there; the file system keeps names by itself.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let what = format!("{doing} {}", path.display());
    move |source| StoreError::Blobs { what, source }
}

#[async_trait]
impl BlobStore for FolderBlobs {
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let this = self.clone();
        on_a_thread(move || this.put_now(&bytes)).await
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let (this, digest) = (self.clone(), *digest);
        on_a_thread(move || this.get_now(&digest)).await
    }

    async fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path_of(digest);
        on_a_thread(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", &path)(error)),
            _ => Ok(()),
        })
        .await
    }
}

/// Files block; they are waited for where that harms nobody.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Blobs { what: "waiting for a file".to_owned(), source: io::Error::other(error) })?
}
