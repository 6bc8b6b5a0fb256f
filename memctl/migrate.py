"""Bring a database to the current schema, whoever made it, without its users noticing.

Each step, its data and its record are one transaction. A table that a service already created is
compared with step 001 and recorded as the baseline instead of being executed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from sqlite_utils import Database

from memctl import __version__, migrations
from memctl.backup import back_up_before
from memctl.database import table_exists, transaction
from memctl.errors import SchemaError, UsageError
from memctl.migrations import SERVICE_COLUMNS, Migration
from memctl.timestamps import to_text

# The runner's own record; it goes when the last step is rolled back.
CREATE_RECORD = """
    CREATE TABLE memctl_migrations (
        version        INTEGER PRIMARY KEY,
        name           TEXT NOT NULL,
        sha256         TEXT NOT NULL,
        applied_at     TEXT NOT NULL,
        baseline       INTEGER NOT NULL,  -- 1: the table was there before memctl
        memctl_version TEXT NOT NULL
    )
"""


@dataclass(frozen=True)
class MigrateResult:
    """The steps that were applied, and the copy that was made before."""

    applied: list[str]
    baseline: bool
    backup: str | None


def schema_database(db: Connection) -> Database:
    """Return sqlite-utils' view of our connection, without its plug-ins and side effects."""
    return Database(db, recursive_triggers=False, execute_plugins=False)


def migrate(
    db: Connection, path: Path, *, now: datetime, to: int | None = None, backup: bool = True
) -> MigrateResult:
    """Apply the pending steps, up to and including version `to`.

    The caller holds memctl's lock. Raises SchemaError when agent_memory is not the table that
    step 001 describes, and UsageError when there is no version `to`.
    """
    known = [step.version for step in migrations.available()]
    if to is not None and to not in known:
        raise UsageError(f"there is no step {to}", f"memctl knows {known[0]} to {known[-1]}")
    steps = [step for step in migrations.pending(db) if to is None or step.version <= to]
    if not steps:
        return MigrateResult(applied=[], baseline=False, backup=None)
    fresh = is_empty(db)
    baseline = table_exists(db, "agent_memory") and steps[0].version == 1
    if baseline:
        verify_baseline(db, steps[0])
    copy = back_up_before("migrate", db, path, now=now) if backup and not fresh else None
    if fresh:
        db.execute("PRAGMA journal_mode = WAL")
    for step in steps:
        apply(db, step, baseline=baseline and step.version == 1, now=now)
    return MigrateResult(
        applied=[f"{step.version:03}_{step.name}" for step in steps],
        baseline=baseline,
        backup=str(copy) if copy else None,
    )


def is_empty(db: Connection) -> bool:
    """Tell whether the file holds nothing at all yet."""
    return db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None


def apply(db: Connection, step: Migration, *, baseline: bool, now: datetime) -> None:
    """Apply one step and record it, or only record it as the baseline, in one transaction."""
    schema = schema_database(db)
    with transaction(db):
        if not table_exists(db, "memctl_migrations"):
            db.execute(CREATE_RECORD)
        if baseline:
            verify_baseline(db, step)
        else:
            schema.executescript(step.up)
        schema.table("memctl_migrations").insert(
            {
                "version": step.version,
                "name": step.name,
                "sha256": step.checksum,
                "applied_at": to_text(now),
                "baseline": int(baseline),
                "memctl_version": __version__,
            }
        )


def verify_baseline(db: Connection, step: Migration) -> None:
    """Compare the table that is there with the one that step 001 would create.

    Raises SchemaError naming the first difference.
    """
    migrations.require_columns(db, SERVICE_COLUMNS)
    model = Database(memory=True, recursive_triggers=False, execute_plugins=False)
    model.executescript(step.up)
    wanted, found = _shape(model), _shape(schema_database(db))
    for part, shape in wanted.items():
        if shape != found[part]:
            raise SchemaError(
                f"agent_memory is not the table memctl was made for: its {part} differ",
                f"expected {shape}, found {found[part]}; nothing was changed",
            )


def _shape(schema: Database) -> dict[str, Any]:
    table = schema.table("agent_memory")
    return {
        "columns": sorted(_columns(table.columns)),
        "unique keys": sorted(index.columns for index in table.indexes if index.unique),
        "foreign keys": sorted(str(key) for key in table.foreign_keys),
    }


def _columns(columns: Iterable[Any]) -> Iterable[str]:
    for column in columns:
        words = [column.name, column.type.upper()]
        if column.notnull:
            words.append("NOT NULL")
        if column.is_pk:
            words.append("PRIMARY KEY")
        if column.default_value is not None:
            words.append(f"DEFAULT {column.default_value}")
        yield " ".join(words)
