//! `/dead-letters`: tasks that failed for good.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::id::{TaskId, TraceId};
use tower_store::read::PageRequest;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{JsonBody, Limit, QueryOf, cursor, from_text};
use super::problem::{Problem, ProblemBody, codes};
use super::refusals::{about_trace, no_such_task};
use super::types::{ErrorBody, List, RetriedTrace, RetryDeadLetters, TaskBody};
use super::{Api, traces::CALLER, traces::check_reason};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_dead_letters)).routes(routes!(retry_dead_letters))
}

/// Which dead letters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeadLetterQuery {
    /// `true` (the default): only those whose trace has not been retried since.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<bool>)]
    open: Option<bool>,
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List dead letters, newest first
#[utoipa::path(get, path = "/dead-letters", tag = "dead letters", params(DeadLetterQuery), responses((status = 200, body = List<TaskBody>)))]
async fn list_dead_letters(State(api): State<Api>, QueryOf(query): QueryOf<DeadLetterQuery>) -> Result<Json<List<TaskBody>>, Problem> {
    let page = PageRequest { after: cursor(query.cursor.as_deref())?, limit: query.limit.0 };
    let tasks = api.stores().read.dead_letters(query.open.unwrap_or(true), &page).await?;
    Ok(Json(List::of(tasks)))
}

/// Retry dead letters
///
/// Each trace that one of them belongs to is retried once, as a new trace that takes over what succeeded.
#[utoipa::path(
    post,
    path = "/dead-letters/retry",
    tag = "dead letters",
    request_body = RetryDeadLetters,
    responses(
        (status = 200, body = List<RetriedTrace>),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn retry_dead_letters(State(api): State<Api>, JsonBody { value: wanted, .. }: JsonBody<RetryDeadLetters>) -> Result<Json<List<RetriedTrace>>, Problem> {
    check_reason(&wanted.reason)?;
    let mut retried = Vec::new();
    for (trace, tasks) in by_trace(&api, &wanted.task_ids).await? {
        retried.push(retry(&api, trace, tasks, &wanted.reason).await);
    }
    Ok(Json(List::whole(retried)))
}

async fn by_trace(api: &Api, ids: &[TaskId]) -> Result<BTreeMap<TraceId, Vec<TaskId>>, Problem> {
    if !(1..=100).contains(&ids.len()) {
        return Err(Problem::field(&codes::BAD_FIELDS, "/task_ids", "1 to 100 ids"));
    }
    let mut traces = BTreeMap::<TraceId, Vec<TaskId>>::new();
    for id in ids {
        let task = api.stores().read.task(*id).await?.ok_or_else(|| no_such_task(*id))?;
        let tasks = traces.entry(task.trace_id).or_default();
        if !tasks.contains(id) {
            tasks.push(*id);
        }
    }
    Ok(traces)
}

async fn retry(api: &Api, rerun_of: TraceId, task_ids: Vec<TaskId>, reason: &str) -> RetriedTrace {
    let result = api.engine.retry(rerun_of, CALLER.to_owned(), reason.to_owned(), None).await;
    let (trace_id, error) = match result {
        Ok(triggered) => (Some(triggered.trace_id), None),
        Err(error) => {
            let problem = about_trace(error, rerun_of);
            (None, Some(ErrorBody { code: problem.code().to_owned(), message: problem.detail().to_owned() }))
        }
    };
    RetriedTrace { rerun_of, trace_id, task_ids, error }
}
