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

from memctl.errors import SchemaError
from memctl.storage.migrations import Migration, step_name
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.schema_changes import MigratePreview, MigrateResult
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.backup import back_up_before, place_before, remove_backup
from memctl.storage.sqlite.database import is_empty, table_exists, transaction
from memctl.storage.sqlite.features import statements_to_archive_deleted
from memctl.storage.sqlite.identity import new_identity
from memctl.storage.sqlite.migrations import SERVICE_COLUMNS
from memctl.storage.sqlite.rehearsal import rehearse
from memctl.storage.sqlite.steps import HOW_TO_RUN, script_text, script_to_apply
from memctl.storage.sqlite.tombstones import OBJECTS as TOMBSTONE_OBJECTS
from memctl.storage.sqlite.triggers import foreign_triggers, require_harmless_triggers

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
class Pending:
    """The steps that a migration applies, after all checks that precede it."""

    steps: list[Migration]
    present: int  # the step of the database
    fresh: bool  # the database is empty
    baseline: bool  # the first step is only recorded

    @property
    def names(self) -> list[str]:
        """The names of the steps."""
        return [*map(step_name, self.steps)]

    @property
    def last(self) -> int:
        """The step of the database after the migration."""
        return self.steps[-1].version if self.steps else self.present


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
    progress: Progress = NO_PROGRESS,
) -> MigrateResult:
    """Apply the pending steps, up to and including version `to`.

    The caller holds memctl's lock. Raises SchemaError, before anything is changed, if agent_memory
    differs from the table of step 001, or a name that memctl needs is taken.
    """
    pending = find_pending(db, to=to)
    if not pending.steps:
        return MigrateResult(
            database=str(path),
            schema_step=pending.last,
            applied=[],
            created=False,
            baseline=False,
            backup=None,
            triggers=foreign_triggers(db),
        )
    copy = None
    if backup and not pending.fresh:
        copy = back_up_before("migrate", db, path, now=now, progress=progress)
    progress.phase("changing the schema")
    try:
        for statement in _first_statements(pending):
            db.execute(statement)
        executed = [apply(db, step, path, now=now) for step in pending.steps]
    except BaseException:
        if copy and migrations.pending(db)[: len(pending.steps)] == pending.steps:
            remove_backup(copy)  # nothing was changed, so that it is not needed
        raise
    return MigrateResult(
        database=str(path),
        schema_step=pending.last,
        applied=pending.names,
        created=pending.fresh,
        baseline=not executed[0],
        backup=str(copy) if copy else None,
        triggers=foreign_triggers(db),
    )


def preview_migration(
    db: Connection, path: Path, *, now: datetime, to: int | None = None, backup: bool = True
) -> MigratePreview:
    """Return what `migrate` would do; read-only. Raises SchemaError as it does."""
    pending = find_pending(db, to=to)
    scripts = [
        script_to_apply(
            step,
            baseline=pending.baseline and step is pending.steps[0],
            has_record=step is not pending.steps[0] or table_exists(db, "memctl_migrations"),
            identity=new_identity(path),
            triggers=statements_to_archive_deleted(db),
            now=now,
        )
        for step in pending.steps
    ]
    change = rehearse(db, (line for script in scripts for line in script.statements))
    copy = None
    if backup and pending.steps and not pending.fresh:
        copy = place_before("migrate", path, now=now)
    notes = [f"migrate {path.resolve()}: {', '.join(pending.names) or 'no step is pending'}"]
    if copy:
        notes.append("memctl makes a backup before this; these statements do not.")
    return MigratePreview(
        database=str(path),
        schema_step=pending.last,
        applied=pending.names,
        created=bool(pending.steps) and pending.fresh,
        baseline=pending.baseline,
        backup=str(copy) if copy else None,
        triggers=foreign_triggers(db),
        adds=change.added if change else None,
        sql=script_text([*notes, HOW_TO_RUN], _first_statements(pending), scripts),
    )


def find_pending(db: Connection, *, to: int | None) -> Pending:
    """Return the pending steps, up to and including version `to`, after checking the database.

    Raises SchemaError if they cannot be applied.
    """
    steps = [step for step in migrations.pending(db) if to is None or step.version <= to]
    present = migrations.schema_step(db)
    if not steps:
        return Pending([], present, fresh=False, baseline=False)
    migrations.require_utf8(db)
    found = steps[0].version == 1 and table_exists(db, "agent_memory")
    if found:
        verify_baseline(db, steps[0])
        refuse_references(db)
    refuse_taken_names(db, steps[1:] if found else steps)
    require_harmless_triggers(db)
    return Pending(steps, present, fresh=is_empty(db), baseline=found)


def _first_statements(pending: Pending) -> list[str]:
    """Return what is executed before the first transaction."""
    return ["PRAGMA journal_mode = WAL"] if pending.fresh else []


def apply(db: Connection, step: Migration, path: Path, *, now: datetime) -> bool:
    """Apply and record one step, or only record it as the baseline, in one transaction.

    Return whether it was executed.
    """
    with transaction(db):
        # Checked in the transaction, because the service may create its table at the same time.
        baseline = step.version == 1 and table_exists(db, "agent_memory")
        if baseline:
            verify_baseline(db, step)
        script = script_to_apply(
            step,
            baseline=baseline,
            has_record=table_exists(db, "memctl_migrations"),
            identity=new_identity(path),
            triggers=statements_to_archive_deleted(db),
            now=now,
        )
        for statement in script.statements:
            db.execute(statement)
    return not baseline


def refuse_taken_names(db: Connection, steps: list[Migration]) -> None:
    """Raise SchemaError if an object in the database has a name that these steps use.

    The table of tombstones is accepted as a rollback has left it.
    """
    if not steps:
        return
    first, last = steps[0].version, steps[-1].version
    known = migrations.available()
    with _model(step for step in known if step.version < first) as model:
        before = _names(model)
    with _model(step for step in known if step.version <= last) as model:
        wanted = _names(model)
        left = _tombstones(model) & _tombstones(schema_database(db))
    taken = (wanted - before) & _names(schema_database(db))
    for name in sorted(taken - {name for name, _ in left}):
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


def _tombstones(schema: Database) -> set[tuple[str, str]]:
    """Return the names and the SQL of the table of tombstones and its index."""
    names = ", ".join(f"'{name}'" for name in TOMBSTONE_OBJECTS)
    return set(schema.execute(f"SELECT name, sql FROM sqlite_schema WHERE name IN ({names})"))


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
