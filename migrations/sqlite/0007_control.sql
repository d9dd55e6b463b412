-- An order to hold, hours of the day, and what the rounds of a LOOP left behind.

-- Whether the task is held: what runs may go on, and what would be queued is PAUSED instead.
ALTER TABLE tasks ADD COLUMN paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1));

-- 0 at any hour, 1 at night only, 2 at night only and waiting for it.
ALTER TABLE tasks ADD COLUMN hours INTEGER NOT NULL DEFAULT 0 CHECK (hours BETWEEN 0 AND 2);

-- Rounds of a LOOP that ended well. The task's counters and its output are of its present round.
CREATE TABLE rounds (
    task_id            BLOB    NOT NULL CHECK (length(task_id) = 16),
    round_index        INTEGER NOT NULL CHECK (round_index >= 0),
    finished_at        INTEGER NOT NULL,
    split_count        INTEGER NOT NULL CHECK (split_count >= 0),
    completed_children INTEGER NOT NULL CHECK (completed_children BETWEEN 0 AND split_count),
    succeeded_children INTEGER NOT NULL CHECK (succeeded_children BETWEEN 0 AND completed_children),
    -- Inline JSON, or a URL of the artifact store.
    output_ref         TEXT,
    output             TEXT,
    PRIMARY KEY (task_id, round_index),
    CHECK (output IS NULL OR output_ref IS NULL)
) STRICT;
