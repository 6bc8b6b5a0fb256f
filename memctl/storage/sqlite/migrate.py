"""Applying the steps of the schema to a new database or to the database of a service.

Each step, its data and its record are one transaction. If the service has created agent_memory, the
table is compared with step 001, which is recorded as the baseline instead of being executed.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from sqlite_utils import Database

from memctl import __version__
from memctl.errors import SchemaError
from memctl.storage.progress import NOBODY, Progress
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.backup import back_up_before, remove_backup
from memctl.storage.sqlite.database import is_empty, table_exists, transaction
from memctl.storage.sqlite.identity import STEP_WITH_STATE, new_identity, store_identity
from memctl.storage.sqlite.migrations import SERVICE_COLUMNS, Migration
from memctl.storage.sqlite.triggers import foreign_triggers, require_harmless_triggers
from memctl.storage.times import to_text

# The record of the steps; it is dropped when the last step is rolled back.
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


# The constraints by SQLite's extended result codes, and its names for conflict resolutions. Not
# every replacement of the sqlite3 module has names for the codes.
# https://www.sqlite.org/rescode.html
CONSTRAINTS = {275: "CHECK", 1299: "NOT NULL", 1555: "PRIMARY KEY", 2067: "UNIQUE"}
ON_CONFLICT = {1: "ROLLBACK", 2: "ABORT", 3: "FAIL"}

REFERENCES = """
    SELECT tables.name
    FROM sqlite_schema AS tables, pragma_foreign_key_list(tables.name) AS keys
    WHERE tables.type = 'table' AND lower(keys."table") = 'agent_memory'
    ORDER BY tables.name
"""


@dataclass(frozen=True)
class MigrateResult:
    """The steps that were applied, the backup, and the triggers of other programs."""

    applied: list[str]
    created: bool  # the file was empty or did not exist
    baseline: bool
    backup: str | None
    triggers: list[str]


def schema_database(db: Connection) -> Database:
    """Return a sqlite-utils database for our connection, without plug-ins and side effects."""
    return Database(db, recursive_triggers=False, execute_plugins=False)


def migrate(
    db: Connection,
    path: Path,
    *,
    now: datetime,
    to: int | None = None,
    backup: bool = True,
    progress: Progress = NOBODY,
) -> MigrateResult:
    """Apply the pending steps, up to and including version `to`.

    The caller holds memctl's lock. Raises SchemaError, before anything is changed, if agent_memory
    differs from the table of step 001, or a name that memctl needs is taken.
    """
    steps = [step for step in migrations.pending(db) if to is None or step.version <= to]
    if not steps:
        return MigrateResult(
            applied=[],
            created=False,
            baseline=False,
            backup=None,
            triggers=foreign_triggers(db),
        )
    migrations.require_utf8(db)
    fresh = is_empty(db)
    found = steps[0].version == 1 and table_exists(db, "agent_memory")
    if found:
        verify_baseline(db, steps[0])
        refuse_references(db)
    refuse_taken_names(db, steps[1:] if found else steps)
    require_harmless_triggers(db)
    copy = None
    if backup and not fresh:
        copy = back_up_before("migrate", db, path, now=now, progress=progress)
    progress.phase("changing the schema")
    if fresh:
        db.execute("PRAGMA journal_mode = WAL")
    try:
        executed = [apply(db, step, path, now=now) for step in steps]
    except BaseException:
        if copy and migrations.pending(db) == steps:
            remove_backup(copy)  # nothing was changed, so that it is not needed
        raise
    return MigrateResult(
        applied=[f"{step.version:03}_{step.name}" for step in steps],
        created=fresh,
        baseline=not executed[0],
        backup=str(copy) if copy else None,
        triggers=foreign_triggers(db),
    )


def apply(db: Connection, step: Migration, path: Path, *, now: datetime) -> bool:
    """Apply and record one step, or only record it as the baseline, in one transaction.

    Return whether it was executed.
    """
    schema = schema_database(db)
    with transaction(db):
        # Checked in the transaction, because the service may create its table at the same time.
        baseline = step.version == 1 and table_exists(db, "agent_memory")
        if not table_exists(db, "memctl_migrations"):
            db.execute(CREATE_RECORD)
        if baseline:
            verify_baseline(db, step)
        else:
            schema.executescript(step.up)
        if step.version == STEP_WITH_STATE:
            store_identity(db, new_identity(path))
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
    return not baseline


def refuse_taken_names(db: Connection, steps: list[Migration]) -> None:
    """Raise SchemaError if an object in the database has a name that these steps use."""
    if not steps:
        return
    first, last = steps[0].version, steps[-1].version
    known = migrations.available()
    with _model(step for step in known if step.version < first) as model:
        before = _names(model)
    with _model(step for step in known if step.version <= last) as model:
        wanted = _names(model)
    for name in sorted((wanted - before) & _names(schema_database(db))):
        raise SchemaError(
            f"the database already has another object named {name}",
            "rename it, or use another database; nothing was changed",
        )


def verify_baseline(db: Connection, step: Migration) -> None:
    """Compare the existing table with the one that step 001 creates.

    Raises SchemaError that names a difference.
    """
    migrations.require_columns(db, SERVICE_COLUMNS)
    present = schema_database(db)
    try:
        with _model([step]) as model, _copy_of_table(present) as copy:
            _refuse_differences(_shape(model), _shape(present))
            _refuse_differences(_constraints(model), _constraints(copy))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
            raise
        raise SchemaError(
            f"agent_memory uses a feature that this SQLite lacks: {error}",
            "use an SQLite version that has it; nothing was changed",
        ) from None


def _refuse_differences(wanted: set[str], found: set[str]) -> None:
    if wanted != found:
        missing, unknown = (", ".join(sorted(some)) for some in (wanted - found, found - wanted))
        raise SchemaError(
            "agent_memory does not have the expected definition: expected"
            f" {missing or 'nothing more'}, found {unknown or 'nothing'}",
            "nothing was changed",
        )


def refuse_references(db: Connection) -> None:
    """Raise SchemaError if another table has a foreign key to the memories."""
    found = db.execute(REFERENCES).fetchone()
    if found:
        raise SchemaError(
            f"the table {found[0]} has a foreign key to agent_memory",
            "memctl could not archive the memories that it references; nothing was changed",
        )


@contextmanager
def _model(steps: Iterable[Migration]) -> Iterator[Database]:
    """Open an in-memory database to which only these steps are applied."""
    with closing(Database(memory=True, recursive_triggers=False, execute_plugins=False)) as model:
        for step in steps:
            model.executescript(step.up)
        yield model


def _names(schema: Database) -> set[str]:
    """Return the names of all tables, views and indexes, in lower case as SQLite compares them."""
    rows = schema.execute("SELECT lower(name) FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
    return {row[0] for row in rows}


def _shape(schema: Database) -> set[str]:
    """Describe the parts of agent_memory that memctl relies on, as comparable texts."""
    (kind,) = schema.execute(
        "SELECT type || iif(wr, ' without rowid', '') || iif(strict, ' strict', '')"
        " FROM pragma_table_list('agent_memory')"
    ).fetchone()
    if kind == "view":
        return {"a view"}
    table = schema.table("agent_memory")
    return {
        f"a {kind}",
        *map(_column, table.columns),
        *(
            f"UNIQUE ({', '.join(column or 'an expression' for column in index.columns)})"
            for index in table.indexes
            if index.unique and not index.partial
        ),
        *(f"FOREIGN KEY {key.column}" for key in table.foreign_keys),
    }


@contextmanager
def _copy_of_table(schema: Database) -> Iterator[Database]:
    """Open an in-memory database with an empty copy of agent_memory and its indexes."""
    statements = schema.execute(
        "SELECT sql FROM sqlite_schema WHERE lower(tbl_name) = 'agent_memory'"
        " AND type IN ('table', 'index') AND sql IS NOT NULL ORDER BY type DESC"
    )
    with _model([]) as copy:
        for (statement,) in statements:
            copy.execute(statement)
        yield copy


def _constraints(schema: Database) -> set[str]:
    """Describe the constraints on a new row, and the collation of each column.

    They are read from the bytecode of an INSERT, and from an index on each column.
    """
    columns = ", ".join(SERVICE_COLUMNS)
    unknown = ", ".join("?" for _ in SERVICE_COLUMNS)
    program = schema.execute(
        f"EXPLAIN INSERT INTO agent_memory ({columns}) VALUES ({unknown})",
        [None] * len(SERVICE_COLUMNS),
    )
    found = set()
    for _, operation, code, on_conflict, _, what, *_ in program.fetchall():
        if operation in ("Halt", "HaltIfNull") and code in CONSTRAINTS:
            how = ON_CONFLICT.get(on_conflict, on_conflict)
            found.add(f"{CONSTRAINTS[code]} ({what}) ON CONFLICT {how}")
    for column in SERVICE_COLUMNS:
        schema.execute(f"CREATE INDEX probe ON agent_memory ({column})")
        for name, collation in schema.execute(
            "SELECT name, coll FROM pragma_index_xinfo('probe') WHERE key"
        ):
            found.add(f"{name} COLLATE {collation}")
        schema.execute("DROP INDEX probe")
    return found


def _column(column: Any) -> str:
    words = [column.name, column.type.upper()]
    if column.notnull:
        words.append("NOT NULL")
    if column.is_pk:
        words.append("PRIMARY KEY")
    if column.default_value is not None:
        words.append(f"DEFAULT {column.default_value}")
    return " ".join(words)
