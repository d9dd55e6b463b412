//! Bytes → a native image. Compiling is where hostile bytes can cost most: a kilobyte can ask for gigabytes and minutes. So it is done
//! by worker processes with limits of their own, that may be lost.
//!
//! - [`worker`]: what such a process does
//! - [`process`]: one of them, as this process sees it
//! - [`Compiler`]: how many there are at a time, and who waits
//!
//! Two lanes keep honest modules from waiting behind the others. Everything begins in the short lane and may use there as much of the
//! processor as a component of its size needs; what takes more goes on in the long lane, where it waits for its turn. A bomb is
//! small, or it would be no bomb: it leaves the short lane after about half a second, and after three if it is padded.

mod process;
mod worker;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::sync::Semaphore;
use tower_domain::module::Inspection;
use tower_domain::step::HostTrouble;
use wasmtime::Engine;

use super::inspect::InspectError;
use super::settings::{WasmConfig, compiler_config};
use process::Worker;

pub use worker::compile_worker;

/// Time on the processor that any component may use in the short lane, and how much more for each MiB of it: twice what honest ones
/// were seen to need.
const SHORT_LANE: Duration = Duration::from_millis(500);
const SHORT_LANE_PER_MIB: Duration = Duration::from_secs(3);
/// And the most: size is cheap, and anybody can pad.
const SHORT_LANE_MAX: Duration = Duration::from_secs(3);
/// How often it is looked at.
const SHORT_LANE_TICK: Duration = Duration::from_millis(20);
/// How many times as long it may take by the clock: a worker that gets no time is not to hold up the lane.
const SHORT_LANE_CLOCK: u32 = 10;
/// Uploads that may wait for the long lane; those beyond are turned away.
const LONG_LANE_WAITING_MAX: usize = 4;

/// How to start a worker: a program that does nothing but call [`compile_worker`].
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum CompileIn {
    /// In processes of their own, within [`CompileLimits`]: whatever is uploaded.
    Workers(WorkerCommand),
    /// In this process and without limits: only what is known to be harmless, such as a test's own modules.
    ThisProcess,
}

/// What one compilation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileLimits {
    /// Address space of the worker, in bytes. Default 2 GiB.
    pub memory_bytes: u64,
    /// Time on the processor, in seconds. Default 30: twice what the largest interpreters take.
    pub cpu_sec: u64,
    /// Size of the native image, in bytes. Default 512 MiB.
    pub image_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory_bytes: 2 << 30, cpu_sec: 30, image_bytes: 512 << 20 }
    }
}

/// What came of a compilation.
pub(crate) struct Compiled {
    pub(crate) inspection: Inspection,
    /// The native image.
    pub(crate) image: NamedTempFile,
}

/// Why nothing came of one.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CompileError {
    /// It is none that runs here, or none that can be compiled within the limits.
    #[error(transparent)]
    Refused(#[from] InspectError),
    /// Too many others wait.
    #[error("too many modules wait to be compiled; try again later")]
    Busy,
    /// It is not the module's fault.
    #[error(transparent)]
    Trouble(#[from] HostTrouble),
}

/// Who waits for a compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Somebody who can come again: turned away if too many wait.
    Caller,
    /// A step, whose number is bounded elsewhere.
    Step,
}

/// Starts workers, no more than there may be.
pub(crate) struct Compiler {
    compile_in: CompileIn,
    limits: CompileLimits,
    /// Where images are written.
    folder: PathBuf,
    short: Semaphore,
    long: Semaphore,
    long_waiting: AtomicUsize,
}

impl Compiler {
    pub(crate) fn new(config: &WasmConfig, folder: PathBuf) -> Self {
        let long = (config.compiles_at_once / 2).max(1);
        let short = config.compiles_at_once.saturating_sub(long).max(1);
        Self {
            compile_in: config.compile_in.clone(),
            limits: config.compile_limits,
            folder,
            short: Semaphore::new(short),
            long: Semaphore::new(long),
            long_waiting: AtomicUsize::new(0),
        }
    }

    /// Inspects and compiles.
    pub(crate) async fn compile(&self, bytes: Bytes, patience: Patience) -> Result<Compiled, CompileError> {
        let stopping = |_| HostTrouble("the sandbox is shutting down".to_owned());
        let mut place = Some(self.short.acquire().await.map_err(stopping)?);
        let command = match &self.compile_in {
            CompileIn::Workers(command) => command,
            CompileIn::ThisProcess => return here(bytes, self.folder.clone()).await,
        };
        let mut worker = Worker::start(command, &self.limits, &self.folder)?;
        let done = {
            let used_up = used_up(worker.id(), short_lane(bytes.len()));
            let mut compiling = Box::pin(worker.compile(&bytes));
            tokio::select! {
                compiled = &mut compiling => Some(compiled),
                () = used_up => match self.long.try_acquire() {
                    Ok(_long) => {
                        place.take();
                        Some(compiling.await)
                    }
                    Err(_) => None,
                },
            }
        };
        if let Some(compiled) = done {
            return Ok(Compiled { inspection: compiled?, image: worker.into_image() });
        }
        // What waits holds no memory but its bytes; it begins anew when it is its turn.
        worker.end().await;
        drop(place);
        let _waiting = self.wait(patience)?;
        let _long = self.long.acquire().await.map_err(stopping)?;
        let mut worker = Worker::start(command, &self.limits, &self.folder)?;
        let inspection = worker.compile(&bytes).await?;
        Ok(Compiled { inspection, image: worker.into_image() })
    }

    fn wait(&self, patience: Patience) -> Result<Waiting<'_>, CompileError> {
        let before = self.long_waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.long_waiting);
        if patience == Patience::Caller && before >= LONG_LANE_WAITING_MAX { Err(CompileError::Busy) } else { Ok(waiting) }
    }

    /// Starts no more; whoever waits is told.
    pub(crate) fn close(&self) {
        self.short.close();
        self.long.close();
    }
}

async fn here(bytes: Bytes, folder: PathBuf) -> Result<Compiled, CompileError> {
    let compile = move || {
        let engine = Engine::new(&compiler_config()).map_err(|error| HostTrouble(format!("{error:#}")))?;
        let (inspection, machine_code) = worker::compile(&engine, &bytes)?;
        let written = NamedTempFile::with_prefix_in("new-", &folder).and_then(|mut image| image.write_all(&machine_code).map(|()| image));
        let image = written.map_err(|error| HostTrouble(format!("{}: {error}", folder.display())))?;
        Ok(Compiled { inspection, image })
    };
    tokio::task::spawn_blocking(compile).await.map_err(|error| HostTrouble(format!("compiling failed: {error}")))?
}

/// Counts one that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits until a worker has used so much of the processor.
async fn used_up(worker: Option<u32>, time: Duration) {
    let clock = tokio::time::sleep(time * SHORT_LANE_CLOCK);
    let processor = async {
        while worker.and_then(process::processor_time).is_none_or(|used| used < time) {
            tokio::time::sleep(SHORT_LANE_TICK).await;
        }
    };
    tokio::select! {
        () = clock => {}
        () = processor => {}
    }
}

fn short_lane(bytes: usize) -> Duration {
    (SHORT_LANE + SHORT_LANE_PER_MIB.mul_f64(bytes as f64 / f64::from(1 << 20))).min(SHORT_LANE_MAX)
}
