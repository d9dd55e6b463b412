//! Cursors and filters of lists.

use tower_domain::clock::Timestamp;
use tower_domain::id::TraceId;
use tower_domain::step::{RESULT_PAGE_MAX, ResultPage};
use tower_domain::task::{ActorType, Status, TaskResult};

use super::Id;
use super::words::{State, Word};
use crate::read::{Page, PageRequest, TaskFilter, TraceFilter};

/// Bytes of a page at the most; one with larger items is shorter than was asked for.
pub(crate) const PAGE_BYTES_MAX: usize = 16 << 20;

/// Above every id: one byte longer than any.
pub(crate) const ABOVE_ALL: [u8; 17] = [0xFF; 17];

/// How far an id's time and the time that its row was made may lie apart, in milliseconds: a day. Ids are made by the caller, just before.
const ID_SLACK_MS: i64 = 86_400_000;

/// One more than a page was asked for: whether there is a next one.
pub(crate) fn cut<T, C>(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> C) -> Page<T, C> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(cursor);
    Page { items, next }
}

/// How many rows to ask for beyond which a shorter page is tried, when `rows` of them were too large for one with `limit` items.
///
/// Rows come in the order of an index and not of the page, so that the beginning of many is not the page of few.
pub(crate) fn shorter(rows: usize, limit: u32) -> u32 {
    (u32::try_from(rows).unwrap_or(limit) / 2).clamp(1, limit / 2)
}

/// Items on a page of results.
pub(crate) fn results_limit(limit: u32) -> u32 {
    limit.clamp(1, RESULT_PAGE_MAX)
}

/// A page of results from up to one more than it holds.
pub(crate) fn results(items: Vec<TaskResult>, limit: u32) -> ResultPage {
    let Page { items, next } = cut(items, limit, |item| item.task_id);
    ResultPage { items, next }
}

/// Which traces, as ranges of an index.
pub(crate) struct TraceRange {
    /// Numbers of statuses, each once.
    pub(crate) statuses: Vec<i64>,
    /// Ids below these bytes.
    pub(crate) below: Vec<u8>,
    /// Ids from these bytes on.
    pub(crate) from: Vec<u8>,
}

impl TraceRange {
    /// Of a page.
    pub(crate) fn of(filter: &TraceFilter, page: &PageRequest<TraceId>) -> Self {
        let statuses = if filter.status.is_empty() { Status::ALL } else { &filter.status };
        let mut statuses: Vec<i64> = statuses.iter().map(|status| status.code()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        let mut below = page.after.map_or(ABOVE_ALL.to_vec(), |id| id.bytes().to_vec());
        if let Some(until) = filter.until {
            below = below.min(id_bound(until, ID_SLACK_MS));
        }
        let from = filter.since.map_or(Vec::new(), |since| id_bound(since, -ID_SLACK_MS));
        Self { statuses, below, from }
    }
}

/// The first bytes of ids that are made so long after an instant.
fn id_bound(at: Timestamp, slack_ms: i64) -> Vec<u8> {
    let millis = at.as_millis().saturating_add(slack_ms).clamp(0, (1 << 48) - 1);
    millis.to_be_bytes()[2..].to_vec()
}

/// States that a filter lets through, as bits.
pub(crate) fn states(filter: &TaskFilter) -> i64 {
    let wanted =
        |state: &State| (filter.status.is_empty() || filter.status.contains(&state.status)) && (filter.phase.is_empty() || filter.phase.contains(&state.phase));
    State::all().filter(wanted).fold(0, |bits, state| bits | 1i64 << state.code())
}

/// Parts that a filter lets through, as bits.
pub(crate) fn parts(filter: &TaskFilter) -> i64 {
    ActorType::ALL.iter().filter(|part| filter.actor_type.is_none_or(|wanted| wanted == **part)).fold(0, |bits, part| bits | 1i64 << part.code())
}
