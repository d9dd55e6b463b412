//! Paths that earlier designs had without the prefix, with the answers that they promised. In `tasks`, those of a task service.

mod tasks;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tower_domain::id::TraceId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::extract::{Idempotency, JsonBody, OptionalJson, PathOf, QueryOf};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::traces::{TaskQuery, begin, cancel, list};
use crate::api::types::{Health, List, Readiness, Reason, StartTrace, TaskBody, VerdictBody};
use crate::api::{Api, events, extract, health};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(start_trace))
        .routes(routes!(cancel_trace))
        .routes(routes!(list_tasks))
        .routes(routes!(post_events))
        .routes(routes!(find_health))
        .routes(routes!(find_liveness))
        .routes(routes!(find_readiness))
        .merge(tasks::router())
}

/// The id alone.
#[derive(Debug, Serialize, ToSchema)]
struct TraceIdAlone {
    #[schema(value_type = String, format = "ulid")]
    trace_id: TraceId,
}

/// `cancelled`.
#[derive(Debug, Serialize, ToSchema)]
struct CancelledWord {
    status: &'static str,
}

/// Begin a trace
#[utoipa::path(
    post,
    path = "/traces/start",
    tag = "compatibility",
    params(("idempotency-key" = Option<String>, Header, description = "The same key again is the same trace")),
    request_body = StartTrace,
    responses(
        (status = 200, body = TraceIdAlone),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn start_trace(State(api): State<Api>, key: Idempotency, JsonBody { value, bytes, .. }: JsonBody<StartTrace>) -> Result<Json<TraceIdAlone>, Problem> {
    let key = key.of("/traces", &bytes);
    let triggered = begin(&api, value, key).await?;
    Ok(Json(TraceIdAlone { trace_id: triggered.trace_id }))
}

/// Cancel a trace
#[utoipa::path(
    post,
    path = "/traces/{trace_id}/cancel",
    tag = "compatibility",
    params(("trace_id" = String, Path, description = "Its id")),
    request_body = Reason,
    responses((status = 200, body = CancelledWord), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn cancel_trace(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    OptionalJson { value, .. }: OptionalJson<Reason>,
) -> Result<Json<CancelledWord>, Problem> {
    let _outcome = cancel(&api, id, None, value).await?;
    Ok(Json(CancelledWord { status: "cancelled" }))
}

/// List a trace's tasks, without an envelope
///
/// The cursor of the next page is the id of the last task on this one.
#[utoipa::path(
    get,
    path = "/traces/{trace_id}/tasks",
    tag = "compatibility",
    params(("trace_id" = String, Path, description = "Its id"), TaskQuery),
    responses((status = 200, body = Vec<TaskBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn list_tasks(State(api): State<Api>, PathOf(id): PathOf<TraceId>, QueryOf(query): QueryOf<TaskQuery>) -> Result<Json<Vec<TaskBody>>, Problem> {
    Ok(Json(list(&api, id, query).await?.items))
}

/// Report events
#[utoipa::path(post, path = "/events", tag = "compatibility", request_body = crate::api::types::OneOrMany, responses((status = 200, body = List<VerdictBody>)))]
async fn post_events(api: State<Api>, json: extract::JsonText) -> Result<Json<List<VerdictBody>>, Problem> {
    events::post_events(api, json).await
}

/// Is the process there?
#[utoipa::path(get, path = "/health", tag = "compatibility", responses((status = 200, body = Health)))]
async fn find_health() -> Json<Health> {
    health::find_health().await
}

/// Is the process there?
#[utoipa::path(get, path = "/livez", tag = "compatibility", responses((status = 200, body = Health)))]
async fn find_liveness() -> Json<Health> {
    health::find_liveness().await
}

/// Does the host take work?
#[utoipa::path(get, path = "/readyz", tag = "compatibility", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
async fn find_readiness(api: State<Api>) -> (axum::http::StatusCode, Json<Readiness>) {
    health::find_readiness(api).await
}
