//! `POST /traces/{id}/cancel`, `/pause`, `/resume`, `/retry` and `/rerun`, and the list of orders.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tower_domain::definition::is_plain;
use tower_domain::id::{ControlEventId, TaskId, TraceId};
use tower_engine::orders::{Control, ControlOutcome, ControlRequest, IdempotencyKey, OrderError, RerunRequest};

use super::CALLER;
use super::start::started;
use crate::api::Api;
use crate::api::extract::{Idempotency, OptionalJson, PageQuery, PathOf, QueryOf, Wait};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::refusals::{about_trace, no_such_task, no_such_trace};
use crate::api::types::{CancelBody, CancelWord, ControlEventBody, HoldBody, HoldWord, List, Reason, RerunOptions, TraceStarted};

/// Cancel a trace
///
/// Tasks that wait end at once; running ones learn of it at their next `check-cancel`, and are stopped after the grace time.
#[utoipa::path(
    post,
    path = "/traces/{trace_id}/cancel",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id")),
    request_body = Reason,
    responses(
        (status = 202, description = "It was ordered", body = CancelBody),
        (status = 200, description = "There was nothing to do", body = CancelBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel_trace(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    OptionalJson { value, .. }: OptionalJson<Reason>,
) -> Result<(StatusCode, Json<CancelBody>), Problem> {
    cancel(&api, id, None, value).await
}

/// Orders the end of a trace or a subtree.
pub(crate) async fn cancel(
    api: &Api,
    trace_id: TraceId,
    task_id: Option<TaskId>,
    Reason { reason }: Reason,
) -> Result<(StatusCode, Json<CancelBody>), Problem> {
    let outcome = CancelBody::from(hold_or_cancel(api, Control::Cancel, trace_id, task_id, reason).await?);
    let status = if outcome.outcome == CancelWord::Ordered { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(outcome)))
}

/// Pause a trace
///
/// Nothing of it begins any more until it is resumed. What runs goes on; where it asks `check-cancel` it hears `pause`, and may stop early
/// to go on from there later. It holds across restarts.
#[utoipa::path(
    post,
    path = "/traces/{trace_id}/pause",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id")),
    request_body = Reason,
    responses(
        (status = 202, description = "It was ordered", body = HoldBody),
        (status = 200, description = "There was nothing to do", body = HoldBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn pause_trace(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    OptionalJson { value, .. }: OptionalJson<Reason>,
) -> Result<(StatusCode, Json<HoldBody>), Problem> {
    hold(&api, Control::Pause, id, None, value).await
}

/// Resume a trace
///
/// Whatever of it was held goes on, a part that was paused by itself included.
#[utoipa::path(
    post,
    path = "/traces/{trace_id}/resume",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id")),
    request_body = Reason,
    responses(
        (status = 202, description = "It was ordered", body = HoldBody),
        (status = 200, description = "There was nothing to do", body = HoldBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn resume_trace(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    OptionalJson { value, .. }: OptionalJson<Reason>,
) -> Result<(StatusCode, Json<HoldBody>), Problem> {
    hold(&api, Control::Resume, id, None, value).await
}

/// Orders a trace or a subtree to hold or to go on.
pub(crate) async fn hold(
    api: &Api,
    control: Control,
    trace_id: TraceId,
    task_id: Option<TaskId>,
    Reason { reason }: Reason,
) -> Result<(StatusCode, Json<HoldBody>), Problem> {
    let outcome = HoldBody::from(hold_or_cancel(api, control, trace_id, task_id, reason).await?);
    let status = if outcome.outcome == HoldWord::Ordered { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(outcome)))
}

/// Orders something of a trace or a subtree.
pub(crate) async fn hold_or_cancel(api: &Api, control: Control, trace_id: TraceId, task_id: Option<TaskId>, reason: String) -> Result<ControlOutcome, Problem> {
    check_reason(&reason)?;
    let request = ControlRequest { control, trace_id, task_id, triggered_by: CALLER.to_owned(), reason };
    api.engine.control(request).await.map_err(|error| about_trace(error, trace_id))
}

/// Retry a trace
///
/// A new trace takes over the results of what succeeded and runs the rest. The old one stays as it is.
#[utoipa::path(
    post,
    path = "/traces/{trace_id}/retry",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id"), ("idempotency-key" = Option<String>, Header, description = "The same key again is the same trace")),
    request_body = Reason,
    responses(
        (status = 202, description = "The new trace", body = TraceStarted),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn retry_trace(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    key: Idempotency,
    OptionalJson { value: Reason { reason }, bytes, .. }: OptionalJson<Reason>,
) -> Result<Response, Problem> {
    check_reason(&reason)?;
    let key = key.of(&format!("/traces/{id}/retry"), &bytes);
    let triggered = api.engine.rerun(RerunRequest::retry(id, CALLER, &reason, key)).await.map_err(|error| about_trace(error, id))?;
    started(&api, triggered, Wait::default()).await
}

/// Run a trace again from one of its tasks
///
/// A new trace takes over the results of what succeeded, but for the task `from`, which runs again from its beginning with `params` laid
/// over its own, and everything that follows from it: what stood below it, what depends on it, and the folds above. What did not succeed
/// runs again as well. The old trace stays as it is.
#[utoipa::path(
    post,
    path = "/traces/{trace_id}/rerun",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id"), ("idempotency-key" = Option<String>, Header, description = "The same key again is the same trace")),
    request_body = RerunOptions,
    responses(
        (status = 202, description = "The new trace", body = TraceStarted),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn rerun_trace(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    key: Idempotency,
    OptionalJson { value, bytes, .. }: OptionalJson<RerunOptions>,
) -> Result<Response, Problem> {
    let key = key.of(&format!("/traces/{id}/rerun"), &bytes);
    let trace = api.stores().read.trace(id).await?.ok_or_else(|| no_such_trace(id))?;
    rerun(&api, id, value.from.unwrap_or(trace.root_task_id), value, key).await
}

/// Begins a rerun.
pub(crate) async fn rerun(api: &Api, trace_id: TraceId, from: TaskId, options: RerunOptions, key: Option<IdempotencyKey>) -> Result<Response, Problem> {
    let RerunOptions { params, reason, .. } = options;
    check_reason(&reason)?;
    if !params.as_str().starts_with('{') {
        return Err(Problem::field(&codes::BAD_FIELDS, "/params", "an object"));
    }
    let request = RerunRequest { trace_id, from: Some(from), params, triggered_by: CALLER.to_owned(), reason, idempotency_key: key };
    let triggered = api.engine.rerun(request).await.map_err(|error| match error {
        OrderError::NotFound => no_such_task(from),
        other => other.into(),
    })?;
    started(api, triggered, Wait::default()).await
}

/// A reason that can be kept.
pub(crate) fn check_reason(reason: &str) -> Result<(), Problem> {
    let rule = || Problem::field(&codes::BAD_FIELDS, "/reason", "at most 1024 bytes of text without control characters");
    if is_plain(reason) { Ok(()) } else { Err(rule()) }
}

/// List the orders given to a trace, oldest first; the last 1000
#[utoipa::path(
    get,
    path = "/traces/{trace_id}/control-events",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id"), PageQuery),
    responses((status = 200, body = List<ControlEventBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn list_control_events(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<List<ControlEventBody>>, Problem> {
    let after = query.after::<ControlEventId>()?;
    api.stores().read.trace(id).await?.ok_or_else(|| no_such_trace(id))?;
    let orders = api.stores().read.control_events(id).await?;
    let page = List::page_of(orders, |order| &order.id, after.as_ref(), query.limit);
    Ok(Json(List { items: page.items.into_iter().map(Into::into).collect(), next_cursor: page.next_cursor }))
}
