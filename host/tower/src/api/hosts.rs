//! `/hosts`.

use axum::Json;
use axum::extract::State;
use tower_domain::name::Name;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::PathOf;
use super::problem::{Problem, ProblemBody, codes};
use super::types::{HostBody, List};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_hosts)).routes(routes!(drain_host)).routes(routes!(resume_host))
}

/// List the hosts that work on this database, by name
///
/// Those that were seen within a week. What each ran is as old as `seen_at`.
#[utoipa::path(get, path = "/hosts", tag = "hosts", responses((status = 200, body = List<HostBody>)))]
async fn list_hosts(State(api): State<Api>) -> Result<Json<List<HostBody>>, Problem> {
    Ok(Json(List::whole(hosts(&api).await?)))
}

/// Drain a host
///
/// It takes no more work; what runs on it goes on to its end, and what it had claimed ahead is given back. It goes on answering requests.
/// A new start of the host ends this, as `resume` does.
#[utoipa::path(
    post,
    path = "/hosts/{id}/drain",
    tag = "hosts",
    params(("id" = String, Path, description = "What the host is called")),
    responses((status = 200, description = "How it was seen last", body = HostBody), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn drain_host(State(api): State<Api>, PathOf(id): PathOf<Name>) -> Result<Json<HostBody>, Problem> {
    order(&api, &id, true).await
}

/// Let a drained host take work again
#[utoipa::path(
    post,
    path = "/hosts/{id}/resume",
    tag = "hosts",
    params(("id" = String, Path, description = "What the host is called")),
    responses((status = 200, description = "How it was seen last", body = HostBody), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn resume_host(State(api): State<Api>, PathOf(id): PathOf<Name>) -> Result<Json<HostBody>, Problem> {
    order(&api, &id, false).await
}

async fn order(api: &Api, id: &Name, draining: bool) -> Result<Json<HostBody>, Problem> {
    api.engine.drain_host(id.as_str(), draining).await?;
    let found = hosts(api).await?.into_iter().find(|host| host.id == id.as_str());
    found.map(Json).ok_or_else(|| Problem::new(&codes::NO_SUCH_HOST, format!("there is no host {id}")).with_hint("GET /api/v1/hosts lists them"))
}

async fn hosts(api: &Api) -> Result<Vec<HostBody>, Problem> {
    let now = api.engine.clock().now();
    let rows = api.engine.hosts().await?;
    let this = &api.engine.config().host;
    Ok(rows
        .into_iter()
        .map(|row| (api.engine.is_alive(&row, now), row.beat.id == *this, row))
        .map(|(alive, this, row)| HostBody::of(row, alive, this))
        .collect())
}
