//! `GET /schedules` and `GET /control-events`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::clock::Timestamp;
use tower_domain::id::TraceId;
use tower_domain::name::Name;
use tower_store::read::PageRequest;
use tower_store::schedules::{OrderFilter, ScheduleFilter};
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{Limit, QueryOf, cursor, from_text};
use crate::api::problem::Problem;
use crate::api::types::{ControlAction, KeptOrderBody, List, ScheduleBody, ScheduleState};

/// Which schedules.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ScheduleQuery {
    /// In this state; default: in any.
    #[param(inline)]
    state: Option<ScheduleState>,
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List schedules, by definition
#[utoipa::path(get, path = "/schedules", tag = "schedules", params(ScheduleQuery), responses((status = 200, body = List<ScheduleBody>)))]
pub(crate) async fn list_schedules(State(api): State<Api>, QueryOf(query): QueryOf<ScheduleQuery>) -> Result<Json<List<ScheduleBody>>, Problem> {
    let page = PageRequest { after: cursor::<Name>(query.cursor.as_deref())?, limit: query.limit.0 };
    let filter = ScheduleFilter { state: query.state.map(Into::into) };
    Ok(Json(List::of(api.stores().schedules.list(&filter, &page).await?)))
}

/// Which orders.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OrdersQuery {
    /// To this trace.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<String>)]
    trace_id: Option<TraceId>,
    /// About the schedule of this definition.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<String>)]
    definition_id: Option<Name>,
    /// Of this kind.
    #[param(inline)]
    action: Option<ControlAction>,
    /// Given at or after.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List orders of all kinds, newest first
///
/// Who paused, resumed, cancelled or retried what, and why: traces, subtrees, and schedules.
#[utoipa::path(get, path = "/control-events", tag = "schedules", params(OrdersQuery), responses((status = 200, body = List<KeptOrderBody>)))]
pub(crate) async fn list_orders(State(api): State<Api>, QueryOf(query): QueryOf<OrdersQuery>) -> Result<Json<List<KeptOrderBody>>, Problem> {
    let page = PageRequest { after: cursor(query.cursor.as_deref())?, limit: query.limit.0 };
    let OrdersQuery { trace_id, definition_id, action, since, .. } = query;
    let filter = OrderFilter { trace_id, definition_id, action: action.map(Into::into), since };
    Ok(Json(List::of(api.stores().schedules.orders(&filter, &page).await?)))
}
