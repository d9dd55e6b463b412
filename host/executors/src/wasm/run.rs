//! One step: a fresh store and a fresh instance, bounded in time, memory and processor, dropped at the end whatever happened.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tower_domain::clock::Clock;
use tower_domain::step::{Step, StepEnd, StepHost, Summary};
use tower_domain::task::TaskResult;
use wasmtime::Store;

use super::bindings::types;
use super::component::LoadedComponent;
use super::convert;
use super::ends::{self, Answer, Broken, Stage};
use super::guest_state::{Cut, Folder, GuestState, Home, Watch};
use super::limits::{CpuMeter, MemoryLimit, metered};
use super::stdio::Stdio;

/// Which export to call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    /// `step.run`.
    Run,
    /// `aggregate.aggregate`.
    Aggregate(Summary),
}

/// Everything that one run needs.
pub(super) struct Run {
    pub(super) component: Arc<LoadedComponent>,
    pub(super) entry: Entry,
    pub(super) step: Arc<Step>,
    /// Results for `upstream`, if they are not the step's own.
    pub(super) upstream: Option<Vec<TaskResult>>,
    pub(super) host: Arc<dyn StepHost>,
    pub(super) clock: Arc<dyn Clock>,
    /// The runtime that the host is at home on.
    pub(super) home: Handle,
    pub(super) workspace: Option<Folder>,
    pub(super) hostcall_bytes_max: usize,
}

impl Run {
    /// Runs to the end. To be called on a thread for guests.
    pub(super) async fn play(self) -> StepEnd {
        let Self { component, entry, step, upstream, host, clock, home, workspace, hostcall_bytes_max } = self;
        let profile = &step.definition.spec.resource_profile;
        let deadline = Instant::now() + step.timeout;
        let meter = Arc::new(CpuMeter::default());
        let watch = Watch { deadline, cpu_max: Duration::from_millis(profile.cpu_ms), meter: Arc::clone(&meter) };
        let stdio = Stdio::into_log_of(Arc::clone(&host));
        let home = Home { host: Arc::clone(&host), runtime: home };
        let state = match GuestState::new(home, &stdio, clock, workspace.as_ref(), MemoryLimit::new(profile.memory_bytes), watch) {
            Ok(state) => state,
            Err(error) => return ends::retryable("HOST_TROUBLE", format!("the workspace cannot be opened: {error:#}")),
        };
        let task = convert::task(&step, upstream.as_deref().unwrap_or(&step.upstream));
        let mut store = bounded_store(&component, state, hostcall_bytes_max);
        let ended = {
            let mut call = pin!(call(&mut store, &component, entry, &task));
            let call = pin!(metered(call.as_mut(), &meter));
            until_cut(call, &*host, deadline).await
        };
        stdio.finish();
        match ended {
            Ok(Ok(answer)) => ends::answered(answer, store.data()),
            Ok(Err(broken)) => ends::broke(&broken, store.data(), &stdio, &step),
            Err(cut) => ends::cut(cut, &step),
        }
    }
}

/// All bounds are set before anything of the component runs: its start functions run when it is instantiated.
fn bounded_store(component: &LoadedComponent, state: GuestState, hostcall_bytes_max: usize) -> Store<GuestState> {
    let mut store = Store::new(component.pre.engine(), state);
    store.limiter(|state| &mut state.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(GuestState::tick);
    store.set_hostcall_fuel(hostcall_bytes_max);
    store
}

async fn call(store: &mut Store<GuestState>, component: &LoadedComponent, entry: Entry, task: &types::Task) -> Result<Answer, Broken> {
    let at = |stage: Stage| move |error: wasmtime::Error| Broken { stage, error };
    let instance = component.pre.instantiate_async(&mut *store).await.map_err(at(Stage::Begin))?;
    match (entry, &component.aggregate) {
        (Entry::Aggregate(summary), Some(aggregate)) => {
            let guest = aggregate.load(&mut *store, &instance).map_err(at(Stage::Begin))?;
            guest.call_aggregate(&mut *store, task, convert::summary(summary)).await.map_err(at(Stage::Call))
        }
        (Entry::Run | Entry::Aggregate(_), _) => {
            let guest = component.step.load(&mut *store, &instance).map_err(at(Stage::Begin))?;
            guest.call_run(&mut *store, task).await.map_err(at(Stage::Call))
        }
    }
}

/// The call, or what came first. Dropping the call ends whatever it does: its code gives up its thread at every tick, and no host
/// function blocks.
async fn until_cut<F: Future>(mut call: Pin<&mut F>, host: &dyn StepHost, deadline: Instant) -> Result<F::Output, Cut> {
    // Most steps are over before they would wait for anything: they need neither timer nor watcher.
    let first = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
    if let Poll::Ready(output) = first {
        return Ok(output);
    }
    tokio::select! {
        biased;
        stop = async { host.stopped().await } => Err(Cut::Stopped(stop)),
        () = tokio::time::sleep_until(deadline.into()) => Err(Cut::TimedOut),
        output = call => Ok(output),
    }
}
