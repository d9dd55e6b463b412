//! What happens to sessions that nobody uses: they become idle, their workspaces go to the artifact store, and the files of closed ones go.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tower_domain::id::SessionId;
use tower_domain::session::{Session, SessionStatus};

use super::{SessionError, Sessions, blocking};

/// Sessions that are dealt with in one round.
const ROUND: u32 = 100;

/// When what happens to sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policies {
    /// Not used for so long, a session is idle.
    pub(crate) idle_after: Duration,
    /// Not used for so long, its workspace is archived.
    pub(crate) archive_after: Duration,
    /// So long after it was closed, its files go.
    pub(crate) closed_kept: Duration,
}

impl Policies {
    /// How often to look: often enough for the shortest of them, and no more often than that makes sense.
    fn every(&self) -> Duration {
        let shortest = self.idle_after.min(self.archive_after).min(self.closed_kept);
        (shortest / 4).clamp(Duration::from_millis(500), Duration::from_secs(60))
    }
}

/// Looks after sessions until the host stops.
pub(crate) async fn keep(sessions: Sessions, policies: Policies, stop: CancellationToken) {
    let mut pace = tokio::time::interval(policies.every());
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = pace.tick() => {}
        }
        if let Err(error) = sessions.round(&policies).await {
            tracing::warn!(error = %crate::api::problem::causes(&error), "sessions were not looked after; it is tried again");
        }
    }
}

impl Sessions {
    /// One look at all of them.
    async fn round(&self, policies: &Policies) -> Result<(), SessionError> {
        let now = self.clock.now();
        self.stores.sessions.idle(now.minus(policies.idle_after)).await?;
        let held: BTreeSet<SessionId> = self.keepers.iter().flat_map(|keeper| keeper.held()).collect();
        for id in held {
            if self.stores.sessions.find(id).await?.is_none_or(|session| session.status != SessionStatus::Active) {
                self.let_go(id).await;
            }
        }
        for session in self.stores.sessions.archivable(now.minus(policies.archive_after), ROUND).await? {
            // One that cannot be archived does not keep the others from it.
            if let Err(error) = self.archive(&session).await {
                tracing::warn!(session.id = %session.id, error = %crate::api::problem::causes(&error), "a session was not archived");
            }
        }
        for session in self.stores.sessions.purgeable(now.minus(policies.closed_kept), ROUND).await? {
            if let Err(error) = self.purge(&session).await {
                tracing::warn!(session.id = %session.id, error = %crate::api::problem::causes(&error), "the files of a closed session were not removed");
            }
        }
        Ok(())
    }

    /// What this host keeps running for a session goes.
    pub(crate) async fn let_go(&self, id: SessionId) {
        for keeper in &self.keepers {
            keeper.let_go(id).await;
        }
    }

    async fn archive(&self, session: &Session) -> Result<(), SessionError> {
        let workspace = self.workspace(session);
        let tried = workspace.clone();
        // Somebody is at it: later.
        let Some(_lock) = blocking(move || tried.try_lock()).await? else { return Ok(()) };
        let there = workspace.clone();
        if !blocking(move || there.exists()).await? {
            // Nobody ever entered it, or it is on another host that shares no folder with this one.
            return Ok(());
        }
        let pieces = self.pack(session.id, &workspace).await?;
        if self.stores.sessions.archived(session.id, session.last_used_at, &pieces).await? {
            blocking(move || workspace.remove()).await?;
            tracing::info!(session.id = %session.id, pieces = pieces.len(), "a session was archived");
        } else {
            // It is in use again, and has no archive.
            self.try_discard(session.id, &pieces).await;
        }
        Ok(())
    }

    async fn purge(&self, session: &Session) -> Result<(), SessionError> {
        let workspace = self.workspace(session);
        let _lock = self.lock(&workspace).await?;
        blocking(move || workspace.remove()).await?;
        self.discard(session.id, &session.archive).await?;
        Ok(self.stores.sessions.purged(session.id).await?)
    }
}
