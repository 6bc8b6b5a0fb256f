"""Waiting for what another process does, and killing it."""

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.database import connect
from tests.support.program import Memctl, Words

Sign = Callable[[], bool]


def eventually(sign: Sign, *, within: float = 60) -> None:
    """Wait for something that another process or thread will do."""
    deadline = time.monotonic() + within
    while not sign():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.0001)


def kill(memctl: Memctl, words: Words, *, after: Sign, delay: float) -> bool:
    """Start a command, and kill it so long after a sign; tells whether it was still running."""
    process = memctl.start(*words)
    eventually(after)
    try:
        process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode == -signal.SIGKILL


def first_commit(path: Path) -> Sign:
    """Return what tells whether a job has committed a batch since now."""
    return more_of(path, "SELECT max(event_id) FROM memory_events")


def slow_down(path: Path) -> None:
    """Give each event of a job a cost, so that a test finds the job at work, however fast it is."""
    with closing(connect(path)) as db:
        db.execute(
            """
            CREATE TRIGGER slow AFTER INSERT ON memory_events BEGIN
                SELECT length(hex(randomblob(
                    CASE new.event WHEN 'memory:decayed' THEN 600000 ELSE 50000 END)));
            END
            """
        )


def more_of(path: Path, query: str) -> Sign:
    """Return what tells whether a query has another answer than now."""

    def answer() -> Any:
        with closing(connect(path)) as db:
            return db.execute(query).fetchone()

    before = answer()
    return lambda: bool(answer() != before)


def backup_begun(path: Path) -> Sign:
    """Return what tells whether a command has begun to copy the database."""
    return lambda: any(".before-" in name.name for name in path.parent.iterdir())
