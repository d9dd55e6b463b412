//! Everything wired together: stores, sandbox, engine, and, for a server, the API in front of them.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_domain::clock::SystemClock;
use tower_domain::code_ref::{CodeRef, Digest, ModuleRef};
use tower_domain::id::{IdSource, MonotonicIds};
use tower_domain::module::Inspection;
use tower_domain::name::Name;
use tower_domain::step::{CodeProblem, Executor, HostTrouble};
use tower_engine::{Engine, EngineConfig};
#[cfg(not(test))]
use tower_executors::wasm::WorkerCommand;
use tower_executors::wasm::{CompileIn, LoadError, ModuleSource, WasmConfig, WasmExecutor};
use tower_outside::desk::Desk;
use tower_outside::docker::DockerExecutor;
use tower_outside::push::{PushExecutor, PushSettings};
use tower_outside::queue::QueueExecutor;
use tower_store::blobs::{BlobStore, FolderBlobs, MemoryBlobs, ObjectBlobs};
use tower_store::definitions::DefinitionFilter;
use tower_store::fault;
use tower_store::postgres::{self, PostgresOptions, PostgresStore};
use tower_store::read::{PAGE_MAX, PageRequest};
use tower_store::sqlite::{self, SqliteOptions, SqliteStore};
use tower_store::tags::RememberedTags;
use tower_store::{StoreError, Stores};
use tower_workspaces::Workspaces;

use crate::api::{self, Api, ApiSettings, ModuleGate, Peers};
use crate::config::{Artifacts, HostConfig, Mount, OutsideConfig, ServeConfig};
use crate::server::{Server, room_for, serve_containers};
use crate::sessions::{Policies, Sessions, keep};

/// What leases are held under where one host works on an embedded database.
const HOST_NAME: &str = "local";

/// The file in the data folder that keeps the name of a host.
const HOST_ID_FILE: &str = "host-id";

/// What the host is built on.
#[derive(Clone)]
enum Database {
    Sqlite(SqliteStore),
    Postgres(Box<PostgresStore>),
}

impl Database {
    fn stores(&self, blobs: Arc<dyn BlobStore>) -> Stores {
        let stores = match self {
            Self::Sqlite(store) => store.stores(blobs),
            Self::Postgres(store) => store.stores(blobs),
        };
        Stores { modules: Arc::new(RememberedTags::of(stores.modules, self.is_shared())), ..stores }
    }

    /// Whether other hosts may work on it too.
    fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => {
                store.close().await;
                Ok(())
            }
        }
    }
}

/// What runs steps outside of this process.
#[derive(Clone)]
pub(crate) struct Outside {
    /// Attempts that are under way there.
    pub(crate) desk: Arc<Desk>,
    /// Workers that fetch steps.
    pub(crate) queues: Arc<QueueExecutor>,
    /// Workers that are called.
    push: Arc<PushExecutor>,
    /// Containers.
    pub(crate) containers: Arc<DockerExecutor>,
    /// What containers reach the API at, until it is served.
    socket: Arc<Mutex<Option<UnixListener>>>,
    /// Where others reach this host.
    url: String,
}

impl Outside {
    /// With where the API is.
    pub(crate) fn new(config: &OutsideConfig, mounts: &[Mount], folder: &Path, url: String) -> anyhow::Result<Self> {
        let desk = Arc::new(Desk::default());
        let queues = Arc::new(QueueExecutor::new(desk.clone(), config.worker_lease, url.clone()));
        let push = PushSettings { allowed: config.worker_urls.clone(), slots: config.http_steps_max, base: url.clone() };
        let push = PushExecutor::new(desk.clone(), push).context("outside workers cannot be called")?;
        let containers = containers(config, mounts, folder, desk.clone())?;
        Ok(Self { desk, queues, push: Arc::new(push), containers: Arc::new(containers), socket: Arc::default(), url })
    }

    /// Begins what only the one host of its data folder may.
    async fn begin(&self) -> anyhow::Result<()> {
        if let Some(path) = self.containers.socket() {
            let unusable = || format!("the socket {} cannot be listened on; its path may have about 100 characters", path.display());
            *self.socket.lock() = Some(socket_for_containers(&path).with_context(unusable)?);
        }
        self.containers.begin().await.context("containers cannot be run")
    }
}

/// The part that runs containers, which does nothing yet.
fn containers(config: &OutsideConfig, mounts: &[Mount], folder: &Path, desk: Arc<Desk>) -> anyhow::Result<DockerExecutor> {
    let (mut owner, mut socket_dir) = ("none".to_owned(), folder.to_owned());
    let mut shown = std::collections::BTreeMap::new();
    if config.containers.docker.socket().is_some() {
        std::fs::create_dir_all(folder).with_context(|| format!("the data folder {} cannot be made", folder.display()))?;
        // The engine knows whole paths alone.
        let folder = folder.canonicalize().with_context(|| format!("the data folder {} cannot be used", folder.display()))?;
        owner = containers_owner(&folder)?;
        socket_dir = folder.join("run").join("containers");
        for mount in mounts {
            shown.insert(mount.name.clone(), mount.dir.canonicalize().with_context(|| format!("--mount {}: the folder cannot be used", mount.name))?);
        }
    }
    let settings = tower_outside::docker::DockerSettings { mounts: shown, ..config.containers.settings(owner, socket_dir) };
    DockerExecutor::new(settings, desk).context("containers cannot be called")
}

/// Whose containers are this host's: another name than the host's own, which is the same for every host with a database in a file.
fn containers_owner(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("containers-owner");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Name::new(text.trim()).with_context(|| format!("{} does not hold a name", path.display()))?.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let owner = format!("{:012x}", rand::random::<u64>() >> 16);
            std::fs::write(&path, format!("{owner}\n")).with_context(|| format!("{} cannot be written", path.display()))?;
            Ok(owner)
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Listens where containers look. Everybody in a container may speak there; on the machine itself, nobody else comes through the folder above.
fn socket_for_containers(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let allow = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    let inner = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(inner)?;
    allow(inner, 0o755)?;
    allow(inner.parent().unwrap_or(inner), 0o700)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    allow(path, 0o666)?;
    Ok(listener)
}

/// The part that runs steps.
#[derive(Clone)]
pub(crate) struct Host {
    /// Takes orders.
    pub(crate) engine: Engine,
    /// Runs components, and looks at new ones.
    pub(crate) executor: Arc<WasmExecutor>,
    /// Of one with folders: sessions.
    pub(crate) sessions: Option<Arc<Sessions>>,
    database: Database,
    /// Of the data folder.
    _lock: Option<Arc<File>>,
    /// Makes modules ready that will be needed.
    warming: Arc<JoinHandle<()>>,
    /// Looks after sessions.
    keeping: CancellationToken,
}

/// Where sessions have their folders, and what becomes of those that nobody uses.
struct Rooms {
    workspaces: Workspaces,
    policies: Policies,
}

impl Host {
    /// Keeps everything in memory.
    pub(crate) async fn in_memory(config: &HostConfig) -> anyhow::Result<Self> {
        fault::announce();
        let store = sqlite::open(SqliteOptions::memory()).await.context("the database cannot be opened")?;
        Self::start(config, HOST_NAME, Database::Sqlite(store), Arc::new(MemoryBlobs::default()), None, None, None).await
    }

    /// As a server has it: on the database that it names, or else on a file in its data folder, which is made if it is not there.
    pub(crate) async fn of_server(config: &ServeConfig, outside: &Outside) -> anyhow::Result<Self> {
        fault::announce();
        let folder = &config.data_dir;
        let unusable = || format!("the data folder {} cannot be used", folder.display());
        std::fs::create_dir_all(folder).with_context(|| format!("the data folder {} cannot be made", folder.display()))?;
        // A database in a file has a lock of its own.
        let lock = if config.database.is_some() { Some(sole_user(folder)?) } else { None };
        let name = match (&config.host_id, &config.database) {
            (Some(name), _) => name.to_string(),
            (None, None) => HOST_NAME.to_owned(),
            (None, Some(_)) => host_id(folder).with_context(unusable)?,
        };
        let (database, blobs): (Database, Arc<dyn BlobStore>) = match &config.database {
            None => {
                let blobs = match &config.artifacts {
                    Some(place) => kept_in(place, &name).await?,
                    None => kept_in(&Artifacts::Folder(folder.join("blobs")), &name).await?,
                };
                let store = sqlite::open(SqliteOptions::file(folder.join("tower.db"))).await.context("the database cannot be opened")?;
                (Database::Sqlite(store), blobs)
            }
            Some(url) => {
                let store = wait_for(url, config.database_wait).await.context("the database cannot be opened")?;
                let blobs: Arc<dyn BlobStore> = match &config.artifacts {
                    Some(place) => kept_in(place, &name).await?,
                    None => Arc::new(store.clone()),
                };
                (Database::Postgres(Box::new(store)), blobs)
            }
        };
        let place = config.sessions.workspaces.clone().unwrap_or_else(|| folder.join("workspaces"));
        let workspaces = Workspaces::open(&place, config.sessions.settings());
        let workspaces = workspaces.with_context(|| format!("the folder {} cannot be used for workspaces", place.display()))?;
        let rooms = Rooms { workspaces, policies: config.sessions.policies() };
        let host = Self::start(&config.host, &name, database, blobs, Some(folder), Some(rooms), Some(outside)).await?;
        Ok(Self { _lock: lock.map(Arc::new), ..host })
    }

    async fn start(
        config: &HostConfig,
        name: &str,
        database: Database,
        blobs: Arc<dyn BlobStore>,
        folder: Option<&Path>,
        rooms: Option<Rooms>,
        outside: Option<&Outside>,
    ) -> anyhow::Result<Self> {
        let stores = database.stores(blobs);
        let clock = Arc::new(SystemClock);
        let executor = Arc::new(sandbox(config, stores.clone(), folder)?);
        let mut engine = EngineConfig::new(name);
        engine.shared = database.is_shared();
        engine.slots = config.slots;
        engine.claims_ahead = engine.claims_ahead.max(config.slots);
        engine.cancel_grace = config.cancel_grace;
        engine.lease = config.lease;
        engine.night = config.night;
        engine.user_max_concurrent = config.user_max_concurrent;
        engine.schedules = config.schedules;
        engine.schedule_interval_min = config.schedule_interval_min;
        engine.retention = config.retention;
        engine.url = outside.map(|outside| outside.url.clone());
        engine.crash_journal = folder.map(|folder| folder.join("running"));
        let keeping = CancellationToken::new();
        let sessions = rooms.map(|Rooms { workspaces, policies }| {
            let keepers = outside.map(|outside| outside.containers.clone() as Arc<dyn tower_domain::step::SessionKeeper>).into_iter().collect();
            let sessions = Sessions { stores: stores.clone(), workspaces, clock: clock.clone(), keepers, watches: Default::default() };
            tokio::spawn(keep(sessions.clone(), policies, keeping.clone()));
            Arc::new(sessions)
        });
        engine.workspaces = sessions.clone().map(|sessions| sessions as Arc<dyn tower_domain::step::WorkspaceProvider>);
        let ids = Arc::new(MonotonicIds::new(SystemClock));
        let mut executors: Vec<Arc<dyn Executor>> = vec![executor.clone()];
        if let Some(outside) = outside {
            executors.push(outside.queues.clone());
            executors.push(outside.push.clone());
            executors.push(outside.containers.clone());
            outside.begin().await?;
        }
        let engine = Engine::start(engine, stores, executors, clock, ids).await.context("the engine cannot be started")?;
        let warming = Arc::new(tokio::spawn(keep_warm(engine.clone(), executor.clone())));
        Ok(Self { engine, executor, sessions, database, _lock: None, warming, keeping })
    }

    /// Lets running steps end for `grace`, gives the others back, and closes what is open.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.warming.abort();
        self.keeping.cancel();
        self.engine.shutdown(grace).await;
        self.executor.shutdown().await;
        if let Err(error) = self.database.close().await {
            tracing::warn!(error = %api::problem::causes(&error), "the database was not closed in order");
        }
    }
}

/// How often a database that does not answer is tried again.
const DATABASE_TRY_EVERY: Duration = Duration::from_secs(1);

/// Opens a PostgreSQL database, and waits for one that does not answer yet; one that refuses is not waited for.
async fn wait_for(url: &str, patience: Duration) -> Result<PostgresStore, StoreError> {
    let begin = Instant::now();
    let mut told = false;
    loop {
        match postgres::open(PostgresOptions::at(url)).await {
            Err(StoreError::Unreachable(error)) if begin.elapsed() < patience => {
                if !told {
                    tracing::warn!(%error, "waiting up to {patience:?} for the database (--database-wait)");
                    told = true;
                }
                tokio::time::sleep(DATABASE_TRY_EVERY.min(patience.saturating_sub(begin.elapsed()))).await;
            }
            opened => return opened,
        }
    }
}

/// Where a server keeps bytes. A place that cannot be used is found out now.
async fn kept_in(place: &Artifacts, host: &str) -> anyhow::Result<Arc<dyn BlobStore>> {
    match place {
        Artifacts::Folder(folder) => {
            let blobs = FolderBlobs::open(folder, host).with_context(|| format!("the folder {} cannot be used", folder.display()))?;
            Ok(Arc::new(blobs))
        }
        Artifacts::Bucket(url) => {
            let blobs = ObjectBlobs::open(url, std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))));
            let why =
                || format!("{url} cannot be used: its endpoint, region and keys are AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
            Ok(Arc::new(blobs.await.with_context(why)?))
        }
    }
}

/// Takes the lock of a data folder: two hosts of one name would take each other's leases.
fn sole_user(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("host.lock");
    let lock = File::options().create(true).write(true).truncate(false).open(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::InUse(format!("the data folder {} is in use by another tower; each host needs one of its own", folder.display())).into())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{} cannot be locked", path.display())),
    }
}

/// The name that a host of this data folder has, made up at its first start. Leases are held under it, so that a host that starts again takes
/// back what it held; two hosts must never have the same.
fn host_id(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(HOST_ID_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Name::new(text.trim()).with_context(|| format!("{} does not hold a name", path.display()))?.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let name = format!("host-{}", MonotonicIds::new(SystemClock).task().to_string().to_ascii_lowercase());
            std::fs::write(&path, format!("{name}\n")).with_context(|| format!("{} cannot be written", path.display()))?;
            Ok(name)
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
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

/// How long changes of definitions are gathered before their modules are loaded: they rarely come alone.
const WARM_AFTER: Duration = Duration::from_millis(200);

/// After a look at all definitions it rests for so many times as long as that took.
const WARM_REST: u32 = 10;

/// Loads what can be triggered, at the start and whenever a host of this database puts something, so that no first step waits for a compiler.
async fn keep_warm(engine: Engine, executor: Arc<WasmExecutor>) {
    loop {
        let begin = Instant::now();
        warm(engine.stores(), &executor).await;
        tokio::time::sleep(WARM_REST * begin.elapsed()).await;
        engine.definitions_changed().await;
        tokio::time::sleep(WARM_AFTER).await;
    }
}

/// Loads the modules of what can be triggered, from their images where those were kept.
async fn warm(stores: &Stores, executor: &WasmExecutor) {
    let mut after = None;
    let mut modules = HashSet::new();
    loop {
        let filter = DefinitionFilter { active: Some(true), ..DefinitionFilter::default() };
        let page = stores.definitions.list(&filter, &PageRequest { after, limit: PAGE_MAX }).await;
        let Ok(page) = page else { return };
        for definition in page.items {
            let CodeRef::Wasm(module) = &definition.spec.code_ref else { continue };
            if !modules.insert(module.clone()) {
                continue;
            }
            if let Err(error) = executor.warm(module).await {
                tracing::debug!(%module, %error, "a module was not made ready beforehand");
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
    containers: Arc<DockerExecutor>,
    /// Steps in containers end over their socket, so that it is served for longer.
    inside_stop: CancellationToken,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl App {
    /// Starts everything, and answers when it is ready.
    pub(crate) async fn start(config: ServeConfig) -> anyhow::Result<Self> {
        // The address first: a port that is taken is the commonest mistake, and costs nothing yet.
        let limits = config.limits.clone();
        let connections_max = room_for(limits.connections_max, config.host.slots as usize)?;
        let server = Server::bind(config.listen, connections_max, limits.patience).await.with_context(|| format!("{} cannot be listened on", config.listen))?;
        let address = server.address()?;
        let url = config.url.clone().unwrap_or_else(|| format!("http://{address}"));
        let outside = Outside::new(&config.outside, &config.host.mounts, &config.data_dir, url)?;
        let host = Host::of_server(&config, &outside).await?;
        let stop = CancellationToken::new();
        let settings = ApiSettings {
            module_bytes_max: config.module_bytes_max,
            body_timeout: limits.body_timeout,
            task_definition: config.task_definition,
            loopback_only: address.ip().is_loopback(),
            stage_from: config.sessions.stage_from,
        };
        let streams = Arc::new(Semaphore::new(limits.streams_max.min(connections_max)));
        let bodies = Arc::new(Semaphore::new(limits.bodies_kib_max));
        let uploads = Arc::new(Semaphore::new(api::UPLOADS_MAX));
        let (engine, gate, sessions) = (host.engine.clone(), host.executor.clone(), host.sessions.clone());
        let peers = Peers::new().context("other hosts cannot be called")?;
        let (containers, socket) = (outside.containers.clone(), outside.socket.lock().take());
        let api = Api { engine, gate, outside, peers, sessions, stop: stop.clone(), probe: api::Probe::default(), bodies, streams, settings, uploads };
        let inside_stop = CancellationToken::new();
        if let Some(socket) = socket {
            tokio::spawn(serve_containers(socket, api::router_for_containers(api.clone()), inside_stop.clone()));
        }
        let serving = tokio::spawn(server.serve(api::router(api), stop.clone()));
        tracing::info!(%address, data_dir = %config.data_dir.display(), "the tower is up");
        Ok(Self { address, host, containers, inside_stop, stop, serving })
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
        self.containers.shutdown().await;
        self.inside_stop.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the server ended badly");
        }
    }
}
