//! `POST /sessions/{id}/files`.

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;
use tokio::time::Instant;
use tower_domain::id::SessionId;
use tower_workspaces::{Usage, Workspace, WorkspacePath};
use utoipa::IntoParams;

use super::{path, sessions};
use crate::api::Api;
use crate::api::extract::{BODY_RATE_MIN, JsonBody, PathOf, QueryOf, discard, too_slow};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::types::{FilesStaged, FromGit, StageFiles};
use crate::sessions::stage::{Repository, from_git, from_url};
use crate::sessions::{Sessions, blocking};

/// Where a file is to be.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PutQuery {
    /// Where the body is to be in the workspace, such as `input/data.csv`. Absent: the body says where to fetch from.
    path: Option<String>,
}

/// Bring files into a session's workspace
///
/// With `?path=` the body is the file itself, of any media type, and replaces one that is there. Without, the body is JSON that says what to
/// fetch: `from_url`, or `from_git`, from sources that the operator allows. What would be over the quota is refused, and leaves nothing.
#[utoipa::path(
    post,
    path = "/sessions/{session_id}/files",
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session"), PutQuery),
    request_body(content = StageFiles),
    responses(
        (status = 201, body = FilesStaged),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "Over the workspace's quota", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 501, description = "There is no git here", body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, description = "The source did not give it", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put_file(
    State(api): State<Api>,
    PathOf(id): PathOf<SessionId>,
    QueryOf(query): QueryOf<PutQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let sessions = sessions(&api)?;
    if let Some(text) = query.path {
        let path = path(&text, "?path")?;
        let (_, workspace) = sessions.enter(id).await?;
        let used = upload(&api, request, &workspace, path).await?;
        return staged(sessions, id, text, used).await;
    }
    let JsonBody { value: StageFiles { path: text, from_url, from_git }, .. } = JsonBody::from_request(request, &api).await?;
    let path = path(&text, "/path")?;
    let (_, workspace) = sessions.enter(id).await?;
    let used = fetch(&api, sessions, &workspace, path, from_url, from_git).await?;
    staged(sessions, id, text, used).await
}

async fn fetch(
    api: &Api,
    sessions: &Sessions,
    workspace: &Workspace,
    path: WorkspacePath,
    url: Option<String>,
    git: Option<FromGit>,
) -> Result<Usage, Problem> {
    let sources = &api.settings.stage_from;
    match (url, git) {
        (Some(url), None) => Ok(from_url(sources, &url, workspace, path).await?.1),
        (None, Some(FromGit { url, reference, depth })) => {
            if !(1..=1_000).contains(&depth) {
                return Err(Problem::field(&codes::BAD_FIELDS, "/from_git/depth", "1 to 1000"));
            }
            Ok(from_git(sources, &Repository { url, reference, depth }, &sessions.workspaces, workspace, path).await?)
        }
        _ => Err(Problem::field(&codes::BAD_FIELDS, "/from_url", "say from_url or from_git, and not both; to upload a file itself, name its place in ?path=")),
    }
}

async fn staged(sessions: &Sessions, id: SessionId, path: String, used: Usage) -> Result<Response, Problem> {
    sessions.stores.sessions.measured(id, used.bytes, used.files, sessions.clock.now()).await?;
    let body = FilesStaged { path, workspace_bytes: used.bytes, workspace_files: used.files };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Takes the body in piece by piece: none of it is held in memory.
async fn upload(api: &Api, request: Request, workspace: &Workspace, path: WorkspacePath) -> Result<Usage, Problem> {
    let timeout = api.settings.body_timeout;
    let mut pieces = request.into_body().into_data_stream();
    let begun = workspace.clone();
    let mut incoming = blocking(move || begun.begin(&path)).await?;
    let (begin, mut taken) = (Instant::now(), 0_u64);
    loop {
        let in_all = begin + timeout + std::time::Duration::from_secs(taken) / BODY_RATE_MIN;
        let piece = tokio::time::timeout_at(in_all.min(Instant::now() + timeout), pieces.next()).await;
        match piece.map_err(|_| too_slow(timeout))? {
            None => return Ok(blocking(move || incoming.finish()).await?.1),
            Some(Err(_)) => return Err(Problem::new(&codes::BAD_REQUEST, "the body broke off")),
            Some(Ok(piece)) => {
                taken += piece.len() as u64;
                match blocking(move || incoming.write(&piece).map(|()| incoming)).await {
                    Ok(more) => incoming = more,
                    Err(error) => {
                        discard(pieces).await;
                        return Err(error.into());
                    }
                }
            }
        }
    }
}
