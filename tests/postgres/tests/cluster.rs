//! The cluster does as it is told, and goes with the process that asked for it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tower_test_postgres::{Cluster, Options, Stop};

/// Set for the process that is killed.
const VICTIM: &str = "TOWER_TEST_POSTGRES_VICTIM";

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not within 30 seconds");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cluster_stops_is_killed_and_starts_again() {
    let cluster = Cluster::start(&Options { durable: true, ..Options::default() });
    cluster.run("CREATE TABLE kept (number int)");
    for how in [Stop::Fast, Stop::Kill] {
        cluster.run("INSERT INTO kept VALUES (1)");
        cluster.stop(how);
        assert!(!cluster.answers(), "{how:?}");
        cluster.begin();
    }
    cluster.run("SELECT 1 / (count(*) - 1) FROM kept");
    let folder = cluster.folder().to_owned();
    drop(cluster);
    assert!(!folder.exists());
}

#[test]
fn databases_are_fresh_and_go() {
    let (first, second) = (Cluster::shared().database(), Cluster::shared().database());
    first.run("CREATE TABLE t (number int)");
    second.run("CREATE TABLE t (number int)");
    let name = first.name().to_owned();
    drop(first);
    Cluster::shared().run(&format!("SELECT 1 / (1 - count(*)) FROM pg_database WHERE datname = '{name}'"));
}

/// Plays the test process of the next test; on its own it does nothing.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_some() {
        println!("folder={}", Cluster::shared().folder().display());
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn a_cluster_is_gone_when_its_test_process_was_killed() {
    let program = std::env::current_exe().unwrap();
    let mut victim =
        Command::new(program).args(["--exact", "victim", "--nocapture"]).env(VICTIM, "1").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let folder: PathBuf = lines.map_while(Result::ok).find_map(|line| line.split_once("folder=").map(|(_, folder)| folder.into())).unwrap();
    let number: u32 = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap().lines().next().unwrap().parse().unwrap();
    let process = PathBuf::from(format!("/proc/{number}"));
    assert!(process.exists());
    // SIGKILL.
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until("the folder goes", || !folder.exists());
    wait_until("PostgreSQL goes", || !process.exists());
}
