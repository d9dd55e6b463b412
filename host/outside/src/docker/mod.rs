//! Containers: `docker://…`.
//!
//! In reading order:
//!
//! - [`DockerSettings`]: what the operator set
//! - `allowed`: what that grants definitions
//! - [`create`]: how a container is made: what it gets, and everything that it does not
//! - `engine`: the calls that are made of the Docker Engine
//! - `images`: an image is there, or fetched
//! - `container`, `logs`: one container, and what it writes
//! - `belongs`: the session that one is part of
//! - `command`, `service`: the two ways in which containers take steps
//! - `pool`: services that wait for work
//! - `sessions`: those that are kept for a session, until it may go
//! - `orphans`: what an earlier self left behind
//! - `yard`: what all of them share
//! - `errand`: a step on its way into a container
//! - `keeper`: what goes on beside the steps
//! - `list`: what containers there are
//!
//! What holds: every container is made by [`create`] and hardened there; none outlives its step but those of the pool, whose number counts;
//! how one ended is read before it is taken away; no call of the engine is waited for without an end.

mod allowed;
mod belongs;
mod command;
mod container;
pub mod create;
mod engine;
mod errand;
mod images;
mod keeper;
mod list;
mod logs;
mod orphans;
mod pool;
mod service;
mod sessions;
mod settings;
mod yard;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use reqwest::Client;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_domain::code_ref::{CodeRef, Lane};
use tower_domain::codes;
use tower_domain::container::{Mode, Network, Protocol, Pull};
use tower_domain::definition::{Definition, DefinitionSpec};
use tower_domain::id::TaskId;
use tower_domain::step::{Bell, CodeProblem, Executor, Settled, Step, StepEnd, StepHost};

use crate::desk::Desk;
use crate::ends::{fatal, retryable, stopped, timed_out, without_code};

pub use belongs::Belongs;
use container::Linger;
use engine::Engine;
pub use engine::EngineError;
use errand::Errand;
pub use list::{ContainerRow, DockerLoad};
use pool::{Pool, PoolKey};
pub use settings::{Docker, DockerSettings};
use yard::Yard;

/// How long a connection to a service may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long containers may take to be gone when the tower goes down.
const SHUTDOWN_MAX: Duration = Duration::from_secs(15);

/// The engine is not there: what it was to do is tried again.
fn unavailable(error: &EngineError) -> StepEnd {
    retryable(codes::EXECUTOR_UNAVAILABLE.name, error.to_string())
}

/// Runs steps in containers.
pub struct DockerExecutor {
    yard: Arc<Yard>,
}

impl DockerExecutor {
    /// Not begun: nothing is claimed, and the engine is not asked.
    pub fn new(settings: DockerSettings, desk: Arc<Desk>) -> reqwest::Result<Self> {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().connect_timeout(CONNECT_TIMEOUT).build()?;
        let yard = Yard {
            places: Arc::new(Semaphore::new(settings.containers_max as usize)),
            engine: settings.docker.socket().map(|socket| Arc::new(Engine::at(socket))),
            desk,
            client,
            names: Arc::default(),
            pool: Pool::default(),
            networks: tokio::sync::Mutex::default(),
            running: AtomicU32::new(0),
            bell: Mutex::default(),
            wanted: Notify::new(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            settings,
        };
        Ok(Self { yard: Arc::new(yard) })
    }

    /// Looks for the engine, removes what an earlier self left there, and goes on watching it. Refused if the engine is needed and does not
    /// answer. Two of one owner must never have begun.
    pub async fn begin(&self) -> Result<(), EngineError> {
        let Some(engine) = self.yard.engine.clone() else { return Ok(()) };
        match self.yard.look(&engine).await {
            Err(error) if self.yard.settings.docker.is_needed() => return Err(error),
            Err(error) => tracing::info!(%error, "no containers until it does"),
            Ok(()) => {}
        }
        self.yard.tracker.spawn(self.yard.clone().watch(engine));
        self.yard.tracker.spawn(self.yard.clone().keep_warm());
        Ok(())
    }

    /// Where containers are to find the socket; none: there will be none.
    pub fn socket(&self) -> Option<std::path::PathBuf> {
        self.yard.engine.as_ref().map(|_| self.yard.settings.socket_dir.join(create::SOCKET_FILE))
    }

    /// Ends a container of this host and takes it away; a step that it runs fails, and is tried again. Answers whether there was one.
    pub async fn remove(&self, name: &str) -> Result<bool, EngineError> {
        let is_ours = self.list().await?.iter().any(|row| row.name == name);
        if is_ours {
            self.yard.pool.clear(Some(name));
            self.yard.engine()?.remove(name).await?;
        }
        Ok(is_ours)
    }

    /// Fetches a definition's image, and has so many containers of it stand ready if it serves. Answers how many are wanted.
    pub async fn warm(&self, definition: Arc<Definition>, ready: u32) -> Result<u32, StepEnd> {
        let CodeRef::Container(image) = &definition.spec.code_ref else { return Ok(0) };
        self.yard.allowed(&definition.spec).map_err(|problem| fatal(problem.code, problem.message))?;
        let engine = self.yard.engine().map_err(|error| unavailable(&error))?;
        let spec = definition.spec.container.clone().unwrap_or_default();
        images::ready(engine, image, spec.pull).await?;
        if spec.protocol != Protocol::Service || spec.mode != Mode::Ephemeral {
            return Ok(0);
        }
        let ready = ready.min(self.yard.settings.containers_max);
        self.yard.pool.want(PoolKey::of(&definition, None), definition, ready);
        self.yard.wanted.notify_one();
        Ok(ready)
    }

    /// Takes all containers away, and ends what goes on beside the steps. Steps have ended before.
    pub async fn shutdown(&self) {
        self.yard.stop.cancel();
        self.yard.pool.clear(None);
        self.yard.tracker.close();
        if tokio::time::timeout(SHUTDOWN_MAX, self.yard.tracker.wait()).await.is_err() {
            tracing::warn!("some containers are still there; they are removed when this tower starts again");
        }
        if let Some(engine) = self.yard.engine.as_ref().filter(|engine| engine.is_up()) {
            for network in [Network::None, Network::Outside] {
                let _ = engine.remove_network(&create::network_name(&self.yard.settings.owner, network)).await;
            }
        }
    }
}

/// A step that runs, for as long as this is there.
struct Running<'a>(&'a AtomicU32);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Executor for DockerExecutor {
    fn runs(&self, code: &CodeRef) -> bool {
        matches!(code, CodeRef::Container(_))
    }

    fn slots(&self) -> Vec<(Lane, u32)> {
        let slots = if self.yard.is_up() { self.yard.settings.containers_max } else { 0 };
        vec![(Lane::Containers, slots)]
    }

    fn take_bell(&self, bell: Bell) {
        *self.yard.bell.lock() = Some(bell);
    }

    async fn check(&self, spec: &DefinitionSpec) -> Result<(), CodeProblem> {
        let CodeRef::Container(image) = &spec.code_ref else { return Ok(()) };
        let away = |error: EngineError| {
            let message = format!("{error}; start it, or name its socket: `tower serve --docker unix:///path`");
            CodeProblem { code: codes::EXECUTOR_UNAVAILABLE.name, message }
        };
        let engine = self.yard.engine().map_err(away)?;
        self.yard.allowed(spec)?;
        if !engine.is_up() {
            self.yard.look(engine).await.map_err(away)?;
        }
        let is_never_fetched = spec.container.as_ref().is_some_and(|container| container.pull == Pull::Never);
        if is_never_fetched && engine.image(image.as_str()).await.map_err(away)?.is_none() {
            let message = format!("the image {image} is not on this machine, and container.pull is NEVER");
            return Err(CodeProblem { code: codes::IMAGE_MISSING.name, message });
        }
        Ok(())
    }

    async fn run(&self, step: Arc<Step>, host: Arc<dyn StepHost>) -> StepEnd {
        let definition = step.definition.clone();
        let CodeRef::Container(image) = &definition.spec.code_ref else { return StepEnd::Released };
        // The operator may have thought again since the definition was put.
        if let Err(problem) = self.yard.allowed(&definition.spec) {
            return fatal(problem.code, problem.message);
        }
        if let Some(end) = without_code(&step, &*host).await {
            return end;
        }
        self.yard.running.fetch_add(1, Ordering::Relaxed);
        let _running = Running(&self.yard.running);
        let attempt = self.yard.desk.open(step.clone(), host.clone());
        let linger = Mutex::new(None);
        let errand = Errand { step: &step, host: &host, attempt: &attempt, belongs: Belongs::of(&step), linger: &linger };
        let is_kept = definition.spec.container.as_ref().is_some_and(|spec| spec.mode == Mode::Persistent);
        // Whatever ends the step, its container is there until what it said of it is known.
        let mut work = std::pin::pin!(self.yard.work(errand, image));
        let end = tokio::select! {
            biased;
            end = attempt.ended(), if !is_kept => {
                let linger: Option<Linger> = linger.lock().take();
                if let Some(linger) = linger {
                    tokio::select! {
                        () = linger.grant() => {}
                        _ = &mut work => {}
                    }
                }
                return end;
            }
            stop = host.stopped() => stopped(stop),
            () = tokio::time::sleep(step.timeout) => timed_out(&step),
            end = &mut work => end,
        };
        attempt.close(end)
    }

    fn settled(&self, task: TaskId, fence: u64, settled: Settled) {
        self.yard.desk.settled(task, fence, settled);
    }
}
