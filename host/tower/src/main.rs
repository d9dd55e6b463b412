//! `tower`.

fn main() -> std::process::ExitCode {
    tower_host::main()
}
