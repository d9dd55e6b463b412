//! `GET /traces/{id}/events`: the history as a list, or live.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tower_domain::id::TraceId;
use tower_domain::trace::Trace;
use utoipa::IntoParams;

use super::stream;
use crate::api::Api;
use crate::api::extract::{Limit, PathOf, QueryOf, cursor, from_text};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::refusals::no_such_trace;
use crate::api::types::{EventBody, List};

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// With a `seq` above this; default: from the beginning. A `Last-Event-ID` header goes before it.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<u64>)]
    after: Option<u64>,
    /// 1 to 500; default 50. Lists only.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before; the same as `after`.
    cursor: Option<String>,
}

/// List a trace's events, or follow them
///
/// With `Accept: text/event-stream` they come live, as server-sent events: `snapshot` (the trace) first, then `task`, `progress`, `log`
/// and `partial` (each an event, its `id` the `seq`), and at the end `end` (the trace). A client that comes back with `Last-Event-ID`
/// goes on where it was; once the trace has ended and all was delivered, it is answered 204, which ends an `EventSource`.
#[utoipa::path(
    get,
    path = "/traces/{trace_id}/events",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id"), EventQuery, ("last-event-id" = Option<u64>, Header, description = "The last `id` that was received")),
    responses(
        (status = 200, content((List<EventBody> = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "The trace has ended, and all was delivered before"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "As many streams are open as may be", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_trace_events(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    QueryOf(query): QueryOf<EventQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let trace = api.stores().read.trace(id).await?.ok_or_else(|| no_such_trace(id))?;
    let last_seen = last_event_id(&headers)?;
    let after = after_of(last_seen.or(query.after), query.cursor.as_deref())?;
    if wants_stream(&headers) { stream::follow(api, trace, after, last_seen) } else { page(&api, &trace, after, query.limit).await }
}

async fn page(api: &Api, trace: &Trace, after: u64, limit: Limit) -> Result<Response, Problem> {
    let events = api.stores().read.events(trace.trace_id, after, limit.0).await?;
    let next_cursor = events.last().filter(|last| last.seq < trace.last_seq).map(|last| last.seq.to_string());
    Ok(Json(List::<EventBody> { items: events.into_iter().map(Into::into).collect(), next_cursor }).into_response())
}

/// Where to go on.
pub(super) fn after_of(after: Option<u64>, text: Option<&str>) -> Result<u64, Problem> {
    Ok(match after {
        Some(after) => after,
        None => cursor(text)?.unwrap_or(0),
    })
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seq = value.to_str().ok().and_then(|text| text.parse().ok());
    seq.map(Some).ok_or_else(|| Problem::new(&codes::BAD_HEADER, "Last-Event-ID: the `id` of an event of this stream"))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/event-stream")))
}
