//! What happens to every request: a request id, the host and origin checked, panics caught, refusals put into their one shape,
//! security headers.

use std::any::Any;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use super::ApiSettings;
use super::problem::{CONTENT_TYPE, Problem, codes};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken from a caller, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Wraps the routes.
pub(super) fn around(router: Router, settings: &ApiSettings) -> Router {
    router
        .fallback(|| std::future::ready(Problem::of_status(axum::http::StatusCode::NOT_FOUND)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(settings.loopback_only, guard))
        .layer(middleware::from_fn(describe))
        .layer(middleware::from_fn(super::unread::close))
        // Leaves event streams alone.
        .layer(CompressionLayer::new())
}

fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<&str>().copied().or_else(|| cause.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)");
    tracing::error!(panic = text, "a handler panicked");
    Problem::of_status(axum::http::StatusCode::INTERNAL_SERVER_ERROR).into_response()
}

/// Keeps web pages of other origins out: a browser sends requests wherever a page tells it to.
async fn guard(State(loopback_only): State<bool>, request: Request, next: Next) -> Response {
    match refusal(loopback_only, request.method(), request.uri(), request.headers()) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(loopback_only: bool, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Problem> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let host = uri.authority().map(|authority| authority.as_str()).or_else(|| text(&header::HOST)).unwrap_or_default();
    if loopback_only && !is_loopback(host) {
        let problem = Problem::new(&codes::WRONG_HOST, format!("this host answers on loopback only, and the request is for `{}`", host.escape_debug()));
        return Some(problem.with_hint("ask for http://127.0.0.1 or http://localhost with the port"));
    }
    if method.is_safe() {
        return None;
    }
    let cross_site = text(&HeaderName::from_static("sec-fetch-site")).is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let other_origin = text(&header::ORIGIN).is_some_and(|origin| origin.split_once("://").is_none_or(|(_, origin)| origin != host));
    (cross_site || other_origin).then(|| Problem::new(&codes::CROSS_SITE, "a page of another origin sent this"))
}

/// Whether a Host header names this machine's loopback.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Gives the request an id, writes problems, and adds the headers that every answer has.
async fn describe(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let mut response = {
        use tracing::Instrument as _;
        let span = tracing::info_span!("request", request.id = %id, http.method = %method, http.path = %path);
        next.run(request).instrument(span).await
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        response = described(response, &path, &id);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unknown")));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let policy = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// A problem as the caller reads it; what the framework refused by itself becomes one too.
fn described(response: Response, path: &str, id: &str) -> Response {
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|media_type| media_type == "application/json");
    let (parts, body) = response.into_parts();
    let problem = match parts.extensions.get::<Problem>() {
        Some(problem) => problem.clone(),
        // An answer of ours that is not a problem: readiness.
        None if is_json => return Response::from_parts(parts, body),
        None => Problem::of_status(parts.status),
    };
    let mut response = (parts.status, axum::Json(problem.body(path, id))).into_response();
    for kept in [header::ALLOW, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&kept) {
            response.headers_mut().insert(kept, value.clone());
        }
    }
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// The caller's id where it is fit for a log, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let sound = |id: &&str| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    given.filter(sound).map_or_else(|| format!("req_{:032x}", rand::random::<u128>()), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_served_on_loopback() {
        for host in ["127.0.0.1:8001", "localhost", "LOCALHOST:1", "[::1]:8001", "127.9.9.9"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1", "[::2]:1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn pages_of_other_origins_may_not_post() {
        let asked = |method: Method, pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
            refusal(true, &method, &Uri::from_static("/api/v1/traces"), &headers).map(|problem| problem.code())
        };
        let host = ("host", "localhost:8001");
        assert_eq!(asked(Method::POST, &[host]), None);
        assert_eq!(asked(Method::POST, &[host, ("origin", "http://localhost:8001")]), None);
        assert_eq!(asked(Method::POST, &[host, ("origin", "http://evil.example")]), Some("CROSS_SITE"));
        assert_eq!(asked(Method::POST, &[host, ("origin", "null")]), Some("CROSS_SITE"));
        assert_eq!(asked(Method::POST, &[host, ("sec-fetch-site", "cross-site")]), Some("CROSS_SITE"));
        assert_eq!(asked(Method::GET, &[host, ("sec-fetch-site", "cross-site")]), None);
        assert_eq!(asked(Method::GET, &[("host", "evil.example")]), Some("WRONG_HOST"));
    }
}
