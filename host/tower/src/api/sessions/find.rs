//! `GET /sessions/{id}`.

use axum::Json;
use axum::extract::State;
use tower_domain::id::SessionId;

use super::no_such_session;
use crate::api::Api;
use crate::api::extract::PathOf;
use crate::api::problem::{Problem, ProblemBody};
use crate::api::types::SessionBody;

/// Read a session
#[utoipa::path(
    get,
    path = "/sessions/{session_id}",
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session")),
    responses((status = 200, body = SessionBody), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn find_session(State(api): State<Api>, PathOf(id): PathOf<SessionId>) -> Result<Json<SessionBody>, Problem> {
    let found = api.stores().sessions.find(id).await?.ok_or_else(|| no_such_session(id))?;
    Ok(Json(found.into()))
}
