-- One run of a definition, and the nodes of its tree. Ids are the 16 bytes of a ULID, so that their order is the order in which they
-- were made. Small integers stand for words; `host/store/src/rows/words.rs` holds both sides. Wide columns stand first, so that no room is
-- lost between them.

-- Params, output and error of a trace are its root task's and are not repeated here. The row is also the lock of the trace's tasks:
-- whoever means to change one of them holds it. Its counters change with every batch and no index has them, so that room on the page spares
-- the indexes.
CREATE TABLE traces (
    -- `seq` of its latest event.
    last_seq           bigint   NOT NULL CHECK (last_seq >= 0),
    -- Virtual finish time of its latest queued task, for fair shares.
    rank               bigint   NOT NULL CHECK (rank >= 0),
    count_pending      bigint   NOT NULL CHECK (count_pending >= 0),
    count_running      bigint   NOT NULL CHECK (count_running >= 0),
    count_success      bigint   NOT NULL CHECK (count_success >= 0),
    count_failed       bigint   NOT NULL CHECK (count_failed >= 0),
    count_cancelled    bigint   NOT NULL CHECK (count_cancelled >= 0),
    count_skipped      bigint   NOT NULL CHECK (count_skipped >= 0),
    created_at         bigint   NOT NULL,
    -- By whichever host; none that holds it later goes by an earlier instant, whatever its clock says.
    changed_at         bigint   NOT NULL,
    started_at         bigint,
    finished_at        bigint,
    -- The instant of its schedule that it was begun for.
    cron_trigger_time  bigint,
    trace_id           uuid     NOT NULL PRIMARY KEY,
    root_task_id       uuid     NOT NULL,
    rerun_of           uuid,
    definition_version integer  NOT NULL CHECK (definition_version >= 1),
    -- 0 PENDING, 1 RUNNING, 2 SUCCESS, 3 FAILED, 4 CANCELLED, 5 SKIPPED
    status             smallint NOT NULL CHECK (status BETWEEN 0 AND 5),
    cancelling         smallint NOT NULL CHECK (cancelling IN (0, 1)),
    -- 0 MANUAL, 1 API, 2 REPLAY, 3 SCHEDULE, 4 CRON, 5 LOOP
    trigger_type       smallint NOT NULL CHECK (trigger_type BETWEEN 0 AND 5),
    definition_id      text     COLLATE "C" NOT NULL,
    user_id            text     COLLATE "C" NOT NULL,
    triggered_by       text     NOT NULL,
    idempotency_key    text,
    -- An object; NULL: no labels.
    labels             text,
    CHECK ((finished_at IS NOT NULL) = (status >= 2)),
    CHECK ((cron_trigger_time IS NOT NULL) = (trigger_type >= 3))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Reader::traces without a definition and a user.
CREATE INDEX traces_by_status ON traces (status, trace_id);
-- Reader::traces of one definition.
CREATE INDEX traces_by_definition ON traces (definition_id, status, trace_id);
-- Reader::traces of one user.
CREATE INDEX traces_by_user ON traces (user_id, status, trace_id);
-- Reader::dead_letters: whether a trace was retried.
CREATE INDEX traces_by_rerun_of ON traces (rerun_of) WHERE rerun_of IS NOT NULL;

CREATE TABLE tasks (
    fence              bigint   NOT NULL CHECK (fence >= 0),
    run_after          bigint,
    created_at         bigint   NOT NULL,
    updated_at         bigint   NOT NULL,
    started_at         bigint,
    finished_at        bigint,
    -- -1 ALL, -2 ALWAYS, else PARTIAL with this `min_success`.
    aggregation        bigint   NOT NULL CHECK (aggregation >= -2),
    id                 uuid     NOT NULL PRIMARY KEY,
    trace_id           uuid     NOT NULL,
    parent_id          uuid,
    layer              bigint   NOT NULL CHECK (layer >= 0),
    depth              bigint   NOT NULL CHECK (depth >= 0),
    round_index        bigint   NOT NULL CHECK (round_index >= 0),
    attempt            bigint   NOT NULL CHECK (attempt >= 0),
    max_retries        bigint   NOT NULL CHECK (max_retries >= 0),
    crashes            bigint   NOT NULL CHECK (crashes >= 0),
    open_deps          bigint   NOT NULL CHECK (open_deps >= 0),
    split_count        bigint   NOT NULL CHECK (split_count >= 0),
    completed_children bigint   NOT NULL CHECK (completed_children BETWEEN 0 AND split_count),
    succeeded_children bigint   NOT NULL CHECK (succeeded_children BETWEEN 0 AND completed_children),
    timeout_sec        bigint   NOT NULL CHECK (timeout_sec >= 1),
    definition_version integer  NOT NULL CHECK (definition_version >= 1),
    -- Status and phase in one, so that they cannot disagree. PENDING: 0 SCHEDULED, 1 WAITING_DEPS, 2 BACKOFF, 3 PAUSED, 4 QUEUED.
    -- RUNNING: 5 EXECUTING, 6 WAITING_CHILDREN, 7 AGGREGATING. SUCCESS: 8 DONE, 9 CACHED. FAILED: 10 DONE, 11 DEAD_LETTER.
    -- 12 CANCELLED. 13 SKIPPED.
    state              smallint NOT NULL CHECK (state BETWEEN 0 AND 13),
    -- 0 AGENT, 1 EXECUTION, 2 GROUP_AGG, 3 SINGLE_AGG
    actor_type         smallint NOT NULL CHECK (actor_type BETWEEN 0 AND 3),
    is_leaf_agent      smallint NOT NULL CHECK (is_leaf_agent IN (0, 1)),
    priority           smallint NOT NULL CHECK (priority BETWEEN 1 AND 10),
    -- 0 RUN, 1 AGGREGATE
    leg                smallint NOT NULL CHECK (leg IN (0, 1)),
    cancelling         smallint NOT NULL CHECK (cancelling IN (0, 1)),
    -- Whether the task is held: what runs may go on, and what would be queued is PAUSED instead.
    paused             smallint NOT NULL CHECK (paused IN (0, 1)),
    -- 0 at any hour, 1 at night only, 2 at night only and waiting for it.
    hours              smallint NOT NULL CHECK (hours BETWEEN 0 AND 2),
    -- Which of its gates it waits at while it is QUEUED; NULL: it has passed them, or is not queued.
    parked             smallint CHECK (parked BETWEEN 0 AND 3),
    -- 0 SUCCESS, 1 FINISHED
    run_on             smallint NOT NULL CHECK (run_on IN (0, 1)),
    progress           smallint NOT NULL CHECK (progress BETWEEN 0 AND 100),
    key                text     COLLATE "C" NOT NULL,
    job_id             text     COLLATE "C" NOT NULL,
    progress_message   text     NOT NULL,
    error_code         text     COLLATE "C",
    error_message      text,
    -- Keys that it named, an array; NULL: none.
    depends_on         text,
    -- The gates that it passes before it can be claimed, an array of their names; NULL: none.
    gates              text,
    -- Inline JSON, or a URL of the artifact store; likewise `carried`, which the step before left for the next leg.
    output_ref         text,
    carried_ref        text,
    input_params       text     NOT NULL,
    output             text,
    carried            text,
    CHECK ((finished_at IS NOT NULL) = (state >= 8)),
    CHECK ((error_code IS NULL) = (error_message IS NULL)),
    CHECK (output IS NULL OR output_ref IS NULL),
    CHECK (carried IS NULL OR carried_ref IS NULL)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

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
    depends_on uuid NOT NULL,
    task_id    uuid NOT NULL,
    PRIMARY KEY (depends_on, task_id),
    CHECK (depends_on <> task_id)
);

-- Reader::dependency_results and Tx::old_tasks.
CREATE INDEX task_deps_by_task ON task_deps (task_id, depends_on);

-- Rounds of a LOOP that ended well. The task's counters and its output are of its present round.
CREATE TABLE rounds (
    finished_at        bigint NOT NULL,
    round_index        bigint NOT NULL CHECK (round_index >= 0),
    split_count        bigint NOT NULL CHECK (split_count >= 0),
    completed_children bigint NOT NULL CHECK (completed_children BETWEEN 0 AND split_count),
    succeeded_children bigint NOT NULL CHECK (succeeded_children BETWEEN 0 AND completed_children),
    task_id            uuid   NOT NULL,
    -- Inline JSON, or a URL of the artifact store.
    output_ref         text,
    output             text,
    PRIMARY KEY (task_id, round_index),
    CHECK (output IS NULL OR output_ref IS NULL)
);
