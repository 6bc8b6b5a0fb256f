"""Triggers on the memories: those of other programs must leave the memories as they are."""

import sqlite3
from sqlite3 import Connection

from memctl.errors import SchemaError

# The opt-in features, which are triggers, so that they work for every client.
FEATURE_TRIGGERS = {
    "access-boost": "memctl_access_boost",
    "access-counting": "memctl_access_counting",
    "archive-on-delete": "memctl_archive_on_delete",
}

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
    """Return the names of the triggers on memories, active and archived, that are not memctl's."""
    found = db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        " AND lower(tbl_name) IN ('agent_memory', 'archived_memories') ORDER BY name"
    )
    return [name for (name,) in found if name not in FEATURE_TRIGGERS.values()]


def require_harmless_triggers(db: Connection) -> None:
    """Make sure that what other programs have added to the memories leaves them alone.

    SQLite compiles what memctl would execute, which shows all that triggers do; nothing is
    executed. Raises SchemaError for a trigger that writes to the memories, and for a trigger or an
    index that cannot work here, for instance because a module or a function is missing.
    """
    meddling: set[tuple[str, str]] = set()

    def note(action: int, table: str | None, *more: str | None) -> int:
        trigger = more[-1]
        foreign = trigger is not None and trigger not in FEATURE_TRIGGERS.values()
        if foreign and action in WRITING and str(table).lower() in MEMORY_TABLES:
            meddling.add((str(trigger), str(table)))
        return sqlite3.SQLITE_OK

    db.set_authorizer(note)
    try:
        for table in MEMORY_TABLES:
            for statement in _probes(db, table):
                db.execute(f"EXPLAIN {statement}").close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
            raise
        raise SchemaError(
            f"{table} cannot be written by this SQLite: {error}",
            "a trigger or an index of another program needs what is missing: use an SQLite that"
            " has it, or change the trigger or index there; nothing was changed",
        ) from None
    finally:
        db.set_authorizer(None)
    for trigger, table in sorted(meddling):
        raise SchemaError(
            f"the trigger {trigger} of another program would write to {table} whenever memctl does",
            "change the trigger in the program that made it; nothing was changed",
        )


def _probes(db: Connection, table: str) -> list[str]:
    """Return statements that fire, if executed, every trigger that memctl can fire on a table."""
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
    """Make sure that the statements of one step changed equally many rows, named by what they do.

    Raises SchemaError when they did not and another program has triggers there.
    """
    if len(set(counts.values())) == 1:
        return
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    triggers = foreign_triggers(db)
    if not triggers:
        raise AssertionError(said)
    raise SchemaError(
        f"a trigger of another program changes what memctl does ({', '.join(triggers)}): {said}",
        "the interrupted step was rolled back: change the trigger in the program that made it",
    )
