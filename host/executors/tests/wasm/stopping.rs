//! Everything ends on time, whatever it does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tower_domain::step::{Executor, Signal, StepEnd, Stop};
use tower_executors::wasm::WasmConfig;

use crate::bench::{Bench, FakeHost, config, fatal, on_time, output, retryable, timed, wait_until};
use crate::guests::{CONTROL, DONE, Guest};

#[tokio::test]
async fn w01_an_endless_loop_ends_on_time() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "loop" })).await.timeout_ms(200);
    let (end, took) = timed(bench.run(step)).await;
    assert_eq!(retryable(end).0, "GUEST_TIMEOUT");
    on_time(took, 200);
}

#[tokio::test]
async fn w02_a_loop_in_start_ends_on_time() {
    let bench = Bench::new();
    let guest = Guest::new(DONE).part("(func $for_ever (loop (br 0))) (start $for_ever)").component();
    let step = bench.step(guest, json!({})).await.timeout_ms(200);
    let (end, took) = timed(bench.run(step)).await;
    assert_eq!(retryable(end).0, "GUEST_TIMEOUT");
    on_time(took, 200);
}

#[tokio::test]
async fn w04_a_loop_stops_when_it_is_cancelled_or_released() {
    let bench = Bench::new();
    for (stop, expected) in [(Stop::Cancelled, StepEnd::Cancelled), (Stop::Released, StepEnd::Released)] {
        let host = Arc::new(FakeHost::new());
        let step = bench.probe(json!({ "do": "loop" })).await;
        let running = bench.start(step, &host);
        wait_until("it runs", || bench.executor.free_slots() < 100).await;
        host.stop.send_replace(Some(stop));
        let (end, took) = timed(running).await;
        assert_eq!(end.unwrap(), expected);
        on_time(took, 0);
    }
}

#[tokio::test]
async fn w05_a_step_inside_a_host_call_ends_on_time() {
    let bench = Bench::new();
    for params in [json!({ "do": "nap_in_host", "ms": 60_000 }), json!({ "do": "sleep", "ms": 60_000, "obey": false })] {
        let step = bench.probe(params).await.timeout_ms(150);
        let (end, took) = timed(bench.run(step)).await;
        assert_eq!(retryable(end).0, "GUEST_TIMEOUT");
        on_time(took, 150);
    }
    let host = Arc::new(FakeHost::new());
    let step = bench.probe(json!({ "do": "nap_in_host", "ms": 60_000, "obey": false })).await;
    let running = bench.start(step, &host);
    wait_until("it runs", || bench.executor.free_slots() < 100).await;
    host.stop.send_replace(Some(Stop::Cancelled));
    let (end, took) = timed(running).await;
    assert_eq!(end.unwrap(), StepEnd::Cancelled);
    on_time(took, 0);
}

#[tokio::test]
async fn a_nap_wakes_when_there_is_something_to_hear() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    let step = bench.probe(json!({ "do": "nap_in_host", "ms": 60_000, "obey": false })).await;
    let running = bench.start(step, &host);
    wait_until("it runs", || bench.executor.free_slots() < 100).await;
    host.signal.send_replace(Signal::Cancel("enough".into()));
    let (end, took) = timed(running).await;
    assert_eq!(output(end.unwrap())["reason"], "enough");
    on_time(took, 0);
}

#[tokio::test]
async fn a_step_that_obeys_a_cancel_ends_as_cancelled() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    let step = bench.probe(json!({ "do": "spin", "ms": 60_000 })).await;
    let running = bench.start(step, &host);
    wait_until("it runs", || bench.executor.free_slots() < 100).await;
    host.signal.send_replace(Signal::Cancel("enough".into()));
    assert_eq!(running.await.unwrap(), StepEnd::Cancelled);
}

#[tokio::test]
async fn w23_spinning_on_check_cancel_ends_on_time() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "loop", "ask": true })).await.timeout_ms(200);
    let (end, took) = timed(bench.run(step)).await;
    assert_eq!(retryable(end).0, "GUEST_TIMEOUT");
    on_time(took, 200);
}

#[tokio::test]
async fn a_step_that_uses_up_its_cpu_time_ends_before_its_timeout() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "loop" })).await.spec("resource_profile", json!({ "cpu_ms": 100 }));
    let (code, message) = fatal(bench.run(step).await);
    assert!(code == "GUEST_CPU_LIMIT" && message.contains("100 ms"), "{code} {message}");
}

#[tokio::test]
async fn waiting_uses_no_cpu_time() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "nap_in_host", "ms": 300 })).await.spec("resource_profile", json!({ "cpu_ms": 100 }));
    assert_eq!(output(bench.run(step).await)["signal"], "go-on");
}

#[tokio::test]
async fn busy_steps_share_one_thread_and_none_is_late() {
    let bench = Bench::with(WasmConfig { guest_threads: 1, ..config() });
    let mut running = Vec::new();
    for _ in 0..4 {
        let step = bench.probe(json!({ "do": "loop" })).await.timeout_ms(2_000);
        running.push(bench.start(step, &Arc::new(FakeHost::new())));
    }
    let begin = Instant::now();
    let step = bench.probe(json!({ "do": "echo", "value": 1 })).await;
    assert_eq!(output(bench.run(step).await), json!(1));
    assert!(running.iter().all(|run| !run.is_finished()), "a small step waited {:?} for busy ones", begin.elapsed());
    for run in running {
        assert_eq!(retryable(run.await.unwrap()).0, "GUEST_TIMEOUT");
    }
    assert!(begin.elapsed() < Duration::from_secs(6), "one after the other they take eight seconds, and took {:?}", begin.elapsed());
}

#[tokio::test]
async fn w31_more_steps_than_slots_wait_and_do_not_fail() {
    let bench = Bench::with(WasmConfig { slots: 2, ..config() });
    let mut running = Vec::new();
    for _ in 0..6 {
        let step = bench.probe(json!({ "do": "nap_in_host", "ms": 50 })).await.timeout_ms(5_000);
        running.push(bench.start(step, &Arc::new(FakeHost::new())));
    }
    for run in running {
        assert_eq!(output(run.await.unwrap())["signal"], "go-on");
    }
    assert_eq!(bench.executor.free_slots(), 2);
}

#[tokio::test]
async fn a_step_that_waits_for_a_slot_can_be_stopped() {
    let bench = Bench::with(WasmConfig { slots: 1, ..config() });
    let (first, second) = (Arc::new(FakeHost::new()), Arc::new(FakeHost::new()));
    let holds = bench.start(bench.probe(json!({ "do": "loop" })).await, &first);
    wait_until("the slot is taken", || bench.executor.free_slots() == 0).await;
    let waits = bench.start(bench.probe(json!({ "do": "loop" })).await, &second);
    second.stop.send_replace(Some(Stop::Released));
    assert_eq!(waits.await.unwrap(), StepEnd::Released);
    first.stop.send_replace(Some(Stop::Cancelled));
    assert_eq!(holds.await.unwrap(), StepEnd::Cancelled);
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_any_more_ends() {
    let bench = Bench::new();
    let running = bench.start(bench.probe(json!({ "do": "loop" })).await, &Arc::new(FakeHost::new()));
    wait_until("it runs", || bench.executor.free_slots() < 100).await;
    running.abort();
    wait_until("its slot is free", || bench.executor.free_slots() == 100).await;
}

#[tokio::test]
async fn a_shutdown_releases_what_runs_and_what_comes() {
    let bench = Bench::new();
    let running = bench.start(bench.probe(json!({ "do": "loop" })).await, &Arc::new(FakeHost::new()));
    wait_until("it runs", || bench.executor.free_slots() < 100).await;
    bench.executor.shutdown().await;
    assert_eq!(running.await.unwrap(), StepEnd::Released);
    let late = crate::bench::step(&bench.put(crate::bench::probe()), json!({ "do": "echo" }));
    assert_eq!(bench.run(late).await, StepEnd::Released);
    bench.executor.shutdown().await;
}

#[tokio::test]
async fn the_ticker_wakes_up_after_it_slept() {
    let bench = Bench::with(WasmConfig { tick: Duration::from_millis(1), ..config() });
    for _ in 0..2 {
        // A hundred ticks without work send it to sleep.
        crate::bench::wait_until("the ticker to sleep", || bench.executor.is_at_rest()).await;
        let step = bench.probe(json!({ "do": "loop" })).await.timeout_ms(100);
        let (end, took) = timed(bench.run(step)).await;
        assert_eq!(retryable(end).0, "GUEST_TIMEOUT");
        on_time(took, 100);
    }
}

#[tokio::test]
async fn a_sleep_of_all_eternity_is_a_sleep() {
    let bench = Bench::new();
    let guest = Guest::new("(call $sleep (i64.const -1) (i32.const 3072)) (i32.const 1024)")
        .import(&format!(r#"(import "{CONTROL}" "sleep" (func $sleep (param i64 i32)))"#))
        .component();
    let step = bench.step(guest, json!({})).await.timeout_ms(100);
    let (end, took) = timed(bench.run(step)).await;
    assert_eq!(retryable(end).0, "GUEST_TIMEOUT");
    on_time(took, 100);
}

#[tokio::test]
async fn a_dropped_executor_leaves_no_thread_behind() {
    // In a process of its own: threads are counted for a whole process, and other tests make some as well.
    if std::env::var_os("TOWER_TEST_ALONE").is_none() {
        let this = std::env::current_exe().unwrap();
        let alone = std::process::Command::new(this)
            .args(["--exact", "stopping::a_dropped_executor_leaves_no_thread_behind"])
            .env("TOWER_TEST_ALONE", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .flatten()
            .filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("tower-")))
            .count()
    };
    let bench = Bench::new();
    wait_until("the threads have started", || threads() >= 2).await;
    let step = bench.probe(json!({ "do": "echo" })).await;
    let _ = bench.executor.run(step.build(), Arc::new(FakeHost::new())).await;
    drop(bench);
    wait_until("no thread is left", || threads() == 0).await;
}
