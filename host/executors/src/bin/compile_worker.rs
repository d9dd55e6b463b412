//! Compiles one component from standard input to standard output, within limits.

fn main() -> std::process::ExitCode {
    tower_executors::wasm::compile_worker()
}
