//! `GET /traces/{id}/logs`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::id::{TaskId, TraceId};
use utoipa::IntoParams;

use super::events::after_of;
use crate::api::Api;
use crate::api::extract::{Limit, PathOf, QueryOf, from_text};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::refusals::no_such_trace;
use crate::api::types::{List, LogBody};

/// Which lines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// With a `seq` above this.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<u64>)]
    after: Option<u64>,
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before; the same as `after`.
    cursor: Option<String>,
}

/// List a trace's log lines, oldest first
#[utoipa::path(
    get,
    path = "/traces/{trace_id}/logs",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id"), LogQuery),
    responses((status = 200, body = List<LogBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn list_trace_logs(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    QueryOf(query): QueryOf<LogQuery>,
) -> Result<Json<List<LogBody>>, Problem> {
    api.stores().read.trace(id).await?.ok_or_else(|| no_such_trace(id))?;
    log_page(&api, id, None, query).await.map(Json)
}

/// Lines of a trace, or of a subtree of it.
pub(crate) async fn log_page(api: &Api, trace: TraceId, subtree: Option<TaskId>, query: LogQuery) -> Result<List<LogBody>, Problem> {
    let after = after_of(query.after, query.cursor.as_deref())?;
    let events = api.stores().read.logs(trace, subtree, after, query.limit.0).await?;
    let full = events.len() >= query.limit.0 as usize;
    let next_cursor = events.last().filter(|_| full).map(|last| last.seq.to_string());
    Ok(List { items: events.into_iter().map(Into::into).collect(), next_cursor })
}
