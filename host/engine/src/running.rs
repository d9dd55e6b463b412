//! Claims that this host holds: what each is told, and by what it is stopped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower_domain::code_ref::Lane;
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
        if self.paused.swap(pause, Ordering::AcqRel) != pause {
            self.changed.notify_waiters();
        }
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

/// What a claim that has not begun may wait for, about: longer than a claim takes, and shorter than others notice that they do nothing.
const AHEAD_FOR: Duration = Duration::from_secs(1);

/// How many steps ended lately: what can be claimed ahead without lying about.
#[derive(Debug)]
struct Tempo {
    since: Instant,
    ended: u32,
    ended_before: u32,
}

impl Tempo {
    fn new() -> Self {
        Self { since: Instant::now(), ended: 0, ended_before: 0 }
    }

    /// Steps that ended in one of the last two spans of [`AHEAD_FOR`] or, where nobody asked for longer, since then: a transaction that takes
    /// seconds is no reason to give back what it claimed.
    fn lately(&mut self) -> u32 {
        if self.since.elapsed() >= AHEAD_FOR {
            self.ended_before = std::mem::take(&mut self.ended);
            self.since = Instant::now();
        }
        self.ended.max(self.ended_before)
    }
}

/// A claim that waits for a slot, or runs.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) claimed: Claimed,
    pub(crate) orders: Arc<Orders>,
}

struct Inner {
    /// By id, so that whatever is done to all of them is done in the same order on every run.
    orders: BTreeMap<TaskId, Arc<Orders>>,
    ahead: VecDeque<Held>,
    /// Tasks that one more death would end for good. They run one at a time, so that the next death tells which of them it was: the
    /// others were only there.
    doubtful: VecDeque<Held>,
    /// The one of them that runs.
    doubted: Option<Arc<Orders>>,
    running: u32,
    /// Claims of other lanes, all of which run: executors say how many they can hold.
    elsewhere: BTreeMap<Lane, u32>,
    tempo: Tempo,
    taking: bool,
    draining: bool,
}

impl Inner {
    fn ahead(&self) -> u32 {
        u32::try_from(self.ahead.len() + self.doubtful.len()).unwrap_or(u32::MAX)
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.elsewhere.is_empty()
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
        let inner = Inner {
            orders: BTreeMap::new(),
            ahead: VecDeque::new(),
            doubtful: VecDeque::new(),
            doubted: None,
            running: 0,
            elsewhere: BTreeMap::new(),
            tempo: Tempo::new(),
            taking: true,
            draining: false,
        };
        Self { inner: Mutex::new(inner), slots, ahead_max, idle: Notify::new() }
    }

    /// How many more may be claimed of lanes other than that of the process, where executors can hold so many.
    pub(crate) fn room_elsewhere(&self, slots: impl IntoIterator<Item = (Lane, u32)>) -> Vec<(Lane, u32)> {
        let inner = self.inner.lock();
        if !inner.taking || inner.draining {
            return Vec::new();
        }
        let free = |(lane, slots): (Lane, u32)| {
            let room = slots.saturating_sub(inner.elsewhere.get(&lane).copied().unwrap_or(0));
            (room > 0).then_some((lane, room))
        };
        slots.into_iter().filter_map(free).collect()
    }

    /// How many more of [`Lane::Process`] may be claimed: for every free slot, and as many ahead as ended lately. Where steps take long,
    /// what waits stays where any host finds it.
    pub(crate) fn room(&self) -> u32 {
        let mut inner = self.inner.lock();
        if !inner.taking || inner.draining {
            return 0;
        }
        let ahead_max = self.ahead_max.min(inner.tempo.lately());
        (self.slots + ahead_max).saturating_sub(inner.running + inner.ahead())
    }

    /// Takes out the claims that will not begin soon, the latest first: steps have become longer since they were claimed.
    pub(crate) fn take_stale(&self) -> Vec<Held> {
        let mut inner = self.inner.lock();
        let keep = inner.tempo.lately() as usize;
        let from = keep.min(inner.ahead.len());
        let stale: Vec<Held> = inner.ahead.split_off(from).into();
        for held in &stale {
            inner.orders.remove(&held.claimed.task_id);
        }
        stale
    }

    /// Takes new claims in; answers those that can begin now. Of a host that takes nothing any more they come back.
    pub(crate) fn take(&self, claimed: Vec<Claimed>) -> Result<Vec<Held>, Vec<Claimed>> {
        let mut inner = self.inner.lock();
        if !inner.taking {
            return Err(claimed);
        }
        let mut begin = Vec::new();
        for claimed in claimed {
            let orders = Arc::new(Orders::default());
            inner.orders.insert(claimed.task_id, orders.clone());
            if claimed.lane == Lane::Process {
                inner.push(Held { claimed, orders });
            } else {
                *inner.elsewhere.entry(claimed.lane.clone()).or_default() += 1;
                begin.push(Held { claimed, orders });
            }
        }
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
    pub(crate) fn next(&self, ended: TaskId, lane: &Lane, orders: &Arc<Orders>) -> Option<Held> {
        let mut inner = self.inner.lock();
        // The task may have been claimed anew meanwhile; that claim's ear stays.
        if inner.orders.get(&ended).is_some_and(|held| Arc::ptr_eq(held, orders)) {
            inner.orders.remove(&ended);
        }
        if inner.doubted.as_ref().is_some_and(|doubted| Arc::ptr_eq(doubted, orders)) {
            inner.doubted = None;
        }
        if *lane == Lane::Process {
            inner.tempo.ended = inner.tempo.ended.saturating_add(1);
            if let Some(held) = inner.pop() {
                return Some(held);
            }
            inner.running -= 1;
        } else if let Some(count) = inner.elsewhere.get_mut(lane) {
            *count -= 1;
            if *count == 0 {
                inner.elsewhere.remove(lane);
            }
        }
        if inner.is_idle() {
            self.idle.notify_waiters();
        }
        None
    }

    /// Tells claims what is wanted of them. Answers those that had not begun and now are not to, and the ears of those that are
    /// cancelled.
    pub(crate) fn tell(&self, tasks: &[(TaskId, Signal)]) -> (Vec<Held>, Vec<Arc<Orders>>) {
        let mut inner = self.inner.lock();
        let mut cancelled = Vec::new();
        for (id, signal) in tasks {
            let Some(orders) = inner.orders.get(id) else { continue };
            match signal {
                Signal::Cancel(reason) if !orders.is_cancelled() => {
                    orders.cancel(reason);
                    cancelled.push(orders.clone());
                }
                // Told before.
                Signal::Cancel(_) => {}
                Signal::Pause | Signal::GoOn => orders.pause(*signal == Signal::Pause),
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

    /// Takes nothing for a while, or takes again. Answers the claims that had not begun: they are given back.
    pub(crate) fn drain(&self, draining: bool) -> Vec<Held> {
        let mut inner = self.inner.lock();
        inner.draining = draining;
        if draining { inner.take_out(|_| true) } else { Vec::new() }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.inner.lock().draining
    }

    /// Takes out the claims that have not begun.
    pub(crate) fn take_waiting(&self) -> Vec<Held> {
        self.inner.lock().take_out(|_| true)
    }

    /// Stops steps whose claims are no longer this host's; takes out those that had not begun.
    pub(crate) fn lose(&self, tasks: &[TaskId]) {
        let mut inner = self.inner.lock();
        for orders in tasks.iter().filter_map(|id| inner.orders.get(id)) {
            orders.stop_now(Stop::Released);
        }
        inner.take_out(|held| tasks.contains(&held.claimed.task_id));
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
            if self.inner.lock().is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// Claims of lanes other than that of the process.
    pub(crate) fn elsewhere(&self) -> BTreeMap<Lane, u32> {
        self.inner.lock().elsewhere.clone()
    }

    pub(crate) fn load(&self) -> crate::orders::Load {
        let inner = self.inner.lock();
        crate::orders::Load { running: inner.running, slots: self.slots, claimed_ahead: inner.ahead(), accepting: inner.taking && !inner.draining }
    }
}
