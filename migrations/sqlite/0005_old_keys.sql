-- Tx::delete_keys: callers' keys that are too old to count, the oldest first.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
