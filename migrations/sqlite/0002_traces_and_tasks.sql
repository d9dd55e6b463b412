-- One run of a definition, and the nodes of its tree. Ids are the 16 bytes of a ULID, so that their order is the order in which
-- they were made. Small integers stand for words; `host/store/src/sqlite/words.rs` holds both sides.

-- Params, output and error of a trace are its root task's and are not repeated here.
CREATE TABLE traces (
    trace_id           BLOB    NOT NULL PRIMARY KEY CHECK (length(trace_id) = 16),
    root_task_id       BLOB    NOT NULL CHECK (length(root_task_id) = 16),
    -- 0 PENDING, 1 RUNNING, 2 SUCCESS, 3 FAILED, 4 CANCELLED, 5 SKIPPED
    status             INTEGER NOT NULL CHECK (status BETWEEN 0 AND 5),
    cancelling         INTEGER NOT NULL CHECK (cancelling IN (0, 1)),
    count_pending      INTEGER NOT NULL CHECK (count_pending >= 0),
    count_running      INTEGER NOT NULL CHECK (count_running >= 0),
    count_success      INTEGER NOT NULL CHECK (count_success >= 0),
    count_failed       INTEGER NOT NULL CHECK (count_failed >= 0),
    count_cancelled    INTEGER NOT NULL CHECK (count_cancelled >= 0),
    count_skipped      INTEGER NOT NULL CHECK (count_skipped >= 0),
    -- `seq` of its latest event.
    last_seq           INTEGER NOT NULL CHECK (last_seq >= 0),
    -- Virtual finish time of its latest queued task, for fair shares.
    rank               INTEGER NOT NULL CHECK (rank >= 0),
    created_at         INTEGER NOT NULL,
    started_at         INTEGER,
    finished_at        INTEGER,
    definition_version INTEGER NOT NULL CHECK (definition_version >= 1),
    -- 0 MANUAL, 1 API, 2 REPLAY
    trigger_type       INTEGER NOT NULL CHECK (trigger_type BETWEEN 0 AND 2),
    rerun_of           BLOB    CHECK (length(rerun_of) = 16),
    definition_id      TEXT    NOT NULL,
    user_id            TEXT    NOT NULL,
    triggered_by       TEXT    NOT NULL,
    idempotency_key    TEXT,
    -- An object; NULL: no labels.
    labels             TEXT,
    CHECK ((finished_at IS NOT NULL) = (status >= 2))
) STRICT;

-- Reader::traces without a definition and a user.
CREATE INDEX traces_by_status ON traces (status, trace_id);
-- Reader::traces of one definition.
CREATE INDEX traces_by_definition ON traces (definition_id, status, trace_id);
-- Reader::traces of one user.
CREATE INDEX traces_by_user ON traces (user_id, status, trace_id);
-- Reader::dead_letters: whether a trace was retried.
CREATE INDEX traces_by_rerun_of ON traces (rerun_of) WHERE rerun_of IS NOT NULL;

CREATE TABLE tasks (
    id                 BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    trace_id           BLOB    NOT NULL CHECK (length(trace_id) = 16),
    parent_id          BLOB    CHECK (length(parent_id) = 16),
    -- Status and phase in one, so that they cannot disagree. PENDING: 0 SCHEDULED, 1 WAITING_DEPS, 2 BACKOFF, 3 PAUSED, 4 QUEUED.
    -- RUNNING: 5 EXECUTING, 6 WAITING_CHILDREN, 7 AGGREGATING. SUCCESS: 8 DONE, 9 CACHED. FAILED: 10 DONE, 11 DEAD_LETTER.
    -- 12 CANCELLED. 13 SKIPPED.
    state              INTEGER NOT NULL CHECK (state BETWEEN 0 AND 13),
    layer              INTEGER NOT NULL CHECK (layer >= 0),
    depth              INTEGER NOT NULL CHECK (depth >= 0),
    -- 0 AGENT, 1 EXECUTION, 2 GROUP_AGG, 3 SINGLE_AGG
    actor_type         INTEGER NOT NULL CHECK (actor_type BETWEEN 0 AND 3),
    is_leaf_agent      INTEGER NOT NULL CHECK (is_leaf_agent IN (0, 1)),
    round_index        INTEGER NOT NULL CHECK (round_index >= 0),
    priority           INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 10),
    -- 0 RUN, 1 AGGREGATE
    leg                INTEGER NOT NULL CHECK (leg IN (0, 1)),
    cancelling         INTEGER NOT NULL CHECK (cancelling IN (0, 1)),
    fence              INTEGER NOT NULL CHECK (fence >= 0),
    attempt            INTEGER NOT NULL CHECK (attempt >= 0),
    max_retries        INTEGER NOT NULL CHECK (max_retries >= 0),
    crashes            INTEGER NOT NULL CHECK (crashes >= 0),
    open_deps          INTEGER NOT NULL CHECK (open_deps >= 0),
    -- 0 SUCCESS, 1 FINISHED
    run_on             INTEGER NOT NULL CHECK (run_on IN (0, 1)),
    run_after          INTEGER,
    split_count        INTEGER NOT NULL CHECK (split_count >= 0),
    completed_children INTEGER NOT NULL CHECK (completed_children BETWEEN 0 AND split_count),
    succeeded_children INTEGER NOT NULL CHECK (succeeded_children BETWEEN 0 AND completed_children),
    -- -1 ALL, -2 ALWAYS, else PARTIAL with this `min_success`.
    aggregation        INTEGER NOT NULL CHECK (aggregation >= -2),
    timeout_sec        INTEGER NOT NULL CHECK (timeout_sec >= 1),
    definition_version INTEGER NOT NULL CHECK (definition_version >= 1),
    progress           INTEGER NOT NULL CHECK (progress BETWEEN 0 AND 100),
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    started_at         INTEGER,
    finished_at        INTEGER,
    key                TEXT    NOT NULL,
    job_id             TEXT    NOT NULL,
    progress_message   TEXT    NOT NULL,
    error_code         TEXT,
    error_message      TEXT,
    -- Keys that it named, an array; NULL: none.
    depends_on         TEXT,
    -- Inline JSON, or a URL of the artifact store; likewise `carried`, which the step before left for the next leg.
    output_ref         TEXT,
    carried_ref        TEXT,
    input_params       TEXT    NOT NULL,
    output             TEXT,
    carried            TEXT,
    CHECK ((finished_at IS NOT NULL) = (state >= 8)),
    CHECK ((error_code IS NULL) = (error_message IS NULL)),
    CHECK (output IS NULL OR output_ref IS NULL),
    CHECK (carried IS NULL OR carried_ref IS NULL)
) STRICT;

-- Reader::tasks by status, phase and layer, and without a filter; Tx::open_tasks of a trace.
CREATE INDEX tasks_by_state ON tasks (trace_id, state, layer, id);
-- Reader::child_results, Reader::existing_children and Reader::tasks of one parent; Tx::children, Tx::old_tasks; walks down a subtree.
CREATE INDEX tasks_by_parent ON tasks (parent_id, id) WHERE parent_id IS NOT NULL;
-- A child's identity; Tx::step_inputs finds the dependencies that a task named.
CREATE UNIQUE INDEX tasks_by_key ON tasks (parent_id, round_index, key) WHERE parent_id IS NOT NULL;
-- Tx::old_tasks and invariants: the root of a trace, one at the most.
CREATE UNIQUE INDEX tasks_root ON tasks (trace_id) WHERE parent_id IS NULL;
-- Reader::dead_letters.
CREATE INDEX tasks_dead_letters ON tasks (id) WHERE state = 11;

-- Which siblings a task depends on, those that had ended when it was made included.
CREATE TABLE task_deps (
    depends_on BLOB NOT NULL CHECK (length(depends_on) = 16),
    task_id    BLOB NOT NULL CHECK (length(task_id) = 16),
    PRIMARY KEY (depends_on, task_id),
    CHECK (depends_on <> task_id)
) STRICT, WITHOUT ROWID;

-- Reader::dependency_results and Tx::old_tasks.
CREATE INDEX task_deps_by_task ON task_deps (task_id, depends_on);
