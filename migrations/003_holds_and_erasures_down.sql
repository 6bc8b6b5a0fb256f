-- The triggers first: without their tables, they would fail the service's statements. After these
-- statements, `memctl rollback` creates archive-on-delete again if it is enabled, and drops
-- memory_tombstones if it is empty.
DROP TRIGGER IF EXISTS memctl_archive_on_delete;
DROP TRIGGER IF EXISTS memctl_replace_begins;
DROP TRIGGER IF EXISTS memctl_replace_ends;
DROP TRIGGER IF EXISTS memctl_update_of_value;
DROP TRIGGER IF EXISTS memctl_rename_begins;
DROP TRIGGER IF EXISTS memctl_rename_ends;

DELETE FROM memory_state WHERE key = 'feature:archive-on-replace';
DROP INDEX IF EXISTS archived_memories_by_version;
DROP TABLE memory_replacements;
DROP TABLE memory_holds;
