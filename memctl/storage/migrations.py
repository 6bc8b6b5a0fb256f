"""The steps of a schema, numbered SQL files, and the records of those that a database has.

`NNN_name.sql` applies a step and `NNN_name_down.sql` rolls it back. Applied steps are recorded in
`memctl_migrations` with the SHA-256 of the file, so that a later change of the file is detected.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from memctl.errors import SchemaError, UsageError
from memctl.storage.checksum import sha256


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
    package = Path(__file__).parents[1]
    installed = package / "sql"
    return installed if installed.is_dir() else package.parent / "migrations"


def steps_in(place: Path) -> list[Migration]:
    """Return the steps in a folder, in order."""
    found = []
    for path in place.glob("*.sql"):
        match = re.fullmatch(r"([0-9]{3})_(.+)", path.stem)
        if match and not path.stem.endswith("_down"):
            found.append(Migration(int(match[1]), match[2], path))
    return sorted(found, key=lambda step: step.version)


def require_step(version: int, steps: Sequence[Migration]) -> None:
    """Raise UsageError unless there is a step of that number."""
    known = [step.version for step in steps]
    if version not in known:
        raise UsageError(f"there is no step {version}", f"the steps are {known[0]} to {known[-1]}")


def pending_steps(steps: Sequence[Migration], present: Iterable[Applied]) -> list[Migration]:
    """Return the steps that a database lacks, in order.

    Raises SchemaError if it has a step that this program lacks, or whose file differs.
    """
    known = {step.version: step for step in steps}
    have = set()
    for record in present:
        have.add(record.version)
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
    return [step for step in steps if step.version not in have]


def require_same_columns(present: Collection[str], expected: Collection[str]) -> None:
    """Raise SchemaError that names a missing or unknown column of agent_memory."""
    for column in sorted({*present}.symmetric_difference(expected)):
        what = "lacks" if column in expected else "has unknown column"
        raise SchemaError(
            f"agent_memory {what} {column}",
            "memctl does not support this table; nothing was changed",
        )


def require_none_pending(missing: Sequence[Migration]) -> None:
    """Raise SchemaError if steps are pending."""
    if missing:
        names = ", ".join(map(step_name, missing))
        raise SchemaError(f"the schema is out of date: {names} pending", "run `memctl migrate`")
