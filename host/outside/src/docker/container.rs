//! One container of this host, from when it is asked for until it is gone.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

use super::engine::{Engine, EngineError};
use super::logs::Logs;

/// How long code that has ended its step with a call may go on, to close what it has open.
const LINGER: Duration = Duration::from_secs(2);

/// Names of the containers that are in use, or being made or taken away: no orphans.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashSet<String>>);

impl Names {
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.lock().contains(name)
    }

    /// Containers that there are.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// How one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Its exit code; 128 and the signal's number, if that ended it.
    pub(crate) code: i64,
    /// Whether something in it was killed because there was no more memory.
    pub(crate) out_of_memory: bool,
}

/// The right to let a container end by itself for a moment before it is taken away.
pub(crate) struct Linger {
    granted: Arc<AtomicBool>,
    logs: Arc<Logs>,
}

impl Linger {
    /// Lets it, and reads what it wrote until now.
    pub(crate) async fn grant(self) {
        self.granted.store(true, Ordering::Relaxed);
        self.logs.calm().await;
    }
}

/// A container. It is taken away, and its place free, some time after this is dropped.
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) engine: Arc<Engine>,
    pub(crate) logs: Arc<Logs>,
    names: Arc<Names>,
    tracker: TaskTracker,
    lingers: Arc<AtomicBool>,
    place: Option<OwnedSemaphorePermit>,
}

impl Container {
    /// A name for one that is to be made. From here on it is taken away when this is dropped, whether it came to be or not.
    pub(crate) fn named(engine: Arc<Engine>, owner: &str, logs: Logs, names: Arc<Names>, tracker: TaskTracker, place: OwnedSemaphorePermit) -> Self {
        let name = format!("tower-{owner}-{:016x}", rand::random::<u64>());
        names.0.lock().insert(name.clone());
        Self { name, engine, logs: Arc::new(logs), names, tracker, lingers: Arc::default(), place: Some(place) }
    }

    /// Does something of it until it is gone.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(work);
    }

    /// The right to let it end by itself.
    pub(crate) fn linger(&self) -> Linger {
        Linger { granted: self.lingers.clone(), logs: self.logs.clone() }
    }

    /// Ends it, and reads what it wrote to the last line.
    pub(crate) async fn end(&self) {
        let all = async {
            let _ = self.engine.signal(&self.name, "SIGKILL").await;
            self.logs.closed().await;
        };
        // Nothing that it left behind holds the step.
        let _ = tokio::time::timeout(LINGER, all).await;
    }

    /// How it ended.
    pub(crate) async fn exit(&self) -> Result<Exit, EngineError> {
        let state = self.engine.inspect(&self.name).await?.state.unwrap_or_default();
        Ok(Exit { code: state.exit_code.unwrap_or(-1), out_of_memory: state.oom_killed.unwrap_or(false) })
    }

    /// Ends when it has ended and all that it wrote was read, with how it ended.
    pub(crate) async fn ended(&self) -> Result<Exit, EngineError> {
        self.engine.ended(&self.name).await?;
        // Something that it left behind may hold its output open; nothing holds the step.
        let _ = tokio::time::timeout(LINGER, self.logs.closed()).await;
        self.exit().await
    }

    /// Its address in the network that it is in; none yet: it is not up.
    pub(crate) async fn address(&self) -> Result<Option<String>, EngineError> {
        let found = self.engine.inspect(&self.name).await?;
        if !found.state.and_then(|state| state.running).unwrap_or(false) {
            return Ok(None);
        }
        let networks: HashMap<_, _> = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        Ok(networks.into_values().filter_map(|network| network.ip_address).find(|address| !address.is_empty()))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let (engine, name, names, place) = (self.engine.clone(), std::mem::take(&mut self.name), self.names.clone(), self.place.take());
        let lingers = self.lingers.load(Ordering::Relaxed);
        self.tracker.spawn(async move {
            if lingers {
                let _ = tokio::time::timeout(LINGER, engine.ended(&name)).await;
            }
            if let Err(error) = engine.remove(&name).await {
                // Found again by its label once the engine answers.
                tracing::warn!(container = %name, %error, "a container was not removed");
            }
            names.0.lock().remove(&name);
            drop(place);
        });
    }
}
