-- Steps whose code runs outside of the host wait in lanes of their own, so that a host claims what it has room for and nothing else.

-- `docker`, `http` or `worker/QUEUE`; NULL: run in the host's process, as almost all are.
ALTER TABLE tasks ADD COLUMN lane TEXT;

-- The queue again, with a place for tasks that can be claimed by hosts with room in their lane.
CREATE TABLE queue_with_lanes (
    task_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(task_id) = 16),
    -- 0 ready, 1 waits until `due`, 2 claimed by `owner`, 3 waits at `gate`, 4 ready in `lane`
    place       INTEGER NOT NULL CHECK (place BETWEEN 0 AND 4),
    priority    INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 10),
    -- Order within a priority: smallest first.
    rank        INTEGER NOT NULL CHECK (rank >= 0),
    due         INTEGER,
    lease_until INTEGER,
    owner       TEXT,
    gate        TEXT,
    lane        TEXT,
    CHECK ((place = 1) = (due IS NOT NULL)),
    CHECK ((place = 2) = (owner IS NOT NULL)),
    CHECK ((place = 2) = (lease_until IS NOT NULL)),
    CHECK ((place = 3) = (gate IS NOT NULL)),
    CHECK ((place = 4) = (lane IS NOT NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO queue_with_lanes SELECT task_id, place, priority, rank, due, lease_until, owner, gate, NULL FROM queue;
DROP TABLE queue;
ALTER TABLE queue_with_lanes RENAME TO queue;

-- Tx::ready and Tx::fair.
CREATE INDEX queue_ready ON queue (priority DESC, rank, task_id) WHERE place = 0;
-- Tx::due and Tx::next_due.
CREATE INDEX queue_due ON queue (due) WHERE place = 1;
-- Tx::claimed_by and Tx::renew; Tx::overdue walks it, and it is as short as there are claims.
CREATE INDEX queue_claimed ON queue (owner) WHERE place = 2;
-- Tx::parked, and how many wait at a gate.
CREATE INDEX queue_parked ON queue (gate, priority DESC, rank, task_id) WHERE place = 3;
-- Tx::ready_in and Tx::fair_in, and how many wait in a lane.
CREATE INDEX queue_lanes ON queue (lane, priority DESC, rank, task_id) WHERE place = 4;

-- Where a host is reached by the others, who pass on what outside workers tell them about its steps.
ALTER TABLE hosts ADD COLUMN url TEXT;
