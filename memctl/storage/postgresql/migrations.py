"""The steps of the schema that a database on a server has, and how they are applied and undone."""

import re

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
from memctl.storage.postgresql.copied_tables import ACTIVE
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.times import our_text

COLUMNS = """
    SELECT attname::text FROM pg_attribute
    WHERE attrelid = to_regclass('agent_memory') AND attnum > 0 AND NOT attisdropped
"""


def available() -> list[Migration]:
    """Return the steps of this version of memctl, in order."""
    return steps_in(folder() / "postgresql")


def table_exists(db: Database, name: str) -> bool:
    """Return whether the database has a table of that name, where unqualified names are found."""
    return bool(db.value("SELECT to_regclass(%(name)s) IS NOT NULL", {"name": name}))


def applied(db: Database) -> list[Applied]:
    """Return the steps that a database has, in order; none if it was never migrated."""
    if not table_exists(db, "memctl_migrations"):
        return []
    rows = db.rows(
        f"SELECT version, name, sha256, {our_text('applied_at')} FROM memctl_migrations"
        " ORDER BY version"
    )
    return [Applied(version, name, checksum, at, 0) for version, name, checksum, at in rows]


def pending(db: Database) -> list[Migration]:
    """Return the pending steps, in order; raises SchemaError as `pending_steps`."""
    return pending_steps(available(), applied(db))


def require_current(db: Database) -> None:
    """Raise SchemaError unless the schema is current, and agent_memory has its columns."""
    require_none_pending(pending(db))
    require_columns(db)


def require_columns(db: Database) -> None:
    """Raise SchemaError if agent_memory lacks a column, or has one whose values would be lost.

    A transaction that has archived memories calls it, because a column may have been added before;
    until the transaction ends, none can be.
    """
    require_same_columns({name for (name,) in db.rows(COLUMNS)}, ACTIVE.columns)


def require_utf8(db: Database) -> None:
    """Raise SchemaError unless the database stores text as UTF-8."""
    encoding = db.value("SHOW server_encoding")
    if encoding != "UTF8":
        raise SchemaError(
            f"the database stores text as {encoding}, but memctl requires UTF8",
            "create it with `createdb --encoding=UTF8 --template=template0`",
        )


def schema_step(db: Database) -> int:
    """Return the number of the newest step that a database has; 0 if it was never migrated."""
    return max((record.version for record in applied(db)), default=0)


def objects_of(step: Migration) -> list[str]:
    """Return what a step adds to the schema, such as `table memory_runs`, in its order."""
    created = re.findall(r"^CREATE (TABLE|INDEX) (\w+)", step.up, re.MULTILINE)
    return [f"{kind.lower()} {name}" for kind, name in created]
