-- Each DROP COLUMN rewrites the table and keeps every remaining byte and the row order.
-- The contents of the dropped tables remain in the backup that `memctl rollback` makes first.

-- The features first: a trigger without its tables would fail the service's statements.
DROP TRIGGER IF EXISTS memctl_access_boost;
DROP TRIGGER IF EXISTS memctl_access_counting;
DROP TRIGGER IF EXISTS memctl_archive_on_delete;

DROP INDEX memctl_expires_at;

ALTER TABLE agent_memory DROP COLUMN promoted_at;
ALTER TABLE agent_memory DROP COLUMN last_decay_at;
ALTER TABLE agent_memory DROP COLUMN importance_decay_rate;
ALTER TABLE agent_memory DROP COLUMN archived_at;

DROP TABLE IF EXISTS memory_idle_times;
DROP TABLE memory_state;
DROP TABLE memory_access_counts;
DROP TABLE memory_promotions;
DROP TABLE memory_events;
DROP TABLE memory_runs;
DROP TABLE memory_analytics;
DROP TABLE archived_memories;
