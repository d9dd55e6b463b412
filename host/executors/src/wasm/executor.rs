//! [`WasmExecutor`]: the sandbox as the engine sees it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tower_domain::clock::Clock;
use tower_domain::code_ref::{CodeRef, Digest, ModuleRef};
use tower_domain::codes;
use tower_domain::definition::DefinitionSpec;
use tower_domain::module::Inspection;
use tower_domain::session::WorkspaceAccess;
use tower_domain::step::{CodeProblem, Executor, FoldError, HostTrouble, RESULT_PAGE_MAX, Step, StepEnd, StepHost, Stop, Work, fold_by_key};
use tower_domain::task::{Leg, Output, TaskResult};

use super::component::{LoadedComponent, Loader};
use super::ends;
use super::guest_runtime::{GuestRuntime, within};
use super::guest_state::Cut;
use super::guest_state::Folder;
use super::linker::make_linker;
use super::modules::{LoadError, ModuleSource, Modules};
use super::run::{Entry, Run};
use super::settings::{SetupError, WasmConfig, make_engine};

/// Most results that `step.run` of an aggregator gets in `upstream`; more of them need an `aggregate` export, which reads pages.
pub const UPSTREAM_RESULTS_MAX: usize = 10_000;

/// Runs `wasm://…`.
pub struct WasmExecutor {
    config: WasmConfig,
    clock: Arc<dyn Clock>,
    modules: Arc<Modules>,
    /// Slots of the pool. A run takes as many as its memories and tables need.
    slots: Arc<Semaphore>,
    runtime: GuestRuntime,
}

impl WasmExecutor {
    /// Makes the sandbox and starts its threads.
    ///
    /// # Errors
    /// A setting that is wrong, or a machine that cannot hold even one component.
    pub fn new(config: WasmConfig, source: Arc<dyn ModuleSource>, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        config.check()?;
        let (engine, slots) = make_engine(&config)?;
        let linker = make_linker(&engine).map_err(|error| SetupError::Engine(format!("{error:#}")))?;
        let runtime = GuestRuntime::start(&engine, config.guest_threads, config.tick)?;
        let modules = Arc::new(Modules::new(Loader { engine, linker, slots }, &config, source)?);
        Ok(Self { modules, slots: Arc::new(Semaphore::new(slots as usize)), clock, runtime, config })
    }

    /// Inspects, compiles and type-checks bytes at upload, and keeps the result for the first step that needs it.
    ///
    /// # Errors
    /// What keeps the component from running here.
    pub async fn prepare(&self, bytes: Bytes) -> Result<Inspection, LoadError> {
        Ok(self.modules.prepare(bytes).await?.as_ref().clone())
    }

    /// Makes a module ready before a step needs it.
    ///
    /// # Errors
    /// The module is unknown or does not run here, or the host is in trouble.
    pub async fn load(&self, digest: Digest) -> Result<(), LoadError> {
        self.modules.get(digest).await.map(drop)
    }

    /// Makes ready what a reference stands for at this moment.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub async fn warm(&self, module: &ModuleRef) -> Result<(), LoadError> {
        self.module(module).await.map(drop)
    }

    /// Slots that are free at the moment.
    pub fn free_slots(&self) -> usize {
        self.slots.available_permits()
    }

    /// Whether nothing runs, and has not for a while: the sandbox then costs no time on the processor.
    pub fn is_at_rest(&self) -> bool {
        self.runtime.is_at_rest()
    }

    /// Takes no more steps and ends the threads. Steps that still run or wait are released, as are those that come later: to let
    /// steps finish, wait for them before.
    pub async fn shutdown(&self) {
        self.slots.close();
        self.modules.close();
        self.runtime.shutdown().await;
    }

    async fn module(&self, module: &ModuleRef) -> Result<Arc<LoadedComponent>, LoadError> {
        let digest = self.modules.resolve(module).await?;
        self.modules.get(digest).await
    }

    async fn run_module(&self, module: &ModuleRef, step: Arc<Step>, host: Arc<dyn StepHost>) -> Result<StepEnd, StepEnd> {
        let component = unless_stopped(&*host, self.module(module)).await?.map_err(|error| not_loaded(module, &error))?;
        let spec = &step.definition.spec;
        let workspace = match (&spec.capabilities.workspace, &step.session) {
            (None, None) => None,
            (None, Some(session)) => Some(Folder { path: session.workspace.clone(), access: session.access }),
            (Some(name), _) => {
                let mounted = self.config.mounts.get(name).cloned().ok_or_else(|| ends::fatal("WORKSPACE_UNKNOWN", workspace_unknown(name.as_str())))?;
                Some(Folder { path: mounted, access: WorkspaceAccess::Read })
            }
        };
        let aggregates = component.aggregate.is_some();
        let aggregator = step.actor_type.is_aggregator();
        let entry = match step.leg {
            Leg::Aggregate if !aggregates => return fold(&step, &*host).await,
            Leg::Run if !(aggregator && aggregates) => Entry::Run,
            Leg::Aggregate | Leg::Run => Entry::Aggregate(step.summary.unwrap_or_default()),
        };
        let upstream = if matches!(entry, Entry::Run) && aggregator && step.upstream.is_empty() {
            Some(unless_stopped(&*host, upstream(&step, &*host)).await??)
        } else {
            None
        };
        let slots = unless_stopped(&*host, Arc::clone(&self.slots).acquire_many_owned(component.slots)).await?.map_err(|_| StepEnd::Released)?;
        let run = Run {
            component,
            entry,
            step,
            upstream,
            host,
            clock: Arc::clone(&self.clock),
            home: Handle::try_current().unwrap_or_else(|_| self.runtime.handle().clone()),
            workspace,
            hostcall_bytes_max: self.config.hostcall_bytes_max,
        };
        Ok(self.on_guest_thread(run, slots).await)
    }

    async fn on_guest_thread(&self, run: Run, slots: OwnedSemaphorePermit) -> StepEnd {
        let ticking = self.runtime.ticking();
        if self.runtime.is_here() {
            // Work that is carried, see [`Executor::carry`].
            return within(self.runtime.handle(), run.play()).await;
        }
        let running = self.runtime.handle().spawn(async move {
            // Dropped last: the run's store has given its slots back by then.
            let _held = (slots, ticking);
            run.play().await
        });
        match (&mut AbortOnDrop(running).0).await {
            Ok(end) => end,
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "the host panicked while it ran a step");
                ends::retryable("HOST_BUG", "the host failed while it ran this step; its log says more")
            }
            Err(_) => StepEnd::Released,
        }
    }
}

#[async_trait]
impl Executor for WasmExecutor {
    fn runs(&self, code: &CodeRef) -> bool {
        matches!(code, CodeRef::Wasm(_))
    }

    async fn check(&self, spec: &DefinitionSpec) -> Result<(), CodeProblem> {
        let CodeRef::Wasm(module) = &spec.code_ref else {
            return Err(CodeProblem { code: codes::NO_EXECUTOR.name, message: format!("{} is no component", spec.code_ref) });
        };
        if let Some(name) = spec.capabilities.workspace.as_ref().filter(|name| !self.config.mounts.contains_key(*name)) {
            return Err(CodeProblem { code: "WORKSPACE_UNKNOWN", message: workspace_unknown(name.as_str()) });
        }
        if spec.resource_profile.memory_bytes > self.config.memory_bytes_max {
            let message = format!(
                "resource_profile.memory_bytes is {}, and this host gives a step {} at most",
                spec.resource_profile.memory_bytes, self.config.memory_bytes_max
            );
            return Err(CodeProblem { code: "MEMORY_TOO_LARGE", message });
        }
        self.modules.exists(module).await.map_err(|error| CodeProblem { code: load_code(&error), message: load_message(module, &error) })
    }

    fn carry(&self, work: Work) -> Option<Work> {
        match Handle::try_current() {
            Ok(home) => {
                self.runtime.handle().spawn(async move { within(&home, work).await });
                None
            }
            Err(_) => Some(work),
        }
    }

    async fn run(&self, step: Arc<Step>, host: Arc<dyn StepHost>) -> StepEnd {
        let definition = Arc::clone(&step.definition);
        let CodeRef::Wasm(module) = &definition.spec.code_ref else {
            return ends::fatal(codes::NO_EXECUTOR.name, format!("{} is no component", definition.spec.code_ref));
        };
        self.run_module(module, step, host).await.unwrap_or_else(|end| end)
    }
}

/// Steps outlive nobody who waits for them: when the engine lets go of a run, the run ends.
struct AbortOnDrop(JoinHandle<StepEnd>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for something that is not yet the step's own work.
async fn unless_stopped<T>(host: &dyn StepHost, work: impl Future<Output = T>) -> Result<T, StepEnd> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        stop = async { host.stopped().await } => Err(match stop {
            Stop::Cancelled => StepEnd::Cancelled,
            Stop::Released => StepEnd::Released,
        }),
    }
}

/// The aggregation of a module that exports none.
async fn fold(step: &Step, host: &dyn StepHost) -> Result<StepEnd, StepEnd> {
    let folding = tokio::time::timeout(step.timeout, fold_by_key(host));
    let folded = unless_stopped(host, folding).await?.map_err(|_| ends::cut(Cut::TimedOut, step))?;
    let output = folded.map_err(|error| match &error {
        FoldError::Trouble(trouble) => ends::host_trouble(trouble),
        FoldError::TooLarge => ends::too_large(&error.to_string()),
    })?;
    Ok(StepEnd::Finished { output, last: false })
}

/// The results that an aggregator without an `aggregate` export works on, within what its memory could hold.
async fn upstream(step: &Step, host: &dyn StepHost) -> Result<Vec<TaskResult>, StepEnd> {
    let bytes_max = step.definition.spec.resource_profile.memory_bytes;
    let (mut results, mut bytes, mut after) = (Vec::new(), 0, None);
    loop {
        let page = host.results(after, RESULT_PAGE_MAX).await.map_err(|trouble| ends::host_trouble(&trouble))?;
        bytes += page.items.iter().map(|result| result.output.as_ref().map_or(0, output_bytes)).sum::<u64>();
        results.extend(page.items);
        if results.len() > UPSTREAM_RESULTS_MAX || bytes > bytes_max {
            let message = format!(
                "more results than `step.run` can be given ({UPSTREAM_RESULTS_MAX}, or {bytes_max} bytes): export `aggregate`, which reads them page by page"
            );
            return Err(ends::fatal("UPSTREAM_TOO_LARGE", message));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(results),
        }
    }
}

fn output_bytes(output: &Output) -> u64 {
    match output {
        Output::Inline(json) => json.as_str().len() as u64,
        Output::Ref(url) => url.len() as u64,
    }
}

fn not_loaded(module: &ModuleRef, error: &LoadError) -> StepEnd {
    match error {
        LoadError::Trouble(trouble) => ends::host_trouble(trouble),
        LoadError::Busy => ends::host_trouble(&HostTrouble(error.to_string())),
        LoadError::Unknown | LoadError::Refused(_) => ends::fatal(load_code(error), load_message(module, error)),
    }
}

fn load_code(error: &LoadError) -> &'static str {
    match error {
        LoadError::Unknown => "MODULE_UNKNOWN",
        LoadError::Refused(_) => "MODULE_INVALID",
        LoadError::Trouble(_) | LoadError::Busy => "HOST_TROUBLE",
    }
}

fn load_message(module: &ModuleRef, error: &LoadError) -> String {
    match error {
        LoadError::Unknown => format!("there is no module `{module}`; upload one with `tower push`"),
        LoadError::Refused(refused) => format!("the module `{module}` does not run here ({}): {refused}", refused.code()),
        LoadError::Busy => error.to_string(),
        LoadError::Trouble(HostTrouble(why)) => format!("whether there is a module `{module}` cannot be told just now: {why}"),
    }
}

fn workspace_unknown(name: &str) -> String {
    format!("the definition is granted the workspace `{name}`, and this host declares none of that name; start it with `--mount {name}=DIR`")
}
