//! The probe as a container: takes its step on standard input.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    command_tower_worker::run_command(tower_test_probe::probe).await
}
