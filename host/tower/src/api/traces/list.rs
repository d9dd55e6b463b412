//! `GET /traces`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::clock::Timestamp;
use tower_domain::id::SessionId;
use tower_domain::name::Name;
use tower_store::read::{PageRequest, TraceFilter};
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{Limit, PathOf, QueryOf, cursor, from_text, word_list};
use crate::api::problem::Problem;
use crate::api::types::{List, Status, TraceBody};

/// Which traces.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TraceQuery {
    /// In one of these.
    #[serde(deserialize_with = "word_list")]
    #[param(value_type = Vec<Status>)]
    status: Vec<Status>,
    /// Of this definition.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<String>)]
    definition_id: Option<Name>,
    /// Of this user.
    user_id: Option<String>,
    /// Of this session.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<String>)]
    session_id: Option<SessionId>,
    /// Made at or after.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Made before.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl TraceQuery {
    /// Those of one definition.
    pub(crate) fn of_definition(self, id: Name) -> Self {
        Self { definition_id: Some(id), ..self }
    }
}

/// List traces, newest first
#[utoipa::path(get, path = "/traces", tag = "traces", params(TraceQuery), responses((status = 200, body = List<TraceBody>)))]
pub(crate) async fn list_traces(State(api): State<Api>, QueryOf(query): QueryOf<TraceQuery>) -> Result<Json<List<TraceBody>>, Problem> {
    page_of(&api, query).await.map(Json)
}

/// List a user's traces, newest first
#[utoipa::path(
    get,
    path = "/users/{user_id}/traces",
    tag = "traces",
    params(("user_id" = String, Path, description = "The owner"), TraceQuery),
    responses((status = 200, body = List<TraceBody>)),
)]
pub(crate) async fn list_user_traces(
    State(api): State<Api>,
    PathOf(user_id): PathOf<String>,
    QueryOf(query): QueryOf<TraceQuery>,
) -> Result<Json<List<TraceBody>>, Problem> {
    page_of(&api, TraceQuery { user_id: Some(user_id), ..query }).await.map(Json)
}

/// A page of them.
pub(crate) async fn page_of(api: &Api, query: TraceQuery) -> Result<List<TraceBody>, Problem> {
    let TraceQuery { status, definition_id, user_id, session_id, since, until, limit, cursor: after } = query;
    let page = PageRequest { after: cursor(after.as_deref())?, limit: limit.0 };
    let filter = TraceFilter { status: status.into_iter().map(Into::into).collect(), definition_id, user_id, session_id, since, until };
    Ok(List::of(api.stores().read.traces(&filter, &page).await?))
}
