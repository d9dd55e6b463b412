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

use crate::ahead::Ahead;

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

/// What a claim that has not begun may wait for, about: longer than a claim takes.
const AHEAD_FOR: Duration = Duration::from_secs(1);
/// The part of it where there are other hosts, who may have a free slot: what one of them took and does not begin, the others wait for.
const AHEAD_AMONG_OTHERS: u32 = 8;

/// Steps that ended lately where a host has its hands full.
const BUSY_MIN: u32 = 64;

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

/// What is to be begun.
pub(crate) struct Begin {
    /// Of other lanes.
    pub(crate) elsewhere: Vec<Held>,
    /// So many slots look for a claim each.
    pub(crate) slots: u32,
}

/// What a slot does whose step has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It looks for another claim.
    GoOn,
    /// It does so when others on its thread have had their turn.
    Yield,
    /// It ends: other slots take the claims there are.
    MakeWay,
    /// It ends: there is no claim.
    Rest,
}

struct Inner {
    /// By id, so that whatever is done to all of them is done in the same order on every run.
    orders: BTreeMap<TaskId, Arc<Orders>>,
    ahead: Ahead<Held>,
    /// Tasks that one more death would end for good. They run one at a time, so that the next death tells which of them it was: the
    /// others were only there.
    doubtful: VecDeque<Held>,
    /// The one of them that runs.
    doubted: Option<Arc<Orders>>,
    running: u32,
    /// Slots that are to take a claim when they have a thread.
    starting: u32,
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
        self.running == 0 && self.starting == 0 && self.elsewhere.is_empty()
    }

    /// Claims that a slot would find.
    fn to_begin(&self) -> u32 {
        let doubtful = self.doubted.is_none() && !self.doubtful.is_empty();
        u32::try_from(self.ahead.len()).unwrap_or(u32::MAX).saturating_add(doubtful.into())
    }

    fn push(&mut self, held: Held) {
        let is_doubtful = held.claimed.crashes + 1 >= CRASHES_MAX;
        if is_doubtful {
            self.doubtful.push_back(held);
        } else {
            self.ahead.push(held.claimed.trace_id, held);
        }
    }

    /// What may begin in a free slot.
    fn pop(&mut self) -> Option<Held> {
        if self.doubted.is_none()
            && let Some(held) = self.doubtful.pop_front()
        {
            self.doubted = Some(held.orders.clone());
            return Some(held);
        }
        self.ahead.pop()
    }

    /// Takes out those that wait and that are to go.
    fn take_out(&mut self, goes: impl Fn(&Held) -> bool) -> Vec<Held> {
        let mut gone = self.ahead.take_out(&goes);
        let (going, staying): (VecDeque<Held>, VecDeque<Held>) = std::mem::take(&mut self.doubtful).into_iter().partition(&goes);
        self.doubtful = staying;
        gone.extend(going);
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
    starting_max: u32,
    idle: Notify,
}

impl Claims {
    /// Of a host whose steps have so many threads.
    pub(crate) fn new(slots: u32, ahead_max: u32, threads: u32) -> Self {
        let inner = Inner {
            orders: BTreeMap::new(),
            ahead: Ahead::default(),
            doubtful: VecDeque::new(),
            doubted: None,
            running: 0,
            starting: 0,
            elsewhere: BTreeMap::new(),
            tempo: Tempo::new(),
            taking: true,
            draining: false,
        };
        Self { inner: Mutex::new(inner), slots, ahead_max, starting_max: threads.max(1), idle: Notify::new() }
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

    /// How many more of [`Lane::Process`] may be claimed: for every free slot, and as many ahead as ended lately, or a part of them `among_others`.
    /// Where steps take long, what waits stays where any host finds it.
    pub(crate) fn room(&self, among_others: bool) -> u32 {
        let mut inner = self.inner.lock();
        if !inner.taking || inner.draining {
            return 0;
        }
        let lately = inner.tempo.lately();
        let ahead_max = self.ahead_max.min(if among_others { lately.div_ceil(AHEAD_AMONG_OTHERS) } else { lately });
        (self.slots + ahead_max).saturating_sub(inner.running + inner.ahead())
    }

    /// Whether steps end quickly, and more of them are under way.
    pub(crate) fn is_at_work(&self) -> bool {
        let mut inner = self.inner.lock();
        !inner.orders.is_empty() && inner.tempo.lately() > BUSY_MIN
    }

    /// Takes out the claims that will not begin soon, the latest first: steps have become longer since they were claimed.
    pub(crate) fn take_stale(&self) -> Vec<Held> {
        let mut inner = self.inner.lock();
        let free = self.slots.saturating_sub(inner.running);
        let keep = inner.tempo.lately().saturating_add(free);
        let stale = inner.ahead.split_off(keep as usize);
        for held in &stale {
            inner.orders.remove(&held.claimed.task_id);
        }
        stale
    }

    /// Takes new claims in. Of a host that takes nothing any more they come back.
    pub(crate) fn take(&self, claimed: Vec<Claimed>) -> Result<Begin, Vec<Claimed>> {
        let mut inner = self.inner.lock();
        if !inner.taking {
            return Err(claimed);
        }
        let mut elsewhere = Vec::new();
        for claimed in claimed {
            let orders = Arc::new(Orders::default());
            inner.orders.insert(claimed.task_id, orders.clone());
            if claimed.lane == Lane::Process {
                inner.push(Held { claimed, orders });
            } else {
                *inner.elsewhere.entry(claimed.lane.clone()).or_default() += 1;
                elsewhere.push(Held { claimed, orders });
            }
        }
        Ok(Begin { elsewhere, slots: self.start(&mut inner) })
    }

    /// How many slots are to look for a claim now: no more at a time than there are threads. Each that finds one has the next look, so that those that
    /// wait for a thread are few, and a claim waits for none of them in particular.
    fn start(&self, inner: &mut Inner) -> u32 {
        let free = self.slots.saturating_sub(inner.running);
        let wanted = free.min(self.starting_max).min(inner.to_begin());
        let more = wanted.saturating_sub(inner.starting);
        inner.starting += more;
        more
    }

    /// A slot has a thread. Answers the claim that it takes, if one is left, and how many slots are to look for the others.
    pub(crate) fn pick(&self) -> Option<(Held, u32)> {
        let mut inner = self.inner.lock();
        inner.starting -= 1;
        let Some(held) = inner.pop() else {
            if inner.is_idle() {
                self.idle.notify_waiters();
            }
            return None;
        };
        inner.running += 1;
        let more = self.start(&mut inner);
        Some((held, more))
    }

    /// Tasks of the claims that it holds.
    pub(crate) fn held(&self) -> Vec<TaskId> {
        self.inner.lock().orders.keys().copied().collect()
    }

    /// A step has ended. Where its slot had its turn it makes way for those that wait for a thread.
    pub(crate) fn end(&self, ended: TaskId, lane: &Lane, orders: &Arc<Orders>, had_its_turn: bool) -> Then {
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
            inner.running -= 1;
            if inner.to_begin() > 0 {
                if had_its_turn && inner.starting >= self.starting_max {
                    return Then::MakeWay;
                }
                inner.starting += 1;
                return if had_its_turn { Then::Yield } else { Then::GoOn };
            }
        } else if let Some(count) = inner.elsewhere.get_mut(lane) {
            *count -= 1;
            if *count == 0 {
                inner.elsewhere.remove(lane);
            }
        }
        if inner.is_idle() {
            self.idle.notify_waiters();
        }
        Then::Rest
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
        if tasks.is_empty() {
            return;
        }
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use tower_domain::clock::Timestamp;
    use tower_domain::id::TraceId;
    use tower_domain::json::Json;
    use tower_domain::task::{ActorType, Leg};

    use super::*;

    fn claimed(number: u128, trace: u128, crashes: u32) -> Claimed {
        Claimed {
            task_id: TaskId(ulid::Ulid(number)),
            trace_id: TraceId(ulid::Ulid(trace)),
            key: "key".parse().unwrap(),
            definition_id: "definition".parse().unwrap(),
            definition_version: 1,
            trace_created_at: Timestamp::from_micros(0),
            trace_tasks: 1,
            actor_type: ActorType::Execution,
            leg: Leg::Run,
            params: Json::of(&()).unwrap(),
            upstream: Vec::new(),
            summary: None,
            carried: None,
            attempt: 1,
            max_retries: 0,
            timeout_sec: 1,
            round_index: 0,
            layer: 0,
            depth: 0,
            children: Default::default(),
            fence: 1,
            crashes,
            lane: Lane::Process,
            parent_id: None,
            session_id: None,
        }
    }

    /// Slots as an engine has them: some look for a claim, some run one.
    struct Slots {
        claims: Claims,
        looking: u32,
        running: Vec<Held>,
        begun: HashSet<TaskId>,
    }

    impl Slots {
        fn take(&mut self, claimed: Vec<Claimed>) {
            self.looking += self.claims.take(claimed).map_or(0, |begin| begin.slots);
        }

        fn pick(&mut self) {
            self.looking -= 1;
            if let Some((held, more)) = self.claims.pick() {
                self.looking += more;
                assert!(self.begun.insert(held.claimed.task_id), "begun twice");
                self.running.push(held);
            }
        }

        fn end(&mut self, which: usize, had_its_turn: bool) {
            let ended = self.running.swap_remove(which);
            match self.claims.end(ended.claimed.task_id, &Lane::Process, &ended.orders, had_its_turn) {
                Then::GoOn | Then::Yield => self.looking += 1,
                Then::MakeWay => assert!(self.looking > 0, "it makes way for nobody"),
                Then::Rest => {}
            }
        }
    }

    #[test]
    fn every_claim_begins_once_whatever_slots_do_and_when() {
        for seed in 0..300 {
            let mut dice = SmallRng::seed_from_u64(seed);
            let (max, threads) = (dice.random_range(1..6), dice.random_range(1..4));
            let mut slots = Slots { claims: Claims::new(max, 100, threads), looking: 0, running: Vec::new(), begun: HashSet::new() };
            let mut made = 0;
            for _ in 0..300 {
                match dice.random_range(0..3) {
                    0 => {
                        let count = dice.random_range(0..4);
                        let crashes = |dice: &mut SmallRng| if dice.random_range(0..8) == 0 { CRASHES_MAX - 1 } else { 0 };
                        slots.take((made..made + count).map(|number| claimed(number, number % 3, crashes(&mut dice))).collect());
                        made += count;
                    }
                    1 if slots.looking > 0 => slots.pick(),
                    2 if !slots.running.is_empty() => {
                        let which = dice.random_range(0..slots.running.len());
                        slots.end(which, dice.random_range(0..2) == 0);
                    }
                    _ => {}
                }
                let running = u32::try_from(slots.running.len()).unwrap();
                assert!(running + slots.looking <= max, "seed {seed}: {running} run and {} look, of {max}", slots.looking);
                assert!(slots.running.iter().filter(|held| held.claimed.crashes > 0).count() <= 1, "seed {seed}: two that are doubtful");
                let waiting = slots.claims.inner.lock().to_begin();
                assert!(slots.looking > 0 || running == max || waiting == 0, "seed {seed}: {waiting} wait, and no slot looks");
            }
            while slots.looking > 0 || !slots.running.is_empty() {
                if slots.looking > 0 { slots.pick() } else { slots.end(0, true) }
            }
            assert_eq!(slots.begun.len() as u128, made, "seed {seed}");
            assert!(slots.claims.inner.lock().is_idle());
        }
    }
}
