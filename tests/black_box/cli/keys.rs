//! Keys of `tower watch`, on a terminal that `script` lends.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::run;
use crate::host::Host;

const PATIENCE: Duration = Duration::from_secs(30);
const OFFERED: &str = "c cancel  p pause  r resume  q leave";

/// A terminal with `tower watch` on it; before and after it prints its modes.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn watching(host: &Host, trace: &str) -> Self {
        let tower = env!("CARGO_BIN_EXE_tower");
        let line = format!("stty -g; sh -c 'echo pid $$ on $(tty); exec {tower} watch {trace}'; echo code $?; stty -g");
        let mut command = Command::new("timeout");
        command.args(["90", "script", "-qec", &line, "/dev/null"]).env("TOWER_URL", &host.url).env("NO_COLOR", "1").env("TERM", "xterm");
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keys, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let screen = Arc::new(Mutex::new(String::new()));
        let written = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                written.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let terminal = Self { script, keys, screen };
        terminal.until("the keys to be offered", |screen| screen.contains(OFFERED).then_some(()));
        terminal
    }

    fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn until<T>(&self, what: &str, check: impl Fn(&str) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            let screen = self.screen.lock().unwrap().clone();
            if let Some(found) = check(&screen) {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}: {screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn shows(&self, text: &str) {
        self.until(text, |screen| screen.contains(text).then_some(()));
    }

    /// The number of the watching process, and its terminal.
    fn process(&self) -> (String, String) {
        self.until("the process", |screen| {
            let words: Vec<&str> = screen.lines().find(|line| line.starts_with("pid "))?.split_whitespace().collect();
            Some((words[1].to_owned(), words[3].to_owned()))
        })
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.process().0]).status().unwrap().success());
    }

    /// The terminal's modes now.
    fn modes(&self) -> String {
        let output = Command::new("stty").args(["-g", "-F", &self.process().1]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn modes_before(&self) -> String {
        self.until("the modes", |screen| screen.lines().next().filter(|line| line.contains(':')).map(|line| line.trim().to_owned()))
    }

    fn until_modes(&self, check: impl Fn(bool) -> bool) {
        let before = self.modes_before();
        self.until("the modes", |_| check(self.modes() == before).then_some(()));
    }

    /// Waits for its end, with the terminal as it was before, and answers the exit code.
    fn end(mut self) -> String {
        assert!(self.script.wait().unwrap().success());
        let screen = self.until("its end", |screen| {
            let code = screen.split("code ").nth(1)?;
            (code.lines().count() > 1 && code.ends_with('\n')).then(|| screen.to_owned())
        });
        let after = screen.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap();
        assert_eq!(after, self.modes_before(), "{screen}");
        screen.split("code ").nth(1).unwrap().lines().next().unwrap().trim().to_owned()
    }
}

async fn napping(host: &Host) -> String {
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "nap_in_host", "ms": 60_000 })).await;
    host.until("the nap", &format!("/api/v1/traces/{trace}"), |trace| (trace["status"] == "RUNNING").then_some(())).await;
    trace
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_trace_is_held_set_going_and_ended_by_keys() {
    let host = Host::start(&["--cancel-grace", "100ms", "--slots", "1"]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "split", "n": 20, "params": { "do": "nap_in_host", "ms": 60_000 } })).await;
    let path = format!("/api/v1/traces/{trace}");
    host.until("the split", &path, |trace| (trace["counts"]["total"] == 21).then_some(())).await;
    let paused = async |wanted: bool| host.until("a key to be heard", &path, |trace| (trace["paused"] == wanted).then_some(())).await;
    let mut terminal = Terminal::watching(&host, &trace);
    terminal.until_modes(|same| !same);
    terminal.press("p");
    paused(true).await;
    terminal.shows("paused: ");
    terminal.press("r");
    paused(false).await;
    terminal.shows("resumed: ");
    // What is not a key of it does nothing, and a cancel is asked about.
    terminal.press("xc");
    terminal.shows("cancel the trace? y/n");
    terminal.press("np");
    paused(true).await;
    assert_eq!(host.get(&path).await["status"], "RUNNING");
    terminal.press("cy");
    assert_eq!(host.ended(&trace).await["status"], "CANCELLED");
    assert_eq!(terminal.end(), "8");
    let orders = host.all(&format!("{path}/control-events")).await;
    let said: Vec<_> = orders.iter().map(|order| (order["action"].as_str().unwrap(), order["reason"].as_str().unwrap())).collect();
    assert_eq!(said, ["PAUSE", "RUN", "PAUSE", "CANCEL"].map(|action| (action, "a key in tower watch")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_finds_the_terminal_as_it_was() {
    let host = Host::start(&["--cancel-grace", "100ms"]).await;
    let trace = napping(&host).await;
    for how in ["q", "TERM", "INT", "HUP"] {
        let mut terminal = Terminal::watching(&host, &trace);
        terminal.until_modes(|same| !same);
        match how {
            "q" => {
                terminal.press("q");
                terminal.shows("detached: the trace goes on");
            }
            signal => terminal.signal(signal),
        }
        assert_eq!(terminal.end(), "130", "{how}");
    }
    // Stopped as by Ctrl-Z, it gives the terminal back, and takes it again when it goes on.
    let mut terminal = Terminal::watching(&host, &trace);
    terminal.until_modes(|same| !same);
    terminal.signal("TSTP");
    terminal.until_modes(|same| same);
    terminal.signal("CONT");
    terminal.until_modes(|same| !same);
    terminal.press("q");
    assert_eq!(terminal.end(), "130");
    assert_eq!(host.get(&format!("/api/v1/traces/{trace}")).await["status"], "RUNNING");
    // On a pipe there are no keys.
    run(Some(&host), &["cancel", &trace]);
    let watched = run(Some(&host), &["watch", &trace]);
    assert!(!String::from_utf8_lossy(&watched.stdout).contains("q leave"), "{watched:?}");
}
