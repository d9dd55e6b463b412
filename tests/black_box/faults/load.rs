//! Work that passes every place where a host can die, and a client who keeps a book.

use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Method;
use serde_json::{Value, json};
use tower_store::fault::Guard;

use super::check::ledger_of;
use crate::host::Host;

/// A trace that the client wants. Until it hears of it, it asks again under the same key.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) key: String,
    params: Value,
    /// The trace that was acknowledged.
    pub(crate) trace: Option<String>,
    /// To be cancelled once it is acknowledged; and whether that is still to be done.
    to_cancel: bool,
    cancel: bool,
    /// Tasks that it comes to, and those that are meant to fail; as many are then skipped.
    tasks: u64,
    fails: u64,
}

/// An event that the client reports from outside.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) event_id: String,
    task: String,
    pub(crate) acknowledged: bool,
}

/// What the client asked for, and what it heard.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) wishes: Vec<Wish>,
    pub(crate) reports: Vec<Report>,
}

/// Kinds of traces; each passes other places.
pub(crate) const KINDS: usize = 8;

/// Params of a trace of a kind, about `n` tasks large.
fn params(kind: usize, n: u64) -> Value {
    match kind {
        // Wide, with an aggregator beside the children; no two runs of a child come to the same.
        0 => json!({ "do": "split", "n": n, "params": { "do": "random" }, "group": "probe-group" }),
        1 => json!({ "do": "split", "n": n, "params": { "do": "nap_in_host", "ms": 5 } }),
        2 => json!({ "do": "tree", "width": 3, "depth": 3, "leaf": { "do": "clock" } }),
        // Failures that pass and one that does not, dependents of both, and an order among siblings.
        3 => json!({ "do": "children", "children": [
            { "key": "again", "params": { "do": "retryable", "until": 2, "after_ms": 20 } },
            { "key": "never", "params": { "do": "fatal" } },
            { "key": "skipped", "params": { "do": "random" }, "after": ["never"] },
            { "key": "anyway", "params": { "do": "random" }, "after": ["never", "again"], "finished": true },
            { "key": "after", "params": { "do": "random" }, "after": ["again"] },
            { "key": "told", "params": { "do": "log", "lines": 3 } },
        ] }),
        4 => json!({ "do": "split", "n": n.min(10), "chain": true, "params": { "do": "random" } }),
        5 => json!({ "do": "split", "n": n.min(8), "params": { "do": "random" }, "fold": { "phases": 2, "pace_ms": 2 } }),
        6 => json!({ "do": "split", "n": 2, "params": { "do": "big_output", "bytes": 80_000 } }),
        // To be cancelled: it would go on for a while.
        _ => json!({ "do": "split", "n": n, "params": { "do": "nap_in_host", "ms": 300 } }),
    }
}

impl Book {
    /// Notes a wish for these params.
    pub(crate) fn wish_one(&mut self, params: Value) {
        let tasks = 1 + params["n"].as_u64().unwrap_or(0);
        static KEYS: AtomicU64 = AtomicU64::new(0);
        let key = format!("key-{}", KEYS.fetch_add(1, Ordering::Relaxed));
        self.wishes.push(Wish { key, params, trace: None, to_cancel: false, cancel: false, tasks, fails: 0 });
    }

    /// Notes a wish for a kind.
    pub(crate) fn wish(&mut self, kind: usize, n: u64) {
        self.wish_one(params(kind % KINDS, n));
        if let Some(wish) = self.wishes.last_mut() {
            wish.to_cancel = kind % KINDS == KINDS - 1;
            wish.cancel = wish.to_cancel;
            (wish.tasks, wish.fails) = match kind % KINDS {
                0 => (n + 2, 0),
                2 => (1 + 3 + 9 + 27, 0),
                3 => (7, 1),
                4 => (1 + n.min(10), 0),
                5 => (1 + 2 * n.min(8), 0),
                6 => (3, 0),
                _ => (n + 1, 0),
            };
        }
    }

    /// Notes one of every kind.
    pub(crate) fn wish_all_kinds(&mut self, n: u64) {
        (0..KINDS).for_each(|kind| self.wish(kind, n));
    }

    /// Asks for everything that was not acknowledged; ends early when the host does not answer.
    pub(crate) async fn ask(&mut self, host: &Host) -> Option<()> {
        for wish in self.wishes.iter_mut().filter(|wish| wish.trace.is_none()) {
            let body = json!({ "definition": "probe", "params": wish.params });
            let request = host.request(Method::POST, "/api/v1/traces").header("idempotency-key", &wish.key).json(&body);
            let answer = answer(request).await?;
            wish.trace = Some(answer["trace_id"].as_str()?.to_owned());
            self.reports.push(Report { event_id: format!("event-of-{}", wish.key), task: answer["root_task_id"].as_str()?.to_owned(), acknowledged: false });
        }
        for report in self.reports.iter_mut().filter(|report| !report.acknowledged) {
            let event = json!({ "event_id": report.event_id, "task_id": report.task, "event_type": "PROGRESS", "payload": { "percent": 7 } });
            let verdict = answer(host.request(Method::POST, "/api/v1/events").json(&event)).await?["items"][0]["verdict"].clone();
            // Of a task that has ended it is not kept.
            report.acknowledged = matches!(verdict.as_str()?, "accepted" | "duplicate");
        }
        self.reports.retain(|report| report.acknowledged);
        for wish in self.wishes.iter_mut().filter(|wish| wish.cancel && wish.trace.is_some()) {
            let path = format!("/api/v1/traces/{}/cancel", wish.trace.as_deref()?);
            answer(host.request(Method::POST, &path).json(&json!({ "reason": "enough" }))).await?;
            wish.cancel = false;
        }
        Some(())
    }

    /// Waits until everything that was asked for has ended.
    pub(crate) async fn ended(&self, host: &Host) {
        for wish in &self.wishes {
            host.ended(wish.trace.as_deref().unwrap()).await;
        }
    }

    /// Every trace came to what it would have come to without any fault. Answers how many tasks there are.
    pub(crate) async fn as_it_should_be(&self, host: &Host) -> u64 {
        let mut tasks = 0;
        for wish in &self.wishes {
            let trace = host.ended(wish.trace.as_deref().unwrap()).await;
            let count = |what: &str| trace["counts"][what].as_u64().unwrap();
            tasks += count("total");
            if !wish.to_cancel {
                let expected = (&json!("SUCCESS"), wish.tasks, wish.fails, wish.fails);
                assert_eq!((&trace["status"], count("total"), count("failed"), count("skipped")), expected, "{trace}");
            }
        }
        tasks
    }
}

/// The body of a good answer. None: there was no answer, or the host could not do it.
async fn answer(request: reqwest::RequestBuilder) -> Option<Value> {
    let response = request.send().await.ok()?;
    let status = response.status();
    let body: Value = response.json().await.ok()?;
    assert!(status.is_success() || status.is_server_error(), "{status}: {body}");
    status.is_success().then_some(body)
}

/// A host that writes a ledger, not started.
pub(crate) fn host(args: &[&str]) -> Host {
    let mut host = Host::new(args);
    host.variables = quiet(&host);
    host
}

/// The variables of a host without faults.
pub(crate) fn quiet(host: &Host) -> Vec<(&'static str, String)> {
    vec![("TOWER_LEDGER", ledger_of(host).display().to_string()), ("TOWER_LOG", "off".to_owned())]
}

/// A host that is told to have a fault, and perhaps a guard off, from its next start on.
pub(crate) fn order(host: &mut Host, fault: &str, off: Option<Guard>) {
    host.variables = quiet(host);
    host.variables.push(("TOWER_FAULT", fault.to_owned()));
    host.variables.extend(off.map(|guard| ("TOWER_GUARD_OFF", guard.to_string())));
}
