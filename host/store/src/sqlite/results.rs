//! Results that one task reads of others: its children's, its dependencies'.

use rusqlite::Connection;
use sqlx::SqliteConnection;
use tower_domain::id::TaskId;
use tower_domain::name::Key;
use tower_domain::split::ExistingChild;
use tower_domain::step::ResultPage;

use super::near::query;
use super::rows::{Bind, Binder, Columns, Params};
use super::statements;
use crate::StoreError;
use crate::rows::nouns::{existing_child, task_result, task_result_columns};
use crate::rows::pages;

statements! {
    // No id is smaller than an empty one: where the first page begins.
    // Children of the round that the task is in.
    CHILD_RESULTS = concat!(
        "SELECT ", task_result_columns!(), " FROM tasks AS p CROSS JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index \
         WHERE p.id = ?1 AND t.id > coalesce(?2, x'') ORDER BY t.id LIMIT ?3"
    );
    DEPENDENCY_RESULTS = concat!(
        "SELECT ", task_result_columns!(), " FROM task_deps AS d CROSS JOIN tasks AS t ON t.id = d.depends_on \
         WHERE d.task_id = ?1 AND d.depends_on > coalesce(?2, x'') ORDER BY d.depends_on LIMIT ?3"
    );
    // 8 and above have ended.
    OPEN_DEPENDENCIES = "SELECT b.key FROM task_deps AS d CROSS JOIN tasks AS b ON b.id = d.depends_on \
         WHERE d.task_id = ?1 AND b.state < 8 ORDER BY d.depends_on LIMIT ?2";
    EXISTING_CHILDREN = "SELECT t.id, t.key, t.job_id, t.input_params FROM tasks AS p \
         CROSS JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index WHERE p.id = ?1 ORDER BY t.id";
}

/// Results of a task's children, in the order in which they were split off.
pub(super) fn of_children(conn: &Connection, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
    page(conn, CHILD_RESULTS, task, after, limit)
}

/// Results of the siblings that a task depends on, likewise.
pub(super) fn of_dependencies(conn: &Connection, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
    page(conn, DEPENDENCY_RESULTS, task, after, limit)
}

/// Keys of the siblings that a task depends on and that have not ended.
pub(super) async fn open_dependencies(conn: &mut SqliteConnection, task: TaskId, limit: u32) -> Result<Vec<Key>, StoreError> {
    let mut params = Params::new();
    params.id(task).int(pages::results_limit(limit));
    let rows = sqlx::query_with(OPEN_DEPENDENCIES, params.into_list()).fetch_all(conn).await?;
    rows.iter().map(|row| Columns::of(row, "tasks").key()).collect()
}

fn page(conn: &Connection, statement: &'static str, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
    let limit = pages::results_limit(limit);
    let bind = |params: &mut Binder<'_, '_>| {
        params.id(task).opt_id(after).int(limit + 1);
    };
    let items = query(conn, statement, bind, |row| task_result(&mut Columns::of(row, "tasks")))?;
    Ok(pages::results(items, limit))
}

/// What earlier steps of a task split off.
pub(super) async fn existing_children(conn: &mut SqliteConnection, task: TaskId) -> Result<Vec<ExistingChild>, StoreError> {
    let mut params = Params::new();
    params.id(task);
    let rows = sqlx::query_with(EXISTING_CHILDREN, params.into_list()).fetch_all(conn).await?;
    rows.iter().map(existing_child).collect()
}
