//! `/limits`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::limit::Gate;
use tower_store::read::PageRequest;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Limit, QueryOf, cursor};
use super::problem::Problem;
use super::types::{LimitBody, List};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_limits))
}

/// Which limits.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LimitsQuery {
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List the limits that are in use, by name
///
/// How many tasks have passed each, and how many wait for it. A limit that nobody has passed and nobody waits for is not listed.
#[utoipa::path(get, path = "/limits", tag = "tasks", params(LimitsQuery), responses((status = 200, body = List<LimitBody>)))]
async fn list_limits(State(api): State<Api>, QueryOf(query): QueryOf<LimitsQuery>) -> Result<Json<List<LimitBody>>, Problem> {
    let page = PageRequest { after: cursor::<Gate>(query.cursor.as_deref())?, limit: query.limit.0 };
    let page = api.stores().read.limits(&page).await?;
    let user_max = api.engine.config().user_max_concurrent;
    let items = page.items.into_iter().map(|used| LimitBody::of(used, user_max)).collect();
    Ok(Json(List { items, next_cursor: page.next.map(|gate| gate.to_string()) }))
}
