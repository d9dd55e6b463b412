//! How the host is.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::types::{Health, Readiness};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(find_health)).routes(routes!(find_readiness))
}

/// Is the process there?
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn find_health() -> Json<Health> {
    Json(Health::ok())
}

/// Does the host take work?
#[utoipa::path(get, path = "/ready", tag = "health", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(super) async fn find_readiness(State(api): State<Api>) -> (StatusCode, Json<Readiness>) {
    let database = api.engine.is_healthy() && api.stores().read.ping().await.is_ok();
    let readiness = Readiness::of(database, api.engine.load());
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
