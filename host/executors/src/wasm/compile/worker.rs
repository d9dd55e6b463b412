//! The worker: reads a component from standard input, writes its native image to standard output. It limits itself before it reads
//! the first byte of the component, and needs no file, no network and no environment.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use serde::{Deserialize, Serialize};
use tower_domain::module::Inspection;
use wasmtime::Engine;

use super::CompileLimits;
use crate::wasm::inspect::{InspectError, inspect};
use crate::wasm::settings::compiler_config;

/// How much less of the processor a worker gets than the host, as `nice` counts.
const NICE: i32 = 10;
/// Files that a worker may have open: its three streams, and what the runtime opens.
const FILES_MAX: u64 = 64;
/// Seconds after the limit at which the system ends a worker that does not heed it.
const CPU_SLACK_SEC: u64 = 2;

/// What stands before the component: a length in four bytes, little-endian, and this as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) limits: CompileLimits,
    /// Length of the component that follows.
    pub(super) bytes: u64,
}

/// What stands before the image, in the same form. An image follows only where it was compiled.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Compiled(Box<Inspection>),
    Refused(InspectError),
}

/// Does the work of one worker, from standard input to standard output. For a program's `main` and nothing else: it limits the whole
/// process for good.
pub fn compile_worker() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    let order: Order = read_head(&mut stdin, 64 * 1024)?;
    limit(&order.limits)?;
    let mut bytes = Vec::new();
    stdin.take(order.bytes).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != order.bytes {
        return Err(io::Error::other("the component broke off"));
    }
    end_with_the_host()?;
    let engine = Engine::new(&compiler_config()).map_err(|error| io::Error::other(format!("{error:#}")))?;
    let mut stdout = io::stdout().lock();
    match compile(&engine, &bytes) {
        Ok((inspection, image)) => {
            write_head(&mut stdout, &Answer::Compiled(Box::new(inspection)))?;
            stdout.write_all(&image)?;
        }
        Err(refused) => write_head(&mut stdout, &Answer::Refused(refused))?,
    }
    stdout.flush()
}

/// Never from text, never from a native image: [`inspect`] lets only a component's binary form through.
pub(super) fn compile(engine: &Engine, bytes: &[u8]) -> Result<(Inspection, Vec<u8>), InspectError> {
    let inspection = inspect(bytes)?;
    let image = engine.precompile_component(bytes);
    let image = image.map_err(|error| InspectError::CompileLimit(InspectError::cleaned(&format!("{error:#}"))))?;
    Ok((inspection, image))
}

fn limit(limits: &CompileLimits) -> io::Result<()> {
    // The first to go if the machine runs out of memory all the same. Not to be had everywhere, and no reason to stop.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = nice(NICE);
    let limit = |resource, soft: u64, hard: u64| setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) });
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nofile, FILES_MAX, FILES_MAX)?;
    limit(Resource::Cpu, limits.cpu_sec, limits.cpu_sec + CPU_SLACK_SEC)?;
    limit(Resource::As, limits.memory_bytes, limits.memory_bytes)?;
    #[cfg(target_os = "linux")]
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// The host keeps standard input open for as long as it wants the answer: when it ends, or is killed, so does this.
fn end_with_the_host() -> io::Result<()> {
    let watch = || {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(1);
    };
    std::thread::Builder::new().spawn(watch).map(drop)
}

pub(super) fn write_head(to: &mut impl Write, head: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(head)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&json)
}

fn read_head<T: for<'de> Deserialize<'de>>(from: &mut impl Read, bytes_max: u64) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    if length > bytes_max {
        return Err(io::Error::other("the head is too long"));
    }
    let mut json = Vec::new();
    from.take(length).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}
