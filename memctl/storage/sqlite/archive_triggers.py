"""The triggers that archive what other clients delete or replace.

They exist while archive-on-delete or archive-on-replace is enabled, and while there are holds: then
they act on held memories only. SQLite fires no DELETE trigger for what REPLACE removes, unless
`recursive_triggers` is on, and an INSERT trigger cannot tell how a conflict will be resolved.
So a BEFORE trigger copies the memories that the new row conflicts with, and the AFTER trigger,
which fires only if they were removed, archives them. With `recursive_triggers` on, the DELETE
trigger has then already archived them as deleted, which is undone.
https://www.sqlite.org/lang_conflict.html

The copies of a statement that ignored the conflict, or failed without a rollback, stay until the
next one: nothing fires after it. They are never archived.

SQLite compiles the triggers again with each statement that is prepared, which costs more than their
execution: they have as few statements as possible.
"""

from collections.abc import Mapping
from typing import NamedTuple

from memctl.storage.rows import CAUSES, reason_detail
from memctl.storage.sqlite.archive import KEPT_COLUMNS, KEPT_FIELDS
from memctl.storage.sqlite.archiving import renamed
from memctl.storage.sqlite.holds import in_force, is_held

ON_DELETE = "memctl_archive_on_delete"
REPLACE_BEGINS = "memctl_replace_begins"
REPLACE_ENDS = "memctl_replace_ends"
UPDATE_OF_VALUE = "memctl_update_of_value"
RENAME_BEGINS = "memctl_rename_begins"
RENAME_ENDS = "memctl_rename_ends"
REPLACE_TRIGGERS = (REPLACE_BEGINS, REPLACE_ENDS, UPDATE_OF_VALUE, RENAME_BEGINS, RENAME_ENDS)
ARCHIVE_TRIGGERS = (ON_DELETE, *REPLACE_TRIGGERS)

# The time is that of the client's clock: the trigger runs in the client's process.
NOW = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"
SUFFIX = f"'~' || {NOW}"  # of an id that the new version keeps

INSERT = "INSERT"
RENAME = "UPDATE OF id, agent_id, type, key"
CONTENT = ("value", "metadata", "importance")
NAME = ("agent_id", "type", "key")

# Memctl's own deletes, and its changes of values, are exempt.
IS_OF_CLIENT = "NOT EXISTS (SELECT 1 FROM memory_state WHERE key = 'own_delete')"


class Archiving(NamedTuple):
    """What the triggers archive."""

    deleted: bool = False  # archive-on-delete
    replaced: bool = False  # archive-on-replace
    held: bool = False  # there are holds


def archive_triggers(archiving: Archiving) -> Mapping[str, str]:
    """Return the triggers by their names; the SQL of one that must not exist is empty."""
    found = dict.fromkeys(ARCHIVE_TRIGGERS, "")
    if archiving.deleted or archiving.held:
        found[ON_DELETE] = _on_delete(archiving)
    if archiving.replaced or archiving.held:
        found |= {
            REPLACE_BEGINS: _begin(REPLACE_BEGINS, INSERT, archiving),
            REPLACE_ENDS: _end(REPLACE_ENDS, INSERT, archiving),
            UPDATE_OF_VALUE: _update_of_value(archiving),
            RENAME_BEGINS: _begin(RENAME_BEGINS, RENAME, archiving),
            RENAME_ENDS: _end(RENAME_ENDS, RENAME, archiving),
        }
    return {name: sql.strip() for name, sql in found.items()}


def _differs(one: str, other: str, columns: tuple[str, ...]) -> str:
    """Return SQL that is true if two rows differ in one of the columns."""
    return " OR ".join(f"{one}.{column} IS NOT {other}.{column}" for column in columns)


def _is_lost(archiving: Archiving) -> str:
    """Return SQL that is true if the row `present` must be archived when NEW replaces it.

    That is if its name or content differs, or if a hold names its id, which would be gone.
    """
    differs = _differs("present", "NEW", (*NAME, *CONTENT))
    if not archiving.held:
        return differs
    gate = "TRUE" if archiving.replaced else is_held("agent_memory", "present", moment=NOW)
    return f"""
        ({differs}) AND {gate}
        OR present.id IS NOT NEW.id AND EXISTS (
            SELECT 1 FROM memory_holds AS hold
            WHERE hold.agent_id = present.agent_id AND hold.memory_id = present.id
                AND {in_force(NOW)}
        )
    """


def _begin(name: str, change: str, archiving: Archiving) -> str:
    """Return the trigger that copies the memories with which a change conflicts.

    A change of a name conflicts with other memories than its own.
    """
    is_other = "TRUE" if change == INSERT else "present.rowid <> OLD.rowid"
    is_lost, is_copied = _is_lost(archiving), "TRUE"
    if not _undoes_deletes(archiving):
        is_lost, is_copied = "TRUE", is_lost
    return f"""
        CREATE TRIGGER {name} BEFORE {change} ON agent_memory
        BEGIN
            DELETE FROM memory_replacements WHERE TRUE;
            INSERT INTO memory_replacements (replaced_row, is_lost, {KEPT_COLUMNS})
            SELECT present.rowid, {is_lost}, {_list_columns("present")}
            FROM agent_memory AS present
            WHERE (
                present.id = NEW.id
                OR present.agent_id = NEW.agent_id
                    AND present.type = NEW.type AND present.key = NEW.key
                OR present.rowid = NEW.rowid AND NEW.rowid > 0 -- -1 if the statement gives none
            ) AND {is_other} AND ({is_copied});
        END
    """


# The events of the statement are the newest: the DELETE trigger records two for each memory.
UNDO_DELETED = """
    DELETE FROM archived_memories
    WHERE archive_id IN (SELECT archive_id FROM memory_replacements);
    DELETE FROM memory_events
    WHERE event_id > (SELECT max(event_id) FROM memory_events)
        - 2 * (SELECT count(archive_id) FROM memory_replacements);
"""


def _undoes_deletes(archiving: Archiving) -> bool:
    """Return whether the DELETE trigger may have archived what a change replaces."""
    return archiving.deleted or archiving.held


def _end(name: str, change: str, archiving: Archiving) -> str:
    """Return the trigger that archives the memories that a change has replaced."""
    return f"""
        CREATE TRIGGER {name} AFTER {change} ON agent_memory
        WHEN EXISTS (SELECT 1 FROM memory_replacements)
        BEGIN
            {UNDO_DELETED if _undoes_deletes(archiving) else ""}
            INSERT INTO archived_memories ({KEPT_COLUMNS}, archived_at, archived_reason)
            SELECT {_replaced_columns("replaced")}, {NOW}, 'replaced'
            FROM memory_replacements AS replaced WHERE is_lost;
            INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, detail)
            SELECT {NOW}, 'memory:archived', id, agent_id, type, key, '{reason_detail("replaced")}'
            FROM memory_replacements WHERE is_lost;
            DELETE FROM memory_replacements;
        END
    """


def _update_of_value(archiving: Archiving) -> str:
    """Return the trigger that archives the version that an UPDATE, or an upsert, overwrites."""
    gate = "TRUE" if archiving.replaced else is_held("agent_memory", "OLD", moment=NOW)
    return f"""
        CREATE TRIGGER {UPDATE_OF_VALUE} AFTER UPDATE OF value, metadata ON agent_memory
        WHEN ({_differs("OLD", "NEW", CONTENT)}) AND {IS_OF_CLIENT} AND {gate}
        BEGIN
            DELETE FROM memory_replacements WHERE replaced_row = OLD.rowid;
            INSERT INTO archived_memories ({KEPT_COLUMNS}, archived_at, archived_reason)
            VALUES ({_replaced_columns("OLD")}, {NOW}, 'replaced');
            INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, detail)
            VALUES (
                {NOW}, 'memory:archived', OLD.id, OLD.agent_id, OLD.type, OLD.key,
                '{reason_detail("replaced")}'
            );
        END
    """


def _on_delete(archiving: Archiving) -> str:
    """Return the trigger that archives what a client deletes."""
    gate = "TRUE" if archiving.deleted else is_held("agent_memory", "OLD", moment=NOW)
    replaces = archiving.replaced or archiving.held
    return f"""
        CREATE TRIGGER {ON_DELETE} AFTER DELETE ON agent_memory
        WHEN {IS_OF_CLIENT} AND {gate}
        BEGIN
            INSERT INTO archived_memories ({KEPT_COLUMNS}, archived_at, archived_reason)
            VALUES ({_list_columns("OLD")}, {NOW}, 'deleted');
            {NOTE_ARCHIVED if replaces else ""}
            INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, detail)
            VALUES (
                {NOW}, '{CAUSES["deleted"]}', OLD.id, OLD.agent_id, OLD.type, OLD.key, NULL
            ), (
                {NOW}, 'memory:archived', OLD.id, OLD.agent_id, OLD.type, OLD.key,
                '{reason_detail("deleted")}'
            );
        END
    """


NOTE_ARCHIVED = """
    UPDATE memory_replacements SET archive_id = last_insert_rowid()
    WHERE replaced_row = OLD.rowid;
"""


def _list_columns(row: str) -> str:
    """Return the kept columns of a row."""
    return ", ".join(f"{row}.{column}" for column in KEPT_FIELDS)


def _replaced_columns(row: str) -> str:
    """Return the kept columns of a row that NEW has replaced, and whose id it may have taken."""
    renamed_id = renamed(f"{row}.id", SUFFIX)
    taken = f"CASE WHEN {row}.id IS NEW.id THEN {renamed_id} ELSE {row}.id END"
    return ", ".join(taken if column == "id" else f"{row}.{column}" for column in KEPT_FIELDS)
