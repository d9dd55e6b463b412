//! Fetching steps, and working on them.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::client::{Client, Error};
use crate::task::{Outcome, Signal, StepError, Task};
use crate::wire::{Handed, SignalBody};

/// How long one request waits for a step.
const WAIT: Duration = Duration::from_secs(30);
/// How long to wait before a tower that is away is asked again.
const AWAY: Duration = Duration::from_secs(1);
/// How long one request listens for what the outside wants, where there is no lease to keep.
const LISTEN: Duration = Duration::from_secs(30);

/// Fetches steps of a queue.
#[derive(Debug, Clone)]
pub struct Worker {
    tower: String,
    queue: String,
    name: String,
    concurrency: usize,
}

impl Worker {
    /// For steps of `worker://queue` at a tower, such as `http://127.0.0.1:8001`.
    pub fn new(tower: impl Into<String>, queue: impl Into<String>) -> Self {
        let tower: String = tower.into();
        let name = format!("{}-{}", std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".to_owned()), std::process::id());
        Self { tower: tower.trim_end_matches('/').to_owned(), queue: queue.into(), name, concurrency: 1 }
    }

    /// What people call it; else it is made of the host's name and the process's number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Steps that it works on at the same time; 1 at the least.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Works until `stop` ends; then it fetches no more, and what it works on is brought to its end. A tower that is away is asked again.
    pub async fn run<S, F, R>(self, stop: S, step: F) -> Result<(), Error>
    where
        S: Future,
        F: Fn(Task) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Outcome, StepError>> + Send + 'static,
    {
        let client = Client::new()?;
        let (step, places) = (Arc::new(step), Arc::new(Semaphore::new(self.concurrency)));
        let mut working = JoinSet::new();
        tokio::pin!(stop);
        loop {
            while working.try_join_next().is_some() {}
            let fetched = async {
                let place = places.clone().acquire_owned().await;
                (place, client.fetch(&self.tower, &self.queue, &self.name, WAIT).await)
            };
            let (place, fetched) = tokio::select! {
                biased;
                _ = &mut stop => break,
                fetched = fetched => fetched,
            };
            match fetched {
                Ok(Some(handed)) => {
                    let (client, step) = (client.clone(), step.clone());
                    working.spawn(async move {
                        let task = handed.step.task_id.clone();
                        if let Err(error) = keep(client, handed, &*step).await {
                            tracing::warn!(task.id = task, %error, "the end of a step does not count");
                        }
                        drop(place);
                    });
                }
                Ok(None) => {}
                Err(error) if error.may_go_away() => {
                    tracing::warn!(%error, "no step could be fetched");
                    tokio::time::sleep(AWAY).await;
                }
                Err(error) => return Err(error),
            }
        }
        while working.join_next().await.is_some() {}
        Ok(())
    }
}

/// Works on one step that came otherwise, such as by POST, and tells the tower how it ended. An error: that end does not count.
pub async fn work_on<F, R>(handed: Handed, step: F) -> Result<(), Error>
where
    F: Fn(Task) -> R,
    R: Future<Output = Result<Outcome, StepError>>,
{
    keep(Client::new()?, handed, &step).await
}

/// Works on a step as long as it is this worker's. An error: its end does not count.
pub(crate) async fn keep<F, R>(client: Client, handed: Handed, step: &F) -> Result<(), Error>
where
    F: Fn(Task) -> R,
    R: Future<Output = Result<Outcome, StepError>>,
{
    let handed = Arc::new(handed);
    let (tell, signal) = watch::channel(Signal::GoOn);
    let task = Task::new(client.clone(), handed.clone(), signal);
    // A step that panics has failed; the worker goes on.
    let working = AssertUnwindSafe(async { step(task).await }).catch_unwind();
    let ended = tokio::select! {
        biased;
        ended = working => ended.unwrap_or_else(|panic| Err(StepError::retryable("WORKER_PANIC", what_it_said(&*panic)))),
        why = listen(&client, &handed, &tell) => return Err(Error::Over(why)),
    };
    let (call, body) = end_of(ended);
    let url = format!("{}/{call}", handed.attempt.url);
    client.tell_surely(&url, &handed.attempt.token, &body).await.map(|_| ())
}

/// Hears what the outside wants, which keeps the step as well. Ends when the attempt is over.
async fn listen(client: &Client, handed: &Handed, tell: &watch::Sender<Signal>) -> String {
    // Each answer comes at least so often, so that the lease is kept with room for one that gets lost.
    let wait = handed.attempt.lease_ms.map_or(LISTEN, |lease| Duration::from_millis(lease / 3).min(LISTEN));
    loop {
        let heard = if *tell.borrow() == Signal::Pause { "PAUSE" } else { "GO_ON" };
        let url = format!("{}/check-cancel?wait={}ms&heard={heard}", handed.attempt.url, wait.as_millis());
        match client.ask::<SignalBody>(&url, &handed.attempt.token).await {
            Ok(body) => {
                let signal = Signal::from(body);
                let cancelled = matches!(signal, Signal::Cancel(_));
                tell.send_if_modified(|known| {
                    let changed = *known != signal;
                    *known = signal;
                    changed
                });
                if cancelled {
                    // It is heard at once each time; the step has its grace time.
                    tokio::time::sleep(wait.min(AWAY)).await;
                }
            }
            Err(Error::Over(why)) => return why,
            Err(error) => {
                tracing::debug!(%error, "the tower did not say what it wants");
                tokio::time::sleep(AWAY.min(wait)).await;
            }
        }
    }
}

fn what_it_said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the step's code panicked: {}", text.unwrap_or("(no text)"))
}

/// The call that tells of an end, and its body.
fn end_of(ended: Result<Outcome, StepError>) -> (&'static str, Value) {
    match ended {
        Ok(Outcome::Done(output)) => ("complete", json!({ "output": output })),
        Ok(Outcome::Last(output)) => ("complete", json!({ "output": output, "last": true })),
        Ok(Outcome::Paused(carried)) => ("pause", json!({ "carried": carried })),
        Err(StepError::Retryable { code, message }) => ("fail", json!({ "code": code, "message": message })),
        Err(StepError::Fatal { code, message }) => ("fail", json!({ "code": code, "message": message, "retryable": false })),
        Err(StepError::Cancelled) => ("cancelled", json!({})),
        Err(StepError::Released) => ("release", json!({})),
        Err(StepError::Tower(Error::Refused { code, detail, .. })) => ("fail", json!({ "code": code, "message": detail, "retryable": false })),
        Err(StepError::Tower(error)) => ("fail", json!({ "code": "TOWER_UNREACHABLE", "message": error.to_string() })),
        Err(StepError::Json(error)) => ("fail", json!({ "code": "BAD_JSON", "message": error.to_string(), "retryable": false })),
    }
}
