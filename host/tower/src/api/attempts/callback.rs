//! The forms in which earlier designs had steps speak: one callback for everything, and a split under the trace.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json as JsonDocument;
use tower_domain::step::{LogLevel, LogLine, LogStream};
use tower_outside::desk::{Found, Refused};
use tower_outside::wire::{ChildBody, CompleteBody, FailBody, SplitAnswer, SplitBody};
use utoipa::ToSchema;

use super::{OursOrOver, complete_with, fail_with, look, no_token, stage, token_of};
use crate::api::Api;
use crate::api::extract::{JsonBody, PathOf};
use crate::api::problem::{Problem, ProblemBody, codes};

/// What happened to a step.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StepCallback)]
pub(super) struct CallbackBody {
    /// `task_started`, `tool_call`, `agent_response`, `task_completed` or `task_failed`.
    event: String,
    /// Free; kept in the log.
    #[serde(default)]
    session_id: Option<String>,
    /// More about it. `task_completed` takes `output` or `result`; `task_failed` takes `code`, `message` or `error`, and `retryable`.
    #[serde(default = "JsonDocument::empty_object")]
    #[schema(value_type = Object)]
    data: JsonDocument,
}

/// What the data of an end may say; everything else in it is the sender's own.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EndData {
    output: Option<JsonDocument>,
    result: Option<JsonDocument>,
    last: bool,
    code: Option<String>,
    message: Option<String>,
    error: Option<String>,
    retryable: Option<bool>,
    after_ms: Option<u64>,
}

/// Taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CallbackAnswer)]
pub(super) struct CallbackAnswer {
    /// `accepted`.
    status: &'static str,
}

/// Report on a step, in the form of the callbacks of earlier designs
///
/// With the token of the attempt. `task_started`, `tool_call` and `agent_response` become lines of the task's log, with `data` as their
/// fields; `task_completed` and `task_failed` end the step.
#[utoipa::path(
    post,
    path = "/callback",
    tag = "attempts",
    request_body = CallbackBody,
    responses(
        (status = 200, body = CallbackAnswer),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn call_back(
    State(api): State<Api>,
    headers: HeaderMap,
    JsonBody { value, .. }: JsonBody<CallbackBody>,
) -> Result<Json<CallbackAnswer>, Problem> {
    let token = token_of(&headers).ok_or_else(no_token)?;
    let task = api.outside.desk.task_of(token).ok_or(Refused::Unknown)?;
    let ours = match look(&api.outside.desk, task, &headers)? {
        Found::Open(attempt) => {
            attempt.touch();
            OursOrOver::Open(attempt)
        }
        Found::Over(over) => OursOrOver::Over(over),
    };
    let not_object = |_| {
        Problem::field(&codes::BAD_FIELDS, "/data", "an object whose `last` and `retryable` are booleans and whose `code`, `message` and `error` are texts")
    };
    let CallbackBody { event, session_id, data } = value;
    match event.as_str() {
        "task_completed" => {
            let said: EndData = data.read().map_err(not_object)?;
            let output = said.output.or(said.result).unwrap_or_else(|| data.clone());
            let _kept = complete_with(ours, CompleteBody { output, last: said.last }).await?;
        }
        "task_failed" => {
            let said: EndData = data.read().map_err(not_object)?;
            let code = said.code.unwrap_or_else(|| "TASK_FAILED".to_owned());
            let message = said.message.or(said.error).unwrap_or_default();
            let _kept = fail_with(ours, FailBody { code, message, retryable: said.retryable.unwrap_or(true), after_ms: said.after_ms }).await?;
        }
        "task_started" | "tool_call" | "agent_response" => {
            let OursOrOver::Open(attempt) = ours else { return Err(Refused::Over.into()) };
            let message = match session_id {
                Some(session) => format!("{event} (session {session})"),
                None => event,
            };
            attempt.host().log(LogLine { stream: LogStream::Log, level: LogLevel::Info, message, fields: Some(data) });
        }
        _ => return Err(Problem::field(&codes::BAD_FIELDS, "/event", "`task_started`, `tool_call`, `agent_response`, `task_completed` or `task_failed`")),
    }
    Ok(Json(CallbackAnswer { status: "accepted" }))
}

/// A split under the trace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SplitUnderTrace)]
pub(in crate::api) struct SplitUnderTrace {
    /// The task that splits: the one that the token is for.
    #[schema(value_type = String, format = "ulid")]
    parent_id: TaskId,
    /// At most as many as the definition's `max_children`.
    children: Vec<ChildBody>,
}

/// Split a task, under the path of its trace
///
/// As `POST /attempts/{task_id}/split`, with the token of the attempt.
#[utoipa::path(
    post,
    path = "/traces/{trace_id}/split",
    tag = "attempts",
    params(("trace_id" = String, Path, description = "The trace of the task that splits")),
    request_body = SplitUnderTrace,
    responses(
        (status = 200, body = SplitAnswer),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(in crate::api) async fn split_trace(
    State(api): State<Api>,
    PathOf(trace): PathOf<TraceId>,
    headers: HeaderMap,
    JsonBody { value, .. }: JsonBody<SplitUnderTrace>,
) -> Result<Json<SplitAnswer>, Problem> {
    let Found::Open(attempt) = look(&api.outside.desk, value.parent_id, &headers)? else { return Err(Refused::Over.into()) };
    if attempt.step().trace_id != trace {
        return Err(Problem::new(&codes::NO_SUCH_TASK, format!("trace {trace} has no task {}", value.parent_id)));
    }
    attempt.touch();
    stage(&attempt, SplitBody { children: value.children }).await.map(Json)
}
