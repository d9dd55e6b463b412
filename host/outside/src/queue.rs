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

/// How long a step that was claimed for a worker who then went away waits for another before it is given back; and how long one that was
/// given to a worker may take until it is on the wire.
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
    hand: oneshot::Sender<Delivery>,
}

/// A step on its way to the worker that asked. Until it is [taken](Self::take) it is nobody's: dropped before, it goes to the next who asks.
pub struct Delivery {
    handed: Handed,
    taken: oneshot::Sender<()>,
}

impl Delivery {
    /// What the worker is to be told.
    pub fn handed(&self) -> &Handed {
        &self.handed
    }

    /// Says that the worker is being told. False: that took too long, and the step is not this worker's any more.
    pub fn take(self) -> bool {
        self.taken.send(()).is_ok()
    }
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

    /// Waits for a step of a queue, up to so long. Whoever drops this leaves the line, even if a step is on its way.
    pub async fn fetch(&self, queue: &Name, worker: &str, wait: Duration) -> Option<Delivery> {
        let (hand, handed) = oneshot::channel();
        let number = self.line_up(queue, worker, hand);
        let _leave = Leave { executor: self, queue, number };
        tokio::time::timeout(wait, handed).await.ok()?.ok()
    }

    fn line_up(&self, queue: &Name, worker: &str, hand: oneshot::Sender<Delivery>) -> u64 {
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

    /// Hands a step to a worker; false: nobody who stays came for it.
    async fn give(&self, queue: &Name, handed: impl Fn() -> Handed) -> bool {
        while let Some(Poll { hand, .. }) = self.worker(queue).await {
            let (taken, mut is_taken) = oneshot::channel();
            // Sent is not yet received: who asked may go away with it.
            if hand.send(Delivery { handed: handed(), taken }).is_err() {
                continue;
            }
            let has_it = match tokio::time::timeout(HANDOVER, &mut is_taken).await {
                Ok(taken) => taken.is_ok(),
                Err(_) => {
                    is_taken.close();
                    is_taken.try_recv().is_ok()
                }
            };
            if has_it {
                return true;
            }
        }
        false
    }

    async fn hold(&self, step: Arc<Step>, host: Arc<dyn StepHost>, queue: &Name) -> StepEnd {
        let attempt = self.desk.open(step.clone(), host.clone());
        let taken = tokio::select! {
            biased;
            stop = host.stopped() => return stopped(stop),
            taken = self.give(queue, || attempt.handed(&self.base, Some(self.lease))) => taken,
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::json;

    use super::*;

    fn some_step() -> Handed {
        let id = "01JD0000000000000000000000";
        let step = json!({
            "task_id": id, "trace_id": id, "definition": "code", "definition_version": 1, "code_ref": "worker://hands", "key": "root",
            "actor_type": "AGENT", "role": "", "leg": "RUN", "params": {}, "upstream": [], "attempt": 1, "retries_left": 0, "round_index": 0, "layer": 0,
            "depth": 0, "may_split": true, "fence": 1, "deadline_ms": 0, "timeout_ms": 1000, "idempotency_key": id,
        });
        serde_json::from_value(json!({ "attempt": { "url": "http://tower", "token": "att_1", "lease_ms": 1000 }, "step": step })).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_lost_with_nobody_who_goes_away_while_it_is_on_its_way() {
        let executor = QueueExecutor::new(Arc::default(), Duration::from_secs(1), "http://tower");
        let queue: Name = "hands".parse().unwrap();
        let fetch = || Box::pin(executor.fetch(&queue, "by hand", Duration::from_secs(60)));
        let (mut first, mut second, mut third) = (fetch(), fetch(), fetch());
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        let mut give = Box::pin(executor.give(&queue, some_step));
        assert!(give.as_mut().now_or_never().is_none());
        // It was sent to the first, who leaves and never looked.
        drop(first);
        assert!(give.as_mut().now_or_never().is_none());
        // The second has received it, and leaves before a word of it is on the wire.
        assert!(second.as_mut().now_or_never().flatten().is_some());
        assert!(give.as_mut().now_or_never().is_none());
        // The third is slower than may be.
        let slow = third.await.unwrap();
        let mut fourth = fetch();
        assert!(fourth.as_mut().now_or_never().is_none());
        tokio::time::advance(HANDOVER).await;
        assert!(give.as_mut().now_or_never().is_none());
        assert!(!slow.take(), "it is not the third's any more");
        let delivery = fourth.await.unwrap();
        assert_eq!(delivery.handed().attempt.token, "att_1");
        assert!(delivery.take());
        assert!(give.as_mut().await);
        drop(give);
        assert!(!executor.give(&queue, some_step).await, "nobody asks: it is given back");
    }
}
