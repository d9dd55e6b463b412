//! `GET /traces/{id}/tasks`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::id::{TaskId, TraceId};
use tower_store::read::{PageRequest, TaskFilter};
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{Limit, PathOf, QueryOf, cursor, from_text, word_list};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::refusals::no_such_trace;
use crate::api::types::{ActorType, List, Phase, Status, TaskBody};

/// Which tasks.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TaskQuery {
    /// In one of these.
    #[serde(deserialize_with = "word_list")]
    #[param(value_type = Vec<Status>)]
    status: Vec<Status>,
    /// In one of these.
    #[serde(deserialize_with = "word_list")]
    #[param(value_type = Vec<Phase>)]
    phase: Vec<Phase>,
    /// With this many agents above.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<u32>)]
    layer: Option<u32>,
    /// Children of this task.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<String>)]
    parent_id: Option<TaskId>,
    /// Playing this part.
    #[serde(deserialize_with = "word_list")]
    #[param(value_type = Option<ActorType>)]
    actor_type: Vec<ActorType>,
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List a trace's tasks, in the order in which they were made
#[utoipa::path(
    get,
    path = "/traces/{trace_id}/tasks",
    tag = "traces",
    params(("trace_id" = String, Path, description = "Its id"), TaskQuery),
    responses((status = 200, body = List<TaskBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn list_trace_tasks(
    State(api): State<Api>,
    PathOf(id): PathOf<TraceId>,
    QueryOf(query): QueryOf<TaskQuery>,
) -> Result<Json<List<TaskBody>>, Problem> {
    list(&api, id, query).await.map(Json)
}

/// A page of them.
pub(crate) async fn list(api: &Api, id: TraceId, query: TaskQuery) -> Result<List<TaskBody>, Problem> {
    let TaskQuery { status, phase, layer, parent_id, actor_type, limit, cursor: after } = query;
    if actor_type.len() > 1 {
        return Err(Problem::field(&codes::BAD_QUERY, "?actor_type", "one at a time"));
    }
    let page = PageRequest { after: cursor(after.as_deref())?, limit: limit.0 };
    let filter = TaskFilter {
        status: status.into_iter().map(Into::into).collect(),
        phase: phase.into_iter().map(Into::into).collect(),
        layer,
        parent_id,
        actor_type: actor_type.into_iter().next().map(Into::into),
    };
    let tasks: List<TaskBody> = List::of(api.stores().read.tasks(id, &filter, &page).await?);
    if tasks.items.is_empty() && api.stores().read.trace(id).await?.is_none() {
        return Err(no_such_trace(id));
    }
    Ok(tasks)
}
