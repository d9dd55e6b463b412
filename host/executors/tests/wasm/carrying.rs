//! Work of the host's that is carried on the threads of steps.

use std::sync::Arc;
use std::thread::{self, Thread};

use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tower_domain::step::Executor;

use crate::bench::{Bench, FakeHost, output};

fn is_for_guests(thread: &Thread) -> bool {
    thread.name().is_some_and(|name| name.starts_with("tower-guest"))
}

#[tokio::test]
async fn what_is_carried_runs_on_threads_for_guests_and_is_at_home_where_it_came_from() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "echo", "value": 1 })).await.build();
    let (home, executor) = (Handle::current().id(), bench.executor.clone());
    let (send, seen) = oneshot::channel();
    let work = async move {
        let (before, at_home) = (thread::current(), Handle::current().id() == home);
        let end = executor.run(step, Arc::new(FakeHost::new())).await;
        let _ = send.send((before, at_home, thread::current(), Handle::current().id() == home, end));
    };
    assert!(bench.executor.carry(Box::pin(work)).is_none(), "it has threads of its own");
    let (before, home_before, after, home_after, end) = seen.await.unwrap();
    assert_eq!(output(end), json!(1));
    assert!(is_for_guests(&before) && is_for_guests(&after), "{before:?} {after:?}");
    assert_eq!(before.id(), after.id(), "a step that waits for nothing ends on the thread where it began");
    assert!(home_before && home_after, "what the host makes belongs to the host's runtime");
}
