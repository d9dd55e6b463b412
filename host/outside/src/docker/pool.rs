//! Services that wait for work: warm ones, for one step each, and kept ones, for one step after another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tower_domain::definition::Definition;
use tower_domain::id::SessionId;
use tower_domain::name::Name;

use super::service::Service;

/// What a container can be used for: steps of the same version of a definition, in the same session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    definition: Name,
    version: u32,
    session: Option<SessionId>,
}

impl PoolKey {
    pub(crate) fn of(definition: &Definition, session: Option<SessionId>) -> Self {
        Self { definition: definition.id.clone(), version: definition.version, session }
    }
}

struct Idle {
    service: Service,
    since: Instant,
}

struct Wanted {
    definition: Arc<Definition>,
    last: Instant,
    /// Containers that are to be ready.
    ready: u32,
    /// When it was tried last, in vain.
    failed: Option<Instant>,
}

/// How long a definition whose container could not be made ready is left alone.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Inner {
    warm: HashMap<PoolKey, Vec<Idle>>,
    kept: HashMap<PoolKey, Idle>,
    turns: HashMap<PoolKey, Arc<tokio::sync::Mutex<()>>>,
    wanted: HashMap<PoolKey, Wanted>,
}

/// Services that wait for work.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Inner>);

impl Pool {
    /// Waits until nobody else uses the kept container of this key.
    pub(crate) async fn turn(&self, key: &PoolKey) -> OwnedMutexGuard<()> {
        let turn = self.0.lock().turns.entry(key.clone()).or_default().clone();
        turn.lock_owned().await
    }

    /// The container that was kept.
    pub(crate) fn kept(&self, key: &PoolKey) -> Option<Service> {
        self.0.lock().kept.remove(key).map(|idle| idle.service)
    }

    /// Keeps it for the next step.
    pub(crate) fn keep(&self, key: PoolKey, service: Service) {
        service.container.logs.tell(None);
        let before = self.0.lock().kept.insert(key, Idle { service, since: Instant::now() });
        drop(before);
    }

    /// One that waits ready. It is used once.
    pub(crate) fn warm(&self, key: &PoolKey) -> Option<Service> {
        self.0.lock().warm.get_mut(key)?.pop().map(|idle| idle.service)
    }

    /// Notes that a definition is used, and how many containers are to be ready for it.
    pub(crate) fn want(&self, key: PoolKey, definition: Arc<Definition>, ready: u32) {
        let mut inner = self.0.lock();
        let wanted = inner.wanted.entry(key).or_insert_with(|| Wanted { definition, last: Instant::now(), ready: 0, failed: None });
        wanted.last = Instant::now();
        wanted.ready = wanted.ready.max(ready);
    }

    pub(crate) fn put_warm(&self, key: PoolKey, service: Service) {
        self.0.lock().warm.entry(key).or_default().push(Idle { service, since: Instant::now() });
    }

    /// A definition that too few containers are ready for.
    pub(crate) fn short_of(&self) -> Option<(PoolKey, Arc<Definition>)> {
        let inner = self.0.lock();
        let ready = |key| inner.warm.get(key).map_or(0, Vec::len);
        let may = |wanted: &Wanted| wanted.failed.is_none_or(|failed| failed.elapsed() >= AFTER_FAILURE);
        let short = inner.wanted.iter().find(|(key, wanted)| ready(key) < wanted.ready as usize && may(wanted))?;
        Some((short.0.clone(), short.1.definition.clone()))
    }

    /// Notes that no container could be made ready.
    pub(crate) fn failed(&self, key: &PoolKey) {
        if let Some(wanted) = self.0.lock().wanted.get_mut(key) {
            wanted.failed = Some(Instant::now());
        }
    }

    /// Takes the place of whatever waits longest. Answers whether anything waited.
    pub(crate) fn evict_oldest(&self) -> bool {
        let mut inner = self.0.lock();
        let warm = inner.warm.iter().flat_map(|(key, idle)| idle.iter().map(move |idle| (idle.since, key, true)));
        let kept = inner.kept.iter().map(|(key, idle)| (idle.since, key, false));
        let Some((_, key, is_warm)) = warm.chain(kept).min_by_key(|(since, ..)| *since).map(|(since, key, is_warm)| (since, key.clone(), is_warm)) else {
            return false;
        };
        let gone = if is_warm { inner.warm.get_mut(&key).map(|idle| idle.remove(0)) } else { inner.kept.remove(&key) };
        drop(inner);
        drop(gone);
        true
    }

    /// Lets go of what has waited for too long.
    pub(crate) fn expire(&self, idle: Duration) {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut inner = self.0.lock();
        inner.wanted.retain(|_, wanted| now.duration_since(wanted.last) < idle);
        let Inner { warm, kept, turns, wanted } = &mut *inner;
        for (key, waiting) in warm.iter_mut() {
            while !waiting.is_empty() && !wanted.contains_key(key) {
                gone.extend(waiting.pop());
            }
        }
        warm.retain(|_, waiting| !waiting.is_empty());
        let old: Vec<PoolKey> = kept.iter().filter(|(_, waits)| now.duration_since(waits.since) >= idle).map(|(key, _)| key.clone()).collect();
        gone.extend(old.iter().filter_map(|key| kept.remove(key)));
        turns.retain(|key, turn| kept.contains_key(key) || Arc::strong_count(turn) > 1);
        drop(inner);
        drop(gone);
    }

    /// Sessions that containers are kept for.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.0.lock().kept.keys().filter_map(|key| key.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    /// The containers that are kept for a session, which are kept no longer.
    pub(crate) fn take_session(&self, session: SessionId) -> Vec<Service> {
        self.0.lock().kept.extract_if(|key, _| key.session == Some(session)).map(|(_, idle)| idle.service).collect()
    }

    /// Lets go of everything, or of the container of this name.
    pub(crate) fn clear(&self, name: Option<&str>) {
        let mut inner = self.0.lock();
        let is_meant = |idle: &Idle| name.is_none_or(|name| idle.service.container.name == name);
        let mut gone: Vec<Idle> = Vec::new();
        for waiting in inner.warm.values_mut() {
            gone.extend(waiting.extract_if(.., |idle| is_meant(idle)));
        }
        let kept: Vec<PoolKey> = inner.kept.iter().filter(|(_, idle)| is_meant(idle)).map(|(key, _)| key.clone()).collect();
        gone.extend(kept.iter().filter_map(|key| inner.kept.remove(key)));
        if name.is_none() {
            inner.wanted.clear();
        }
        drop(inner);
        drop(gone);
    }

    /// Containers that wait ready, and those that are kept, by name.
    pub(crate) fn waiting(&self) -> (Vec<String>, Vec<String>) {
        let inner = self.0.lock();
        let name = |idle: &Idle| idle.service.container.name.clone();
        (inner.warm.values().flatten().map(name).collect(), inner.kept.values().map(name).collect())
    }
}
