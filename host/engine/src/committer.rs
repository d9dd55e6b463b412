//! Group commit: one writer, one transaction at a time. What comes up while one is at the disk is the next one's batch, so that no
//! timer is needed and a lone command does not wait. Where somebody begins traces beside a large one, its outcomes are written in smaller
//! pieces: whoever comes next has to wait for the piece that is under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;
use tower_domain::codes;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::step::StepFailure;
use tower_store::StoreError;
use tower_store::fault::{self, Point};
use tower_store::work::{Batch, Claim, Command, Expire, Settle, SettledEnd};

use crate::commit::{CommitReceiver, Order};
use crate::hosts::LOOK_EVERY;
use crate::inner::Inner;
use crate::orders::StoreFailure;

/// Commands in one transaction at the most.
const BATCH_MAX: usize = 2_000;
/// How long after a trace was begun beside others more are expected to be.
const BRISK_FOR: Duration = Duration::from_millis(200);
/// Outcomes, and claims, in one transaction then, or twice as many as there are traces to begin in it.
const BRISK_MAX: usize = 32;
/// How long to wait before a failing store is asked again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often callers' keys that are too old are looked for.
const FORGET_KEYS_EVERY: Duration = Duration::from_secs(5);
/// How long a host waits for what others hold back.
const ELSEWHERE: Duration = Duration::from_millis(5);
/// Longest sleep of the committer; a bound for waits that a clock step would stretch.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Starts it, on a thread of its own: what is embedded makes batches durable on the thread that commits them, and others are not to wait for the
/// disk. A runtime that has but one thread keeps it to itself.
pub(crate) fn start(from: CommitReceiver, inner: Arc<Inner>) -> std::io::Result<()> {
    let (runtime, tracker) = (Handle::current(), inner.tracker.clone());
    let running = tracker.track_future(run(from, inner));
    match runtime.runtime_flavor() {
        RuntimeFlavor::CurrentThread => drop(runtime.spawn(running)),
        _ => drop(thread::Builder::new().name("tower-commit".to_owned()).spawn(move || runtime.block_on(running))?),
    }
    Ok(())
}

/// Commits until the engine is stopped and nothing is left.
async fn run(mut from: CommitReceiver, inner: Arc<Inner>) {
    let mut next_due: Option<Instant> = None;
    let mut more = true;
    // There was more to claim than slots, as far as is known.
    let mut short_of_slots = true;
    // What can be claimed is held back by other hosts just now: they are done in a moment.
    let mut elsewhere = false;
    let mut held_back: Vec<Order> = Vec::new();
    // Gathered, and left for the next transactions.
    let mut waiting: Vec<Order> = Vec::new();
    let mut brisk_until = Instant::now();
    // What was written in this life: how much went into one transaction.
    let (mut batches, mut written) = (0_u64, 0_u64);
    // Large cancels that are under way.
    let mut unswept: Vec<TraceId> = Vec::new();
    let mut upkeep_pace = Pace::new(inner.config.lease / 3, Instant::now());
    let mut keys_pace = Pace::new(FORGET_KEYS_EVERY, Instant::now());
    let mut look_pace = Pace::new(if inner.config.shared { LOOK_EVERY } else { SLEEP_MAX }, Instant::now());
    loop {
        let mut orders = std::mem::take(&mut held_back);
        let retries = !orders.is_empty();
        orders.append(&mut waiting);
        if retries {
            tokio::time::sleep(RETRY_AFTER).await;
        } else if orders.is_empty() && unswept.is_empty() && (!more || elsewhere) {
            let longest = if more {
                ELSEWHERE
            } else if inner.is_healthy() {
                SLEEP_MAX
            } else {
                RETRY_AFTER
            };
            let due = next_due.map_or(longest, |at| at.saturating_duration_since(Instant::now()).min(longest));
            tokio::select! {
                biased;
                _ = from.orders.recv_many(&mut orders, BATCH_MAX) => {}
                () = inner.stop.cancelled() => break,
                () = tokio::time::sleep_until(upkeep_pace.at.min(keys_pace.at).min(look_pace.at)) => {}
                () = from.wake.notified() => {}
                () = from.slot.notified(), if short_of_slots => {}
                () = tokio::time::sleep(due) => {}
            }
        }
        // Looked at in every round, so that no load keeps it from its turn; and noted before the outcomes are gathered: a step that is not
        // among those that are held has ended, and its outcome is among those that are gathered.
        // A host whose leases may be over renews them before it begins anything, and so with whatever it commits next.
        let held = (upkeep_pace.is_due(Instant::now()) | inner.has_lapsed()).then(|| inner.claims.held());
        let look = (look_pace.is_due(Instant::now()) && inner.config.shared) | inner.company.take_look();
        if look {
            // Another host may have a slot for them now.
            for held in inner.claims.take_stale() {
                inner.settle(&held.claimed, inner.clock.now(), SettledEnd::Released);
            }
        }
        while orders.len() < BATCH_MAX
            && let Ok(order) = from.orders.try_recv()
        {
            orders.push(order);
        }
        let begins = orders.iter().filter(|order| matches!(order.command, Command::Submit(_))).count();
        if begins > 0 && inner.claims.is_at_work() {
            brisk_until = Instant::now() + BRISK_FOR;
        }
        let brisk = Instant::now() < brisk_until;
        // What is held is told beside the outcome of everything that no longer is.
        if brisk && held.is_none() && !look {
            (orders, waiting) = piece(orders, BRISK_MAX.max(2 * begins));
        }
        orders.extend(std::mem::take(&mut unswept).into_iter().map(|trace| Order { command: Command::Sweep(trace), trace: None, reply: None }));
        let renewing = held.as_ref().map(|_| Instant::now() + inner.config.lease);
        if held.is_none() && look {
            let held = inner.claims.held();
            if !held.is_empty() {
                orders.push(Order { command: Command::Renew { host: inner.config.host.clone(), held, lease: None }, trace: None, reply: None });
            }
        }
        if let Some(held) = held {
            let all_gathered = orders.len() < BATCH_MAX;
            orders.extend(upkeep(&inner, held, all_gathered).await);
        }
        if keys_pace.is_due(Instant::now()) {
            let not_before = inner.config.keys_not_before(inner.clock.now());
            orders.push(Order { command: Command::ForgetKeys { not_before }, trace: None, reply: None });
        }
        let commands = orders.len() as u64;
        let claims_max = if brisk { BRISK_MAX } else { BATCH_MAX };
        let outcome = commit(&inner, orders, claims_max).await;
        if outcome.committed && (commands > 0 || outcome.has_claimed) {
            batches += 1;
            written += commands;
        }
        next_due = outcome.next_due;
        unswept = outcome.unswept;
        if let (Some(until), true) = (renewing, outcome.committed) {
            inner.company.renewed(until);
        }
        held_back = outcome.held_back;
        more = (outcome.more_ready && inner.claims.room(inner.company.others()) > 0) || (outcome.more_elsewhere && !inner.room_elsewhere().is_empty());
        elsewhere = inner.config.shared && !outcome.has_claimed;
        short_of_slots = outcome.room == 0 || outcome.more_ready;
        if inner.stop.is_cancelled() && !held_back.is_empty() {
            // The database is gone as well: the leases lapse, and the tasks run again.
            break;
        }
    }
    let mut rest = waiting;
    while let Ok(order) = from.orders.try_recv() {
        rest.push(order);
    }
    if !rest.is_empty() {
        let commands = rest.len() as u64;
        if commit(&inner, rest, 0).await.committed {
            batches += 1;
            written += commands;
        }
    }
    tracing::info!(batches, commands = written, "all that was to be written is");
}

/// Splits off a transaction's worth: what somebody outside waits for, which depends on nothing that is not written, and so many of the others. Traces
/// take turns among these, and what comes of one of them stays in its order.
fn piece(orders: Vec<Order>, others_max: usize) -> (Vec<Order>, Vec<Order>) {
    if orders.len() <= others_max {
        return (orders, Vec::new());
    }
    let is_asked = |order: &Order| order.reply.is_some() && !matches!(order.command, Command::Settle(_));
    let (mut now, others): (Vec<Order>, Vec<Order>) = orders.into_iter().partition(is_asked);
    let mut of_traces: HashMap<Option<TraceId>, usize> = HashMap::new();
    let turn = |order: Order| {
        let before = of_traces.entry(order.trace).or_default();
        *before += 1;
        (*before, order)
    };
    let mut others: Vec<(usize, Order)> = others.into_iter().map(turn).collect();
    others.sort_by_key(|(turn, _)| *turn);
    let later = others.split_off(others_max.min(others.len()));
    let orders = |others: Vec<(usize, Order)>| others.into_iter().map(|(_, order)| order);
    now.extend(orders(others));
    (now, orders(later).collect())
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
        commands.push(Command::Renew { host: inner.config.host.clone(), held, lease: Some(inner.config.lease) });
    }
    if all_gathered {
        commands.push(Command::Expire(Expire::Overdue));
    }
    commands.into_iter().map(|command| Order { command, trace: None, reply: None }).collect()
}

#[derive(Default)]
struct Outcome {
    /// Whether all of it was written.
    committed: bool,
    /// How many claims there was room for.
    room: u32,
    next_due: Option<Instant>,
    more_ready: bool,
    more_elsewhere: bool,
    has_claimed: bool,
    unswept: Vec<TraceId>,
    held_back: Vec<Order>,
}

async fn commit(inner: &Arc<Inner>, orders: Vec<Order>, claims_max: usize) -> Outcome {
    let (now, begun) = (inner.clock.now(), Instant::now());
    let room = if claims_max > 0 { inner.claims.room(inner.company.others()).min(u32::try_from(claims_max).unwrap_or(u32::MAX)) } else { 0 };
    let elsewhere = if claims_max > 0 { inner.room_elsewhere() } else { Vec::new() };
    let claim = (room > 0 || !elsewhere.is_empty()).then(|| Claim { host: inner.config.host.clone(), limit: room, elsewhere, lease: inner.config.lease });
    let commands: Vec<Command> = orders.iter().map(|order| order.command.clone()).collect();
    let config = &inner.config;
    let batch = Batch {
        now,
        host: config.host.clone(),
        trace_tasks_max: config.trace_tasks_max,
        cancel_max: config.cancel_max,
        night: config.night,
        user_max_concurrent: config.user_max_concurrent,
        others: inner.company.others(),
        commands,
        claim,
    };
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
            // By the database's clock, which may be another than this host's.
            let next_due = committed.next_due.map(|at| begun + at.since(committed.now));
            let (more_ready, more_elsewhere) = (committed.more_ready, committed.more_elsewhere);
            inner.claims.lose(&committed.lost);
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
            let (has_claimed, unswept) = (!committed.claimed.is_empty(), std::mem::take(&mut committed.unswept));
            inner.begin(committed.claimed);
            Outcome { committed: true, room, next_due, more_ready, more_elsewhere, has_claimed, unswept, held_back: Vec::new() }
        }
        Err(error) => {
            let outage = error.is_outage();
            tracing::error!(error = %chain(&error), commands = orders.len(), "a batch was not committed");
            // A batch of nothing fails at the claim: no work is taken while that lasts.
            inner.set_healthy(!outage && !orders.is_empty());
            if outage || orders.len() <= 1 {
                return Outcome { held_back: refuse(orders, error, outage), ..Outcome::default() };
            }
            // One command that the store cannot digest must not take the others with it.
            let mut held_back = Vec::new();
            for order in orders {
                held_back.extend(Box::pin(commit(inner, vec![order], 0)).await.held_back);
            }
            Outcome { more_ready: true, held_back, ..Outcome::default() }
        }
    }
}

/// Answers callers, and keeps what must not be lost while the database is away.
fn refuse(orders: Vec<Order>, error: StoreError, outage: bool) -> Vec<Order> {
    let failure = StoreFailure::from(error);
    let mut held_back = Vec::new();
    for order in orders {
        let trace = order.trace;
        match (order.reply, order.command) {
            // Whoever ended a step is told once it is known.
            (reply @ Some(_), command @ Command::Settle(_)) if outage => held_back.push(Order { command, trace, reply }),
            (Some(reply), command) => {
                let _ = reply.send(Err(failure.clone()));
                if let Command::Settle(settle) = command {
                    held_back.extend(undigested(trace, *settle));
                }
            }
            (None, command @ (Command::Settle(_) | Command::Observe(_) | Command::Expire(Expire::Host { .. }))) if outage => {
                held_back.push(Order { command, trace, reply: None })
            }
            (None, Command::Settle(settle)) => held_back.extend(undigested(trace, *settle)),
            (
                None,
                Command::Submit(_)
                | Command::Fire(_)
                | Command::ChangeSchedule(_)
                | Command::Control(_)
                | Command::Sweep(_)
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

/// An outcome that the store cannot digest: the attempt ends all the same, and says so.
fn undigested(trace: Option<TraceId>, settle: Settle) -> Option<Order> {
    if !matches!(settle.end, SettledEnd::Finished { .. }) {
        return None;
    }
    let failure = StepFailure::fatal(codes::HOST_BUG.name, "the outcome could not be stored; the host's log says more");
    let end = SettledEnd::Failed { failure, delay: Duration::ZERO };
    Some(Order { command: Command::Settle(Box::new(Settle { end, ..settle })), trace, reply: None })
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
    fn a_piece_is_what_is_asked_for_and_of_each_trace_the_first_of_the_rest() {
        use tokio::sync::oneshot;
        let forget = |reply| Order { command: Command::ForgetKeys { not_before: tower_domain::clock::Timestamp::from_micros(0) }, trace: None, reply };
        let of = |trace, number| Order { command: Command::Sweep(TraceId(ulid::Ulid(number))), trace: Some(TraceId(ulid::Ulid(trace))), reply: None };
        let orders = || vec![of(1, 1), of(1, 2), of(1, 3), forget(Some(oneshot::channel().0)), of(2, 4)];
        let shown = |orders: &[Order]| orders.iter().map(|order| if let Command::Sweep(trace) = order.command { trace.0.0 } else { 0 }).collect::<Vec<_>>();
        let (now, later) = piece(orders(), 2);
        assert_eq!((shown(&now), shown(&later)), (vec![0, 1, 4], vec![2, 3]));
        let (now, later) = piece(later, 2);
        assert_eq!((shown(&now), shown(&later)), (vec![2, 3], vec![]), "what fits stays in its order");
        assert_eq!(shown(&piece(orders(), 5).0), [1, 2, 3, 0, 4]);
    }

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
