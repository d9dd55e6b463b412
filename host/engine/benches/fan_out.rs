//! Fan-out and join of steps that do nothing, on a durable SQLite file: what the engine and the store cost by themselves.
//!
//! `cargo bench -p tower-engine --bench fan_out [-- CHILDREN …]`, by default 1 000 and 10 000.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::time::Instant;

use tower_store::sqlite::SqliteOptions;

#[path = "../tests/scripted/mod.rs"]
mod scripted;

#[tokio::main]
async fn main() {
    let mut sizes: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000];
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tower.db");
    let bench = scripted::start(SqliteOptions::file(&path), scripted::config()).await;
    bench.run(r#"{"do":"split","n":100,"of":"nothing"}"#).await;
    let size = || ["", "-wal"].iter().filter_map(|end| std::fs::metadata(format!("{}{end}", path.display())).ok()).map(|meta| meta.len()).sum::<u64>();
    for n in sizes {
        let before = size();
        let begin = Instant::now();
        let trace = bench.run(&format!(r#"{{"do":"split","n":{n},"of":"nothing"}}"#)).await;
        let took = begin.elapsed();
        assert_eq!(trace.counts.success, n + 1);
        println!("{n:>8} children: {took:>10.3?}  {:>8.0} tasks/s  about {} bytes a task", n as f64 / took.as_secs_f64(), size().saturating_sub(before) / n);
    }
    bench.stop().await;
}
