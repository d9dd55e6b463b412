//! A trace's events as they happen, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tower_domain::id::TraceId;
use tower_domain::trace::Trace;
use tower_engine::feed::Follow;

use crate::api::Api;
use crate::api::problem::{Problem, codes};
use crate::api::types::{EventBody, TraceBody};

/// How long a client waits before it comes back.
const RETRY: Duration = Duration::from_millis(2_000);
/// How often a silent stream says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// When a client that found no place may come again, in seconds.
const NO_PLACE_WAIT_SEC: u32 = 5;

/// Everything of `trace` after `after`, then what happens, until its end or the server's.
pub(super) fn follow(api: Api, trace: Trace, after: u64, last_seen: Option<u64>) -> Result<Response, Problem> {
    if last_seen.is_some_and(|seen| seen > trace.last_seq) {
        return Err(Problem::new(&codes::BAD_HEADER, format!("Last-Event-ID: the latest event of this stream is {}", trace.last_seq)));
    }
    if trace.status.is_terminal() && trace.counts.open() == 0 && last_seen == Some(trace.last_seq) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let Ok(place) = api.streams.clone().try_acquire_owned() else {
        let problem = Problem::new(&codes::TOO_MANY_STREAMS, "as many event streams are open as this host serves at a time");
        return Err(problem.with_retry_after(NO_PLACE_WAIT_SEC).with_hint("read the events as a list: the same path without Accept: text/event-stream"));
    };
    let stop = api.stop.clone();
    let trace_id = trace.trace_id;
    let follow = api.engine.follow(trace_id, after);
    let snapshot = event("snapshot", None, &TraceBody::from(trace)).retry(RETRY);
    let reader = Reader { api, trace_id, follow: Some(follow), ready: VecDeque::from([snapshot]), last_seq: after, _place: place };
    let events = futures::stream::unfold(reader, Reader::next).take_until(stop.cancelled_owned());
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Proxies that gather answers would make a live stream a late one.
    Ok(([(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))], sse).into_response())
}

struct Reader {
    api: Api,
    trace_id: TraceId,
    /// None: the end was reached.
    follow: Option<Follow>,
    /// Read, and not yet taken by the client: one batch at the most. What comes after it stays where it is.
    ready: VecDeque<Event>,
    last_seq: u64,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            match self.follow.as_mut()?.next().await {
                Some(Ok(events)) => {
                    self.last_seq = events.last().map_or(self.last_seq, |last| last.seq);
                    self.ready.extend(events.into_iter().map(|happened| {
                        let body = EventBody::from(happened);
                        event(body.stream_name(), Some(body.seq), &body)
                    }));
                }
                Some(Err(failure)) => {
                    tracing::error!(trace.id = %self.trace_id, error = %crate::api::problem::causes(&failure), "an event stream broke off");
                    return None;
                }
                None => {
                    self.follow = None;
                    let trace = self.api.stores().read.trace(self.trace_id).await.ok().flatten()?;
                    self.ready.push_back(event("end", Some(self.last_seq), &TraceBody::from(trace)));
                }
            }
        }
    }
}

fn event<T: Serialize>(name: &str, seq: Option<u64>, body: &T) -> Event {
    // Bodies serialise: their maps have text for keys.
    let data = serde_json::to_string(body).unwrap_or_else(|_| "null".to_owned());
    let event = Event::default().event(name).data(data);
    match seq {
        Some(seq) => event.id(seq.to_string()),
        None => event,
    }
}
