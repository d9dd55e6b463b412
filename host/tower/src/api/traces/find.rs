//! `GET /traces/{id}`.

use axum::Json;
use axum::extract::State;
use tower_domain::id::TraceId;

use super::start::{WaitQuery, wait_for};
use crate::api::Api;
use crate::api::extract::{PathOf, QueryOf};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::refusals::no_such_trace;
use crate::api::types::TraceBody;

/// Find a trace
///
/// With `wait`, the answer comes when the trace has ended or the time is up, whichever is first.
#[utoipa::path(
    get,
    path = "/traces/{trace_id}",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id"), WaitQuery),
    responses((status = 200, body = TraceBody), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn find_trace(State(api): State<Api>, PathOf(id): PathOf<TraceId>, QueryOf(query): QueryOf<WaitQuery>) -> Result<Json<TraceBody>, Problem> {
    let trace = match query.wait.0 {
        Some(at_most) => wait_for(&api, id, at_most).await?,
        None => api.stores().read.trace(id).await?.ok_or_else(|| no_such_trace(id))?.into(),
    };
    Ok(Json(trace))
}
