//! This host among others on one database: it says that it lives, hears what the others tell, takes no more work when it is ordered so,
//! and stops its steps before its leases end when it cannot renew them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower_domain::clock::Timestamp;
use tower_domain::step::Stop;
use tower_store::hosts::{HostBeat, HostRow};
use tower_store::news::News;
use tower_store::work::SettledEnd;

use crate::committer::{RETRY_AFTER, chain};
use crate::engine::Engine;
use crate::inner::Inner;
use crate::orders::StoreFailure;

/// How often a host looks at what it may not have heard of: the most that lost news cost.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a host that is alone says that it lives. Nobody waits for it.
const BEAT_ALONE_EVERY: Duration = Duration::from_secs(60);

/// What is known of the others, and of what is wanted of this host.
pub(crate) struct Company {
    /// Whether there may be others.
    others: AtomicBool,
    /// Something may be wanted of running claims.
    look: AtomicBool,
    /// Something may be wanted of the host.
    bell: Notify,
    /// Until when all claims hold, by the clock of this machine that is never stepped.
    leased_until: Mutex<Instant>,
    renewed: Notify,
    /// Definitions have changed, here or on another host.
    definitions: Notify,
}

impl Company {
    pub(crate) fn new(shared: bool, lease: Duration) -> Self {
        Self {
            others: AtomicBool::new(shared),
            look: AtomicBool::new(false),
            bell: Notify::new(),
            leased_until: Mutex::new(Instant::now() + lease),
            renewed: Notify::new(),
            definitions: Notify::new(),
        }
    }

    /// Whether others want to hear of what this host does.
    pub(crate) fn others(&self) -> bool {
        self.others.load(Ordering::Acquire)
    }

    /// Whether running claims are to be looked at; once.
    pub(crate) fn take_look(&self) -> bool {
        self.look.swap(false, Ordering::AcqRel)
    }

    /// All claims hold until then.
    pub(crate) fn renewed(&self, until: Instant) {
        *self.leased_until.lock() = until;
        self.renewed.notify_one();
    }

    fn leased_until(&self) -> Instant {
        *self.leased_until.lock()
    }
}

/// Says that this host lives, and does what is ordered of it, until the engine is stopped.
pub(crate) async fn beat(inner: Arc<Inner>) {
    let started_at = inner.clock.now();
    let every = if inner.config.shared { inner.config.lease / 3 } else { BEAT_ALONE_EVERY };
    loop {
        let within = if inner.config.shared { inner.config.lease + every } else { 2 * BEAT_ALONE_EVERY };
        let beat = HostBeat {
            id: inner.config.host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            slots: inner.config.slots,
            running: inner.claims.load().running,
            url: inner.config.url.clone(),
        };
        let sleep = match inner.stores.hosts.beat(&beat, inner.clock.now(), within).await {
            Ok(told) => {
                inner.company.others.store(inner.config.shared && told.others > 0, Ordering::Release);
                inner.drain(told.draining);
                every
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "this host could not say that it lives");
                inner.company.others.store(inner.config.shared, Ordering::Release);
                RETRY_AFTER.max(every / 10)
            }
        };
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => break,
            () = inner.company.bell.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
    // Without it the others see soon enough that it is gone.
    if let Err(error) = inner.stores.hosts.leave(&inner.config.host, inner.clock.now()).await {
        tracing::debug!(error = %chain(&error), "this host could not say that it goes");
    }
}

/// Hears what others tell until the engine is stopped.
pub(crate) async fn listen(inner: Arc<Inner>) {
    let stop = inner.stop.clone();
    let hear = async {
        loop {
            match inner.stores.news.listen(&inner.config.host).await {
                Ok(mut ear) => {
                    if inner.config.shared {
                        // What was told before it listened.
                        inner.heard(News::Anything);
                    }
                    loop {
                        match ear.next().await {
                            Ok(news) => inner.heard(news),
                            Err(error) => break tracing::warn!(error = %chain(&error), "news from other hosts are not heard"),
                        }
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "news from other hosts are not heard"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = hear => {}
    }
}

/// Stops what runs when the leases could not be renewed for so long that another host may soon take the tasks over. Nothing is lost by
/// that: what was stopped runs again. Without it a step could go on here while it runs there.
pub(crate) async fn guard_leases(inner: Arc<Inner>) {
    loop {
        let renewed = inner.company.renewed.notified();
        tokio::pin!(renewed);
        renewed.as_mut().enable();
        let end = inner.trusted_until();
        if end <= Instant::now() {
            inner.give_up();
            tokio::select! {
                biased;
                () = inner.stop.cancelled() => return,
                () = renewed => continue,
            }
        }
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep_until(end) => {}
        }
    }
}

impl Inner {
    /// Looks where something may have changed.
    fn heard(&self, news: News) {
        let all = news == News::Anything;
        if all || news == News::Orders {
            self.company.look.store(true, Ordering::Release);
        }
        if all || matches!(news, News::Orders | News::Work) {
            self.commits.wake();
        }
        if all || news == News::Definitions {
            self.catalog.forget_all();
            self.scheduler.ring();
            self.company.definitions.notify_one();
        }
        if all || news == News::Hosts {
            self.company.bell.notify_one();
        }
        match news {
            News::Traces(traces) => self.stir(Some(&traces)),
            News::Anything => self.stir(None),
            News::Work | News::Orders | News::Definitions | News::Hosts => {}
        }
    }

    /// Has those look at the store who wait for news of these traces, or of any.
    fn stir(&self, traces: Option<&[tower_domain::id::TraceId]>) {
        self.feed.stir(traces);
        let waiters = self.waiters.lock();
        for (trace, waiter) in waiters.iter() {
            if traces.is_none_or(|traces| traces.contains(trace)) {
                let _ = waiter.send(());
            }
        }
    }

    /// Takes no more work, or takes work again.
    fn drain(&self, draining: bool) {
        if self.claims.is_draining() == draining {
            return;
        }
        tracing::info!(host = %self.config.host, draining, "this host was ordered to {}", if draining { "take no more work" } else { "take work again" });
        for held in self.claims.drain(draining) {
            self.settle(&held.claimed, self.clock.now(), SettledEnd::Released);
        }
        if !draining {
            self.commits.wake();
        }
    }

    /// Until when leases are relied on: there must be time to stop in, and clocks do not run alike.
    fn trusted_until(&self) -> Instant {
        self.company.leased_until().checked_sub(self.config.lease / 6).unwrap_or_else(Instant::now)
    }

    /// Whether others may soon hold what this host has claimed, or do already: nothing of it is to begin.
    pub(crate) fn has_lapsed(&self) -> bool {
        self.config.shared && self.trusted_until() <= Instant::now()
    }

    fn give_up(&self) {
        let waiting = self.claims.take_waiting();
        // In whatever lane: what workers and containers do is lost like any other.
        let running = self.claims.load().running + self.claims.elsewhere().values().sum::<u32>();
        if waiting.is_empty() && running == 0 {
            return;
        }
        tracing::warn!(host = %self.config.host, running, "the leases cannot be renewed: running steps are stopped, and run again");
        for held in waiting {
            self.settle(&held.claimed, self.clock.now(), SettledEnd::Released);
        }
        self.claims.stop_all(Stop::Released);
    }
}

impl Engine {
    /// Hosts of this database that were seen within a week, by name.
    pub async fn hosts(&self) -> Result<Vec<HostRow>, StoreFailure> {
        Ok(self.inner.stores.hosts.hosts().await?)
    }

    /// Orders a host to take no more work, or to take work again; what runs goes on. False: there is no such host.
    pub async fn drain_host(&self, id: &str, draining: bool) -> Result<bool, StoreFailure> {
        let there = self.inner.stores.hosts.drain(id, draining).await?;
        self.inner.company.bell.notify_one();
        Ok(there)
    }

    /// Waits until definitions have changed since this was last waited for, here or on another host. For one at a time.
    pub async fn definitions_changed(&self) {
        self.inner.company.definitions.notified().await;
    }

    /// Whether a host that was seen at an instant counts as alive now.
    pub fn is_alive(&self, host: &HostRow, now: Timestamp) -> bool {
        let config = &self.inner.config;
        let within = if config.shared { config.lease + config.lease / 3 } else { 2 * BEAT_ALONE_EVERY };
        host.left_at.is_none() && now.since(host.seen_at) <= within
    }
}
