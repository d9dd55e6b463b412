//! Tasks with the paths to them.

use std::collections::HashMap;

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use tower_domain::id::TaskId;
use tower_domain::task::Task;

use super::rows::{Columns, id_array};
use super::statements;
use crate::StoreError;
use crate::rows::nouns;

statements! {
    // From the parents of a page's tasks up to the roots.
    ANCESTORS = "WITH RECURSIVE up (id, parent_id) AS ( \
             SELECT t.id, t.parent_id FROM json_each(?1) AS i CROSS JOIN tasks AS t ON t.id = unhex(i.value) \
             UNION SELECT t.id, t.parent_id FROM up CROSS JOIN tasks AS t ON t.id = up.parent_id) \
         SELECT id, parent_id FROM up";
}

/// Reads rows of [`task_columns`], and finds the paths to them.
pub(super) async fn tasks(conn: &mut SqliteConnection, rows: &[SqliteRow]) -> Result<Vec<Task>, StoreError> {
    let mut tasks: Vec<Task> = rows.iter().map(nouns::task).collect::<Result<_, _>>()?;
    let parents = nouns::parents(&tasks);
    let mut above: HashMap<TaskId, Option<TaskId>> = HashMap::new();
    if !parents.is_empty() {
        for row in &sqlx::query(ANCESTORS).bind(id_array(parents)).fetch_all(conn).await? {
            let mut columns = Columns::of(row, "tasks");
            above.insert(columns.id()?, columns.opt_id()?);
        }
    }
    nouns::set_paths(&mut tasks, &above);
    Ok(tasks)
}
