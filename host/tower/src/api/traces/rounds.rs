//! `GET /traces/{id}/rounds`.

use axum::Json;
use axum::extract::State;
use tower_domain::id::TraceId;

use crate::api::Api;
use crate::api::extract::{PageQuery, PathOf, QueryOf};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::refusals::no_such_trace;
use crate::api::types::{List, RoundBody};

/// List the rounds of a LOOP that ended well, with what each left, in order
#[utoipa::path(
    get,
    path = "/traces/{trace_id}/rounds",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id"), PageQuery),
    responses((status = 200, body = List<RoundBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn list_rounds(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<List<RoundBody>>, Problem> {
    let page = query.page::<u32>()?;
    let trace = api.stores().read.trace(id).await?.ok_or_else(|| no_such_trace(id))?;
    Ok(Json(List::of(api.stores().read.rounds(trace.root_task_id, &page).await?)))
}
