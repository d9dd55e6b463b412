//! `POST /sessions`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower_domain::definition::{LABEL_RULE, is_plain, labels_are_sound};
use tower_domain::session::{Session, SessionStatus, bounds};

use super::sessions;
use crate::api::Api;
use crate::api::extract::JsonBody;
use crate::api::problem::{FieldProblem, Problem, ProblemBody, codes};
use crate::api::types::{NewSession, SessionBody};

/// Begin a session: a workspace, and what its traces have in common
#[utoipa::path(
    post,
    path = "/sessions",
    tag = "sessions",
    request_body = NewSession,
    responses((status = 201, body = SessionBody), (status = 422, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn begin_session(State(api): State<Api>, JsonBody { value: wanted, .. }: JsonBody<NewSession>) -> Result<Response, Problem> {
    check(&wanted)?;
    let sessions = sessions(&api)?;
    let now = api.engine.clock().now();
    let NewSession { user_id, sdk_session_id, labels, quota_bytes, files_max } = wanted;
    let session = Session {
        id: api.engine.ids().session(),
        user_id,
        sdk_session_id,
        labels,
        status: SessionStatus::Active,
        created_at: now,
        last_used_at: now,
        closed_at: None,
        quota_bytes,
        files_max,
        bytes: 0,
        files: 0,
        archive: Vec::new(),
        purged: false,
    };
    sessions.stores.sessions.create(&session).await?;
    let location = format!("/api/v1/sessions/{}", session.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(SessionBody::from(session))).into_response())
}

fn check(wanted: &NewSession) -> Result<(), Problem> {
    let mut errors = Vec::new();
    let mut need = |ok: bool, pointer: &str, message: String| {
        if !ok {
            errors.push(FieldProblem { pointer: pointer.to_owned(), message });
        }
    };
    need(is_plain(&wanted.user_id), "/user_id", "at most 1024 bytes of text without control characters".to_owned());
    let most = bounds::SDK_SESSION_ID_BYTES_MAX;
    let sdk = wanted.sdk_session_id.as_deref().unwrap_or_default();
    need(sdk.len() <= most && !sdk.chars().any(char::is_control), "/sdk_session_id", format!("at most {most} bytes of text without control characters"));
    need(labels_are_sound(&wanted.labels), "/labels", LABEL_RULE.to_owned());
    need(wanted.quota_bytes.is_none_or(|bytes| bytes <= bounds::QUOTA_BYTES_MAX), "/quota_bytes", format!("at most {}", bounds::QUOTA_BYTES_MAX));
    need(wanted.files_max.is_none_or(|files| files <= bounds::FILES_MAX), "/files_max", format!("at most {}", bounds::FILES_MAX));
    match errors.first() {
        None => Ok(()),
        Some(first) => Err(Problem::new(&codes::BAD_FIELDS, format!("{}: {}", first.pointer, first.message)).with_errors(errors)),
    }
}
