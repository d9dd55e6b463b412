//! `GET /definitions/{id}`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tower_domain::name::Name;
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::etag::{etag, knows};
use crate::api::extract::{PathOf, QueryOf, from_text};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::refusals::no_such_definition;
use crate::api::types::DefinitionBody;

/// Which version.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VersionQuery {
    /// One version; default: the current one.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<u32>)]
    version: Option<u32>,
}

/// Find a definition
///
/// The ETag is its version; `If-None-Match` with it is answered 304, wherever its schedule has come to.
#[utoipa::path(
    get,
    path = "/definitions/{id}",
    tag = "definitions",
    params(("id" = String, Path, description = "What it is called"), VersionQuery, ("if-none-match" = Option<String>, Header, description = "ETags that are known")),
    responses(
        (status = 200, body = DefinitionBody),
        (status = 304, description = "It is still at that version"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn find_definition(
    State(api): State<Api>,
    PathOf(id): PathOf<Name>,
    QueryOf(query): QueryOf<VersionQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let definitions = &api.stores().definitions;
    let found = match query.version {
        Some(version) => definitions.find_version(&id, version).await?,
        None => definitions.find(&id).await?,
    };
    let definition = found.ok_or_else(|| no_such_definition(&id))?;
    let tag = [(header::ETAG, etag(definition.version))];
    if knows(&headers, &tag[0].1) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let schedule = api.stores().schedules.find(&id).await?;
    Ok((tag, Json(DefinitionBody::from(definition).with(schedule))).into_response())
}
