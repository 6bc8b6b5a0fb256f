"""Promotion: proven memories are added to the knowledge base once, and stay active."""

import itertools
import json
import re
import shutil
import sqlite3
import uuid
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memctl.config.policies import DecayPolicy, Override, PromotePolicy
from memctl.errors import SchemaError
from memctl.jobs.candidates import find_candidates
from memctl.jobs.decay import decay
from memctl.jobs.engine import JobContext, JobRequest, perform
from memctl.jobs.promote import PromoteResult, Promotion, promote
from memctl.storage.addresses import Address
from memctl.storage.postgresql.knowledge import CREATE_KNOWLEDGE_BASE
from memctl.storage.postgresql.times import our_text
from memctl.storage.sqlite.batches import SqliteBatches
from memctl.storage.sqlite.database import open_database, table_exists
from memctl.storage.sqlite.store import SqliteStore
from tests.support.database import (
    connect,
    everything,
    insert_memory,
    is_sound,
    memory_row,
    rows,
    text_of,
)
from tests.support.engines import Engine, PostgresEngine
from tests.support.program import NOW, Memctl
from tests.support.properties import examples
from tests.support.service import Service

# As created by the service's own migration, before or after memctl's.
SERVICE_TABLE = """
    CREATE TABLE IF NOT EXISTS knowledge_entries (
        id TEXT PRIMARY KEY,
        type TEXT NOT NULL CHECK(type IN ('gotcha', 'pattern', 'decision')),
        content TEXT NOT NULL,
        file_patterns TEXT,
        action_types TEXT,
        tags TEXT,
        confidence REAL NOT NULL DEFAULT 0.5 CHECK(confidence >= 0 AND confidence <= 1),
        occurrences INTEGER DEFAULT 1,
        source_execution_id TEXT,
        source_task_id TEXT,
        source_agent_id TEXT NOT NULL,
        created_at TEXT DEFAULT (datetime('now')),
        updated_at TEXT DEFAULT (datetime('now')),
        last_used_at TEXT,
        superseded_by TEXT REFERENCES knowledge_entries(id)
    );
"""
SERVICE_INDEXES = """
    CREATE INDEX idx_knowledge_type ON knowledge_entries(type);
    CREATE INDEX idx_knowledge_confidence ON knowledge_entries(confidence);
    CREATE INDEX idx_knowledge_agent ON knowledge_entries(source_agent_id);
    CREATE INDEX idx_knowledge_updated ON knowledge_entries(updated_at);
"""

TEN = "one two three four five six seven eight nine ten"
NEARLY_TEN = "one two three four five six seven eight nine eleven"  # 9 of 11 words in common
OTHER = "something entirely different"

# Idle for as long as costs nothing when it is old enough.
PROVEN: dict[str, Any] = {
    "importance": 8,
    "access_count": 5,
    "created_at": "2026-11-08 09:43:58",
    "last_accessed": "2026-11-15 09:43:58",
}

ENTRY = "type, content, confidence, occurrences, source_agent_id"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database of the service without memories, to copy."""
    path = tmp_path_factory.mktemp("promote") / "harness.db"
    with closing(Service(path)):
        Memctl(path).ok("migrate", "--no-backup")
    return path


@pytest.fixture
def db(template: Path, path: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection to a migrated database of the service."""
    shutil.copyfile(template, path)
    with closing(connect(path)) as connection:
        yield connection


@pytest.fixture
def proven(db: sqlite3.Connection) -> Callable[..., str]:
    """Write a memory that just meets all four conditions; returns its id."""

    def write(**columns: Any) -> str:
        if "idle_days" in columns:  # written at that time, and not read since
            return insert_memory(
                db, **{"importance": 8, "access_count": 5, "value": TEN, **columns}
            )
        return insert_memory(db, **(PROVEN | {"value": TEN} | columns))

    return write


def add_entry(db: sqlite3.Connection, content: str = TEN, **columns: Any) -> str:
    """Write an entry of the knowledge base as the service does; returns its id."""
    db.executescript(SERVICE_TABLE)
    entry = {
        "id": str(uuid.uuid4()),
        "type": "pattern",
        "content": content,
        "source_agent_id": "spec_agent",
        **columns,
    }
    marks = ", ".join("?" for _ in entry)
    db.execute(
        f"INSERT INTO knowledge_entries ({', '.join(entry)}) VALUES ({marks})",
        tuple(entry.values()),
    )
    return str(entry["id"])


def run(database: Address, *, agent: str | None = None, **request: Any) -> PromoteResult:
    """Run the job, at NOW by default, and return its result."""
    report = perform(
        "promote",
        lambda run: promote(run, PromotePolicy(), DecayPolicy(), agent=agent),
        JobRequest(**{"database": database, "now": NOW, **request}),
    )
    assert report.result is not None
    return report.result


def counts(database: Address, **request: Any) -> tuple[int, int, int]:
    """Run the job and return how many memories it promoted, merged and superseded."""
    result = run(database, **request)
    return result.promoted, result.merged, result.superseded


def links(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return the agent and key of every link, and the text of its entry."""
    return db.execute(
        """
        SELECT agent_id, key, content
        FROM memory_promotions LEFT JOIN knowledge_entries ON id = entry_id
        ORDER BY agent_id, key
        """
    ).fetchall()


# Candidates


MEETS = "due"


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        pytest.param({}, MEETS, id="all at their thresholds"),
        pytest.param({"type": "error_pattern"}, MEETS, id="an error pattern"),
        pytest.param({"type": "success_pattern"}, MEETS, id="a success pattern"),
        pytest.param(
            {"type": "preference"},
            "type not one of error_pattern, success_pattern, learning",
            id="a preference",
        ),
        pytest.param({"importance": 7}, "importance 7 of 8", id="importance 7"),
        pytest.param({"importance": 7.999}, "importance 7.999 of 8", id="a little below"),
        pytest.param({"importance": 100}, MEETS, id="importance 100"),
        pytest.param({"importance": "high"}, "importance not a number", id="importance in words"),
        pytest.param({"importance": ""}, "importance not a number", id="empty importance"),
        pytest.param({"importance": None}, "importance not a number", id="no importance"),
        pytest.param({"importance": b"9"}, "importance not a number", id="importance in bytes"),
        pytest.param({"access_count": 4}, "reads 4 of 5", id="four accesses"),
        pytest.param({"access_count": 5.5}, MEETS, id="a fraction of an access"),
        pytest.param({"access_count": "often"}, "reads not a number", id="access count in words"),
        pytest.param({"access_count": None}, "reads not a number", id="no access count"),
        pytest.param(
            {"created_at": "2026-11-08 09:43:59"}, "age 13 of 14 days", id="a second too new"
        ),
        pytest.param({"created_at": "2026-11-08T09:43:58.000Z"}, MEETS, id="ISO"),
        pytest.param({"created_at": "2026-11-08T11:43:58+02:00"}, MEETS, id="ISO with an offset"),
        pytest.param(
            {"created_at": "2026-11-08T09:43:58-01:00"},
            "age 13 of 14 days",
            id="an offset that makes it too new",
        ),
        pytest.param({"created_at": "-000192-09-06T00:00:00.000Z"}, MEETS, id="before the era"),
        pytest.param(
            {"created_at": "2027-01-01 00:00:00"},
            "created in the future",
            id="created in the future",
        ),
        pytest.param(
            {"created_at": "2026-11-22 09:43:59"},
            "created in the future",
            id="created a second in the future",
        ),
        pytest.param(
            {"created_at": "long ago"}, "created_at is not a time", id="unreadable created_at"
        ),
        pytest.param({"created_at": None}, "created_at is not a time", id="no created_at"),
        pytest.param(
            {"importance": 3, "access_count": 0, "created_at": "2026-11-20 09:43:58"},
            "importance 3 of 8; reads 0 of 5; age 2 of 14 days",
            id="three conditions unmet",
        ),
    ],
)
def test_each_condition_is_necessary_and_listed_when_unmet(
    path: Path, proven: Callable[..., str], columns: dict[str, Any], why: str
) -> None:
    proven(**columns)

    previewed = run(path, dry_run=True, listing=True)
    done = run(path, listing=True)

    met = int(why == MEETS)
    assert [memory.details[3:] for memory in done.tally.memories] == [
        (why, "promoted" if met else None)
    ]
    assert previewed.tally.memories == done.tally.memories
    assert (previewed.promoted, done.promoted) == (met, met)


def test_the_list_is_ordered_from_candidates_to_the_furthest_from_it(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(id="known", key="known", value=OTHER)
    run(path, now=NOW + timedelta(days=1))
    proven(id="new", key="new", importance=3, access_count=0, idle_days=2)
    proven(id="far", key="far", type="context", importance=3)
    proven(id="preference", key="p", type="preference", access_count=7)
    proven(id="unread", key="unread", access_count=0)
    proven(id="candidate", key="[bold]k[/]\x1b", importance=9.5, access_count=12)

    answer = Memctl(path, NOW + timedelta(days=1)).ok("promote", "--dry-run", "--list")

    assert re.sub("  +", "|", answer.out) == (
        "id|agent|type|key|importance|reads|days old|why|outcome\n"
        "candidate|build_agent|learning|[bold]k[/]\\x1b|9.5|12|15|due|promoted\n"
        "known|build_agent|learning|known|8|5|15|"
        "promoted at 2026-11-23T09:43:58Z, unchanged since\n"
        "preference|build_agent|preference|p|8|7|15|"
        "type not one of error_pattern, success_pattern, learning\n"
        "unread|build_agent|learning|unread|8|0|15|reads 0 of 5\n"
        "new|build_agent|learning|new|3|0|3|"
        "importance 3 of 8; reads 0 of 5; age 3 of 14 days\n"
    )
    assert answer.err == (
        "promote: would promote 1 memory, merge 0 into existing entries, supersede 0 entries\n"
    )


def test_the_configuration_sets_the_conditions(
    path: Path, proven: Callable[..., str], tmp_path: Path
) -> None:
    proven(value="a", importance=4.5, access_count=1, idle_days=2)
    proven(value="b", importance=4.4, access_count=1, idle_days=2)
    proven(value="c", importance=4.5, access_count=0, idle_days=2)
    proven(value="d", importance=4.5, access_count=1, created_at="2026-11-21 09:43:58")
    file = tmp_path / "memctl.toml"
    file.write_text("[promote]\nimportance = 4.5\naccesses = 1\nage_days = 2\n")

    answer = Memctl(path).ok("promote", "--config", str(file), "--json", "--list").json

    assert [(memory["why"], memory["outcome"]) for memory in answer["listed"]] == [
        (MEETS, "promoted"),
        ("importance 4.4 of 4.5", None),
        ("reads 0 of 1", None),
        ("age 1 of 2 days", None),
    ]


# Effects of a promotion


def test_a_promotion_adds_an_entry_a_link_a_timestamp_and_an_event(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    value = '{"description": "it hangs", "fix": "retry", "taskId": "TASK-7"}'
    memory = proven(
        agent_id="qa_agent",
        type="error_pattern",
        key="flaky:e2e",
        value=value,
        metadata='{"tags": ["e2e"]}',
        importance=9,
    )
    before = rows(db, "agent_memory")

    answer = Memctl(path).ok("promote", "--json").json

    ((entry_id, *entry),) = rows(db, "knowledge_entries")
    content = "flaky:e2e: it hangs\nFix: retry"
    created, updated = entry[10:12]
    names = [column[1] for column in db.execute("PRAGMA table_info(agent_memory)")]
    assert entry == [
        *("gotcha", content, None, None, '["e2e","from-memory"]', 0.725, 1, None, "TASK-7"),
        *("qa_agent", created, updated, "2026-11-15 09:43:58", None),
    ]
    assert uuid.UUID(entry_id).version == 4
    assert rows(db, "agent_memory") == [
        tuple(
            "2026-11-22T09:43:58Z" if name == "promoted_at" else value
            for name, value in zip(names, before[0], strict=True)
        )
    ]
    assert db.execute("SELECT * FROM memory_promotions").fetchall() == [
        (
            *("qa_agent", "error_pattern", "flaky:e2e", entry_id),
            *(sha256(content.encode()).hexdigest(), "2026-11-22T09:43:58Z"),
        )
    ]
    assert rows(db, "memory_events") == [
        (
            *(1, "2026-11-22T09:43:58Z", "memory:promoted", memory, "qa_agent", "error_pattern"),
            *("flaky:e2e", 1),
            json.dumps({"outcome": "promoted", "entry_id": entry_id, "confidence": 0.725}),
        )
    ]
    assert rows(db, "memory_runs", "job, status, counts") == [
        ("promote", "ok", '{"promoted": 1, "merged": 0, "superseded": 0}')
    ]
    assert [answer[name] for name in ("promoted", "merged", "superseded", "remaining")] == [
        *(1, 0, 0, 0)
    ]
    assert answer["agents"] == {"qa_agent": 1}


def test_a_second_run_finds_nothing_to_do(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    for number in range(30):
        proven(value=f"{number} {OTHER}", agent_id=f"agent-{number % 3}")
    first = counts(path)
    before = rows(db, "knowledge_entries"), rows(db, "agent_memory"), rows(db, "memory_events")

    second = counts(path, now=NOW + timedelta(days=1))

    assert (sum(first), second) == (30, (0, 0, 0))
    assert (
        rows(db, "knowledge_entries"),
        rows(db, "agent_memory"),
        rows(db, "memory_events"),
    ) == before


def test_only_the_memories_of_the_named_agent_are_promoted(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(agent_id="qa_agent")
    proven(agent_id="build_agent")

    answer = Memctl(path).ok("promote", "--agent", "qa_agent", "--list", "--json").json

    assert [memory["agent_id"] for memory in answer["listed"]] == ["qa_agent"]
    assert rows(db, "knowledge_entries", "source_agent_id") == [("qa_agent",)]


def test_a_dry_run_reports_what_the_run_then_does(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(agent_id="a", key="k")
    proven(agent_id="b", key="k")
    run(path)
    db.execute("UPDATE agent_memory SET value = ?", (OTHER,))
    proven(agent_id="c", value=NEARLY_TEN)
    proven(agent_id="d", value=NEARLY_TEN)
    proven(agent_id="e", value=f"nothing like it {TEN}"[:20])
    before = everything(path)

    previewed = run(path, dry_run=True, listing=True)
    unchanged = everything(path) == before
    done = run(path, listing=True)

    assert unchanged
    assert (previewed.promoted, previewed.merged, previewed.superseded) == (2, 2, 1)
    assert (done.promoted, done.merged, done.superseded) == (2, 2, 1)
    assert previewed.tally.memories == done.tally.memories


def test_a_dry_run_creates_no_knowledge_base(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()

    previewed = counts(path, dry_run=True)

    assert previewed == (1, 0, 0)
    assert rows(db, "sqlite_schema WHERE name = 'knowledge_entries'") == []


def test_a_run_without_candidates_creates_no_knowledge_base(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(importance=7)

    assert counts(path) == (0, 0, 0)
    assert rows(db, "sqlite_schema WHERE name = 'knowledge_entries'") == []


# Promoted before


def replace_and_prove(db: sqlite3.Connection, value: str, **columns: Any) -> str:
    """Replace the only memory as the service does, and make it a candidate again."""
    ((agent, kind, key),) = rows(db, "agent_memory", "agent_id, type, key")
    db.execute("DELETE FROM agent_memory")
    return insert_memory(
        db,
        agent_id=agent,
        type=kind,
        key=key,
        value=value,
        **(PROVEN | columns),
    )


def test_the_same_text_written_again_adds_no_entry_but_is_marked_again(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()
    run(path)
    before = rows(db, "knowledge_entries"), rows(db, "memory_events")
    replace_and_prove(db, TEN, importance=10)

    again = counts(path, now=NOW + timedelta(days=3))

    assert again == (0, 0, 0)
    assert (rows(db, "knowledge_entries"), rows(db, "memory_events")) == before
    assert rows(db, "agent_memory", "promoted_at") == [("2026-11-22T09:43:58Z",)]


def test_a_text_written_again_must_meet_the_conditions_again(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()
    run(path)
    replace_and_prove(db, OTHER, access_count=0)

    assert counts(path) == (0, 0, 0)
    assert rows(db, "agent_memory", "promoted_at") == [(None,)]


def test_nearly_the_same_text_confirms_its_entry(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()
    run(path)
    memory = replace_and_prove(db, NEARLY_TEN)

    again = [counts(path, now=NOW + timedelta(days=days)) for days in (3, 4)]

    ((entry_id, *entry),) = rows(db, "knowledge_entries", f"id, {ENTRY}, updated_at")
    assert again == [(0, 1, 0), (0, 0, 0)]
    assert entry == ["pattern", TEN, 0.7, 2, "build_agent", "2026-11-25 09:43:58"]
    assert db.execute("SELECT entry_id, content_hash FROM memory_promotions").fetchall() == [
        (entry_id, sha256(NEARLY_TEN.encode()).hexdigest())
    ]
    assert rows(db, "agent_memory", "promoted_at") == [("2026-11-25T09:43:58Z",)]
    assert rows(db, "memory_events WHERE event_id = 2", "memory_id, detail") == [
        (memory, json.dumps({"outcome": "merged", "entry_id": entry_id, "confidence": 0.7}))
    ]


def test_another_text_supersedes_its_entry(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()
    run(path)
    replace_and_prove(db, OTHER)

    again = [counts(path, now=NOW + timedelta(days=days)) for days in (3, 4)]

    (old, *_), (new, *_) = rows(db, "knowledge_entries")
    assert again == [(0, 0, 1), (0, 0, 0)]
    assert rows(db, "knowledge_entries", f"{ENTRY}, superseded_by") == [
        ("pattern", TEN, 0.45, 1, "build_agent", new),
        ("pattern", OTHER, 0.65, 1, "build_agent", None),
    ]
    assert links(db) == [("build_agent", rows(db, "agent_memory", "key")[0][0], OTHER)]
    assert json.loads(rows(db, "memory_events WHERE event_id = 2", "detail")[0][0]) == {
        "outcome": "superseded",
        "entry_id": new,
        "confidence": 0.65,
        "superseded_id": old,
    }


def test_another_agents_entry_with_the_new_text_supersedes_the_old_one(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(agent_id="a", key="k")
    run(path)
    known = add_entry(db, OTHER)
    replace_and_prove(db, OTHER)

    again = counts(path)

    assert again == (0, 0, 1)
    assert rows(db, "knowledge_entries", f"{ENTRY}, superseded_by") == [
        ("pattern", TEN, 0.45, 1, "a", known),
        ("pattern", OTHER, 0.6, 2, "spec_agent", None),
    ]
    assert links(db) == [("a", "k", OTHER)]


def test_a_memory_whose_entry_was_deleted_is_promoted_again(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()
    run(path)
    db.execute("DELETE FROM knowledge_entries")

    again = counts(path)

    assert again == (1, 0, 0)
    assert rows(db, "knowledge_entries", ENTRY) == [("pattern", TEN, 0.65, 1, "build_agent")]


def test_a_memory_is_promoted_again_after_the_knowledge_base_was_dropped(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()
    run(path)
    db.execute("DROP TABLE knowledge_entries")

    assert counts(path, dry_run=True) == (1, 0, 0)
    assert counts(path) == (1, 0, 0)
    assert counts(path) == (0, 0, 0)


def test_an_entry_superseded_by_another_program_stays_so(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()
    run(path)
    other = add_entry(db, "phrased better")
    db.execute("UPDATE knowledge_entries SET superseded_by = ? WHERE id <> ?", (other, other))
    replace_and_prove(db, OTHER)

    again = counts(path)

    assert again == (1, 0, 0)
    assert rows(db, "knowledge_entries", "content, confidence, superseded_by") == [
        (TEN, 0.65, other),
        ("phrased better", 0.5, None),
        (OTHER, 0.65, None),
    ]


@pytest.mark.parametrize("superseded_by", [None, "x"])
def test_an_earlier_entry_with_the_same_text_is_linked_again(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str], superseded_by: str | None
) -> None:
    add_entry(db, id="e", source_agent_id="build_agent", superseded_by=superseded_by)
    before = rows(db, "knowledge_entries")
    proven()

    done = [counts(path, dry_run=True), counts(path), counts(path)]

    assert done == [(0, 1, 0), (0, 1, 0), (0, 0, 0)]
    assert rows(db, "knowledge_entries") == before
    assert rows(db, "agent_memory", "promoted_at") == [("2026-11-22T09:43:58Z",)]


def test_a_current_entry_is_linked_before_a_superseded_one(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    add_entry(db, id="old", source_agent_id="build_agent", superseded_by="x")
    add_entry(db, id="holds", source_agent_id="build_agent")
    proven()

    run(path)

    assert db.execute("SELECT entry_id FROM memory_promotions").fetchall() == [("holds",)]


def test_a_rollback_a_migration_and_a_promotion_enter_nothing_twice(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    memctl = Memctl(path)
    proven(value="a")
    proven(value="b", agent_id="qa_agent", type="error_pattern")
    run(path)
    before = rows(db, "knowledge_entries")

    memctl.ok("rollback", "--to", "1", "--yes")
    memctl.ok("migrate", "--no-backup")
    done = counts(path)

    assert done == (0, 2, 0)
    assert rows(db, "knowledge_entries") == before


# Entries of other agents


def test_an_entry_of_another_agent_is_confirmed_and_not_duplicated(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(agent_id="a", key="k")
    proven(agent_id="b", key="l", value=NEARLY_TEN)
    proven(agent_id="c", key="m", value=f"{TEN} eleven")

    done = counts(path)

    assert done == (1, 2, 0)
    assert rows(db, "knowledge_entries", ENTRY) == [("pattern", TEN, 0.85, 3, "a")]
    assert links(db) == [("a", "k", TEN), ("b", "l", TEN), ("c", "m", TEN)]


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param(
            {"source_agent_id": "build_agent", "content": NEARLY_TEN}, id="the same agent's"
        ),
        pytest.param({"type": "gotcha"}, id="of another type"),
        pytest.param({"superseded_by": "x"}, id="superseded"),
        pytest.param(
            {"content": "one two three four five six seven eight"}, id="exactly four fifths similar"
        ),
    ],
)
def test_an_unsuitable_entry_is_not_confirmed(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str], columns: dict[str, Any]
) -> None:
    add_entry(db, **columns)
    before = rows(db, "knowledge_entries")
    proven()

    done = [counts(path, dry_run=True), counts(path)]

    assert done == [(1, 0, 0)] * 2
    assert rows(db, "knowledge_entries")[:1] == before


def test_the_oldest_of_the_most_similar_entries_is_confirmed(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    for name, content, created_at in [
        ("less similar", NEARLY_TEN, "2020-01-01 00:00:00"),
        ("of no age", TEN, "long ago"),
        ("newer", TEN, "2026-01-02 00:00:00"),
        ("oldest", TEN, "2026-01-01T00:00:00Z"),
        ("as old, but later", TEN, "2026-01-01 00:00:00"),
    ]:
        add_entry(db, content, id=name, created_at=created_at)
    proven()

    run(path)

    assert rows(db, "knowledge_entries WHERE occurrences = 2", "id") == [("oldest",)]


@pytest.mark.parametrize(
    ("confidence", "occurrences", "expected"),
    [
        pytest.param(0.5, 1, (0.6, 2), id="halfway"),
        pytest.param(0.9, 7, (0.95, 8), id="up to 0.95"),
        pytest.param(0.97, 7, (0.97, 8), id="never lowered to 0.95"),
        pytest.param(0.33333, 1, (0.4333, 2), id="rounded"),
        pytest.param(0.5, None, (0.6, 2), id="occurrences not counted so far"),
    ],
)
def test_confirming_raises_confidence_up_to_a_bound(
    db: sqlite3.Connection,
    path: Path,
    proven: Callable[..., str],
    confidence: float,
    occurrences: int | None,
    expected: tuple[float, int],
) -> None:
    add_entry(db, confidence=confidence, occurrences=occurrences)
    proven()

    run(path)

    assert rows(db, "knowledge_entries", "confidence, occurrences") == [expected]


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.65, 0.45), (0.25, 0.1), (0.05, 0.05), (0.33333, 0.1333)],
    ids=["by 0.2", "down to 0.1", "never up to it", "rounded"],
)
def test_superseding_lowers_confidence_down_to_a_bound(
    db: sqlite3.Connection,
    path: Path,
    proven: Callable[..., str],
    confidence: float,
    expected: float,
) -> None:
    proven()
    run(path)
    db.execute("UPDATE knowledge_entries SET confidence = ?", (confidence,))
    replace_and_prove(db, OTHER)

    run(path)

    assert rows(db, "knowledge_entries WHERE superseded_by IS NOT NULL", "confidence") == [
        (expected,)
    ]


# The table


def test_the_service_works_with_the_table_created_by_memctl(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()
    run(path)

    with closing(Service(path)) as service:
        service.db.executescript(SERVICE_TABLE + SERVICE_INDEXES)
        ((known,),) = service.db.execute("SELECT id FROM knowledge_entries").fetchall()
        service.db.execute(
            """
            INSERT INTO knowledge_entries (
                id, type, content, file_patterns, action_types, tags, confidence, occurrences,
                source_execution_id, source_task_id, source_agent_id, superseded_by
            ) VALUES ('new', 'decision', 'text', '[]', '[]', '[]', 1, 1, 'x', 'T', 'a', ?)
            """,
            (known,),
        )
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            service.db.execute("UPDATE knowledge_entries SET type = 'rule'")
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            service.db.execute("UPDATE knowledge_entries SET confidence = 1.1")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            service.db.execute("UPDATE knowledge_entries SET superseded_by = 'nobody'")
    indexes = db.execute("SELECT name FROM pragma_index_list('knowledge_entries') ORDER BY 1")

    assert [name for (name,) in indexes] == [
        *("idx_knowledge_agent", "idx_knowledge_confidence", "idx_knowledge_type"),
        *("idx_knowledge_updated", "sqlite_autoindex_knowledge_entries_1"),
    ]
    assert counts(path) == (0, 0, 0)
    assert is_sound(db)


def test_the_table_created_by_memctl_is_that_of_the_service(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()
    run(path)

    def shape() -> list[tuple[Any, ...]]:
        described = ("table_info", "foreign_key_list", "index_list")
        return [
            row
            for pragma in described
            for row in db.execute(f"PRAGMA {pragma}(knowledge_entries)").fetchall()
        ]

    made = shape()
    db.execute("DROP TABLE knowledge_entries")
    db.executescript(SERVICE_TABLE)

    assert made == shape()


@pytest.mark.parametrize(
    ("schema", "difference"),
    [
        pytest.param(
            "CREATE TABLE knowledge_entries (id TEXT PRIMARY KEY, title TEXT)",
            "it lacks the column action_types",
            id="other columns",
        ),
        pytest.param(
            SERVICE_TABLE.replace("last_used_at TEXT,", "last_used_at TEXT, title TEXT,"),
            "it has the column title",
            id="an additional column",
        ),
        pytest.param(
            SERVICE_TABLE.replace("file_patterns TEXT,", ""),
            "it lacks the column file_patterns",
            id="a missing column",
        ),
        pytest.param(
            SERVICE_TABLE.replace("TEXT PRIMARY KEY", "TEXT"),
            "it has no rowid, or its primary key is not id",
            id="no primary key",
        ),
        pytest.param(
            SERVICE_TABLE.replace(");", ") WITHOUT ROWID;").replace("(id) WITHOUT ROWID", "(id)"),
            "it has no rowid, or its primary key is not id",
            id="without rowid",
        ),
        pytest.param(
            "CREATE VIEW Knowledge_Entries AS SELECT id FROM agent_memory",
            "it is a view",
            id="a view",
        ),
        pytest.param(
            "CREATE INDEX knowledge_entries ON agent_memory (created_at)",
            "it is an index",
            id="an index",
        ),
    ],
)
def test_a_table_of_another_product_is_refused_and_unchanged(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str], schema: str, difference: str
) -> None:
    proven()
    db.executescript(schema)
    before = everything(path)

    previewed = Memctl(path)("promote", "--dry-run", "--list")
    answer = Memctl(path)("promote")

    after = everything(path)
    assert (previewed.exit_code, previewed.out, answer.exit_code, answer.out) == (3, "", 3, "")
    assert (
        answer.err
        == previewed.err
        == (
            f"memctl: knowledge_entries does not have the expected definition: {difference}; "
            "it belongs to another product, and promote cannot use it; nothing was changed\n"
        )
    )
    assert rows(db, "memory_runs", "job, status") == [("promote", "refused")]
    assert {**after, "memory_runs": []} == {**before, "memory_runs": []}


def test_triggers_of_the_knowledge_base_keep_working(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    db.executescript(
        SERVICE_TABLE
        + """
        CREATE TABLE changes (number INTEGER PRIMARY KEY, content);
        INSERT INTO changes VALUES (1000, 'so that the numbers of rows differ');
        CREATE TRIGGER added AFTER INSERT ON knowledge_entries
            BEGIN INSERT INTO changes (content) VALUES (NEW.content); END;
        CREATE TRIGGER confirmed AFTER UPDATE ON knowledge_entries
            BEGIN INSERT INTO changes (content) VALUES (OLD.confidence || NEW.confidence); END;
        """
    )
    proven(agent_id="a")
    proven(agent_id="b")

    done = counts(path)

    assert done == (1, 1, 0)
    assert rows(db, "changes", "content")[1:] == [(TEN,), ("0.650.75",)]


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        pytest.param(
            "CREATE TRIGGER no BEFORE INSERT ON knowledge_entries"
            " BEGIN SELECT RAISE(ABORT, 'closed'); END",
            " (closed)",
            id="a trigger that aborts",
        ),
        pytest.param(
            "CREATE TRIGGER no BEFORE INSERT ON knowledge_entries"
            " BEGIN SELECT RAISE(ROLLBACK, 'closed'); END",
            " (closed)",
            id="a trigger that rolls back",
        ),
        pytest.param(
            "CREATE TRIGGER no BEFORE INSERT ON knowledge_entries BEGIN SELECT RAISE(IGNORE); END",
            "",
            id="a trigger that ignores",
        ),
        pytest.param(
            "CREATE TRIGGER no AFTER INSERT ON knowledge_entries BEGIN DELETE FROM nowhere; END",
            " (no such table: main.nowhere)",
            id="a trigger that is broken",
        ),
        pytest.param(
            "CREATE UNIQUE INDEX one ON knowledge_entries (type)",
            " (UNIQUE constraint failed: knowledge_entries.type)",
            id="a condition",
        ),
    ],
)
def test_an_entry_rejected_by_the_knowledge_base_is_an_error_of_one_line(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str], obstacle: str, reason: str
) -> None:
    add_entry(db, OTHER)
    db.execute(obstacle)
    proven()
    before = everything(path)

    answer = Memctl(path)("promote")

    after = everything(path)
    assert (answer.exit_code, answer.out) == (3, "")
    assert answer.err == (
        f"memctl: knowledge_entries rejects a change by promote{reason}; change its constraint or"
        " trigger; the interrupted step was rolled back\n"
    )
    assert {**after, "memory_runs": []} == {**before, "memory_runs": []}


# Unusual values


ODDITIES: dict[str, dict[str, Any]] = {
    "unicode": {"value": "агент-тест🤖 \u202etfel", "key": "ключ"},
    "NUL inside": {"value": "a\0b", "key": "k\0l"},
    "invalid UTF-8": {"value": b"half \xf0\x9f", "key": b"k\xff", "agent_id": b"a\xff"},
    "a task that is invalid UTF-8": {"value": b'{"description": "d", "taskId": "\xf0"}'},
    "markup and escapes": {"value": "[bold]a[/] \x1b[31mred", "key": "--help"},
    "a name with line breaks": {"agent_id": "two\nlines", "key": "-\n-"},
    "a megabyte": {"value": "word " * 200_000},
    "no last access": {"last_accessed": None, "importance": 9},
    "odd metadata": {"metadata": '["tags"]'},
    "an endless importance": {"importance": 1e999},
}


@pytest.mark.parametrize("columns", ODDITIES.values(), ids=ODDITIES.keys())
@pytest.mark.parametrize("kind", ["error_pattern", "learning"])
def test_odd_texts_are_promoted_byte_for_byte(
    db: sqlite3.Connection,
    path: Path,
    proven: Callable[..., str],
    kind: str,
    columns: dict[str, Any],
) -> None:
    proven(type=kind, key="k")
    for name, value in columns.items():
        form = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
        db.execute(f"UPDATE agent_memory SET {name} = {form}", (value,))
    exact = "CAST(agent_id AS BLOB), CAST(key AS BLOB), CAST(value AS BLOB), last_accessed"
    ((agent, key, value, last_accessed),) = rows(db, "agent_memory", exact)

    answers = [Memctl(path).ok("promote", "--json", "--list").json for _ in range(2)]

    if b"description" in value:
        value = b"d"
    assert [answer["promoted"] for answer in answers] == [1, 0]
    assert rows(
        db,
        "knowledge_entries",
        "typeof(content), CAST(content AS BLOB), CAST(source_agent_id AS BLOB), last_used_at",
    ) == [("text", key + b": " + value if kind == "error_pattern" else value, agent, last_accessed)]
    linked = "SELECT CAST(agent_id AS BLOB), CAST(key AS BLOB) FROM memory_promotions"
    assert db.execute(linked).fetchall() == [(agent, key)]
    assert rows(db, "memory_events", "CAST(agent_id AS BLOB), CAST(key AS BLOB)") == [(agent, key)]


@pytest.mark.parametrize("column", ["agent_id", "key", "value", "metadata"])
def test_a_value_stored_as_bytes_is_promoted_once(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str], column: str
) -> None:
    proven()
    db.execute(f"UPDATE agent_memory SET {column} = x'007bff'")

    assert [counts(path), counts(path)] == [(1, 0, 0), (0, 0, 0)]


# Concurrent changes


def promote_after(path: Path, change: Callable[[], object]) -> PromoteResult:
    """Run the job, with a change between its search and its first batch."""

    def change_then_promote(run: JobContext) -> PromoteResult:
        assert isinstance(run.batches, SqliteBatches)
        batches, hold = run.batches, run.batches._hold

        def change_first(promote_batch: Callable[[], object]) -> float:
            batches._hold = hold  # type: ignore[method-assign]
            change()
            return hold(promote_batch)

        batches._hold = change_first  # type: ignore[assignment,method-assign]
        return promote(run, PromotePolicy(), DecayPolicy())

    result = perform("promote", change_then_promote, JobRequest(path, NOW)).result
    assert result is not None
    return result


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("DELETE FROM knowledge_entries", id="deleted"),
        pytest.param("UPDATE knowledge_entries SET superseded_by = 'x'", id="superseded"),
        pytest.param("UPDATE knowledge_entries SET content = 'of late'", id="rewritten"),
    ],
)
def test_an_entry_changed_before_its_batch_is_not_confirmed(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str], change: str
) -> None:
    add_entry(db, NEARLY_TEN, id="first")
    proven()

    result = promote_after(path, lambda: db.execute(change))

    assert (result.promoted, result.merged) == (1, 0)
    assert rows(db, "knowledge_entries WHERE id <> 'first'", ENTRY) == [
        ("pattern", TEN, 0.65, 1, "build_agent")
    ]


def test_a_memory_changed_before_its_batch_is_promoted_as_changed(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()

    promote_after(path, lambda: db.execute("UPDATE agent_memory SET value = ?", (OTHER,)))

    assert rows(db, "knowledge_entries", "content") == [(OTHER,)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("UPDATE agent_memory SET access_count = 0", id="written again"),
        pytest.param("DELETE FROM agent_memory", id="forgotten"),
    ],
)
def test_a_memory_that_is_no_longer_a_candidate_is_not_promoted(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str], change: str
) -> None:
    proven()

    result = promote_after(path, lambda: db.execute(change))

    assert (result.promoted, result.tally.changed_meanwhile) == (0, 1)
    assert rows(db, "sqlite_schema WHERE name = 'knowledge_entries'") == []


def test_another_memory_in_the_row_of_a_candidate_is_not_promoted(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(type="task:blocker", importance="high")
    ((rowid,),) = rows(db, "agent_memory", "rowid")

    with open_database(path, read_only=True) as connection:
        candidates = find_candidates(
            SqliteStore(connection), PromotePolicy(), DecayPolicy(), agent=None, now=NOW
        )
        promotion = Promotion(
            JobContext(SqliteStore(connection), JobRequest(path, NOW, dry_run=True)),
            candidates,
            has_knowledge=False,
        )
        promotion.prepare(array("q", [rowid]))

    assert promotion.outcomes == {}


def test_a_knowledge_base_created_during_the_run_stops_it(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven()

    with pytest.raises(SchemaError, match="the schema was changed while the job ran"):
        promote_after(path, lambda: db.executescript(SERVICE_TABLE))

    assert rows(db, "knowledge_entries") == []
    assert counts(path) == (1, 0, 0)


# Independence of the schedule


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([("run", 14)], id="on the day it is old enough"),
        pytest.param([("run", 15)], id="a day later"),
        pytest.param([("run", 60)], id="when nothing of its importance is left"),
        pytest.param([("decay", 15), ("decay", 22), ("promote", 60)], id="long after a decay"),
        pytest.param([("decay", 60), ("promote", 60)], id="when decay has brought it to the floor"),
        pytest.param([("decay", 15), ("run", 15)], id="decay twice"),
    ],
)
@pytest.mark.parametrize("rate", [None, 1000])
def test_a_memory_is_promoted_for_its_importance_when_it_was_old_enough(
    db: sqlite3.Connection,
    path: Path,
    proven: Callable[..., str],
    steps: list[tuple[str, int]],
    rate: float | None,
) -> None:
    proven(importance=9, metadata=json.dumps({"decay_rate": rate}))
    proven(importance=7.9, value=OTHER)

    for command, day in steps:
        Memctl(path, NOW + timedelta(days=day - 14)).ok(command)

    assert rows(db, "knowledge_entries", "content, confidence") == [(TEN, 0.675)]


def test_decay_before_a_memory_is_old_enough_counts(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(idle_days=14, importance=8.6)
    proven(idle_days=14, importance=8.7, value=OTHER)

    run(path, now=NOW + timedelta(days=30))

    assert rows(db, "knowledge_entries", "content, confidence") == [(OTHER, 0.65)]


def test_idle_days_that_an_access_left_uncharged_count(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(id="m-1", idle_days=60, importance=9, access_count=4)
    Memctl(path).ok("enable", "access-boost")
    db.execute(
        "UPDATE agent_memory SET access_count = access_count + 1, last_accessed = ?",
        (text_of(NOW),),
    )

    foreseen = Memctl(path).ok("explain", "build_agent", "m-1", "--json").json["active"]
    preview = Memctl(path).ok("promote", "--dry-run", "--json").json
    Memctl(path).ok("promote")

    assert [condition["met"] for condition in foreseen["promotion"]] == [True, False, True, True]
    assert preview["promoted"] == 0
    assert not table_exists(db, "knowledge_entries")
    assert rows(db, "agent_memory", "importance") == [(1.1,)]


def test_a_restored_memory_counts_with_its_present_importance(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    proven(id="m-0", importance=3, value=f"0 {OTHER}")
    proven(id="m-1", importance=8.2, value=f"1 {OTHER}")
    Memctl(path).ok("archive", "build_agent", "m-0", "m-1")
    Memctl(path, NOW + timedelta(days=60)).ok("restore", "build_agent", "m-0", "m-1")

    for command in ("decay", "promote"):
        Memctl(path, NOW + timedelta(days=75)).ok(command)

    assert rows(db, "knowledge_entries", "content, confidence") == [(f"1 {OTHER}", 0.655)]


def test_the_note_on_a_candidate_is_deleted_with_the_memory(
    db: sqlite3.Connection, path: Path, proven: Callable[..., str]
) -> None:
    def notes() -> list[tuple[str, str]]:
        return db.execute("SELECT * FROM memory_state WHERE key GLOB 'candidate:*'").fetchall()

    for name in ("active", "archived", "deleted"):
        proven(id=name, key=name, value=name, importance=9)
    proven(id="not important", importance=7)
    memctl = Memctl(path, NOW + timedelta(days=1))
    memctl.ok("decay")
    before = notes()
    memctl.ok("archive", "build_agent", "archived")
    db.execute("DELETE FROM agent_memory WHERE id = 'deleted'")

    memctl.ok("decay")

    kept = [("candidate:active", "9.0"), ("candidate:archived", "9.0")]
    assert before == [*kept, ("candidate:deleted", "9.0")]
    assert notes() == kept


class Idle(NamedTuple):
    """A memory with the hours before NOW at which it was written and last read."""

    agent: str
    importance: float
    written: int
    read: int
    rate: float | None

    def importance_that_counts(self, floor: float) -> float:
        """Return its remaining importance at an age of 14 days, or at its last read."""
        old_enough = self.written - 14 * 24  # hours before NOW, or negative: after it
        days = max(0, self.read - old_enough) // 24
        rate = 0.1 if self.rate is None else self.rate
        return max(floor, round(self.importance - rate * max(0, days - 7), 6))


IDLE = st.builds(
    Idle,
    agent=st.sampled_from(["a", "b"]),
    importance=st.sampled_from([5, 7.9, 8, 8.05, 8.3, 9, 10]),
    written=st.integers(0, 24 * 20),
    read=st.integers(0, 24 * 20),
    rate=st.sampled_from([None, None, 0, 0.05, 0.3, 2, 1000]),
).filter(lambda memory: memory.read <= memory.written)

# Some hours later; the last is when even the newest is old enough.
SCHEDULE = st.lists(
    st.tuples(st.integers(0, 24 * 40), st.permutations(["decay", "promote"])), max_size=6
).map(lambda turns: [*sorted(turns), (24 * 40, ("decay", "promote"))])


@given(memories=st.lists(IDLE, min_size=1, max_size=8), schedule=SCHEDULE)
@settings(examples(0.5), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_schedule_promotes_the_same_memories_with_the_same_confidence(
    memories: list[Idle], schedule: list[tuple[int, list[str]]], engine: Engine
) -> None:
    floors = {"a": 1.0, "b": 3.0}
    policy = DecayPolicy(overrides=(Override("floor", floors["b"], agent="b"),))
    engine.empty()
    if engine.name == "sqlite":
        with closing(connect(engine.memctl.database)) as db:
            db.execute("DROP TABLE IF EXISTS knowledge_entries")
    engine.fill(
        "agent_memory",
        [
            memory_row(
                agent_id=memory.agent,
                value=f"only{number} in{number} this{number}",
                importance=memory.importance,
                access_count=5,
                metadata=json.dumps({"decay_rate": memory.rate}),
                created_at=text_of(NOW - timedelta(hours=memory.written)),
                last_accessed=text_of(NOW - timedelta(hours=memory.read)),
            )
            for number, memory in enumerate(memories)
        ],
    )

    promoted = 0
    for hours, jobs in schedule:
        request = JobRequest(engine.address, NOW + timedelta(hours=hours), force=True)
        for job in jobs:
            if job == "decay":
                perform("decay", lambda run: decay(run, policy, PromotePolicy()), request)
            else:
                report = perform(
                    "promote", lambda run: promote(run, PromotePolicy(), policy), request
                )
                promoted += report.result.promoted if report.result else 0

    expected = [
        (f"only{number} in{number} this{number}", round(0.65 + 0.025 * min(2, left - 8), 4))
        for number, memory in enumerate(memories)
        if (left := memory.importance_that_counts(floors[memory.agent])) >= 8
    ]
    assert promoted == len(expected)
    if expected:
        found = engine.rows("knowledge_entries")
        assert sorted((row["content"], row["confidence"]) for row in found) == sorted(expected)


# Comparison with an oracle


@dataclass(eq=False)
class Entry:
    """An entry of the knowledge base, as the oracle keeps it."""

    type: str
    content: str
    agent: str
    confidence: float
    occurrences: int = 1
    tags: str | None = None
    task: str | None = None
    superseded_by: "Entry | None" = None


@dataclass
class Memory:
    """An active memory, as the oracle keeps it."""

    id: str
    value: str
    metadata: str | None
    importance: float
    accesses: int = 0
    promoted_at: str | None = None

    def document(self, text: str | None) -> dict[str, Any]:
        """Return a value or metadata as an object, if it is one."""
        return json.loads(text) if text and text.startswith("{") else {}


Name = tuple[str, str, str]  # agent, type, key


@dataclass
class Oracle:
    """The whole database in dictionaries, and the rules in their simplest form."""

    by_agent: bool = False  # memories are promoted agent by agent, else in row order
    memories: dict[Name, Memory] = field(default_factory=dict)  # in row order
    entries: list[Entry] = field(default_factory=list)  # the oldest first
    links: dict[Name, tuple[Entry, str, str]] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)

    def remember(self, name: Name, memory: Memory) -> None:
        """Replace the old row with a new one at the end."""
        self.memories.pop(name, None)
        self.memories[name] = memory

    def promote(self, now: str, *, days: int) -> tuple[int, int, int]:
        """Promote the candidates at a number of days after everything was written.

        Returns how many were promoted, merged and superseded.
        """
        outcomes: Counter[str] = Counter()
        memories = list(self.memories.items())
        if self.by_agent:
            memories.sort(key=lambda item: item[0][0])
        for name, memory in memories:
            agent, kind, _ = name
            lasting = days >= 14 and kind in ("learning", "error_pattern", "success_pattern")
            if not (lasting and memory.importance >= 8 and memory.accesses >= 5):
                continue
            entry = self.entry_of_memory(name, memory)
            linked, text, since = self.links.get(name, (None, "", ""))
            if linked not in self.entries:
                linked = None
            if linked and text == entry.content:
                memory.promoted_at = memory.promoted_at or since
                continue
            if linked and jaccard(entry.content, linked.content) > 0.8:
                outcome = "merged"
                confirm(linked, 0.05)
                entry = linked
            elif linked is None and (same := self.entered_before(entry)):
                outcome = "merged"
                entry = same
            else:
                outcome = "promoted"
                rivals = [
                    other
                    for other in self.entries
                    if (other.type, other.superseded_by) == (entry.type, None)
                    and other.agent != agent
                    and jaccard(entry.content, other.content) > 0.8
                ]
                text = entry.content
                if rivals:
                    outcome = "merged"
                    entry = max(rivals, key=lambda other: jaccard(text, other.content))
                    confirm(entry, 0.10)
                else:
                    self.entries.append(entry)
                if linked and linked.superseded_by is None:
                    outcome = "superseded"
                    linked.superseded_by = entry
                    lowered = max(0.1, round(linked.confidence - 0.2, 4))
                    linked.confidence = min(linked.confidence, lowered)
            self.links[name] = entry, self.entry_of_memory(name, memory).content, now
            memory.promoted_at = now
            outcomes[outcome] += 1
            self.events.append((memory.id, outcome))
        return outcomes["promoted"], outcomes["merged"], outcomes["superseded"]

    def entered_before(self, entry: Entry) -> Entry | None:
        """Return the agent's entry with the same text: a current one, and of those the oldest."""
        same = [
            other
            for other in self.entries
            if (other.agent, other.content) == (entry.agent, entry.content)
        ]
        return min(same, key=lambda other: other.superseded_by is not None, default=None)

    def entry_of_memory(self, name: Name, memory: Memory) -> Entry:
        """Return the knowledge entry of a memory."""
        agent, kind, key = name
        value, metadata = memory.document(memory.value), memory.document(memory.metadata)
        entry_type = "gotcha" if kind == "error_pattern" else "pattern"
        if kind == "learning":
            entry_type = metadata.get("knowledge_type", entry_type)
        content = value.get("description", memory.value)
        confidence = 0.6 + 0.025 * (min(memory.importance, 10) - 8)
        confidence += 0.1 * (agent == "qa_agent") + 0.05 * (entry_type == "pattern")
        return Entry(
            type=entry_type,
            content=f"{key}: {content}" if entry_type == "gotcha" else content,
            agent=agent,
            confidence=min(0.79, round(confidence, 4)),
            tags=json.dumps([*metadata.get("tags", []), "from-memory"], separators=(",", ":")),
            task=metadata.get("taskId") or value.get("taskId"),
        )


def jaccard(some: str, others: str) -> float:
    """Return the share of all words of two texts that is in both."""
    ours, theirs = (set(re.findall(r"\w+", text.lower())) for text in (some, others))
    return len(ours & theirs) / len(ours | theirs)


def confirm(entry: Entry, gain: float) -> None:
    """Count an occurrence, and raise the confidence up to 0.95."""
    entry.occurrences += 1
    raised = min(0.95, round(entry.confidence + gain, 4))
    entry.confidence = max(entry.confidence, raised)


def ten_words(replaced: int, form: str) -> str:
    """Return ten words, of which a number are replaced, as text or in JSON."""
    words = [*"abcdefghij"[replaced:], *"klmnopqrst"[:replaced]]
    text = " ".join(words)
    if form == "text":
        return text
    return json.dumps({"description": text.upper(), "taskId": form}, separators=(",", ":"))


# Few names and texts, so that they coincide often; most of them are candidates.
AGENTS = st.sampled_from(["qa_agent", "a", "b"])
NAMES = st.sampled_from(
    [
        ("a", "learning", "k"),
        ("b", "learning", "k"),
        ("qa_agent", "success_pattern", "l"),
        ("a", "error_pattern", "k"),
        ("b", "context", "k"),
    ]
)
TEXTS = st.sampled_from([0, 9, 1, 2])
VALUES = st.builds(ten_words, TEXTS, st.sampled_from(["text", "text", "T-1"]))
METADATA = st.sampled_from(
    [
        *[None] * 8,
        '{"tags":["x"],"taskId":"T-2"}',
        '{"knowledge_type":"gotcha"}',
        '{"knowledge_type":"decision"}',
    ]
)
LEARN = st.tuples(
    st.just("learn"),
    NAMES,
    VALUES,
    METADATA,
    st.sampled_from([8, 8, 8.5, 10, 10, 7]),
    st.sampled_from([5, 5, 5, 6, 4]),
)
PROMOTE = st.tuples(st.just("promote"), st.sampled_from([14, 14, 14, 20, 13]))
STEPS = st.sampled_from(
    [
        *[LEARN] * 6,
        *[PROMOTE] * 3,
        st.tuples(st.just("forget"), NAMES),
        st.tuples(st.just("drop"), st.integers(0, 5)),
        st.tuples(st.just("supersede"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("enter"), AGENTS, st.builds(ten_words, TEXTS, st.just("text"))),
    ]
).flatmap(lambda step: step)  # one_of would give each kind the same weight


class Real(Protocol):
    """The same steps, done to a real database by its clients and by memctl."""

    address: Address

    def learn(
        self, name: Name, value: str, metadata: str | None, importance: float, accesses: int
    ) -> Memory:
        """Remember and read as a client does; everything was written at NOW, and read later."""

    def forget(self, name: Name) -> None:
        """Delete a memory."""

    def enter(self, agent: str, content: str) -> None:
        """Add an entry of an agent to the knowledge base."""

    def drop(self, place: int) -> None:
        """Delete the entry at a position in their order."""

    def supersede(self, place: int, by: int) -> None:
        """Mark the entry at a position as superseded by another one."""

    def state(self) -> list[Any]:
        """Return everything that the oracle knows, from the database."""

    def close(self) -> None:
        """Disconnect."""


class RealFile:
    """A SQLite file of the service."""

    def __init__(self, path: Path) -> None:
        self.address: Address = path
        self.service = Service(path)
        self.service.db.execute("PRAGMA foreign_keys = OFF")  # an entry may lose its successor
        self.service.db.execute("PRAGMA synchronous = OFF")  # the machine does not lose power here
        self.service.db.executescript(SERVICE_TABLE)
        for table in ("agent_memory", "knowledge_entries", "memory_promotions", "memory_events"):
            self.service.db.execute(f"DELETE FROM {table}")

    def learn(
        self, name: Name, value: str, metadata: str | None, importance: float, accesses: int
    ) -> Memory:
        row = self.service.remember(*name, value, metadata=metadata, importance=importance)
        for _ in range(accesses):
            self.service.recall(*name)
        self.service.db.execute(
            "UPDATE agent_memory SET created_at = '2026-11-22 09:43:58',"
            " last_accessed = '2026-11-29 09:43:58' WHERE id = ?",
            (row["id"],),
        )
        return Memory(row["id"], value, metadata, importance, accesses)

    def forget(self, name: Name) -> None:
        self.service.forget(*name)

    def enter(self, agent: str, content: str) -> None:
        add_entry(self.service.db, content, source_agent_id=agent)

    def drop(self, place: int) -> None:
        self.service.db.execute(
            "DELETE FROM knowledge_entries WHERE rowid = ?", (self._number(place),)
        )

    def supersede(self, place: int, by: int) -> None:
        self.service.db.execute(
            "UPDATE knowledge_entries SET superseded_by ="
            " (SELECT id FROM knowledge_entries WHERE rowid = ?2) WHERE rowid = ?1",
            (self._number(place), self._number(by)),
        )

    def close(self) -> None:
        self.service.close()

    def _number(self, place: int) -> int:
        found = self.service.db.execute(
            "SELECT rowid FROM knowledge_entries ORDER BY rowid LIMIT 1 OFFSET ?", (place,)
        ).fetchone()
        return int(found[0])

    def state(self) -> list[Any]:
        db = self.service.db
        place = "(SELECT count(*) FROM knowledge_entries AS b WHERE b.rowid < {}.rowid)"
        return [
            [tuple(row) for row in db.execute(query)]
            for query in (
                "SELECT id, value, importance, access_count, promoted_at FROM agent_memory"
                " ORDER BY rowid",
                "SELECT type, content, source_agent_id, confidence, occurrences, tags,"
                " source_task_id, superseded_by IS NOT NULL,"
                f" (SELECT {place.format('n')} FROM knowledge_entries AS n"
                " WHERE n.id = e.superseded_by) FROM knowledge_entries AS e ORDER BY rowid",
                "SELECT agent_id, type, key, content_hash, promoted_at,"
                f" (SELECT {place.format('n')} FROM knowledge_entries AS n WHERE n.id = entry_id)"
                " FROM memory_promotions ORDER BY 1, 2, 3",
                "SELECT memory_id, json_extract(detail, '$.outcome') FROM memory_events"
                " ORDER BY event_id",
            )
        ]


class RealServer:
    """A database on a server; entries are ordered by the time when they were added."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.address = engine.address
        self._memories = itertools.count()
        self._entries: list[str] = []
        self._db = psycopg.connect(engine.url, autocommit=True, options="-c timezone=UTC")
        engine.empty()
        self._db.execute(CREATE_KNOWLEDGE_BASE)

    def learn(
        self, name: Name, value: str, metadata: str | None, importance: float, accesses: int
    ) -> Memory:
        self.forget(name)
        memory_id = f"m-{next(self._memories):05}"
        self._db.execute(
            "INSERT INTO agent_memory (agent_id, type, key, id, value, metadata, importance,"
            " access_count, created_at, last_accessed) VALUES (%s, %s, %s, %s, %s, %s, %s, %s,"
            " '2026-11-22 09:43:58', '2026-11-29 09:43:58')",
            (*name, memory_id, value, metadata, importance, accesses),
        )
        return Memory(memory_id, value, metadata, importance, accesses)

    def forget(self, name: Name) -> None:
        self._db.execute(
            "DELETE FROM agent_memory WHERE agent_id = %s AND type = %s AND key = %s", name
        )

    def enter(self, agent: str, content: str) -> None:
        self._order_entries()
        entry_id = str(uuid.uuid4())
        self._db.execute(
            "INSERT INTO knowledge_entries (id, type, content, source_agent_id)"
            " VALUES (%s, 'pattern', %s, %s)",
            (entry_id, content, agent),
        )
        self._entries.append(entry_id)
        self._order_entries()

    def drop(self, place: int) -> None:
        self._order_entries()
        self._db.execute("DELETE FROM knowledge_entries WHERE id = %s", (self._entries[place],))
        del self._entries[place]

    def supersede(self, place: int, by: int) -> None:
        self._order_entries()
        self._db.execute(
            "UPDATE knowledge_entries SET superseded_by = %s WHERE id = %s",
            (self._entries[by], self._entries[place]),
        )

    def close(self) -> None:
        self._db.close()

    def state(self) -> list[Any]:
        self._order_entries()
        places = {entry_id: place for place, entry_id in enumerate(self._entries)}
        entries = {
            row[0]: (*row[1:8], int(row[8] is not None), places.get(row[8]))
            for row in self._db.execute(
                "SELECT id, type, content, source_agent_id, confidence, occurrences, tags,"
                " source_task_id, superseded_by FROM knowledge_entries"
            )
        }
        assert entries.keys() == places.keys()
        links = self._db.execute(
            f"SELECT agent_id, type, key, content_hash, {our_text('promoted_at')}, entry_id"
            " FROM memory_promotions ORDER BY 1, 2, 3"
        )
        return [
            self._db.execute(
                f"SELECT id, value, importance, access_count, {our_text('promoted_at')}"
                " FROM agent_memory ORDER BY id"
            ).fetchall(),
            [entries[entry_id] for entry_id in self._entries],
            [(*row[:5], places.get(row[5])) for row in links],
            self._db.execute(
                "SELECT memory_id, detail::json ->> 'outcome' FROM memory_events ORDER BY event_id"
            ).fetchall(),
        ]

    def _order_entries(self) -> None:
        """Add those that promotions have made, in the order of the events, one second apart."""
        events = self._db.execute(
            "SELECT detail::json ->> 'entry_id' FROM memory_events ORDER BY event_id"
        )
        known = {row[0] for row in self._db.execute("SELECT id FROM knowledge_entries")}
        new = [entry_id for (entry_id,) in events if entry_id in known]
        self._entries = list(dict.fromkeys([*self._entries, *new]))
        self._db.execute(
            "UPDATE knowledge_entries SET created_at = timestamptz '2026-01-01 00:00:00Z'"
            " + place * interval '1 second'"
            " FROM unnest(%s::text[]) WITH ORDINALITY AS entry (id, place)"
            " WHERE knowledge_entries.id = entry.id",
            (self._entries,),
        )


def state_of(oracle: Oracle) -> list[Any]:
    """Return everything that the oracle knows, in the same form as the database."""

    def place(entry: Entry | None) -> int | None:
        places = [number for number, other in enumerate(oracle.entries) if other is entry]
        return places[0] if places else None

    return [
        [
            (memory.id, memory.value, memory.importance, memory.accesses, memory.promoted_at)
            for memory in oracle.memories.values()
        ],
        [
            (
                *(entry.type, entry.content, entry.agent, entry.confidence, entry.occurrences),
                *(entry.tags, entry.task, int(entry.superseded_by is not None)),
                place(entry.superseded_by),
            )
            for entry in oracle.entries
        ],
        [
            (*name, sha256(content.encode()).hexdigest(), since, place(entry))
            for name, (entry, content, since) in sorted(oracle.links.items())
        ],
        oracle.events,
    ]


@given(steps=st.lists(STEPS, min_size=25, max_size=50))
@settings(examples(0.5), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_matches_the_oracle_row_for_row(
    steps: list[tuple[Any, ...]], engine: Engine
) -> None:
    oracle = Oracle(by_agent=isinstance(engine, PostgresEngine))
    real: Real
    if isinstance(engine, PostgresEngine):
        real = RealServer(engine)
    else:
        real = RealFile(engine.memctl.database)
    with closing(real):
        for number, (step, *given_) in enumerate([*steps, ("promote", 20)]):
            if step == "learn":
                oracle.remember(given_[0], real.learn(*given_))
            elif step == "forget":
                oracle.memories.pop(given_[0], None)
                real.forget(given_[0])
            elif step == "promote":
                now = NOW + timedelta(days=given_[0], minutes=number)
                expected = oracle.promote(now.strftime("%Y-%m-%dT%H:%M:%SZ"), days=given_[0])
                foreseen = counts(real.address, now=now, force=True, dry_run=True)
                done = counts(real.address, now=now, force=True)
                assert foreseen == done == expected
            elif step == "enter":
                oracle.entries.append(Entry("pattern", given_[1], given_[0], 0.5))
                real.enter(*given_)
            elif all(place < len(oracle.entries) for place in given_):
                entries = [oracle.entries[place] for place in given_]
                if step == "drop":
                    oracle.entries.remove(entries[0])
                    real.drop(*given_)
                else:
                    entries[0].superseded_by = entries[1]
                    real.supersede(*given_)

        assert real.state() == state_of(oracle)
