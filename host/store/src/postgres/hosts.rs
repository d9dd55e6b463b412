//! Hosts, and the news that they tell each other by NOTIFY.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::query_with;
use tower_domain::clock::Timestamp;
use tower_domain::id::TraceId;

use super::open::settings;
use super::rows::{Array, Bind, Columns, Params};
use super::{PostgresStore, statements};
use crate::StoreError;
use crate::hosts::{FORGOTTEN_AFTER, HostBeat, HostRow, HostStore, Told};
use crate::news::{Listener, News, Newsroom};
use crate::rows::hosts::{bind_beat, host_columns, host_row};

/// Where news are told.
const CHANNEL: &str = "tower";

statements! {
    BEAT = "INSERT INTO hosts AS h (id, version, started_at, slots, running, url, seen_at, draining) VALUES ($1, $2, $3, $4, $5, $6, $7, 0) \
         ON CONFLICT (id) DO UPDATE SET version = excluded.version, slots = excluded.slots, running = excluded.running, url = excluded.url, seen_at = excluded.seen_at, \
             draining = CASE WHEN h.started_at = excluded.started_at THEN h.draining ELSE 0 END, started_at = excluded.started_at, left_at = NULL \
         RETURNING draining";
    OTHERS = "SELECT count(*) FROM hosts AS i WHERE i.id <> $1 AND i.seen_at >= $2 AND i.left_at IS NULL";
    FORGET = "DELETE FROM hosts WHERE id = ANY(ARRAY(SELECT i.id FROM hosts AS i WHERE i.seen_at < $1 FOR UPDATE SKIP LOCKED))";
    LEAVE = "UPDATE hosts SET left_at = $2, running = 0 WHERE id = $1";
    HOSTS = concat!("SELECT ", host_columns!(), " FROM hosts AS i ORDER BY i.id");
    DRAIN = "UPDATE hosts SET draining = $2 WHERE id = $1";
    NOTIFY = "SELECT pg_notify($1, n.told) FROM unnest($2::text[]) AS n (told)";
}

#[async_trait]
impl HostStore for PostgresStore {
    async fn beat(&self, beat: &HostBeat, now: Timestamp, others_within: Duration) -> Result<Told, StoreError> {
        let mut tx = self.begin().await?;
        let now = self.instant(&mut tx, now).await?;
        let mut params = Params::new();
        bind_beat(&mut params, beat);
        params.at(now);
        let row = query_with(BEAT, params.into_list()).fetch_one(&mut *tx).await?;
        let draining = Columns::of(&row, "hosts").flag()?;
        let mut params = Params::new();
        params.text(beat.id.as_str()).at(now.minus(others_within));
        let row = query_with(OTHERS, params.into_list()).fetch_one(&mut *tx).await?;
        let others = Columns::of(&row, "hosts").uint()?;
        let mut params = Params::new();
        params.at(now.minus(FORGOTTEN_AFTER));
        query_with(FORGET, params.into_list()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Told { draining, others })
    }

    async fn leave(&self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let now = self.instant(&mut tx, now).await?;
        let mut params = Params::new();
        params.text(id).at(now);
        query_with(LEAVE, params.into_list()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        let rows = sqlx::query(HOSTS).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(host_row).collect()
    }

    async fn drain(&self, id: &str, draining: bool) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let mut params = Params::new();
        params.text(id).int(draining);
        let changed = query_with(DRAIN, params.into_list()).execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        self.tell("", &[News::Hosts]).await;
        Ok(changed > 0)
    }
}

impl PostgresStore {
    /// Tells the others. After the commit and not in it, as those that tell commit one after the other; news that are lost cost time and
    /// nothing else.
    pub(super) async fn tell(&self, host: &str, news: &[News]) {
        if news.is_empty() {
            return;
        }
        let told: Vec<String> = news.iter().map(|news| format!("{}\n{host}", written(news))).collect();
        let mut params = Params::new();
        params.text(CHANNEL).array(Array::texts(told.iter().map(String::as_str)));
        if let Err(error) = query_with(NOTIFY, params.into_list()).execute(&self.writers.pool()).await {
            tracing::debug!(%error, "others were not told");
        }
    }
}

#[async_trait]
impl Newsroom for PostgresStore {
    async fn listen(&self, host: &str) -> Result<Box<dyn Listener>, StoreError> {
        // A connection of its own, that no question has to wait for.
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).connect_lazy_with(settings(self.connect.clone(), 0));
        let mut heard = PgListener::connect_with(&pool).await?;
        heard.listen(CHANNEL).await?;
        Ok(Box::new(Ear { host: host.to_owned(), heard }))
    }
}

struct Ear {
    host: String,
    heard: PgListener,
}

#[async_trait]
impl Listener for Ear {
    async fn next(&mut self) -> Result<News, StoreError> {
        loop {
            // Nothing: the connection was lost, and there is another now.
            let Some(told) = self.heard.try_recv().await? else { return Ok(News::Anything) };
            match told.payload().split_once('\n') {
                Some((_, from)) if from == self.host => {}
                Some((news, _)) => return Ok(read(news)),
                None => return Ok(News::Anything),
            }
        }
    }
}

/// A word, and the ids of traces.
fn written(news: &News) -> String {
    match news {
        News::Work => "work".to_owned(),
        News::Orders => "orders".to_owned(),
        News::Traces(traces) => format!("traces {}", traces.iter().map(TraceId::to_string).collect::<Vec<_>>().join(" ")),
        News::Definitions => "definitions".to_owned(),
        News::Hosts => "hosts".to_owned(),
        News::Anything => "anything".to_owned(),
    }
}

/// What a newer version says in other words may be anything.
fn read(text: &str) -> News {
    match text {
        "work" => News::Work,
        "orders" => News::Orders,
        "definitions" => News::Definitions,
        "hosts" => News::Hosts,
        _ => {
            let traces = text.strip_prefix("traces ").map(|ids| ids.split(' ').map(str::parse).collect::<Result<Vec<TraceId>, _>>());
            traces.and_then(Result::ok).map_or(News::Anything, News::Traces)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read_as_they_were_written() {
        let traces = (0..200).map(|number| TraceId::from_bytes([number; 16])).collect();
        for news in [News::Work, News::Orders, News::Traces(traces), News::Definitions, News::Hosts, News::Anything] {
            let text = written(&news);
            // PostgreSQL takes 7 999 bytes.
            assert!(text.len() < 7_000);
            assert_eq!(read(&text), news);
        }
        assert_eq!(read("of something new"), News::Anything);
    }
}
