//! Compiling in processes of its own: bombs die there, and nothing but what this host made is ever taken for machine code.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::json;
use tower_executors::wasm::{CompileIn, CompileLimits, LoadError, WasmConfig, WorkerCommand, digest};

use crate::bench::{Bench, config, output, probe, step, wait_until};
use crate::guests::{DONE, Guest, compile_bomb};

/// Enough for what is honest, and soon over for what is not.
const TIGHT: CompileLimits = CompileLimits { memory_bytes: 2 << 30, cpu_sec: 2, image_bytes: 64 << 20 };

fn keeping_images(folder: &Path) -> WasmConfig {
    WasmConfig { images: Some(folder.to_owned()), compile_limits: TIGHT, ..config() }
}

/// Whoever compiles with this fails; whoever does not compile does not notice.
fn unable_to_compile(config: WasmConfig) -> WasmConfig {
    WasmConfig { compile_in: CompileIn::Workers(WorkerCommand { program: "/no/such/compiler".into(), args: Vec::new() }), ..config }
}

async fn refusal(bench: &Bench, wasm: Vec<u8>) -> (&'static str, String) {
    match bench.executor.prepare(Bytes::from(wasm)).await {
        Err(LoadError::Refused(refused)) => (refused.code(), refused.to_string()),
        other => panic!("it is refused, not {other:?}"),
    }
}

async fn trouble(bench: &Bench, wasm: &[u8]) -> String {
    match bench.executor.prepare(Bytes::copy_from_slice(wasm)).await {
        Err(LoadError::Trouble(trouble)) => trouble.to_string(),
        other => panic!("it cannot be compiled, but {other:?}"),
    }
}

/// Workers of this test can be told from those of others by an argument, which they do not heed.
fn called(name: &str, config: WasmConfig) -> WasmConfig {
    let CompileIn::Workers(worker) = config.compile_in else { panic!("workers compile") };
    WasmConfig { compile_in: CompileIn::Workers(WorkerCommand { args: vec![name.into()], ..worker }), ..config }
}

/// The workers of this name that run now.
fn workers(name: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let command = |process: &u32| fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
    processes.filter(|process| command(process).ends_with(&format!("compile-worker\0{name}\0"))).collect()
}

/// Files of this ending below the folder.
fn kept(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let engines = fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let files = engines.flat_map(|engine| fs::read_dir(engine.path()).unwrap().flatten().map(|file| file.path()));
    files.filter(|file| file.extension().is_some_and(|extension| extension == ending)).collect()
}

#[tokio::test]
async fn w43_a_module_that_takes_too_long_to_compile_is_refused_and_stays_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = compile_bomb(3_000, 0);
    let (code, text) = refusal(&Bench::with(keeping_images(folder.path())), bomb.clone()).await;
    assert!(code == "COMPILE_LIMIT" && text.contains("more than 2 s on the processor"), "{code} {text}");
    let again = Bench::with(unable_to_compile(keeping_images(folder.path())));
    assert_eq!(refusal(&again, bomb.clone()).await, (code, text), "the next start knows, and does not compile");
    // With more time it may be another answer.
    let more = CompileLimits { cpu_sec: 3, ..TIGHT };
    let asked_anew = Bench::with(unable_to_compile(WasmConfig { compile_limits: more, ..keeping_images(folder.path()) }));
    assert!(trouble(&asked_anew, &bomb).await.contains("/no/such/compiler"));
}

#[tokio::test]
async fn w43_a_module_that_takes_too_much_memory_to_compile_is_refused() {
    let limits = CompileLimits { memory_bytes: 384 << 20, cpu_sec: 60, ..TIGHT };
    let (code, text) = refusal(&Bench::with(WasmConfig { compile_limits: limits, ..config() }), compile_bomb(4_000, 0)).await;
    assert!(code == "COMPILE_LIMIT" && text.contains("384 MiB of memory"), "{code} {text}");
}

#[tokio::test]
async fn an_image_past_its_bound_is_refused() {
    let limits = CompileLimits { image_bytes: 4_096, ..TIGHT };
    let (code, text) = refusal(&Bench::with(WasmConfig { compile_limits: limits, ..config() }), probe().to_vec()).await;
    assert!(code == "COMPILE_LIMIT" && text.contains("larger than 4096 bytes"), "{code} {text}");
}

/// What this process holds in memory at the most so far, in KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn w44_an_honest_module_is_ready_before_many_bombs_are_answered() {
    let limits = CompileLimits { cpu_sec: 20, ..TIGHT };
    let bench = Bench::with(called("w44", WasmConfig { compiles_at_once: 2, compile_limits: limits, ..config() }));
    let bombs: Vec<_> = (0..3)
        .map(|mark| {
            let executor = bench.executor.clone();
            tokio::spawn(async move { executor.prepare(Bytes::from(compile_bomb(4_000, mark))).await.map(drop) })
        })
        .collect();
    wait_until("bombs to be compiled", || workers("w44").len() == 2).await;
    let most = tokio::spawn(async {
        let mut most = 0;
        loop {
            most = most.max(workers("w44").len());
            tokio::task::yield_now().await;
            if most > 2 {
                return most;
            }
        }
    });
    let before = peak_kib();
    bench.executor.prepare(Bytes::from(Guest::returning("7", 1).component())).await.unwrap();
    assert!(bombs.iter().all(|bomb| !bomb.is_finished()), "the honest one did not wait for them");
    assert!(peak_kib() - before < 32 * 1024, "what the bombs take, this process does not: {} KiB more", peak_kib() - before);
    assert!(!most.is_finished(), "never more than two at a time");
    bombs.iter().for_each(tokio::task::JoinHandle::abort);
    most.abort();
    bench.executor.shutdown().await;
}

#[tokio::test]
async fn w44_uploads_beyond_those_that_may_wait_are_turned_away_and_nothing_is_kept_of_them() {
    let limits = CompileLimits { cpu_sec: 60, ..TIGHT };
    let bench = Bench::with(WasmConfig { compiles_at_once: 2, compile_limits: limits, ..config() });
    let mut uploads = tokio::task::JoinSet::new();
    for mark in 0..7 {
        let executor = bench.executor.clone();
        uploads.spawn(async move { executor.prepare(Bytes::from(compile_bomb(4_000, mark))).await.map(drop) });
    }
    // One is compiled in the long lane and four wait for it, so that the first to be answered is one that may not wait.
    let first = uploads.join_next().await.unwrap().unwrap();
    assert!(matches!(first, Err(LoadError::Busy)), "{first:?}");
    bench.executor.shutdown().await;
}

#[tokio::test]
async fn f09_a_worker_that_is_killed_is_not_the_modules_fault() {
    let bench = Bench::with(called("f09", config()));
    let executor = bench.executor.clone();
    let upload = tokio::spawn(async move { executor.prepare(Bytes::from(compile_bomb(2_500, 9))).await.map(drop) });
    wait_until("a worker", || workers("f09").len() == 1).await;
    let killed = std::process::Command::new("kill").args(["-9", &workers("f09")[0].to_string()]).status().unwrap();
    assert!(killed.success());
    assert!(matches!(upload.await.unwrap(), Err(LoadError::Trouble(_))));
    output(bench.run(bench.probe(json!({ "do": "echo", "value": 1 })).await).await);
}

#[tokio::test]
async fn a_compilation_goes_on_when_who_asked_for_it_goes_away() {
    let bench = Bench::with(called("gone", config()));
    let module = bench.put(probe());
    let executor = bench.executor.clone();
    let asking = tokio::spawn(async move { executor.prepare(Bytes::from_static(probe())).await.map(drop) });
    wait_until("a worker", || !workers("gone").is_empty()).await;
    asking.abort();
    output(bench.run(step(&module, json!({ "do": "echo", "value": 1 }))).await);
    assert_eq!(bench.shelf.reads.load(Ordering::SeqCst), 0, "its bytes were not asked for a second time");
}

#[tokio::test]
async fn images_are_kept_from_one_start_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let first = Bench::with(keeping_images(folder.path()));
    let inspection = first.executor.prepare(Bytes::from_static(probe())).await.unwrap();
    let next = Bench::with(unable_to_compile(keeping_images(folder.path())));
    assert_eq!(next.executor.prepare(Bytes::from_static(probe())).await.unwrap(), inspection);
    let module = next.put(probe());
    assert_eq!(output(next.run(step(&module, json!({ "do": "echo", "value": 5 }))).await), json!(5));
    assert_eq!(next.shelf.reads.load(Ordering::SeqCst), 0, "not even the module's bytes are read");
}

#[tokio::test]
async fn w35_an_image_that_this_host_did_not_make_is_never_used() {
    let honest = Guest::new(DONE).component();
    let other = Guest::returning("666", 3).component();
    type Tamper = fn(image: &Path, entry: &Path, of_other: (&Path, &Path));
    let ways: [(&str, Tamper); 6] = [
        ("a byte of the image", |image, _, _| {
            let mut bytes = fs::read(image).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(image, bytes).unwrap();
        }),
        ("cut short", |image, _, _| {
            let bytes = fs::read(image).unwrap();
            fs::write(image, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("the image of another module", |image, _, of_other| {
            fs::copy(of_other.0, image).unwrap();
        }),
        ("image and entry of another module", |image, entry, of_other| {
            fs::copy(of_other.0, image).unwrap();
            fs::copy(of_other.1, entry).unwrap();
        }),
        ("without a code", |_, entry, _| {
            let text = fs::read_to_string(entry).unwrap();
            fs::write(entry, format!("\n{}", text.split_once('\n').unwrap().1)).unwrap();
        }),
        ("made with another key", |image, _, _| fs::write(image.ancestors().nth(2).unwrap().join("key"), [7; 64]).unwrap()),
    ];
    for (way, tamper) in ways {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::with(keeping_images(folder.path()));
        for wasm in [&honest, &other] {
            bench.executor.prepare(Bytes::from(wasm.clone())).await.unwrap();
        }
        let path = |wasm: &[u8], ending: &str| {
            let digest = digest(wasm).to_string();
            kept(folder.path(), ending).into_iter().find(|file| digest.ends_with(file.file_stem().unwrap().to_str().unwrap())).unwrap()
        };
        let (image, entry) = (path(&honest, "image"), path(&honest, "json"));
        tamper(&image, &entry, (&path(&other, "image"), &path(&other, "json")));
        let next = Bench::with(unable_to_compile(keeping_images(folder.path())));
        assert!(trouble(&next, &honest).await.contains("/no/such/compiler"), "{way}: it is compiled again, not used");
        assert!(!image.exists(), "{way}: what was changed is removed");
        let healed = Bench::with(keeping_images(folder.path()));
        let module = healed.put(honest.clone());
        assert_eq!(output(healed.run(step(&module, json!({}))).await), json!(1), "{way}");
    }
}

#[tokio::test]
async fn images_that_were_not_used_for_longest_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let guest = |number: &str| Guest::returning(number, 1).component();
    let image = |number: &str| {
        let digest = digest(&guest(number)).to_string();
        kept(folder.path(), "image").into_iter().find(|file| digest.ends_with(file.file_stem().unwrap().to_str().unwrap()))
    };
    let first = Bench::with(keeping_images(folder.path()));
    for number in ["1", "2"] {
        first.executor.prepare(Bytes::from(guest(number))).await.unwrap();
    }
    let bytes: u64 = ["image", "json"].iter().flat_map(|kind| kept(folder.path(), kind)).map(|file| fs::metadata(file).unwrap().len()).sum();
    // Both were last used long ago, the first of them later; then the other is used again, and no room is left for a third.
    for (number, age_sec) in [("1", 1_000), ("2", 2_000)] {
        for file in [image(number).unwrap(), image(number).unwrap().with_extension("json")] {
            let ago = fs::metadata(&file).unwrap().modified().unwrap() - std::time::Duration::from_secs(age_sec);
            fs::File::options().write(true).open(file).unwrap().set_modified(ago).unwrap();
        }
    }
    let next = Bench::with(WasmConfig { images_bytes_max: bytes + 100, ..keeping_images(folder.path()) });
    let module = next.put(guest("2"));
    assert_eq!(output(next.run(step(&module, json!({}))).await), json!(2));
    next.executor.prepare(Bytes::from(guest("3"))).await.unwrap();
    assert!(image("1").is_none() && image("2").is_some() && image("3").is_some(), "the one that was not used for longest is gone");
    assert_eq!(kept(folder.path(), "json").len(), 2, "with all that was known of it");
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    let first = Bench::with(keeping_images(folder.path()));
    first.executor.prepare(Bytes::from(Guest::new(DONE).component())).await.unwrap();
    let image = kept(folder.path(), "image").pop().unwrap();
    fs::remove_file(image.with_extension("json")).unwrap();
    fs::write(image.with_file_name("new-half"), "half").unwrap();
    let next = Bench::with(WasmConfig { images_bytes_max: 1, ..keeping_images(folder.path()) });
    next.executor.prepare(Bytes::from(Guest::returning("2", 1).component())).await.unwrap();
    assert!(!image.exists() && !image.with_file_name("new-half").exists());
    assert_eq!(kept(folder.path(), "image").len(), 1);
}
