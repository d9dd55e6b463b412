//! Bytes as objects of a bucket: Amazon S3, or anything that speaks like it.
//!
//! `<prefix>/ab/cd/<64 hexadecimal digits>`. An object appears whole or not at all, and durably, so that there is nothing to put in order
//! after a crash. Two hosts that write the same bytes at once write the same object twice, and either is right.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, Error, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use tower_domain::code_ref::Digest;

use super::BlobStore;
use super::memory::digest_of;
use crate::StoreError;
use crate::fault::{self, Point};

/// What an address begins with.
pub const SCHEME: &str = "s3://";

/// The object that says that a tower keeps bytes here. It is written at every start, which shows that the bucket can be used.
const MARK: &str = "command-tower";

/// What the mark holds.
const MARK_TEXT: &[u8] = b"Modules and outputs of a Command Tower, named after their SHA-256.\n";

/// How often a request is sent again by itself. Whoever asks knows better what to do about an outage that lasts.
const RETRIES: usize = 3;

/// How long it is sent again for.
const RETRIES_LAST: Duration = Duration::from_secs(10);

/// How long the bucket may take to answer at the start, with everything that has to be asked for before.
const START_MAX: Duration = Duration::from_secs(30);

/// What is set unless the environment sets it: a request may be a module of many megabytes, and a server that is not there is known soon.
const TIMES: [(ClientConfigKey, &str); 2] = [(ClientConfigKey::Timeout, "120s"), (ClientConfigKey::ConnectTimeout, "5s")];

/// Keeps bytes in a bucket. Any number of processes may share it.
#[derive(Debug, Clone)]
pub struct ObjectBlobs {
    bucket: Arc<dyn ObjectStore>,
    prefix: Path,
    /// As the operator wrote it.
    url: String,
}

impl ObjectBlobs {
    /// Opens `s3://bucket/prefix`, and makes sure that it can be written and read. `environment` is where the rest comes from, by its usual
    /// names: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and so on; other names are passed over.
    pub async fn open(url: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, StoreError> {
        let (name, prefix) = bucket_of(url).map_err(StoreError::Unusable)?;
        let mut builder = AmazonS3Builder::new();
        for (variable, value) in environment.into_iter().filter(|(variable, _)| variable.starts_with("AWS_")) {
            if let Ok(key) = variable.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        for (key, value) in TIMES {
            let key = AmazonS3ConfigKey::Client(key);
            if builder.get_config_value(&key).is_none() {
                builder = builder.with_config(key, value);
            }
        }
        // Whoever names an address without TLS means it.
        if builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some_and(|endpoint| endpoint.starts_with("http://")) {
            builder = builder.with_allow_http(true);
        }
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRIES_LAST };
        let bucket = builder.with_bucket_name(name).with_retry(retry).build().map_err(|error| StoreError::Unusable(with_causes(&error)))?;
        let blobs = Self { bucket: Arc::new(bucket), prefix, url: url.to_owned() };
        match tokio::time::timeout(START_MAX, blobs.mark()).await {
            Ok(marked) => marked?,
            Err(_) => return Err(StoreError::Unusable(format!("{url} did not answer within {} s", START_MAX.as_secs()))),
        }
        Ok(blobs)
    }

    /// Writes the mark and reads it again.
    async fn mark(&self) -> Result<(), StoreError> {
        let mark = self.prefix.clone().join(MARK);
        self.bucket.put(&mark, PutPayload::from_static(MARK_TEXT)).await.map_err(|error| self.failed("writing", &mark, error))?;
        let found = self.bucket.get(&mark).await.map_err(|error| self.failed("reading", &mark, error))?;
        found.bytes().await.map_err(|error| self.failed("reading", &mark, error))?;
        Ok(())
    }

    /// Where bytes are, or would be.
    fn path_of(&self, digest: &Digest) -> Path {
        let text = digest.to_string();
        let digits = text.strip_prefix("sha256:").unwrap_or(&text);
        self.prefix.clone().join(&digits[..2]).join(&digits[2..4]).join(digits)
    }

    fn failed(&self, doing: &'static str, path: &Path, error: Error) -> StoreError {
        let kind = match &error {
            // Whoever may not do it now will not later; what is wrong in the settings stays wrong.
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
            // Of an object that is there, or of the bucket.
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            // Anything between here and there, or there.
            Error::Generic { .. } | Error::JoinError { .. } => io::ErrorKind::HostUnreachable,
            _ => io::ErrorKind::Other,
        };
        StoreError::Blobs { what: format!("{doing} {path} in {}", self.url), source: io::Error::new(kind, with_causes(&error)) }
    }
}

/// The bucket and the prefix of an address; else what is wrong with it.
pub fn bucket_of(url: &str) -> Result<(&str, Path), String> {
    let rest = url.strip_prefix(SCHEME).ok_or_else(|| format!("`{url}`: the address of a bucket is {SCHEME}BUCKET or {SCHEME}BUCKET/PREFIX"))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || !bucket.chars().all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '.' | '-' | '_')) {
        return Err(format!("`{url}`: a bucket's name has letters, digits, dots and hyphens; keys and endpoints are for AWS_… variables"));
    }
    let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|error| format!("`{url}`: {error}"))?;
    Ok((bucket, prefix))
}

/// An error in one line; what it is made of is often in none of the others. Keys and signatures are in none of them.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}

#[async_trait]
impl BlobStore for ObjectBlobs {
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = digest_of(&bytes);
        let path = self.path_of(&digest);
        match self.bucket.head(&path).await {
            // One with another length was written by somebody else, and is replaced.
            Ok(found) if found.size == bytes.len() as u64 => return Ok(digest),
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed("looking for", &path, error)),
        }
        fault::point(Point::BlobWritten).await?;
        self.bucket.put(&path, PutPayload::from(bytes)).await.map_err(|error| self.failed("writing", &path, error))?;
        fault::point(Point::BlobPlaced).await?;
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path_of(digest);
        let found = match self.bucket.get(&path).await {
            Ok(found) => found,
            // Likewise said of a bucket that is gone, which is another matter.
            Err(error @ Error::NotFound { .. }) if !with_causes(&error).contains("NoSuchBucket") => return Ok(None),
            Err(error) => return Err(self.failed("reading", &path, error)),
        };
        let bytes = found.bytes().await.map_err(|error| self.failed("reading", &path, error))?;
        if digest_of(&bytes) == *digest {
            return Ok(Some(bytes.into()));
        }
        let damaged = io::Error::new(io::ErrorKind::InvalidData, "the bytes do not have the digest that the object is named after");
        Err(StoreError::Blobs { what: format!("reading {path} in {}", self.url), source: damaged })
    }

    async fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path_of(digest);
        match self.bucket.delete(&path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("removing", &path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_bucket_and_perhaps_a_prefix() {
        for (url, bucket, prefix) in [("s3://b", "b", ""), ("s3://b/", "b", ""), ("s3://my-bucket.x/a/b/", "my-bucket.x", "a/b")] {
            let found = bucket_of(url).unwrap();
            assert_eq!((found.0, found.1.as_ref()), (bucket, prefix), "{url}");
        }
        for url in ["s3://", "s3:///a", "s3://key:secret@b/a", "gs://b", "s3://b/a/../c"] {
            assert!(bucket_of(url).is_err(), "{url}");
        }
    }
}
