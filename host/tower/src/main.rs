//! `tower`.

fn main() -> std::process::ExitCode {
    command_tower::main()
}
