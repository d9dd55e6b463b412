//! `POST /definitions/{id}/trigger`.

use axum::extract::State;
use axum::response::Response;
use tower_domain::name::Name;

use crate::api::Api;
use crate::api::extract::{Idempotency, OptionalJson, PathOf, QueryOf};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::traces::{WaitQuery, begin, started};
use crate::api::types::{StartTrace, TraceBody, TraceStarted, TriggerOptions};

/// Trigger a definition
///
/// As `POST /traces`, with the definition in the path. The body may be left out.
#[utoipa::path(
    post,
    path = "/definitions/{id}/trigger",
    tag = "definitions",
    params(("id" = String, Path, description = "What it is called"), WaitQuery, ("idempotency-key" = Option<String>, Header, description = "The same key again is the same trace")),
    request_body = TriggerOptions,
    responses(
        (status = 202, description = "It was begun", body = TraceStarted),
        (status = 200, description = "It ended within `wait`", body = TraceBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn trigger_definition(
    State(api): State<Api>,
    PathOf(id): PathOf<Name>,
    QueryOf(query): QueryOf<WaitQuery>,
    key: Idempotency,
    OptionalJson { value: options, bytes, .. }: OptionalJson<TriggerOptions>,
) -> Result<Response, Problem> {
    let key = key.of(&format!("/definitions/{id}/trigger"), &bytes);
    let triggered = begin(&api, StartTrace::of(id, options), key).await?;
    started(&api, triggered, query.wait).await
}
