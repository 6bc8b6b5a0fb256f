"""Files that are written completely or not at all, and survive a power failure."""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from memctl.errors import MemctlError, UsageError
from memctl.storage.addresses import Address
from memctl.storage.sqlite.database import names_missing_directory, reachable
from memctl.storage.sqlite.ownership import create_file

# The suffixes of a database and of the files that SQLite and memctl keep beside it.
IN_USE = ("", "-wal", "-shm", "-journal", ".memctl.lock")

# Names of open descriptors, which may be pipes, terminals or files.
STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,6})")


class Draft(NamedTuple):
    """A file under a temporary name, and the descriptor that created it."""

    path: Path
    descriptor: int

    def write(self, parts: Iterable[str]) -> None:
        """Write a text. Raises OSError."""
        with os.fdopen(self.descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.writelines(parts)

    def require_same(self) -> None:
        """Raise MemctlError if the path no longer refers to this file."""
        held = os.fstat(self.descriptor)
        try:
            same = os.path.samestat(held, self.path.lstat())
        except FileNotFoundError:
            same = False
        if not same:
            raise self.replaced()

    def require_opened(self) -> None:
        """Raise MemctlError unless SQLite, which opens files by name, has opened this file."""
        held = os.fstat(self.descriptor)
        numbers = [int(link.name) for link in Path("/dev/fd").iterdir()]
        if not any(number != self.descriptor and _is_file(number, held) for number in numbers):
            raise self.replaced()

    def replaced(self) -> MemctlError:
        """Return the error for a path that now refers to another file."""
        return MemctlError(
            f"another program replaced the temporary file {self.path}",
            "nothing was changed; make sure that no other user can write to the directory",
        )


def _is_file(descriptor: int, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.fstat(descriptor))
    except OSError:  # the descriptor that listed the directory
        return False


@contextmanager
def scratch_file(target: Path, *, owner_of: Path) -> Iterator[Draft]:
    """Provide a file that is named like a draft of the target, and removed after the block.

    What a killed process leaves is removed by `remove_drafts`. Raises OSError.
    """
    draft = _begin(target, owner_of)
    try:
        yield draft
    finally:
        draft.path.unlink(missing_ok=True)
        os.close(draft.descriptor)


def remove_drafts(target: Path) -> None:
    """Remove the drafts of a file that killed processes have left; their names are unmistakable.

    The caller excludes other processes that write the file. Raises OSError.
    """
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}(-journal)?", re.DOTALL)
    for file in target.parent.iterdir():
        if name.fullmatch(file.name):
            file.unlink(missing_ok=True)


def _begin(target: Path, owner_of: Path) -> Draft:
    path = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    return Draft(path, create_file(path, like=owner_of))


@contextmanager
def whole_file(target: Path, *, owner_of: Path, mode: int = 0o600) -> Iterator[Draft]:
    """Provide a draft that is renamed to the target when the block succeeds.

    If root creates the file, it belongs to the owner of `owner_of`. Raises OSError if it cannot be
    written, and MemctlError if another file has replaced the draft; then, and after any other
    error, the target is unchanged.
    """
    draft = _begin(target, owner_of)
    try:
        yield draft
        os.fchmod(draft.descriptor, mode)
        os.fsync(draft.descriptor)
        draft.require_same()
        draft.path.rename(target)
    except BaseException:
        draft.path.unlink(missing_ok=True)
        raise
    finally:
        os.close(draft.descriptor)
    sync_directory(target.parent)


def write_file(path: Path, parts: Iterable[str], *, database: Address, mode: int = 0o600) -> None:
    """Write a text to a file, completely or not at all.

    An open descriptor, such as /dev/stdout, is written to directly. Raises UsageError for a wrong
    target, and MemctlError if it cannot be written.
    """
    try:
        stream = _open_stream(path)
        if stream is not None:
            with os.fdopen(stream, "w", encoding="utf-8") as file:
                file.writelines(parts)
            return
        target = require_place(path, database=database)
        owner_of = database if isinstance(database, Path) else target.parent
        with whole_file(target, owner_of=owner_of, mode=mode) as draft:
            draft.write(parts)
    except BrokenPipeError:
        raise SystemExit(141) from None
    except OSError as error:
        raise MemctlError(
            f"{path} cannot be written ({error.strerror})",
            "free some space, or specify another file",
        ) from None


def require_writable(path: Path, *, database: Path) -> None:
    """Raise the errors of `write_file` for a place at which no file can be created.

    For what is written after a step that cannot be repeated.
    """
    if str(path) in STREAMS or DESCRIPTOR.fullmatch(str(path)):
        return
    target = require_place(path, database=database)
    try:
        with scratch_file(target, owner_of=database):
            pass
    except OSError as error:
        raise MemctlError(
            f"{path} cannot be written ({error.strerror})", "specify another file"
        ) from None


def _open_stream(path: Path) -> int | None:
    """Return a copy of the descriptor that a path names, or None if it names a file.

    Raises OSError for a descriptor that is not open, or that this process has opened itself, such
    as the database: only those that it has inherited are inheritable.
    """
    number = STREAMS.get(str(path))
    if number is None and (named := DESCRIPTOR.fullmatch(str(path))):
        number = int(named[1])
    if number is None:
        return None
    if not os.get_inheritable(number):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return os.dup(number)


def output_path(text: str) -> Path:
    """Return a text as the path of a file.

    Raises UsageError if it is empty, or a directory that does not exist.
    """
    if not text:
        raise UsageError("the file path is empty", "check for an unset shell variable")
    if names_missing_directory(text):
        raise UsageError(f"there is no directory {text}", "create it, or specify a file")
    return Path(text)


def require_place(target: Path, *, database: Address) -> Path:
    """Return the path at which a file is written, following links of the user and of root.

    Raises UsageError for a directory, a device, a link of another user, or a file that SQLite or
    memctl uses.
    """
    with reachable(target):
        place = target.resolve()  # raises an error for a loop
        if target.exists() and not target.is_file():  # a pipe cannot be renamed to
            raise UsageError(f"{target} is not a regular file", "specify a file")
        while target.is_symlink():
            if target.lstat().st_uid not in (0, os.geteuid()):
                raise UsageError(
                    f"{target} is a symbolic link created by another user",
                    "specify the file itself",
                )
            target = target.parent / target.readlink()
    if isinstance(database, Path) and place in _files_of(database.resolve()):
        raise UsageError(f"{place} belongs to the database", "specify another file")
    return place


def _files_of(database: Path) -> list[Path]:
    """Return the files that SQLite and memctl use for a database."""
    return [database.with_name(f"{database.name}{end}") for end in IN_USE]


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
