"""The lock file beside the database; the kernel releases the lock when the process ends."""

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memctl.errors import LockedError, MemctlError
from memctl.storage.sqlite.database import files_of_another_user, reachable
from memctl.storage.sqlite.ownership import open_or_create, owner_can_use_new_files

POLL_SECONDS = 0.05
NOTE_BEGINS = b'{"job"'
MOST_NOTE_BYTES = 4096
LOCKS = Path("/proc/locks")
PROCESS_NAMESPACE = Path("/proc/self/ns/pid")


def lock_path(database: Path) -> Path:
    """Return the lock file of a database; links to the database are followed."""
    real = database.resolve()
    return real.with_name(real.name + ".memctl.lock")


@contextmanager
def exclusive(database: Path, *, job: str, wait: float) -> Iterator[None]:
    """Exclude other memctl processes that change this database during the block.

    Raises LockedError if another one still holds the lock after `wait` seconds. The file is never
    deleted, because two processes could then lock two different files.
    """
    path = lock_path(database)
    with _opened(path, database) as descriptor:
        _acquire(descriptor, path, wait)
        _write_note(descriptor, {"job": job, "pid": os.getpid(), "namespace": _namespace()})
        try:
            yield
        finally:
            _write_note(descriptor, {})


@contextmanager
def _opened(path: Path, database: Path) -> Iterator[int]:
    try:
        if database.exists() and not path.exists() and not owner_can_use_new_files(database):
            raise files_of_another_user(database)
        descriptor = open_or_create(path, like=database)
    except OSError as error:
        raise MemctlError(
            f"the lock file {path} cannot be opened ({error.strerror})",
            "run memctl as the user who owns it, on a writable file system with free space",
        ) from None
    try:
        with reachable(path):
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not is_file:
            raise MemctlError(f"the lock file {path} is not a regular file", "remove it")
        yield descriptor
    finally:
        os.close(descriptor)


def _write_note(descriptor: int, note: dict[str, object]) -> None:
    """Record the holder in the lock file; on a full disk the lock is held without a record.

    Other content is kept, because the name may be a hard link to another file.
    """
    with suppress(OSError):
        if os.pread(descriptor, len(NOTE_BEGINS), 0) not in (b"", NOTE_BEGINS):
            return
        os.ftruncate(descriptor, 0)
        if note:
            os.pwrite(descriptor, json.dumps(note).encode(), 0)


def is_memctl_running(database: Path) -> bool:
    """Return whether a memctl process that may change this database runs, without blocking it.

    If that is unknown, one is assumed.
    """
    try:
        descriptor = os.open(lock_path(database), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        # The kernel does not list locks of processes in another namespace, such as a container.
        elsewhere = _read_note(descriptor).get("namespace", _namespace()) != _namespace()
        return elsewhere or _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Return whether a process holds the lock, if possible from the kernel's list of locks."""
    try:
        locks = LOCKS.read_text().splitlines()
    except OSError:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
    # Such as `1: FLOCK ADVISORY WRITE 4711 fe:00:2146336 0 EOF`. The device is not compared: on
    # some file systems it differs from the one in the file's status.
    node = f":{os.fstat(descriptor).st_ino}"
    fields = [line.split() for line in locks]
    return any(
        lock[1] == "FLOCK" and lock[3] == "WRITE" and lock[5].endswith(node) for lock in fields
    )


def _namespace() -> str:
    """Return the namespace of process ids, or an empty text if the system has none."""
    try:
        return str(PROCESS_NAMESPACE.readlink())
    except OSError:
        return ""


def _acquire(descriptor: int, path: Path, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                note = _read_note(descriptor)
                holder = f"{note['job']}, process {note['pid']}" if note else "unknown process"
                raise LockedError(
                    f"another memctl process is using this database: {holder}",
                    f"waited {wait:g} s; try again, or increase --lock-wait",
                ) from None
        except OSError as error:
            raise MemctlError(
                f"the lock file {path} cannot be locked ({error.strerror})",
                "put the database on a file system that supports locks",
            ) from None
        time.sleep(POLL_SECONDS)


def _read_note(descriptor: int) -> dict[str, object]:
    """Return the recorded holder of the lock, which may have been killed; {} if there is none."""
    try:
        note = json.loads(os.pread(descriptor, MOST_NOTE_BYTES, 0))
    except (OSError, ValueError):
        return {}
    known = isinstance(note, dict) and {"job", "pid"} <= note.keys()
    return note if known else {}
