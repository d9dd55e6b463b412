//! Several hosts on one PostgreSQL while hosts and the database fail: everything is finished, once, and all witnesses agree.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tower_test_postgres::{Cluster, Database, Options, Stop};

use super::check::{is_sound, ledger_of};
use super::load::Book;
use super::machine::{Island, SmallDisk};
use crate::host::Host;

/// The longest that a run may take.
const RUN_MAX: Duration = Duration::from_secs(1_200);

/// Hosts at work on traces that split.
struct Crew {
    hosts: Vec<Host>,
    /// With how many they split into.
    traces: Vec<(String, usize)>,
    begin: Instant,
}

impl Crew {
    /// Three hosts with leases of two seconds, and so many tasks to do, each a few milliseconds long.
    async fn of_three(database: Database, tasks: usize) -> Self {
        let args = ["--lease", "2s", "--slots", "16"];
        let mut first = Host::new(&args);
        first.database = Some(Arc::new(database));
        let ledger = ledger_of(&first).display().to_string();
        first.variables = vec![("TOWER_LEDGER", ledger), ("TOWER_LOG", "off".to_owned())];
        first.restart().await;
        let mut hosts = vec![first];
        for _ in 1..3 {
            hosts.push(Host::beside(&hosts[0], &args).await);
        }
        hosts[0].install("probe").await;
        let (mut traces, mut left) = (Vec::new(), tasks);
        while left > 0 {
            let count = left.min(2_000);
            left -= count;
            let params = json!({ "do": "split", "n": count, "params": { "do": "nap_in_host", "ms": 5 } });
            traces.push((hosts[traces.len() % 3].trigger("probe", params).await, count));
        }
        Self { hosts, traces, begin: Instant::now() }
    }

    /// How many tasks have succeeded, and whether all has ended; nothing while no host can say anything.
    async fn progress(&self, first: usize) -> Option<(u64, bool)> {
        for number in 0..self.hosts.len() {
            if let Some(progress) = self.progress_by(&self.hosts[(first + number) % self.hosts.len()]).await {
                return Some(progress);
            }
        }
        None
    }

    async fn progress_by(&self, host: &Host) -> Option<(u64, bool)> {
        let (mut tasks, mut all) = (0, true);
        for (trace, _) in &self.traces {
            let answer = host.request(reqwest::Method::GET, &format!("/api/v1/traces/{trace}")).send().await.ok()?;
            let body = answer.json::<serde_json::Value>().await.ok()?;
            tasks += body["counts"]["success"].as_u64()?;
            all &= body["finished_at"].is_string();
        }
        Some((tasks, all))
    }

    /// Does harm again and again until all is done or it was done `times` times; answers how often. Harm is `pace` apart, and further where
    /// the hosts have not come on meanwhile: on a slow machine they would never.
    async fn while_it_works(&mut self, pace: Duration, times: usize, mut harm: impl AsyncFnMut(&mut Vec<Host>, usize)) -> usize {
        let all: usize = self.traces.iter().map(|(_, count)| count).sum();
        let (mut done, mut seen) = (0, 0);
        loop {
            // Waiting for a time is the subject here: the harm comes whatever the hosts are doing.
            tokio::time::sleep(pace).await;
            let (tasks, ended) = self.progress(done + 1).await.unwrap_or((seen, false));
            if ended {
                return done;
            }
            if done < times && tasks >= seen + all as u64 / 60 {
                harm(&mut self.hosts, done).await;
                (done, seen) = (done + 1, tasks);
            }
            assert!(self.begin.elapsed() < RUN_MAX, "not done after {done} faults");
        }
    }

    /// Everything succeeded, and database, ledger and answers agree.
    async fn ends_well(mut self, what: &str) {
        for (trace, count) in &self.traces {
            let ended = self.hosts[0].ended(trace).await;
            assert_eq!((&ended["status"], ended["counts"]["success"].as_u64()), (&json!("SUCCESS"), Some(*count as u64 + 1)), "{what}: {ended}");
        }
        for host in &mut self.hosts {
            host.terminate().await;
        }
        is_sound(&self.hosts[0], &Book::default(), what).await;
        println!("{what}: {} traces, {:.0?}", self.traces.len(), self.begin.elapsed());
    }
}

/// A cluster that tests may stop.
fn cluster(options: Options) -> &'static Cluster {
    Box::leak(Box::new(Cluster::start(&options)))
}

/// Tasks of the run with kills. `TOWER_TEST_TASKS` makes it larger.
fn tasks_of_the_run() -> usize {
    std::env::var("TOWER_TEST_TASKS").map_or(4_000, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_three_hosts_that_are_killed_again_and_again_finish_everything_once() {
    let mut crew = Crew::of_three(Cluster::shared().database(), tasks_of_the_run()).await;
    let kills = crew
        .while_it_works(Duration::from_millis(1_200), usize::MAX, async |hosts, round| {
            let dead = &mut hosts[round % 3];
            dead.kill_9().await;
            // Such deaths come from outside: no task is to be suspected of them.
            let _ = std::fs::remove_file(dead.data.join("running"));
            dead.restart().await;
        })
        .await;
    assert!(kills >= 2, "the run was over too soon to say anything");
    crew.ends_well(&format!("{} tasks, {kills} kills", tasks_of_the_run())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_says_after_it_was_frozen_past_its_lease_changes_nothing() {
    let mut crew = Crew::of_three(Cluster::shared().database(), 3_000).await;
    let freezes = crew
        .while_it_works(Duration::from_millis(300), 4, async |hosts, round| {
            let frozen = &hosts[round % 2];
            frozen.signal("STOP");
            // A time is the subject here: longer than its lease and the others' look for such.
            tokio::time::sleep(Duration::from_secs(4)).await;
            frozen.signal("CONT");
        })
        .await;
    assert!(freezes >= 1);
    crew.ends_well(&format!("{freezes} hosts frozen past their leases")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_a_database_that_goes_away_and_comes_back_is_waited_for() {
    let cluster = cluster(Options { durable: true, ..Options::default() });
    let mut crew = Crew::of_three(cluster.database(), 3_000).await;
    let outages = crew
        .while_it_works(Duration::from_millis(700), 3, async |hosts, round| {
            cluster.stop(if round == 1 { Stop::Kill } else { Stop::Fast });
            hosts[0].until_status(503, "/readyz").await;
            cluster.begin();
            hosts[0].until_status(200, "/readyz").await;
        })
        .await;
    assert!(outages >= 1);
    crew.ends_well(&format!("{outages} outages of the database, one of them as by a power cut")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_connections_that_are_cut_and_refused_cost_nothing() {
    let cluster = cluster(Options::default());
    let mut crew = Crew::of_three(cluster.database(), 3_000).await;
    let harms = crew
        .while_it_works(Duration::from_millis(400), 8, async |hosts, round| {
            if round % 4 == 3 {
                // Nobody new comes in, and everybody is thrown out.
                cluster.run("ALTER DATABASE t0 ALLOW_CONNECTIONS false");
                cluster.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 't0'");
                hosts[0].until_status(503, "/readyz").await;
                cluster.run("ALTER DATABASE t0 ALLOW_CONNECTIONS true");
            } else {
                cluster.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 't0'");
            }
        })
        .await;
    assert!(harms >= 1);
    crew.ends_well(&format!("connections cut {harms} times")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_a_host_that_is_cut_off_from_the_network_is_replaced_and_comes_back() {
    let Some(island) = Island::new() else { return println!("not tried: this process may not make networks") };
    let listen = format!("listen_addresses={}", island.outside());
    let cluster = cluster(Options { settings: vec![listen], trusted: Some(island.network()), ..Options::default() });
    let mut crew = Crew::of_three(cluster.database(), 3_000).await;
    let mut far = Host::new(&["--lease", "2s", "--slots", "16", "--host-id", "far"]);
    far.database.clone_from(&crew.hosts[0].database);
    far.variables.clone_from(&crew.hosts[0].variables);
    far.variables.push(("TOWER_DATABASE", format!("postgres://postgres@{}/t0", island.outside())));
    far.prefix = island.prefix();
    far.restart().await;
    // Work that it has when it is cut off, and that would go on for long: one for each slot of all hosts.
    let long = crew.hosts[0].trigger("probe", json!({ "do": "split", "n": 64, "params": { "do": "nap_in_host", "ms": 6_000 } })).await;
    crew.traces.push((long, 64));
    let database = far.database.clone().unwrap();
    let far_is = async |host: &Host, what: &str, is: fn(&Value) -> bool| {
        let far_of = |hosts: &Value| hosts["items"].as_array()?.iter().find(|host| host["id"] == "far").cloned();
        host.until(what, "/api/v1/hosts", |hosts| is(&far_of(hosts)?).then_some(())).await;
    };
    let cuts = crew
        .while_it_works(Duration::from_millis(500), 2, async |hosts, round| {
            far_is(&hosts[0], "the far host to be there", |far| far["alive"] == true).await;
            if round == 0 {
                far_is(&hosts[0], "the far host to work", |far| far["running"] != 0).await;
            }
            // First both ways, then one: what the host says arrives, and what it is answered does not.
            if round == 0 || !island.deafen() {
                island.cut();
            }
            far_is(&hosts[0], "the far host to be missed", |far| far["alive"] == false).await;
            let begun = Instant::now();
            while database.ask("SELECT count(*) FROM queue WHERE owner = 'far'") != "0" {
                assert!(begun.elapsed() < RUN_MAX, "what it held was not taken over");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            island.mend();
            far_is(&hosts[0], "the far host to be back", |far| far["alive"] == true).await;
        })
        .await;
    assert!(cuts >= 1);
    far.terminate().await;
    crew.ends_well(&format!("a host cut off {cuts} times")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_database_whose_disk_is_full_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), 256) else { return println!("not tried: this process may not mount") };
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let settings = ["max_wal_size=32MB", "min_wal_size=32MB"].map(str::to_owned).to_vec();
    let cluster = cluster(Options { durable: true, settings, within: Some(folder.path().to_owned()), ..Options::default() });
    let mut crew = Crew::of_three(cluster.database(), 6_000).await;
    let times = crew
        .while_it_works(Duration::from_millis(500), 2, async |hosts, _| {
            disk.fill();
            // There is some room in files that it has already, but not for ever.
            hosts[0].until_status(503, "/readyz").await;
            disk.make_room();
            // Where it could not write its log it has ended, and whoever looks after it starts it again.
            if !cluster.answers() {
                cluster.begin();
            }
            hosts[0].until_status(200, "/readyz").await;
        })
        .await;
    assert!(times >= 1);
    crew.ends_well(&format!("a full disk {times} times")).await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn f28_hosts_go_on_beside_a_newer_version_and_none_of_theirs_starts_any_more() {
    let mut crew = Crew::of_three(Cluster::shared().database(), 3_000).await;
    let database = crew.hosts[0].database.clone().unwrap();
    let upgrades = crew
        .while_it_works(Duration::from_millis(700), 1, async |hosts, _| {
            // What the first host of the next version does when it starts: steps of the schema only add.
            let upgrade = "BEGIN; \
                 LOCK TABLE traces, tasks, queue, events IN ACCESS EXCLUSIVE MODE; \
                 ALTER TABLE tasks ADD COLUMN of_the_next text; ALTER TABLE traces ADD COLUMN of_the_next int NOT NULL DEFAULT 0; \
                 ALTER TABLE queue ADD COLUMN of_the_next text; ALTER TABLE events ADD COLUMN of_the_next text; \
                 CREATE TABLE of_the_next (id bigint PRIMARY KEY); \
                 INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'of the next', true, '\\x00', 0); \
                 COMMIT";
            // Like the store's own: what hosts get into the way of is tried again.
            let begun = Instant::now();
            while !database.try_run(upgrade) {
                assert!(begun.elapsed() < RUN_MAX, "hosts are always in the way");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            hosts[2].terminate().await;
            assert!(!hosts[2].begin().await, "it is older than the schema");
            assert_eq!(hosts[2].death().await.code(), Some(5));
        })
        .await;
    assert_eq!(upgrades, 1);
    for (trace, count) in &crew.traces {
        assert_eq!(crew.hosts[0].ended(trace).await["counts"]["success"].as_u64(), Some(*count as u64 + 1));
    }
    // So that the last of these tests can look.
    database.run("DELETE FROM _sqlx_migrations WHERE version = 9999");
    crew.hosts[2].restart().await;
    crew.ends_well("a newer version beside").await;
}
