//! The service: `GET /health`, and `POST /v1/tasks/execute` with a step, which is answered with its output, or at once if the step says
//! `"later": true` and then ended with a call. With `UNWELL` in its environment it never is healthy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::acts::{End, act};
use crate::tower::Tower;

static SERVED: AtomicU64 = AtomicU64::new(0);

/// Serves until it is ended.
pub(crate) fn serve() -> ExitCode {
    let port = std::env::var("TOWER_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("port {port} cannot be listened on: {error}");
            return ExitCode::from(78);
        }
    };
    eprintln!("serves at port {port}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("a call broke off: {error}");
            }
        });
    }
    ExitCode::SUCCESS
}

fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut bytes = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                bytes = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; bytes];
        reader.read_exact(&mut body)?;
        let (status, text) = if first.starts_with("GET /health ") {
            let is_well = std::env::var_os("UNWELL").is_none();
            (if is_well { "200 OK" } else { "503 Service Unavailable" }, "{}".to_owned())
        } else if first.starts_with("POST /v1/tasks/execute ") {
            execute(&body)
        } else {
            ("404 Not Found", "{}".to_owned())
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
        reader.get_mut().write_all((head + &text).as_bytes())?;
    }
}

fn execute(body: &[u8]) -> (&'static str, String) {
    let Ok(handed) = serde_json::from_slice::<Value>(body) else { return ("400 Bad Request", "{}".to_owned()) };
    let served = SERVED.fetch_add(1, Ordering::Relaxed);
    if handed["step"]["params"]["later"] == true {
        std::thread::spawn(move || {
            let tower = Tower::of(&handed);
            if let End::Output(output) = act(&handed["step"], &tower, served)
                && let Err(error) = tower.post("/complete", &json!({"output": output}))
            {
                eprintln!("the end was refused: {error}");
            }
        });
        return ("202 Accepted", "{}".to_owned());
    }
    match act(&handed["step"], &Tower::of(&handed), served) {
        End::Output(output) => ("200 OK", json!({"output": output}).to_string()),
        End::Raw(text) => ("200 OK", text),
        End::Exit(code) => ("500 Internal Server Error", json!({"code": format!("EXIT_{code}"), "message": "it would have ended with this"}).to_string()),
        End::Said => ("202 Accepted", "{}".to_owned()),
    }
}
