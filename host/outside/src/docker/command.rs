//! Containers that take their step on standard input.
//!
//! What is written there is [`Handed`](crate::wire::Handed), and then the end of input. Standard output, whole, is the output: one JSON
//! text, or nothing for null. Standard error is the log. Exit code 0 ends the step well; 64, 65 and 78 (`EX_USAGE`, `EX_DATAERR`,
//! `EX_CONFIG`) say that trying again is of no use; every other code is tried again. Code that ends its step with a call is past all that.

use tokio::io::AsyncWriteExt;
use tower_domain::codes;
use tower_domain::definition::bounds::JSON_BYTES_MAX;
use tower_domain::json::Json;
use tower_domain::step::{Signal, StepEnd, StepHost};
use tower_domain::task::clean;

use super::container::{Container, Exit};
use super::unavailable;
use crate::answer::QUOTED_BYTES_MAX;
use crate::ends::{fatal, retryable};
use crate::wire::Handed;

/// Exit codes of code that says that trying again is of no use.
const FOR_GOOD: [i64; 3] = [64, 65, 78];

/// Starts a container that was created, hands it the step, and waits for its end.
pub(crate) async fn run(container: &Container, handed: &Handed, host: &dyn StepHost) -> StepEnd {
    let attached = match container.engine.attach(&container.name, true).await {
        Ok(attached) => attached,
        Err(error) => return unavailable(&error),
    };
    if let Err(error) = container.engine.start(&container.name).await {
        return not_started(&error);
    }
    let (output, mut input) = (attached.output, attached.input);
    let hand_over = async {
        // One that ends without reading is not wrong for it; how it ended says whether it is.
        if let Ok(text) = serde_json::to_vec(handed) {
            let _ = input.write_all(&text).await;
            let _ = input.shutdown().await;
        }
        std::future::pending::<StepEnd>().await
    };
    let listen = async {
        container.logs.read(output).await;
        std::future::pending::<StepEnd>().await
    };
    let pass_on = async {
        cancelled(host).await;
        if let Err(error) = container.engine.signal(&container.name, "SIGTERM").await {
            tracing::debug!(container = %container.name, %error, "a container was not told that its step is cancelled");
        }
        std::future::pending::<StepEnd>().await
    };
    let ended = async {
        match container.ended().await {
            Ok(exit) => end(container, exit, host),
            Err(error) => unavailable(&error),
        }
    };
    tokio::select! {
        end = ended => end,
        () = container.logs.too_much() => too_much(),
        end = listen => end,
        end = hand_over => end,
        end = pass_on => end,
    }
}

/// Ends when the step is cancelled.
pub(crate) async fn cancelled(host: &dyn StepHost) {
    loop {
        let heard = host.signal();
        if matches!(heard, Signal::Cancel(_)) {
            return;
        }
        host.signalled(&heard).await;
    }
}

fn too_much() -> StepEnd {
    fatal(codes::GUEST_RESULT_TOO_LARGE.name, format!("the container wrote more than {JSON_BYTES_MAX} bytes to its standard output, which is its output"))
}

/// What the engine says when it cannot start a container is about the image or the definition.
pub(crate) fn not_started(error: &super::engine::EngineError) -> StepEnd {
    use super::engine::EngineError;
    match error {
        EngineError::Away { .. } | EngineError::Missing(_) | EngineError::NoNetwork(_) => unavailable(error),
        EngineError::Refused(why) => fatal(codes::CONTAINER_NOT_STARTED.name, format!("the container cannot be started: {}", clean(why, QUOTED_BYTES_MAX))),
    }
}

/// How a container ended → how the step ended.
fn end(container: &Container, exit: Exit, host: &dyn StepHost) -> StepEnd {
    if exit.code == 0 {
        let output = container.logs.output();
        if output.len() > JSON_BYTES_MAX {
            return too_much();
        }
        return match std::str::from_utf8(&output).map(str::trim) {
            Ok("") => StepEnd::Finished { output: Json::null(), last: false },
            Ok(text) => match Json::parse(text, JSON_BYTES_MAX) {
                Ok(output) => StepEnd::Finished { output, last: false },
                Err(error) => bad(&format!("{error}; it begins with `{}`", clean(text, 100))),
            },
            Err(_) => bad("it is not UTF-8"),
        };
    }
    if matches!(host.signal(), Signal::Cancel(_)) {
        return StepEnd::Cancelled;
    }
    failed(container, exit)
}

fn bad(why: &str) -> StepEnd {
    let rule = "a container's standard output is its output: one JSON text or nothing, with all else on standard error";
    fatal(codes::GUEST_BAD_RESULT.name, format!("the standard output is no JSON: {why}; {rule}"))
}

/// A container that ended badly.
pub(crate) fn failed(container: &Container, exit: Exit) -> StepEnd {
    if exit.out_of_memory {
        return fatal(codes::CONTAINER_OOM.name, "something in the container was killed because it needed more memory than the container has");
    }
    let tail = container.logs.tail();
    let quoted = if tail.is_empty() { "it wrote nothing to its standard error".to_owned() } else { tail };
    let message = format!("the container ended with exit code {}: {quoted}", exit.code);
    if FOR_GOOD.contains(&exit.code) { fatal(codes::CONTAINER_REFUSED.name, message) } else { retryable(codes::CONTAINER_EXIT.name, message) }
}
