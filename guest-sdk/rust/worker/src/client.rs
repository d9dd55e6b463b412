//! Calls to the tower.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{Handed, Problem};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call may take beyond what it waits by itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a call that must arrive is made before it is given up.
const TRIES: u32 = 6;

/// A call that did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tower could not be reached, or its answer broke off.
    #[error("the tower cannot be reached: {0}")]
    Unreachable(#[source] reqwest::Error),
    /// The attempt is over: nothing that is done for it counts any more.
    #[error("the attempt is over: {0}")]
    Over(String),
    /// The tower refused the call.
    #[error("{code}: {detail}")]
    Refused {
        /// The stable word, such as `SPLIT_REFUSED`.
        code: String,
        /// For people.
        detail: String,
        /// The HTTP status.
        status: u16,
    },
    /// What was to be said is no JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Whether the same call may work later.
    pub(crate) fn may_go_away(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Over(_) | Self::Json(_) => false,
        }
    }
}

/// Speaks with a tower.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
}

fn builder() -> reqwest::ClientBuilder {
    // A program that has chosen its cryptography keeps it.
    #[cfg(feature = "tls")]
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).user_agent(concat!("command-tower-worker/", env!("CARGO_PKG_VERSION")))
}

impl Client {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { http: builder().tcp_nodelay(true).build().map_err(Error::Unreachable)? })
    }

    /// With whoever listens at a socket, whatever the addresses say.
    #[cfg(unix)]
    pub(crate) fn at(socket: &std::path::Path) -> Result<Self, Error> {
        Ok(Self { http: builder().no_proxy().unix_socket(socket).build().map_err(Error::Unreachable)? })
    }

    /// One call. Answers the body; none: 204.
    async fn call(&self, method: Method, url: &str, token: Option<&str>, body: Option<&impl Serialize>, wait: Duration) -> Result<Option<String>, Error> {
        let mut request = self.http.request(method, url).timeout(wait + CALL_TIMEOUT);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(Error::Unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(Error::Unreachable)?;
        if status.is_success() {
            return Ok((status != StatusCode::NO_CONTENT).then_some(text));
        }
        let Problem { code, detail } = serde_json::from_str(&text).unwrap_or_default();
        // Without its token known any more, an attempt is as much over as with it.
        if code == "ATTEMPT_OVER" || code == "BAD_TOKEN" {
            return Err(Error::Over(detail));
        }
        Err(Error::Refused { code, detail, status: status.as_u16() })
    }

    /// Waits for a step of a queue.
    pub(crate) async fn fetch(&self, tower: &str, queue: &str, worker: &str, wait: Duration) -> Result<Option<Handed>, Error> {
        let body = serde_json::json!({ "queue": queue, "worker": worker, "wait": format!("{}ms", wait.as_millis()) });
        let answer = self.call(Method::POST, &format!("{tower}/api/v1/workers/claim"), None, Some(&body), wait).await?;
        Ok(answer.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// A question about an attempt.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, url: &str, token: &str) -> Result<T, Error> {
        let answer = self.call(Method::GET, url, Some(token), None::<&()>, Duration::from_secs(60)).await?;
        Ok(serde_json::from_str(answer.as_deref().unwrap_or("null"))?)
    }

    /// Something about an attempt; answers the body.
    pub(crate) async fn tell(&self, url: &str, token: &str, body: &impl Serialize) -> Result<String, Error> {
        Ok(self.call(Method::POST, url, Some(token), Some(body), Duration::ZERO).await?.unwrap_or_default())
    }

    /// The same, again and again while the tower is away: the tower takes the same thing twice for once.
    pub(crate) async fn tell_surely(&self, url: &str, token: &str, body: &impl Serialize) -> Result<String, Error> {
        let mut pause = Duration::from_millis(200);
        for _ in 1..TRIES {
            match self.tell(url, token, body).await {
                Err(error) if error.may_go_away() => tracing::warn!(%error, "the tower is told again"),
                answer => return answer,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.tell(url, token, body).await
    }
}
