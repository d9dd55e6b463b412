//! `/bulk`: one order to many traces, chosen by what they have in common.

use axum::Json;
use axum::extract::State;
use tower_domain::id::TraceId;
use tower_domain::task::Status as TraceStatus;
use tower_engine::orders::{Control, RerunRequest};
use tower_store::read::{PAGE_MAX, PageRequest, TraceFilter};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::JsonBody;
use super::problem::{FieldProblem, Problem, ProblemBody, codes};
use super::refusals::about_trace;
use super::traces::{CALLER, check_reason, hold_or_cancel};
use super::types::{BulkAction, BulkItem, BulkOrder, BulkOutcome, BulkResult, ErrorBody};

/// Most traces of one request.
const TRACES_MAX: usize = 1_000;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(order_traces))
}

/// Cancel, pause, resume or retry many traces
///
/// Of those that the filter fits, the newest 1000; `more` says whether there are others, which the same request takes next once these have
/// changed. Each order is its own: what is done to one does not depend on another. With `dry_run` it only says which they are.
#[utoipa::path(
    post,
    path = "/bulk/traces",
    tag = "traces",
    request_body = BulkOrder,
    responses((status = 200, body = BulkResult), (status = 422, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn order_traces(State(api): State<Api>, JsonBody { value: wanted, .. }: JsonBody<BulkOrder>) -> Result<Json<BulkResult>, Problem> {
    check_reason(&wanted.reason)?;
    let filter = filter_of(&wanted)?;
    let (traces, more) = found(&api, &filter).await?;
    let mut items = Vec::with_capacity(traces.len());
    for trace_id in traces {
        items.push(match wanted.dry_run {
            true => BulkItem { trace_id, outcome: BulkOutcome::Found, new_trace_id: None, error: None },
            false => order(&api, wanted.action, trace_id, &wanted.reason).await,
        });
    }
    Ok(Json(BulkResult { items, next_cursor: None, more }))
}

/// Something must be said about which: everything is more than anybody means. What cannot be ordered of a trace is left out from the start.
fn filter_of(wanted: &BulkOrder) -> Result<TraceFilter, Problem> {
    let given = wanted.filter.clone();
    if given.status.is_empty() && given.definition_id.is_none() && given.user_id.is_none() && given.since.is_none() && given.until.is_none() {
        let message = "say which: status, definition_id, user_id, since or until".to_owned();
        return Err(Problem::new(&codes::BAD_FIELDS, message.clone()).with_errors(vec![FieldProblem { pointer: "/filter".to_owned(), message }]));
    }
    let possible: &[TraceStatus] = match wanted.action {
        BulkAction::Cancel | BulkAction::Pause | BulkAction::Resume => &[TraceStatus::Pending, TraceStatus::Running],
        BulkAction::Retry => &[TraceStatus::Failed, TraceStatus::Cancelled],
    };
    let asked: Vec<TraceStatus> = given.status.into_iter().map(Into::into).collect();
    if let Some(never) = asked.iter().find(|status| !possible.contains(status)) {
        return Err(Problem::field(&codes::BAD_FIELDS, "/filter/status", format!("a trace that is {never} is not for {}", wanted.action.as_str())));
    }
    let status = if asked.is_empty() { possible.to_vec() } else { asked };
    Ok(TraceFilter { status, definition_id: given.definition_id, user_id: given.user_id, session_id: None, since: given.since, until: given.until })
}

async fn found(api: &Api, filter: &TraceFilter) -> Result<(Vec<TraceId>, bool), Problem> {
    let mut traces = Vec::new();
    let mut after = None;
    loop {
        let left = u32::try_from(TRACES_MAX - traces.len()).unwrap_or(PAGE_MAX);
        let page = api.stores().read.traces(filter, &PageRequest { after, limit: left.min(PAGE_MAX) }).await?;
        traces.extend(page.items.into_iter().map(|trace| trace.trace_id));
        after = page.next;
        if after.is_none() || traces.len() >= TRACES_MAX {
            return Ok((traces, after.is_some()));
        }
    }
}

async fn order(api: &Api, action: BulkAction, trace_id: TraceId, reason: &str) -> BulkItem {
    let control = match action {
        BulkAction::Cancel => Control::Cancel,
        BulkAction::Pause => Control::Pause,
        BulkAction::Resume => Control::Resume,
        BulkAction::Retry => {
            let retried = api.engine.rerun(RerunRequest::retry(trace_id, CALLER, reason, None)).await;
            return match retried {
                Ok(triggered) => BulkItem { trace_id, outcome: BulkOutcome::Done, new_trace_id: Some(triggered.trace_id), error: None },
                Err(error) => failed(trace_id, &about_trace(error, trace_id)),
            };
        }
    };
    match hold_or_cancel(api, control, trace_id, None, reason.to_owned()).await {
        Ok(outcome) => BulkItem { trace_id, outcome: outcome.into(), new_trace_id: None, error: None },
        Err(problem) => failed(trace_id, &problem),
    }
}

fn failed(trace_id: TraceId, problem: &Problem) -> BulkItem {
    let error = ErrorBody { code: problem.code().to_owned(), message: problem.detail().to_owned() };
    BulkItem { trace_id, outcome: BulkOutcome::Failed, new_trace_id: None, error: Some(error) }
}
