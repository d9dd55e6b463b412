//! What the step can do, by the word in its params.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::hostile;
use crate::tower::Tower;

/// How a step ends.
pub(crate) enum End {
    /// With an output.
    Output(Value),
    /// With a text that may be none.
    Raw(String),
    /// With an exit code.
    Exit(u8),
    /// With a call: there is nothing more to say.
    Said,
}

static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_terminate(_: i32) {
    TERMINATED.store(true, Ordering::Relaxed);
}

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

/// The first process of a container gets no signal that it does not ask for.
pub(crate) fn listen_to_terminate() {
    const SIGTERM: i32 = 15;
    // SAFETY: the handler does nothing but write an atomic.
    unsafe { signal(SIGTERM, note_terminate) };
}

fn say(tower: &Tower, what: &str, body: &Value) -> End {
    match tower.post(what, body) {
        Ok(_) => End::Said,
        Err(error) => {
            eprintln!("{what} was refused: {error}");
            End::Exit(70)
        }
    }
}

/// Does it. `served` counts the steps that this process did before.
pub(crate) fn act(step: &Value, tower: &Tower, served: u64) -> End {
    let params = &step["params"];
    let number = |name: &str| params[name].as_u64().unwrap_or_default();
    match params["do"].as_str().unwrap_or("echo") {
        "echo" => End::Output(json!({"params": params, "served": served})),
        "raw" => End::Raw(params["text"].as_str().unwrap_or_default().to_owned()),
        "flood" => End::Raw("x".repeat(usize::try_from(number("bytes")).unwrap_or_default())),
        "exit" => {
            for line in params["say"].as_str().unwrap_or_default().lines() {
                eprintln!("{line}");
            }
            End::Exit(u8::try_from(number("code")).unwrap_or(1))
        }
        "die" => std::process::exit(9),
        "crash_first" if step["attempt"] == 1 => std::process::exit(9),
        "crash_first" => End::Output(json!({"attempt": step["attempt"]})),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number("ms")));
            End::Output(json!("slept"))
        }
        "until_terminated" => until_terminated(Duration::from_millis(number("ms"))),
        "until_cancelled" => {
            if !step["carried"].is_null() {
                eprintln!("goes on from {}", step["carried"]);
            }
            until_cancelled(tower)
        }
        "split" => split(params, tower),
        "note" => note(params["text"].as_str().unwrap_or_default()),
        "fill" => fill(usize::try_from(number("bytes")).unwrap_or_default(), Duration::from_millis(number("ms"))),
        "report" => report(tower),
        "talk" => talk(tower, number("lines"), Duration::from_millis(number("ms"))),
        "complete" => {
            let said = say(tower, "/complete", &json!({"output": params["output"]}));
            // There is a moment to tidy up.
            std::thread::sleep(Duration::from_millis(number("ms")));
            said
        }
        "fail" => say(tower, "/fail", &json!({"code": "MINE", "message": "as it was told to", "retryable": false})),
        "strangers" => strangers(tower),
        "fork_bomb" => End::Output(hostile::fork_bomb()),
        "memory_bomb" => hostile::memory_bomb(),
        "disk_bomb" => End::Output(hostile::disk_bomb()),
        "root" => End::Output(hostile::become_root()),
        "network" => End::Output(hostile::reach_out(params)),
        other => {
            eprintln!("there is no `{other}` to do");
            End::Exit(64)
        }
    }
}

fn until_terminated(most: Duration) -> End {
    let begun = Instant::now();
    while begun.elapsed() < most {
        if TERMINATED.load(Ordering::Relaxed) {
            eprintln!("told to terminate");
            return End::Exit(143);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    End::Output(json!("nobody told it to terminate"))
}

fn until_cancelled(tower: &Tower) -> End {
    eprintln!("waits to be cancelled");
    loop {
        match tower.get("/check-cancel?wait=10") {
            Ok(heard) if heard["signal"] == "CANCEL" => return say(tower, "/cancelled", &json!({})),
            Ok(heard) if heard["signal"] == "PAUSE" => return say(tower, "/pause", &json!({"carried": "so far"})),
            Ok(_) => {}
            Err(error) => {
                eprintln!("check-cancel: {error}");
                return End::Exit(70);
            }
        }
    }
}

/// Adds a line to the notes in the session's workspace, and answers all of them.
fn note(text: &str) -> End {
    let path = "/workspace/output/notes.txt";
    let before = std::fs::read_to_string(path).unwrap_or_default();
    match std::fs::write(path, format!("{before}{text}\n")) {
        Ok(()) => End::Output(json!({"notes": before.lines().chain([text]).collect::<Vec<_>>()})),
        Err(error) => End::Output(json!({"refused": error.kind().to_string()})),
    }
}

/// Writes a file of so many bytes into the workspace, and stays.
fn fill(bytes: usize, stay: Duration) -> End {
    if let Err(error) = std::fs::write("/workspace/output/fill", vec![7; bytes]) {
        eprintln!("it was not filled: {error}");
        return End::Exit(74);
    }
    std::thread::sleep(stay);
    End::Output(json!("filled"))
}

fn split(params: &Value, tower: &Tower) -> End {
    match tower.post("/split", &json!({"children": params["children"]})) {
        Ok(answer) => End::Output(json!({"split": answer["task_ids"]})),
        Err(error) => {
            eprintln!("the split was refused: {error}");
            End::Exit(65)
        }
    }
}

fn report(tower: &Tower) -> End {
    eprintln!("on standard error");
    let events = json!([
        {"event_type": "PROGRESS", "percent": 40, "message": "so far"},
        {"event_type": "LOG", "level": "WARN", "message": "through the socket"},
    ]);
    match tower.post("/events", &events) {
        Ok(_) => End::Output(json!(tower.get("").is_ok())),
        Err(error) => {
            eprintln!("the report was refused: {error}");
            End::Exit(70)
        }
    }
}

/// So many lines at once, after a while; both is said through the socket as well.
fn talk(tower: &Tower, lines: u64, after: Duration) -> End {
    let say = |what: &str| tower.post("/events", &json!([{"event_type": "LOG", "level": "INFO", "message": what}]));
    let begun = say("talks soon");
    std::thread::sleep(after);
    for line in 0..lines {
        eprintln!("line {line}");
    }
    match begun.and_then(|_| say("has talked")) {
        Ok(_) => End::Output(json!("said")),
        Err(error) => {
            eprintln!("the report was refused: {error}");
            End::Exit(70)
        }
    }
}

/// What the socket refuses: other people's tokens, and everything that is no attempt.
fn strangers(tower: &Tower) -> End {
    let stolen = tower.post_as("/complete", &json!({"output": 1}), "att_0000");
    let traces = tower.get_outside("/api/v1/traces");
    let status = |answer: Result<Value, String>| answer.err().map_or_else(|| "200".to_owned(), |error| error.chars().take(3).collect());
    End::Output(json!({"stolen": status(stolen), "traces": status(traces)}))
}
