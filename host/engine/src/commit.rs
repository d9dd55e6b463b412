//! The way to the writer: commands in, answers out.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use tower_store::work::{Answer, Command};

use crate::orders::StoreFailure;

/// A command on its way to the store.
pub(crate) struct Order {
    pub(crate) command: Command,
    pub(crate) reply: Option<oneshot::Sender<Result<Answer, StoreFailure>>>,
}

/// Takes commands. Not bounded by itself: callers wait for their answers, and outcomes are bounded by the claims.
#[derive(Clone)]
pub(crate) struct CommitSender {
    orders: mpsc::UnboundedSender<Order>,
    wake: Arc<Notify>,
}

impl CommitSender {
    /// Hands a command over and waits until it is durable.
    pub(crate) async fn ask(&self, command: Command) -> Option<Result<Answer, StoreFailure>> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order { command, reply: Some(reply) }).ok()?;
        answer.await.ok()
    }

    /// Hands a command over.
    pub(crate) fn tell(&self, command: Command) {
        // After shutdown nobody listens; the lease takes care of what was running.
        let _ = self.orders.send(Order { command, reply: None });
    }

    /// There is room for claims again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// The writer's end.
pub(crate) struct CommitReceiver {
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) wake: Arc<Notify>,
}

/// Both ends.
pub(crate) fn channel() -> (CommitSender, CommitReceiver) {
    let (send, orders) = mpsc::unbounded_channel();
    let wake = Arc::new(Notify::new());
    (CommitSender { orders: send, wake: wake.clone() }, CommitReceiver { orders, wake })
}
