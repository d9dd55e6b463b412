//! A step that is posted to whoever does it, and what an answer to that says: the same for workers that are called and containers that serve.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tower_domain::codes;
use tower_domain::definition::bounds::JSON_BYTES_MAX;
use tower_domain::json::Json;
use tower_domain::step::{FailureClass, Step, StepEnd, StepFailure};
use tower_domain::task::{TaskError, clean};

use crate::ends::{fatal, retryable, too_large};
use crate::wire::{CompleteBody, FailBody, Handed};

/// What an answer may hold beside the output.
pub(crate) const ANSWER_BYTES_MAX: usize = JSON_BYTES_MAX + 64 * 1024;

/// Bytes of an answer that is no result that are quoted.
pub(crate) const QUOTED_BYTES_MAX: usize = 500;

/// Posts the step. Ends with what the answer says; never, if it says that the step was taken and will be ended with a call. `who` it is
/// goes into messages.
pub(crate) async fn deliver(client: &Client, url: reqwest::Url, step: &Step, handed: &Handed, who: &str) -> StepEnd {
    let request = client.post(url).header("idempotency-key", step.idempotency_key()).header("traceparent", traceparent(step)).json(handed);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return retryable(codes::WORKER_UNREACHABLE.name, format!("the {who} cannot be reached: {}", chain(&error))),
    };
    match response.status() {
        StatusCode::OK => match body(response, who).await {
            Ok(text) => answered(&text, who),
            Err(end) => end,
        },
        // It took the step, and ends it with a call.
        StatusCode::ACCEPTED | StatusCode::NO_CONTENT => std::future::pending().await,
        status => refused(status, response, who).await,
    }
}

/// The W3C header: a ULID has the 16 bytes that a trace id needs, and the last 8 of the task's are as good as random.
fn traceparent(step: &Step) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("00-{}-{}-01", hex(&step.trace_id.to_bytes()), hex(&step.task_id.to_bytes()[8..]))
}

async fn body(mut response: Response, who: &str) -> Result<String, StepEnd> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > ANSWER_BYTES_MAX => {
                return Err(fatal(codes::GUEST_RESULT_TOO_LARGE.name, format!("the {who}'s answer is more than {ANSWER_BYTES_MAX} bytes")));
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Err(retryable(codes::WORKER_UNREACHABLE.name, format!("the {who}'s answer broke off: {}", chain(&error)))),
        }
    }
    String::from_utf8(bytes).map_err(|_| fatal(codes::GUEST_BAD_RESULT.name, format!("the {who}'s answer is not UTF-8")))
}

fn answered(text: &str, who: &str) -> StepEnd {
    let bad = |why: String| fatal(codes::GUEST_BAD_RESULT.name, format!("the {who}'s answer is not {{\"output\": …}}: {why}"));
    let json = match Json::parse(text, ANSWER_BYTES_MAX) {
        Ok(json) => json,
        Err(error) => return bad(error.to_string()),
    };
    match json.read::<CompleteBody>() {
        Ok(CompleteBody { output, last }) => too_large(&output).unwrap_or(StepEnd::Finished { output, last }),
        Err(error) => bad(error.to_string()),
    }
}

/// The worker did not do it. What it says of itself counts; else its status does.
async fn refused(status: StatusCode, response: Response, who: &str) -> StepEnd {
    let after = retry_after(response.headers());
    let text = body(response, who).await.unwrap_or_default();
    if let Ok(said) = serde_json::from_str::<FailBody>(&text) {
        let failure = StepFailure::from(said);
        return StepEnd::Failed(StepFailure { after: failure.after.or(after), ..failure });
    }
    let class = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY => FailureClass::Retryable,
        status if status.is_server_error() => FailureClass::Retryable,
        _ => FailureClass::Fatal,
    };
    let message = format!("the {who} answered {status}: {}", clean(&text, QUOTED_BYTES_MAX));
    let code = if class == FailureClass::Retryable { codes::WORKER_FAILED } else { codes::WORKER_REFUSED };
    StepEnd::Failed(StepFailure { class, error: TaskError::new(code.name, &message), after })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
