//! What the host keeps for one running component: the data of its store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tower_domain::clock::Clock;
use tower_domain::session::WorkspaceAccess;
use tower_domain::step::{Signal, StepHost, Stop};
use wasmtime::component::ResourceTable;
use wasmtime::{StoreContextMut, UpdateDeadline};
use wasmtime_wasi::{FsPerms, HostWallClock, WasiCtx, WasiCtxView, WasiView};

use super::guest_runtime::within;
use super::limits::{CpuMeter, MemoryLimit};
use super::stdio::Stdio;

/// Handles of WASI that a component may hold at once: streams, files, things to wait for.
const HANDLES_MAX: usize = 1_000;
/// Random bytes of one call.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;
/// Where a granted workspace is seen.
const WORKSPACE_PATH: &str = "/workspace";

/// Why a component was stopped where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    TimedOut,
    CpuSpent,
    Stopped(Stop),
}

/// A folder that the component sees as its workspace.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) access: WorkspaceAccess,
}

/// When a component is to be stopped.
pub(crate) struct Watch {
    pub(crate) deadline: Instant,
    pub(crate) cpu_max: Duration,
    pub(crate) meter: Arc<CpuMeter>,
}

/// Which orders the component has been told: it may act on one even if it was taken back since.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) pause: bool,
    pub(crate) cancel: bool,
}

/// The step's host, and the runtime that it is at home on.
pub(crate) struct Home {
    pub(crate) host: Arc<dyn StepHost>,
    pub(crate) runtime: Handle,
}

impl Home {
    /// Waits for something of the host's, on this thread and in the surroundings of its own runtime: connections and timers that it
    /// makes belong there, and not to the threads that components keep busy.
    pub(crate) async fn call<T>(&self, work: impl Future<Output = T>) -> T {
        within(&self.runtime, work).await
    }
}

pub(crate) struct GuestState {
    wasi: WasiCtx,
    handles: ResourceTable,
    pub(crate) home: Home,
    pub(crate) memory: MemoryLimit,
    pub(crate) told: Told,
    /// What it heard last.
    pub(crate) heard: Signal,
    pub(crate) cut: Option<Cut>,
    watch: Watch,
}

impl GuestState {
    /// Nothing of the host's surroundings goes in but clock, random numbers and, if granted, one folder.
    pub(crate) fn new(
        home: Home,
        stdio: &Stdio,
        clock: Arc<dyn Clock>,
        workspace: Option<&Folder>,
        memory: MemoryLimit,
        watch: Watch,
    ) -> wasmtime::Result<Self> {
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdio.stdout()).stderr(stdio.stderr()).max_random_size(RANDOM_BYTES_MAX).wall_clock(GuestClock(clock));
        if let Some(folder) = workspace {
            let access = match folder.access {
                WorkspaceAccess::Read => FsPerms::ReadOnly,
                WorkspaceAccess::ReadWrite => FsPerms::ReadWrite,
            };
            wasi.preopened_dir(&folder.path, WORKSPACE_PATH, access)?;
        }
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(HANDLES_MAX);
        Ok(Self { wasi: wasi.build(), handles, home, memory, told: Told::default(), heard: Signal::GoOn, cut: None, watch })
    }

    /// What the outside wants, noted as told.
    pub(crate) fn hear(&mut self) -> Signal {
        let signal = self.home.host.signal();
        match signal {
            Signal::GoOn => {}
            Signal::Pause => self.told.pause = true,
            Signal::Cancel(_) => self.told.cancel = true,
        }
        self.heard = signal.clone();
        signal
    }

    /// Called at every tick while the component computes: stops it, or lets others have the thread.
    pub(crate) fn tick(mut store: StoreContextMut<'_, Self>) -> wasmtime::Result<UpdateDeadline> {
        let state = store.data_mut();
        state.cut = if let Some(stop) = state.home.host.stop() {
            Some(Cut::Stopped(stop))
        } else if Instant::now() >= state.watch.deadline {
            Some(Cut::TimedOut)
        } else if state.watch.meter.spent_in_poll() >= state.watch.cpu_max {
            Some(Cut::CpuSpent)
        } else {
            None
        };
        Ok(match state.cut {
            Some(_) => UpdateDeadline::Interrupt,
            None => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
        })
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.handles }
    }
}

/// The host's clock, as components see it.
struct GuestClock(Arc<dyn Clock>);

impl HostWallClock for GuestClock {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn now(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.now().as_micros()).unwrap_or(0))
    }
}
