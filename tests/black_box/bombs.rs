//! Compile bombs, seen from outside: the serving process does not notice, and neither does an honest module.

use std::fs;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::host::{Host, tower};

fn wasm(module: &str) -> Vec<u8> {
    let example = command_tower_examples::find("misbehaving").unwrap();
    example.modules.iter().find(|candidate| candidate.name == module).unwrap().wasm.to_vec()
}

/// The same bomb under another digest: a custom section changes nothing else.
fn bomb(mark: u8) -> Vec<u8> {
    [wasm("compile-bomb"), vec![0, 3, 1, b'x', mark]].concat()
}

fn upload(host: &Host, name: &str, wasm: Vec<u8>) -> impl Future<Output = (StatusCode, Value)> + use<> {
    let request = host.request(Method::POST, &format!("/api/v1/modules?name={name}")).header("content-type", "application/wasm").body(wasm);
    async move {
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }
}

/// Workers of this host that run now.
fn workers(host: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_worker = |process: &u32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        read("cmdline").contains("compile-worker") && read("status").contains(&format!("PPid:\t{host}\n"))
    };
    processes.filter(is_worker).collect()
}

/// The most that the process has ever held in memory, in KiB.
fn peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok(), "waited in vain for {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn w43_w44_bombs_do_not_reach_the_serving_process_and_an_honest_module_does_not_wait_for_them() {
    let host = Host::start(&["--compile-cpu-sec-max", "3"]).await;
    host.install("probe").await;
    let before = peak_kib(host.pid());
    let mut bombs = tokio::task::JoinSet::new();
    for mark in 0..20 {
        bombs.spawn(upload(&host, "bomb", bomb(mark)));
    }
    until("bombs to be compiled", || workers(host.pid()).len() >= 2).await;
    // Uploads beyond the cap are turned away; the command line comes again after the time that is named.
    let honest = tempfile::tempdir().unwrap();
    let file = honest.path().join("honest.wasm");
    fs::write(&file, wasm("bad-text")).unwrap();
    let pushed = tokio::process::Command::from(tower()).args(["--url", &host.url, "push"]).arg(file).output().await.unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let ran = host.run("probe", json!({ "do": "echo", "value": 1 })).await;
    assert_eq!(ran["status"], "SUCCESS");
    let mut answers = Vec::new();
    // Not whether a worker is there at this very moment: one has ended and the next not begun.
    while let Some(answer) = bombs.try_join_next() {
        answers.push(answer.unwrap());
    }
    assert!(!bombs.is_empty(), "it was ready, and ran, after all bombs were answered: {answers:?}");
    while let Some(answer) = bombs.join_next().await {
        answers.push(answer.unwrap());
    }
    let told = |code: &str| answers.iter().filter(|(_, body)| body["code"] == code).count();
    assert_eq!(told("COMPILE_LIMIT") + told("COMPILE_BUSY"), 20, "{answers:?}");
    assert!(told("COMPILE_LIMIT") >= 1 && told("COMPILE_BUSY") >= 1, "{answers:?}");
    let grown = peak_kib(host.pid()) - before;
    assert!(grown < 64 * 1024, "the host took {grown} KiB more than before");
    let modules = host.all("/api/v1/modules").await;
    assert!(modules.iter().all(|module| module["name"] != "bomb"), "nothing is kept of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn w43_the_same_bomb_is_refused_at_once_the_second_time_and_after_a_restart() {
    let mut host = Host::start(&["--compile-cpu-sec-max", "2"]).await;
    for _ in 0..2 {
        let (status, body) = upload(&host, "bomb", bomb(0)).await;
        assert_eq!((status, &body["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("COMPILE_LIMIT")), "{body}");
    }
    assert!(host.terminate().await.success());
    host.restart().await;
    let answer = upload(&host, "bomb", bomb(0));
    tokio::pin!(answer);
    let answered = loop {
        tokio::select! {
            answer = &mut answer => break answer,
            () = tokio::time::sleep(Duration::from_millis(1)) => assert!(workers(host.pid()).is_empty(), "it is not compiled again"),
        }
    };
    assert_eq!(answered.1["code"], "COMPILE_LIMIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn f09_a_host_that_is_killed_while_it_compiles_leaves_neither_a_worker_nor_half_a_module() {
    let mut host = Host::start(&[]).await;
    let uploading = tokio::spawn(upload(&host, "bomb", bomb(0)));
    until("a worker", || !workers(host.pid()).is_empty()).await;
    let worker = workers(host.pid())[0];
    host.kill_9().await;
    until("the worker to end", || !fs::read_to_string(format!("/proc/{worker}/cmdline")).is_ok_and(|command| command.contains("compile-worker"))).await;
    assert!(uploading.await.is_err(), "the connection broke");
    host.restart().await;
    assert!(host.all("/api/v1/modules").await.is_empty());
    let engines = fs::read_dir(host.data.join("images")).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let left: usize = engines.map(|engine| fs::read_dir(engine.path()).unwrap().count()).sum();
    assert_eq!(left, 0, "no half image is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_are_ready_after_a_restart_without_being_compiled() {
    let mut host = Host::start(&[]).await;
    host.install("probe").await;
    assert!(host.terminate().await.success());
    host.restart().await;
    let pid = host.pid();
    let running = host.run("probe", json!({ "do": "echo", "value": 1 }));
    tokio::pin!(running);
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            () = tokio::time::sleep(Duration::from_millis(1)) => assert!(workers(pid).is_empty(), "the image was kept"),
        }
    };
    assert_eq!(ended["status"], "SUCCESS");
}
