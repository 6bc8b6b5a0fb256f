"""Triggers on the memories; those of other programs must not change the memories."""

import sqlite3
from sqlite3 import Connection

from memctl.errors import SchemaError
from memctl.signals import raise_dropped

# The optional features and the holds are triggers, so that they apply to every client.
OWN_TRIGGERS = frozenset(
    {
        "memctl_access_boost",
        "memctl_access_counting",
        "memctl_archive_on_delete",
        "memctl_replace_begins",
        "memctl_replace_ends",
        "memctl_update_of_value",
        "memctl_rename_begins",
        "memctl_rename_ends",
    }
)

MEMORY_TABLES = ("agent_memory", "archived_memories")
UPDATED_COLUMNS = (  # by a job, or by an access through memctl
    "importance",
    "access_count",
    "last_accessed",
    "last_decay_at",
    "promoted_at",
)
WRITING = (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)


def foreign_triggers(db: Connection) -> list[str]:
    """Return the names of other programs' triggers on active and archived memories."""
    found = db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        " AND lower(tbl_name) IN ('agent_memory', 'archived_memories') ORDER BY name"
    )
    return [name for (name,) in found if name not in OWN_TRIGGERS]


def require_harmless_triggers(db: Connection) -> None:
    """Ensure that the triggers and indexes of other programs do not change the memories.

    SQLite compiles the statements that memctl would execute, which shows the actions of triggers;
    nothing is executed. Raises SchemaError for a trigger that writes to the memories, and for a
    trigger or index that cannot work, for example because a module or a function is missing.
    """
    interfering: set[tuple[str, str]] = set()

    def note(action: int, table: str | None, *more: str | None) -> int:
        trigger = more[-1]
        foreign = trigger is not None and trigger not in OWN_TRIGGERS
        if foreign and action in WRITING and str(table).lower() in MEMORY_TABLES:
            interfering.add((str(trigger), str(table)))
        return sqlite3.SQLITE_OK

    db.set_authorizer(note)
    try:
        for table in MEMORY_TABLES:
            for statement in _probes(db, table):
                db.execute(f"EXPLAIN {statement}").close()
    except sqlite3.OperationalError as error:
        raise_dropped()
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
            raise
        raise SchemaError(
            f"{table} cannot be written by this SQLite: {error}",
            "a trigger or index of another program needs a feature that is missing: use an SQLite"
            " version that has it, or change the trigger or index; nothing was changed",
        ) from None
    finally:
        db.set_authorizer(None)
    for trigger, table in sorted(interfering):
        raise SchemaError(
            f"the trigger {trigger} of another program would write to {table} when memctl does",
            "change the trigger in the program that created it; nothing was changed",
        )


def _probes(db: Connection, table: str) -> list[str]:
    """Return statements that would fire every trigger that memctl can fire on a table."""
    columns = [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]
    if not columns:
        return []
    updated = [f"{column} = {column}" for column in columns if column in UPDATED_COLUMNS]
    return [
        f"INSERT INTO {table} SELECT * FROM {table}",
        f"DELETE FROM {table}",
        *([f"UPDATE {table} SET {', '.join(updated)}"] if updated else []),
    ]


def require_equal_counts(db: Connection, **counts: int) -> None:
    """Ensure that the statements of one step changed the same number of rows.

    Raises SchemaError if they did not and another program has triggers on the memories.
    """
    if len(set(counts.values())) == 1:
        return
    found = ", ".join(f"{name} {count}" for name, count in counts.items())
    triggers = foreign_triggers(db)
    if not triggers:
        raise AssertionError(found)
    raise SchemaError(
        f"a trigger of another program changes the result ({', '.join(triggers)}): {found}",
        "the interrupted step was rolled back; change the trigger in the program that created it",
    )
