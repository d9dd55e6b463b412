//! A step in a container, both ways: `container-step` takes one on its standard input, `container-step serve` takes them by POST.
//!
//! What it does stands in its params: `{"do": "echo"}`. Besides what honest steps do, it does what hostile ones would try; what the tower
//! holds it to is told in docs/containers.md, and tested with it.
//!
//! - `tower`: the four powers, over the socket that the container is shown
//! - `acts`: what it can do
//! - `hostile`: what it tries in vain
//! - `serve`: the service

mod acts;
mod hostile;
mod serve;
mod tower;

use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::Value;

use acts::End;
use tower::Tower;

fn main() -> ExitCode {
    acts::listen_to_terminate();
    match std::env::args().nth(1).as_deref() {
        Some("serve") => serve::serve(),
        Some("sleep") => loop {
            std::thread::park();
        },
        _ => command(),
    }
}

/// Standard input is the step, standard output is its output and nothing else, standard error is its log.
fn command() -> ExitCode {
    let mut text = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut text) {
        eprintln!("the step cannot be read: {error}");
        return ExitCode::from(65);
    }
    let Ok(handed) = serde_json::from_str::<Value>(&text) else {
        eprintln!("the step is no JSON");
        return ExitCode::from(65);
    };
    match acts::act(&handed["step"], &Tower::of(&handed), 0) {
        End::Output(output) => match writeln!(std::io::stdout(), "{output}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(74),
        },
        End::Raw(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        End::Exit(code) => ExitCode::from(code),
        // It was ended with a call; what follows is of no interest to anybody.
        End::Said => ExitCode::from(3),
    }
}
