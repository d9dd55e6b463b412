-- Tasks that can be claimed, wait for their time, or are claimed. Narrow and short-lived: what has ended is not here.
CREATE TABLE queue (
    task_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(task_id) = 16),
    -- 0 ready, 1 waits until `due`, 2 claimed by `owner`
    place       INTEGER NOT NULL CHECK (place BETWEEN 0 AND 2),
    priority    INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 10),
    -- Order within a priority: smallest first.
    rank        INTEGER NOT NULL CHECK (rank >= 0),
    due         INTEGER,
    lease_until INTEGER,
    owner       TEXT,
    CHECK ((place = 1) = (due IS NOT NULL)),
    CHECK ((place = 2) = (owner IS NOT NULL)),
    CHECK ((place = 2) = (lease_until IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Tx::ready.
CREATE INDEX queue_ready ON queue (priority DESC, rank, task_id) WHERE place = 0;
-- Tx::due and Tx::next_due.
CREATE INDEX queue_due ON queue (due) WHERE place = 1;
-- Tx::claimed_by and Tx::renew; Tx::overdue walks it, and it is as short as there are claims.
CREATE INDEX queue_claimed ON queue (owner) WHERE place = 2;
