-- Large outputs, whose bytes are in the artifact store, and which trace they go with.
CREATE TABLE artifacts (
    digest   BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    -- NULL: nobody's, and to be deleted.
    trace_id BLOB CHECK (length(trace_id) = 16)
) STRICT, WITHOUT ROWID;

-- RetentionStore::retire: those of a trace. ArtifactStore::ownerless: those of none.
CREATE INDEX artifacts_by_trace ON artifacts (trace_id);

-- RetentionStore::retire: who still refers to one.
CREATE INDEX tasks_by_output_ref ON tasks (output_ref) WHERE output_ref IS NOT NULL;
CREATE INDEX tasks_by_carried_ref ON tasks (carried_ref) WHERE carried_ref IS NOT NULL;
CREATE INDEX rounds_by_output_ref ON rounds (output_ref) WHERE output_ref IS NOT NULL;
