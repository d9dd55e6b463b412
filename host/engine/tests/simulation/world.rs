//! Hosts on one database, driven from one seed.
//!
//! Each life of a host has a runtime of its own, on this thread, with a clock that stands still unless the host is driven. The world
//! drives them a few milliseconds of simulated time each, in an order that it draws. A host that is not driven is frozen; one whose
//! runtime is dropped has died, without a goodbye.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tower_domain::id::TraceId;
use tower_domain::task::Status;
use tower_engine::orders::Control;
use tower_engine::schedules::ScheduleWish;
use tower_engine::{Engine, EngineConfig};
use tower_store::Stores;
use tower_store::blobs::MemoryBlobs;
use tower_store::read::{PageRequest, TraceFilter};
use tower_store::sqlite::{self, SqliteOptions, SqliteStore};
use ulid::Ulid;

use crate::book::{Ask, LifeTold, What};
use crate::check;
use crate::dice::Dice;
use crate::life::{Common, Ids, Life, drive};
use crate::load::{self, FIRE};
use crate::seams;
use crate::steps::Steps;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// Within so much simulated time after the last fault everything must have come to its end.
const CALM_MAX: u64 = 240 * SECOND;
/// How long a client waits for an answer.
const PATIENCE: u64 = 2_500 * MS;

/// What came of a seed.
pub(crate) struct Played {
    /// What should not be.
    pub(crate) wrong: Vec<String>,
    /// What happened, in order.
    pub(crate) diary: Vec<String>,
    /// Steps that ran, traces there were, lives that ended badly.
    pub(crate) steps: usize,
    pub(crate) traces: usize,
    pub(crate) deaths: usize,
}

/// Plays a seed to its end, or to the first thing that should not be.
pub(crate) fn play(seed: u64) -> Played {
    let mut world = World::new(seed);
    world.begin();
    let wrong = match world.storm() {
        wrong if wrong.is_empty() => world.calm(),
        wrong => wrong,
    };
    let book = world.common.book.lock();
    let deaths = book.lives.iter().filter(|life| life.died.is_some()).count();
    let (steps, traces) = (book.runs.len(), world.traces.len());
    drop(book);
    let diary = std::mem::take(&mut *world.common.diary.lock());
    Played { wrong, diary, steps, traces, deaths }
}

struct Host {
    life: Arc<Life>,
    engine: Engine,
    runtime: Runtime,
    frozen_until: u64,
    /// It goes in peace.
    leaving: Option<tokio::task::JoinHandle<()>>,
}

pub(crate) struct World {
    pub(crate) common: Arc<Common>,
    pub(crate) store: SqliteStore,
    pub(crate) stores: Stores,
    pub(crate) traces: Vec<TraceId>,
    hosts: Vec<Host>,
    /// Names of hosts that begin a new life, and when.
    unborn: Vec<(u64, String)>,
    names: u64,
    now: u64,
    lease: Duration,
    slots: u32,
    /// Whether clocks are stepped by hours.
    far: bool,
    user_max: Option<u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::of(seed);
        let (lease, slots) = (Duration::from_millis(dice.between(1_500, 4_000)), u32::try_from(dice.between(1, 6)).unwrap_or(1));
        let (far, user_max) = (dice.one_in(5), dice.one_in(4).then_some(4));
        let hosts = dice.between(2, 5);
        let store = drive(sqlite::open(SqliteOptions::memory()), None).expect("not cut").expect("memory opens");
        let stores = store.stores(Arc::new(MemoryBlobs::default()));
        let common = Arc::new(Common::new(dice));
        let unborn = (0..hosts).map(|n| (0, format!("h{n}"))).collect();
        Self { common, store, stores, traces: Vec::new(), hosts: Vec::new(), unborn, names: hosts, now: 0, lease, slots, far, user_max }
    }

    fn dice<T>(&self, draw: impl FnOnce(&mut Dice) -> T) -> T {
        draw(&mut self.common.dice.lock())
    }

    fn note(&self, line: &str) {
        self.common.note(self.now, line);
    }

    /// The first lives, and what is to be run.
    fn begin(&mut self) {
        self.births();
        // Where a clock is hours ahead, so is the instant that a jitter counts from.
        let definitions = self.dice(|dice| load::definitions(dice, !self.far));
        let first = &self.hosts[0];
        let engine = first.engine.clone();
        let put = first.runtime.spawn(async move {
            for (name, spec) in definitions {
                engine.put_definition(&load::name(name), spec, None).await.expect("nothing is in the way");
            }
        });
        while !put.is_finished() {
            self.go_on(10 * MS);
        }
    }

    /// Faults and load, for a while. Answers what was found wrong.
    fn storm(&mut self) -> Vec<String> {
        self.common.calm.store(false, Ordering::SeqCst);
        let end = self.now + self.dice(|dice| dice.between(8, 16)) * SECOND;
        let mut look_at = self.now + 4 * SECOND;
        while self.now < end {
            self.happen();
            let quantum = self.dice(|dice| dice.between(5, 45)) * MS;
            self.go_on(quantum);
            if self.now >= look_at {
                look_at = self.now + 4 * SECOND;
                let wrong = check::invariants(&self.store);
                if !wrong.is_empty() {
                    return wrong;
                }
            }
        }
        Vec::new()
    }

    /// No more faults: everything comes to its end. Answers what was found wrong.
    fn calm(&mut self) -> Vec<String> {
        self.note("calm");
        self.common.calm.store(true, Ordering::SeqCst);
        let (now, mut wrong) = (self.now, Vec::new());
        for host in &mut self.hosts {
            if host.frozen_until > now {
                host.frozen_until = now;
                if let Some((_, until)) = self.common.book.lock().lives[host.life.number].frozen.last_mut() {
                    *until = now;
                }
            }
        }
        for (at, _) in &mut self.unborn {
            *at = now;
        }
        wrong.extend(check::schedules(self));
        let mut order_at = now;
        loop {
            if self.now >= order_at {
                order_at = self.now + 5 * SECOND;
                self.set_going();
            }
            self.go_on(50 * MS);
            if self.now % (SECOND / 2) < 50 * MS && !self.common.book.lock().has_open() && self.open().is_empty() && !self.fires() {
                break;
            }
            if self.now > now + CALM_MAX {
                wrong.push(format!("nothing is in the way any more, and these do not end: {:?}", self.open()));
                wrong
                    .extend(self.common.book.lock().asks.iter().filter(|ask| ask.what.insists() && !ask.done).map(|ask| format!("unanswered: {:?}", ask.what)));
                break;
            }
        }
        self.part();
        self.traces = check::traces(&self.stores).iter().map(|trace| trace.trace_id).collect();
        wrong.extend(check::all(self));
        wrong
    }

    /// Takes back whatever orders hold work back, and ends what fires by itself.
    fn set_going(&mut self) {
        let names: Vec<String> = self.hosts.iter().map(|host| host.life.name.clone()).collect();
        let mut wishes: Vec<What> = names.into_iter().map(|host| What::Drain { host, draining: false }).collect();
        wishes.extend(FIRE.map(|definition| What::Schedule { definition, wish: ScheduleWish::Cancel }));
        wishes.extend(self.open().into_iter().map(|trace| What::Order { control: Control::Resume, trace, task: None }));
        for what in wishes {
            self.add(what);
        }
    }

    /// Traces that have not ended.
    fn open(&self) -> Vec<TraceId> {
        let filter = TraceFilter { status: vec![Status::Pending, Status::Running], ..TraceFilter::default() };
        let page = PageRequest { after: None, limit: 500 };
        let page = drive(self.stores.read.traces(&filter, &page), None).expect("not cut").expect("memory answers");
        page.items.iter().map(|trace| trace.trace_id).collect()
    }

    /// Whether anything fires by itself still.
    fn fires(&self) -> bool {
        check::rows(&self.stores).iter().any(|row| row.next_at.is_some())
    }

    /// All hosts go in peace.
    fn part(&mut self) {
        for host in &mut self.hosts {
            leave(host);
        }
        let end = self.now + 20 * SECOND;
        while !self.hosts.is_empty() && self.now < end {
            self.go_on(50 * MS);
        }
        if !self.hosts.is_empty() {
            self.common.book.lock().odd.push("a host does not end when it is to".to_owned());
        }
    }

    /// What befalls hosts, and what clients want.
    fn happen(&mut self) {
        let lot = self.dice(|dice| dice.below(2_000));
        let count = self.hosts.len() as u64;
        if count > 0 {
            let at = self.dice(|dice| dice.below(count)) as usize;
            self.befall(lot, at);
        }
        if self.dice(|dice| dice.one_in(14)) {
            let names: Vec<String> = self.hosts.iter().map(|host| host.life.name.clone()).collect();
            let what = load::wish(&mut self.common.dice.lock(), &self.common.book.lock(), &names);
            if let Some(what) = what {
                self.add(what);
            }
        }
    }

    fn befall(&mut self, lot: u64, at: usize) {
        let now = self.now;
        let host = &mut self.hosts[at];
        let life = host.life.clone();
        let mut dice = self.common.dice.lock();
        match lot {
            0..3 if host.frozen_until <= now => {
                let lease = u64::try_from(self.lease.as_micros()).expect("short");
                host.frozen_until = now + dice.between(lease / 4, 3 * lease);
                self.common.book.lock().lives[life.number].frozen.push((now, host.frozen_until));
                self.common.note(now, &format!("{} is frozen until {}", life.name, host.frozen_until / MS));
            }
            3..5 => {
                let away = now + dice.between(100, 9_000) * MS;
                life.away_until.store(away, Ordering::SeqCst);
                self.common.note(now, &format!("{} has no way to the database until {}", life.name, away / MS));
            }
            5..9 => {
                let far = self.far && dice.one_in(3);
                let by = dice.between(1, if far { 7_200 * SECOND } else { 500 * MS });
                let by = i64::try_from(by).expect("hours");
                let by = if dice.one_in(2) { -by } else { by };
                life.offset.fetch_add(by, Ordering::SeqCst);
                self.common.note(now, &format!("the clock of {} is stepped by {} ms", life.name, by / 1_000));
            }
            9 => leave(host),
            10..12 => {
                drop(dice);
                self.bury(at, "killed");
            }
            _ => {}
        }
    }

    /// Simulated time goes on for all.
    fn go_on(&mut self, quantum: u64) {
        self.births();
        self.ask_again();
        let target = self.now + quantum;
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        self.dice(|dice| dice.shuffle(&mut order));
        for at in order {
            self.hosts[at].go_on(self.now, target);
        }
        self.now = target;
        for at in (0..self.hosts.len()).rev() {
            if self.hosts[at].life.is_dead() {
                self.bury(at, "died");
            } else if self.hosts[at].leaving.as_ref().is_some_and(|leaving| leaving.is_finished()) {
                self.bury(at, "gone in peace");
            }
        }
    }

    /// A life is over. Another begins, if faults go on.
    fn bury(&mut self, at: usize, how: &str) {
        let host = self.hosts.remove(at);
        self.note(&format!("{} {how}", host.life.name));
        self.common.book.lock().died(host.life.number, self.now);
        if !self.common.is_calm() {
            let again = self.dice(|dice| dice.below(3) < 2);
            let name = if again { host.life.name.clone() } else { self.new_name() };
            let at = self.now + self.dice(|dice| dice.between(100, 6_000)) * MS;
            self.unborn.push((at, name));
        }
        // Nothing of it runs any more: its tasks are dropped where they stand.
        drop(host);
    }

    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("h{}", self.names - 1)
    }

    fn births(&mut self) {
        let now = self.now;
        let (born, unborn) = std::mem::take(&mut self.unborn).into_iter().partition(|(at, _)| *at <= now);
        self.unborn = unborn;
        for (_, name) in born {
            self.birth(name);
        }
    }

    fn birth(&mut self, name: String) {
        self.note(&format!("{name} begins"));
        let number = {
            let mut book = self.common.book.lock();
            book.lives.push(LifeTold { name: name.clone(), died: None, frozen: Vec::new() });
            book.lives.len() - 1
        };
        let (claims_ahead, offset) = self.dice(|dice| (dice.below(5) as u32, dice.between(0, 600) as i64 - 300));
        let config = EngineConfig {
            shared: true,
            lease: self.lease,
            slots: self.slots,
            claims_ahead,
            // Few enough that cancels take several transactions.
            cancel_max: 1 + self.slots % 4,
            cancel_grace: Duration::from_millis(500),
            user_max_concurrent: self.user_max,
            ..EngineConfig::new(name.clone())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let (life, engine) = runtime.block_on(async {
            let life = Arc::new(Life::begin(self.common.clone(), name, number, self.now));
            life.offset.store(offset * 1_000, Ordering::SeqCst);
            let ids = Arc::new(Ids { life: life.clone(), last: Mutex::new(Ulid::nil()) });
            let steps = Arc::new(Steps { life: life.clone() });
            let engine = Engine::start(config, seams::around(self.stores.clone(), &life), vec![steps], life.clone(), ids).await;
            (life, engine.expect("there is no journal to fail"))
        });
        self.hosts.push(Host { life, engine, runtime, frozen_until: 0, leaving: None });
    }

    /// A new wish.
    fn add(&mut self, what: What) {
        let number = {
            let mut book = self.common.book.lock();
            book.asks.push(Ask { what, sent_at: 0, done: false, begun: Default::default(), accepted: 0, duplicate: 0 });
            book.asks.len() - 1
        };
        self.send(number);
    }

    fn ask_again(&mut self) {
        let late = |ask: &Ask| ask.what.insists() && !ask.done && ask.sent_at + PATIENCE <= self.now;
        let late: Vec<usize> = self.common.book.lock().asks.iter().enumerate().filter(|(_, ask)| late(ask)).map(|(number, _)| number).collect();
        for number in late {
            self.send(number);
        }
    }

    fn send(&mut self, number: usize) {
        let what = {
            let ask = &mut self.common.book.lock().asks[number];
            ask.sent_at = self.now;
            ask.what.clone()
        };
        let hosts: Vec<usize> = (0..self.hosts.len()).collect();
        // Impatient clients ask two hosts at the same time.
        let times = if self.dice(|dice| dice.one_in(8)) && what.insists() { 2 } else { 1 };
        for _ in 0..times {
            let Some(at) = self.dice(|dice| dice.pick(&hosts)) else { continue };
            let host = &self.hosts[at];
            self.note(&format!("{} is asked {number}: {what:?}", host.life.name));
            host.runtime.spawn(load::ask(host.engine.clone(), host.life.clone(), number, what.clone()));
        }
    }
}

impl Host {
    fn go_on(&mut self, now: u64, target: u64) {
        if self.frozen_until > now {
            return;
        }
        let life = self.life.clone();
        self.runtime.block_on(async {
            let behind = now.saturating_sub(life.at());
            if behind > 0 {
                // Thawed: for its timers all of that has passed at once.
                tokio::time::advance(Duration::from_micros(behind)).await;
            }
            tokio::select! {
                biased;
                () = life.died.notified() => {}
                () = tokio::time::sleep_until(life.instant(target)) => {}
            }
        });
    }
}

/// Has a host go in peace.
fn leave(host: &mut Host) {
    if host.leaving.is_none() {
        let engine = host.engine.clone();
        host.leaving = Some(host.runtime.spawn(async move { engine.shutdown(Duration::from_secs(1)).await }));
    }
}
