//! ETags of what can be edited: whether a caller knows it as it is, and what it means to replace.

use axum::http::{HeaderMap, header};

use super::problem::{Problem, codes};

/// An ETag.
pub(super) fn etag(version: impl std::fmt::Display) -> String {
    format!("\"{version}\"")
}

/// Whether `If-None-Match` names this ETag.
pub(super) fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    known.split(',').map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Whether `If-None-Match: *` says that there must be none yet.
pub(super) fn must_be_new(headers: &HeaderMap) -> bool {
    headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*")
}

/// What `If-Match` says is to be replaced.
pub(super) fn replaces<T: std::str::FromStr>(headers: &HeaderMap) -> Result<Option<T>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let version = value.to_str().ok().and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    version.map(Some).ok_or_else(|| Problem::new(&codes::BAD_HEADER, "If-Match: one ETag, as it was given"))
}
