//! What is known of sessions.

use async_trait::async_trait;
use sqlx::query_with;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Digest;
use tower_domain::id::SessionId;
use tower_domain::session::{Session, SessionStatus};

use super::lists::page_of;
use super::rows::{Bind, Columns, Id, Params};
use super::tx::SqliteTx;
use super::{SqliteStore, statements};
use crate::StoreError;
use crate::read::{PAGE_MAX, Page, PageRequest};
use crate::rows::pages::{ABOVE_ALL, cut};
use crate::rows::sessions::{bind_session, session as session_of, session_columns};
use crate::sessions::{Closing, SessionFilter, SessionStore};

/// Whether a trace of `sessions AS s` has not ended. 2 is SUCCESS, the first of those that have.
macro_rules! in_use {
    () => {
        "EXISTS (SELECT 1 FROM traces AS t WHERE t.session_id = s.id AND t.status < 2)"
    };
}

statements! {
    CREATE = "INSERT INTO sessions (id, user_id, sdk_session_id, labels, status, created_at, last_used_at, quota_bytes, files_max, bytes, files, purged) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0)";
    FIND = concat!("SELECT ", session_columns!(), " FROM sessions AS s WHERE s.id = ?1");
    LIST = concat!("SELECT ", session_columns!(), " FROM sessions AS s WHERE s.id < ?1 AND (?2 IS NULL OR s.status = ?2) ORDER BY s.id DESC LIMIT ?3");
    LIST_OF_USER = concat!(
        "SELECT ", session_columns!(), " FROM sessions AS s WHERE s.user_id = ?4 AND s.id < ?1 AND (?2 IS NULL OR s.status = ?2) \
         ORDER BY s.id DESC LIMIT ?3"
    );
    TOUCH = "UPDATE sessions SET last_used_at = CASE WHEN last_used_at < ?2 THEN ?2 ELSE last_used_at END, status = CASE status WHEN 1 THEN 0 ELSE status END \
         WHERE id = ?1 AND status <> 3";
    MEASURED = "UPDATE sessions SET last_used_at = CASE WHEN last_used_at < ?2 THEN ?2 ELSE last_used_at END, bytes = ?3, files = ?4 WHERE id = ?1";
    IDLE = concat!("UPDATE sessions AS s SET status = 1 WHERE s.status = 0 AND s.last_used_at < ?1 AND NOT ", in_use!());
    ARCHIVABLE = concat!("SELECT ", session_columns!(), " FROM sessions AS s WHERE s.status = 1 AND s.last_used_at < ?1 ORDER BY s.last_used_at LIMIT ?2");
    ARCHIVED = concat!("UPDATE sessions AS s SET status = 2, archive = ?3 WHERE s.id = ?1 AND s.status = 1 AND s.last_used_at = ?2 AND NOT ", in_use!());
    RESTORED = "UPDATE sessions SET status = 0, archive = NULL WHERE id = ?1 AND status = 2";
    CLOSE = concat!("UPDATE sessions AS s SET status = 3, closed_at = ?2 WHERE s.id = ?1 AND s.status <> 3 AND NOT ", in_use!());
    PURGEABLE = concat!(
        "SELECT ", session_columns!(), " FROM sessions AS s INDEXED BY sessions_closed WHERE s.status = 3 AND s.purged = 0 AND s.closed_at < ?1 ORDER BY s.closed_at LIMIT ?2"
    );
    PURGED = "UPDATE sessions SET purged = 1, archive = NULL, bytes = 0, files = 0 WHERE id = ?1 AND status = 3";
    USE = "UPDATE sessions SET last_used_at = ?, status = CASE status WHEN 1 THEN 0 ELSE status END WHERE id = ? AND status <> 3 RETURNING status";
    SET_SDK_SESSION = "UPDATE sessions SET sdk_session_id = ? WHERE id = ?";
}

impl SqliteStore {
    async fn write_session(&self, statement: &'static str, params: Params) -> Result<u64, StoreError> {
        let mut writer = self.write().await;
        writer.begin().await?;
        let written = query_with(statement, params.into_list()).execute(&mut writer.conn).await?.rows_affected();
        writer.commit().await?;
        Ok(written)
    }

    async fn read_sessions(&self, statement: &'static str, params: Params) -> Result<Vec<Session>, StoreError> {
        let rows = query_with(statement, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(session_of).collect()
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn create(&self, session: &Session) -> Result<(), StoreError> {
        let mut params = Params::new();
        bind_session(&mut params, session);
        self.write_session(CREATE, params).await.map(drop)
    }

    async fn find(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let mut params = Params::new();
        params.id(id);
        Ok(self.read_sessions(FIND, params).await?.pop())
    }

    async fn list(&self, filter: &SessionFilter, page: &PageRequest<SessionId>) -> Result<Page<Session, SessionId>, StoreError> {
        let limit = page.limit.clamp(1, PAGE_MAX);
        let params = |rows: u32| {
            let mut params = Params::new();
            params.bytes(page.after.map(Id::bytes).as_ref().map_or(&ABOVE_ALL, |id| id)).opt_word(filter.status).int(rows);
            if let Some(user) = &filter.user_id {
                params.text(user.as_str());
            }
            params
        };
        let statement = if filter.user_id.is_some() { LIST_OF_USER } else { LIST };
        let (rows, limit) = page_of(&mut *self.reader().await?, statement, limit, params).await?;
        let sessions = rows.iter().map(session_of).collect::<Result<Vec<_>, _>>()?;
        Ok(cut(sessions, limit, |session| session.id))
    }

    async fn touch(&self, id: SessionId, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let mut params = Params::new();
        params.id(id).at(now);
        self.write_session(TOUCH, params).await?;
        SessionStore::find(self, id).await
    }

    async fn measured(&self, id: SessionId, bytes: u64, files: u64, now: Timestamp) -> Result<(), StoreError> {
        let mut params = Params::new();
        params.id(id).at(now).uint(bytes).uint(files);
        self.write_session(MEASURED, params).await.map(drop)
    }

    async fn idle(&self, since: Timestamp) -> Result<u64, StoreError> {
        let mut params = Params::new();
        params.at(since);
        self.write_session(IDLE, params).await
    }

    async fn archivable(&self, since: Timestamp, limit: u32) -> Result<Vec<Session>, StoreError> {
        let mut params = Params::new();
        params.at(since).int(limit);
        self.read_sessions(ARCHIVABLE, params).await
    }

    async fn archived(&self, id: SessionId, last_used_at: Timestamp, pieces: &[Digest]) -> Result<bool, StoreError> {
        let pieces = serde_json::to_string(pieces).map_err(|error| StoreError::inconsistent("sessions", error))?;
        let mut params = Params::new();
        params.id(id).at(last_used_at).text(pieces);
        Ok(self.write_session(ARCHIVED, params).await? > 0)
    }

    async fn restored(&self, id: SessionId) -> Result<(), StoreError> {
        let mut params = Params::new();
        params.id(id);
        self.write_session(RESTORED, params).await.map(drop)
    }

    async fn close(&self, id: SessionId, now: Timestamp) -> Result<Closing, StoreError> {
        let mut params = Params::new();
        params.id(id).at(now);
        if self.write_session(CLOSE, params).await? > 0 {
            return Ok(Closing::Closed);
        }
        Ok(match SessionStore::find(self, id).await? {
            None => Closing::NotFound,
            Some(session) if session.status == SessionStatus::Closed => Closing::Closed,
            Some(_) => Closing::InUse,
        })
    }

    async fn purgeable(&self, closed_before: Timestamp, limit: u32) -> Result<Vec<Session>, StoreError> {
        let mut params = Params::new();
        params.at(closed_before).int(limit);
        self.read_sessions(PURGEABLE, params).await
    }

    async fn purged(&self, id: SessionId) -> Result<(), StoreError> {
        let mut params = Params::new();
        params.id(id);
        self.write_session(PURGED, params).await.map(drop)
    }
}

/// A trace of it begins. False: it is closed, or there is none.
pub(super) fn use_session(tx: &mut SqliteTx<'_>, id: SessionId, now: Timestamp) -> Result<bool, StoreError> {
    let used = tx.query(
        USE,
        |params| {
            params.at(now).id(id);
        },
        |row| Columns::of(row, "sessions").word::<SessionStatus>(),
    )?;
    Ok(!used.is_empty())
}

/// What the code calls it from now on.
pub(super) fn set_sdk_session(tx: &mut SqliteTx<'_>, id: SessionId, sdk: &str) -> Result<(), StoreError> {
    tx.execute(SET_SDK_SESSION, |params| {
        params.text(sdk).id(id);
    })
}
