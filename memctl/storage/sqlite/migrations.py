"""The steps of the schema that a database has, and what else memctl requires of its schema."""

from sqlite3 import Connection

from memctl.errors import SchemaError
from memctl.storage.migrations import (
    Applied,
    Migration,
    folder,
    pending_steps,
    require_none_pending,
    require_same_columns,
    steps_in,
)
from memctl.storage.sqlite.database import table_exists
from memctl.storage.sqlite.triggers import require_harmless_triggers

# The columns of a memory. The service's own columns come first, in its order.
SERVICE_COLUMNS = (
    "id",
    "agent_id",
    "type",
    "key",
    "value",
    "metadata",
    "importance",
    "access_count",
    "last_accessed",
    "created_at",
    "expires_at",
)
MEMORY_COLUMNS = (
    *SERVICE_COLUMNS,
    "archived_at",
    "importance_decay_rate",
    "last_decay_at",
    "promoted_at",
)


def available() -> list[Migration]:
    """Return the steps of this version of memctl, in order."""
    return steps_in(folder())


def applied(db: Connection) -> list[Applied]:
    """Return the steps that a database has, in order; none if it was never migrated."""
    if not table_exists(db, "memctl_migrations"):
        return []
    rows = db.execute(
        "SELECT version, name, sha256, applied_at, baseline FROM memctl_migrations ORDER BY version"
    )
    return [Applied(*row) for row in rows]


def schema_step(db: Connection) -> int:
    """Return the newest step that a database has; 0 if it was never migrated."""
    present = applied(db)
    return present[-1].version if present else 0


def pending(db: Connection) -> list[Migration]:
    """Return the pending steps, in order; raises SchemaError as `pending_steps`."""
    return pending_steps(available(), applied(db))


def require_current(db: Connection) -> None:
    """Ensure that the schema is current.

    Raises SchemaError if steps are pending, unknown or changed, if agent_memory has an unknown
    column, whose values archiving would lose, or if a trigger of another program would change the
    memories.
    """
    require_utf8(db)
    require_none_pending(pending(db))
    require_columns(db, MEMORY_COLUMNS)
    require_harmless_triggers(db)


def require_utf8(db: Connection) -> None:
    """Ensure that the database stores text as UTF-8, which memctl reads and writes as bytes.

    Raises SchemaError for UTF-16.
    """
    (encoding,) = db.execute("PRAGMA encoding").fetchone()
    if encoding != "UTF-8":
        raise SchemaError(
            f"the database stores text as {encoding}, but memctl requires UTF-8",
            "copy it to a UTF-8 database, for example with `sqlite3 OLD .dump`; nothing was"
            " changed",
        )


def schema_version(db: Connection) -> int:
    """Return SQLite's counter of schema changes.

    Archiving compares it in each transaction, because it would not copy a column added meanwhile.
    """
    (version,) = db.execute("PRAGMA schema_version").fetchone()
    return int(version)


def require_columns(db: Connection, expected: tuple[str, ...]) -> None:
    """Ensure that agent_memory has exactly these columns.

    Raises SchemaError that names a missing or unknown column.
    """
    present = {str(row[1]) for row in db.execute("PRAGMA table_xinfo(agent_memory)")}
    require_same_columns(present, expected)
