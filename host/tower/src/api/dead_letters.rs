//! `/dead-letters`: tasks that failed for good.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::clock::Timestamp;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::name::Name;
use tower_engine::orders::{IdempotencyKey, OrderError, RerunRequest};
use tower_store::read::{self, PAGE_MAX, PageRequest};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Idempotency, JsonBody, Limit, QueryOf, cursor, from_text};
use super::problem::{Problem, ProblemBody, codes};
use super::refusals::{about_trace, no_such_task};
use super::types::{DeadLetterFilter, DeadLetters, ErrorBody, GroupBy, List, RetriedDeadLetters, RetriedTrace, RetryDeadLetters};
use super::{Api, traces::CALLER, traces::check_reason};

/// Most dead letters that one request names.
const NAMED_MAX: usize = 100;
/// Most dead letters that one request with a filter takes. Each trace of theirs is a transaction.
const FOUND_MAX: usize = 1_000;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_dead_letters)).routes(routes!(retry_dead_letters))
}

/// Which dead letters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeadLetterQuery {
    /// `true` (the default): only those whose trace has not been retried since.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<bool>)]
    open: Option<bool>,
    /// Of this definition.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<String>)]
    definition_id: Option<Name>,
    /// That failed with this code.
    error_code: Option<String>,
    /// That failed at or after.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Count them by what they have in common instead of listing them.
    #[param(inline)]
    group_by: Option<GroupBy>,
    /// 1 to 500; default 50.
    #[param(value_type = Option<u32>)]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List dead letters, newest first, or count them
///
/// With `group_by` the answer is the groups, the largest first, on one page.
#[utoipa::path(get, path = "/dead-letters", tag = "dead letters", params(DeadLetterQuery), responses((status = 200, body = DeadLetters)))]
async fn list_dead_letters(State(api): State<Api>, QueryOf(query): QueryOf<DeadLetterQuery>) -> Result<Json<DeadLetters>, Problem> {
    let DeadLetterQuery { open, definition_id, error_code, since, group_by, limit, cursor: after } = query;
    let filter = read::DeadLetterFilter { open: open.unwrap_or(true), ..DeadLetterFilter { definition_id, error_code, since }.into() };
    if let Some(by) = group_by {
        let groups = api.stores().read.dead_letter_groups(&filter, by.into()).await?;
        return Ok(Json(DeadLetters::Groups(List::whole(groups.into_iter().map(Into::into).collect()))));
    }
    let page = PageRequest { after: cursor(after.as_deref())?, limit: limit.0 };
    Ok(Json(DeadLetters::Tasks(List::of(api.stores().read.dead_letters(&filter, &page).await?))))
}

/// Retry dead letters
///
/// Each trace that one of them belongs to is retried once, as a new trace that takes over what succeeded. With an Idempotency-Key, a trace
/// that was retried under that key is answered with the new trace that it got then. One dead letter can be given other params.
#[utoipa::path(
    post,
    path = "/dead-letters/retry",
    tag = "dead letters",
    request_body = RetryDeadLetters,
    responses(
        (status = 200, body = RetriedDeadLetters),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn retry_dead_letters(
    State(api): State<Api>,
    idempotency: Idempotency,
    JsonBody { value: wanted, .. }: JsonBody<RetryDeadLetters>,
) -> Result<Json<RetriedDeadLetters>, Problem> {
    check_reason(&wanted.reason)?;
    check_params(&wanted)?;
    // The fingerprint is of each trace's own retry: which traces a filter finds differs from one time to the next.
    let key = idempotency.of("POST /dead-letters/retry", wanted.params.as_ref().map_or(b"".as_slice(), |params| params.as_str().as_bytes()));
    let (ids, more) = chosen(&api, &wanted).await?;
    let dead_letters = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let mut items = Vec::new();
    for (trace, tasks) in by_trace(ids) {
        items.push(match wanted.dry_run {
            true => RetriedTrace { rerun_of: trace, trace_id: None, task_ids: tasks, error: None },
            false => retry(&api, trace, tasks, &wanted, key.as_ref()).await?,
        });
    }
    Ok(Json(RetriedDeadLetters { items, next_cursor: None, dead_letters, more }))
}

/// The dead letters that a request is about, and whether there are more than it takes.
async fn chosen(api: &Api, wanted: &RetryDeadLetters) -> Result<(Vec<(TraceId, TaskId)>, bool), Problem> {
    match &wanted.filter {
        Some(_) if !wanted.task_ids.is_empty() => Err(Problem::field(&codes::BAD_FIELDS, "/filter", "either `task_ids` or `filter`")),
        Some(filter) => found(api, filter.clone().into()).await,
        None if !(1..=NAMED_MAX).contains(&wanted.task_ids.len()) => {
            Err(Problem::field(&codes::BAD_FIELDS, "/task_ids", format!("1 to {NAMED_MAX} ids, or `filter` instead")))
        }
        None => named(api, &wanted.task_ids).await.map(|ids| (ids, false)),
    }
}

async fn named(api: &Api, ids: &[TaskId]) -> Result<Vec<(TraceId, TaskId)>, Problem> {
    let mut named = Vec::new();
    for id in ids {
        let task = api.stores().read.task(*id).await?.ok_or_else(|| no_such_task(*id))?;
        named.push((task.trace_id, *id));
    }
    Ok(named)
}

/// Those of traces that have ended: the others cannot be retried yet, and would stand in the way of those that can.
async fn found(api: &Api, filter: read::DeadLetterFilter) -> Result<(Vec<(TraceId, TaskId)>, bool), Problem> {
    let mut found = Vec::new();
    let mut ended: HashMap<TraceId, bool> = HashMap::new();
    let mut after = None;
    loop {
        let left = u32::try_from(FOUND_MAX - found.len()).unwrap_or(PAGE_MAX);
        let page = api.stores().read.dead_letters(&filter, &PageRequest { after, limit: left.min(PAGE_MAX) }).await?;
        for task in &page.items {
            let has_ended = match ended.get(&task.trace_id) {
                Some(known) => *known,
                None => api.stores().read.trace(task.trace_id).await?.is_some_and(|trace| trace.status.is_terminal()),
            };
            ended.insert(task.trace_id, has_ended);
            if has_ended {
                found.push((task.trace_id, task.id));
            }
        }
        after = page.next;
        if after.is_none() || found.len() >= FOUND_MAX {
            return Ok((found, after.is_some()));
        }
    }
}

fn by_trace(ids: Vec<(TraceId, TaskId)>) -> BTreeMap<TraceId, Vec<TaskId>> {
    let mut traces = BTreeMap::<TraceId, Vec<TaskId>>::new();
    for (trace, id) in ids {
        let tasks = traces.entry(trace).or_default();
        if !tasks.contains(&id) {
            tasks.push(id);
        }
    }
    traces
}

/// Other params are one task's.
fn check_params(wanted: &RetryDeadLetters) -> Result<(), Problem> {
    match &wanted.params {
        Some(params) if !params.as_str().starts_with('{') => Err(Problem::field(&codes::BAD_FIELDS, "/params", "an object")),
        Some(_) if wanted.task_ids.len() != 1 => {
            Err(Problem::field(&codes::BAD_FIELDS, "/params", "only with one of `task_ids`: others have params of their own").with_hint(ONE_BY_ONE))
        }
        Some(_) | None => Ok(()),
    }
}

/// What to do about several.
const ONE_BY_ONE: &str = "retry them one by one, each with its params; or all of them without";

/// What keeps one trace from being retried stands in its own line; but params that do not fit are the caller's mistake.
async fn retry(api: &Api, rerun_of: TraceId, task_ids: Vec<TaskId>, wanted: &RetryDeadLetters, key: Option<&IdempotencyKey>) -> Result<RetriedTrace, Problem> {
    let key = key.map(|key| IdempotencyKey { key: format!("{}/{rerun_of}", key.key), fingerprint: key.fingerprint });
    let retry = RerunRequest::retry(rerun_of, CALLER, &wanted.reason, key);
    let request = match &wanted.params {
        None => retry,
        Some(params) => RerunRequest { from: task_ids.first().copied(), params: params.clone(), ..retry },
    };
    let (trace_id, error) = match api.engine.rerun(request).await {
        Ok(triggered) => (Some(triggered.trace_id), None),
        Err(error @ OrderError::BadParams(_)) => return Err(error.into()),
        Err(error) => {
            let problem = about_trace(error, rerun_of);
            (None, Some(ErrorBody { code: problem.code().to_owned(), message: problem.detail().to_owned() }))
        }
    };
    Ok(RetriedTrace { rerun_of, trace_id, task_ids, error })
}
