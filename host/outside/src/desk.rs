//! Attempts that are under way outside. An executor opens one, hands its token out, and waits for the end that somebody gives it; whoever
//! has the token reaches the step's host through it, and nothing else.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tower_domain::id::TaskId;
use tower_domain::step::{Settled, Step, StepEnd, StepHost};

use crate::wire::{AttemptBody, Handed, StepBody};

/// What every token begins with, so that one that leaked is recognised.
pub const TOKEN_PREFIX: &str = "att_";

/// Ends that are remembered, so that whoever did not hear the answer may ask again.
const REMEMBERED: usize = 4_096;

/// Why a call about an attempt is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such attempt here, or the token is another's.
    #[error("this is no token of an attempt at this task")]
    Unknown,
    /// The attempt has ended: the task has moved on.
    #[error("the attempt is over: it was ended, it took too long, or the task was given to somebody else")]
    Over,
}

type Hash = [u8; 32];

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

enum State {
    Open,
    /// Somebody ended it.
    Given(StepEnd),
    /// It came to its end in another way.
    Closed,
}

/// An attempt that is under way, or was a moment ago.
pub struct Attempt {
    step: Arc<Step>,
    host: Arc<dyn StepHost>,
    token: Hash,
    state: Mutex<State>,
    given: Notify,
    heard: Mutex<Instant>,
    settled: watch::Sender<Option<Settled>>,
}

impl Attempt {
    /// What is attempted.
    pub fn step(&self) -> &Arc<Step> {
        &self.step
    }

    /// What the step may ask.
    pub fn host(&self) -> &Arc<dyn StepHost> {
        &self.host
    }

    /// Whoever holds it has said something.
    pub fn touch(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Ends it, and waits until that is durable or refused. The same end twice is one end.
    pub async fn end(&self, end: StepEnd) -> Result<Settled, Refused> {
        {
            let mut state = self.state.lock();
            match &*state {
                State::Open => {
                    *state = State::Given(end);
                    self.given.notify_waiters();
                }
                State::Given(given) if *given == end => {}
                State::Given(_) | State::Closed => return Err(Refused::Over),
            }
        }
        let mut settled = self.settled.subscribe();
        let answer = settled.wait_for(Option::is_some).await;
        Ok(answer.ok().and_then(|answer| *answer).unwrap_or(Settled::Unknown))
    }

    fn given(&self) -> Option<StepEnd> {
        match &*self.state.lock() {
            State::Given(end) => Some(end.clone()),
            State::Open | State::Closed => None,
        }
    }
}

/// An end that is over.
struct Remembered {
    task: TaskId,
    token: Hash,
    end: Option<Hash>,
    settled: Settled,
}

#[derive(Default)]
struct Inner {
    /// Under way, or ended and not settled yet.
    attempts: HashMap<TaskId, Arc<Attempt>>,
    over: VecDeque<Remembered>,
}

/// All attempts of a host that are under way outside.
#[derive(Default)]
pub struct Desk {
    inner: Mutex<Inner>,
}

/// What a caller found.
pub enum Found {
    /// An attempt that is under way, or whose end is being settled.
    Open(Arc<Attempt>),
    /// One that is over, with what became of it.
    Over(Over),
}

/// An attempt that is over.
pub struct Over {
    end: Option<Hash>,
    settled: Settled,
}

impl Over {
    /// The answer to whoever gives this end once more: the same as the first time.
    pub fn again(&self, end: &StepEnd) -> Result<Settled, Refused> {
        if self.end == Some(of_end(end)) { Ok(self.settled) } else { Err(Refused::Over) }
    }
}

fn of_end(end: &StepEnd) -> Hash {
    hash(&format!("{end:?}"))
}

impl Desk {
    /// Opens an attempt at a step, and makes its token. It is closed when what is answered is dropped.
    pub fn open(self: &Arc<Self>, step: Arc<Step>, host: Arc<dyn StepHost>) -> Opened {
        let bytes: [u8; 32] = rand::random();
        let token = bytes.iter().fold(TOKEN_PREFIX.to_owned(), |token, byte| format!("{token}{byte:02x}"));
        let attempt = Arc::new(Attempt {
            step,
            host,
            token: hash(&token),
            state: Mutex::new(State::Open),
            given: Notify::new(),
            heard: Mutex::new(Instant::now()),
            settled: watch::Sender::new(None),
        });
        // An attempt at the same task before this one is over in any case: its claim is.
        let before = self.inner.lock().attempts.insert(attempt.step.task_id, attempt.clone());
        if let Some(before) = before {
            self.forget(&before, Settled::Unknown);
        }
        Opened { desk: self.clone(), attempt, token }
    }

    /// The attempt that a token is for.
    pub fn find(&self, task: TaskId, token: &str) -> Result<Found, Refused> {
        let token = hash(token);
        let inner = self.inner.lock();
        // Hashes are compared, so that the time that it takes tells nothing of the token.
        if let Some(attempt) = inner.attempts.get(&task).filter(|attempt| attempt.token == token) {
            return if matches!(*attempt.state.lock(), State::Closed) { Err(Refused::Over) } else { Ok(Found::Open(attempt.clone())) };
        }
        let over = inner.over.iter().find(|over| over.task == task && over.token == token).ok_or(Refused::Unknown)?;
        Ok(Found::Over(Over { end: over.end, settled: over.settled }))
    }

    /// The task whose attempt a token is for.
    pub fn task_of(&self, token: &str) -> Option<TaskId> {
        let token = hash(token);
        let inner = self.inner.lock();
        let open = inner.attempts.values().find(|attempt| attempt.token == token).map(|attempt| attempt.step.task_id);
        open.or_else(|| inner.over.iter().find(|over| over.token == token).map(|over| over.task))
    }

    /// Whether this host knows of an attempt at the task: if not, another may.
    pub fn knows(&self, task: TaskId) -> bool {
        let inner = self.inner.lock();
        inner.attempts.contains_key(&task) || inner.over.iter().any(|over| over.task == task)
    }

    /// Attempts that are under way.
    pub fn open_attempts(&self) -> usize {
        self.inner.lock().attempts.len()
    }

    /// What became of the end of an attempt.
    pub fn settled(&self, task: TaskId, fence: u64, settled: Settled) {
        let attempt = {
            let mut inner = self.inner.lock();
            match inner.attempts.get(&task) {
                Some(attempt) if attempt.step.fence == fence => inner.attempts.remove(&task),
                Some(_) | None => None,
            }
        };
        if let Some(attempt) = attempt {
            self.forget(&attempt, settled);
        }
    }

    fn forget(&self, attempt: &Attempt, settled: Settled) {
        let end = attempt.given().as_ref().map(of_end);
        {
            let mut inner = self.inner.lock();
            if inner.over.len() >= REMEMBERED {
                inner.over.pop_front();
            }
            inner.over.push_back(Remembered { task: attempt.step.task_id, token: attempt.token, end, settled });
        }
        attempt.settled.send_replace(Some(settled));
    }
}

/// An attempt that an executor has opened.
pub struct Opened {
    desk: Arc<Desk>,
    attempt: Arc<Attempt>,
    token: String,
}

impl Deref for Opened {
    type Target = Attempt;
    fn deref(&self) -> &Attempt {
        &self.attempt
    }
}

impl Opened {
    /// What its code shows with every call.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What its code is handed. `base` is where the API is, such as `http://127.0.0.1:8001`.
    pub fn handed(&self, base: &str, lease: Option<Duration>) -> Handed {
        let url = format!("{base}/api/v1/attempts/{}", self.attempt.step.task_id);
        let lease_ms = lease.map(|lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        Handed { attempt: AttemptBody { url, token: self.token.clone(), lease_ms }, step: StepBody::from(&*self.attempt.step) }
    }

    /// Ends when somebody with the token has ended it.
    pub async fn ended(&self) -> StepEnd {
        loop {
            let given = self.attempt.given.notified();
            tokio::pin!(given);
            // Registered before looking, so that no end falls between the two.
            given.as_mut().enable();
            if let Some(end) = self.attempt.given() {
                return end;
            }
            given.await;
        }
    }

    /// Ends when nothing was heard for so long.
    pub async fn silent_for(&self, lease: Duration) {
        loop {
            let until = *self.attempt.heard.lock() + lease;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// The end that counts: the one that was given, if one was before it is closed; else this one.
    pub fn close(&self, otherwise: StepEnd) -> StepEnd {
        let mut state = self.attempt.state.lock();
        match &*state {
            State::Given(end) => end.clone(),
            State::Open | State::Closed => {
                *state = State::Closed;
                otherwise
            }
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // An end that was given waits for its settlement; everything else is over now.
        let given = {
            let mut state = self.attempt.state.lock();
            if let State::Open = *state {
                *state = State::Closed;
            }
            matches!(*state, State::Given(_))
        };
        if !given {
            self.desk.settled(self.attempt.step.task_id, self.attempt.step.fence, Settled::Refused);
        }
    }
}
