//! Random commands, legal and not, over small trees; the invariants hold after every batch, and what has ended stays as it is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tower_domain::code_ref::Lane;
use tower_domain::control::ControlAction;
use tower_domain::definition::DefinitionSpec;
use tower_domain::event::EventType;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::limit::{Gates, RateLimit};
use tower_domain::schedule::Window;
use tower_domain::split::PlannedChild;
use tower_domain::step::StepFailure;
use tower_domain::task::{ActorType, RunOn, Status, Task};
use tower_store::read::{PageRequest, TaskFilter};
use tower_store::work::{Answer, Claimed, Command, Committed, Expire, NewTrace, Observe, OutsideEvent, RoundEnd, SettledEnd};

use crate::backends::{Backend, sqlite_memory};
use crate::twins::{ask_everything, both};
use crate::world::{HOST, World, definition, inline, json, name, queue};

/// Seeds that are played, each a world of its own. `TOWER_STORE_SEED` plays a single one.
const SEEDS: u64 = 120;

/// The same on both back ends at once, where a world takes longer to make and to look at.
const SEEDS_ON_BOTH: u64 = 10;

/// Batches in a world.
const BATCHES: usize = 40;

/// SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, 2014): small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        if list.is_empty() { None } else { list.get(self.below(list.len())) }
    }
}

struct Game {
    world: World,
    dice: Dice,
    traces: Vec<TraceId>,
    tasks: Vec<(TraceId, TaskId)>,
    /// Every claim there ever was, so that stale ones are played as well.
    claims: Vec<Claimed>,
    /// What had ended, as it was then.
    ended: HashMap<TaskId, Task>,
    events: u64,
    splits: u64,
    /// Traces that were cancelled, and those of them that are not swept yet.
    cancelled: HashSet<TraceId>,
    unswept: Vec<TraceId>,
    /// What definitions say now.
    specs: HashMap<&'static str, DefinitionSpec>,
}

#[tokio::test]
async fn invariants_hold_whatever_is_ordered() {
    play(sqlite_memory, SEEDS).await;
}

#[tokio::test]
async fn both_back_ends_answer_alike_whatever_is_ordered() {
    play(both, SEEDS_ON_BOTH).await;
}

async fn play(backend: impl AsyncFn() -> Backend, seeds: u64) {
    let seeds = match std::env::var("TOWER_STORE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..seeds).collect(),
    };
    for seed in seeds {
        println!("seed {seed}");
        let mut world = World::on(backend().await);
        world.user_max_concurrent = (seed % 3 == 0).then_some(2);
        // Few enough that cancels take several transactions.
        world.cancel_max = 1 + (seed % 4) as u32 * 2;
        let mut game = Game {
            world,
            dice: Dice(seed),
            traces: Vec::new(),
            tasks: Vec::new(),
            claims: Vec::new(),
            ended: HashMap::new(),
            events: 0,
            splits: 0,
            cancelled: HashSet::new(),
            unswept: Vec::new(),
            specs: HashMap::new(),
        };
        game.change_limits().await;
        for _ in 0..BATCHES {
            game.play().await;
        }
        game.ask_everything().await;
        game.come_to_an_end().await;
        game.ask_everything().await;
    }
}

impl Game {
    async fn ask_everything(&self) {
        let tasks: Vec<TaskId> = self.tasks.iter().map(|(_, task)| *task).collect();
        ask_everything(&*self.world.stores.read, &self.traces, &tasks, self.world.now()).await;
    }

    async fn play(&mut self) {
        let mut commands = Vec::new();
        for _ in 0..=self.dice.below(4) {
            commands.extend(self.command());
        }
        if self.dice.below(3) > 0 {
            commands.extend(self.unswept.pop().map(Command::Sweep));
        }
        let many = self.dice.below(6) as u32;
        let claim = (self.dice.below(3) > 0).then(|| self.world.wish(many));
        let pause = self.dice.below(20) as u64;
        self.world.clock.advance(Duration::from_secs(if pause == 0 { 40 } else { pause / 10 }));
        let committed = self.world.batch(commands.clone(), claim).await;
        for (command, answer) in commands.iter().zip(&committed.answers) {
            if let (Command::Control(order), Answer::Ordered { .. }) = (command, answer)
                && (order.action, order.task_id) == (ControlAction::Cancel, None)
            {
                self.cancelled.insert(order.trace_id);
            }
        }
        for claimed in &committed.claimed {
            assert!(!self.cancelled.contains(&claimed.trace_id), "a task of a cancelled trace began: {claimed:#?}");
        }
        self.unswept.extend(&committed.unswept);
        for event in &committed.events {
            if event.from.is_none() && event.to.is_some() {
                self.tasks.push((event.trace_id, event.task_id));
            }
        }
        for answer in &committed.answers {
            if let Answer::Submitted { trace_id, .. } = answer {
                self.traces.push(*trace_id);
            }
        }
        self.claims.extend(committed.claimed);
        if self.dice.below(8) == 0 {
            self.change_limits().await;
        }
        self.nothing_ended_changes().await;
    }

    fn command(&mut self) -> Option<Command> {
        let trace = self.dice.pick(&self.traces).copied();
        let task = self.dice.pick(&self.tasks).copied();
        let claim = if self.dice.below(4) == 0 { self.dice.pick(&self.claims).cloned() } else { self.latest_claim() };
        Some(match self.dice.below(23) {
            0..=2 => Command::Submit(Box::new(NewTrace {
                priority: 1 + self.dice.below(10) as u8,
                max_retries: self.dice.below(3) as u32,
                aggregation: self.policy(),
                window: if self.dice.below(6) == 0 { Window::Nightly } else { Window::Immediate },
                run_after: (self.dice.below(5) == 0).then(|| self.world.now().plus(Duration::from_secs(1))),
                lane: if self.dice.below(5) == 0 { queue("gpu") } else { Lane::Process },
                gates: self.gates("root-def"),
                ..self.world.new_trace()
            })),
            3 => Command::Submit(Box::new(self.world.retry_of(trace?))),
            4 => Command::Control(self.world.order(ControlAction::Cancel, trace?, None)),
            5 => {
                let (trace, task) = task?;
                let trace = if self.dice.below(10) == 0 { self.world.trace_id() } else { trace };
                Command::Control(self.world.order(ControlAction::Cancel, trace, Some(task)))
            }
            6 => Command::Expire(Expire::Overdue),
            7 if self.dice.below(4) == 0 => Command::Expire(Expire::Host { host: HOST.to_owned(), suspects: task.map(|(_, task)| task).into_iter().collect() }),
            7 => Command::Renew {
                host: HOST.to_owned(),
                held: self.claims.iter().map(|claim| claim.task_id).collect(),
                lease: (self.dice.below(2) == 0).then_some(Duration::from_secs(30)),
            },
            8 => {
                let claim = claim?;
                Command::Observe(Observe {
                    task_id: claim.task_id,
                    fence: claim.fence,
                    progress: Some((self.dice.below(120) as u8, "on the way".to_owned())),
                    logs: Vec::new(),
                    partials: vec![(self.world.now(), json("1"))],
                })
            }
            9 => {
                self.events += 1;
                let event_id = format!("e{}", self.dice.below(self.events as usize + 1));
                Command::PostEvent(OutsideEvent { event_id, trace_id: None, task_id: task?.1, event_type: EventType::Completed, progress: None, payload: None })
            }
            10..=12 => {
                let claim = claim?;
                let children = self.children(&claim);
                let round = self.round(&claim);
                self.world.settle(&claim, SettledEnd::Finished { output: inline("\"carried\""), children: children.into(), round })
            }
            13 | 14 => {
                let failure = if self.dice.below(2) == 0 { StepFailure::fatal("BAD", "for good") } else { StepFailure::retryable("SLOW", "this time") };
                let delay = Duration::from_secs(self.dice.below(3) as u64);
                self.world.settle(&claim?, SettledEnd::Failed { failure, delay })
            }
            15 => self.world.settle(&claim?, SettledEnd::Cancelled),
            16 => self.world.settle(&claim?, SettledEnd::Released),
            17 => self.world.settle(&claim?, SettledEnd::Suspended { carried: inline("\"so far\"") }),
            18 | 19 => {
                let action = if self.dice.below(2) == 0 { ControlAction::Pause } else { ControlAction::Run };
                let (trace, task) = task?;
                let task = (self.dice.below(2) == 0).then_some(task);
                Command::Control(self.world.order(action, trace, task))
            }
            _ => self.world.good(&claim?, "1"),
        })
    }

    /// Definitions are limited, in this way or that, or not at all.
    async fn change_limits(&mut self) {
        for id in ["root-def", "child-def"] {
            let mut spec = definition(id).spec.clone();
            let few = 1 + self.dice.below(3) as u32;
            spec.max_concurrent = (self.dice.below(2) == 0).then_some(few);
            spec.concurrency_key = (self.dice.below(2) == 0).then(|| "/n".to_owned());
            spec.code_ref = if self.dice.below(3) == 0 { "worker://gpu" } else { "wasm://probe" }.parse().unwrap();
            spec.rate_limit = (self.dice.below(3) == 0).then_some(RateLimit { max: few, per_sec: 1, burst: None });
            self.world.stores.definitions.put(&name(id), &spec, None, self.world.now()).await.unwrap();
            self.specs.insert(id, spec);
        }
    }

    fn gates(&mut self, id: &'static str) -> Gates {
        let limits = self.specs.get(id).map(DefinitionSpec::limits).unwrap_or_default();
        let params = json(&format!(r#"{{"n":{}}}"#, self.dice.below(2)));
        Gates::of(&name(id), &limits, &params, self.world.user_max_concurrent.map(|_| "ada"))
    }

    /// Now and then a root is that of a LOOP.
    fn round(&mut self, claim: &Claimed) -> Option<RoundEnd> {
        let delay = Duration::from_secs(self.dice.below(3) as u64);
        match (claim.parent_id, self.dice.below(4)) {
            (None, 0) => Some(RoundEnd::Next { delay }),
            // Once a LOOP, always one.
            (None, _) if claim.round_index > 0 => Some(RoundEnd::Last),
            _ => None,
        }
    }

    fn latest_claim(&mut self) -> Option<Claimed> {
        let from = self.claims.len().saturating_sub(8);
        self.dice.pick(&self.claims[from..]).cloned()
    }

    fn policy(&mut self) -> tower_domain::definition::AggregationPolicy {
        use tower_domain::definition::AggregationPolicy::{All, Always, Partial};
        [All, Always, Partial { min_success: 1 }][self.dice.below(3)]
    }

    /// Up to five children, each waiting for some of those before it. A key of an earlier step is never used again.
    fn children(&mut self, claim: &Claimed) -> Vec<PlannedChild> {
        let mut children: Vec<PlannedChild> = Vec::new();
        if claim.depth >= 3 {
            return children;
        }
        self.splits += 1;
        for number in 0..self.dice.below(6) {
            let mut child = self.world.child(claim, &format!("f{}-{number}", self.splits));
            // Nobody depends on an aggregator of all siblings here: it would wait for those that wait for it.
            let before = children.iter().filter(|child| !child.on_all_siblings).map(|child| child.key.clone());
            child.depends_on = before.filter(|_| self.dice.below(3) == 0).collect();
            child.run_on = if self.dice.below(3) == 0 { RunOn::Finished } else { RunOn::Success };
            child.max_retries = self.dice.below(2) as u32;
            child.params = json(&format!(r#"{{"n":{}}}"#, self.dice.below(2)));
            if let Some(spec) = self.specs.get("child-def") {
                Arc::make_mut(&mut child.definition).spec = spec.clone();
            }
            if self.dice.below(6) == 0 {
                child.actor_type = ActorType::GroupAgg;
                child.on_all_siblings = child.depends_on.is_empty();
                child.run_on = RunOn::Finished;
            }
            children.push(child);
        }
        children
    }

    async fn nothing_ended_changes(&mut self) {
        for trace in self.traces.clone() {
            let page = self.world.stores.read.tasks(trace, &TaskFilter::default(), &PageRequest { after: None, limit: 500 }).await.unwrap();
            for task in page.items.into_iter().filter(|task| task.status.is_terminal()) {
                if let Some(before) = self.ended.get(&task.id) {
                    assert_eq!(*before, task);
                } else {
                    self.ended.insert(task.id, task);
                }
            }
        }
    }

    /// Once nobody orders anything odd, everything ends.
    async fn come_to_an_end(&mut self) {
        let resume: Vec<Command> = self.traces.iter().map(|trace| Command::Control(self.world.order(ControlAction::Run, *trace, None))).collect();
        self.world.batch(resume, None).await;
        for _ in 0..500 {
            self.world.clock.advance(Duration::from_secs(60));
            let expire = vec![Command::Expire(Expire::Overdue)];
            let Committed { claimed, unswept, .. } = self.world.batch(expire, Some(self.world.wish(50))).await;
            let mut commands: Vec<Command> = claimed.iter().map(|claimed| self.world.good(claimed, "1")).collect();
            commands.extend(unswept.iter().copied().map(Command::Sweep));
            let committed = self.world.batch(commands, None).await;
            self.nothing_ended_changes().await;
            match committed.next_due {
                None if claimed.is_empty() && unswept.is_empty() => break,
                // Whole days may lie before a night.
                Some(due) if claimed.is_empty() => self.world.clock.advance(due.since(self.world.now())),
                _ => {}
            }
        }
        for trace in &self.traces {
            let trace = self.world.trace(*trace).await;
            assert!(trace.status.is_terminal(), "{trace:#?}");
            assert_ne!(trace.status, Status::Skipped);
        }
    }
}
