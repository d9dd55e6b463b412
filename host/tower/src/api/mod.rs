//! REST. The folders are the paths; a file is a verb or a tight group of them.
//!
//! - [`modules`], [`definitions`], [`traces`], [`tasks`], [`attempts`], [`workers`], [`containers`], [`events`], [`limits`], [`hosts`], [`sessions`], [`bulk`], [`dead_letters`], [`artifacts`], [`health`]: what is under `/api/v1`
//! - [`compat`]: the few paths without that prefix which earlier designs had
//! - [`docs`]: the OpenAPI document and the page that shows it
//! - [`types`]: what bodies look like
//! - [`extract`], [`etag`]: reading requests
//! - [`problem`], [`codes`], [`refusals`]: what is answered when it does not work
//! - [`layers`], [`unread`]: what happens to every request
//!
//! Routes are registered with `routes!`, so that none is without its documentation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_domain::module::Inspection;
use tower_domain::name::Name;
use tower_domain::step::CodeProblem;
use tower_engine::Engine;
use tower_store::Stores;
use utoipa_axum::router::OpenApiRouter;

use crate::app::Outside;
use crate::sessions::Sessions;
use crate::sessions::stage::Source;

mod artifacts;
mod attempts;
mod bulk;
pub(crate) mod codes;
mod compat;
mod containers;
mod dead_letters;
mod definitions;
mod docs;
mod etag;
mod events;
mod extract;
mod health;
mod hosts;
mod layers;
mod limits;
mod modules;
pub(crate) mod problem;
mod refusals;
mod schedules;
mod sessions;
mod tasks;
mod traces;
pub(crate) mod types;
mod unread;
pub(crate) mod workers;

pub(crate) use attempts::Peers;
pub(crate) use extract::read_json;
pub(crate) use health::Probe;

/// What handlers need.
#[derive(Clone)]
pub(crate) struct Api {
    /// Takes orders, and has the readers.
    pub(crate) engine: Engine,
    /// Looks at uploads.
    pub(crate) gate: Arc<dyn ModuleGate>,
    /// Steps that run outside.
    pub(crate) outside: Outside,
    /// The way to other hosts.
    pub(crate) peers: Peers,
    /// Of a host with folders: sessions.
    pub(crate) sessions: Option<Arc<Sessions>>,
    /// When the server stops, so that streams end.
    pub(crate) stop: CancellationToken,
    /// Whether the database can be written.
    pub(crate) probe: Probe,
    /// Room for bodies, in KiB.
    pub(crate) bodies: Arc<Semaphore>,
    /// A place for each event stream that may be open.
    pub(crate) streams: Arc<Semaphore>,
    /// What callers may do.
    pub(crate) settings: ApiSettings,
    /// Places for uploads, whose bodies are held in memory.
    pub(crate) uploads: Arc<Semaphore>,
}

/// Uploads at the same time.
pub(crate) const UPLOADS_MAX: usize = 16;

/// Settings of the API.
#[derive(Debug, Clone)]
pub(crate) struct ApiSettings {
    /// Largest module, in bytes.
    pub(crate) module_bytes_max: usize,
    /// How long a body may stand still.
    pub(crate) body_timeout: Duration,
    /// What tasks that name no definition run.
    pub(crate) task_definition: Option<Name>,
    /// Sources that files may be fetched from.
    pub(crate) stage_from: Vec<Source>,
    /// Serve only requests that name a loopback host.
    pub(crate) loopback_only: bool,
}

impl Api {
    pub(crate) fn stores(&self) -> &Stores {
        self.engine.stores()
    }
}

/// Decides whether bytes may become a module.
#[async_trait]
pub(crate) trait ModuleGate: Send + Sync {
    /// Reads what they are, and compiles them. Takes as long as that takes.
    async fn admit(&self, bytes: Bytes) -> Result<Inspection, CodeProblem>;
}

/// Everything that is served.
pub(crate) fn router(api: Api) -> Router {
    let settings = api.settings.clone();
    let (router, document) = documented().split_for_parts();
    let router = attempts::pass_on(router, api.clone()).merge(docs::router(document)).with_state(api);
    layers::around(router, &settings)
}

/// What containers are served over a socket of their own: the calls of an attempt, each with its token, and nothing else.
pub(crate) fn router_for_containers(api: Api) -> Router {
    let settings = ApiSettings { loopback_only: false, ..api.settings.clone() };
    let (router, _) = OpenApiRouter::new().nest("/api/v1", attempts::router()).split_for_parts();
    layers::around(router.with_state(api), &settings)
}

/// Every documented route.
fn documented() -> OpenApiRouter<Api> {
    let v1 = OpenApiRouter::new()
        .merge(health::router())
        .merge(modules::router())
        .merge(definitions::router())
        .merge(schedules::router())
        .merge(traces::router())
        .merge(tasks::router())
        .merge(events::router())
        .merge(attempts::router())
        .merge(workers::router())
        .merge(containers::router())
        .merge(limits::router())
        .merge(sessions::router())
        .merge(hosts::router())
        .merge(bulk::router())
        .merge(dead_letters::router())
        .merge(artifacts::router());
    let mut all = OpenApiRouter::with_openapi(docs::head()).nest("/api/v1", v1).merge(compat::router());
    docs::complete(all.get_openapi_mut());
    all
}

#[cfg(test)]
mod tests;
