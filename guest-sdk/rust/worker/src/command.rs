//! The step of a container: it comes on standard input, and the tower is reached through a socket.

use std::future::Future;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::client::{Client, Error};
use crate::task::{Outcome, StepError, Task};
use crate::wire::Handed;
use crate::worker::keep;

/// Where the socket is, should the environment not say.
const SOCKET: &str = "/run/tower/tower.sock";

/// `EX_DATAERR`: trying again is of no use.
const UNREADABLE: u8 = 65;
/// `EX_TEMPFAIL`: the step is to be tried again.
const TRY_AGAIN: u8 = 75;

/// Works on the one step of a `docker://…` container whose protocol is `COMMAND`: it is read from standard input, and its end is told with a call.
/// Standard output stays empty; what is written to standard error is the task's log. Answers what the program is to exit with:
///
/// ```no_run
/// # use command_tower_worker::{Outcome, run_command};
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> std::process::ExitCode {
///     run_command(|task| async move { Ok(Outcome::Done(task.params()?)) }).await
/// }
/// ```
pub async fn run_command<F, R>(step: F) -> ExitCode
where
    F: Fn(Task) -> R,
    R: Future<Output = Result<Outcome, StepError>>,
{
    let handed = match tokio::task::spawn_blocking(read).await {
        Ok(Ok(handed)) => handed,
        Ok(Err(error)) => {
            eprintln!("the step on the standard input cannot be read: {error}");
            return ExitCode::from(UNREADABLE);
        }
        Err(error) => {
            eprintln!("the standard input cannot be read: {error}");
            return ExitCode::from(TRY_AGAIN);
        }
    };
    match work(handed, step).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the end of the step does not count: {error}");
            ExitCode::from(TRY_AGAIN)
        }
    }
}

fn read() -> std::io::Result<Handed> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

async fn work<F, R>(handed: Handed, step: F) -> Result<(), Error>
where
    F: Fn(Task) -> R,
    R: Future<Output = Result<Outcome, StepError>>,
{
    let socket = std::env::var_os("TOWER_SOCKET").map_or_else(|| PathBuf::from(SOCKET), PathBuf::from);
    keep(Client::at(&socket)?, handed, &step).await
}
