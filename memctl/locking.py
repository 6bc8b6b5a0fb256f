"""One memctl at a time: a lock file beside the database, freed by the kernel with the process."""

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memctl.database import give_to_owner
from memctl.errors import LockedError, MemctlError

POLL_SECONDS = 0.05


def lock_path(database: Path) -> Path:
    """Return the lock file of a database, whatever link it is named by."""
    real = database.resolve()
    return real.with_name(real.name + ".memctl.lock")


@contextmanager
def exclusive(database: Path, *, job: str, wait: float) -> Iterator[None]:
    """Keep other memctl processes that change this database out of the block.

    Raises LockedError when another one still runs after `wait` seconds. The file stays behind
    on purpose: deleting it would let two processes lock two different files.
    """
    path = lock_path(database)
    try:
        # Never through a link: whoever owns the directory could point it at a file of root's.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise MemctlError(
            f"the lock file {path} cannot be opened ({error.strerror})",
            "run memctl as the user who owns it, on a writable file system",
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MemctlError(f"the lock file {path} is not a regular file", "remove it")
        give_to_owner(descriptor, database)
        _acquire(descriptor, path, wait)
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # the note is a courtesy; a full disk must not stop the job
            os.pwrite(descriptor, json.dumps({"job": job, "pid": os.getpid()}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def somebody_is_at_work(database: Path) -> bool:
    """Tell whether a memctl that may change this database is running."""
    try:
        descriptor = os.open(lock_path(database), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # nobody can tell
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _acquire(descriptor: int, path: Path, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"another memctl is at work on this database: {_holder(path)}",
                    f"waited {wait:g} s; try again, or wait longer with --lock-wait",
                ) from None
        time.sleep(POLL_SECONDS)


def _holder(path: Path) -> str:
    try:
        note = json.loads(path.read_text())
        return f"{note['job']}, process {note['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "process unknown"
