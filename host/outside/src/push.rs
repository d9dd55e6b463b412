//! Workers that are called: `http://…` and `https://…`.
//!
//! The step goes out by POST. The worker answers with the result (200), or that it took the step (202) and ends it with a call later. Only
//! addresses that the operator listed are called; redirects are not followed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Client;
use tower_domain::code_ref::{CodeRef, Lane};
use tower_domain::codes;
use tower_domain::definition::DefinitionSpec;
use tower_domain::id::TaskId;
use tower_domain::step::{CodeProblem, Executor, Settled, Step, StepEnd, StepHost};

use crate::answer::deliver;
use crate::desk::Desk;
use crate::ends::{fatal, stopped, timed_out, without_code};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a worker may be: an origin, and what its paths begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedUrl {
    origin: String,
    path: String,
}

impl AllowedUrl {
    /// From `http://host[:port][/path]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
        let plain = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !plain {
            return Err(format!("`{text}`: `http://host[:port][/path]` or `https://…`, without user, query and `#`"));
        }
        Ok(Self { origin: url.origin().ascii_serialization(), path: url.path().trim_end_matches('/').to_owned() })
    }

    fn allows(&self, url: &reqwest::Url) -> bool {
        let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        url.origin().ascii_serialization() == self.origin && url.path().strip_prefix(self.path.as_str()).is_some_and(below)
    }
}

/// What the operator set.
#[derive(Debug, Clone)]
pub struct PushSettings {
    /// Where workers may be; none: nowhere.
    pub allowed: Vec<AllowedUrl>,
    /// Steps that are out at the same time.
    pub slots: u32,
    /// Where the API is, for workers that answer later.
    pub base: String,
}

/// Calls workers.
pub struct PushExecutor {
    desk: Arc<Desk>,
    client: Client,
    settings: PushSettings,
}

impl PushExecutor {
    /// With the desk that workers reach their steps at.
    pub fn new(desk: Arc<Desk>, settings: PushSettings) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("command-tower/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .build()?;
        Ok(Self { desk, client, settings })
    }

    fn allowed(&self, url: &str) -> Result<reqwest::Url, CodeProblem> {
        let refused = |message| CodeProblem { code: codes::WORKER_NOT_ALLOWED.name, message };
        let parsed = reqwest::Url::parse(url).map_err(|error| refused(format!("`{url}` is no URL: {error}")))?;
        if self.settings.allowed.iter().any(|allowed| allowed.allows(&parsed)) {
            return Ok(parsed);
        }
        let origin = parsed.origin().ascii_serialization();
        Err(refused(format!("this tower calls no workers at {origin}; the operator may allow it: `tower serve --worker-url {origin}`")))
    }
}

#[async_trait]
impl Executor for PushExecutor {
    fn runs(&self, code: &CodeRef) -> bool {
        matches!(code, CodeRef::Http(_))
    }

    fn slots(&self) -> Vec<(Lane, u32)> {
        vec![(Lane::Http, self.settings.slots)]
    }

    async fn check(&self, spec: &DefinitionSpec) -> Result<(), CodeProblem> {
        match &spec.code_ref {
            CodeRef::Http(url) => self.allowed(url.as_str()).map(drop),
            CodeRef::Wasm(_) | CodeRef::Container(_) | CodeRef::Queue(_) => Ok(()),
        }
    }

    async fn run(&self, step: Arc<Step>, host: Arc<dyn StepHost>) -> StepEnd {
        let definition = step.definition.clone();
        let CodeRef::Http(url) = &definition.spec.code_ref else { return StepEnd::Released };
        // The operator may have thought again since the definition was put.
        let url = match self.allowed(url.as_str()) {
            Ok(url) => url,
            Err(problem) => return fatal(problem.code, problem.message),
        };
        if let Some(end) = without_code(&step, &*host).await {
            return end;
        }
        let attempt = self.desk.open(step.clone(), host.clone());
        let handed = attempt.handed(&self.settings.base, None);
        let end = tokio::select! {
            biased;
            end = attempt.ended() => return end,
            stop = host.stopped() => stopped(stop),
            () = tokio::time::sleep(step.timeout) => timed_out(&step),
            end = deliver(&self.client, url, &step, &handed, "worker") => end,
        };
        attempt.close(end)
    }

    fn settled(&self, task: TaskId, fence: u64, settled: Settled) {
        self.desk.settled(task, fence, settled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_called_where_the_operator_allows() {
        let allowed = AllowedUrl::parse("http://worker.example:8080/steps/").unwrap();
        for (url, is_allowed) in [
            ("http://worker.example:8080/steps", true),
            ("http://worker.example:8080/steps/a?b=c", true),
            ("http://worker.example:8080/stepsister", false),
            ("http://worker.example:8080/steps/../admin", false),
            ("http://worker.example/steps", false),
            ("https://worker.example:8080/steps", false),
            ("http://worker.example.evil:8080/steps", false),
        ] {
            assert_eq!(allowed.allows(&reqwest::Url::parse(url).unwrap()), is_allowed, "{url}");
        }
        for bad in ["worker.example", "ftp://worker.example", "http://user@worker.example", "http://worker.example/?a=b", ""] {
            assert!(AllowedUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
