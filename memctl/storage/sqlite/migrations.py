"""The steps of the schema, numbered SQL files, and those that a database has.

`NNN_name.sql` applies a step and `NNN_name_down.sql` rolls it back. Applied steps are recorded in
`memctl_migrations` with the SHA-256 of the file, so that a later change of the file is detected.
"""

import re
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from memctl.errors import SchemaError, UsageError
from memctl.storage.checksum import sha256
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


class Migration(NamedTuple):
    """One step of the schema, as defined by its files."""

    version: int
    name: str
    path: Path

    @property
    def up(self) -> str:
        """The SQL that applies the step."""
        return self.path.read_text(encoding="utf-8")

    @property
    def down(self) -> str:
        """The SQL that rolls the step back."""
        return self.path.with_name(f"{self.path.stem}_down.sql").read_text(encoding="utf-8")

    @property
    def checksum(self) -> str:
        """The SHA-256 of the up file."""
        return sha256(self.up.encode())


class Applied(NamedTuple):
    """One step of the schema, as recorded in a database."""

    version: int
    name: str
    checksum: str
    applied_at: str
    baseline: int  # 1: the step was found, not executed


def step_name(step: Migration | Applied) -> str:
    """Return the name of a step with its number, such as `001_agent_memory`."""
    return f"{step.version:03}_{step.name}"


def folder() -> Path:
    """Return the folder of the SQL files: in the installed package, or at the top of a checkout."""
    package = Path(__file__).parents[2]
    installed = package / "sql"
    return installed if installed.is_dir() else package.parent / "migrations"


def available() -> list[Migration]:
    """Return the steps of this version of memctl, in order."""
    found = []
    for path in folder().glob("*.sql"):
        match = re.fullmatch(r"([0-9]{3})_(.+)", path.stem)
        if match and not path.stem.endswith("_down"):
            found.append(Migration(int(match[1]), match[2], path))
    return sorted(found, key=lambda step: step.version)


def require_step(version: int) -> None:
    """Raise UsageError unless there is a step of that number."""
    known = [step.version for step in available()]
    if version not in known:
        raise UsageError(f"there is no step {version}", f"the steps are {known[0]} to {known[-1]}")


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
    """Return the pending steps, in order.

    Raises SchemaError if the database has a step that this program lacks, or whose file differs.
    """
    known = {step.version: step for step in available()}
    present = applied(db)
    for record in present:
        step = known.get(record.version)
        if step is None:
            raise SchemaError(
                f"the schema has step {record.version:03} ({record.name}), which this memctl does"
                " not have",
                "the database is newer than this program: upgrade memctl",
            )
        if step.checksum != record.checksum:
            raise SchemaError(
                f"step {record.version:03} ({record.name}) was changed after it was applied",
                f"reinstall memctl: {step.path.name} differs from the file that was applied to"
                " this database",
            )
    have = {record.version for record in present}
    return [step for step in known.values() if step.version not in have]


def require_current(db: Connection) -> None:
    """Ensure that the schema is current.

    Raises SchemaError if steps are pending, unknown or changed, if agent_memory has an unknown
    column, whose values archiving would lose, or if a trigger of another program would change the
    memories.
    """
    require_utf8(db)
    missing = pending(db)
    if missing:
        names = ", ".join(map(step_name, missing))
        raise SchemaError(f"the schema is out of date: {names} pending", "run `memctl migrate`")
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
    for column in sorted(present.symmetric_difference(expected)):
        what = "lacks" if column in expected else "has unknown column"
        raise SchemaError(
            f"agent_memory {what} {column}",
            "memctl does not support this table; nothing was changed",
        )
