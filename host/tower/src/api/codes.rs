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
    /// The call needs the token of an attempt, as `Authorization: Bearer att_…`, and has none or that of another.
    BAD_TOKEN = 401 "Token is missing or another's";
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
    /// There is no artifact with this digest, or none any more: an output goes with its trace.
    NO_SUCH_ARTIFACT = 404 "No such artifact";
    /// No host of this database has this name, or it was not seen for a week.
    NO_SUCH_HOST = 404 "No such host";
    /// This host has no such container.
    NO_SUCH_CONTAINER = 404 "No such container";
    /// There is no session with this id.
    NO_SUCH_SESSION = 404 "No such session";
    /// There is no file or folder of this name in the session's workspace.
    NO_SUCH_FILE = 404 "No such file";
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
    /// The attempt is over: it was ended before, it took too long or was not heard of, or the task was cancelled or given to somebody else.
    /// Nothing of the call counts; whoever worked on it can stop.
    ATTEMPT_OVER = 409 "Attempt is over";
    /// The session was closed: it takes no traces and no files.
    SESSION_CLOSED = 409 "Session is closed";
    /// A trace of the session has not ended, so that it cannot be closed.
    SESSION_IN_USE = 409 "Session is in use";
    /// The definition is switched off.
    INACTIVE_DEFINITION = 409 "Definition is not active";
    /// The definition has changed since the version that If-Match names.
    STALE_VERSION = 412 "Definition has moved on";
    /// The body is larger than this path takes.
    TOO_LARGE = 413 "Body too large";
    WORKSPACE_QUOTA = 413 "Workspace is full";
    /// The body's Content-Type is missing or wrong, or it has a Content-Encoding.
    WRONG_MEDIA_TYPE = 415 "Wrong media type";
    /// Fields of the body are missing, unknown, of the wrong type or out of bounds; `errors` names them.
    BAD_FIELDS = 422 "Fields are wrong";
    /// The path is none within a workspace: it is relative, of plain segments, without `.` and `..`, and at most 1024 bytes long.
    BAD_PATH = 422 "Not a path in a workspace";
    /// What stands there in the workspace is no plain file or folder of its own: a link, a pipe, a file with hard links, or of the other kind.
    FILE_REFUSED = 422 "File refused";
    /// The operator does not allow files to be fetched from there; sources are named with `--stage-from`.
    STAGE_REFUSED = 422 "Source refused";
    /// Query parameters are unknown or out of bounds; `errors` names them.
    BAD_QUERY = 422 "Query parameters are wrong";
    /// The cursor is not one that this list gave.
    BAD_CURSOR = 422 "Not a cursor of this list";
    /// The step may not split like that; the detail says why and `errors` names the child. Nothing was registered, and the step goes on.
    SPLIT_REFUSED = 422 "Split refused";
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
    NO_EXECUTOR = 422 "Nothing runs such code here";
    WORKER_NOT_ALLOWED = 422 "Worker is not allowed";
    MODULE_UNKNOWN = 422 "Module unknown";
    MODULE_INVALID = 422 "Module does not run here";
    CONTAINER_NOT_ALLOWED = 422 "Container is not allowed";
    IMAGE_MISSING = 422 "Image missing";
    WORKSPACE_UNKNOWN = 422 "Workspace unknown";
    MEMORY_TOO_LARGE = 422 "Too much memory asked for";
    /// Too many modules are being uploaded, or wait to be compiled. Nothing of this one was kept; try again after the time that
    /// Retry-After names.
    COMPILE_BUSY = 429 "Too many uploads at once";
    /// As many event streams are open as this host serves at a time (`--streams-max`). Try again, or read the events as a list.
    TOO_MANY_STREAMS = 429 "Too many event streams";
    /// The host that holds the attempt could not be reached from the one that was asked.
    PEER_UNREACHABLE = 502 "Other host cannot be reached";
    IMAGE_PULL_FAILED = 502 "Image cannot be fetched";
    /// The host failed. It is logged under the request id.
    INTERNAL = 500 "Host failed";
    /// There is no `git` program where the host runs, so that it can fetch no repositories.
    NO_GIT = 501 "No git on this host";
    /// The source of files could not be reached, or did not give what was asked for; the detail says what it said.
    STAGE_FAILED = 502 "Source failed";
    HOST_TROUBLE = 503 "Host in trouble";
    EXECUTOR_UNAVAILABLE = 503 "No Docker Engine";
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
