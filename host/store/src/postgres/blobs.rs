//! Bytes in the database, so that hosts need nothing else in common.

use std::io;

use async_trait::async_trait;
use sqlx::{Row, query_with};
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Digest;

use super::rows::{Bind, Params};
use super::{PostgresStore, statements};
use crate::StoreError;
use crate::blobs::{BlobStore, digest_of};
use crate::fault::{self, Point};

statements! {
    PUT = "INSERT INTO blobs (digest, created_at, bytes) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING";
    HAS = "SELECT 1 FROM blobs WHERE digest = $1";
    GET = "SELECT bytes FROM blobs WHERE digest = $1";
    DELETE = "DELETE FROM blobs WHERE digest = $1";
}

#[async_trait]
impl BlobStore for PostgresStore {
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = digest_of(&bytes);
        let mut params = Params::new();
        params.bytes(&digest.0);
        if query_with(HAS, params.into_list()).fetch_optional(&mut *self.reader().await?).await?.is_some() {
            return Ok(digest);
        }
        fault::point(Point::BlobWritten).await?;
        let mut tx = self.begin().await?;
        let now = self.instant(&mut tx, Timestamp::from_micros(0)).await?;
        let mut params = Params::new();
        params.bytes(&digest.0).at(now).bytes(&bytes);
        query_with(PUT, params.into_list()).execute(&mut *tx).await?;
        tx.commit().await?;
        fault::point(Point::BlobPlaced).await?;
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let mut params = Params::new();
        params.bytes(&digest.0);
        let row = query_with(GET, params.into_list()).fetch_optional(&mut *self.reader().await?).await?;
        let Some(row) = row else { return Ok(None) };
        let bytes: Vec<u8> = row.try_get(0)?;
        if digest_of(&bytes) == *digest {
            return Ok(Some(bytes));
        }
        let damaged = io::Error::new(io::ErrorKind::InvalidData, "the bytes do not have the digest that they are kept under");
        Err(StoreError::Blobs { what: format!("reading {digest} from the database"), source: damaged })
    }

    async fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut params = Params::new();
        params.bytes(&digest.0);
        query_with(DELETE, params.into_list()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}
