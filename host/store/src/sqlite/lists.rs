//! Lists by cursor.
//!
//! A list with a set of states is merged from one range of an index for each state: the inner `SELECT` of an arm stops at the page's
//! length, so that a page costs as much as it holds, times the number of arms. `json_group_array` and `json_each` stand for the
//! lateral join that SQLite does not have.

use futures::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, SqliteConnection, TypeInfo, ValueRef, query_with};
use tower_domain::id::{TaskId, TraceId};
use tower_domain::name::Name;
use tower_domain::task::{Round, Task};
use tower_domain::trace::Trace;

use super::nouns::tasks as tasks_of;
use super::rows::{Bind, Id, Params, number_array};
use super::statements;
use crate::StoreError;
use crate::read::{DeadLetterFilter, DeadLetterGroup, GROUPED_MAX, GroupBy, PAGE_MAX, Page, PageRequest, TaskFilter, TraceFilter};
use crate::rows::nouns::{self, task_columns, task_joins, trace_columns};
pub(super) use crate::rows::pages::ABOVE_ALL;
use crate::rows::pages::{self, PAGE_BYTES_MAX, TraceRange, cut};

/// Which tasks are dead letters, newest first. 11 is FAILED, DEAD_LETTER.
///
/// Parameters: 1 ids below, 2 whether only open ones, 3 definition or NULL, 4 code or NULL, 5 failed from or NULL.
macro_rules! dead_letters {
    () => {
        "WHERE t.state = 11 AND t.id < ?1 AND (NOT ?2 OR NOT EXISTS (SELECT 1 FROM traces AS n WHERE n.rerun_of = t.trace_id)) \
         AND (?3 IS NULL OR t.job_id = ?3) AND (?4 IS NULL OR t.error_code = ?4) AND (?5 IS NULL OR t.finished_at >= ?5) ORDER BY t.id DESC "
    };
}

/// A statement over traces, with what chooses the index put in.
///
/// Parameters: 1 statuses, 2 ids below, 3 ids from, 4 limit, 5 definition or NULL, 6 user or NULL, 7 made from or NULL, 8 made before or
/// NULL, 9 session.
macro_rules! traces_by {
    ($index:literal $(, $term:literal)*) => {
        concat!(
            "SELECT ", trace_columns!(), " FROM ( \
                 SELECT unhex(j.value) AS id FROM json_each(?1) AS s CROSS JOIN json_each((SELECT json_group_array(hex(p.trace_id)) FROM ( \
                     SELECT c.trace_id FROM traces AS c INDEXED BY ", $index, " \
                     WHERE c.status = s.value AND c.trace_id < ?2 AND c.trace_id >= ?3", $($term,)*
                     " AND (?7 IS NULL OR c.created_at >= ?7) AND (?8 IS NULL OR c.created_at < ?8) \
                     ORDER BY c.trace_id DESC LIMIT ?4) AS p)) AS j \
                 ORDER BY j.value DESC LIMIT ?4) AS page \
             CROSS JOIN traces AS t ON t.trace_id = page.id CROSS JOIN tasks AS r ON r.id = t.root_task_id"
        )
    };
}

statements! {
    ROUNDS = "SELECT r.round_index, r.finished_at, r.split_count, r.completed_children, r.succeeded_children, r.output, r.output_ref \
         FROM rounds AS r WHERE r.task_id = ?1 AND r.round_index > coalesce(?2, -1) ORDER BY r.round_index LIMIT ?3";
    TRACES_BY_STATUS = traces_by!("traces_by_status");
    TRACES_BY_DEFINITION = traces_by!("traces_by_definition", " AND c.definition_id = ?5 AND (?6 IS NULL OR c.user_id = ?6)");
    TRACES_BY_USER = traces_by!("traces_by_user", " AND c.user_id = ?6");
    TRACES_BY_SESSION = traces_by!(
        "traces_by_session",
        " AND c.session_id = ?9 AND (?5 IS NULL OR c.definition_id = ?5) AND (?6 IS NULL OR c.user_id = ?6)"
    );
    // Parameters: 1 trace, 2 states as bits, 3 layer or NULL, 4 parts as bits, 5 ids above, 6 limit. The arms are the pairs of state and
    // layer that there are, found by one look into the index each.
    TASKS_BY_STATE = concat!(
        "WITH RECURSIVE arms (state, layer) AS ( \
             SELECT * FROM (SELECT state, layer FROM tasks WHERE trace_id = ?1 ORDER BY state, layer LIMIT 1) \
             UNION ALL \
             SELECT n.state, n.layer FROM arms CROSS JOIN tasks AS n ON n.id = coalesce( \
                 (SELECT b.id FROM tasks AS b WHERE b.trace_id = ?1 AND b.state = arms.state AND b.layer > arms.layer ORDER BY b.layer LIMIT 1), \
                 (SELECT b.id FROM tasks AS b WHERE b.trace_id = ?1 AND b.state > arms.state ORDER BY b.state, b.layer LIMIT 1))) \
         SELECT ", task_columns!(), " FROM ( \
             SELECT unhex(j.value) AS id FROM arms CROSS JOIN json_each((SELECT json_group_array(hex(p.id)) FROM ( \
                 SELECT c.id FROM tasks AS c \
                 WHERE c.trace_id = ?1 AND c.state = arms.state AND c.layer = arms.layer AND c.id > ?5 AND (?4 = 15 OR (?4 >> c.actor_type) & 1) \
                 ORDER BY c.id LIMIT ?6) AS p)) AS j \
             WHERE (?2 >> arms.state) & 1 AND (?3 IS NULL OR arms.layer = ?3) \
             ORDER BY j.value LIMIT ?6) AS page \
         CROSS JOIN tasks AS t ON t.id = page.id", task_joins!()
    );
    // The same, with 7 the parent.
    TASKS_BY_PARENT = concat!(
        "SELECT ", task_columns!(), " FROM tasks AS t", task_joins!(),
        "WHERE t.parent_id = ?7 AND t.id > ?5 AND t.trace_id = ?1 AND (?2 >> t.state) & 1 AND (?3 IS NULL OR t.layer = ?3) \
         AND (?4 >> t.actor_type) & 1 ORDER BY t.id LIMIT ?6"
    );
    // Parameters: those of `dead_letters!`, 6 limit.
    DEAD_LETTERS = concat!("SELECT ", task_columns!(), " FROM tasks AS t", task_joins!(), dead_letters!(), "LIMIT ?6");
    // Parameters: those of `dead_letters!`, 6 how many are counted, 7 whether by definition, 8 limit. Beside one max() and nothing else of
    // its kind, SQLite takes bare columns from the row that has it.
    DEAD_LETTER_GROUPS = concat!(
        "SELECT CASE WHEN ?7 THEN job_id ELSE error_code END AS name, count(*), count(DISTINCT trace_id), max(id), finished_at, error_message FROM ( \
             SELECT t.id, t.trace_id, t.job_id, t.error_code, t.finished_at, t.error_message FROM tasks AS t ", dead_letters!(), "LIMIT ?6) AS page \
         GROUP BY name ORDER BY count(*) DESC, name LIMIT ?8"
    );
}

/// Traces, newest first.
pub(super) async fn traces(conn: &mut SqliteConnection, filter: &TraceFilter, page: &PageRequest<TraceId>) -> Result<Page<Trace, TraceId>, StoreError> {
    let TraceRange { statuses, below, from } = TraceRange::of(filter, page);
    let limit = page.limit.clamp(1, PAGE_MAX);
    let params = |rows: u32| {
        let mut params = Params::new();
        params.text(number_array(statuses.iter().copied())).bytes(&below).bytes(&from).int(rows);
        params.opt_text(filter.definition_id.as_ref().map(|id| id.as_str())).opt_text(filter.user_id.as_deref());
        params.opt_at(filter.since).opt_at(filter.until);
        if let Some(session) = filter.session_id {
            params.id(session);
        }
        params
    };
    let statement = match (&filter.definition_id, &filter.user_id) {
        _ if filter.session_id.is_some() => TRACES_BY_SESSION,
        (Some(_), _) => TRACES_BY_DEFINITION,
        (None, Some(_)) => TRACES_BY_USER,
        (None, None) => TRACES_BY_STATUS,
    };
    let (rows, limit) = page_of(conn, statement, limit, params).await?;
    let mut traces: Vec<Trace> = rows.iter().map(nouns::trace).collect::<Result<_, _>>()?;
    traces.sort_unstable_by_key(|trace| std::cmp::Reverse(trace.trace_id));
    Ok(cut(traces, limit, |trace| trace.trace_id))
}

/// Tasks of a trace, oldest first.
pub(super) async fn tasks(
    conn: &mut SqliteConnection,
    trace: TraceId,
    filter: &TaskFilter,
    page: &PageRequest<TaskId>,
) -> Result<Page<Task, TaskId>, StoreError> {
    let limit = page.limit.clamp(1, PAGE_MAX);
    let (states, parts) = (pages::states(filter), pages::parts(filter));
    let params = |rows: u32| {
        let mut params = Params::new();
        params.id(trace).int(states).opt_int(filter.layer).int(parts).bytes(page.after.map(Id::bytes).as_ref().map_or(&[], |id| id)).int(rows);
        if let Some(parent) = filter.parent_id {
            params.id(parent);
        }
        params
    };
    let statement = if filter.parent_id.is_some() { TASKS_BY_PARENT } else { TASKS_BY_STATE };
    let (rows, limit) = page_of(conn, statement, limit, params).await?;
    let mut tasks = tasks_of(conn, &rows).await?;
    tasks.sort_unstable_by_key(|task| task.id);
    Ok(cut(tasks, limit, |task| task.id))
}

/// Dead letters, newest first.
pub(super) async fn dead_letters(conn: &mut SqliteConnection, filter: &DeadLetterFilter, page: &PageRequest<TaskId>) -> Result<Page<Task, TaskId>, StoreError> {
    let limit = page.limit.clamp(1, PAGE_MAX);
    let params = |rows: u32| {
        let mut params = which_dead_letters(filter, page.after);
        params.int(rows);
        params
    };
    let (rows, limit) = page_of(conn, DEAD_LETTERS, limit, params).await?;
    let tasks = tasks_of(conn, &rows).await?;
    Ok(cut(tasks, limit, |task| task.id))
}

/// Rounds of a LOOP's root, in order.
pub(super) async fn rounds(conn: &mut SqliteConnection, task: TaskId, page: &PageRequest<u32>) -> Result<Page<Round, u32>, StoreError> {
    let limit = page.limit.clamp(1, PAGE_MAX);
    let params = |rows: u32| {
        let mut params = Params::new();
        params.id(task).opt_int(page.after).int(rows);
        params
    };
    let (rows, limit) = page_of(conn, ROUNDS, limit, params).await?;
    let rounds = rows.iter().map(nouns::round).collect::<Result<Vec<_>, _>>()?;
    Ok(cut(rounds, limit, |round| round.round_index))
}

fn which_dead_letters(filter: &DeadLetterFilter, below: Option<TaskId>) -> Params {
    let mut params = Params::new();
    params.bytes(below.map(Id::bytes).as_ref().map_or(&ABOVE_ALL, |id| id)).int(filter.open);
    params.opt_text(filter.definition_id.as_ref().map(Name::as_str)).opt_text(filter.error_code.as_deref()).opt_at(filter.since);
    params
}

/// How many dead letters have what in common.
pub(super) async fn dead_letter_groups(conn: &mut SqliteConnection, filter: &DeadLetterFilter, by: GroupBy) -> Result<Vec<DeadLetterGroup>, StoreError> {
    let mut params = which_dead_letters(filter, None);
    params.int(GROUPED_MAX).int(by == GroupBy::Definition).int(PAGE_MAX);
    let rows: Vec<SqliteRow> = query_with(DEAD_LETTER_GROUPS, params.into_list()).fetch_all(conn).await?;
    rows.iter().map(nouns::dead_letter_group).collect()
}

/// The rows of a page and one more, if they fit into [`PAGE_BYTES_MAX`]; else those of as short a page as does. Answers with how many
/// items that page has at the most. `params` takes how many rows are wanted.
pub(super) async fn page_of(
    conn: &mut SqliteConnection,
    statement: &'static str,
    mut limit: u32,
    params: impl Fn(u32) -> Params,
) -> Result<(Vec<SqliteRow>, u32), StoreError> {
    loop {
        let mut rows = Vec::new();
        let (mut bytes, mut fits) = (0, true);
        let mut stream = query_with(statement, params(limit + 1).into_list()).fetch(&mut *conn);
        while let Some(row) = stream.try_next().await? {
            bytes += row_bytes(&row);
            rows.push(row);
            if bytes > PAGE_BYTES_MAX && limit > 1 {
                fits = false;
                break;
            }
        }
        drop(stream);
        if fits {
            return Ok((rows, limit));
        }
        limit = pages::shorter(rows.len(), limit);
    }
}

/// What a row's texts and bytes take.
fn row_bytes(row: &SqliteRow) -> usize {
    let sized = |column: usize| {
        let value = row.try_get_raw(column).ok()?;
        let has_size = matches!(value.type_info().name(), "TEXT" | "BLOB");
        if has_size { <&[u8] as Decode<Sqlite>>::decode(value).ok().map(<[u8]>::len) } else { None }
    };
    (0..row.len()).filter_map(sized).sum()
}
