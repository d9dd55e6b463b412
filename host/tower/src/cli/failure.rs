//! How a command ends when it does not end well: an exit code, a text for people, and, in JSON mode, a problem object.

use serde::Serialize;

use super::codes::{self, OwnCode};
use crate::api::codes as api;
use crate::api::problem::{Problem, ProblemBody, causes};

/// Exit codes. Documented for scripts: they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The thing that was asked about failed, or something else did.
    Failed = 1,
    /// The command or its input is wrong.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Not allowed.
    Auth = 4,
    /// The order does not fit the state.
    Conflict = 5,
    /// No server answers.
    Unreachable = 6,
    /// The wait is over and the trace goes on.
    TimedOut = 7,
    /// The trace was cancelled.
    Cancelled = 8,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// What a problem of the API comes to.
    pub(crate) fn of_problem(status: u16, code: &str) -> Self {
        match status {
            _ if code == api::IDEMPOTENCY_KEY_REUSED.name => Self::Conflict,
            404 => Self::NotFound,
            401 | 403 => Self::Auth,
            409 | 412 => Self::Conflict,
            400..=499 => Self::Usage,
            503 => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What to say; none: it was said.
    pub(crate) said: Option<Said>,
}

/// What to say.
#[derive(Debug)]
pub(crate) enum Said {
    /// An error of the command line's own.
    Own {
        /// Stable word.
        code: &'static str,
        /// What is wrong.
        message: String,
        /// The next command.
        help: Option<String>,
    },
    /// What the API answered.
    Problem(Box<ProblemBody>),
}

impl Failure {
    /// Ends with this exit code and says nothing more.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, said: None }
    }

    /// An error of the command line's own.
    pub(crate) fn own(code: &'static OwnCode, message: impl Into<String>) -> Self {
        Self { exit: code.exit, said: Some(Said::Own { code: code.name, message: message.into(), help: Some(code.remedy.to_owned()) }) }
    }

    /// A component that the tower does not run, under the code that the server would refuse it with.
    pub(crate) fn refused(code: &'static str, message: &str) -> Self {
        let help = tower_domain::codes::find(code).map(|code| code.remedy.to_owned());
        Self { exit: Exit::Failed, said: Some(Said::Own { code, message: message.to_owned(), help }) }
    }

    /// Something wrong with the command or its input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::own(&codes::USAGE, message)
    }

    /// Says what it is about.
    pub(crate) fn about(mut self, what: &str) -> Self {
        match &mut self.said {
            Some(Said::Own { message, .. }) => *message = format!("{what}: {message}"),
            Some(Said::Problem(problem)) => problem.detail = format!("{what}: {}", problem.detail),
            None => {}
        }
        self
    }

    /// Says what to do next.
    pub(crate) fn help(mut self, next: impl Into<String>) -> Self {
        if let Some(Said::Own { help, .. }) = &mut self.said {
            *help = Some(next.into());
        }
        self
    }

    /// What the API answered.
    pub(crate) fn problem(problem: ProblemBody) -> Self {
        Self { exit: Exit::of_problem(problem.status, &problem.code), said: Some(Said::Problem(Box::new(problem))) }
    }

    /// What is wrong, in words.
    pub(crate) fn message(&self) -> &str {
        match &self.said {
            Some(Said::Own { message, .. }) => message,
            Some(Said::Problem(problem)) => &problem.detail,
            None => "",
        }
    }

    /// For `--json`: the one shape that errors have.
    pub(crate) fn json(&self) -> Option<String> {
        #[derive(Serialize)]
        struct Own<'a> {
            #[serde(rename = "type")]
            problem_type: String,
            title: &'a str,
            status: Option<u16>,
            detail: &'a str,
            code: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<&'a str>,
        }
        let text = match self.said.as_ref()? {
            Said::Problem(problem) => serde_json::to_string(problem),
            Said::Own { code, message, help } => serde_json::to_string(&Own {
                problem_type: format!("/problems/{}", code.to_ascii_lowercase().replace('_', "-")),
                title: "The command failed",
                status: None,
                detail: message,
                code,
                hint: help.as_deref(),
            }),
        };
        text.ok()
    }

    /// For people.
    pub(crate) fn prose(&self) -> Option<String> {
        let mut text = String::new();
        match self.said.as_ref()? {
            Said::Own { code, message, help } => {
                text.push_str(&format!("error[{code}]: {message}"));
                if let Some(help) = help {
                    text.push_str(&format!("\n  help: {help}"));
                }
            }
            Said::Problem(problem) => {
                text.push_str(&format!("error[{}]: {}", problem.code, problem.title));
                if !problem.detail.is_empty() {
                    text.push_str(&format!("\n  {}", problem.detail.replace('\n', "\n  ")));
                }
                for error in problem.errors.iter().filter(|error| !problem.detail.starts_with(&format!("{}: ", error.pointer))) {
                    text.push_str(&format!("\n  at {}: {}", error.pointer, error.message));
                }
                if let Some(hint) = next_command(&problem.code).or(problem.hint.as_deref()).or_else(|| remedy(&problem.code)) {
                    text.push_str(&format!("\n  help: {hint}"));
                }
                if !problem.request_id.is_empty() {
                    text.push_str(&format!("\n  request: {}", problem.request_id));
                }
            }
        }
        Some(text)
    }
}

/// A refusal by an engine in this process, as the API would have answered it.
impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::problem(problem.body("", ""))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::own(&codes::FAILED, format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::own(&codes::FAILED, causes(&error))
    }
}

/// What to type next, where the API's own hint speaks of requests.
fn next_command(code: &str) -> Option<&'static str> {
    match code {
        "NO_SUCH_DEFINITION" => Some("tower defs ls lists them; tower apply -f tower.toml puts them"),
        "NO_SUCH_TRACE" => Some("tower traces lists them"),
        "NO_SUCH_TASK" => Some("tower tasks TRACE lists them"),
        "NO_SUCH_MODULE" | "MODULE_UNKNOWN" => Some("tower modules ls lists them; tower push FILE.wasm --name NAME uploads one"),
        "PARAMS_INVALID" => Some("tower defs get ID --json shows the params_schema"),
        "NOT_ENDED" => Some("tower watch TRACE waits for it; tower cancel TRACE ends it"),
        _ => None,
    }
}

/// What the catalogue says for codes that come with no hint of their own.
fn remedy(code: &str) -> Option<&'static str> {
    tower_domain::codes::find(code).map(|code| code.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::problem::codes;

    #[test]
    fn problems_map_to_exit_codes() {
        for (code, exit) in [
            (&codes::NO_SUCH_TRACE, Exit::NotFound),
            (&codes::NOT_ENDED, Exit::Conflict),
            (&codes::STALE_VERSION, Exit::Conflict),
            (&codes::IDEMPOTENCY_KEY_REUSED, Exit::Conflict),
            (&codes::PARAMS_INVALID, Exit::Usage),
            (&codes::UNAVAILABLE, Exit::Unreachable),
            (&codes::INTERNAL, Exit::Failed),
            (&codes::CROSS_SITE, Exit::Auth),
        ] {
            assert_eq!(Failure::from(Problem::new(code, "")).exit, exit, "{}", code.name);
        }
    }

    #[test]
    fn prose_names_the_place_and_the_remedy() {
        let problem = Problem::field(&codes::PARAMS_INVALID, "/params/company", "required").with_hint("tower defs get research");
        assert_eq!(
            Failure::from(problem).prose().unwrap(),
            "error[PARAMS_INVALID]: Params do not fit the schema\n  /params/company: required\n  help: tower defs get ID --json shows the params_schema"
        );
    }
}
