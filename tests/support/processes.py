"""Wait for what another process or thread does."""

import time
from collections.abc import Callable
from pathlib import Path

Sign = Callable[[], bool]


def eventually(sign: Sign, *, within: float = 60) -> None:
    """Wait for something that another process or thread will do."""
    deadline = time.monotonic() + within
    while not sign():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.0001)


def backup_begun(path: Path) -> Sign:
    """Return a function that returns whether a command has begun to copy the database."""
    return lambda: any(".before-" in name.name for name in path.parent.iterdir())


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, even if it has not been waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


def has_opened(pid: int, path: str) -> bool:
    """Return whether a process has a file open."""
    try:
        return path in [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:  # it opens and closes files meanwhile
        return False
