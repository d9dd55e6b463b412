//! Hosts, and the news that they tell each other: several engines may share one open database.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::query_with;
use sqlx::sqlite::SqliteRow;
use tokio::sync::broadcast;
use tower_domain::clock::Timestamp;

use super::rows::{Bind, Params};
use super::{SqliteStore, statements};
use crate::StoreError;
use crate::hosts::{FORGOTTEN_AFTER, HostBeat, HostRow, HostStore, Told};
use crate::news::{Listener, News, Newsroom};
use crate::rows::hosts::{bind_beat, host_columns, host_row};

statements! {
    BEAT = "INSERT INTO hosts (id, version, started_at, slots, running, url, seen_at, draining) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0) \
         ON CONFLICT (id) DO UPDATE SET version = excluded.version, slots = excluded.slots, running = excluded.running, url = excluded.url, seen_at = excluded.seen_at, \
             draining = iif(started_at = excluded.started_at, draining, 0), started_at = excluded.started_at, left_at = NULL \
         RETURNING draining";
    OTHERS = "SELECT count(*) FROM hosts AS i WHERE i.id <> ?1 AND i.seen_at >= ?2 AND i.left_at IS NULL";
    FORGET = "DELETE FROM hosts WHERE id IN (SELECT i.id FROM hosts AS i WHERE i.seen_at < ?1)";
    LEAVE = "UPDATE hosts SET left_at = ?2, running = 0 WHERE id = ?1";
    HOSTS = concat!("SELECT ", host_columns!(), " FROM hosts AS i ORDER BY i.id");
    DRAIN = "UPDATE hosts SET draining = ?2 WHERE id = ?1";
}

#[async_trait]
impl HostStore for SqliteStore {
    async fn beat(&self, beat: &HostBeat, now: Timestamp, others_within: Duration) -> Result<Told, StoreError> {
        let mut writer = self.write().await;
        writer.begin().await?;
        let mut params = Params::new();
        bind_beat(&mut params, beat);
        params.at(now);
        let draining: bool = sqlx::query_scalar_with(BEAT, params.into_list()).fetch_one(&mut writer.conn).await?;
        let mut params = Params::new();
        params.text(beat.id.as_str()).at(now.minus(others_within));
        let others: u32 = sqlx::query_scalar_with(OTHERS, params.into_list()).fetch_one(&mut writer.conn).await?;
        let mut params = Params::new();
        params.at(now.minus(FORGOTTEN_AFTER));
        query_with(FORGET, params.into_list()).execute(&mut writer.conn).await?;
        writer.commit().await?;
        Ok(Told { draining, others })
    }

    async fn leave(&self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut writer = self.write().await;
        writer.begin().await?;
        let mut params = Params::new();
        params.text(id).at(now);
        query_with(LEAVE, params.into_list()).execute(&mut writer.conn).await?;
        writer.commit().await
    }

    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        let rows: Vec<SqliteRow> = sqlx::query(HOSTS).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(host_row).collect()
    }

    async fn drain(&self, id: &str, draining: bool) -> Result<bool, StoreError> {
        let mut writer = self.write().await;
        writer.begin().await?;
        let mut params = Params::new();
        params.text(id).int(draining);
        let changed = query_with(DRAIN, params.into_list()).execute(&mut writer.conn).await?.rows_affected();
        writer.commit().await?;
        drop(writer);
        self.tell("", News::Hosts);
        Ok(changed > 0)
    }
}

impl SqliteStore {
    /// Tells the others. Nobody may be there to hear it.
    pub(super) fn tell(&self, host: &str, news: News) {
        let _ = self.news.send((host.into(), news));
    }
}

#[async_trait]
impl Newsroom for SqliteStore {
    async fn listen(&self, host: &str) -> Result<Box<dyn Listener>, StoreError> {
        Ok(Box::new(Ear { host: host.to_owned(), heard: self.news.subscribe() }))
    }
}

struct Ear {
    host: String,
    heard: broadcast::Receiver<(Box<str>, News)>,
}

#[async_trait]
impl Listener for Ear {
    async fn next(&mut self) -> Result<News, StoreError> {
        loop {
            match self.heard.recv().await {
                Ok((from, _)) if *from == *self.host => {}
                Ok((_, news)) => return Ok(news),
                Err(broadcast::error::RecvError::Lagged(_)) => return Ok(News::Anything),
                // The store that is listened to holds the other end.
                Err(broadcast::error::RecvError::Closed) => return Err(StoreError::Unusable("the database is closed".to_owned())),
            }
        }
    }
}
