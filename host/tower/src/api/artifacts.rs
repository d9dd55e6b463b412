//! `/artifacts`: outputs that are too large to stand with their task.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tower_domain::code_ref::Digest;
use tower_store::artifacts;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::PathOf;
use super::problem::{Problem, ProblemBody, codes};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(find_artifact))
}

/// Read an artifact: what an `output_ref` points at
///
/// The digest is the artifact's name, and not the digest of the JSON: what is kept begins with whose output it is. With `--retention` an artifact
/// goes with its trace, or with the last rerun that took the result over.
#[utoipa::path(
    get,
    path = "/artifacts/{digest}",
    tag = "artifacts",
    params(("digest" = String, Path, description = "`sha256:` and a digest: its name")),
    responses((status = 200, body = Value, content_type = "application/json"), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn find_artifact(State(api): State<Api>, PathOf(text): PathOf<String>) -> Result<Response, Problem> {
    let digest = text.parse::<Digest>().map_err(|error| Problem::new(&codes::BAD_NAME, error.to_string()))?;
    let found = artifacts::get(&*api.stores().blobs, &digest).await?;
    let json = found.ok_or_else(|| Problem::new(&codes::NO_SUCH_ARTIFACT, format!("there is no artifact {digest}")))?;
    let never_changes = (header::CACHE_CONTROL, "private, max-age=31536000, immutable");
    Ok(([(header::CONTENT_TYPE, "application/json"), never_changes], json).into_response())
}
