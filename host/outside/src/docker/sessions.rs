//! What is kept for sessions goes when nobody uses them.

use async_trait::async_trait;
use futures::future::join_all;
use tower_domain::id::SessionId;
use tower_domain::step::SessionKeeper;

use super::DockerExecutor;
use super::service::Service;

#[async_trait]
impl SessionKeeper for DockerExecutor {
    fn held(&self) -> Vec<SessionId> {
        self.yard.pool.sessions()
    }

    /// Ends once they are gone: what they had open in the workspace is not to be written while that is archived or removed.
    async fn let_go(&self, session: SessionId) {
        let gone = self.yard.pool.take_session(session).into_iter().map(|Service { container, .. }| async move {
            tracing::info!(container = %container.name, session.id = %session, "a container was kept for a session that nobody uses, and is let go");
            if let Err(error) = container.engine.remove(&container.name).await {
                tracing::warn!(container = %container.name, %error, "a container was not removed; it is tried again");
            }
        });
        join_all(gone).await;
    }
}
