-- Definitions that fire by themselves. SQLite changes no CHECK of a table that is there: two are made anew.

CREATE TABLE traces_anew (
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
    -- 0 MANUAL, 1 API, 2 REPLAY, 3 SCHEDULE, 4 CRON, 5 LOOP
    trigger_type       INTEGER NOT NULL CHECK (trigger_type BETWEEN 0 AND 5),
    rerun_of           BLOB    CHECK (length(rerun_of) = 16),
    definition_id      TEXT    NOT NULL,
    user_id            TEXT    NOT NULL,
    triggered_by       TEXT    NOT NULL,
    idempotency_key    TEXT,
    -- An object; NULL: no labels.
    labels             TEXT,
    -- The instant of its schedule that it was begun for.
    cron_trigger_time  INTEGER,
    CHECK ((finished_at IS NOT NULL) = (status >= 2)),
    CHECK ((cron_trigger_time IS NOT NULL) = (trigger_type >= 3))
) STRICT;

INSERT INTO traces_anew SELECT trace_id, root_task_id, status, cancelling, count_pending, count_running, count_success, count_failed, count_cancelled,
    count_skipped, last_seq, rank, created_at, started_at, finished_at, definition_version, trigger_type, rerun_of, definition_id, user_id,
    triggered_by, idempotency_key, labels, NULL FROM traces;
DROP TABLE traces;
ALTER TABLE traces_anew RENAME TO traces;

-- Reader::traces without a definition and a user.
CREATE INDEX traces_by_status ON traces (status, trace_id);
-- Reader::traces of one definition.
CREATE INDEX traces_by_definition ON traces (definition_id, status, trace_id);
-- Reader::traces of one user.
CREATE INDEX traces_by_user ON traces (user_id, status, trace_id);
-- Reader::dead_letters: whether a trace was retried.
CREATE INDEX traces_by_rerun_of ON traces (rerun_of) WHERE rerun_of IS NOT NULL;

-- Orders, for audit: to a trace, to a subtree of it, or about the schedule of a definition.
CREATE TABLE control_events_anew (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    trace_id      BLOB    CHECK (length(trace_id) = 16),
    -- The root of the subtree; NULL: the whole trace.
    task_id       BLOB    CHECK (length(task_id) = 16),
    definition_id TEXT,
    -- 0 RUN, 1 PAUSE, 2 CANCEL, 3 RETRY
    action        INTEGER NOT NULL CHECK (action BETWEEN 0 AND 3),
    created_at    INTEGER NOT NULL,
    triggered_by  TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    CHECK ((trace_id IS NULL) <> (definition_id IS NULL)),
    CHECK (task_id IS NULL OR trace_id IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- OR IGNORE: an id was unique within its trace, and they are all different.
INSERT OR IGNORE INTO control_events_anew SELECT id, trace_id, task_id, NULL, action, created_at, triggered_by, reason FROM control_events;
DROP TABLE control_events;
ALTER TABLE control_events_anew RENAME TO control_events;

-- Reader::control_events and Reader::orders of a trace.
CREATE INDEX control_events_by_trace ON control_events (trace_id, id) WHERE trace_id IS NOT NULL;
-- Reader::orders of a definition.
CREATE INDEX control_events_by_definition ON control_events (definition_id, id) WHERE definition_id IS NOT NULL;

-- Where the schedule of each definition that has one stands.
CREATE TABLE schedules (
    definition_id      TEXT    NOT NULL PRIMARY KEY,
    -- The version that it was put with.
    definition_version INTEGER NOT NULL CHECK (definition_version >= 1),
    -- Raised by every change.
    revision           INTEGER NOT NULL CHECK (revision >= 1),
    -- 0 ACTIVE, 1 PAUSED, 2 COMPLETED, 3 CANCELLED
    state              INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    -- What intervals are counted from.
    anchor             INTEGER NOT NULL,
    -- The earliest instant that nothing was decided about; NULL: none, or the definition is switched off.
    next_at            INTEGER,
    last_at            INTEGER,
    last_trace_id      BLOB    CHECK (length(last_trace_id) = 16),
    -- The trace whose end it waits for.
    waiting_trace_id   BLOB    CHECK (length(waiting_trace_id) = 16),
    -- When it waited last.
    waited_until       INTEGER,
    fired              INTEGER NOT NULL CHECK (fired >= 0),
    missed             INTEGER NOT NULL CHECK (missed >= 0),
    skipped            INTEGER NOT NULL CHECK (skipped >= 0),
    updated_at         INTEGER NOT NULL,
    CHECK (next_at IS NULL OR state = 0)
) STRICT, WITHOUT ROWID;

-- ScheduleStore::due and ::look.
CREATE INDEX schedules_due ON schedules (next_at) WHERE next_at IS NOT NULL AND waiting_trace_id IS NULL;
-- Tx::release_schedules, ScheduleStore::look.
CREATE INDEX schedules_waiting ON schedules (waiting_trace_id) WHERE waiting_trace_id IS NOT NULL;

-- What fired: an instant of a definition at most once.
CREATE TABLE cron_fires (
    definition_id TEXT    NOT NULL,
    instant       INTEGER NOT NULL,
    trace_id      BLOB    NOT NULL CHECK (length(trace_id) = 16),
    PRIMARY KEY (definition_id, instant)
) STRICT, WITHOUT ROWID;
