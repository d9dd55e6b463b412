//! `GET /definitions/{id}`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tower_domain::name::Name;
use tower_engine::schedules::ScheduleError;
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::etag::{etag, knows};
use crate::api::extract::{PathOf, QueryOf, from_text};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::refusals::no_such_definition;
use crate::api::schedules::{FIRINGS_MAX, firings};
use crate::api::types::{DefinitionBody, Firing};

/// Which version, and what along with it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VersionQuery {
    /// One version; default: the current one.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<u32>)]
    version: Option<u32>,
    /// Answer so many of its next firings as well, in `next_firings`: 0 to 100.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<u32>, maximum = 100)]
    next: Option<u32>,
}

/// Find a definition
///
/// The ETag is its version; `If-None-Match` with it is answered 304, wherever its schedule has come to. With `next` there is no ETag, since the
/// firings move on while the version stands; there are none of a definition that does not fire by itself, or not while it is held.
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
    if query.next.is_some_and(|next| next > FIRINGS_MAX) {
        return Err(Problem::field(&codes::BAD_QUERY, "?next", format!("0 to {FIRINGS_MAX}")));
    }
    let definitions = &api.stores().definitions;
    let found = match query.version {
        Some(version) => definitions.find_version(&id, version).await?,
        None => definitions.find(&id).await?,
    };
    let definition = found.ok_or_else(|| no_such_definition(&id))?;
    if let Some(count) = query.next {
        let next_firings = Some(next_firings(&api, &id, count).await?);
        let schedule = api.stores().schedules.find(&id).await?;
        return Ok(Json(DefinitionBody { next_firings, ..DefinitionBody::from(definition).with(schedule) }).into_response());
    }
    let tag = [(header::ETAG, etag(definition.version))];
    if knows(&headers, &tag[0].1) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let schedule = api.stores().schedules.find(&id).await?;
    Ok((tag, Json(DefinitionBody::from(definition).with(schedule))).into_response())
}

/// None of what does not fire by itself.
async fn next_firings(api: &Api, id: &Name, count: u32) -> Result<Vec<Firing>, Problem> {
    match api.engine.next_firings(id, count as usize).await {
        Ok((plan, instants)) => Ok(firings(&plan, instants).items),
        Err(ScheduleError::NotScheduled(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
