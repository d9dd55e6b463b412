//! `GET /modules/{name}` and below.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tower_domain::name::Name;

use super::{no_such_module, resolve};
use crate::api::Api;
use crate::api::extract::PathOf;
use crate::api::problem::{Problem, ProblemBody};
use crate::api::types::{ModuleBody, NamedModules};

/// Find what is under a name: its tags, and the modules that they point at
#[utoipa::path(
    get,
    path = "/modules/{name}",
    tag = "modules",
    params(("name" = String, Path, description = "The module's name")),
    responses((status = 200, body = NamedModules), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn find_modules(State(api): State<Api>, PathOf(name): PathOf<Name>) -> Result<Json<NamedModules>, Problem> {
    let tags = api.stores().modules.tags(&name).await?;
    if tags.is_empty() {
        return Err(no_such_module(&name));
    }
    let digests: BTreeSet<_> = tags.iter().map(|tag| tag.digest).collect();
    let mut modules = Vec::with_capacity(digests.len());
    for digest in digests {
        modules.extend(api.stores().modules.find(&digest).await?.map(|module| ModuleBody::of(name.clone(), None, module)));
    }
    Ok(Json(NamedModules { name, tags: tags.into_iter().map(Into::into).collect(), modules }))
}

/// Find a module by its tag or digest
#[utoipa::path(
    get,
    path = "/modules/{name}/tags/{tag}",
    tag = "modules",
    params(("name" = String, Path, description = "The module's name"), ("tag" = String, Path, description = "A tag, or `sha256:` and a digest")),
    responses((status = 200, body = ModuleBody), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn find_module(State(api): State<Api>, PathOf((name, tag)): PathOf<(Name, String)>) -> Result<Json<ModuleBody>, Problem> {
    let (module, tag) = resolve(&api, &name, &tag).await?;
    Ok(Json(ModuleBody::of(name, tag, module)))
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
