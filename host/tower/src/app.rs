//! Everything wired together: stores, sandbox, engine, and, for a server, the API in front of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_domain::clock::SystemClock;
use tower_domain::code_ref::{CodeRef, Digest, ModuleRef};
use tower_domain::id::MonotonicIds;
use tower_domain::module::Inspection;
use tower_domain::step::{CodeProblem, HostTrouble};
use tower_engine::{Engine, EngineConfig};
#[cfg(not(test))]
use tower_executors::wasm::WorkerCommand;
use tower_executors::wasm::{CompileIn, LoadError, ModuleSource, WasmConfig, WasmExecutor};
use tower_store::Stores;
use tower_store::blobs::{BlobStore, FolderBlobs, MemoryBlobs};
use tower_store::definitions::DefinitionFilter;
use tower_store::fault;
use tower_store::read::{PAGE_MAX, PageRequest};
use tower_store::sqlite::{self, SqliteOptions, SqliteStore};

use crate::api::{self, Api, ApiSettings, ModuleGate};
use crate::config::{HostConfig, ServeConfig};
use crate::server::{Server, room_for};

/// What leases are held under. One host works on an embedded database, and takes its own claims back after a crash.
const HOST_NAME: &str = "local";

/// The part that runs steps.
#[derive(Clone)]
pub(crate) struct Host {
    /// Takes orders.
    pub(crate) engine: Engine,
    /// Runs components, and looks at new ones.
    pub(crate) executor: Arc<WasmExecutor>,
    store: SqliteStore,
    /// Makes modules ready that will be needed.
    warming: Arc<JoinHandle<()>>,
}

impl Host {
    /// Keeps everything in memory.
    pub(crate) async fn in_memory(config: &HostConfig) -> anyhow::Result<Self> {
        Self::start(config, SqliteOptions::memory(), Arc::new(MemoryBlobs::default()), None).await
    }

    /// Keeps everything in a folder, which is made if it is not there.
    pub(crate) async fn in_folder(config: &HostConfig, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("the data folder {} cannot be made", folder.display()))?;
        let blobs = FolderBlobs::open(folder.join("blobs")).with_context(|| format!("the data folder {} cannot be used", folder.display()))?;
        Self::start(config, SqliteOptions::file(folder.join("tower.db")), Arc::new(blobs), Some(folder)).await
    }

    async fn start(config: &HostConfig, database: SqliteOptions, blobs: Arc<dyn BlobStore>, folder: Option<&Path>) -> anyhow::Result<Self> {
        fault::announce();
        let store = sqlite::open(database).await.context("the database cannot be opened")?;
        let stores = store.stores(blobs);
        let clock = Arc::new(SystemClock);
        let executor = Arc::new(sandbox(config, stores.clone(), folder)?);
        let mut engine = EngineConfig::new(HOST_NAME);
        engine.slots = config.slots;
        engine.claims_ahead = config.slots;
        engine.cancel_grace = config.cancel_grace;
        engine.lease = config.lease;
        engine.night = config.night;
        engine.crash_journal = folder.map(|folder| folder.join("running"));
        let ids = Arc::new(MonotonicIds::new(SystemClock));
        let warming = Arc::new(tokio::spawn(warm(stores.clone(), executor.clone())));
        let engine = Engine::start(engine, stores, vec![executor.clone()], clock, ids).await.context("the engine cannot be started")?;
        Ok(Self { engine, executor, store, warming })
    }

    /// Lets running steps end for `grace`, gives the others back, and closes what is open.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.warming.abort();
        self.engine.shutdown(grace).await;
        self.executor.shutdown().await;
        if let Err(error) = self.store.close().await {
            tracing::warn!(error = %api::problem::causes(&error), "the database was not closed in order");
        }
    }
}

fn sandbox(config: &HostConfig, stores: Stores, folder: Option<&Path>) -> anyhow::Result<WasmExecutor> {
    let mut settings = WasmConfig::new(compile_in()?);
    settings.mounts = config.mounts.iter().map(|mount| (mount.name.clone(), mount.dir.clone())).collect();
    settings.compile_limits = config.compile.limits();
    settings.images = folder.map(|folder| folder.join("images"));
    Ok(WasmExecutor::new(settings, Arc::new(StoredModules(stores)), Arc::new(SystemClock))?)
}

/// This program, started again as a worker.
#[cfg(not(test))]
fn compile_in() -> anyhow::Result<CompileIn> {
    // Where there is one, the name that stays right when the file is replaced under a running host.
    let ours = Path::new("/proc/self/exe");
    let program = if ours.exists() { Ok(ours.to_owned()) } else { std::env::current_exe() };
    let program = program.context("this program cannot be found, and it is what compiles modules")?;
    Ok(CompileIn::Workers(WorkerCommand { program, args: vec![crate::cli::COMPILE_WORKER.into()] }))
}

/// A test program cannot be started as a worker.
#[cfg(test)]
fn compile_in() -> anyhow::Result<CompileIn> {
    Ok(CompileIn::ThisProcess)
}

/// Loads the modules of what can be triggered, from their images where those were kept, so that the first steps need not wait.
async fn warm(stores: Stores, executor: Arc<WasmExecutor>) {
    let mut after = None;
    loop {
        let filter = DefinitionFilter { active: Some(true), ..DefinitionFilter::default() };
        let page = stores.definitions.list(&filter, &PageRequest { after, limit: PAGE_MAX }).await;
        let Ok(page) = page else { return };
        for definition in page.items {
            let CodeRef::Wasm(module) = &definition.spec.code_ref;
            if let Err(error) = executor.warm(module).await {
                tracing::debug!(%module, %error, "a module was not made ready at the start");
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return,
        }
    }
}

/// Modules as the sandbox reads them.
struct StoredModules(Stores);

fn trouble(error: &tower_store::StoreError) -> HostTrouble {
    HostTrouble(api::problem::causes(error))
}

#[async_trait]
impl ModuleSource for StoredModules {
    async fn resolve(&self, module: &ModuleRef) -> Result<Option<Digest>, HostTrouble> {
        self.0.modules.resolve(module).await.map_err(|error| trouble(&error))
    }

    async fn bytes(&self, digest: &Digest) -> Result<Option<Bytes>, HostTrouble> {
        Ok(self.0.blobs.get(digest).await.map_err(|error| trouble(&error))?.map(Bytes::from))
    }
}

#[async_trait]
impl ModuleGate for WasmExecutor {
    async fn admit(&self, bytes: Bytes) -> Result<Inspection, CodeProblem> {
        self.prepare(bytes).await.map_err(|error| {
            let code = match &error {
                LoadError::Refused(refused) => refused.code(),
                LoadError::Busy => api::codes::COMPILE_BUSY.name,
                LoadError::Unknown => "MODULE_UNKNOWN",
                LoadError::Trouble(_) => "HOST_TROUBLE",
            };
            CodeProblem { code, message: error.to_string() }
        })
    }
}

/// A host with the API in front of it.
pub(crate) struct App {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    host: Host,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl App {
    /// Starts everything, and answers when it is ready.
    pub(crate) async fn start(config: ServeConfig) -> anyhow::Result<Self> {
        // The address first: a port that is taken is the commonest mistake, and costs nothing yet.
        let limits = config.limits;
        let connections_max = room_for(limits.connections_max, config.host.slots as usize)?;
        let server = Server::bind(config.listen, connections_max, limits.patience).await.with_context(|| format!("{} cannot be listened on", config.listen))?;
        let address = server.address()?;
        let host = Host::in_folder(&config.host, &config.data_dir).await?;
        let stop = CancellationToken::new();
        let settings = ApiSettings {
            module_bytes_max: config.module_bytes_max,
            body_timeout: limits.body_timeout,
            task_definition: config.task_definition,
            loopback_only: address.ip().is_loopback(),
        };
        let streams = Arc::new(Semaphore::new(limits.streams_max.min(connections_max)));
        let bodies = Arc::new(Semaphore::new(limits.bodies_kib_max));
        let uploads = Arc::new(Semaphore::new(api::UPLOADS_MAX));
        let (engine, gate) = (host.engine.clone(), host.executor.clone());
        let api = Api { engine, gate, stop: stop.clone(), probe: api::Probe::default(), bodies, streams, settings, uploads };
        let serving = tokio::spawn(server.serve(api::router(api), stop.clone()));
        tracing::info!(%address, data_dir = %config.data_dir.display(), "the tower is up");
        Ok(Self { address, host, stop, serving })
    }

    /// The address for clients.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What runs the steps.
    pub(crate) fn engine(&self) -> Engine {
        self.host.engine.clone()
    }

    /// Takes no more requests and no more work, lets steps end for `grace`, and closes everything.
    pub(crate) async fn stop(self, grace: Duration) {
        self.stop.cancel();
        self.host.stop(grace).await;
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the server ended badly");
        }
    }
}
