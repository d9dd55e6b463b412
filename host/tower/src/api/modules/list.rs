//! `GET /modules`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::code_ref::ModuleRef;
use tower_domain::name::Name;
use tower_store::read::PageRequest;
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{Limit, QueryOf, cursor};
use crate::api::problem::Problem;
use crate::api::types::{List, TagBody};

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ModuleQuery {
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    pub(super) limit: Limit,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}

/// List modules: every tag, by name and tag
#[utoipa::path(get, path = "/modules", tag = "modules", params(ModuleQuery), responses((status = 200, body = List<TagBody>)))]
pub(crate) async fn list_modules(State(api): State<Api>, QueryOf(query): QueryOf<ModuleQuery>) -> Result<Json<List<TagBody>>, Problem> {
    let after = cursor::<TagCursor>(query.cursor.as_deref())?.map(|at| (at.0, at.1));
    let page = api.stores().modules.list(&PageRequest { after, limit: query.limit.0 }).await?;
    let next_cursor = page.next.map(|(name, tag)| format!("{name}:{tag}"));
    Ok(Json(List { items: page.items.into_iter().map(Into::into).collect(), next_cursor }))
}

/// `name:tag`.
struct TagCursor(Name, Name);

impl std::str::FromStr for TagCursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.parse() {
            Ok(ModuleRef::Tag { name, tag }) if text.contains(':') => Ok(Self(name, tag)),
            _ => Err(()),
        }
    }
}
