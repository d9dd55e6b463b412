//! The command line as a client of the REST API.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sse_stream::SseStream;
use tower_domain::id::TraceId;

use super::codes;
use super::failure::{Exit, Failure};
use crate::api::problem::ProblemBody;
use crate::api::types::EventBody;

/// How long the server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server that has too much to do is asked again.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);
/// How often a broken stream is taken up again before giving up.
const STREAM_TRIES: u32 = 10;

/// A server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
}

/// What it answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: u16,
    /// The body, as it came.
    pub(crate) body: Bytes,
    /// The server's time when it answered, as it says.
    pub(crate) date: Option<String>,
    /// When it wants to be asked again, in seconds.
    pub(crate) retry_after: Option<String>,
}

impl Reply {
    /// How long a server that has too much to do asks to be left alone.
    fn busy(&self) -> Option<Duration> {
        let seconds = self.retry_after.as_deref().and_then(|text| text.parse().ok());
        (self.status == 429).then(|| Duration::from_secs(seconds.unwrap_or(1)))
    }

    /// Reads the body.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::own(&codes::BAD_ANSWER, format!("the server's answer cannot be read: {error}")).help("is the server of the same version? tower version")
        })
    }
}

impl Client {
    /// A client of the server at `url`.
    pub(crate) fn new(url: &str) -> Result<Self, Failure> {
        let base = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let base = base.ok_or_else(|| Failure::usage(format!("--url {url}: an http URL is expected, such as http://127.0.0.1:8001")))?;
        let http =
            reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).no_proxy().user_agent(concat!("tower/", env!("CARGO_PKG_VERSION")));
        let http = http.build().map_err(|error| Failure::own(&codes::FAILED, error.to_string()))?;
        Ok(Self { http, base })
    }

    /// The server, for links.
    pub(crate) fn url(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    fn at(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/api/v1{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let message = format!("no tower answers at {}: {}", self.url(), crate::api::problem::causes(error));
        Failure::own(&codes::UNREACHABLE, message)
    }

    /// Sends a request; anything but success is a failure. A server that has too much to do is asked again for a while: it did nothing.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Result<Reply, Failure> {
        let begin = Instant::now();
        let mut again = request.try_clone();
        let mut reply = self.answer(request).await?;
        while let Some(pause) = reply.busy().filter(|pause| begin.elapsed() + *pause <= BUSY_PATIENCE)
            && let Some(request) = again
        {
            tokio::time::sleep(pause).await;
            again = request.try_clone();
            reply = self.answer(request).await?;
        }
        if (200..300).contains(&reply.status) {
            return Ok(reply);
        }
        match serde_json::from_slice::<ProblemBody>(&reply.body) {
            Ok(problem) => Err(Failure::problem(problem)),
            Err(_) => Err(Failure::own(&codes::BAD_ANSWER, format!("{} answered {}, and not as a tower does", self.url(), reply.status))
                .help("is it a tower? curl that URL with /health")),
        }
    }

    /// Sends a request, and takes whatever is answered.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Reply, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (date, retry_after) = (header("date"), header("retry-after"));
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        Ok(Reply { status, body, date, retry_after })
    }

    /// Any request on any path of the server.
    pub(crate) async fn raw(&self, method: Method, path: &str, headers: HeaderMap, body: Option<Bytes>) -> Result<Reply, Failure> {
        let mut request = self.http.request(method, self.whole(path)?).headers(headers.clone());
        if let Some(body) = body {
            if !headers.contains_key("content-type") {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        self.answer(request).await
    }

    /// GET, of a path with its query.
    pub(crate) async fn get_path(&self, path: &str) -> Result<Reply, Failure> {
        self.send(self.http.get(self.whole(&format!("/api/v1{path}"))?)).await
    }

    fn whole(&self, path: &str) -> Result<Url, Failure> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        if !path.starts_with('/') {
            return Err(Failure::usage(format!("`{path}`: a path begins with /, such as /traces")));
        }
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(query);
        Ok(url)
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Reply, Failure> {
        self.send(self.http.get(self.at(path, query))).await
    }

    /// POST without a body.
    pub(crate) async fn post(&self, path: &str) -> Result<Reply, Failure> {
        self.send(self.http.post(self.at(path, &[]))).await
    }

    /// DELETE.
    pub(crate) async fn delete(&self, path: &str) -> Result<Reply, Failure> {
        self.send(self.http.delete(self.at(path, &[]))).await
    }

    /// GET, read; none: there is no such thing.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        match self.get(path, &[]).await {
            Ok(reply) => reply.read().map(Some),
            Err(failure) if failure.exit == Exit::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// A request with a JSON body.
    pub(crate) async fn json<T: Serialize>(&self, method: Method, path: &str, query: &[(&str, String)], body: &T, key: Option<&str>) -> Result<Reply, Failure> {
        let mut request = self.http.request(method, self.at(path, query)).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request).await
    }

    /// A request with a component.
    pub(crate) async fn upload(&self, query: &[(&str, String)], wasm: Bytes) -> Result<Reply, Failure> {
        self.send(self.http.post(self.at("/modules", query)).header("content-type", "application/wasm").body(wasm)).await
    }

    /// A request with a file, read while it is sent.
    pub(crate) async fn upload_file(&self, path: &str, query: &[(&str, String)], file: tokio::fs::File, bytes: u64) -> Result<Reply, Failure> {
        let body = reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::new(file));
        let request = self.http.post(self.at(path, query)).header("content-type", "application/octet-stream").header("content-length", bytes);
        self.send(request.body(body)).await
    }

    /// A trace's events after `after`, until its end. Goes on where it was when the connection breaks.
    pub(crate) fn follow(&self, trace: TraceId, after: u64) -> BoxStream<'static, Result<EventBody, Failure>> {
        let reader = EventReader { client: self.clone(), trace, after, tries: 0, stream: None, ready: VecDeque::new(), ended: false };
        futures::stream::unfold(reader, EventReader::next).boxed()
    }
}

type RawStream = BoxStream<'static, Result<sse_stream::Sse, sse_stream::Error>>;

struct EventReader {
    client: Client,
    trace: TraceId,
    after: u64,
    tries: u32,
    stream: Option<RawStream>,
    ready: VecDeque<EventBody>,
    ended: bool,
}

impl EventReader {
    async fn next(mut self) -> Option<(Result<EventBody, Failure>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if self.ended {
                return None;
            }
            if let Err(failure) = self.step().await {
                self.ended = true;
                return Some((Err(failure), self));
            }
        }
    }

    async fn step(&mut self) -> Result<(), Failure> {
        let Some(stream) = &mut self.stream else { return self.connect().await };
        match stream.next().await {
            Some(Ok(event)) => match event.event.as_deref() {
                Some("end") => self.ended = true,
                Some("task" | "progress" | "log" | "partial") => {
                    if let Some(body) = event.data.as_deref().and_then(|data| serde_json::from_str::<EventBody>(data).ok()) {
                        self.after = body.seq;
                        self.tries = 0;
                        self.ready.push_back(body);
                    }
                }
                _ => {}
            },
            Some(Err(_)) | None => self.stream = None,
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        if self.tries > 0 {
            tokio::time::sleep(Duration::from_millis(250) * self.tries).await;
        }
        self.tries += 1;
        let url = self.client.at(&format!("/traces/{}/events", self.trace), &[("after", self.after.to_string())]);
        let request = self.client.http.get(url).header("accept", "text/event-stream");
        match request.send().await {
            Ok(response) if response.status().is_success() => {
                let bytes = response.bytes_stream().map_err(std::io::Error::other);
                self.stream = Some(SseStream::from_bytes_stream(bytes).boxed());
                Ok(())
            }
            Ok(response) => {
                let body = response.bytes().await.unwrap_or_default();
                let problem = serde_json::from_slice::<ProblemBody>(&body).map(Failure::problem);
                Err(problem.unwrap_or_else(|_| Failure::own(&codes::BAD_ANSWER, "the event stream was refused")))
            }
            Err(error) if self.tries >= STREAM_TRIES || self.after == 0 => Err(self.client.unreachable(&error)),
            Err(_) => Ok(()),
        }
    }
}
