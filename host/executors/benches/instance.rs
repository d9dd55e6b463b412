//! What a step costs that does nothing: an instance of its own, one call, and the way there and back. Beside it, Wasmtime alone.
//!
//! `cargo bench -p tower-executors`. CPU times: wall times say little on a busy machine.

#[path = "../tests/wasm/bench.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use the rest")]
mod bench;
#[path = "../tests/wasm/guests.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use the rest")]
mod guests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tower_domain::code_ref::ModuleRef;
use tower_domain::step::{Executor, StepEnd};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use bench::{Bench, FakeHost};
use guests::{DONE, Guest};

const RUNS: u32 = 50_000;
/// Steps on their way at the same time.
const AT_ONCE: u32 = 64;

fn main() {
    // `cargo test --benches` only wants to know whether it runs.
    let runs = if std::env::args().any(|argument| argument == "--bench") { RUNS } else { AT_ONCE };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        bare(runs).await;
        let bench = Bench::new();
        executor(&bench, "a step that does nothing (WAT)", Guest::new(DONE).component(), json!({}), runs).await;
        executor(&bench, "the probe's echo (Rust)", bench::probe().to_vec(), json!({ "do": "echo", "value": 1 }), runs).await;
        executor(&bench, "the probe's echo with 100 kB", bench::probe().to_vec(), json!({ "do": "echo", "value": "x".repeat(100_000) }), runs / 10).await;
    });
}

/// The floor: store, instance and call with the sandbox's settings, and neither WASI nor a bound.
async fn bare(runs: u32) {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(100).total_core_instances(100).total_memories(100).total_stacks(100).total_tables(100);
    pool.linear_memory_keep_resident(256 * 1024).pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config.concurrency_support(false).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config).expect("an engine");
    let wit = "package test:t; world w { export run: func(text: string) -> u32; }";
    let core = Guest::new(DONE).core().replace("command-tower:agent/step@0.1.0#run\") (param $task i32)", "run\") (param i32 i32)");
    let component = Component::from_binary(&engine, &guests::encode_wit(&core, wit, "test:t/w")).expect("a component");
    let linker = Linker::<()>::new(&engine);
    let pre = linker.instantiate_pre(&component).expect("nothing is imported");
    let export = component.get_export_index(None, "run").expect("it exports run");
    let measured = Measured::begin();
    for _ in 0..runs {
        let mut store = Store::new(&engine, ());
        let instance = pre.instantiate_async(&mut store).await.expect("an instance");
        let run = instance.get_typed_func::<(&str,), (u32,)>(&mut store, &export).expect("its type");
        run.call_async(&mut store, ("{}",)).await.expect("a result");
    }
    measured.end("Wasmtime alone", runs);
}

async fn executor(bench: &Bench, what: &str, wasm: Vec<u8>, params: serde_json::Value, runs: u32) {
    let module = bench.put(wasm);
    let ModuleRef::Digest(digest) = &module else { unreachable!("put answers with a digest") };
    bench.executor.load(*digest).await.expect("it loads");
    let step = bench::step(&module, params).build();
    let host = Arc::new(FakeHost::new());
    let measured = Measured::begin();
    for _ in 0..runs.div_ceil(AT_ONCE) {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (executor, step, host) = (bench.executor.clone(), step.clone(), host.clone());
            running.spawn(async move { executor.run(step, host).await });
        }
        while let Some(end) = running.join_next().await {
            assert!(matches!(end, Ok(StepEnd::Finished { .. })), "{end:?}");
        }
    }
    measured.end(what, runs.div_ceil(AT_ONCE) * AT_ONCE);
}

struct Measured {
    wall: Instant,
    cpu: Duration,
}

impl Measured {
    fn begin() -> Self {
        Self { wall: Instant::now(), cpu: process_cpu() }
    }

    fn end(self, what: &str, runs: u32) {
        let (wall, cpu) = (self.wall.elapsed() / runs, (process_cpu() - self.cpu) / runs);
        println!("{what:35} {:>8.1} µs CPU {:>8.1} µs wall, {runs} runs", cpu.as_secs_f64() * 1e6, wall.as_secs_f64() * 1e6);
    }
}

fn process_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
