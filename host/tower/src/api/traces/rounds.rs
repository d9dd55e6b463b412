//! `GET /traces/{id}/rounds`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::id::TraceId;
use tower_store::read::PageRequest;
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{Limit, PathOf, QueryOf, cursor};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::refusals::no_such_trace;
use crate::api::types::{List, RoundBody};

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RoundQuery {
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List the rounds of a LOOP that ended well, with what each left, in order
#[utoipa::path(
    get,
    path = "/traces/{trace_id}/rounds",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id"), RoundQuery),
    responses((status = 200, body = List<RoundBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn list_rounds(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    QueryOf(query): QueryOf<RoundQuery>,
) -> Result<Json<List<RoundBody>>, Problem> {
    let page = PageRequest { after: cursor::<u32>(query.cursor.as_deref())?, limit: query.limit.0 };
    let trace = api.stores().read.trace(id).await?.ok_or_else(|| no_such_trace(id))?;
    Ok(Json(List::of(api.stores().read.rounds(trace.root_task_id, &page).await?)))
}
