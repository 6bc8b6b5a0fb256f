"""100,000 memories through every job, an export and an import: every count and value is checked.

The expected result is computed in plain Python from the rows that were written. `pytest -m load`
runs this module; without the marker it is left out.
"""

import functools
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.database import connect, text_of
from tests.support.documents import without_time
from tests.support.program import NOW, Memctl
from tests.support.service import COLUMNS, Service

pytestmark = pytest.mark.load

MEMORIES = 100_000
BIG, BIG_MEMORIES = "agent-00", 12_000
OTHERS = [f"agent-{number:02}" for number in range(1, 20)]
TYPES = ("context", "learning", "preference", "error_pattern", "success_pattern")
LESSONS = ("learning", "error_pattern", "success_pattern")
DAY = timedelta(days=1)
LATER = NOW + 91 * DAY

ALL_COLUMNS = ", ".join(COLUMNS)


@dataclass
class Memory:
    """A memory as it was written, and its expected importance now."""

    row: tuple[Any, ...]
    agent: str
    type: str
    importance: float
    accesses: int
    created: datetime
    read: datetime
    expires: datetime | None
    bytes: int

    @property
    def id(self) -> str:
        return str(self.row[0])

    @property
    def is_candidate(self) -> bool:
        """Whether it is promoted; those that were read often were read just now."""
        return (
            self.type in LESSONS
            and self.importance >= 8
            and self.accesses >= 5
            and NOW - self.created >= 14 * DAY
        )


@functools.cache
def faded(importance: float, idle_days: int) -> float:
    """Return the importance after a number of idle days, computed day by day."""
    left = Decimal(str(importance))
    for day in range(1, idle_days + 1):
        if day > 7:
            left -= Decimal("0.1") if day <= 30 else Decimal("0.2")
    return importance if idle_days <= 7 or importance <= 1 else float(max(Decimal(1), left))


def written(number: int, chance: random.Random) -> Memory:
    """Return one of the memories; no two have similar values."""
    agent = BIG if number < BIG_MEMORIES else OTHERS[number % len(OTHERS)]
    kind = chance.choice(TYPES)
    often_read = chance.random() < 0.02
    read = NOW - (timedelta(0) if often_read else timedelta(hours=chance.randrange(24 * 120)))
    created = read - timedelta(hours=chance.randrange(1, 24 * 30))
    expires = None
    if chance.random() < 0.4:
        expires = NOW + timedelta(minutes=chance.randrange(-60 * 24 * 20, 60 * 24 * 40))
    stored = expires and (
        text_of(expires) if number % 2 else expires.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    )
    importance = chance.randrange(2, 21) / 2
    accesses = chance.randrange(5, 50) if often_read else chance.randrange(5)
    key = f"ключ {number}"
    value = " ".join(f"{chance.getrandbits(64):x}" for _ in range(6))
    metadata = '{"n": 1}' if number % 3 else None
    row = (
        f"{number:08}-{chance.getrandbits(32):08x}",
        agent,
        kind,
        key,
        value,
        metadata,
        importance,
        accesses,
        text_of(read),
        text_of(created),
        stored,
    )
    size = len(key.encode()) + len(value) + len(metadata or "")
    return Memory(row, agent, kind, importance, accesses, created, read, expires, size)


@pytest.fixture
def memories(migrated: Memctl, db: sqlite3.Connection) -> dict[str, Memory]:
    """The memories that are in the database, by their ids."""
    chance = random.Random(20261122)
    found = [written(number, chance) for number in range(MEMORIES)]
    marks = ", ".join("?" for _ in COLUMNS)
    db.execute("BEGIN")
    db.executemany(
        f"INSERT INTO agent_memory ({ALL_COLUMNS}) VALUES ({marks})",
        (memory.row for memory in found),
    )
    db.execute("COMMIT")
    return {memory.id: memory for memory in found}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Memctl]:
    """The program, pointed at another database, which is empty."""
    path = tmp_path / "other" / "harness.db"
    path.parent.mkdir()
    memctl = Memctl(path)
    with closing(Service(path)):
        memctl.ok("migrate", "--no-backup")
        yield memctl


def expected_row(memory: Memory) -> tuple[Any, ...]:
    """Return the expected row: SQLite stores a whole number as an integer."""
    return (*memory.row[:6], memory.importance, *memory.row[7:])


def stored(db: sqlite3.Connection, table: str) -> dict[str, tuple[Any, ...]]:
    """Return the rows of a table by their ids."""
    return {row[0]: row for row in db.execute(f"SELECT {ALL_COLUMNS} FROM {table}")}


def test_100000_memories_go_through_every_job_as_computed(
    migrated: Memctl,
    other: Memctl,
    db: sqlite3.Connection,
    memories: dict[str, Memory],
    tmp_path: Path,
) -> None:
    active, archived = dict(memories), {}

    # Cleanup
    done = migrated.ok("cleanup", "--json").json
    for memory in memories.values():
        if memory.expires is not None and memory.expires < NOW:
            archived[memory.id] = active.pop(memory.id)
    assert (done["archived"], done["remaining"]) == (len(archived), 0)
    assert done["agents"] == Counter(memory.agent for memory in archived.values())
    assert stored(db, "archived_memories") == {
        name: expected_row(memory) for name, memory in archived.items()
    }
    events = db.execute("SELECT memory_id, event FROM memory_events ORDER BY event_id").fetchall()
    expected = [
        (name, event) for name in archived for event in ("memory:expired", "memory:archived")
    ]
    assert events == [*expected, (None, "memory:alert")]  # the largest agent has too many memories

    # Promotion runs before decay here, so that the candidates are those that were written.
    done = migrated.ok("promote", "--json").json
    candidates = [memory for memory in active.values() if memory.is_candidate]
    assert (done["promoted"], done["merged"]) == (len(candidates), 0)
    assert db.execute("SELECT count(*) FROM knowledge_entries").fetchone() == (len(candidates),)
    assert {
        name for (name,) in db.execute("SELECT id FROM agent_memory WHERE promoted_at NOT NULL")
    } == {memory.id for memory in candidates}

    # Decay
    done = migrated.ok("decay", "--json").json
    decayed = 0
    for memory in active.values():
        before, memory.importance = (
            memory.importance,
            faded(memory.importance, (NOW - memory.read) // DAY),
        )
        decayed += before != memory.importance
    assert done["decayed"] == decayed
    assert stored(db, "agent_memory") == {
        name: expected_row(memory) for name, memory in active.items()
    }

    # Figures
    migrated.ok("snapshot")
    metrics = migrated.ok("metrics", "--history", "2d").json
    report = migrated.ok("report", "--format", "json").json
    month = NOW - 30 * DAY
    figures = metrics["system"]
    (today,) = [day["figures"] for day in figures["history"] if day["date"] == "2026-11-22"]
    assert (figures["memories"], figures["archived"]) == (len(active), len(archived))
    assert (today["memories"], today["archived"]) == (len(active), len(archived))
    assert today["archived_that_day"] == today["expired_that_day"] == len(archived)
    assert report["system"]["expired"] == len(archived)
    assert figures["accessed_memories"] == sum(
        memory.accesses > 0 and memory.read >= month for memory in active.values()
    )
    assert figures["accesses_at_least"] == sum(
        memory.accesses if memory.created >= month else memory.accesses > 0 and memory.read >= month
        for memory in active.values()
    )
    assert figures["importance_avg"] == pytest.approx(
        sum(memory.importance for memory in active.values()) / len(active), abs=1e-6
    )
    assert figures["storage_bytes"] == sum(memory.bytes for memory in memories.values())
    of_active = Counter((memory.agent, memory.type) for memory in active.values())
    of_archived = Counter((memory.agent, memory.type) for memory in archived.values())
    assert {
        (agent, kind): (one["memories"], one["archived"])
        for agent, of_agent in metrics["agents"].items()
        for kind, one in of_agent["types"].items()
    } == {name: (of_active[name], of_archived[name]) for name in {*of_active, *of_archived}}

    # Export and import
    document, again = tmp_path / "all.json", tmp_path / "again.json"
    migrated.ok("export", "--all", "-o", str(document))
    assert json.loads(document.read_bytes())["counts"] == {
        "active": len(active),
        "archived": len(archived),
        "promotions": len(candidates),
    }
    taken = other.ok("import", "--all", str(document), "--json").json
    assert (taken["active"]["inserted"], taken["archived"]["inserted"]) == (
        len(active),
        len(archived),
    )
    other.ok("export", "--all", "-o", str(again))
    assert without_time(again.read_bytes()) == without_time(document.read_bytes())
    with closing(connect(other.database)) as copy:
        assert stored(copy, "agent_memory") == stored(db, "agent_memory")
        assert stored(copy, "archived_memories") == stored(db, "archived_memories")

    # The largest agent's memories come back from the archive
    done = migrated.ok("restore", BIG, "--reason", "expired", "--since", "1d", "--json").json
    back = [memory for memory in archived.values() if memory.agent == BIG]
    for memory in back:
        memory.row = (*memory.row[:10], None)  # an expiry that has passed is cleared
        active[memory.id] = archived.pop(memory.id)
    assert done["restored"] == len(back)
    assert stored(db, "agent_memory") == {
        name: expected_row(memory) for name, memory in active.items()
    }

    # Retention; nothing was read for 91 days and more than half of each archive is old
    done = migrated.at(LATER).ok("prune", "--force", "--json").json
    kept = {name: memory for name, memory in archived.items() if memory.importance >= 8}
    assert (done["pruned"], done["kept_important"]) == (len(archived) - len(kept), len(kept))
    assert stored(db, "archived_memories") == {
        name: expected_row(memory) for name, memory in kept.items()
    }
    assert len(stored(db, "agent_memory")) == len(active)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
