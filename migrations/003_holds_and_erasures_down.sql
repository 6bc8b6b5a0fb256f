-- The triggers first: without their tables, they would fail the service's statements. The table of
-- erased memories is dropped by `memctl rollback` if it is empty.
DROP TRIGGER IF EXISTS memctl_archive_on_delete;
DROP TRIGGER IF EXISTS memctl_replace_begins;
DROP TRIGGER IF EXISTS memctl_replace_ends;
DROP TRIGGER IF EXISTS memctl_update_of_value;
DROP TRIGGER IF EXISTS memctl_rename_begins;
DROP TRIGGER IF EXISTS memctl_rename_ends;

DROP TABLE memory_replacements;
DROP TABLE memory_holds;
