//! Group commit: one writer, one transaction at a time. What comes up while one is at the disk is the next one's batch, so that no
//! timer is needed and a lone command does not wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tower_domain::clock::Timestamp;
use tower_domain::codes;
use tower_domain::id::TaskId;
use tower_domain::step::StepFailure;
use tower_store::StoreError;
use tower_store::fault::{self, Point};
use tower_store::work::{Batch, Claim, Command, Expire, Settle, SettledEnd};

use crate::commit::{CommitReceiver, Order};
use crate::inner::Inner;
use crate::orders::StoreFailure;

/// Commands in one transaction at the most.
const BATCH_MAX: usize = 2_000;
/// How long to wait before a failing store is asked again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often callers' keys that are too old are looked for.
const FORGET_KEYS_EVERY: Duration = Duration::from_secs(5);
/// Longest sleep of the committer; a bound for waits that a clock step would stretch.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Commits until the engine is stopped and nothing is left.
pub(crate) async fn run(mut from: CommitReceiver, inner: Arc<Inner>) {
    let mut next_due: Option<Timestamp> = None;
    let mut more = true;
    let mut held_back: Vec<Order> = Vec::new();
    let mut upkeep_pace = Pace::new(inner.config.lease / 3, Instant::now());
    let mut keys_pace = Pace::new(FORGET_KEYS_EVERY, Instant::now());
    loop {
        let mut orders = std::mem::take(&mut held_back);
        if !orders.is_empty() {
            tokio::time::sleep(RETRY_AFTER).await;
        } else if !more {
            let longest = if inner.is_healthy() { SLEEP_MAX } else { RETRY_AFTER };
            let due = next_due.map_or(longest, |at| at.since(inner.clock.now()).min(longest));
            tokio::select! {
                biased;
                _ = from.orders.recv_many(&mut orders, BATCH_MAX) => {}
                () = inner.stop.cancelled() => break,
                () = tokio::time::sleep_until(upkeep_pace.at.min(keys_pace.at)) => {}
                () = from.wake.notified() => {}
                () = tokio::time::sleep(due) => {}
            }
        }
        // Looked at in every round, so that no load keeps it from its turn; and noted before the outcomes are gathered: a step that is not
        // among those that are held has ended, and its outcome is among those that are gathered.
        let held = upkeep_pace.is_due(Instant::now()).then(|| inner.claims.held());
        while orders.len() < BATCH_MAX
            && let Ok(order) = from.orders.try_recv()
        {
            orders.push(order);
        }
        if let Some(held) = held {
            let all_gathered = orders.len() < BATCH_MAX;
            orders.extend(upkeep(&inner, held, all_gathered).await);
        }
        if keys_pace.is_due(Instant::now()) {
            let not_before = inner.config.keys_not_before(inner.clock.now());
            orders.push(Order { command: Command::ForgetKeys { not_before }, reply: None });
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

/// When something is done that is done again and again. A process that was held up is late once, and not many times in a row.
struct Pace {
    every: Duration,
    at: Instant,
}

impl Pace {
    fn new(every: Duration, now: Instant) -> Self {
        Self { every, at: now + every }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.at;
        if is_due {
            self.at = now + self.every;
        }
        is_due
    }
}

/// What a host does as long as it lives: keeps its claims, and takes back those of hosts that do not. While outcomes wait that were not
/// gathered yet, none is taken back: it might be one of theirs.
async fn upkeep(inner: &Inner, held: Vec<TaskId>, all_gathered: bool) -> Vec<Order> {
    let mut commands = Vec::new();
    if !held.is_empty() && fault::point(Point::Renewing).await.is_ok() {
        // Before the next, so that a host that was away for long does not take back what it still holds.
        let until = inner.clock.now().plus(inner.config.lease);
        commands.push(Command::Renew { host: inner.config.host.clone(), held, until });
    }
    if all_gathered {
        commands.push(Command::Expire(Expire::Overdue));
    }
    commands.into_iter().map(|command| Order { command, reply: None }).collect()
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
    let batch = Batch { now, host: inner.config.host.clone(), trace_tasks_max: inner.config.trace_tasks_max, night: inner.config.night, commands, claim };
    match inner.stores.work.commit(batch).await {
        Ok(mut committed) => {
            // The batch may have written nothing: whether writing works again is known only once it did.
            if !inner.is_healthy() {
                inner.set_healthy(inner.stores.work.check_writable().await.is_ok());
            }
            let _ = fault::point(Point::Committed).await;
            if let Some(journal) = &inner.journal {
                journal.dead_are_known();
            }
            let answers = std::mem::take(&mut committed.answers);
            let (next_due, more_ready) = (committed.next_due, committed.more_ready);
            inner.heed(&committed.to_tell);
            inner.tell_readers(std::mem::take(&mut committed.events), &committed.ended);
            if !committed.ended.is_empty() {
                inner.scheduler.traces_ended();
            }
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
                | Command::Fire(_)
                | Command::ChangeSchedule(_)
                | Command::Settle(_)
                | Command::Control(_)
                | Command::Observe(_)
                | Command::PostEvent(_)
                | Command::Renew { .. }
                | Command::Expire(_)
                | Command::ForgetKeys { .. },
            ) => {}
        }
    }
    held_back
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upkeep_that_was_held_up_is_done_once() {
        let (every, begin) = (Duration::from_secs(10), Instant::now());
        let mut pace = Pace::new(every, begin);
        assert!(!pace.is_due(begin));
        let late = begin + 100 * every;
        assert!(pace.is_due(late));
        assert!(!pace.is_due(late + every / 2), "the rounds that were missed are not made up for");
        assert!(pace.is_due(late + every));
    }
}
