//! The way to the writer: commands in, answers out.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use tower_domain::id::TraceId;
use tower_store::work::{Answer, Command};

use crate::orders::StoreFailure;

/// A command on its way to the store.
pub(crate) struct Order {
    pub(crate) command: Command,
    /// Of which trace's step it is, if it is a step's.
    pub(crate) trace: Option<TraceId>,
    pub(crate) reply: Option<oneshot::Sender<Result<Answer, StoreFailure>>>,
}

/// Takes commands. Not bounded by itself: callers wait for their answers, and outcomes are bounded by the claims.
#[derive(Clone)]
pub(crate) struct CommitSender {
    orders: mpsc::UnboundedSender<Order>,
    wake: Arc<Notify>,
    slot: Arc<Notify>,
}

impl CommitSender {
    /// Hands a command over and waits until it is durable.
    pub(crate) async fn ask(&self, command: Command) -> Option<Result<Answer, StoreFailure>> {
        self.ask_for(None, command).await
    }

    /// The same with the command of a step of this trace.
    pub(crate) async fn ask_of(&self, trace: TraceId, command: Command) -> Option<Result<Answer, StoreFailure>> {
        self.ask_for(Some(trace), command).await
    }

    async fn ask_for(&self, trace: Option<TraceId>, command: Command) -> Option<Result<Answer, StoreFailure>> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order { command, trace, reply: Some(reply) }).ok()?;
        answer.await.ok()
    }

    /// Hands a command over.
    pub(crate) fn tell(&self, command: Command) {
        // After shutdown nobody listens; the lease takes care of what was running.
        let _ = self.orders.send(Order { command, trace: None, reply: None });
    }

    /// The same with the command of a step of this trace.
    pub(crate) fn tell_of(&self, trace: TraceId, command: Command) {
        let _ = self.orders.send(Order { command, trace: Some(trace), reply: None });
    }

    /// There may be something to claim.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// A slot is free. Of interest where more could be claimed than there were slots.
    pub(crate) fn free(&self) {
        self.slot.notify_one();
    }
}

/// The writer's end.
pub(crate) struct CommitReceiver {
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) slot: Arc<Notify>,
}

/// Both ends.
pub(crate) fn channel() -> (CommitSender, CommitReceiver) {
    let (send, orders) = mpsc::unbounded_channel();
    let (wake, slot) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    (CommitSender { orders: send, wake: wake.clone(), slot: slot.clone() }, CommitReceiver { orders, wake, slot })
}
