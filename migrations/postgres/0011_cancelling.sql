-- Tx::unswept: traces that are being cancelled, of which there are few at any time.
CREATE INDEX traces_cancelling ON traces (trace_id) WHERE cancelling = 1 AND finished_at IS NULL;
