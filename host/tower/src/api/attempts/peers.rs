//! Attempts that another host of the same database holds: calls about them are passed on, so that a load balancer may send them anywhere.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_domain::id::TaskId;

use super::token_of;
use crate::api::Api;
use crate::api::extract::read_body;
use crate::api::problem::{Problem, codes};

/// Marks a call that was passed on: it is not passed on again.
const PASSED_ON: HeaderName = HeaderName::from_static("x-tower-passed-on");
/// How long another host may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest body that is passed on, in bytes: as large as any that is taken.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Largest answer that is passed back, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The way to other hosts.
#[derive(Clone)]
pub(crate) struct Peers(reqwest::Client);

impl Peers {
    /// None is known yet.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy();
        Ok(Self(client.tcp_nodelay(true).build()?))
    }
}

/// Passes a call on if its attempt is another host's; else it is answered here.
pub(super) async fn pass_on(State(api): State<Api>, request: Request, next: Next) -> Response {
    let url = match unknown_here(&api, &request) {
        Some(task) => other_host(&api, task).await,
        None => None,
    };
    match url {
        Some(url) => passed_on(&api, &url, request).await.unwrap_or_else(IntoResponse::into_response),
        None => next.run(request).await,
    }
}

/// The task that a call is about, from its path: `/api/v1/attempts/{task_id}/…`.
fn task_of(path: &str) -> Option<TaskId> {
    let mut segments = path.split('/').skip_while(|segment| *segment != "attempts");
    segments.nth(1)?.parse().ok()
}

/// The task of a call that may be about another host's attempt.
fn unknown_here(api: &Api, request: &Request) -> Option<TaskId> {
    if !api.engine.config().shared || request.headers().contains_key(PASSED_ON) {
        return None;
    }
    // Whoever shows no token learns nothing, and costs no look at the database.
    token_of(request.headers())?;
    task_of(request.uri().path()).filter(|task| !api.outside.desk.knows(*task))
}

/// Where the host is that holds the task; none: here, or nowhere.
async fn other_host(api: &Api, task: TaskId) -> Option<String> {
    let owner = api.stores().read.task(task).await.ok().flatten()?.lease_owner.filter(|owner| *owner != api.engine.config().host)?;
    let hosts = api.engine.hosts().await.ok()?;
    hosts.into_iter().find(|host| host.beat.id == owner)?.beat.url
}

async fn passed_on(api: &Api, url: &str, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (bytes, _room) = read_body(&parts.headers, body, BODY_BYTES_MAX, api).await?;
    let target = format!("{url}{}", parts.uri.path_and_query().map_or("", |path| path.as_str()));
    let mut headers = HeaderMap::new();
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT, HeaderName::from_static("x-request-id")] {
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(PASSED_ON, HeaderValue::from_static("1"));
    let unreachable = |error: reqwest::Error| {
        tracing::warn!(%error, url, "the host that holds an attempt cannot be reached");
        Problem::new(&codes::PEER_UNREACHABLE, "the host that holds this attempt cannot be reached from this one")
            .with_hint("send it again: if that host is gone, the attempt is over; --advertise-url of each host must be reachable from the others")
    };
    let answer = api.peers.0.request(parts.method, target).headers(headers).body(bytes).send().await.map_err(unreachable)?;
    let (status, kind) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
    if answer.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX as u64) {
        return Err(Problem::new(&codes::PEER_UNREACHABLE, "the other host's answer is too large"));
    }
    let bytes = answer.bytes().await.map_err(unreachable)?;
    // A problem keeps its words: it is one of ours already.
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}
