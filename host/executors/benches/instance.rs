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
        let bench = Bench::new();
        let echo = |value: serde_json::Value| json!({ "do": "echo", "value": value });
        let mut rows = Vec::from(bare(runs).await);
        rows.extend(executor(&bench, "the same through the executor", "1.3 w, and 10 µs", Guest::new(DONE).component(), json!({}), runs).await);
        rows.extend(executor(&bench, "the probe's echo, which reads and writes JSON", "", bench::probe().to_vec(), echo(json!(1)), runs).await);
        let much = echo(json!("x".repeat(100_000)));
        rows.extend(executor(&bench, "the probe's echo with 100 kB", "", bench::probe().to_vec(), much, runs / 10).await);
        // For the table that `cargo bench -p command-tower` prints.
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("bench");
        std::fs::create_dir_all(&folder).expect("a folder for figures");
        std::fs::write(folder.join("instance.json"), serde_json::to_vec_pretty(&rows).expect("rows serialise")).expect("a file of figures");
    });
}

/// The floor: store, instance and call with the sandbox's settings, and neither WASI nor a bound.
async fn bare(runs: u32) -> [serde_json::Value; 2] {
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
    measured.end("w: an instance and a call, Wasmtime alone", "", runs)
}

async fn executor(bench: &Bench, what: &str, goal: &str, wasm: Vec<u8>, params: serde_json::Value, runs: u32) -> [serde_json::Value; 2] {
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
    measured.end(what, goal, runs.div_ceil(AT_ONCE) * AT_ONCE)
}

struct Measured {
    wall: Instant,
    cpu: Duration,
}

impl Measured {
    fn begin() -> Self {
        Self { wall: Instant::now(), cpu: process_cpu() }
    }

    /// Rows of the table: time of the processor, and time by the clock.
    fn end(self, what: &str, goal: &str, runs: u32) -> [serde_json::Value; 2] {
        let micros = |time: Duration| (time / runs).as_secs_f64() * 1e6;
        let (wall, cpu) = (micros(self.wall.elapsed()), micros(process_cpu() - self.cpu));
        println!("{what:46} {cpu:>8.1} µs CPU {wall:>8.1} µs wall, {runs} runs");
        let row = |what: &str, figure: f64| json!({ "what": what, "figure": figure, "unit": "µs", "runs": runs, "goal": goal });
        [row(&format!("{what}, processor"), cpu), row(&format!("{what}, by the clock"), wall)]
    }
}

fn process_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
