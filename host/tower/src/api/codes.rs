//! Every `code` that a problem can carry. `tower help CODE` and docs/errors.md are made of this table and of `tower_domain::codes`, which
//! explains those that have no words here: tasks end with them too.

/// A kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// Stable word.
    pub(crate) name: &'static str,
    /// HTTP status.
    pub(crate) status: u16,
    /// For people, in a few words.
    pub(crate) title: &'static str,
    /// What it means and what to do; empty: `tower_domain::codes` says it.
    pub(crate) doc: &'static str,
}

impl Code {
    /// The `type` of the problem.
    pub(crate) fn type_path(&self) -> String {
        format!("/problems/{}", self.name.to_ascii_lowercase().replace('_', "-"))
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $status:literal $title:literal;)+) => {
        $(#[doc = $title] #[doc = ""] $(#[doc = $doc])* pub(crate) const $name: Code = Code { name: stringify!($name), status: $status, title: $title, doc: concat!($($doc),*) };)+

        /// All of them.
        pub(crate) static ALL: &[&Code] = &[$(&$name),+];
    };
}

codes! {
    /// The request is malformed in a way that no other code names.
    BAD_REQUEST = 400 "Bad request";
    /// The body is not JSON, or breaks a rule of the tower: no key twice in one object, no NUL, at most 100 levels, UTF-8.
    BAD_JSON = 400 "Body is not acceptable JSON";
    /// An id in the path or the body is not a canonical ULID.
    BAD_ID = 400 "Not an id";
    /// A name in the path is not one: 1 to 128 of a-z, 0-9, `.`, `_` and `-`, the first a letter or digit.
    BAD_NAME = 400 "Not a name";
    /// A header that the tower reads has a value that it cannot read.
    BAD_HEADER = 400 "Header cannot be read";
    /// The request's Host is not a loopback name although the host listens on loopback only: a web page may be trying to reach it.
    WRONG_HOST = 421 "Host not served here";
    /// A web page of another origin sent the request.
    CROSS_SITE = 403 "Cross-site request refused";
    /// There is no route at this path.
    NO_SUCH_ROUTE = 404 "No such path";
    /// There is no trace with this id.
    NO_SUCH_TRACE = 404 "No such trace";
    /// There is no task with this id.
    NO_SUCH_TASK = 404 "No such task";
    /// There is no definition with this id.
    NO_SUCH_DEFINITION = 404 "No such definition";
    /// There is no module with this name, tag or digest.
    NO_SUCH_MODULE = 404 "No such module";
    /// There is no artifact with this digest.
    NO_SUCH_ARTIFACT = 404 "No such artifact";
    /// The path exists, but not for this method.
    METHOD_NOT_ALLOWED = 405 "Method not allowed";
    /// The body came too slowly.
    BODY_TOO_SLOW = 408 "Body came too slowly";
    /// The order does not fit the state: only traces that have ended can be retried.
    NOT_ENDED = 409 "Trace has not ended";
    /// Every task succeeded, so that there is nothing to retry.
    NOTHING_TO_RETRY = 409 "Nothing to retry";
    /// The task stands below one that begins anew and plans its children afresh, or in an earlier round of a LOOP.
    CANNOT_RERUN_FROM = 409 "A rerun cannot begin there";
    /// The definition fires only when somebody triggers it: it has neither `cron_expr` nor `interval_sec` nor `run_at`.
    NOT_SCHEDULED = 409 "Definition has no schedule";
    /// The schedule was cancelled, or has fired for the last time. Putting the definition with another schedule begins a new one.
    SCHEDULE_ENDED = 409 "Schedule has ended";
    /// The definition is switched off.
    INACTIVE_DEFINITION = 409 "Definition is not active";
    /// The definition has changed since the version that If-Match names.
    STALE_VERSION = 412 "Definition has moved on";
    /// The body is larger than this path takes.
    TOO_LARGE = 413 "Body too large";
    /// The body's Content-Type is missing or wrong, or it has a Content-Encoding.
    WRONG_MEDIA_TYPE = 415 "Wrong media type";
    /// Fields of the body are missing, unknown, of the wrong type or out of bounds; `errors` names them.
    BAD_FIELDS = 422 "Fields are wrong";
    /// Query parameters are unknown or out of bounds; `errors` names them.
    BAD_QUERY = 422 "Query parameters are wrong";
    /// The cursor is not one that this list gave.
    BAD_CURSOR = 422 "Not a cursor of this list";
    /// The params do not fit the definition's `params_schema`; `errors` names the places.
    PARAMS_INVALID = 422 "Params do not fit the schema";
    /// The definition's `params_schema` is no JSON Schema.
    SCHEMA_INVALID = 422 "Not a JSON Schema";
    /// The Idempotency-Key was used before for another request.
    IDEMPOTENCY_KEY_REUSED = 422 "Idempotency-Key was used for another request";
    /// The digest header does not match the bytes that came.
    DIGEST_MISMATCH = 422 "Digest does not match";
    /// The bytes are not a component that the tower can run.
    MODULE_REFUSED = 422 "Module refused";
    /// The definition's code is missing, or does not fit what the definition grants.
    CODE_PROBLEM = 422 "Code does not fit the definition";
    NOT_A_COMPONENT = 422 "Not a component";
    PRECOMPILED = 422 "Native code is not taken";
    WORLD_MISMATCH = 422 "Component is made for another host";
    UNKNOWN_IMPORT = 422 "Unknown import";
    IMPORT_DENIED = 422 "Import denied";
    FEATURE_OFF = 422 "WebAssembly feature is off";
    STATIC_LIMIT = 422 "Component too large";
    COMPILE_LIMIT = 422 "Component too costly to compile";
    MODULE_UNKNOWN = 422 "Module unknown";
    MODULE_INVALID = 422 "Module does not run here";
    WORKSPACE_UNKNOWN = 422 "Workspace unknown";
    MEMORY_TOO_LARGE = 422 "Too much memory asked for";
    /// Too many modules are being uploaded, or wait to be compiled. Nothing of this one was kept; try again after the time that
    /// Retry-After names.
    COMPILE_BUSY = 429 "Too many uploads at once";
    /// As many event streams are open as this host serves at a time (`--streams-max`). Try again, or read the events as a list.
    TOO_MANY_STREAMS = 429 "Too many event streams";
    /// The host failed. It is logged under the request id.
    INTERNAL = 500 "Host failed";
    HOST_TROUBLE = 503 "Host in trouble";
    /// The host is going down, or cannot reach its database.
    UNAVAILABLE = 503 "Host is not available";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_once() {
        for (index, code) in ALL.iter().enumerate() {
            assert!(!ALL[..index].iter().any(|other| other.name == code.name), "{}", code.name);
            let explained_there = tower_domain::codes::find(code.name).is_some();
            assert!(code.doc.trim().ends_with('.') || code.doc.is_empty() && explained_there, "{}", code.name);
            assert!((400..600).contains(&code.status), "{}", code.name);
        }
    }
}
