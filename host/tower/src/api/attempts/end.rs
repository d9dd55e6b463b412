//! Ending an attempt.

use axum::Json;
use serde::Serialize;
use tower_domain::definition::bounds::JSON_BYTES_MAX;
use tower_domain::json::Json as JsonDocument;
use tower_domain::step::{Settled, StepEnd};
use tower_outside::wire::{CompleteBody, FailBody, PauseBody};
use utoipa::ToSchema;

use super::OursOrOver;
use crate::api::extract::{JsonBody, OptionalJson};
use crate::api::problem::{Problem, ProblemBody, codes};

/// What became of the end.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettledStep)]
pub(super) struct SettledBody {
    /// `KEPT`: it is the task's, durably.
    settled: &'static str,
}

/// Gives the attempt this end, and waits until it is durable.
async fn settle(ours: OursOrOver, end: StepEnd) -> Result<Json<SettledBody>, Problem> {
    let settled = match ours {
        OursOrOver::Open(attempt) => attempt.end(end).await?,
        OursOrOver::Over(over) => over.again(&end)?,
    };
    match settled {
        Settled::Kept => Ok(Json(SettledBody { settled: "KEPT" })),
        Settled::Refused => Err(tower_outside::desk::Refused::Over.into()),
        Settled::Unknown => Err(Problem::new(&codes::UNAVAILABLE, "the host is going down; whether the end counts is not known").with_retry_after(5)),
    }
}

fn within_bounds(json: &JsonDocument, pointer: &str) -> Result<(), Problem> {
    let bytes = json.as_str().len();
    let too_large =
        || Problem::field(&codes::BAD_FIELDS, pointer, format!("{bytes} bytes; at most {JSON_BYTES_MAX}: split the work, or leave large things elsewhere"));
    if bytes > JSON_BYTES_MAX { Err(too_large()) } else { Ok(()) }
}

/// Ends it well.
pub(super) async fn complete_with(ours: OursOrOver, body: CompleteBody) -> Result<Json<SettledBody>, Problem> {
    within_bounds(&body.output, "/output")?;
    settle(ours, StepEnd::Finished { output: body.output, last: body.last }).await
}

/// Ends it badly.
pub(super) async fn fail_with(ours: OursOrOver, body: FailBody) -> Result<Json<SettledBody>, Problem> {
    let is_word = (1..=64).contains(&body.code.len()) && body.code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_word {
        return Err(Problem::field(&codes::BAD_FIELDS, "/code", "1 to 64 of A-Z, 0-9 and `_`: a word of your own, such as NO_DATA"));
    }
    settle(ours, StepEnd::Failed(body.into())).await
}

/// End the step well
///
/// Answered once the end is durable. The same call again, should the answer get lost, is answered alike.
#[utoipa::path(
    post,
    path = "/attempts/{task_id}/complete",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    request_body = CompleteBody,
    responses(
        (status = 200, body = SettledBody),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn complete_attempt(ours: OursOrOver, JsonBody { value, .. }: JsonBody<CompleteBody>) -> Result<Json<SettledBody>, Problem> {
    complete_with(ours, value).await
}

/// End the step badly
///
/// Retried with backoff while the definition allows it, unless `retryable` is false. Answered as `complete` is.
#[utoipa::path(
    post,
    path = "/attempts/{task_id}/fail",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    request_body = FailBody,
    responses(
        (status = 200, body = SettledBody),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn fail_attempt(ours: OursOrOver, JsonBody { value, .. }: JsonBody<FailBody>) -> Result<Json<SettledBody>, Problem> {
    fail_with(ours, value).await
}

/// End the step early, because it was asked to pause
///
/// It is run again with `carried` once the trace is resumed. A step that nobody asked to pause fails with NOT_PAUSED.
#[utoipa::path(
    post,
    path = "/attempts/{task_id}/pause",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    request_body = PauseBody,
    responses(
        (status = 200, body = SettledBody),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn pause_attempt(ours: OursOrOver, JsonBody { value, .. }: JsonBody<PauseBody>) -> Result<Json<SettledBody>, Problem> {
    within_bounds(&value.carried, "/carried")?;
    settle(ours, StepEnd::Paused { carried: value.carried }).await
}

/// Nothing to say.
#[derive(Debug, Default, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NothingMore)]
pub(super) struct NothingMore {}

/// End the step because it was cancelled
///
/// A step that nobody cancelled fails with GUEST_CANCELLED_ITSELF.
#[utoipa::path(
    post,
    path = "/attempts/{task_id}/cancelled",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    request_body = NothingMore,
    responses(
        (status = 200, body = SettledBody),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn cancel_attempt(ours: OursOrOver, nothing: OptionalJson<NothingMore>) -> Result<Json<SettledBody>, Problem> {
    drop(nothing);
    settle(ours, StepEnd::Cancelled).await
}

/// Give the step back unharmed
///
/// As a worker does that goes down: the step runs again elsewhere, and no retry is used up.
#[utoipa::path(
    post,
    path = "/attempts/{task_id}/release",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    request_body = NothingMore,
    responses(
        (status = 200, body = SettledBody),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn release_attempt(ours: OursOrOver, nothing: OptionalJson<NothingMore>) -> Result<Json<SettledBody>, Problem> {
    drop(nothing);
    settle(ours, StepEnd::Released).await
}
