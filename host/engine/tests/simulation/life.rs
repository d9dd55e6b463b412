//! One life of a host: its time, its way to the database, and its death. What lives share is in [`Common`].

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower_domain::clock::{Clock, Timestamp};
use tower_domain::id::IdSource;
use tower_store::StoreError;
use tower_store::fault::here;
use ulid::Ulid;

use crate::book::Book;
use crate::dice::Dice;

/// Ten seconds before the night begins.
const BEGIN: i64 = 1_772_330_390_000_000;

/// Calls of a host at one and the same moment: many steps may begin in it, but not so many.
const CALLS_MAX: u32 = 2_000;

/// What all hosts of a simulation share, and what its faults and judges see.
pub(crate) struct Common {
    pub(crate) dice: Mutex<Dice>,
    /// Faults have stopped.
    pub(crate) calm: AtomicBool,
    /// News are never heard.
    pub(crate) deaf: bool,
    pub(crate) book: Mutex<Book>,
    /// What happened, in order: the same for the same seed.
    pub(crate) diary: Mutex<Vec<String>>,
    database_time: AtomicI64,
}

impl Common {
    pub(crate) fn new(mut dice: Dice) -> Self {
        let deaf = dice.one_in(8);
        Self { dice: Mutex::new(dice), calm: AtomicBool::new(true), deaf, book: Mutex::default(), diary: Mutex::default(), database_time: AtomicI64::new(0) }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    pub(crate) fn note(&self, at: u64, line: &str) {
        self.diary.lock().push(format!("{}.{:03} {line}", at / 1_000_000, at / 1_000 % 1_000));
    }

    /// The clock of the database's own machine, which nobody steps and which never goes back.
    fn database_time(&self, at: u64) -> Timestamp {
        let at = instant(at).as_micros();
        Timestamp::from_micros(self.database_time.fetch_max(at, Ordering::SeqCst).max(at))
    }
}

/// An instant of simulated time, in microseconds since the beginning.
pub(crate) fn instant(at: u64) -> Timestamp {
    Timestamp::from_micros(BEGIN + i64::try_from(at).expect("a simulation is short"))
}

/// One life of a host.
pub(crate) struct Life {
    pub(crate) common: Arc<Common>,
    pub(crate) name: String,
    /// Of all lives.
    pub(crate) number: usize,
    born: u64,
    epoch: Instant,
    /// How far its clock is off.
    pub(crate) offset: AtomicI64,
    dead: AtomicBool,
    /// When it called last, and how often at that moment.
    calls: Mutex<(u64, u32)>,
    pub(crate) died: Notify,
    /// Until when it has no way to the database.
    pub(crate) away_until: AtomicU64,
}

impl Life {
    /// To be called in the host's runtime.
    pub(crate) fn begin(common: Arc<Common>, name: String, number: usize, born: u64) -> Self {
        Self {
            common,
            name,
            number,
            born,
            epoch: Instant::now(),
            offset: AtomicI64::new(0),
            dead: AtomicBool::new(false),
            calls: Mutex::default(),
            died: Notify::new(),
            away_until: AtomicU64::new(0),
        }
    }

    /// Simulated time as this host's runtime has it.
    pub(crate) fn at(&self) -> u64 {
        self.born + u64::try_from(self.epoch.elapsed().as_micros()).expect("a simulation is short")
    }

    /// That time for its runtime.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        self.epoch + Duration::from_micros(at - self.born)
    }

    pub(crate) fn database_time(&self) -> Timestamp {
        self.common.database_time(self.at())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// The process is gone: nothing of it does anything any more, and its runtime is dropped.
    pub(crate) async fn die(&self) -> ! {
        self.dead.store(true, Ordering::SeqCst);
        self.common.book.lock().died(self.number, self.at());
        self.died.notify_one();
        std::future::pending().await
    }

    fn spins(&self) -> bool {
        let now = self.at();
        let mut calls = self.calls.lock();
        *calls = if calls.0 == now { (now, calls.1 + 1) } else { (now, 1) };
        calls.1 > CALLS_MAX
    }

    /// The way to the database and back, with all that can befall a call.
    pub(crate) async fn pass<T, F>(&self, what: &'static str, call: impl FnOnce() -> F + Send) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        if self.is_dead() {
            std::future::pending().await
        }
        if self.spins() {
            self.common.book.lock().odd.push(format!("{} asks the database again and again, and no time passes: {what}", self.name));
            self.die().await
        }
        if self.common.is_calm() {
            return drive(call(), None).unwrap_or_else(|| Err(outage("cut")));
        }
        let fate = Fate::draw(&mut self.common.dice.lock());
        let away = self.away_until.load(Ordering::SeqCst).saturating_sub(self.at());
        if away > 0 {
            // It is refused at once, later, or hangs until the way is there again.
            match fate.lot % 3 {
                0 => tokio::time::sleep(Duration::from_millis(20)).await,
                1 => tokio::time::sleep(Duration::from_millis(700)).await,
                _ => tokio::time::sleep(Duration::from_micros(away)).await,
            }
            if fate.lot % 3 < 2 {
                return Err(outage("cut off"));
            }
        }
        tokio::time::sleep(fate.before).await;
        let told = |how: &str| self.common.note(self.at(), &format!("{} {what}: {how}", self.name));
        match fate.end {
            End::Refused => {
                told("refused");
                return Err(outage("refused"));
            }
            End::DiesBefore => {
                told("dies before it");
                self.die().await
            }
            End::Through | End::DiesAfter | End::AnswerLost | End::Cut { .. } => {}
        }
        let passes = if let End::Cut { passes, .. } = fate.end { Some(passes) } else { None };
        let Some(answer) = drive(call(), passes) else {
            told("cut in the middle");
            if let End::Cut { dies: true, .. } = fate.end {
                self.die().await
            }
            return Err(outage("dropped in the middle"));
        };
        match fate.end {
            End::DiesAfter => {
                told("dies after it");
                self.die().await
            }
            End::AnswerLost => {
                told("the answer is lost");
                tokio::time::sleep(fate.after).await;
                Err(outage("the answer was lost"))
            }
            End::Through | End::Refused | End::DiesBefore | End::Cut { .. } => {
                tokio::time::sleep(fate.after).await;
                answer
            }
        }
    }
}

impl Clock for Life {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(instant(self.at()).as_micros() + self.offset.load(Ordering::SeqCst))
    }
}

/// What the database says when it is away.
fn outage(why: &str) -> StoreError {
    StoreError::Blobs { what: format!("simulated: {why}"), source: std::io::ErrorKind::TimedOut.into() }
}

/// What becomes of a call.
struct Fate {
    before: Duration,
    end: End,
    after: Duration,
    lot: u64,
}

enum End {
    Through,
    Refused,
    AnswerLost,
    /// Dropped after so many of the store's named places.
    Cut {
        passes: u32,
        dies: bool,
    },
    DiesBefore,
    DiesAfter,
}

impl Fate {
    fn draw(dice: &mut Dice) -> Self {
        let wait = |dice: &mut Dice| match dice.below(600) {
            // Longer than a lease, now and then.
            0 => Duration::from_millis(dice.between(500, 6_000)),
            1..150 => Duration::from_millis(dice.between(1, 60)),
            _ => Duration::ZERO,
        };
        let (before, after) = (wait(dice), wait(dice));
        let end = match dice.below(1_200) {
            0..20 => End::Refused,
            20..40 => End::AnswerLost,
            40..65 => End::Cut { passes: u32::try_from(dice.below(24)).unwrap_or(0), dies: dice.one_in(6) },
            65..67 => End::DiesBefore,
            67..70 => End::DiesAfter,
            _ => End::Through,
        };
        Self { before, end, after, lot: dice.next() }
    }
}

/// Brings a call to its end while simulated time stands still; none: it came to where it was to be cut, and was dropped.
pub(crate) fn drive<T>(call: impl Future<Output = T>, passes: Option<u32>) -> Option<T> {
    struct Thread(std::thread::Thread);
    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    here::cut_after(passes);
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    // Else it would count against the task that calls, which cannot yield here.
    let mut call = pin!(tokio::task::unconstrained(call));
    let answer = loop {
        match call.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => break Some(answer),
            Poll::Pending if here::is_cut() => break None,
            Poll::Pending => std::thread::park(),
        }
    };
    here::cut_after(None);
    answer
}

/// Ids as the product makes them, but drawn from the seed.
pub(crate) struct Ids {
    pub(crate) life: Arc<Life>,
    pub(crate) last: Mutex<Ulid>,
}

impl IdSource for Ids {
    fn next(&self) -> Ulid {
        let now_ms = u64::try_from(self.life.now().as_millis()).unwrap_or(0);
        let mut last = self.last.lock();
        *last = if now_ms > last.timestamp_ms() { Ulid::from_parts(now_ms, u128::from(self.life.common.dice.lock().next())) } else { Ulid(last.0 + 1) };
        *last
    }
}
