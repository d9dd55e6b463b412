//! `/artifacts`: outputs that are too large to stand with their task.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tower_domain::code_ref::Digest;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::PathOf;
use super::problem::{Problem, ProblemBody, codes};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(find_artifact))
}

/// Read an artifact: what an `output_ref` points at
#[utoipa::path(
    get,
    path = "/artifacts/{digest}",
    tag = "artifacts",
    params(("digest" = String, Path, description = "`sha256:` and a digest")),
    responses((status = 200, body = Value, content_type = "application/json"), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn find_artifact(State(api): State<Api>, PathOf(text): PathOf<String>) -> Result<Response, Problem> {
    let digest = text.parse::<Digest>().map_err(|error| Problem::new(&codes::BAD_NAME, error.to_string()))?;
    let found = api.stores().blobs.get(&digest).await?;
    // Modules and archives are kept in the same place, and are not for this path.
    let bytes =
        found.filter(|bytes| !bytes.starts_with(b"\0")).ok_or_else(|| Problem::new(&codes::NO_SUCH_ARTIFACT, format!("there is no artifact {digest}")))?;
    let kept_for_ever = (header::CACHE_CONTROL, "private, max-age=31536000, immutable");
    Ok(([(header::CONTENT_TYPE, "application/json"), kept_for_ever], bytes).into_response())
}
