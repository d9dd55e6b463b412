//! `GET` and `DELETE` of `/sessions/{id}/files`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;
use tower_domain::id::SessionId;
use tower_store::read::Page;

use super::{path, sessions};
use crate::api::Api;
use crate::api::extract::{PageQuery, PathOf, QueryOf};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::types::{FileBody, List};
use crate::sessions::blocking;

/// List what is in a session's workspace, by path
#[utoipa::path(
    get,
    path = "/sessions/{session_id}/files",
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session"), PageQuery),
    responses((status = 200, body = List<FileBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn list_files(
    State(api): State<Api>,
    PathOf(id): PathOf<SessionId>,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<List<FileBody>>, Problem> {
    let (_, workspace) = sessions(&api)?.enter(id).await?;
    let (after, limit) = (query.after::<String>()?, query.limit.0 as usize);
    let mut items = blocking(move || workspace.list(after.as_deref(), limit + 1)).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.path.clone());
    Ok(Json(List::of(Page { items, next })))
}

/// Download a file of a session's workspace
#[utoipa::path(
    get,
    path = "/sessions/{session_id}/files/{*path}",
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session"), ("path" = String, Path, description = "The file, from the workspace; it may have slashes")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Not a plain file of the workspace's own", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read_file(State(api): State<Api>, PathOf((id, name)): PathOf<(SessionId, String)>) -> Result<Response, Problem> {
    let path = path(&name, "path")?;
    let (_, workspace) = sessions(&api)?.enter(id).await?;
    let wanted = path.clone();
    let (file, bytes) = blocking(move || workspace.read(&wanted)).await?;
    // As long as it was announced, whoever goes on writing to it.
    let body = Body::from_stream(ReaderStream::new(tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), bytes)));
    // Never shown, whatever it is: a page in it would be of this origin.
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::CONTENT_DISPOSITION, disposition(path.as_str())),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_SECURITY_POLICY, "sandbox".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}

/// To be saved under the last segment's name.
fn disposition(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("attachment; filename*=UTF-8''{encoded}")
}

/// Delete a file of a session's workspace, or a folder with all that is in it
#[utoipa::path(
    delete,
    path = "/sessions/{session_id}/files/{*path}",
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session"), ("path" = String, Path, description = "The file or folder, from the workspace")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_file(State(api): State<Api>, PathOf((id, name)): PathOf<(SessionId, String)>) -> Result<StatusCode, Problem> {
    let path = path(&name, "path")?;
    let sessions = sessions(&api)?;
    let (_, workspace) = sessions.enter(id).await?;
    let deleted = workspace.clone();
    blocking(move || deleted.delete(&path)).await?;
    sessions.measure(id, &workspace).await?;
    Ok(StatusCode::NO_CONTENT)
}
