-- How many tasks may run at once, and how many may begin in a while.

-- The gates that the task passes before it can be claimed, an array of their names; NULL: none.
ALTER TABLE tasks ADD COLUMN gates TEXT;

-- Which of them it waits at while it is QUEUED; NULL: it has passed them, or is not queued.
ALTER TABLE tasks ADD COLUMN parked INTEGER CHECK (parked BETWEEN 0 AND 3);

-- Gates that somebody has passed or waits at. `limits` of definitions say how many may.
CREATE TABLE gates (
    gate     TEXT    NOT NULL PRIMARY KEY,
    -- Tasks that have passed and not left.
    taken    INTEGER NOT NULL CHECK (taken >= 0),
    -- When a limit of starts has forgotten all starts.
    full_at  INTEGER,
    -- When whoever waits is to be looked at.
    opens_at INTEGER
) STRICT, WITHOUT ROWID;

-- Tx::opening and Tx::next_due.
CREATE INDEX gates_opening ON gates (opens_at) WHERE opens_at IS NOT NULL;

-- The queue again, with a place for tasks that wait at a gate.
CREATE TABLE queue_with_gates (
    task_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(task_id) = 16),
    -- 0 ready, 1 waits until `due`, 2 claimed by `owner`, 3 waits at `gate`
    place       INTEGER NOT NULL CHECK (place BETWEEN 0 AND 3),
    priority    INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 10),
    -- Order within a priority: smallest first.
    rank        INTEGER NOT NULL CHECK (rank >= 0),
    due         INTEGER,
    lease_until INTEGER,
    owner       TEXT,
    gate        TEXT,
    CHECK ((place = 1) = (due IS NOT NULL)),
    CHECK ((place = 2) = (owner IS NOT NULL)),
    CHECK ((place = 2) = (lease_until IS NOT NULL)),
    CHECK ((place = 3) = (gate IS NOT NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO queue_with_gates SELECT task_id, place, priority, rank, due, lease_until, owner, NULL FROM queue;
DROP TABLE queue;
ALTER TABLE queue_with_gates RENAME TO queue;

-- Tx::ready and Tx::fair.
CREATE INDEX queue_ready ON queue (priority DESC, rank, task_id) WHERE place = 0;
-- Tx::due and Tx::next_due.
CREATE INDEX queue_due ON queue (due) WHERE place = 1;
-- Tx::claimed_by and Tx::renew; Tx::overdue walks it, and it is as short as there are claims.
CREATE INDEX queue_claimed ON queue (owner) WHERE place = 2;
-- Tx::parked, and how many wait at a gate.
CREATE INDEX queue_parked ON queue (gate, priority DESC, rank, task_id) WHERE place = 3;
