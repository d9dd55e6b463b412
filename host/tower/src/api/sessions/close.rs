//! `DELETE /sessions/{id}`.

use axum::Json;
use axum::extract::State;
use tower_domain::id::SessionId;
use tower_store::sessions::Closing;

use super::no_such_session;
use crate::api::Api;
use crate::api::extract::PathOf;
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::types::SessionBody;

/// Close a session: it takes no more traces, and its files are removed after a while
#[utoipa::path(
    delete,
    path = "/sessions/{session_id}",
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session")),
    responses(
        (status = 200, description = "It is closed", body = SessionBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "A trace of it has not ended", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn close_session(State(api): State<Api>, PathOf(id): PathOf<SessionId>) -> Result<Json<SessionBody>, Problem> {
    let store = &api.stores().sessions;
    match store.close(id, api.engine.clock().now()).await? {
        Closing::NotFound => Err(no_such_session(id)),
        Closing::InUse => Err(Problem::new(&codes::SESSION_IN_USE, format!("a trace of session {id} has not ended"))
            .with_hint(format!("cancel it, or wait: GET /api/v1/traces?session_id={id}&status=PENDING,RUNNING"))),
        Closing::Closed => {
            // Other hosts find out in their own time.
            if let Some(sessions) = &api.sessions {
                sessions.let_go(id).await;
            }
            Ok(Json(store.find(id).await?.ok_or_else(|| no_such_session(id))?.into()))
        }
    }
}
