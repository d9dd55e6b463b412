//! Threads that run components and nothing else, and the ticker that has them looked at.
//!
//! Components that compute keep a thread for a tick at a time. On threads of their own they delay each other and not the host.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use wasmtime::Engine;

use super::settings::SetupError;

/// Ticks without a component before the ticker goes to sleep: waking it costs more than a small step does.
const IDLE_TICKS: u32 = 100;
/// How long shutting down waits for a file operation of a component.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

thread_local! {
    /// Which of them this thread belongs to; 0: none.
    static HERE: Cell<u64> = const { Cell::new(0) };
}

/// Does work on whatever thread polls it, in the surroundings of a runtime: connections, timers and tasks that it makes belong there.
pub(crate) async fn within<T>(surroundings: &Handle, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let _there = surroundings.enter();
        work.as_mut().poll(cx)
    })
    .await
}

pub(crate) struct GuestRuntime {
    /// Tells its threads from those of others of the same process.
    number: u64,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    ticker: Ticker,
}

impl GuestRuntime {
    pub(crate) fn start(engine: &Engine, threads: usize, tick: Duration) -> Result<Self, SetupError> {
        static STARTED: AtomicU64 = AtomicU64::new(1);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name("tower-guest").on_thread_start(move || HERE.set(number)).enable_time();
        let runtime = builder.build().map_err(SetupError::Threads)?;
        let ticker = Ticker::start(engine.clone(), tick)?;
        Ok(Self { number, handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)), ticker })
    }

    /// Whether this is one of its threads.
    pub(crate) fn is_here(&self) -> bool {
        HERE.get() == self.number
    }

    /// Where components are spawned.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether the ticker sleeps.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.ticker.beat.asleep.load(Ordering::SeqCst)
    }

    /// Keeps the ticker ticking for as long as it is held.
    pub(crate) fn ticking(&self) -> Ticking {
        self.ticker.hold()
    }

    /// Ends the threads, and whatever still runs on them. Does nothing the second time.
    pub(crate) async fn shutdown(&self) {
        let runtime = self.runtime.lock().take();
        if let Some(runtime) = runtime {
            // A runtime must not be waited for on a thread that drives others.
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(SHUTDOWN_MAX)).await;
            if let Err(error) = ended {
                tracing::error!(%error, "the threads that run components did not end in order");
            }
        }
        self.ticker.stop();
    }
}

impl Drop for GuestRuntime {
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
        self.ticker.stop();
    }
}

struct Ticker {
    beat: Arc<Beat>,
    sleeper: Thread,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Beat {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    fn start(engine: Engine, tick: Duration) -> Result<Self, SetupError> {
        let beat = Arc::new(Beat::default());
        let theirs = Arc::clone(&beat);
        let thread = thread::Builder::new().name("tower-tick".to_owned()).spawn(move || theirs.run(&engine, tick)).map_err(SetupError::Threads)?;
        Ok(Self { beat, sleeper: thread.thread().clone(), thread: Mutex::new(Some(thread)) })
    }

    fn hold(&self) -> Ticking {
        // Sequentially consistent on both sides: either this sees the ticker asleep, or the ticker sees the count.
        self.beat.running.fetch_add(1, Ordering::SeqCst);
        if self.beat.asleep.load(Ordering::SeqCst) {
            self.sleeper.unpark();
        }
        Ticking(Arc::clone(&self.beat))
    }

    fn stop(&self) {
        self.beat.stop.store(true, Ordering::SeqCst);
        self.sleeper.unpark();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ticker of the sandbox panicked");
        }
    }
}

impl Beat {
    fn run(&self, engine: &Engine, tick: Duration) {
        let mut idle_ticks = 0;
        while !self.stop.load(Ordering::SeqCst) {
            if self.running.load(Ordering::SeqCst) > 0 {
                idle_ticks = 0;
            } else if idle_ticks < IDLE_TICKS {
                idle_ticks += 1;
            } else {
                self.asleep.store(true, Ordering::SeqCst);
                while self.running.load(Ordering::SeqCst) == 0 && !self.stop.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.asleep.store(false, Ordering::SeqCst);
                idle_ticks = 0;
            }
            thread::sleep(tick);
            engine.increment_epoch();
        }
    }
}

/// While one of these is held, the ticker ticks.
pub(crate) struct Ticking(Arc<Beat>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
