"""Databases to measure on, built by the service's statements and migrated by memctl."""

import random
import shutil
import sqlite3
import subprocess
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import PROGRAM

NOW = datetime(2026, 11, 22, 9, 43, 58, tzinfo=UTC)
TYPES = ("context", "learning", "preference", "error_pattern", "success_pattern")


def build(path: Path, *, memories: int, expired: int, idle: int = 0) -> None:
    """Make a migrated database in which so many memories have expired, and so many are idle."""
    random.seed(memories)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        subprocess.run([PROGRAM, "migrate", "-q", "--db", path], check=True)
        db.execute("BEGIN")
        db.executemany(
            """
            INSERT INTO agent_memory
                (id, agent_id, type, key, value, metadata, importance, last_accessed, created_at,
                 expires_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (
                _row(number, expired=_spread(number, expired, memories), idle=number < idle)
                for number in range(memories)
            ),
        )
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy(source: Path, name: str) -> Path:
    """Return a fresh copy of a database that nobody has open."""
    target = source.with_name(name)
    for left in target.parent.glob(f"{name}*"):
        left.unlink()
    shutil.copy(source, target)
    return target


def _spread(number: int, some: int, whole: int) -> bool:
    """Tell whether this one is among `some`, spread evenly over `whole`."""
    return number * some // whole != (number + 1) * some // whole


def _row(number: int, *, expired: bool, idle: bool) -> tuple[object, ...]:
    read_at = NOW - timedelta(days=random.randint(8, 60) if idle else 0)
    expiry = (NOW - timedelta(minutes=random.randint(1, 40_000))).isoformat(timespec="milliseconds")
    return (
        str(uuid.UUID(int=random.getrandbits(128))),
        f"agent-{number % 20}",
        random.choice(TYPES),
        f"task:{number}",
        "v" * random.randint(20, 400),
        '{"taskId": "TASK-7"}',
        random.randint(2, 10),
        read_at.strftime("%Y-%m-%d %H:%M:%S"),
        read_at.strftime("%Y-%m-%d %H:%M:%S"),
        expiry.replace("+00:00", "Z") if expired else None,
    )
