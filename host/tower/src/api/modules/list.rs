//! `GET /modules`.

use axum::Json;
use axum::extract::State;
use tower_domain::code_ref::ModuleRef;
use tower_domain::name::Name;
use tower_store::read::PageRequest;

use crate::api::Api;
use crate::api::extract::{PageQuery, QueryOf};
use crate::api::problem::Problem;
use crate::api::types::{List, TagBody};

/// List modules: every tag, by name and tag
#[utoipa::path(get, path = "/modules", tag = "modules", params(PageQuery), responses((status = 200, body = List<TagBody>)))]
pub(crate) async fn list_modules(State(api): State<Api>, QueryOf(query): QueryOf<PageQuery>) -> Result<Json<List<TagBody>>, Problem> {
    let after = query.after::<TagCursor>()?.map(|at| (at.0, at.1));
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
