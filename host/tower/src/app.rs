//! Everything wired together: stores, sandbox, engine, and, for a server, the API in front of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_domain::clock::SystemClock;
use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::id::MonotonicIds;
use tower_domain::module::Inspection;
use tower_domain::step::{CodeProblem, HostTrouble};
use tower_engine::{Engine, EngineConfig};
use tower_executors::wasm::{LoadError, ModuleSource, SetupError, WasmConfig, WasmExecutor};
use tower_store::Stores;
use tower_store::blobs::{BlobStore, FolderBlobs, MemoryBlobs};
use tower_store::fault;
use tower_store::sqlite::{self, SqliteOptions, SqliteStore};

use crate::api::{self, Api, ApiSettings, ModuleGate};
use crate::config::{HostConfig, ServeConfig};
use crate::server::Server;

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
        let executor = Arc::new(sandbox(config, stores.clone())?);
        let mut engine = EngineConfig::new(HOST_NAME);
        engine.slots = config.slots;
        engine.claims_ahead = config.slots;
        engine.cancel_grace = config.cancel_grace;
        engine.lease = config.lease;
        engine.crash_journal = folder.map(|folder| folder.join("running"));
        let ids = Arc::new(MonotonicIds::new(SystemClock));
        let engine = Engine::start(engine, stores, vec![executor.clone()], clock, ids).await.context("the engine cannot be started")?;
        Ok(Self { engine, executor, store })
    }

    /// Lets running steps end for `grace`, gives the others back, and closes what is open.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.engine.shutdown(grace).await;
        self.executor.shutdown().await;
        if let Err(error) = self.store.close().await {
            tracing::warn!(error = %api::problem::causes(&error), "the database was not closed in order");
        }
    }
}

fn sandbox(config: &HostConfig, stores: Stores) -> Result<WasmExecutor, SetupError> {
    let mounts = config.mounts.iter().map(|mount| (mount.name.clone(), mount.dir.clone())).collect();
    let settings = WasmConfig { mounts, ..WasmConfig::default() };
    WasmExecutor::new(settings, Arc::new(StoredModules(stores)), Arc::new(SystemClock))
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
        let server = Server::bind(config.listen, config.connections_max).await.with_context(|| format!("{} cannot be listened on", config.listen))?;
        let address = server.address()?;
        let host = Host::in_folder(&config.host, &config.data_dir).await?;
        let stop = CancellationToken::new();
        let settings = ApiSettings { module_bytes_max: config.module_bytes_max, loopback_only: address.ip().is_loopback() };
        let api = Api { engine: host.engine.clone(), gate: host.executor.clone(), stop: stop.clone(), settings };
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
