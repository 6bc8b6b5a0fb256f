"""Databases for the measurements, built by the service's statements and migrated by memctl."""

import random
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import ascii_lowercase

from benchmarks import PROGRAM
from memctl.storage.memory import TYPES
from memctl.storage.sqlite.knowledge import SqliteKnowledgeBase

NOW = datetime(2026, 11, 22, 9, 43, 58, tzinfo=UTC)
COLUMNS = (
    "id",
    "agent_id",
    "type",
    "key",
    "value",
    "metadata",
    "importance",
    "last_accessed",
    "created_at",
    "expires_at",
)


def build(path: Path, *, memories: int, expired: int, idle: int = 0) -> None:
    """Create a migrated database with a number of expired and a number of idle memories."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        subprocess.run([PROGRAM, "migrate", "-q", "--db", path], check=True)
        db.execute("BEGIN")
        db.executemany(
            f"INSERT INTO agent_memory ({', '.join(COLUMNS)})"
            f" VALUES ({', '.join('?' for _ in COLUMNS)})",
            generated_rows(memories, expired=expired, idle=idle),
        )
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def generated_rows(memories: int, *, expired: int, idle: int) -> Iterator[tuple[object, ...]]:
    """Yield the values of COLUMNS for each memory, the same ones each time."""
    random.seed(memories)
    for number in range(memories):
        yield _row(number, expired=_spread(number, expired, memories), idle=number < idle)


def prove(path: Path, *, memories: int, entries: int) -> None:
    """Add memories that can be promoted, and entries of the knowledge base, all different.

    Their texts have 20 to 80 words, drawn as in a language: few are everywhere, those are short.
    """
    random.seed(memories)
    words = ["".join(random.choices(ascii_lowercase, k=2 + place // 500)) for place in range(5000)]
    weights = [1 / (place + 1) for place in range(len(words))]

    def text() -> str:
        return " ".join(random.choices(words, weights, k=random.randint(20, 80)))

    long_ago = (NOW - timedelta(days=30)).strftime("%Y-%m-%d %H:%M:%S")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        SqliteKnowledgeBase(db).create()
        db.executemany(
            "INSERT INTO knowledge_entries (id, type, content, source_agent_id)"
            " VALUES (?, 'pattern', ?, 'elsewhere')",
            ((str(number), text()) for number in range(entries)),
        )
        db.executemany(
            """
            INSERT INTO agent_memory
                (id, agent_id, type, key, value, importance, access_count, created_at)
            VALUES (?, ?, 'learning', ?, ?, 9, 9, ?)
            """,
            (
                (f"proven-{number}", f"agent-{number % 20}", f"proven:{number}", text(), long_ago)
                for number in range(memories)
            ),
        )
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def write_texts(path: Path) -> None:
    """Give the memories texts to search: one of six not in ASCII, one of 200 with 50 KB."""
    random.seed(0)
    words = ["cannot", "install", "the", "npm", "package", "in", "tests/unit", "retry", "later"]
    others = ["ключ", "не", "найден", "→", "値", "naïve", "Straße", *words]

    def text(row: int) -> str:
        vocabulary = others if row % 6 == 0 else words
        value = " ".join(random.choices(vocabulary, k=random.randint(5, 50)))
        return value * (50_000 // len(value)) if row % 200 == 0 else value

    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        rows = [row for (row,) in db.execute("SELECT rowid FROM agent_memory")]
        db.execute("BEGIN")
        db.executemany(
            "UPDATE agent_memory SET value = ? WHERE rowid = ?", ((text(row), row) for row in rows)
        )
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy(source: Path, name: str) -> Path:
    """Return a fresh copy of a database that no program has open."""
    target = source.with_name(name)
    for left in target.parent.glob(f"{name}*"):
        left.unlink()
    shutil.copy(source, target)
    return target


def _spread(number: int, some: int, whole: int) -> bool:
    """Return whether a number is one of `some`, spread evenly over `whole`."""
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
