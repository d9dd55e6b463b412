//! `/attempts`: what a step's code can ask for while it runs outside of the host, with the token of its attempt.

mod callback;
mod end;
mod find;
mod listen;
mod peers;
mod report;
mod split;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::{Router, middleware};
use tower_domain::id::TaskId;
use tower_outside::desk::{Attempt, Desk, Found, Over, Refused};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::problem::{Problem, codes};

use end::{complete_with, fail_with};
pub(crate) use peers::Peers;
use split::stage;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(find::find_attempt))
        .routes(routes!(find::list_results))
        .routes(routes!(split::split_attempt))
        .routes(routes!(report::report_on_attempt))
        .routes(routes!(report::name_session))
        .routes(routes!(listen::check_cancel))
        .routes(routes!(listen::heartbeat))
        .routes(routes!(end::complete_attempt))
        .routes(routes!(end::fail_attempt))
        .routes(routes!(end::pause_attempt))
        .routes(routes!(end::cancel_attempt))
        .routes(routes!(end::release_attempt))
        .routes(routes!(callback::call_back))
        .routes(routes!(callback::split_trace))
}

/// Has calls about attempts that another host holds answered there.
pub(super) fn pass_on(router: Router<Api>, api: Api) -> Router<Api> {
    router.layer(middleware::from_fn_with_state(api, peers::pass_on))
}

/// The token of a request; none: it has none that could be one.
pub(super) fn token_of(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn no_token() -> Problem {
    Problem::new(&codes::BAD_TOKEN, "this call needs the token of an attempt").with_hint("send `Authorization: Bearer att_…`, as it came with the step")
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown => {
                Self::new(&codes::BAD_TOKEN, refused.to_string()).with_hint("tokens are good for one attempt: take the one that came with the step")
            }
            Refused::Over => Self::new(&codes::ATTEMPT_OVER, refused.to_string()).with_hint("stop working on it: nothing of it counts any more"),
        }
    }
}

/// What the caller's token is good for.
pub(super) fn look(desk: &Desk, task: TaskId, headers: &HeaderMap) -> Result<Found, Problem> {
    let token = token_of(headers).ok_or_else(no_token)?;
    Ok(desk.find(task, token)?)
}

/// The attempt of the task in the path, which the caller's token is for.
pub(super) struct Ours {
    /// It is under way.
    pub(super) attempt: Arc<Attempt>,
}

/// The same, for whoever ends it: it may have ended already, and this may be the same call once more.
pub(super) enum OursOrOver {
    /// It is under way.
    Open(Arc<Attempt>),
    /// It is over.
    Over(Over),
}

async fn task_in_path(parts: &mut Parts, api: &Api) -> Result<TaskId, Problem> {
    let Path(text) = Path::<String>::from_request_parts(parts, api).await.map_err(|_| Problem::new(&codes::BAD_NAME, "the path is not UTF-8"))?;
    text.parse().map_err(|error: tower_domain::id::BadId| Problem::new(&codes::BAD_ID, error.to_string()).with_hint("here the id of a task is expected"))
}

impl FromRequestParts<Api> for Ours {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let task = task_in_path(parts, api).await?;
        match look(&api.outside.desk, task, &parts.headers)? {
            Found::Open(attempt) => {
                attempt.touch();
                Ok(Self { attempt })
            }
            Found::Over(_) => Err(Refused::Over.into()),
        }
    }
}

impl FromRequestParts<Api> for OursOrOver {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let task = task_in_path(parts, api).await?;
        Ok(match look(&api.outside.desk, task, &parts.headers)? {
            Found::Open(attempt) => {
                attempt.touch();
                Self::Open(attempt)
            }
            Found::Over(over) => Self::Over(over),
        })
    }
}
