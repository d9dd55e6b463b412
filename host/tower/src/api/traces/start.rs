//! `POST /traces`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tower_domain::definition::{LABEL_RULE, bounds, is_plain, labels_are_sound};
use tower_engine::orders::{IdempotencyKey, Trigger, TriggerError, Triggered};
use utoipa::IntoParams;

use super::CALLER;
use crate::api::Api;
use crate::api::extract::{Idempotency, JsonBody, QueryOf, Wait};
use crate::api::problem::{FieldProblem, Problem, ProblemBody, codes};
use crate::api::refusals::{about_trace, no_such_trace};
use crate::api::types::{StartTrace, Status, TraceBody, TraceStarted, TriggerType};

/// Whether to wait for the end.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// How long to wait for the trace to end, at most `60s`. Default: not at all.
    #[param(value_type = Option<String>, example = "30s")]
    pub(crate) wait: Wait,
}

/// Begin a trace
///
/// With an `Idempotency-Key`, the same request again is answered with the same trace and `Idempotent-Replayed: true`.
#[utoipa::path(
    post,
    path = "/traces",
    tag = "traces",
    params(WaitQuery, ("idempotency-key" = Option<String>, Header, description = "The same key again is the same trace")),
    request_body = StartTrace,
    responses(
        (status = 202, description = "It was begun", body = TraceStarted),
        (status = 200, description = "It ended within `wait`", body = TraceBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn start_trace(
    State(api): State<Api>,
    QueryOf(query): QueryOf<WaitQuery>,
    key: Idempotency,
    JsonBody { value, bytes, .. }: JsonBody<StartTrace>,
) -> Result<Response, Problem> {
    let key = key.of("/traces", &bytes);
    let triggered = begin(&api, value, key).await?;
    started(&api, triggered, query.wait).await
}

/// Begin a trace: another path of `POST /traces`
#[utoipa::path(
    post,
    path = "/traces/start",
    tag = "traces",
    params(WaitQuery, ("idempotency-key" = Option<String>, Header, description = "The same key again is the same trace")),
    request_body = StartTrace,
    responses(
        (status = 202, description = "It was begun", body = TraceStarted),
        (status = 200, description = "It ended within `wait`", body = TraceBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn start_trace_alias(api: State<Api>, query: QueryOf<WaitQuery>, key: Idempotency, body: JsonBody<StartTrace>) -> Result<Response, Problem> {
    start_trace(api, query, key, body).await
}

/// Hands a trace to the engine.
pub(crate) async fn begin(api: &Api, wanted: StartTrace, idempotency_key: Option<IdempotencyKey>) -> Result<Triggered, Problem> {
    check(&wanted)?;
    let StartTrace { definition, params, priority, run_at, window, user_id, labels, session_id, trigger_type } = wanted;
    let trigger = Trigger {
        definition_id: definition,
        params,
        priority,
        run_at,
        window: window.map(Into::into),
        user_id,
        labels,
        trigger_type: trigger_type.into(),
        triggered_by: CALLER.to_owned(),
        idempotency_key,
        session_id,
    };
    let id = trigger.definition_id.clone();
    api.engine.trigger(trigger).await.map_err(|refused| match refused {
        refused @ TriggerError::BadParams(_) => Problem::from(refused).with_hint(format!("GET /api/v1/definitions/{id} shows the params_schema")),
        refused => refused.into(),
    })
}

fn check(wanted: &StartTrace) -> Result<(), Problem> {
    let mut errors = Vec::new();
    let mut need = |ok: bool, pointer: &str, message: &str| {
        if !ok {
            errors.push(FieldProblem { pointer: pointer.to_owned(), message: message.to_owned() });
        }
    };
    need(wanted.params.as_str().starts_with('{'), "/params", "an object");
    need(wanted.params.as_str().len() <= bounds::JSON_BYTES_MAX, "/params", "at most 1 MiB");
    need(wanted.priority.is_none_or(|priority| bounds::PRIORITY.contains(&priority)), "/priority", "1 to 10, 10 the most urgent");
    need(matches!(wanted.trigger_type, TriggerType::Manual | TriggerType::Api), "/trigger_type", "MANUAL or API: the others are the tower's own");
    need(labels_are_sound(&wanted.labels), "/labels", LABEL_RULE);
    need(wanted.user_id.as_deref().is_none_or(is_plain), "/user_id", "at most 1024 bytes of text without control characters");
    match errors.first() {
        None => Ok(()),
        Some(first) => Err(Problem::new(&codes::BAD_FIELDS, format!("{}: {}", first.pointer, first.message)).with_errors(errors)),
    }
}

/// The answer: 202 at once, or, with a wait, 200 if the trace ended in time.
pub(crate) async fn started(api: &Api, triggered: Triggered, wait: Wait) -> Result<Response, Problem> {
    // A trace that was begun before may be anywhere by now; a new one has not begun.
    let look = wait.0.or(triggered.replayed.then_some(Duration::ZERO));
    let mut status = Status::Pending;
    if let Some(at_most) = look {
        let trace = wait_for(api, triggered.trace_id, at_most).await?;
        if wait.0.is_some() && trace.status.is_terminal() {
            return Ok((headers(triggered), Json(trace)).into_response());
        }
        status = trace.status;
    }
    Ok((StatusCode::ACCEPTED, headers(triggered), Json(TraceStarted::of(triggered, status))).into_response())
}

/// The trace as it is when it has ended, the time is up, or the server stops.
pub(crate) async fn wait_for(api: &Api, id: tower_domain::id::TraceId, at_most: Duration) -> Result<TraceBody, Problem> {
    let ended = tokio::select! {
        ended = api.engine.wait_for_end(id, at_most) => ended.map_err(|error| about_trace(error, id))?,
        () = api.stop.cancelled() => api.stores().read.trace(id).await?,
    };
    ended.map(TraceBody::from).ok_or_else(|| no_such_trace(id))
}

fn headers(triggered: Triggered) -> [(HeaderName, HeaderValue); 2] {
    // A ULID and these two words are visible ASCII.
    let location = HeaderValue::from_str(&format!("/api/v1/traces/{}", triggered.trace_id)).unwrap_or(HeaderValue::from_static("/api/v1/traces"));
    let replayed = HeaderValue::from_static(if triggered.replayed { "true" } else { "false" });
    [(header::LOCATION, location), (HeaderName::from_static("idempotent-replayed"), replayed)]
}
