"""Files that appear whole or not at all, and whose names survive a power cut."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from memctl.database import give_to_owner, reachable
from memctl.errors import MemctlError, UsageError

# What SQLite and memctl keep beside a database, and the database itself.
IN_USE = ("", "-wal", "-shm", "-journal", ".memctl.lock")


@contextmanager
def whole_file(target: Path, *, owner_of: Path, mode: int = 0o600) -> Iterator[Path]:
    """Give the block a draft to write that takes the target's name when it ends well.

    The file belongs to whom `owner_of` belongs, when root makes it. Raises OSError when it cannot
    be written; then, and after any other error, the target is as it was.
    """
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        draft = Path(file.name)
    try:
        yield draft
        with draft.open("rb") as file:
            give_to_owner(file.fileno(), owner_of)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        draft.rename(target)
        sync_directory(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_file(path: Path, parts: Iterable[str], *, database: Path, mode: int = 0o600) -> None:
    """Write a text into a file that others see whole or not at all.

    Raises UsageError for a place where none can be, and MemctlError when it cannot be written.
    """
    target = require_place(path, database=database)
    try:
        with (
            whole_file(target, owner_of=database, mode=mode) as draft,
            draft.open("w", encoding="utf-8") as file,
        ):
            file.writelines(parts)
    except OSError as error:
        raise MemctlError(
            f"{path} cannot be written ({error.strerror})", "make room, or name another file"
        ) from None


def require_place(target: Path, *, database: Path) -> Path:
    """Return where a file will be written, following links.

    Raises UsageError for a directory, a device, or a file that SQLite or memctl uses.
    """
    database = database.resolve()
    with reachable(target):
        target = target.resolve()
        if target.exists() and not target.is_file():
            raise UsageError(f"{target} is not a regular file", "name a file")
    if target in [database.with_name(f"{database.name}{end}") for end in IN_USE]:
        raise UsageError(f"{target} belongs to the database", "name another file")
    return target


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
