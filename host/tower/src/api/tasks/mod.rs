//! `/tasks`: nodes of traces' trees. An order on a task is an order on everything below it too.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tower_domain::id::TaskId;
use tower_domain::task::{Phase, Task};
use tower_engine::orders::Control;
use tower_store::read::TaskFilter;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Idempotency, OptionalJson, PageQuery, PathOf, QueryOf};
use super::problem::{Problem, ProblemBody, codes};
use super::refusals::no_such_task;
use super::traces::{LogQuery, cancel, hold, log_page, rerun};
use super::types::{CancelBody, HoldBody, List, LogBody, NAMED_MAX, Reason, RerunOptions, TaskBody, TraceStarted};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(find_task))
        .routes(routes!(list_task_logs))
        .routes(routes!(list_task_children))
        .routes(routes!(cancel_task))
        .routes(routes!(pause_task))
        .routes(routes!(resume_task))
        .routes(routes!(rerun_task))
}

async fn existing(api: &Api, id: TaskId) -> Result<Task, Problem> {
    api.stores().read.task(id).await?.ok_or_else(|| no_such_task(id))
}

/// Find a task, with its attempts
#[utoipa::path(
    get,
    path = "/tasks/{task_id}",
    tag = "tasks",
    params(("task_id" = String, Path, description = "Its id")),
    responses((status = 200, body = TaskBody), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn find_task(State(api): State<Api>, PathOf(id): PathOf<TaskId>) -> Result<Json<TaskBody>, Problem> {
    let task = existing(&api, id).await?;
    let mut attempts = api.stores().read.attempts(id).await?;
    attempts.extend(task.plain_attempt().filter(|_| attempts.is_empty()));
    let waits_for_siblings = task.phase == Phase::WaitingDeps;
    let mut body = TaskBody { attempts: Some(attempts.into_iter().map(Into::into).collect()), ..task.into() };
    if waits_for_siblings {
        body.name_open(api.stores().read.open_dependencies(id, NAMED_MAX as u32).await?);
    }
    Ok(Json(body))
}

/// List the log lines of a task and everything below it, oldest first
#[utoipa::path(
    get,
    path = "/tasks/{task_id}/logs",
    tag = "tasks",
    params(("task_id" = String, Path, description = "Its id"), LogQuery),
    responses((status = 200, body = List<LogBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn list_task_logs(State(api): State<Api>, PathOf(id): PathOf<TaskId>, QueryOf(query): QueryOf<LogQuery>) -> Result<Json<List<LogBody>>, Problem> {
    let task = existing(&api, id).await?;
    log_page(&api, task.trace_id, Some(id), query).await.map(Json)
}

/// List a task's children, in the order in which they were split off
#[utoipa::path(
    get,
    path = "/tasks/{task_id}/children",
    tag = "tasks",
    params(("task_id" = String, Path, description = "Its id"), PageQuery),
    responses((status = 200, body = List<TaskBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn list_task_children(State(api): State<Api>, PathOf(id): PathOf<TaskId>, QueryOf(query): QueryOf<PageQuery>) -> Result<Json<List<TaskBody>>, Problem> {
    let task = existing(&api, id).await?;
    let page = query.page()?;
    let filter = TaskFilter { parent_id: Some(id), ..TaskFilter::default() };
    Ok(Json(List::of(api.stores().read.tasks(task.trace_id, &filter, &page).await?)))
}

/// Cancel a task and everything below it
#[utoipa::path(
    post,
    path = "/tasks/{task_id}/cancel",
    tag = "tasks",
    params(("task_id" = String, Path, description = "Its id")),
    request_body = Reason,
    responses(
        (status = 202, description = "It was ordered", body = CancelBody),
        (status = 200, description = "There was nothing to do", body = CancelBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn cancel_task(
    State(api): State<Api>,
    PathOf(id): PathOf<TaskId>,
    OptionalJson { value, .. }: OptionalJson<Reason>,
) -> Result<(StatusCode, Json<CancelBody>), Problem> {
    let task = existing(&api, id).await?;
    cancel(&api, task.trace_id, Some(id), value).await
}

/// Pause a task and everything below it
///
/// Nothing of it begins any more until it is resumed. What runs goes on, and hears `pause`.
#[utoipa::path(
    post,
    path = "/tasks/{task_id}/pause",
    tag = "tasks",
    params(("task_id" = String, Path, description = "Its id")),
    request_body = Reason,
    responses(
        (status = 202, description = "It was ordered", body = HoldBody),
        (status = 200, description = "There was nothing to do", body = HoldBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn pause_task(
    State(api): State<Api>,
    PathOf(id): PathOf<TaskId>,
    OptionalJson { value, .. }: OptionalJson<Reason>,
) -> Result<(StatusCode, Json<HoldBody>), Problem> {
    let task = existing(&api, id).await?;
    hold(&api, Control::Pause, task.trace_id, Some(id), value).await
}

/// Resume a task and everything below it
///
/// It goes on even where the rest of its trace is held.
#[utoipa::path(
    post,
    path = "/tasks/{task_id}/resume",
    tag = "tasks",
    params(("task_id" = String, Path, description = "Its id")),
    request_body = Reason,
    responses(
        (status = 202, description = "It was ordered", body = HoldBody),
        (status = 200, description = "There was nothing to do", body = HoldBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn resume_task(
    State(api): State<Api>,
    PathOf(id): PathOf<TaskId>,
    OptionalJson { value, .. }: OptionalJson<Reason>,
) -> Result<(StatusCode, Json<HoldBody>), Problem> {
    let task = existing(&api, id).await?;
    hold(&api, Control::Resume, task.trace_id, Some(id), value).await
}

/// Run a trace again from this task
///
/// As `POST /traces/{trace_id}/rerun` with this task as `from`.
#[utoipa::path(
    post,
    path = "/tasks/{task_id}/rerun",
    tag = "tasks",
    params(("task_id" = String, Path, description = "Its id"), ("idempotency-key" = Option<String>, Header, description = "The same key again is the same trace")),
    request_body = RerunOptions,
    responses(
        (status = 202, description = "The new trace", body = TraceStarted),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn rerun_task(
    State(api): State<Api>,
    PathOf(id): PathOf<TaskId>,
    key: Idempotency,
    OptionalJson { value, bytes, .. }: OptionalJson<RerunOptions>,
) -> Result<Response, Problem> {
    if value.from.is_some_and(|from| from != id) {
        return Err(Problem::field(&codes::BAD_FIELDS, "/from", "another task than the path's"));
    }
    let task = existing(&api, id).await?;
    rerun(&api, task.trace_id, id, value, key.of(&format!("/tasks/{id}/rerun"), &bytes)).await
}
