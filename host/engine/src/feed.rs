//! Live events to any number of readers. What a slow reader misses it reads from the store: nothing piles up here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tower_domain::event::TaskEvent;
use tower_domain::id::TraceId;
use tower_domain::task::Status;
use tower_store::read::Reader;

use crate::orders::StoreFailure;

/// Batches of a trace's events that a reader may be behind before it goes to the store.
const BEHIND_MAX: usize = 64;
/// Events that are read from the store at a time.
const READ_EVENTS: u32 = 500;
/// How often a reader that hears nothing looks at the store where nobody else moves traces.
const LOOK_ALONE_EVERY: Duration = Duration::from_secs(5);

type Batch = Arc<[TaskEvent]>;

/// Hands committed events on.
pub(crate) struct Feed {
    topics: Mutex<BTreeMap<TraceId, broadcast::Sender<Batch>>>,
    /// How often a reader that hears nothing looks at the store.
    look_every: Duration,
}

impl Feed {
    /// For a host that is alone, or for one that is not.
    pub(crate) fn new(shared: bool) -> Self {
        Self { topics: Mutex::default(), look_every: if shared { crate::hosts::LOOK_EVERY } else { LOOK_ALONE_EVERY } }
    }

    /// Has readers of these traces, or of all, look at the store: another host has moved them.
    pub(crate) fn stir(&self, traces: Option<&[TraceId]>) {
        for (trace, topic) in self.lock().iter() {
            if traces.is_none_or(|traces| traces.contains(trace)) {
                let _ = topic.send(Batch::from([]));
            }
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, BTreeMap<TraceId, broadcast::Sender<Batch>>> {
        self.topics.lock()
    }

    /// Hands on what a commit made durable.
    pub(crate) fn publish(&self, events: Vec<TaskEvent>, ended: &[(TraceId, Status)]) {
        let mut topics = self.lock();
        if topics.is_empty() {
            return;
        }
        let mut by_trace: BTreeMap<TraceId, Vec<TaskEvent>> = BTreeMap::new();
        for event in events {
            if topics.contains_key(&event.trace_id) {
                by_trace.entry(event.trace_id).or_default().push(event);
            }
        }
        for (trace, batch) in by_trace {
            let deaf = topics.get(&trace).is_some_and(|topic| topic.send(batch.into()).is_err());
            if deaf {
                topics.remove(&trace);
            }
        }
        for (trace, _) in ended {
            topics.remove(trace);
        }
    }

    fn subscribe(&self, trace: TraceId) -> broadcast::Receiver<Batch> {
        self.lock().entry(trace).or_insert_with(|| broadcast::channel(BEHIND_MAX).0).subscribe()
    }
}

/// A reader of one trace's events, in order and without gaps, from any point of its history to its end.
pub struct Follow {
    feed: Arc<Feed>,
    read: Arc<dyn Reader>,
    trace: TraceId,
    after: u64,
    live: Option<broadcast::Receiver<Batch>>,
}

impl Follow {
    pub(crate) fn new(feed: Arc<Feed>, read: Arc<dyn Reader>, trace: TraceId, after: u64) -> Self {
        Self { feed, read, trace, after, live: None }
    }

    /// The next events; `None` once the trace has ended and all of them were delivered, or if there is no such trace.
    pub async fn next(&mut self) -> Option<Result<Vec<TaskEvent>, StoreFailure>> {
        loop {
            if let Some(live) = &mut self.live {
                match tokio::time::timeout(self.feed.look_every, live.recv()).await {
                    Ok(Ok(batch)) => {
                        let fresh: Vec<TaskEvent> = batch.iter().filter(|event| event.seq > self.after).cloned().collect();
                        match fresh.first() {
                            // Another host has moved it.
                            None if batch.is_empty() => self.live = None,
                            None => continue,
                            Some(first) if first.seq == self.after + 1 => {
                                self.after = fresh.last().map_or(self.after, |last| last.seq);
                                return Some(Ok(fresh));
                            }
                            // Something is missing in between: the store has it.
                            Some(_) => self.live = None,
                        }
                    }
                    Ok(Err(broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed)) | Err(_) => self.live = None,
                }
            }
            // Subscribed before reading, so that nothing falls between the two.
            let live = self.feed.subscribe(self.trace);
            match self.read.events(self.trace, self.after, READ_EVENTS).await {
                Err(error) => return Some(Err(error.into())),
                Ok(events) if !events.is_empty() => {
                    self.after = events.last().map_or(self.after, |last| last.seq);
                    return Some(Ok(events));
                }
                Ok(_) => match self.read.trace(self.trace).await {
                    Err(error) => return Some(Err(error.into())),
                    Ok(None) => return None,
                    Ok(Some(trace)) if trace.status.is_terminal() && trace.last_seq <= self.after => return None,
                    Ok(Some(trace)) if trace.last_seq > self.after => {}
                    Ok(Some(_)) => self.live = Some(live),
                },
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.live = None;
        let mut topics = self.feed.lock();
        if topics.get(&self.trace).is_some_and(|topic| topic.receiver_count() == 0) {
            topics.remove(&self.trace);
        }
    }
}
