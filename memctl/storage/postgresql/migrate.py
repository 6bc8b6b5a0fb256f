"""Bringing the schema of a database on a server up to date.

Each step and its record are one transaction. Of several processes at once, one applies a step: the
others wait for its record. A table that another program has made is never taken over.
"""

from datetime import datetime
from typing import Any

import psycopg

from memctl import __version__
from memctl.errors import SchemaError
from memctl.storage.migrations import Migration, step_name
from memctl.storage.postgresql import migrations
from memctl.storage.postgresql.database import Database
from memctl.storage.schema_changes import MigratePreview, MigrateResult
from memctl.storage.times import to_text

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

TAKEN_NAMES = (
    "SELECT name FROM unnest(%(names)s::text[]) AS name WHERE to_regclass(name) IS NOT NULL"
)

TRIGGERS = """
    SELECT tgname::text FROM pg_trigger
    WHERE tgrelid = to_regclass('agent_memory') AND NOT tgisinternal
    ORDER BY tgname
"""

ALREADY_THERE = (
    psycopg.errors.DuplicateObject,  # a type
    psycopg.errors.DuplicateTable,  # or an index, or a view
    psycopg.errors.UniqueViolation,  # of the record, or by a table that is created at the same time
)


def migrate(db: Database, *, now: datetime, to: int | None = None) -> MigrateResult:
    """Apply the pending steps, up to and including version `to`.

    Raises SchemaError if a name that memctl needs is taken; then nothing was changed.
    """
    steps = [step for step in find_pending(db, to=to) if _apply(db, step, now=now)]
    return MigrateResult(**_facts(db, steps))


def preview_migration(db: Database, *, to: int | None = None) -> MigratePreview:
    """Return what `migrate` would do; reads only. Raises SchemaError as it does."""
    steps = find_pending(db, to=to)
    adds = [added for step in steps for added in migrations.objects_of(step)]
    return MigratePreview(**_facts(db, steps), adds=adds)


def _facts(db: Database, steps: list[Migration]) -> dict[str, Any]:
    """Return what is known of a migration before and after it."""
    present = migrations.schema_step(db)
    return {
        "database": str(db.address),
        "schema_step": max([present, *(step.version for step in steps)]),
        "applied": [*map(step_name, steps)],
        "created": False,  # the database exists before
        "baseline": False,
        "backup": None,
        "triggers": [name for (name,) in db.rows(TRIGGERS)],
    }


def find_pending(db: Database, *, to: int | None) -> list[Migration]:
    """Return the pending steps, up to and including version `to`, after checking the database."""
    pending = migrations.pending(db)
    steps = [step for step in pending if to is None or step.version <= to]
    if not steps:
        return []
    migrations.require_utf8(db)
    names = [added.split()[1] for step in steps for added in migrations.objects_of(step)]
    taken = db.value(TAKEN_NAMES, {"names": names})
    if taken is None:
        return steps
    if migrations.pending(db) != pending:  # another process has applied a step meanwhile
        return find_pending(db, to=to)
    raise _name_is_taken(taken)


def _apply(db: Database, step: Migration, *, now: datetime) -> bool:
    """Apply and record a step; returns whether this process has done so."""
    record = {
        "version": step.version,
        "name": step.name,
        "sha256": step.checksum,
        "now": to_text(now),
        "memctl_version": __version__,
    }

    def work() -> None:
        db.execute(CREATE_RECORDS)
        db.execute(ADD_RECORD, record)
        db.execute(step.up)

    try:
        db.transaction(work)
    except ALREADY_THERE as error:
        if step in migrations.pending(db):
            raise _name_is_taken(error.diag.message_primary or "") from None
        return False
    return True


def _name_is_taken(name: str) -> SchemaError:
    return SchemaError(
        f"the database already has another object named {name}",
        "rename it, or use another database or schema; nothing was changed",
    )
