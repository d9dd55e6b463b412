//! Faults for tests: named places where the process can be made to die, fail or wait, and guards that can be switched off.
//!
//! Only builds with debug assertions have them. In a release build [`COMPILED`] is false, so that nothing here is ever asked: the
//! places are empty, every guard is on, and the two variables mean nothing.
//!
//! `TOWER_FAULT` holds rules, with commas between them; the tests walk [`Point::ALL`], so that no place is forgotten:
//!
//! ```text
//! tasks_written:abort          dies at the first pass
//! tasks_written:abort@3        dies at the third
//! renewing:fail@1-4            fails at the first four
//! step_ended:delay=2s          waits at every pass; fails at every pass likewise
//! step_begun[poison]:abort     only passes of the task with this key count
//! ```
//!
//! `TOWER_GUARD_OFF` names [`Guard`]s, with commas between them.
//!
//! A simulation runs many databases in one process, each on a thread of its own: [`here`] is what it orders for that thread alone.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tower_domain::word_enum;

use crate::StoreError;

/// Whether this build has faults at all.
pub const COMPILED: bool = cfg!(debug_assertions);

word_enum! {
    /// A named place.
    pub enum Point {
        /// A migration was applied, and the next was not.
        MigrationApplied = "migration_applied",
        /// Bytes are in a file, which has not got its name.
        BlobWritten = "blob_written",
        /// The file has its name, and no row speaks of it.
        BlobPlaced = "blob_placed",
        /// A module's row is written, its tag's is not.
        ModuleWritten = "module_written",
        /// A definition's row is written, that of its version is not.
        DefinitionWritten = "definition_written",
        /// A batch is about to be applied. Can fail, as if the database were away.
        Committing = "committing",
        /// A cancel's order is written, what it does to tasks is not.
        OrderWritten = "order_written",
        /// Claims of a host that died are taken back, with more of them to come perhaps.
        ClaimsTakenBack = "claims_taken_back",
        /// A batch's new traces are written, their roots are not.
        TracesWritten = "traces_written",
        /// New tasks are written: children, and their parents know nothing of them.
        ChildrenWritten = "children_written",
        /// Tasks are written, with the counters of parents; the queue is not.
        TasksWritten = "tasks_written",
        /// The queue is written; the events are not.
        QueueWritten = "queue_written",
        /// Events are written; the attempts are not.
        EventsWritten = "events_written",
        /// Attempts are written; the counters of traces are not.
        AttemptsWritten = "attempts_written",
        /// Schedules have moved on, and which instants fired is not written.
        SchedulesWritten = "schedules_written",
        /// Everything is written, and nothing is durable.
        BatchWritten = "batch_written",
        /// Everything is durable, and nobody was told.
        Committed = "committed",
        /// A claim is durable, and its step has not begun.
        Claimed = "claimed",
        /// A step's code is about to run, and the crash journal has it.
        StepBegun = "step_begun",
        /// A running step has staged children.
        Splitting = "splitting",
        /// A running aggregation asks for results.
        Folding = "folding",
        /// A step has come to its result, and nobody was told.
        StepEnded = "step_ended",
        /// Leases are about to be renewed. Can fail: they are not.
        Renewing = "renewing",
    }
}

word_enum! {
    /// What keeps results from being lost or doubled, as far as tests can do without it.
    pub enum Guard {
        /// Outcomes and reports of a claim that was overtaken are refused.
        Fence = "fence",
        /// A batch is one transaction.
        Atomic = "atomic",
        /// A caller's key begins one trace, and an outside event's id one event.
        Dedupe = "dedupe",
        /// Of those who found the same instant of a schedule due, one fires it.
        CronOnce = "cron_once",
        /// What has ended stays as it is, even where the claim that ended it tells so again.
        Terminal = "terminal",
    }
}

/// What a rule does to those who pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Abort,
    Fail,
    Delay(Duration),
}

#[derive(Debug)]
struct Rule {
    point: Point,
    key: Option<String>,
    action: Action,
    passes: RangeInclusive<u64>,
    passed: AtomicU64,
}

#[derive(Debug, Default)]
struct Armed {
    rules: Vec<Rule>,
    off: Vec<Guard>,
}

fn armed() -> &'static Armed {
    static ARMED: OnceLock<Armed> = OnceLock::new();
    ARMED.get_or_init(|| {
        let text = |name| std::env::var(name).unwrap_or_default();
        let armed = Armed::parse(&text("TOWER_FAULT"), &text("TOWER_GUARD_OFF"));
        armed.unwrap_or_else(|error| {
            // A test that means nothing must not pass.
            tracing::error!("TOWER_FAULT or TOWER_GUARD_OFF: {error}");
            std::process::abort()
        })
    })
}

/// Reads the variables, and says so if they change anything.
pub fn announce() {
    if COMPILED {
        let Armed { rules, off } = armed();
        if !(rules.is_empty() && off.is_empty()) {
            tracing::warn!(rules = rules.len(), guards_off = ?off, "this host has faults on order: it is for tests");
        }
    }
}

/// Whether a guard is to do its work.
pub fn is_on(guard: Guard) -> bool {
    !COMPILED || !(armed().off.contains(&guard) || here::is_off(guard))
}

/// Whether anything is on order at a place.
pub fn is_armed(point: Point) -> bool {
    COMPILED && (armed().rules.iter().any(|rule| rule.point == point) || here::is_armed())
}

/// Passes a place. An error is what a place that can fail answers; others have no use for it.
pub async fn point(point: Point) -> Result<(), StoreError> {
    point_of(point, "").await
}

/// Passes a place on behalf of the task with this key.
pub async fn point_of(point: Point, key: &str) -> Result<(), StoreError> {
    if !COMPILED {
        return Ok(());
    }
    if here::cuts() {
        // Whoever ordered it drops what waits here.
        std::future::pending::<()>().await;
    }
    let orders = armed().pass(point, key);
    // Even the shortest sleep waits for the clock's next tick.
    if !orders.delay.is_zero() {
        tokio::time::sleep(orders.delay).await;
    }
    orders.carry_out(point)
}

/// Passes a place where nothing can be awaited.
pub fn point_now(point: Point) -> Result<(), StoreError> {
    if !COMPILED {
        return Ok(());
    }
    let orders = armed().pass(point, "");
    std::thread::sleep(orders.delay);
    orders.carry_out(point)
}

/// Faults of this thread alone. In a release build they change nothing.
pub mod here {
    use super::{Guard, RefCell};

    #[derive(Default)]
    struct Here {
        off: Option<Guard>,
        /// Places that are still passed before the next one is where it ends.
        passes: Option<u32>,
        is_cut: bool,
    }

    thread_local! {
        static HERE: RefCell<Here> = RefCell::default();
    }

    /// Switches one guard off, or all on again.
    pub fn switch_off(guard: Option<Guard>) {
        HERE.with_borrow_mut(|here| here.off = guard);
    }

    /// Has what passes places from now on pass so many and never get on from the next, as if nobody polled it any more; none: nothing
    /// is cut.
    pub fn cut_after(passes: Option<u32>) {
        HERE.with_borrow_mut(|here| (here.passes, here.is_cut) = (passes, false));
    }

    /// Whether something was cut, and waits to be dropped.
    pub fn is_cut() -> bool {
        HERE.with_borrow(|here| here.is_cut)
    }

    pub(super) fn is_off(guard: Guard) -> bool {
        HERE.with_borrow(|here| here.off == Some(guard))
    }

    pub(super) fn is_armed() -> bool {
        HERE.with_borrow(|here| here.passes.is_some())
    }

    pub(super) fn cuts() -> bool {
        HERE.with_borrow_mut(|here| {
            match &mut here.passes {
                None => return false,
                Some(0) => here.is_cut = true,
                Some(left) => *left -= 1,
            }
            here.is_cut
        })
    }
}

/// What all rules together want of one pass.
#[derive(Debug, Default, PartialEq, Eq)]
struct Orders {
    delay: Duration,
    fail: bool,
    abort: bool,
}

impl Orders {
    fn carry_out(self, point: Point) -> Result<(), StoreError> {
        if self.abort {
            std::process::abort();
        }
        if self.fail {
            return Err(sqlx::Error::Io(std::io::Error::other(format!("fault at {point}, as ordered"))).into());
        }
        Ok(())
    }
}

impl Armed {
    fn parse(rules: &str, off: &str) -> Result<Self, String> {
        let words = |text: &str| text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let rules = words(rules).into_iter().map(|text| Rule::parse(&text).ok_or_else(|| format!("`{text}` is no rule")));
        let off = words(off).into_iter().map(|word| word.parse::<Guard>().map_err(|error| error.to_string()));
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, off: off.collect::<Result<_, _>>()? })
    }

    fn pass(&self, point: Point, key: &str) -> Orders {
        let mut orders = Orders::default();
        for rule in self.rules.iter().filter(|rule| rule.point == point && rule.key.as_ref().is_none_or(|wanted| wanted == key)) {
            let pass = rule.passed.fetch_add(1, Ordering::SeqCst) + 1;
            if rule.passes.contains(&pass) {
                match rule.action {
                    Action::Abort => orders.abort = true,
                    Action::Fail => orders.fail = true,
                    Action::Delay(delay) => orders.delay += delay,
                }
            }
        }
        orders
    }
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let (place, order) = text.split_once(':')?;
        let (name, key) = match place.split_once('[') {
            Some((name, key)) => (name, Some(key.strip_suffix(']')?.to_owned())),
            None => (place, None),
        };
        let (what, passes) = match order.split_once('@') {
            Some((what, passes)) => (what, Some(passes)),
            None => (order, None),
        };
        let action = match what.split_once('=') {
            None if what == "abort" => Action::Abort,
            None if what == "fail" => Action::Fail,
            Some(("delay", time)) => Action::Delay(match time.strip_suffix("ms") {
                Some(millis) => Duration::from_millis(millis.parse().ok()?),
                None => Duration::from_secs(time.strip_suffix('s')?.parse().ok()?),
            }),
            _ => return None,
        };
        let passes = match passes {
            None => 1..=u64::MAX,
            Some(passes) => {
                let (first, last) = passes.split_once('-').unwrap_or((passes, passes));
                first.parse().ok()?..=last.parse().ok()?
            }
        };
        Some(Self { point: name.parse().ok()?, key, action, passes, passed: AtomicU64::new(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_counts_the_passes_that_it_is_about() {
        let armed = Armed::parse("committed:abort@2, step_begun[bad]:fail@1-2,step_begun:delay=20ms", "fence,dedupe").unwrap();
        assert_eq!(armed.off, [Guard::Fence, Guard::Dedupe]);
        let abort = |armed: &Armed| armed.pass(Point::Committed, "").abort;
        assert_eq!([abort(&armed), abort(&armed), abort(&armed)], [false, true, false]);
        let delay = Duration::from_millis(20);
        assert_eq!(armed.pass(Point::StepBegun, "good"), Orders { delay, ..Orders::default() });
        let fails = |armed: &Armed| armed.pass(Point::StepBegun, "bad").fail;
        assert_eq!([fails(&armed), fails(&armed), fails(&armed)], [true, true, false]);
        assert_eq!(armed.pass(Point::Claimed, "bad"), Orders::default());
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["committed", "committed:die", "nowhere:abort", "committed:abort@x", "committed:delay=5", "claimed[x:abort"] {
            assert!(Armed::parse(text, "").is_err(), "{text}");
        }
        assert!(Armed::parse("", "everything").is_err());
        assert!(Armed::parse("", "").unwrap().rules.is_empty());
    }

    #[test]
    fn only_builds_with_debug_assertions_have_faults() {
        assert_eq!(COMPILED, cfg!(debug_assertions));
        assert!(Guard::ALL.iter().all(|guard| is_on(*guard)));
    }
}
