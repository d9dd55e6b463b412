//! One worker, as this process sees it: started, fed, listened to, and judged by how it ended.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tower_domain::module::Inspection;
use tower_domain::step::HostTrouble;

use super::worker::{Answer, Order, write_head};
use super::{CompileError, CompileLimits, WorkerCommand};
use crate::wasm::inspect::InspectError;

/// Longest head of an answer, in bytes: what was read from a component, its WIT text included.
const HEAD_BYTES_MAX: u32 = 32 << 20;
/// What of a worker's last words is kept, in bytes.
const LAST_WORDS_BYTES_MAX: u64 = 4 * 1024;

/// A worker that was started.
pub(super) struct Worker {
    process: Child,
    limits: CompileLimits,
    image: NamedTempFile,
}

impl Worker {
    /// Starts one. Dropped, it is ended.
    pub(super) fn start(command: &WorkerCommand, limits: &CompileLimits, folder: &Path) -> Result<Self, HostTrouble> {
        let mut worker = Command::new(&command.program);
        worker.args(&command.args).env_clear().current_dir("/").kill_on_drop(true);
        worker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let trouble = |error: io::Error| HostTrouble(format!("the compiler `{}` cannot be started: {error}", command.program.display()));
        let image = NamedTempFile::with_prefix_in("new-", folder).map_err(|error| HostTrouble(format!("{}: {error}", folder.display())))?;
        Ok(Self { process: worker.spawn().map_err(trouble)?, limits: *limits, image })
    }

    /// Its number; none: it has ended.
    pub(super) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Hands it the component and waits for what comes of it.
    pub(super) async fn compile(&mut self, bytes: &[u8]) -> Result<Inspection, CompileError> {
        // The processor's time is limited, but a worker that gets none of it must not be waited for for ever.
        let patience = Duration::from_secs(30) + Duration::from_secs(self.limits.cpu_sec) * 10;
        let answer = tokio::time::timeout(patience, self.converse(bytes)).await;
        answer.map_err(|_| HostTrouble(format!("the compiler did not answer within {} s", patience.as_secs())))?
    }

    async fn converse(&mut self, bytes: &[u8]) -> Result<Inspection, CompileError> {
        let Self { process, limits, image } = self;
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (process.stdin.take(), process.stdout.take(), process.stderr.take()) else {
            return Err(HostTrouble("the compiler was started without its pipes".to_owned()).into());
        };
        // A worker that ends before it has read everything has its reasons, which its end tells.
        let talk = async { feed(&mut stdin, limits, bytes).await.ok() };
        let (_, heard, last_words) = tokio::join!(talk, listen(stdout, image, limits.image_bytes), last_words(stderr));
        // Now, and not before: an open standard input is the sign that the answer is still wanted.
        drop(stdin);
        let status = process.wait().await.map_err(|error| HostTrouble(format!("the compiler was lost: {error}")))?;
        match heard {
            Ok(Heard::Answer(Answer::Refused(refused))) => Err(refused.into()),
            Ok(Heard::Answer(Answer::Compiled(inspection))) if status.success() => Ok(*inspection),
            Ok(Heard::Answer(Answer::Compiled(_))) => Err(judge(status, &last_words, limits)),
            Ok(Heard::TooLarge { what, bytes_max }) => Err(InspectError::CompileLimit(format!("{what} is larger than {bytes_max} bytes")).into()),
            Err(error) if status.success() => Err(HostTrouble(format!("the image could not be taken from the compiler: {error}")).into()),
            Err(_) => Err(judge(status, &last_words, limits)),
        }
    }

    /// What was compiled.
    pub(super) fn into_image(self) -> NamedTempFile {
        self.image
    }

    /// Ends it, and waits until it has ended.
    pub(super) async fn end(mut self) {
        if let Err(error) = self.process.kill().await {
            tracing::warn!(%error, "a compiler could not be ended");
        }
    }
}

/// What a process has used of the processor so far; none where the system does not tell.
pub(super) fn processor_time(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; 14th and 15th of all fields are the time in user mode and in the kernel.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

async fn feed(stdin: &mut ChildStdin, limits: &CompileLimits, bytes: &[u8]) -> io::Result<()> {
    let mut head = Vec::new();
    write_head(&mut head, &Order { limits: *limits, bytes: bytes.len() as u64 })?;
    stdin.write_all(&head).await?;
    stdin.write_all(bytes).await?;
    stdin.flush().await
}

/// What came from a worker.
enum Heard {
    Answer(Answer),
    /// More of something than is taken.
    TooLarge {
        what: &'static str,
        bytes_max: u64,
    },
}

async fn listen(mut stdout: ChildStdout, image: &NamedTempFile, image_bytes_max: u64) -> io::Result<Heard> {
    let length = stdout.read_u32_le().await?;
    if length > HEAD_BYTES_MAX {
        return Ok(Heard::TooLarge { what: "the description of its types", bytes_max: HEAD_BYTES_MAX.into() });
    }
    let mut json = Vec::new();
    (&mut stdout).take(length.into()).read_to_end(&mut json).await?;
    let answer: Answer = serde_json::from_slice(&json)?;
    if matches!(answer, Answer::Compiled(_)) {
        let mut file = tokio::fs::File::from_std(image.reopen()?);
        let written = io::copy(&mut stdout.take(image_bytes_max + 1), &mut file).await?;
        file.flush().await?;
        if written > image_bytes_max {
            return Ok(Heard::TooLarge { what: "its native image", bytes_max: image_bytes_max });
        }
    }
    Ok(Heard::Answer(answer))
}

/// Reads all, so that the worker never waits, and keeps the beginning.
async fn last_words(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let _ = (&mut stderr).take(LAST_WORDS_BYTES_MAX).read_to_end(&mut kept).await;
    let _ = io::copy(&mut stderr, &mut io::sink()).await;
    InspectError::cleaned(String::from_utf8_lossy(&kept).trim())
}

/// How a worker ended that gave no answer → whose fault it is.
fn judge(status: ExitStatus, last_words: &str, limits: &CompileLimits) -> CompileError {
    const SIGABRT: i32 = 6;
    const SIGBUS: i32 = 7;
    const SIGSEGV: i32 = 11;
    const SIGXCPU: i32 = 24;
    /// What Rust ends with after a panic.
    const PANICKED: i32 = 101;
    tracing::info!(%status, last_words, "a compiler ended without an answer");
    let refused = |text: String| CompileError::Refused(InspectError::CompileLimit(text));
    let too_much_memory = || refused(format!("compiling it takes more than {} MiB of memory", limits.memory_bytes >> 20));
    match (status.signal(), status.code()) {
        (Some(SIGXCPU), _) => refused(format!("compiling it takes more than {} s on the processor", limits.cpu_sec)),
        (Some(SIGABRT), _) if !last_words.contains("overflowed its stack") => too_much_memory(),
        (_, Some(PANICKED)) if last_words.contains("Cannot allocate memory") || last_words.contains("os error 12") => too_much_memory(),
        (Some(SIGABRT | SIGSEGV | SIGBUS), _) | (_, Some(PANICKED)) => refused("the compiler cannot cope with it".to_owned()),
        _ => HostTrouble(format!("the compiler ended with {status}: {last_words}")).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(raw: i32, last_words: &str) -> String {
        let limits = CompileLimits::default();
        match judge(ExitStatus::from_raw(raw), last_words, &limits) {
            CompileError::Refused(refused) => refused.to_string(),
            CompileError::Trouble(trouble) => format!("trouble: {trouble}"),
            CompileError::Busy => "busy".to_owned(),
        }
    }

    #[test]
    fn a_worker_that_died_of_its_limits_is_the_modules_fault_and_any_other_is_not() {
        assert!(judged(24, "").contains("30 s on the processor"));
        assert!(judged(6, "memory allocation failed").contains("2048 MiB of memory"));
        assert!(judged(6, "thread 'main' has overflowed its stack").contains("cannot cope"));
        assert!(judged(11, "").contains("cannot cope"));
        assert!(judged(101 << 8, "thread panicked").contains("cannot cope"));
        assert!(judged(9, "").starts_with("trouble: "), "the machine ran out of memory, or somebody killed it");
        assert!(judged(1 << 8, "no such file").contains("no such file"));
    }
}
