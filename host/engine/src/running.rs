//! Claims that this host holds: what each is told, and by what it is stopped.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tower_domain::id::TaskId;
use tower_domain::lifecycle::CRASHES_MAX;
use tower_domain::step::{Signal, Stop};
use tower_store::work::Claimed;

/// One claim's ear. Reading it is one atomic load.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// The task is cancelled, for this reason.
    cancelled: OnceLock<Arc<str>>,
    /// The task is held.
    paused: AtomicBool,
    /// It was held at some time during this claim: the step may have heard of it.
    was_paused: AtomicBool,
    /// The step must stop where it is; the first order to do so stands.
    stopped: OnceLock<Stop>,
    changed: Notify,
}

impl Orders {
    /// The task is cancelled.
    pub(crate) fn cancel(&self, reason: &str) {
        let _ = self.cancelled.set(reason.into());
        self.changed.notify_waiters();
    }

    /// The task is held, or no longer.
    pub(crate) fn pause(&self, pause: bool) {
        self.was_paused.fetch_or(pause, Ordering::AcqRel);
        self.paused.store(pause, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// It must stop where it is.
    pub(crate) fn stop_now(&self, stop: Stop) {
        let _ = self.stopped.set(stop);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get().is_some()
    }

    pub(crate) fn was_paused(&self) -> bool {
        self.was_paused.load(Ordering::Acquire)
    }

    pub(crate) fn signal(&self) -> Signal {
        // A shutdown is no order to the task: it is stopped where it is, and runs again.
        match self.cancelled.get() {
            Some(reason) => Signal::Cancel(reason.clone()),
            None if self.paused.load(Ordering::Acquire) => Signal::Pause,
            None => Signal::GoOn,
        }
    }

    pub(crate) fn stop(&self) -> Option<Stop> {
        self.stopped.get().copied()
    }

    /// Ends when `read` has an answer.
    pub(crate) async fn until<T>(&self, read: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change falls between the two.
            changed.as_mut().enable();
            if let Some(answer) = read(self) {
                return answer;
            }
            changed.await;
        }
    }
}

/// A claim that waits for a slot, or runs.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) claimed: Claimed,
    pub(crate) orders: Arc<Orders>,
}

#[derive(Default)]
struct Inner {
    orders: HashMap<TaskId, Arc<Orders>>,
    ahead: VecDeque<Held>,
    /// Tasks that one more death would end for good. They run one at a time, so that the next death tells which of them it was: the
    /// others were only there.
    doubtful: VecDeque<Held>,
    /// The one of them that runs.
    doubted: Option<Arc<Orders>>,
    running: u32,
    taking: bool,
}

impl Inner {
    fn ahead(&self) -> u32 {
        u32::try_from(self.ahead.len() + self.doubtful.len()).unwrap_or(u32::MAX)
    }

    fn push(&mut self, held: Held) {
        let is_doubtful = held.claimed.crashes + 1 >= CRASHES_MAX;
        if is_doubtful { &mut self.doubtful } else { &mut self.ahead }.push_back(held);
    }

    /// What may begin in a free slot.
    fn pop(&mut self) -> Option<Held> {
        if self.doubted.is_none()
            && let Some(held) = self.doubtful.pop_front()
        {
            self.doubted = Some(held.orders.clone());
            return Some(held);
        }
        self.ahead.pop_front()
    }

    /// Takes out those that wait and that are to go.
    fn take_out(&mut self, goes: impl Fn(&Held) -> bool) -> Vec<Held> {
        let mut gone = Vec::new();
        for queue in [&mut self.ahead, &mut self.doubtful] {
            let (going, staying): (VecDeque<Held>, VecDeque<Held>) = std::mem::take(queue).into_iter().partition(&goes);
            *queue = staying;
            gone.extend(going);
        }
        for held in &gone {
            self.orders.remove(&held.claimed.task_id);
        }
        gone
    }
}

/// All claims of this host. Short critical sections; never held over an await.
pub(crate) struct Claims {
    inner: Mutex<Inner>,
    slots: u32,
    ahead_max: u32,
    idle: Notify,
}

impl Claims {
    pub(crate) fn new(slots: u32, ahead_max: u32) -> Self {
        Self { inner: Mutex::new(Inner { taking: true, ..Inner::default() }), slots, ahead_max, idle: Notify::new() }
    }

    /// How many more may be claimed.
    pub(crate) fn room(&self) -> u32 {
        let inner = self.inner.lock();
        if !inner.taking {
            return 0;
        }
        (self.slots + self.ahead_max).saturating_sub(inner.running + inner.ahead())
    }

    /// Takes new claims in; answers those that can begin now. Of a host that takes nothing any more they come back.
    pub(crate) fn take(&self, claimed: Vec<Claimed>) -> Result<Vec<Held>, Vec<Claimed>> {
        let mut inner = self.inner.lock();
        if !inner.taking {
            return Err(claimed);
        }
        for claimed in claimed {
            let orders = Arc::new(Orders::default());
            inner.orders.insert(claimed.task_id, orders.clone());
            inner.push(Held { claimed, orders });
        }
        let mut begin = Vec::new();
        while inner.running < self.slots
            && let Some(held) = inner.pop()
        {
            inner.running += 1;
            begin.push(held);
        }
        Ok(begin)
    }

    /// Tasks of the claims that it holds.
    pub(crate) fn held(&self) -> Vec<TaskId> {
        self.inner.lock().orders.keys().copied().collect()
    }

    /// A step has ended: its slot goes to the next claim, if one waits.
    pub(crate) fn next(&self, ended: TaskId, orders: &Arc<Orders>) -> Option<Held> {
        let mut inner = self.inner.lock();
        // The task may have been claimed anew meanwhile; that claim's ear stays.
        if inner.orders.get(&ended).is_some_and(|held| Arc::ptr_eq(held, orders)) {
            inner.orders.remove(&ended);
        }
        if inner.doubted.as_ref().is_some_and(|doubted| Arc::ptr_eq(doubted, orders)) {
            inner.doubted = None;
        }
        match inner.pop() {
            Some(held) => Some(held),
            None => {
                inner.running -= 1;
                if inner.running == 0 {
                    self.idle.notify_waiters();
                }
                None
            }
        }
    }

    /// Tells claims what is wanted of them. Answers those that had not begun and now are not to, and the ears of those that are
    /// cancelled.
    pub(crate) fn tell(&self, tasks: &[(TaskId, Signal)]) -> (Vec<Held>, Vec<Arc<Orders>>) {
        let mut inner = self.inner.lock();
        let mut cancelled = Vec::new();
        for (id, signal) in tasks {
            let Some(orders) = inner.orders.get(id) else { continue };
            match signal {
                Signal::Cancel(reason) => {
                    orders.cancel(reason);
                    cancelled.push(orders.clone());
                }
                Signal::Pause => orders.pause(true),
                Signal::GoOn => orders.pause(false),
            }
        }
        (inner.take_out(|held| held.orders.signal() != Signal::GoOn), cancelled)
    }

    /// Takes nothing any more. Answers the claims that had not begun: they are given back.
    pub(crate) fn close(&self) -> Vec<Held> {
        let mut inner = self.inner.lock();
        inner.taking = false;
        inner.take_out(|_| true)
    }

    /// Stops every running step where it is.
    pub(crate) fn stop_all(&self, stop: Stop) {
        for orders in self.inner.lock().orders.values() {
            orders.stop_now(stop);
        }
    }

    /// Ends when nothing runs.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.inner.lock().running == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(crate) fn load(&self) -> crate::orders::Load {
        let inner = self.inner.lock();
        crate::orders::Load { running: inner.running, slots: self.slots, claimed_ahead: inner.ahead(), accepting: inner.taking }
    }
}
