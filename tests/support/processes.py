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
