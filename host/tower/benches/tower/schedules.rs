//! Rows about definitions that fire by themselves.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tower_domain::clock::{Clock, SystemClock, Timestamp};

use crate::host::Host;
use crate::table::Table;

/// Definitions that are put at the same time.
const TOGETHER: usize = 64;

/// What the host does while it has nothing to do: without schedules, and with very many that are not due.
pub(crate) async fn at_rest(table: &mut Table, schedules: u32, rest: Duration) {
    let host = Host::start().await;
    host.install("probe").await;
    let idle = processor(&host, rest).await;
    let before = host.resident_mib();
    // A year from now.
    let begin = Instant::now();
    put(&host, schedules, |_| json!({ "schedule_type": "CRON", "interval_sec": 31_536_000 })).await;
    let rate = f64::from(schedules) / begin.elapsed().as_secs_f64();
    table.row(&format!("definitions put over HTTP, {TOGETHER} at a time"), rate, "a second").note(&format!("{schedules} of them"));
    let (after, busy) = (host.resident_mib(), processor(&host, rest).await);
    let row = table.row(&format!("processor in {} s at rest, {schedules} schedules, none due", rest.as_secs()), busy.as_secs_f64(), "s");
    row.note(&format!("without any {:.2} s", idle.as_secs_f64()));
    table.row("  resident memory then", after, "MiB").note(&format!("without any {before:.0} MiB"));
    host.stop().await;
}

/// The time of the processor that the host uses while nobody asks anything of it.
async fn processor(host: &Host, rest: Duration) -> Duration {
    // What was asked of it before has an end of its own.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = host.cpu();
    tokio::time::sleep(rest).await;
    host.cpu() - before
}

/// How late schedules fire of which very many are due: all at one instant, and evenly over a second.
pub(crate) async fn due(table: &mut Table, schedules: u32) {
    let host = Host::start().await;
    host.install("probe").await;
    let mut ahead = Duration::from_secs(10) + Duration::from_millis(4) * schedules;
    for (spread, when) in [(Duration::ZERO, "at one instant"), (Duration::from_secs(1), "over one second")] {
        let (now, begin) = (SystemClock.now(), Instant::now());
        let from = now.plus(ahead);
        let instant = |index: u32| from.plus(spread * index / schedules);
        put(&host, schedules, |index| json!({ "schedule_type": "ONCE", "run_at": instant(index) })).await;
        assert!(SystemClock.now() < from, "putting {schedules} definitions took {:?}, and they were due after {ahead:?}", begin.elapsed());
        // The second time it is known how long it takes.
        ahead = begin.elapsed() * 2 + Duration::from_secs(2);
        let traces = fired(&host, from, schedules).await;
        let late = |field: &str| traces.iter().map(|trace| time(trace, field).since(time(trace, "cron_trigger_time"))).collect();
        table.times(&format!("{schedules} schedules due {when}: trace begun late by"), late("created_at"));
        table.times("  and its one step done by", late("finished_at"));
    }
    host.stop().await;
}

/// All traces of instants from `from` on, once they have ended. Nobody asks the host anything while it fires.
async fn fired(host: &Host, from: Timestamp, wanted: u32) -> Vec<Value> {
    tokio::time::sleep(from.since(SystemClock.now()) + Duration::from_secs(2)).await;
    loop {
        let (mut traces, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = host.ask(Method::GET, &format!("/api/v1/traces?limit=500{cursor}"), None).await;
            let begun = |trace: &&Value| !trace["finished_at"].is_null() && !trace["cron_trigger_time"].is_null() && time(trace, "cron_trigger_time") >= from;
            traces.extend(page["items"].as_array().unwrap().iter().filter(begun).cloned());
            match page["next_cursor"].as_str() {
                Some(next) if traces.len() < wanted as usize => cursor = format!("&cursor={next}"),
                _ => break,
            }
        }
        if traces.len() >= wanted as usize {
            return traces;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn time(trace: &Value, field: &str) -> Timestamp {
    serde_json::from_value(trace[field].clone()).unwrap()
}

/// Puts definitions that do nothing when they fire.
async fn put(host: &Host, count: u32, schedule: impl Fn(u32) -> Value) {
    let puts = stream::iter(0..count).map(|index| {
        let mut spec = json!({ "actor_type": "EXECUTION", "code_ref": "wasm://probe", "default_params": { "do": "echo", "value": 1 } });
        spec.as_object_mut().unwrap().extend(schedule(index).as_object().unwrap().clone());
        async move { host.ask(Method::PUT, &format!("/api/v1/definitions/s{index}"), Some(spec)).await }
    });
    puts.buffer_unordered(TOGETHER).for_each(|_| async {}).await;
}
