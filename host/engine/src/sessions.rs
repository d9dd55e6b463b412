//! The session of a step: its workspace is made ready before the code runs, watched meanwhile, and measured after.

use std::future::Future;

use tower_domain::codes;
use tower_domain::definition::FieldError;
use tower_domain::id::SessionId;
use tower_domain::session::{Session, SessionStatus, StepSession};
use tower_domain::step::{StepEnd, StepFailure, Stop};
use tower_store::work::Claimed;

use crate::catalog::Loaded;
use crate::engine::Engine;
use crate::inner::Inner;
use crate::orders::{StoreFailure, TriggerError};
use crate::running::Orders;

impl Inner {
    /// The session of the trace, as far as the definition is granted it.
    pub(crate) async fn session_of(&self, claimed: &Claimed, loaded: &Loaded) -> Result<Option<StepSession>, StepEnd> {
        let (Some(id), Some(access)) = (claimed.session_id, loaded.definition.spec.capabilities.session) else { return Ok(None) };
        let Some(workspaces) = &self.config.workspaces else {
            let message = "this host keeps no workspaces of sessions";
            return Err(StepEnd::Failed(StepFailure::fatal(codes::SESSION_GONE.name, message)));
        };
        workspaces.open(id, access).await.map(Some).map_err(StepEnd::Failed)
    }

    /// Runs a step, as long as its workspace holds no more than it may. Also answers whether its code began.
    pub(crate) async fn within_quota(&self, session: Option<&StepSession>, orders: &Orders, running: impl Future<Output = (StepEnd, bool)>) -> (StepEnd, bool) {
        let (Some(session), Some(workspaces)) = (session, &self.config.workspaces) else { return running.await };
        let mut running = std::pin::pin!(running);
        let failure = tokio::select! {
            biased;
            ended = &mut running => return ended,
            failure = workspaces.filled(session) => failure,
        };
        // Stopped where it is, as when the host goes down; but it is the step's own fault.
        orders.stop_now(Stop::Released);
        let (_, has_begun) = running.await;
        (StepEnd::Failed(failure), has_begun)
    }

    /// How the step ends once its workspace was looked at: what went well does not, if it left too much there.
    pub(crate) async fn left(&self, session: Option<&StepSession>, end: StepEnd) -> StepEnd {
        let (Some(session), Some(workspaces)) = (session, &self.config.workspaces) else { return end };
        match (workspaces.close(session).await, end) {
            (Err(failure), StepEnd::Finished { .. } | StepEnd::Paused { .. }) => StepEnd::Failed(failure),
            (_, end) => end,
        }
    }
}

impl Engine {
    /// The session that a trace is to be part of, if it may be.
    pub(crate) async fn session_for(&self, id: SessionId, user: Option<&str>) -> Result<Session, TriggerError> {
        let session = self.inner.stores.sessions.find(id).await.map_err(StoreFailure::from)?.ok_or(TriggerError::UnknownSession(id))?;
        if session.status == SessionStatus::Closed {
            return Err(TriggerError::SessionClosed(id));
        }
        if user.is_some_and(|user| user != session.user_id) {
            let message = "the session is another user's: leave user_id out, or name another session".to_owned();
            return Err(TriggerError::BadField(FieldError { pointer: "/user_id", message }));
        }
        Ok(session)
    }
}
