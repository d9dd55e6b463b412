//! What went wrong, in the one shape of the whole API: problem details (RFC 9457), with a stable `code` and a hint at the remedy.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use super::codes::{self, Code};

/// The media type of problem details.
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A refusal or a failure on its way to the caller. Its body is written by the outermost layer, which knows the request.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: &'static Code,
    detail: String,
    errors: Vec<FieldProblem>,
    hint: Option<String>,
    retry_after_sec: Option<u32>,
}

/// One place of the request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FieldProblem {
    /// JSON pointer into the body; `?name` for a query parameter.
    pub(crate) pointer: String,
    /// What is wrong, or what would be right.
    pub(crate) message: String,
}

/// Problem details (RFC 9457).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// Names the kind of problem: `/problems/` and the code in lower case.
    #[serde(rename = "type")]
    pub(crate) problem_type: String,
    /// The kind of problem, for people.
    pub(crate) title: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// This problem, for people.
    pub(crate) detail: String,
    /// The path that was asked for.
    pub(crate) instance: String,
    /// The kind of problem, for programs. Stable.
    pub(crate) code: String,
    /// To be quoted when asking for help; the host's log has it too.
    pub(crate) request_id: String,
    /// Places of the request that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldProblem>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Problem {
    /// A problem of this kind.
    pub(crate) fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), hint: None, retry_after_sec: None }
    }

    /// A problem with one field.
    pub(crate) fn field(code: &'static Code, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let (pointer, message) = (pointer.into(), message.into());
        Self::new(code, format!("{pointer}: {message}")).with_errors(vec![FieldProblem { pointer, message }])
    }

    /// A refusal by an executor, under its own code where the table has it.
    pub(crate) fn executor(code: &str, message: &str, otherwise: &'static Code) -> Self {
        Self::new(codes::ALL.iter().find(|known| known.name == code).copied().unwrap_or(otherwise), message)
    }

    /// Names the places.
    pub(crate) fn with_errors(mut self, errors: Vec<FieldProblem>) -> Self {
        self.errors = errors;
        self
    }

    /// Says what to do.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says when to come again.
    pub(crate) fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_sec = Some(seconds);
        self
    }

    /// The stable word.
    pub(crate) fn code(&self) -> &'static str {
        self.code.name
    }

    /// For people.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// A failure of the host: logged here with its cause, answered without it.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %causes(error), "a request failed");
        Self::new(&codes::INTERNAL, "the host failed; its log has the cause under this request id")
    }

    /// What a response that nobody described means.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => {
                Self::new(&codes::NO_SUCH_ROUTE, "there is nothing at this path").with_hint("GET /api/v1/openapi.json lists what there is; /docs shows it")
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(&codes::METHOD_NOT_ALLOWED, "this path does not take this method; the Allow header names those that it takes")
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(&codes::TOO_LARGE, "the body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(&codes::WRONG_MEDIA_TYPE, "the body has a media type that this path does not take"),
            status if status.is_client_error() => Self::new(&codes::BAD_REQUEST, "the request cannot be understood"),
            _ => Self::new(&codes::INTERNAL, "the host failed; its log has the cause under this request id"),
        }
    }

    /// The body, once the request is known.
    pub(crate) fn body(&self, instance: &str, request_id: &str) -> ProblemBody {
        ProblemBody {
            problem_type: self.code.type_path(),
            title: self.code.title.to_owned(),
            status: self.code.status,
            detail: self.detail.clone(),
            instance: instance.to_owned(),
            code: self.code.name.to_owned(),
            request_id: request_id.to_owned(),
            errors: self.errors.clone(),
            hint: self.hint.clone(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if let Some(seconds) = self.retry_after_sec {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// An error with its causes on one line.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent layers say the same again.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
