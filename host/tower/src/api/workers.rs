//! `/workers`: outside workers that fetch steps; `/executors`: what runs steps, and how much of it is free.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tower_domain::code_ref::Lane;
use tower_domain::definition::is_plain;
use tower_domain::name::Name;
use tower_outside::queue::Delivery;
use tower_outside::wire::Handed;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::JsonBody;
use super::problem::{Problem, ProblemBody, codes};
use super::types::List;

/// Longest wait for a step.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long is waited where nothing is said.
const WAIT: Duration = Duration::from_secs(30);

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(fetch_step)).routes(routes!(list_executors)).routes(routes!(find_executor_stats))
}

/// A wish for a step.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FetchStep)]
struct FetchStep {
    /// `worker://queue` of a definition, without the scheme.
    #[schema(value_type = String, example = "gpu")]
    queue: Name,
    /// Who asks, for people: the same for all requests of one worker.
    #[serde(default)]
    #[schema(max_length = 1024)]
    worker: String,
    /// How long to wait for one, at most 60s: `30s`.
    #[serde(default)]
    #[schema(example = "30s")]
    wait: Option<String>,
}

/// Fetch a step
///
/// Waits until a task of the queue can run, at most `wait`. One request is room for one step: nothing of a queue is claimed that nobody
/// asks for. The step is the worker's as long as it is heard of: any call with the token counts, and `/heartbeat` is one. Whoever says
/// nothing for `lease_ms` has lost it.
#[utoipa::path(
    post,
    path = "/workers/claim",
    tag = "workers",
    request_body = FetchStep,
    responses(
        (status = 200, description = "A step, with the token of this attempt at it", body = Handed),
        (status = 204, description = "There was none as long as was waited"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn fetch_step(State(api): State<Api>, JsonBody { value, .. }: JsonBody<FetchStep>) -> Result<Response, Problem> {
    let FetchStep { queue, worker, wait } = value;
    if !is_plain(&worker) {
        return Err(Problem::field(&codes::BAD_FIELDS, "/worker", "at most 1024 bytes of text without control characters"));
    }
    let bad = || Problem::field(&codes::BAD_FIELDS, "/wait", "a duration of at most 60s, such as 30s or 500ms");
    let wait = match wait {
        None => WAIT,
        Some(text) => crate::config::parse_duration(&text).ok().filter(|wait| *wait <= WAIT_MAX).ok_or_else(bad)?,
    };
    let worker = if worker.is_empty() { "unnamed" } else { &worker };
    let handed = tokio::select! {
        biased;
        () = api.stop.cancelled() => None,
        handed = api.outside.queues.fetch(&queue, worker, wait) => handed,
    };
    Ok(match handed {
        Some(delivery) => told(delivery),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// The answer that takes a step to its worker. The step is the worker's when its first byte goes out: a connection that is found closed
/// before loses nothing.
fn told(delivery: Delivery) -> Response {
    let (mut head, body) = Json(delivery.handed()).into_response().into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    let late = || axum::Error::new("it took too long: the step was given to somebody else");
    let start = stream::once(async move { delivery.take().then(Bytes::new).ok_or_else(late) });
    Response::from_parts(head, Body::from_stream(start.chain(body.into_data_stream())))
}

/// What runs steps, on the host that answers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Executor)]
pub(crate) struct ExecutorBody {
    /// `wasm`, `docker`, `http` or `worker`.
    pub(crate) executor: String,
    /// Where its tasks wait: `wasm`, `docker`, `http` or `worker/QUEUE`.
    #[schema(value_type = String)]
    pub(crate) lane: Lane,
    /// Steps that it runs.
    pub(crate) running: u32,
    /// Steps that it can run at the same time, those included. Of a queue: as many as there are workers that ask or work.
    pub(crate) slots: u32,
    /// Tasks of this lane that could run now, over all hosts; 10 000 if it is that or more.
    pub(crate) ready: u64,
    /// Workers of the queue that were heard of within two minutes.
    pub(crate) workers: Option<u32>,
}

fn kind(lane: &Lane) -> &'static str {
    match lane {
        Lane::Process => "wasm",
        Lane::Containers => "docker",
        Lane::Http => "http",
        Lane::Queue(_) => "worker",
    }
}

async fn executors(api: &Api) -> Result<Vec<ExecutorBody>, Problem> {
    let load = api.engine.load();
    let ready = api.stores().read.lanes().await?;
    let ready_in = |lane: &Lane| ready.iter().find(|used| used.lane == *lane).map_or(0, |used| used.ready);
    let body = |lane: Lane, running, slots, workers| ExecutorBody { executor: kind(&lane).to_owned(), running, slots, ready: ready_in(&lane), workers, lane };
    let mut bodies = vec![body(Lane::Process, load.running, load.slots, None)];
    let queues = api.outside.queues.queues();
    let workers_of = |lane: &Lane| match lane {
        Lane::Queue(name) => Some(queues.iter().find(|queue| queue.queue == *name).map_or(0, |queue| queue.workers)),
        Lane::Process | Lane::Containers | Lane::Http => None,
    };
    for lane in api.engine.lanes() {
        let workers = workers_of(&lane.lane);
        bodies.push(body(lane.lane, lane.running, lane.slots, workers));
    }
    // Queues that wait for workers, and workers that were here a moment ago.
    let more = ready.iter().map(|used| used.lane.clone()).chain(queues.iter().map(|queue| Lane::Queue(queue.queue.clone())));
    for lane in more {
        if !bodies.iter().any(|body| body.lane == lane) {
            let workers = workers_of(&lane);
            bodies.push(body(lane, 0, 0, workers));
        }
    }
    bodies[1..].sort_by(|one, other| one.lane.cmp(&other.lane));
    Ok(bodies)
}

/// List what runs steps
///
/// A line for each executor and each queue of outside workers: what runs on the host that answers, how much it can run, and what waits
/// over all hosts.
#[utoipa::path(get, path = "/executors", tag = "workers", responses((status = 200, body = List<ExecutorBody>)))]
async fn list_executors(State(api): State<Api>) -> Result<Json<List<ExecutorBody>>, Problem> {
    Ok(Json(List::whole(executors(&api).await?)))
}

/// How much runs, in all.
#[derive(Debug, Serialize, ToSchema)]
struct ExecutorStats {
    /// Steps that run in containers.
    running: u32,
    /// Containers at the same time.
    max: u32,
    /// Places for containers that are free.
    idle: u32,
    /// Steps that run, whatever runs them.
    running_tasks: u32,
    /// Tasks that could run now.
    queued_tasks: u64,
}

/// How much runs
#[utoipa::path(get, path = "/executor/stats", tag = "workers", responses((status = 200, body = ExecutorStats)))]
async fn find_executor_stats(State(api): State<Api>) -> Result<Json<ExecutorStats>, Problem> {
    let executors = executors(&api).await?;
    let (running, max) = executors.iter().find(|body| body.lane == Lane::Containers).map_or((0, 0), |body| (body.running, body.slots));
    Ok(Json(ExecutorStats {
        running,
        max,
        idle: max.saturating_sub(running),
        running_tasks: executors.iter().map(|body| body.running).sum(),
        queued_tasks: executors.iter().map(|body| body.ready).sum(),
    }))
}
