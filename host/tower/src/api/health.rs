//! How the host is.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower_store::Stores;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::types::{Health, Readiness};

/// How long an answer of the database is good for: asking writes a page, and anybody may ask.
const PROBE_KEPT: Duration = Duration::from_secs(2);
/// How long the database may take to answer.
const PROBE_WAIT: Duration = Duration::from_secs(5);

/// Whether the database can be written, asked for seldom.
#[derive(Clone, Default)]
pub(crate) struct Probe(Arc<Mutex<Option<(Instant, bool)>>>);

impl Probe {
    async fn ask(&self, stores: &Stores) -> bool {
        // One at a time; who waits for it gets its answer.
        let mut last = self.0.lock().await;
        match *last {
            Some((at, answer)) if at.elapsed() < PROBE_KEPT => answer,
            _ => {
                let database = async {
                    stores.read.ping().await?;
                    stores.work.check_writable().await
                };
                let answer = matches!(tokio::time::timeout(PROBE_WAIT, database).await, Ok(Ok(())));
                *last = Some((Instant::now(), answer));
                answer
            }
        }
    }
}

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(find_health)).routes(routes!(find_liveness)).routes(routes!(find_readiness))
}

/// Is the process there?
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn find_health() -> Json<Health> {
    Json(Health::ok())
}

/// Is the process there? Another path of `/health`
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn find_liveness() -> Json<Health> {
    find_health().await
}

/// Does the host take work?
///
/// 503 while the host goes down, and while the database does not answer or cannot be written.
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(super) async fn find_readiness(State(api): State<Api>) -> (StatusCode, Json<Readiness>) {
    let database = api.engine.is_healthy() && api.probe.ask(api.stores()).await;
    let readiness = Readiness::of(database, api.engine.load());
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
