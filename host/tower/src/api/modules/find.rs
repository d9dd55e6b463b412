//! `GET /modules/{name}` and below.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower_domain::name::Name;

use super::{no_such_module, resolve};
use crate::api::Api;
use crate::api::etag::{etag, knows};
use crate::api::extract::{PageQuery, PathOf, QueryOf};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::types::{List, ModuleBody, NamedModules};

/// Find what is under a name: its tags, and the modules that they point at
///
/// The tags are a page of a list; the modules are those of its tags.
#[utoipa::path(
    get,
    path = "/modules/{name}",
    tag = "modules",
    params(("name" = String, Path, description = "The module's name"), PageQuery),
    responses((status = 200, body = NamedModules), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn find_modules(
    State(api): State<Api>,
    PathOf(name): PathOf<Name>,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<NamedModules>, Problem> {
    let after = query.after::<Name>()?;
    let tags = api.stores().modules.tags(&name).await?;
    if tags.is_empty() {
        return Err(no_such_module(&name));
    }
    let List { items: tags, next_cursor } = List::page_of(tags, |tag| &tag.tag, after.as_ref(), query.limit);
    let digests: BTreeSet<_> = tags.iter().map(|tag| tag.digest).collect();
    let mut modules = Vec::with_capacity(digests.len());
    for digest in digests {
        modules.extend(api.stores().modules.find(&digest).await?.map(|module| ModuleBody::of(name.clone(), None, module)));
    }
    Ok(Json(NamedModules { name, tags: tags.into_iter().map(Into::into).collect(), modules, next_cursor }))
}

/// Find a module by its tag or digest
///
/// The ETag is its digest; `If-None-Match` with it is answered 304.
#[utoipa::path(
    get,
    path = "/modules/{name}/tags/{tag}",
    tag = "modules",
    params(
        ("name" = String, Path, description = "The module's name"),
        ("tag" = String, Path, description = "A tag, or `sha256:` and a digest"),
        ("if-none-match" = Option<String>, Header, description = "ETags that are known"),
    ),
    responses(
        (status = 200, body = ModuleBody),
        (status = 304, description = "It is still that module"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn find_module(State(api): State<Api>, PathOf((name, tag)): PathOf<(Name, String)>, headers: HeaderMap) -> Result<Response, Problem> {
    let (module, tag) = resolve(&api, &name, &tag).await?;
    let validator = [(header::ETAG, etag(module.inspection.digest))];
    if knows(&headers, &validator[0].1) {
        return Ok((StatusCode::NOT_MODIFIED, validator).into_response());
    }
    Ok((validator, Json(ModuleBody::of(name, tag, module))).into_response())
}

/// Show a module's world as WIT
#[utoipa::path(
    get,
    path = "/modules/{name}/tags/{tag}/wit",
    tag = "modules",
    params(("name" = String, Path, description = "The module's name"), ("tag" = String, Path, description = "A tag, or `sha256:` and a digest")),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn find_module_wit(State(api): State<Api>, PathOf((name, tag)): PathOf<(Name, String)>) -> Result<Response, Problem> {
    let (module, _) = resolve(&api, &name, &tag).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], module.inspection.wit).into_response())
}
