//! Modules are loaded once, and kept within bounds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::json;
use tower_domain::code_ref::ModuleRef;
use tower_domain::step::Executor;
use tower_executors::wasm::{LoadError, WasmConfig, digest};

use crate::bench::{Bench, FakeHost, config, fatal, output, probe, retryable, step};
use crate::guests::Guest;

#[tokio::test]
async fn steps_that_come_together_load_their_module_once() {
    let bench = Bench::new();
    let module = bench.put(probe());
    let runs: Vec<_> = (0..8).map(|n| bench.start(step(&module, json!({ "do": "echo", "value": n })), &Arc::new(FakeHost::new()))).collect();
    for (n, run) in runs.into_iter().enumerate() {
        assert_eq!(output(run.await.unwrap()), json!(n));
    }
    assert_eq!(bench.shelf.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_tag_that_moves_is_followed() {
    let bench = Bench::new();
    let reference: ModuleRef = "router:latest".parse().unwrap();
    for number in ["1", "2"] {
        let ModuleRef::Digest(digest) = bench.put(Guest::returning(number, 1).component()) else { panic!("a digest") };
        bench.shelf.tags.lock().unwrap().insert(reference.to_string(), digest);
        assert_eq!(output(bench.run(step(&reference, json!({}))).await).to_string(), number);
    }
}

#[tokio::test]
async fn what_was_prepared_at_upload_is_ready_for_the_first_step() {
    let bench = Bench::new();
    let inspection = bench.executor.prepare(Bytes::from_static(probe())).await.unwrap();
    assert_eq!((inspection.digest, inspection.contract.as_str(), inspection.aggregates), (digest(probe()), "0.1.0", true));
    assert_eq!(output(bench.run(step(&bench.put(probe()), json!({ "do": "echo", "value": 1 }))).await), json!(1));
    assert_eq!(bench.shelf.reads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn modules_that_were_not_used_for_longest_make_room() {
    let bench = Bench::with(WasmConfig { modules_max: 2, ..config() });
    let modules: Vec<_> = ["1", "2", "3"].iter().map(|number| bench.put(Guest::returning(number, 1).component())).collect();
    let reads = |order: &'static [usize]| {
        let (bench, modules) = (&bench, &modules);
        async move {
            for index in order {
                assert_eq!(output(bench.run(step(&modules[*index], json!({}))).await), json!(index + 1));
            }
            bench.shelf.reads.load(Ordering::SeqCst)
        }
    };
    assert_eq!(reads(&[0, 1, 0, 1]).await, 2);
    assert_eq!(reads(&[2, 1, 2]).await, 3, "0 made room for 2");
    assert_eq!(reads(&[0]).await, 4);
}

#[tokio::test]
async fn a_module_that_does_not_run_is_refused_once_and_for_good() {
    let bench = Bench::new();
    let module = bench.put(&b"\0asm\x0d\0\x01\0"[..]);
    for _ in 0..2 {
        let (code, message) = fatal(bench.run(step(&module, json!({}))).await);
        assert!(code == "MODULE_INVALID" && message.contains("WORLD_MISMATCH"), "{code} {message}");
    }
    assert_eq!(bench.shelf.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn trouble_with_the_store_is_not_kept() {
    let bench = Bench::new();
    let module = bench.put(probe());
    *bench.shelf.trouble.lock().unwrap() = true;
    assert_eq!(retryable(bench.run(step(&module, json!({ "do": "echo" }))).await).0, "HOST_TROUBLE");
    *bench.shelf.trouble.lock().unwrap() = false;
    assert_eq!(output(bench.run(step(&module, json!({ "do": "echo", "value": 1 }))).await), json!(1));
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_digest_never_run() {
    let bench = Bench::new();
    let wrong = digest(b"something else");
    bench.shelf.modules.lock().unwrap().insert(wrong, Bytes::from_static(probe()));
    let (code, message) = retryable(bench.run(step(&ModuleRef::Digest(wrong), json!({ "do": "echo" }))).await);
    assert!(code == "HOST_TROUBLE" && message.contains("push the module again"), "{code} {message}");
}

#[tokio::test]
async fn a_digest_that_is_not_there_is_unknown() {
    let bench = Bench::new();
    assert!(matches!(bench.executor.load(digest(b"nothing")).await, Err(LoadError::Unknown)));
    let step = step(&ModuleRef::Digest(digest(b"nothing")), json!({})).build();
    assert_eq!(bench.executor.check(&step.definition.spec).await.unwrap_err().code, "MODULE_UNKNOWN");
}
