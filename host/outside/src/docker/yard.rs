//! What steps and what goes on beside them share: the engine, the places, and how a container comes to be.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Client;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_domain::codes;
use tower_domain::container::ContainerSpec;
use tower_domain::definition::Definition;
use tower_domain::step::{Bell, StepEnd, StepHost};

use super::belongs::Belongs;
use super::container::{Container, Names};
use super::create::{self, Plan, Workspace};
use super::engine::{Engine, EngineError};
use super::images::Image;
use super::logs::Logs;
use super::pool::Pool;
use super::service::{self, Service};
use super::settings::DockerSettings;
use super::{command, unavailable};
use crate::desk::Desk;
use crate::ends::fatal;

/// Everything that steps and what goes on beside them share.
pub(super) struct Yard {
    pub(super) settings: DockerSettings,
    /// None: there is to be no engine.
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) desk: Arc<Desk>,
    pub(super) client: Client,
    pub(super) places: Arc<Semaphore>,
    pub(super) names: Arc<Names>,
    pub(super) pool: Pool,
    /// Held by whoever makes a network.
    pub(super) networks: tokio::sync::Mutex<()>,
    pub(super) running: AtomicU32,
    pub(super) bell: Mutex<Option<Bell>>,
    /// Something is wanted of the pool.
    pub(super) wanted: Notify,
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Yard {
    pub(super) fn is_up(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.is_up())
    }

    pub(super) fn engine(&self) -> Result<&Arc<Engine>, EngineError> {
        self.engine.as_ref().ok_or_else(|| EngineError::Away { socket: "(none)".to_owned(), why: "this tower runs no containers: `--docker off`".to_owned() })
    }

    /// A place for one more container, if need be that of one that waits for work.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return Some(place);
            }
            if !self.pool.evict_oldest() {
                return self.places.clone().acquire_owned().await.ok();
            }
            // The one that was evicted holds its place until it is gone.
            if let Ok(place) = tokio::time::timeout(Duration::from_secs(5), self.places.clone().acquire_owned()).await {
                return place.ok();
            }
        }
    }

    /// Makes a container, and does not start it.
    pub(super) async fn make(&self, plan: Plan<'_>, logs: Logs, place: OwnedSemaphorePermit) -> Result<Container, StepEnd> {
        let engine = self.engine().map_err(|error| unavailable(&error))?;
        if let Some(network) = create::network(plan.owner, plan.spec) {
            // One at a time: the engine makes two of one name if it is asked twice at once.
            let _alone = self.networks.lock().await;
            engine.network(network).await.map_err(|error| command::not_started(&error))?;
        }
        let image = plan.image.name.clone();
        let body = create::request(plan);
        let container = Container::named(engine.clone(), &self.settings.owner, logs, self.names.clone(), self.tracker.clone(), place);
        match engine.create(&container.name, body).await {
            Ok(()) => Ok(container),
            Err(EngineError::Missing(why)) => Err(fatal(codes::IMAGE_MISSING.name, format!("the image {image} is missing: {why}"))),
            Err(error) => Err(command::not_started(&error)),
        }
    }

    /// A service of the definition, up and healthy.
    pub(super) async fn serve(&self, plan: Plan<'_>, host: Option<Arc<dyn StepHost>>, place: OwnedSemaphorePermit) -> Result<Service, StepEnd> {
        let port = plan.spec.port;
        let container = self.make(plan, Logs::new(false, host), place).await?;
        service::ready(container, port, &self.client, &self.settings).await
    }

    pub(super) fn plan<'a>(&'a self, definition: &'a Definition, spec: &'a ContainerSpec, image: &'a Image, mode: &'static str, belongs: Belongs) -> Plan<'a> {
        let granted = definition.spec.capabilities.workspace.as_ref().and_then(|name| self.settings.mounts.get(name));
        let workspace = belongs.workspace.or_else(|| granted.map(|dir| Workspace { dir: dir.clone(), read_only: true }));
        let labels = belongs.session.map(|session| (create::SESSION, session.to_string())).into_iter().collect();
        let (owner, socket_dir) = (&self.settings.owner, &self.settings.socket_dir);
        Plan { definition, spec, image, owner, socket_dir, mode, labels, env: Vec::new(), workspace }
    }
}
