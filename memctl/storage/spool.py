"""Failures that could not be recorded in the database, kept in a file until they can.

Each line is a JSON object: a run that failed or was refused, an alert that was raised, or one that
was delivered. The next run that can write moves them into the database and removes the file. The
file has a lock of its own, because a job that could not get memctl's lock is also a failure.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from memctl.storage.rows import RunIdentity
from memctl.storage.sqlite.ownership import OPEN, create_directory, open_or_create
from memctl.storage.text import to_bytes

if TYPE_CHECKING:  # the spool is opened by every run
    from memctl.storage.fragments import Fragments

MOST_BYTES = 1 << 20  # the first few thousand failures; later ones are not kept

FailureStatus = Literal["failed", "refused"]


@dataclass(frozen=True)
class Failure:
    """A run that failed, or was refused."""

    job: str
    started_at: str
    host: str
    pid: int
    error: str
    memctl_version: str
    status: FailureStatus = "failed"

    @property
    def identity(self) -> RunIdentity:
        """The fields that identify the run."""
        return self.job, self.started_at, self.host, self.pid


@dataclass(frozen=True)
class RaisedAlert:
    """An alert about a job that was raised while the database could not record it."""

    condition: str
    message: str
    figures: dict[str, object]
    raised_at: str


@dataclass(frozen=True)
class DeliveredAlert:
    """An alert that was delivered while the database could not record the delivery."""

    condition: str


SpoolEntry = Failure | RaisedAlert | DeliveredAlert
KINDS: dict[str, type[SpoolEntry]] = {
    kind.__name__: kind for kind in (Failure, RaisedAlert, DeliveredAlert)
}


def spool_path(directory: Path, database: Path) -> Path:
    """Return the file for a database; links to the database are followed."""
    real = os.path.realpath(database)
    name = Path(real).name[:50]
    return directory / f"{name}.{zlib.crc32(os.fsencode(real)):08x}.failures"


class Spool:
    """The open file, which no other process reads or writes meanwhile."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def read(self) -> list[SpoolEntry]:
        """Return the entries; an incomplete line is ignored."""
        content = os.pread(self._descriptor, MOST_BYTES * 2, 0)
        return [entry for line in content.splitlines() if (entry := _entry(line))]

    def add(self, entry: SpoolEntry) -> None:
        """Append an entry, completely or not at all. Raises OSError if it cannot be written."""
        line = _line(entry)
        size = os.fstat(self._descriptor).st_size
        if isinstance(entry, Failure) and size + len(line) > MOST_BYTES:
            return
        try:
            if os.pwrite(self._descriptor, line, size) < len(line):
                raise OSError("the disk is full")
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def erase(self, texts: "Fragments") -> int:
        """Overwrite the file without the texts, and return how many entries had one."""
        entries = self.read()
        kept = [without for entry in entries if (without := _without(entry, texts))]
        changed = len(entries) - sum(entry in entries for entry in kept)
        lines = b"".join(map(_line, kept))
        size = os.fstat(self._descriptor).st_size
        if changed or texts.of(os.pread(self._descriptor, size, 0)):
            os.pwrite(self._descriptor, lines.ljust(size, b"\0"), 0)
            os.fsync(self._descriptor)
            os.ftruncate(self._descriptor, len(lines))
        return changed

    def remove(self) -> None:
        """Remove the file; processes that wait for it detect this."""
        self._path.unlink()


def _line(entry: SpoolEntry) -> bytes:
    return (json.dumps({type(entry).__name__: asdict(entry)}) + "\n").encode("ascii")


def _entry(line: bytes) -> SpoolEntry | None:
    try:
        ((kind, content),) = json.loads(line).items()
        entry: SpoolEntry = KINDS[kind](**content)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return entry


@contextmanager
def opened_spool(path: Path, *, create: bool) -> Iterator[Spool]:
    """Open the file exclusively.

    Raises OSError if it cannot be opened: FileNotFoundError if it does not exist and `create` is
    false.
    """
    if create:
        create_directory(path.parent)
    while True:
        descriptor = open_or_create(path, like=path) if create else os.open(path, OPEN)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0:
                continue  # it was removed while we waited
            yield Spool(descriptor, path)
            return
        finally:
            os.close(descriptor)


@contextmanager
def delivery_lock(path: Path | None) -> Iterator[bool]:
    """Yield whether no other process delivers alerts, and prevent that during the block.

    `path` is that of the spool. If the lock cannot be taken, an alert may be delivered twice.
    """
    if path is None:
        yield True
        return
    descriptor = -1
    alone = True
    try:
        create_directory(path.parent)
        descriptor = open_or_create(path.with_suffix(".delivery"), like=path)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        alone = False
    except OSError:
        pass
    try:
        yield alone
    finally:
        if descriptor >= 0:
            os.close(descriptor)


ERASED = "erased"  # in place of an error that contained a text


def overwrite_spool(path: Path, texts: "Fragments") -> int:
    """Remove texts from the entries of the file at this path, and return how many had one.

    Their place in the file is overwritten. An alert that contains one is not kept.
    """
    try:
        with opened_spool(path, create=False) as spool:
            return spool.erase(texts)
    except FileNotFoundError:
        return 0


def _without(entry: SpoolEntry, texts: "Fragments") -> SpoolEntry | None:
    """Return an entry without these texts; None if it is about them."""
    if not texts.of(to_bytes("\0".join(map(str, asdict(entry).values())))):
        return entry
    return replace(entry, error=ERASED) if isinstance(entry, Failure) else None


def spooled_failures(path: Path | None) -> list[Failure]:
    """Return the failures not yet recorded in the database; none if the file cannot be read."""
    if path is None:
        return []
    try:
        with opened_spool(path, create=False) as spool:
            entries = spool.read()
    except OSError:
        return []
    return [entry for entry in entries if isinstance(entry, Failure)]
