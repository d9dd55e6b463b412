//! Workspaces are measured while steps write there: whoever writes without end is stopped before the disk is full.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tower_domain::id::SessionId;
use tower_workspaces::{Usage, Workspace, WorkspaceError};

use super::{SessionError, Sessions, blocking};

/// How often a workspace is measured at most.
const EVERY: Duration = Duration::from_secs(1);

/// Of the time in which steps run, at most one part in so many goes into measuring a large workspace.
const SHARE: u32 = 10;

/// What was found last, and when to look again.
type Found = tokio::sync::Mutex<Option<(Usage, Instant)>>;

/// Workspaces that are being watched: however many steps write to one, it is measured once for all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watches(Arc<Mutex<HashMap<SessionId, Weak<Found>>>>);

impl Watches {
    fn of(&self, id: SessionId) -> Arc<Found> {
        let mut watches = self.0.lock();
        if let Some(watched) = watches.get(&id).and_then(Weak::upgrade) {
            return watched;
        }
        watches.retain(|_, watched| watched.strong_count() > 0);
        let watched = Arc::<Found>::default();
        watches.insert(id, Arc::downgrade(&watched));
        watched
    }
}

impl Sessions {
    /// Ends when the session's workspace holds more than it may.
    pub(super) async fn over_quota(&self, id: SessionId) -> WorkspaceError {
        // Most steps have ended by then, and cost nothing.
        sleep(EVERY).await;
        let watched = self.watches.of(id);
        loop {
            match self.look(id, &watched).await {
                Ok((workspace, used)) if used.is_over(workspace.quota()) => return WorkspaceError::Quota { used, quota: workspace.quota() },
                Ok(_) => {}
                // After the step it is measured in any case.
                Err(error) => tracing::debug!(session.id = %id, error = %crate::api::problem::causes(&error), "a workspace was not measured"),
            }
            sleep(EVERY).await;
        }
    }

    /// What it holds, as it was found a moment ago or is now.
    async fn look(&self, id: SessionId, watched: &Found) -> Result<(Workspace, Usage), SessionError> {
        let mut found = watched.lock().await;
        // Its quota may have been changed since.
        let session = self.stores.sessions.find(id).await?.ok_or(SessionError::NotFound(id))?;
        let workspace = self.workspace(&session);
        let begun = Instant::now();
        if let Some((used, _)) = found.filter(|(_, again)| begun < *again) {
            return Ok((workspace, used));
        }
        let measured = workspace.clone();
        let used = blocking(move || measured.measure()).await?;
        *found = Some((used, Instant::now() + EVERY.max(begun.elapsed() * SHARE)));
        Ok((workspace, used))
    }
}
