//! `PUT /modules/{name}/tags/{tag}`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use tower_domain::code_ref::Digest;
use tower_domain::name::Name;
use tower_store::modules::TagMove;

use super::{no_such_module, resolve};
use crate::api::Api;
use crate::api::etag::{etag, replaces};
use crate::api::extract::{JsonBody, PathOf, name};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::types::{ModuleBody, MoveTag};

/// Move a tag
///
/// Steps that begin from now on run what it points at; those that run go on with what they began with. With `If-Match: "<digest>"` only
/// if it points there.
#[utoipa::path(
    put,
    path = "/modules/{name}/tags/{tag}",
    tag = "modules",
    params(
        ("name" = String, Path, description = "The module's name"),
        ("tag" = String, Path, description = "The tag"),
        ("if-match" = Option<String>, Header, description = "The digest that it is to be moved away from"),
    ),
    request_body = MoveTag,
    responses(
        (status = 200, body = ModuleBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn move_tag(
    State(api): State<Api>,
    PathOf((module_name, tag)): PathOf<(Name, String)>,
    headers: HeaderMap,
    JsonBody { value: wanted, .. }: JsonBody<MoveTag>,
) -> Result<Response, Problem> {
    let tag = name(&tag)?;
    let expected = replaces::<Digest>(&headers)?;
    match api.stores().modules.set_tag(&module_name, &tag, &wanted.digest, expected.as_ref(), api.engine.clock().now()).await? {
        TagMove::Moved => {}
        TagMove::UnknownModule => return Err(no_such_module(wanted.digest)),
        TagMove::Stale { current } => {
            let now = current.map_or_else(|| "nowhere".to_owned(), |digest| format!("at {digest}"));
            return Err(Problem::new(&codes::STALE_VERSION, format!("{module_name}:{tag} points {now}")));
        }
    }
    let (module, tag) = resolve(&api, &module_name, tag.as_str()).await?;
    Ok(([(header::ETAG, etag(wanted.digest))], Json(ModuleBody::of(module_name, tag, module))).into_response())
}
