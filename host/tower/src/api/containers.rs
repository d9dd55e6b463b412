//! `/containers`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tower_domain::code_ref::CodeRef;
use tower_domain::name::Name;
use tower_domain::step::StepEnd;
use tower_outside::docker::EngineError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{JsonBody, PathOf, name};
use super::problem::{Problem, ProblemBody, codes};
use super::refusals::no_such_definition;
use super::types::{ContainerListBody, WarmBody, WarmedBody};

/// Most containers that are asked to stand ready at once.
const WARM_MAX: u32 = 1_000;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_containers)).routes(routes!(remove_container)).routes(routes!(warm_containers))
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        Self::new(&codes::EXECUTOR_UNAVAILABLE, error.to_string()).with_hint("start the engine, or name its socket: `tower serve --docker unix:///path`")
    }
}

/// List the containers of the host that answers
///
/// Those of steps that run, and those that wait for work. Other hosts of the same database have others.
#[utoipa::path(
    get,
    path = "/containers",
    tag = "containers",
    responses((status = 200, body = ContainerListBody), (status = 503, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn list_containers(State(api): State<Api>) -> Result<Json<ContainerListBody>, Problem> {
    let rows = api.outside.containers.list().await?;
    Ok(Json(ContainerListBody { load: api.outside.containers.load().into(), items: rows.into_iter().map(Into::into).collect() }))
}

/// Take a container away
///
/// Whether it works or waits: a step that runs in it fails with CONTAINER_EXIT or EXECUTOR_UNAVAILABLE, and is tried again in another.
#[utoipa::path(
    delete,
    path = "/containers/{name}",
    tag = "containers",
    params(("name" = String, Path, description = "What the engine calls it")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn remove_container(State(api): State<Api>, PathOf(container): PathOf<Name>) -> Result<StatusCode, Problem> {
    if api.outside.containers.remove(container.as_str()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::new(&codes::NO_SUCH_CONTAINER, format!("this host has no container {container}")).with_hint("GET /api/v1/containers lists them"))
    }
}

/// Have containers of a definition stand ready
///
/// Fetches the image if the definition's `pull` says so, and answers when it is there. Of a SERVICE that is EPHEMERAL, `count` containers
/// are then started, on the host that answers, and kept ready for as long as the definition is used or asked for.
#[utoipa::path(
    post,
    path = "/containers/warm",
    tag = "containers",
    request_body = WarmBody,
    responses(
        (status = 202, body = WarmedBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn warm_containers(State(api): State<Api>, JsonBody { value, .. }: JsonBody<WarmBody>) -> Result<(StatusCode, Json<WarmedBody>), Problem> {
    let id = name(&value.definition_id)?;
    if value.count > WARM_MAX {
        return Err(Problem::field(&codes::BAD_FIELDS, "/count", format!("at most {WARM_MAX}")));
    }
    let definition = api.stores().definitions.find(&id).await?.ok_or_else(|| no_such_definition(&id))?;
    if !matches!(definition.spec.code_ref, CodeRef::Container(_)) {
        return Err(Problem::field(&codes::BAD_FIELDS, "/definition_id", "a definition whose code_ref is `docker://…`: nothing else runs in containers"));
    }
    let shown = format!("{}@{}", definition.id, definition.version);
    match api.outside.containers.warm(Arc::new(definition), value.count).await {
        Ok(ready) => Ok((StatusCode::ACCEPTED, Json(WarmedBody { definition: shown, ready }))),
        Err(StepEnd::Failed(failure)) => Err(Problem::executor(failure.error.code.as_ref(), &failure.error.message, &codes::CODE_PROBLEM)),
        Err(_) => Err(Problem::new(&codes::UNAVAILABLE, "the host is going down")),
    }
}
