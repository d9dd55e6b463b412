//! Definitions and their versions.

use async_trait::async_trait;
use sqlx::{SqliteConnection, query_with};
use tower_domain::clock::Timestamp;
use tower_domain::definition::{Definition, DefinitionSpec};
use tower_domain::name::Name;

use super::lists::page_of;
use super::near::query;
use super::rows::{Bind, Binder, Params};
use super::{SqliteStore, schedules, statements};
use crate::StoreError;
use crate::definitions::{DefinitionFilter, DefinitionStore, Put};
use crate::fault::{self, Point};
use crate::news::News;
use crate::read::{PAGE_MAX, Page, PageRequest};
use crate::rows::nouns::{definition, definition_columns};
use crate::rows::pages::cut;

/// A statement over current definitions. Parameters: 1 ids above, 2 whether active or NULL, 3 limit.
macro_rules! list {
    ($($term:literal),*) => {
        concat!(
            "SELECT ", definition_columns!(), " FROM definitions AS d \
             CROSS JOIN definition_versions AS v ON v.definition_id = d.id AND v.version = d.version \
             WHERE d.id > ?1 AND (?2 IS NULL OR d.is_active = ?2)", $($term,)* " ORDER BY d.id LIMIT ?3"
        )
    };
}

statements! {
    CURRENT = concat!(
        "SELECT ", definition_columns!(), " FROM definitions AS d \
         CROSS JOIN definition_versions AS v ON v.definition_id = d.id AND v.version = d.version WHERE d.id = ?1"
    );
    VERSION = concat!(
        "SELECT ", definition_columns!(), " FROM definitions AS d \
         CROSS JOIN definition_versions AS v ON v.definition_id = d.id WHERE d.id = ?1 AND v.version = ?2"
    );
    // The latest of those that were current by then; the first, if none was. A clock that was set back does not make an old one current.
    AS_OF = concat!(
        "SELECT ", definition_columns!(), " FROM definitions AS d \
         CROSS JOIN definition_versions AS v ON v.definition_id = d.id \
         WHERE d.id = ?1 AND (v.current_from <= ?2 OR v.version = 1) ORDER BY v.version DESC LIMIT 1"
    );
    LIST = list!();
    LIST_OF_USER = list!(" AND d.user_id = ?4");
    PUT = "INSERT INTO definitions (id, version, is_active, created_at, user_id) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (id) DO UPDATE SET version = excluded.version, is_active = excluded.is_active, user_id = excluded.user_id";
    // What the definition limits may have changed: whoever waits is looked at. `0` comes after `/`.
    STIR_GATES = "UPDATE gates SET opens_at = ?2 WHERE gate IN ('definition/' || ?1, 'rate/' || ?1) \
         OR (gate > 'key/' || ?1 || '/' AND gate < 'key/' || ?1 || '0')";
    PUT_VERSION = "INSERT INTO definition_versions (definition_id, version, current_from, role, spec) VALUES (?1, ?2, ?3, ?4, ?5)";
}

#[async_trait]
impl DefinitionStore for SqliteStore {
    async fn put(&self, id: &Name, spec: &DefinitionSpec, expected: Option<u32>, now: Timestamp) -> Result<Put, StoreError> {
        let text = serde_json::to_string(spec).map_err(|error| StoreError::inconsistent("definition_versions", error))?;
        let mut writer = self.write().await;
        writer.begin().await?;
        let current = current(&mut writer.conn, id).await?;
        let version = current.as_ref().map_or(0, |definition| definition.version);
        if let Some(current) = &current
            && current.spec == *spec
            && expected.is_none_or(|expected| expected == version)
        {
            writer.settle().await;
            return Ok(Put::Unchanged(current.clone()));
        }
        if expected.is_some_and(|expected| expected != version) {
            writer.settle().await;
            return Ok(Put::Stale { current: version });
        }
        let next = Definition {
            id: id.clone(),
            version: version + 1,
            spec: spec.clone(),
            created_at: current.as_ref().map_or(now, |definition| definition.created_at),
            updated_at: now,
        };
        let mut params = Params::new();
        params.text(id.as_str()).int(next.version).int(spec.is_active).at(next.created_at).text(spec.user_id.as_str());
        query_with(PUT, params.into_list()).execute(&mut writer.conn).await?;
        fault::point(Point::DefinitionWritten).await?;
        let mut params = Params::new();
        params.text(id.as_str()).int(next.version).at(now).text(spec.role.as_str()).text(text);
        query_with(PUT_VERSION, params.into_list()).execute(&mut writer.conn).await?;
        if current.as_ref().is_some_and(|current| current.spec.limits() != spec.limits()) {
            let mut params = Params::new();
            params.text(id.as_str()).at(now);
            query_with(STIR_GATES, params.into_list()).execute(&mut writer.conn).await?;
            if let Some(batches) = &mut writer.batches {
                batches.nothing_waits = false;
            }
        }
        schedules::follow(&mut writer.conn, current.as_ref(), &next, now).await?;
        writer.commit().await?;
        self.tell("", News::Definitions);
        Ok(if version == 0 { Put::Created(next) } else { Put::Updated(next) })
    }

    async fn find(&self, id: &Name) -> Result<Option<Definition>, StoreError> {
        let bind = |params: &mut Binder<'_, '_>| {
            params.text(id.as_str());
        };
        self.near(|conn| Ok(query(conn, CURRENT, bind, |row| definition(row))?.pop())).await
    }

    async fn find_version(&self, id: &Name, version: u32) -> Result<Option<Definition>, StoreError> {
        let bind = |params: &mut Binder<'_, '_>| {
            params.text(id.as_str()).int(version);
        };
        self.near(|conn| Ok(query(conn, VERSION, bind, |row| definition(row))?.pop())).await
    }

    async fn find_as_of(&self, id: &Name, at: Timestamp) -> Result<Option<Definition>, StoreError> {
        let mut params = Params::new();
        params.text(id.as_str()).at(at);
        let row = query_with(AS_OF, params.into_list()).fetch_optional(&mut *self.reader().await?).await?;
        row.as_ref().map(definition).transpose()
    }

    async fn list(&self, filter: &DefinitionFilter, page: &PageRequest<Name>) -> Result<Page<Definition, Name>, StoreError> {
        let limit = page.limit.clamp(1, PAGE_MAX);
        let params = |rows: u32| {
            let mut params = Params::new();
            params.text(page.after.as_ref().map_or("", |name| name.as_str())).opt_int(filter.active).int(rows);
            if let Some(user) = &filter.user_id {
                params.text(user.as_str());
            }
            params
        };
        let statement = if filter.user_id.is_some() { LIST_OF_USER } else { LIST };
        let (rows, limit) = page_of(&mut *self.reader().await?, statement, limit, params).await?;
        let definitions = rows.iter().map(definition).collect::<Result<Vec<_>, _>>()?;
        Ok(cut(definitions, limit, |definition| definition.id.clone()))
    }
}

async fn current(conn: &mut SqliteConnection, id: &Name) -> Result<Option<Definition>, StoreError> {
    let mut params = Params::new();
    params.text(id.as_str());
    let row = query_with(CURRENT, params.into_list()).fetch_optional(conn).await?;
    row.as_ref().map(definition).transpose()
}
