//! Group commit: one writer, one transaction at a time. What comes up while one is at the disk is the next one's batch, so that no
//! timer is needed and a lone command does not wait.

use std::sync::Arc;
use std::time::Duration;

use tower_domain::clock::Timestamp;
use tower_domain::codes;
use tower_domain::step::StepFailure;
use tower_store::StoreError;
use tower_store::work::{Batch, Claim, Command, Expire, Settle, SettledEnd};

use crate::commit::{CommitReceiver, Order};
use crate::inner::Inner;
use crate::orders::StoreFailure;

/// Commands in one transaction at the most.
const BATCH_MAX: usize = 2_000;
/// How long to wait before outcomes are handed to a failing database again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Longest sleep of the committer; a bound for waits that a clock step would stretch.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Commits until the engine is stopped and nothing is left.
pub(crate) async fn run(mut from: CommitReceiver, inner: Arc<Inner>) {
    let mut next_due: Option<Timestamp> = None;
    let mut more = true;
    let mut held_back: Vec<Order> = Vec::new();
    let upkeep_every = inner.config.lease / 3;
    let mut upkeep_at = tokio::time::Instant::now() + upkeep_every;
    loop {
        let mut orders = std::mem::take(&mut held_back);
        if !orders.is_empty() {
            tokio::time::sleep(RETRY_AFTER).await;
        } else if !more {
            let due = next_due.map_or(SLEEP_MAX, |at| at.since(inner.clock.now()).min(SLEEP_MAX));
            tokio::select! {
                biased;
                _ = from.orders.recv_many(&mut orders, BATCH_MAX) => {}
                () = inner.stop.cancelled() => break,
                () = tokio::time::sleep_until(upkeep_at) => {}
                () = from.wake.notified() => {}
                () = tokio::time::sleep(due) => {}
            }
        }
        // Looked at in every round, so that no load keeps it from its turn.
        if tokio::time::Instant::now() >= upkeep_at {
            upkeep_at += upkeep_every;
            orders.extend(upkeep(&inner));
        }
        while orders.len() < BATCH_MAX
            && let Ok(order) = from.orders.try_recv()
        {
            orders.push(order);
        }
        let outcome = commit(&inner, orders, true).await;
        next_due = outcome.next_due;
        held_back = outcome.held_back;
        more = outcome.more_ready && inner.claims.room() > 0;
        if inner.stop.is_cancelled() && !held_back.is_empty() {
            // The database is gone as well: the leases lapse, and the tasks run again.
            break;
        }
    }
    let mut rest = Vec::new();
    while let Ok(order) = from.orders.try_recv() {
        rest.push(order);
    }
    if !rest.is_empty() {
        commit(&inner, rest, false).await;
    }
}

/// What a host does as long as it lives: keeps its claims, and takes back those of hosts that do not.
fn upkeep(inner: &Inner) -> Vec<Order> {
    let mut orders = vec![Order { command: Command::Expire(Expire::Overdue), reply: None }];
    let load = inner.claims.load();
    if load.running > 0 || load.claimed_ahead > 0 {
        let until = inner.clock.now().plus(inner.config.lease);
        let renew = Command::Renew { host: inner.config.host.clone(), held: inner.claims.held(), until };
        // Before the other, so that a host that was away for long does not take back what it still holds.
        orders.insert(0, Order { command: renew, reply: None });
    }
    orders
}

struct Outcome {
    next_due: Option<Timestamp>,
    more_ready: bool,
    held_back: Vec<Order>,
}

async fn commit(inner: &Arc<Inner>, orders: Vec<Order>, may_claim: bool) -> Outcome {
    let now = inner.clock.now();
    let room = if may_claim { inner.claims.room() } else { 0 };
    let claim = (room > 0).then(|| Claim { host: inner.config.host.clone(), limit: room, lease_until: now.plus(inner.config.lease) });
    let commands: Vec<Command> = orders.iter().map(|order| order.command.clone()).collect();
    let batch = Batch { now, host: inner.config.host.clone(), trace_tasks_max: inner.config.trace_tasks_max, commands, claim };
    match inner.stores.work.commit(batch).await {
        Ok(mut committed) => {
            inner.set_healthy(true);
            let answers = std::mem::take(&mut committed.answers);
            let (next_due, more_ready) = (committed.next_due, committed.more_ready);
            inner.heed(&committed.to_cancel);
            inner.tell_readers(std::mem::take(&mut committed.events), &committed.ended);
            for (order, answer) in orders.into_iter().zip(answers) {
                if let Some(reply) = order.reply {
                    // A caller that has gone away does not change what was done.
                    let _ = reply.send(Ok(answer));
                }
            }
            inner.begin(committed.claimed);
            Outcome { next_due, more_ready, held_back: Vec::new() }
        }
        Err(error) => {
            let outage = error.is_outage();
            tracing::error!(error = %chain(&error), commands = orders.len(), "a batch was not committed");
            // A batch of nothing fails at the claim: no work is taken while that lasts.
            inner.set_healthy(!outage && !orders.is_empty());
            if outage || orders.len() <= 1 {
                return Outcome { next_due: None, more_ready: false, held_back: refuse(orders, error, outage) };
            }
            // One command that the store cannot digest must not take the others with it.
            let mut held_back = Vec::new();
            for order in orders {
                held_back.extend(Box::pin(commit(inner, vec![order], false)).await.held_back);
            }
            Outcome { next_due: None, more_ready: true, held_back }
        }
    }
}

/// Answers callers, and keeps what must not be lost while the database is away.
fn refuse(orders: Vec<Order>, error: StoreError, outage: bool) -> Vec<Order> {
    let failure = StoreFailure::from(error);
    let mut held_back = Vec::new();
    for order in orders {
        match (order.reply, order.command) {
            (Some(reply), _) => {
                let _ = reply.send(Err(failure.clone()));
            }
            (None, command @ (Command::Settle(_) | Command::Observe(_) | Command::Expire(Expire::Host { .. }))) if outage => {
                held_back.push(Order { command, reply: None })
            }
            // An outcome that the store cannot digest: the attempt ends all the same, and says so.
            (None, Command::Settle(settle)) if matches!(settle.end, SettledEnd::Finished { .. }) => {
                let failure = StepFailure::fatal(codes::HOST_BUG.name, "the outcome could not be stored; the host's log says more");
                let end = SettledEnd::Failed { failure, delay: Duration::ZERO };
                held_back.push(Order { command: Command::Settle(Box::new(Settle { end, ..*settle })), reply: None });
            }
            (
                None,
                Command::Submit(_)
                | Command::Settle(_)
                | Command::Cancel(_)
                | Command::Observe(_)
                | Command::PostEvent(_)
                | Command::Renew { .. }
                | Command::Expire(_),
            ) => {}
        }
    }
    held_back
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
