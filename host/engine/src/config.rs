//! What an operator may set of the engine.

use std::time::Duration;

use tower_domain::clock::Timestamp;
use tower_domain::schedule::{NightWindow, check};
use tower_domain::step::WorkspaceProvider;

/// Settings of an engine. The defaults suit one host with two cores.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The host's name: what leases are held under. A host that starts under the name of one that died takes its claims back at once.
    pub host: String,
    /// Steps that run at the same time. Default 256.
    pub slots: u32,
    /// Tasks that are claimed before a slot is free, so that none waits for a claim: so many at the most, and no more than steps that ended
    /// within the last second or two, or an eighth of them where there are other hosts, so that what takes long stays where another host finds
    /// it. Default 256.
    pub claims_ahead: u32,
    /// How long a claim holds without a renewal. Default 30 s.
    pub lease: Duration,
    /// How long a cancelled step may go on before it is stopped where it is. Default 5 s; 0 is allowed.
    pub cancel_grace: Duration,
    /// Most tasks in a trace. Default 1 000 000.
    pub trace_tasks_max: u64,
    /// Of a trace that is cancelled, so many tasks that do not run are ended in one transaction.
    pub cancel_max: u32,
    /// How often a step's progress and log lines are written at the most. Default 500 ms.
    pub observe_every: Duration,
    /// How long an idempotency key is remembered. Default 24 h.
    pub idempotency_kept: Duration,
    /// The hours of NIGHTLY tasks. Default 02:00 to 08:00 UTC.
    pub night: NightWindow,
    /// Whether other hosts may work on the same database. Then it tells them what it does, looks every second for what they do, and
    /// stops its steps when it cannot renew their leases. Default: no.
    pub shared: bool,
    /// Most tasks of one user's traces that run at the same time, over all hosts. Default: no limit.
    pub user_max_concurrent: Option<u32>,
    /// Whether definitions fire by themselves here. Default yes; whoever runs one thing and leaves wants no other beside it.
    pub schedules: bool,
    /// The shortest time between two firings that a definition which is put may have. Default 1 s.
    pub schedule_interval_min: Duration,
    /// Where other hosts reach this one. None: nowhere.
    pub url: Option<String>,
    /// How long a trace is kept after its end; longer than an idempotency key. Default: for ever.
    pub retention: Option<Duration>,
    /// Where to note which tasks are running, so that after a crash those are suspects and no others. None: nowhere.
    pub crash_journal: Option<std::path::PathBuf>,
    /// What has the workspaces of sessions ready. None: steps that are granted one fail.
    pub workspaces: Option<std::sync::Arc<dyn WorkspaceProvider>>,
}

impl EngineConfig {
    /// Defaults for a host of this name.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            slots: 256,
            claims_ahead: 256,
            lease: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(5),
            trace_tasks_max: 1_000_000,
            cancel_max: 1_000,
            observe_every: Duration::from_millis(500),
            idempotency_kept: Duration::from_secs(24 * 3_600),
            night: NightWindow::default(),
            shared: false,
            user_max_concurrent: None,
            schedules: true,
            schedule_interval_min: check::SHORTEST,
            url: None,
            retention: None,
            crash_journal: None,
            workspaces: None,
        }
    }
    /// Callers' keys that are older than this no longer count.
    pub(crate) fn keys_not_before(&self, now: Timestamp) -> Timestamp {
        let kept = i64::try_from(self.idempotency_kept.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.as_micros().saturating_sub(kept))
    }
}
