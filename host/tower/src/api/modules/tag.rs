//! `PUT /modules/{name}/tags/{tag}`.

use axum::Json;
use axum::extract::State;
use tower_domain::name::Name;

use super::{no_such_module, resolve};
use crate::api::Api;
use crate::api::extract::{JsonBody, PathOf, name};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::types::{ModuleBody, MoveTag};

/// Move a tag
///
/// Steps that begin from now on run what it points at; those that run go on with what they began with.
#[utoipa::path(
    put,
    path = "/modules/{name}/tags/{tag}",
    tag = "modules",
    params(("name" = String, Path, description = "The module's name"), ("tag" = String, Path, description = "The tag")),
    request_body = MoveTag,
    responses((status = 200, body = ModuleBody), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn move_tag(
    State(api): State<Api>,
    PathOf((module_name, tag)): PathOf<(Name, String)>,
    JsonBody { value: wanted, .. }: JsonBody<MoveTag>,
) -> Result<Json<ModuleBody>, Problem> {
    let tag = name(&tag)?;
    if !api.stores().modules.set_tag(&module_name, &tag, &wanted.digest, api.engine.clock().now()).await? {
        return Err(no_such_module(wanted.digest));
    }
    let (module, tag) = resolve(&api, &module_name, tag.as_str()).await?;
    Ok(Json(ModuleBody::of(module_name, tag, module)))
}
