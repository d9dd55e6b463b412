//! `GET /sessions`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_store::read::PageRequest;
use tower_store::sessions::SessionFilter;
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{Limit, QueryOf, cursor};
use crate::api::problem::Problem;
use crate::api::types::{List, SessionBody, SessionStatus};

/// Which sessions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionQuery {
    /// Of this user.
    user_id: Option<String>,
    /// Standing there.
    #[param(inline)]
    status: Option<SessionStatus>,
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List sessions, newest first
#[utoipa::path(get, path = "/sessions", tag = "sessions", params(SessionQuery), responses((status = 200, body = List<SessionBody>)))]
pub(crate) async fn list_sessions(State(api): State<Api>, QueryOf(query): QueryOf<SessionQuery>) -> Result<Json<List<SessionBody>>, Problem> {
    let page = PageRequest { after: cursor(query.cursor.as_deref())?, limit: query.limit.0 };
    let filter = SessionFilter { user_id: query.user_id, status: query.status.map(Into::into) };
    Ok(Json(List::of(api.stores().sessions.list(&filter, &page).await?)))
}
