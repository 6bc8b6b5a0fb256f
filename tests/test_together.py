"""Months of use from the shell, with every feature and job: the database matches an oracle.

The oracle follows each command in plain Python; the ids, which it cannot know, are left out.
"""

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.database import connect, text_of
from tests.support.program import NOW, Memctl

Name = tuple[str, str, str]

NAMES: tuple[Name, ...] = (
    ("build_agent", "error_pattern", "--cache"),
    ("build_agent", "success_pattern", "parallel"),
    ("qa_agent", "learning", "flaky"),
    ("qa_agent", "preference", "-style"),
)
# No two texts share enough words to be considered the same.
TEXTS = (
    "restart every worker before midnight",
    "pin dependencies and rebuild slowly",
    "the browser needs a warm profile",
    "ask the database for its locks",
    "write shorter functions with names",
    "never trust clocks of laptops",
)
ENTRY_TYPES = {"error_pattern": "gotcha", "success_pattern": "pattern", "learning": "pattern"}
DAY = timedelta(days=1)


def owed(days: int) -> float:
    """Return the cost of a number of idle days: nothing, then 0.1, then 0.2 a day."""
    return sum(0.1 if day <= 30 else 0.2 for day in range(8, days + 1))


@dataclass
class Known:
    """A memory as the oracle knows it."""

    value: str
    importance: float
    written: datetime
    expires: datetime | None
    read: datetime
    accesses: int = 0
    charged: datetime | None = None
    promoted: datetime | None = None

    def left(self, now: datetime) -> float:
        """Return what decay leaves of the importance."""
        idle = (now - self.read) // DAY
        before = max(0, ((self.charged or self.read) - self.read) // DAY)
        due = round(owed(idle) - owed(before), 6)
        return self.importance if due <= 0 else round(max(1.0, self.importance - due), 6)


@dataclass
class Oracle:
    """The expected content of the database after the commands."""

    active: dict[Name, Known] = field(default_factory=dict)
    archived: list[tuple[Name, str, float, int, str]] = field(default_factory=list)
    accesses: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    links: dict[Name, tuple[int, str]] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def remember(
        self, name: Name, value: str, importance: int, expires: datetime | None, now: datetime
    ) -> None:
        """Follow `memctl remember`; a replaced memory moves to the end."""
        self.active.pop(name, None)
        self.active[name] = Known(value, importance, now, expires, now)

    def recall(self, name: Name, now: datetime) -> None:
        """Follow `memctl recall`: with the features on, it charges idle days, boosts and counts."""
        known = self.active[name]
        known.importance = max(known.left(now), min(10.0, round(known.left(now) + 0.1, 6)))
        known.read, known.accesses = now, known.accesses + 1
        self.accesses[f"{now:%Y-%m-%d}", name[0], name[1]] += 1

    def archive(self, name: Name, reason: str, now: datetime) -> None:
        """Follow a memory into the archive."""
        known = self.active.pop(name)
        moment = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        self.archived.append((name, reason, known.importance, known.accesses, moment))

    def cleanup(self, now: datetime) -> None:
        """Follow `memctl cleanup`."""
        for name, known in list(self.active.items()):
            if known.expires is not None and known.expires < now:
                self.archive(name, "expired", now)

    def decay(self, now: datetime) -> None:
        """Follow `memctl decay`."""
        for known in self.active.values():
            left = known.left(now)
            if left < known.importance:
                known.importance, known.charged = left, now

    def promote(self, now: datetime) -> None:
        """Follow `memctl promote`; texts here are either equal or not similar at all."""
        for name, known in self.active.items():
            _agent, kind, key = name
            if (
                kind not in ENTRY_TYPES
                or known.importance < 8
                or known.accesses < 5
                or now - known.written < 14 * DAY
            ):
                continue
            entry_type = ENTRY_TYPES[kind]
            content = f"{key}: {known.value}" if entry_type == "gotcha" else known.value
            known.promoted = known.promoted or now
            if name in self.links and self.links[name][1] == content:
                continue
            self.enter(name, known, entry_type, content)
            known.promoted = now

    def enter(self, name: Name, known: Known, entry_type: str, content: str) -> None:
        """Add an entry, which supersedes an earlier one of the same memory."""
        confidence = 0.6 + 0.025 * min(2.0, known.importance - 8)
        confidence += 0.1 if name[0] == "qa_agent" else 0
        confidence += 0.05 if entry_type == "pattern" else 0
        if name in self.links:
            old = self.entries[self.links[name][0]]
            old["superseded_by"] = len(self.entries)
            old["confidence"] = round(max(0.1, old["confidence"] - 0.2), 4)
        self.links[name] = (len(self.entries), content)
        self.entries.append(
            {
                "type": entry_type,
                "content": content,
                "agent": name[0],
                "confidence": min(0.79, round(confidence, 4)),
                "last_used": text_of(known.read),
                "superseded_by": None,
            }
        )


@dataclass
class Months:
    """The program and the oracle, given the same commands at the same times."""

    program: Memctl
    random: Random
    oracle: Oracle = field(default_factory=Oracle)

    @property
    def now(self) -> datetime:
        """The current time of the program and the oracle."""
        return self.program.now

    def wait(self) -> None:
        """Let some time pass, often none, sometimes weeks."""
        days = self.random.choice([0, 0, 0, 0, 1, 3, 6, 9])
        seconds = self.random.randrange(1, 80_000)
        self.program = self.program.at(self.now + timedelta(days=days, seconds=seconds))

    def remember(self, name: Name) -> None:
        """Write a memory, sometimes with an expiry."""
        value, importance = self.random.choice(TEXTS), self.random.choice([6, 9, 10, 10, 10])
        days = self.random.choice([None, None, 30])
        words = ["--importance", str(importance)]
        words += [] if days is None else ["--expires-in", f"{days}d"]
        expires = None if days is None else self.now + days * DAY
        self.program.ok("remember", *words, "--", *name, value)
        self.oracle.remember(name, value, importance, expires, self.now)

    def recall(self, name: Name) -> None:
        """Read a memory a few times on one day."""
        for _ in range(self.random.randint(1, 4)):
            answer = self.program("recall", "--value", "--", *name)
            known = self.oracle.active.get(name)
            expected = (1, "") if known is None else (0, known.value)
            assert (answer.exit_code, answer.out) == expected
            if known is None:
                break
            self.oracle.recall(name, self.now)

    def forget(self, name: Name) -> None:
        """Forget a memory, if it is there."""
        answer = self.program("forget", "--", *name)
        assert answer.exit_code == (0 if name in self.oracle.active else 1)
        if name in self.oracle.active:
            self.oracle.archive(name, "forgotten", self.now)

    def job(self, job: str) -> None:
        """Run a job."""
        self.program.ok(job)
        getattr(self.oracle, job)(self.now)

    def step(self) -> None:
        """Do one random step."""
        self.wait()
        name = self.random.choice(NAMES)
        does = self.random.choices(
            ["remember", "recall", "forget", "cleanup", "decay", "promote"], [3, 24, 1, 2, 2, 5]
        )[0]
        if does in ("cleanup", "decay", "promote"):
            self.job(does)
        else:
            getattr(self, does)(name)


def found_memories(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return the active memories in order, without their ids."""
    return db.execute(
        "SELECT agent_id, type, key, value, importance, access_count, last_accessed, created_at,"
        " expires_at, promoted_at FROM agent_memory ORDER BY rowid"
    ).fetchall()


def expected_memories(oracle: Oracle) -> list[tuple[Any, ...]]:
    """Return the active memories that the oracle expects."""

    def iso(moment: datetime | None, form: str) -> str | None:
        return None if moment is None else moment.strftime(form)

    return [
        (
            *name,
            known.value,
            known.importance,
            known.accesses,
            text_of(known.read),
            text_of(known.written),
            iso(known.expires, "%Y-%m-%dT%H:%M:%S.000Z"),
            iso(known.promoted, "%Y-%m-%dT%H:%M:%SZ"),
        )
        for name, known in oracle.active.items()
    ]


def found_entries(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return the knowledge base in order, with positions instead of ids."""
    rows = db.execute(
        "SELECT id, type, content, source_agent_id, confidence, last_used_at, superseded_by"
        " FROM knowledge_entries ORDER BY rowid"
    ).fetchall()
    places = {row[0]: place for place, row in enumerate(rows)}
    return [
        {
            "type": kind,
            "content": content,
            "agent": agent,
            "confidence": confidence,
            "last_used": last_used,
            "superseded_by": places.get(by),
        }
        for _id, kind, content, agent, confidence, last_used, by in rows
    ]


@pytest.mark.parametrize("seed", [39, 43], ids="months {}".format)  # two that supersede entries
def test_months_of_use_end_as_the_oracle_predicts(seed: int, path: Path) -> None:
    months = Months(Memctl(path, NOW), Random(seed))
    months.program.ok("migrate")
    for feature in ("access-boost", "access-counting", "archive-on-delete"):
        months.program.ok("enable", feature)

    for name in NAMES:
        months.remember(name)
    for _ in range(50):
        months.step()
    for job in ("cleanup", "decay", "promote"):
        months.wait()
        months.job(job)

    with closing(connect(path)) as db:
        archived = db.execute(
            "SELECT agent_id, type, key, archived_reason, importance, access_count, archived_at"
            " FROM archived_memories ORDER BY archive_id"
        ).fetchall()
        counted = db.execute("SELECT * FROM memory_access_counts").fetchall()
        oracle = months.oracle
        assert found_memories(db) == expected_memories(oracle)
        assert archived == [(*name, *rest) for name, *rest in oracle.archived]
        assert {row[:3]: row[3] for row in counted} == dict(oracle.accesses)
        assert oracle.entries
        assert found_entries(db) == oracle.entries
