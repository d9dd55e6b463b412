//! Lists of definitions, and of a definition's traces.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::name::Name;
use tower_domain::schedule::Schedule;
use tower_store::definitions::DefinitionFilter;
use tower_store::read::PageRequest;
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{Limit, PathOf, QueryOf, cursor, from_text};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::refusals::no_such_definition;
use crate::api::traces::{TraceQuery, page_of};
use crate::api::types::{DefinitionBody, List, TraceBody};

/// Which definitions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DefinitionQuery {
    /// Of this owner.
    user_id: Option<String>,
    /// Whether they can be triggered; default: both.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<bool>)]
    is_active: Option<bool>,
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl DefinitionQuery {
    /// Those of one owner.
    pub(crate) fn of_user(self, user_id: String) -> Self {
        Self { user_id: Some(user_id), ..self }
    }
}

/// List definitions, by id
#[utoipa::path(get, path = "/definitions", tag = "definitions", params(DefinitionQuery), responses((status = 200, body = List<DefinitionBody>)))]
pub(crate) async fn list_definitions(State(api): State<Api>, QueryOf(query): QueryOf<DefinitionQuery>) -> Result<Json<List<DefinitionBody>>, Problem> {
    let page = PageRequest { after: cursor(query.cursor.as_deref())?, limit: query.limit.0 };
    let filter = DefinitionFilter { user_id: query.user_id, active: query.is_active };
    let page = api.stores().definitions.list(&filter, &page).await?;
    let ids: Vec<Name> = page.items.iter().map(|definition| definition.id.clone()).collect();
    let schedules = api.stores().schedules.find_many(&ids).await?;
    let mut schedules: HashMap<Name, Schedule> = schedules.into_iter().map(|schedule| (schedule.definition_id.clone(), schedule)).collect();
    let mut list = List::<DefinitionBody>::of(page);
    for body in &mut list.items {
        body.stand(schedules.remove(&body.id));
    }
    Ok(Json(list))
}

/// List a user's definitions, by id
#[utoipa::path(
    get,
    path = "/users/{user_id}/definitions",
    tag = "definitions",
    params(("user_id" = String, Path, description = "The owner"), DefinitionQuery),
    responses((status = 200, body = List<DefinitionBody>)),
)]
pub(crate) async fn list_user_definitions(
    api: State<Api>,
    PathOf(user_id): PathOf<String>,
    QueryOf(query): QueryOf<DefinitionQuery>,
) -> Result<Json<List<DefinitionBody>>, Problem> {
    list_definitions(api, QueryOf(query.of_user(user_id))).await
}

/// List a definition's traces, newest first
#[utoipa::path(
    get,
    path = "/definitions/{id}/traces",
    tag = "definitions",
    params(("id" = String, Path, description = "What it is called"), TraceQuery),
    responses((status = 200, body = List<TraceBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn list_definition_traces(
    State(api): State<Api>,
    PathOf(id): PathOf<Name>,
    QueryOf(query): QueryOf<TraceQuery>,
) -> Result<Json<List<TraceBody>>, Problem> {
    api.stores().definitions.find(&id).await?.ok_or_else(|| no_such_definition(&id))?;
    page_of(&api, query.of_definition(id)).await.map(Json)
}
