//! Workers that fetch steps: `worker://queue`.
//!
//! A worker that asks for a step is room for one: only then does the host claim, so that tasks of a queue that nobody asks wait where they
//! are and lose no attempt. Whoever was handed a step keeps it by being heard of; who falls silent has lost it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower_domain::code_ref::{CodeRef, Lane};
use tower_domain::codes;
use tower_domain::definition::DefinitionSpec;
use tower_domain::id::TaskId;
use tower_domain::name::Name;
use tower_domain::step::{Bell, CodeProblem, Executor, Settled, Step, StepEnd, StepHost};

use crate::desk::Desk;
use crate::ends::{retryable, stopped, timed_out, without_code};
use crate::wire::Handed;

/// How long a step that was claimed for a worker who then went away waits for another before it is given back.
const HANDOVER: Duration = Duration::from_secs(2);

/// How long a worker that asks no more is listed.
const SEEN_WITHIN: Duration = Duration::from_secs(120);

/// Workers that are listed of one queue.
const WORKERS_MAX: usize = 1_000;

/// Queues that are known at the same time; more are served, but not listed once nobody asks.
const QUEUES_MAX: usize = 10_000;

/// A worker that waits for a step.
struct Poll {
    number: u64,
    hand: oneshot::Sender<Handed>,
}

#[derive(Default)]
struct Queue {
    polls: VecDeque<Poll>,
    /// Steps that workers hold.
    held: u32,
    /// Steps that were claimed for a worker who went away, each with the way to hand it over.
    orphans: VecDeque<oneshot::Sender<Poll>>,
    /// Who asked, and when.
    workers: HashMap<String, Instant>,
}

#[derive(Default)]
struct Inner {
    queues: BTreeMap<Name, Queue>,
    polls: u64,
    bell: Option<Bell>,
}

/// A queue, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLoad {
    /// Its name.
    pub queue: Name,
    /// Workers that wait for a step.
    pub waiting: u32,
    /// Steps that workers hold.
    pub held: u32,
    /// Workers that asked within two minutes.
    pub workers: u32,
}

/// Hands steps to workers that ask.
pub struct QueueExecutor {
    desk: Arc<Desk>,
    inner: Mutex<Inner>,
    /// Whoever holds a step and says nothing for so long has lost it.
    lease: Duration,
    /// Where the API is.
    base: String,
}

impl QueueExecutor {
    /// With the desk that workers reach their steps at, and where its calls are.
    pub fn new(desk: Arc<Desk>, lease: Duration, base: impl Into<String>) -> Self {
        Self { desk, inner: Mutex::default(), lease, base: base.into() }
    }

    /// Waits for a step of a queue, up to so long. Whoever drops this leaves the line.
    pub async fn fetch(&self, queue: &Name, worker: &str, wait: Duration) -> Option<Handed> {
        let (hand, handed) = oneshot::channel();
        let number = self.line_up(queue, worker, hand);
        let _leave = Leave { executor: self, queue, number };
        tokio::time::timeout(wait, handed).await.ok()?.ok()
    }

    fn line_up(&self, queue: &Name, worker: &str, hand: oneshot::Sender<Handed>) -> u64 {
        let mut inner = self.inner.lock();
        inner.polls += 1;
        let number = inner.polls;
        let is_full = inner.queues.len() >= QUEUES_MAX;
        if is_full {
            inner.queues.retain(|_, queue| !queue.polls.is_empty() || queue.held > 0 || !queue.orphans.is_empty());
        }
        let line = inner.queues.entry(queue.clone()).or_default();
        let now = Instant::now();
        line.workers.retain(|_, seen| now.duration_since(*seen) < SEEN_WITHIN);
        if line.workers.len() < WORKERS_MAX || line.workers.contains_key(worker) {
            line.workers.insert(worker.to_owned(), now);
        }
        let mut poll = Poll { number, hand };
        while let Some(orphan) = line.orphans.pop_front() {
            match orphan.send(poll) {
                Ok(()) => return number,
                // It was given back meanwhile.
                Err(back) => poll = back,
            }
        }
        line.polls.push_back(poll);
        let bell = inner.bell.clone();
        drop(inner);
        if let Some(bell) = bell {
            bell();
        }
        number
    }

    /// Who waits and who works, by queue.
    pub fn queues(&self) -> Vec<QueueLoad> {
        let now = Instant::now();
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let load = |(name, queue): (&Name, &Queue)| QueueLoad {
            queue: name.clone(),
            waiting: count(queue.polls.len()),
            held: queue.held,
            workers: count(queue.workers.values().filter(|seen| now.duration_since(**seen) < SEEN_WITHIN).count()),
        };
        self.inner.lock().queues.iter().map(load).filter(|load| load.waiting + load.held + load.workers > 0).collect()
    }

    /// A worker that waits; none came within [`HANDOVER`].
    async fn worker(&self, queue: &Name) -> Option<Poll> {
        let found = {
            let mut inner = self.inner.lock();
            let line = inner.queues.entry(queue.clone()).or_default();
            match line.polls.pop_front() {
                Some(poll) => Ok(poll),
                None => {
                    let (send, found) = oneshot::channel();
                    line.orphans.push_back(send);
                    Err(found)
                }
            }
        };
        match found {
            Ok(poll) => Some(poll),
            Err(found) => tokio::time::timeout(HANDOVER, found).await.ok()?.ok(),
        }
    }

    async fn hold(&self, step: Arc<Step>, host: Arc<dyn StepHost>, queue: &Name) -> StepEnd {
        let attempt = self.desk.open(step.clone(), host.clone());
        let taken = async {
            while let Some(Poll { hand, .. }) = self.worker(queue).await {
                if hand.send(attempt.handed(&self.base, Some(self.lease))).is_ok() {
                    return true;
                }
            }
            false
        };
        let taken = tokio::select! {
            biased;
            stop = host.stopped() => return stopped(stop),
            taken = taken => taken,
        };
        if !taken {
            return StepEnd::Released;
        }
        attempt.touch();
        let _held = HeldHere::of(self, queue);
        let silent = || {
            let message = format!("the worker said nothing for {:?}, its lease: it has died, or calls neither /heartbeat nor anything else", self.lease);
            retryable(codes::WORKER_LOST.name, message)
        };
        let end = tokio::select! {
            biased;
            end = attempt.ended() => return end,
            stop = host.stopped() => stopped(stop),
            () = tokio::time::sleep(step.timeout) => timed_out(&step),
            () = attempt.silent_for(self.lease) => silent(),
        };
        attempt.close(end)
    }
}

/// Whoever asked has what it wanted, or went away.
struct Leave<'a> {
    executor: &'a QueueExecutor,
    queue: &'a Name,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.executor.inner.lock().queues.get_mut(self.queue) {
            line.polls.retain(|poll| poll.number != self.number);
        }
    }
}

/// A step that a worker holds.
struct HeldHere<'a> {
    executor: &'a QueueExecutor,
    queue: &'a Name,
}

impl<'a> HeldHere<'a> {
    fn of(executor: &'a QueueExecutor, queue: &'a Name) -> Self {
        executor.inner.lock().queues.entry(queue.clone()).or_default().held += 1;
        Self { executor, queue }
    }
}

impl Drop for HeldHere<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.executor.inner.lock().queues.get_mut(self.queue) {
            line.held = line.held.saturating_sub(1);
        }
    }
}

#[async_trait]
impl Executor for QueueExecutor {
    fn runs(&self, code: &CodeRef) -> bool {
        matches!(code, CodeRef::Queue(_))
    }

    fn slots(&self) -> Vec<(Lane, u32)> {
        let inner = self.inner.lock();
        let slots =
            |(name, queue): (&Name, &Queue)| (Lane::Queue(name.clone()), queue.held.saturating_add(u32::try_from(queue.polls.len()).unwrap_or(u32::MAX)));
        inner.queues.iter().map(slots).filter(|(_, slots)| *slots > 0).collect()
    }

    fn take_bell(&self, bell: Bell) {
        self.inner.lock().bell = Some(bell);
    }

    async fn check(&self, _: &DefinitionSpec) -> Result<(), CodeProblem> {
        Ok(())
    }

    async fn run(&self, step: Arc<Step>, host: Arc<dyn StepHost>) -> StepEnd {
        let definition = step.definition.clone();
        let CodeRef::Queue(queue) = &definition.spec.code_ref else { return StepEnd::Released };
        match without_code(&step, &*host).await {
            Some(end) => end,
            None => self.hold(step, host, queue).await,
        }
    }

    fn settled(&self, task: TaskId, fence: u64, settled: Settled) {
        self.desk.settled(task, fence, settled);
    }
}
