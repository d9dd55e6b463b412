-- What happened and what was ordered. Only ever added to.

-- Parent and part of the task that an event is about are the task's and are not repeated here.
CREATE TABLE events (
    trace_id    BLOB    NOT NULL CHECK (length(trace_id) = 16),
    seq         INTEGER NOT NULL CHECK (seq >= 1),
    task_id     BLOB    NOT NULL CHECK (length(task_id) = 16),
    -- 0 STARTED, 1 PROGRESS, 2 COMPLETED, 3 FAILED, 4 CANCELLED, 5 QUEUED, 6 SPLIT, 7 WAITING, 8 RETRYING, 9 SKIPPED, 10 PAUSED,
    -- 11 RESUMED, 12 LOG, 13 PARTIAL_OUTPUT
    event_type  INTEGER NOT NULL CHECK (event_type BETWEEN 0 AND 13),
    from_status INTEGER CHECK (from_status BETWEEN 0 AND 5),
    to_status   INTEGER CHECK (to_status BETWEEN 0 AND 5),
    at          INTEGER NOT NULL,
    -- Only of those that came from outside.
    event_id    TEXT,
    payload     TEXT,
    PRIMARY KEY (trace_id, seq)
) STRICT, WITHOUT ROWID;

-- Tx::known_events; the same event is kept once.
CREATE UNIQUE INDEX events_outside ON events (event_id) WHERE event_id IS NOT NULL;
-- Reader::logs of a trace.
CREATE INDEX events_logs_by_trace ON events (trace_id, seq) WHERE event_type = 12;
-- Reader::logs of a task.
CREATE INDEX events_logs_by_task ON events (task_id, seq) WHERE event_type = 12;

-- Attempts that have ended.
CREATE TABLE attempts (
    task_id       BLOB    NOT NULL CHECK (length(task_id) = 16),
    fence         INTEGER NOT NULL CHECK (fence >= 1),
    attempt       INTEGER NOT NULL CHECK (attempt >= 0),
    leg           INTEGER NOT NULL CHECK (leg IN (0, 1)),
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER NOT NULL,
    result        TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    error_code    TEXT,
    error_message TEXT,
    PRIMARY KEY (task_id, fence),
    CHECK ((error_code IS NULL) = (error_message IS NULL))
) STRICT, WITHOUT ROWID;

-- Orders, for audit.
CREATE TABLE control_events (
    trace_id     BLOB    NOT NULL CHECK (length(trace_id) = 16),
    id           BLOB    NOT NULL CHECK (length(id) = 16),
    -- The root of the subtree; NULL: the whole trace.
    task_id      BLOB    CHECK (length(task_id) = 16),
    -- 0 RUN, 1 PAUSE, 2 CANCEL, 3 RETRY
    action       INTEGER NOT NULL CHECK (action BETWEEN 0 AND 3),
    created_at   INTEGER NOT NULL,
    triggered_by TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (trace_id, id)
) STRICT, WITHOUT ROWID;

-- Callers' keys against doubles.
CREATE TABLE idempotency_keys (
    key          TEXT    NOT NULL PRIMARY KEY,
    fingerprint  BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    trace_id     BLOB    NOT NULL CHECK (length(trace_id) = 16),
    root_task_id BLOB    NOT NULL CHECK (length(root_task_id) = 16),
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
