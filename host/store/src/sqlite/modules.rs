//! What is known of modules, and the tags that point at them.

use async_trait::async_trait;
use sqlx::{SqliteConnection, query_with};
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::module::{Module, ModuleTag};
use tower_domain::name::Name;

use super::rows::{Bind, Columns, Params};
use super::{SqliteStore, statements};
use crate::StoreError;
use crate::fault::{self, Point};
use crate::modules::{ModuleStore, TagMove};
use crate::read::{PAGE_MAX, Page, PageRequest};
use crate::rows::nouns::{module as module_of, module_tag};
use crate::rows::pages::cut;

statements! {
    ADD = "INSERT INTO modules (digest, created_at, created_by, inspection) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (digest) DO NOTHING";
    // Only to a module that is known.
    SET_TAG = "INSERT INTO module_tags (name, tag, digest, updated_at) SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM modules WHERE digest = ?3) \
         ON CONFLICT (name, tag) DO UPDATE SET digest = excluded.digest, updated_at = excluded.updated_at";
    RESOLVE_TAG = "SELECT digest FROM module_tags WHERE name = ?1 AND tag = ?2";
    RESOLVE_DIGEST = "SELECT digest FROM modules WHERE digest = ?1";
    FIND = "SELECT inspection, created_by, created_at FROM modules WHERE digest = ?1";
    TAGS = "SELECT name, tag, digest, updated_at FROM module_tags WHERE name = ?1 ORDER BY tag";
    LIST = "SELECT name, tag, digest, updated_at FROM module_tags WHERE (name, tag) > (?1, ?2) ORDER BY name, tag LIMIT ?3";
}

#[async_trait]
impl ModuleStore for SqliteStore {
    async fn add(&self, module: &Module, name: &Name, tags: &[Name], now: Timestamp) -> Result<bool, StoreError> {
        let digest = module.inspection.digest;
        let inspection = serde_json::to_string(&module.inspection).map_err(|error| StoreError::inconsistent("modules", error))?;
        let mut params = Params::new();
        params.bytes(&digest.0).at(module.created_at).text(module.created_by.as_str()).text(inspection);
        let mut writer = self.write().await;
        writer.begin().await?;
        let added = query_with(ADD, params.into_list()).execute(&mut writer.conn).await?.rows_affected() > 0;
        fault::point(Point::ModuleWritten).await?;
        for tag in tags {
            set_tag(&mut writer.conn, name, tag, &digest, now).await?;
        }
        writer.commit().await?;
        Ok(added)
    }

    async fn set_tag(&self, name: &Name, tag: &Name, digest: &Digest, expected: Option<&Digest>, now: Timestamp) -> Result<TagMove, StoreError> {
        let mut writer = self.write().await;
        writer.begin().await?;
        if let Some(expected) = expected {
            let mut params = Params::new();
            params.text(name.as_str()).text(tag.as_str());
            let row = query_with(RESOLVE_TAG, params.into_list()).fetch_optional(&mut writer.conn).await?;
            let current = row.map(|row| Columns::of(&row, "module_tags").digest()).transpose()?;
            if current.as_ref() != Some(expected) {
                writer.commit().await?;
                return Ok(TagMove::Stale { current });
            }
        }
        let known = set_tag(&mut writer.conn, name, tag, digest, now).await?;
        writer.commit().await?;
        Ok(if known { TagMove::Moved } else { TagMove::UnknownModule })
    }

    async fn resolve(&self, module: &ModuleRef) -> Result<Option<Digest>, StoreError> {
        let mut params = Params::new();
        let statement = match module {
            ModuleRef::Tag { name, tag } => {
                params.text(name.as_str()).text(tag.as_str());
                RESOLVE_TAG
            }
            ModuleRef::Digest(digest) => {
                params.bytes(&digest.0);
                RESOLVE_DIGEST
            }
        };
        let row = query_with(statement, params.into_list()).fetch_optional(&mut *self.reader().await?).await?;
        row.map(|row| Columns::of(&row, "modules").digest()).transpose()
    }

    async fn find(&self, digest: &Digest) -> Result<Option<Module>, StoreError> {
        let mut params = Params::new();
        params.bytes(&digest.0);
        let row = query_with(FIND, params.into_list()).fetch_optional(&mut *self.reader().await?).await?;
        row.as_ref().map(module_of).transpose()
    }

    async fn tags(&self, name: &Name) -> Result<Vec<ModuleTag>, StoreError> {
        let mut params = Params::new();
        params.text(name.as_str());
        let rows = query_with(TAGS, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(module_tag).collect()
    }

    async fn list(&self, page: &PageRequest<(Name, Name)>) -> Result<Page<ModuleTag, (Name, Name)>, StoreError> {
        let limit = page.limit.clamp(1, PAGE_MAX);
        let (name, tag_name) = page.after.as_ref().map_or(("", ""), |(name, tag)| (name.as_str(), tag.as_str()));
        let mut params = Params::new();
        params.text(name).text(tag_name).int(limit + 1);
        let rows = query_with(LIST, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        let tags = rows.iter().map(module_tag).collect::<Result<Vec<_>, _>>()?;
        Ok(cut(tags, limit, |tag| (tag.name.clone(), tag.tag.clone())))
    }
}

async fn set_tag(conn: &mut SqliteConnection, name: &Name, tag: &Name, digest: &Digest, now: Timestamp) -> Result<bool, StoreError> {
    let mut params = Params::new();
    params.text(name.as_str()).text(tag.as_str()).bytes(&digest.0).at(now);
    Ok(query_with(SET_TAG, params.into_list()).execute(conn).await?.rows_affected() > 0)
}
