"""The steps of the schema that a database on a server has, and how they are applied and undone."""

from contextlib import suppress

import psycopg

from memctl import __version__
from memctl.errors import RefusedError, SchemaError
from memctl.storage.migrations import (
    Applied,
    Migration,
    folder,
    pending_steps,
    require_none_pending,
    steps_in,
)
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.times import our_text

# `baseline` is always false: a table that another program has made is not taken over.
CREATE_RECORDS = """
    CREATE TABLE IF NOT EXISTS memctl_migrations (
        version        bigint PRIMARY KEY,
        name           text COLLATE "C" NOT NULL,
        sha256         text COLLATE "C" NOT NULL,
        applied_at     timestamptz NOT NULL,
        memctl_version text COLLATE "C" NOT NULL
    )
"""

ADD_RECORD = """
    INSERT INTO memctl_migrations (version, name, sha256, applied_at, memctl_version)
    VALUES (%(version)s, %(name)s, %(sha256)s, %(now)s, %(memctl_version)s)
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
    """Raise SchemaError unless the schema is current."""
    require_none_pending(pending(db))


def require_utf8(db: Database) -> None:
    """Raise SchemaError unless the database stores text as UTF-8."""
    encoding = db.value("SHOW server_encoding")
    if encoding != "UTF8":
        raise SchemaError(
            f"the database stores text as {encoding}, but memctl requires UTF8",
            "create it with `createdb --encoding=UTF8 --template=template0`",
        )


def apply_step(db: Database, step: Migration, *, now: str) -> None:
    """Apply a step and record it, in one transaction. Another process may have done so meanwhile.

    Raises RefusedError if another program has made a table of one of these names.
    """

    def work() -> None:
        db.execute(
            ADD_RECORD,
            {
                "version": step.version,
                "name": step.name,
                "sha256": step.checksum,
                "now": now,
                "memctl_version": __version__,
            },
        )
        db.execute(step.up)

    try:
        db.transaction(work)
    except psycopg.errors.UniqueViolation:
        return  # the other process waited for the end of this transaction, or this one for its end
    except psycopg.errors.DuplicateTable as error:
        raise RefusedError(
            f"another program has made a table that memctl needs ({error.diag.message_primary})",
            "use another database or schema; nothing was changed",
        ) from None


def create_records(db: Database) -> None:
    """Create the table of applied steps, unless it exists."""
    # Another process may just have created it.
    with suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
        db.execute(CREATE_RECORDS)
