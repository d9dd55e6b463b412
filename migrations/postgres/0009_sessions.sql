-- Sessions: a user's continuing work over several traces. Their files are in folders.
CREATE TABLE sessions (
    created_at     bigint   NOT NULL,
    last_used_at   bigint   NOT NULL,
    closed_at      bigint,
    -- What the workspace held when it was measured last, and may hold; NULL: what the host says.
    bytes          bigint   NOT NULL CHECK (bytes >= 0),
    files          bigint   NOT NULL CHECK (files >= 0),
    quota_bytes    bigint   CHECK (quota_bytes >= 0),
    files_max      bigint   CHECK (files_max >= 0),
    id             uuid     NOT NULL PRIMARY KEY,
    -- 0 ACTIVE, 1 IDLE, 2 ARCHIVED, 3 CLOSED
    status         smallint NOT NULL CHECK (status BETWEEN 0 AND 3),
    -- Whether its files are gone for good.
    purged         smallint NOT NULL CHECK (purged IN (0, 1)),
    user_id        text     COLLATE "C" NOT NULL,
    sdk_session_id text,
    -- An object; NULL: no labels.
    labels         text,
    -- Of an archived one, digests of the pieces of its workspace: an array.
    archive        text,
    CHECK ((closed_at IS NOT NULL) = (status = 3))
) WITH (fillfactor = 80);

-- SessionStore::list of one user.
CREATE INDEX sessions_by_user ON sessions (user_id, id);
-- SessionStore::idle and ::archivable.
CREATE INDEX sessions_by_use ON sessions (status, last_used_at);
-- SessionStore::purgeable.
CREATE INDEX sessions_closed ON sessions (closed_at) WHERE status = 3 AND purged = 0;

ALTER TABLE traces ADD COLUMN session_id uuid;
-- Reader::traces of one session; whether a session is in use.
CREATE INDEX traces_by_session ON traces (session_id, status, trace_id) WHERE session_id IS NOT NULL;
