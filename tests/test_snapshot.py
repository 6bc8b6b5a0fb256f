"""Snapshots of a day's figures: every event counts on its own day, whatever the schedule."""

import json
import random
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.policies import PrunePolicy
from memctl.insight.metrics import read_history
from memctl.insight.report import ReportPolicies, read_report
from memctl.jobs.archive import archive
from memctl.jobs.cleanup import cleanup
from memctl.jobs.engine import JobContext, JobRequest, JobResult, perform
from memctl.jobs.prune import prune
from memctl.jobs.snapshot import snapshot
from memctl.storage.sqlite.snapshots import COLUMNS, SqliteSnapshots
from tests.support.database import connect, insert_memory, rows, text_of
from tests.support.program import NOW, Memctl
from tests.support.service import Service

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def kept(db: sqlite3.Connection, *columns: str) -> list[tuple[Any, ...]]:
    """Return columns of all rows of memory_analytics."""
    listed = ", ".join(columns)
    return db.execute(
        f"SELECT {listed} FROM memory_analytics ORDER BY snapshot_date, agent_id, type"
    ).fetchall()


def read(service: Service, memory_id: str, *, at: datetime) -> None:
    """Read a memory as the service does, at a given time."""
    service.db.execute(
        "UPDATE agent_memory SET access_count = access_count + 1, last_accessed = ? WHERE id = ?",
        (text_of(at), memory_id),
    )


def test_a_snapshot_has_a_row_for_each_agent_and_type(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(key="ab", value="ü", metadata="{}", importance=7.5)
    remember(key="a", value="x", importance="high")
    remember(key="gone", value="x", expired_for=HOUR)
    remember(agent_id="qa_agent", type="context", key="k", value="v", access_count=2)
    migrated.ok("cleanup")

    answer = migrated.at(NOW + HOUR).ok("snapshot", "--json").json

    assert {name: answer[name] for name in ("rows", "agents", "remaining")} == {
        "rows": 2,
        "agents": {"build_agent": 1, "qa_agent": 1},
        "remaining": 0,
    }
    assert [dict(zip(COLUMNS, row, strict=True)) for row in kept(db, *COLUMNS)] == [
        {
            "snapshot_date": "2026-11-22",
            "agent_id": "build_agent",
            "type": "learning",
            "period_start": "2026-11-22T09:43:58Z",
            "period_end": "2026-11-22T10:43:58Z",
            "last_event_id": 2,
            "memories": 2,
            "archived_memories": 1,
            "importance_count": 1,
            "importance_sum": 7.5,
            "active_bytes": 8,
            "archived_bytes": 5,
            "accesses_that_day": 0,
            "accessed_memories": 0,
            "accesses": None,
            "expired": 1,
            "archived": 1,
            "restored": 0,
            "pruned": 0,
            "promoted": 0,
        },
        {
            "snapshot_date": "2026-11-22",
            "agent_id": "qa_agent",
            "type": "context",
            "period_start": "2026-11-22T09:43:58Z",
            "period_end": "2026-11-22T10:43:58Z",
            "last_event_id": 2,
            "memories": 1,
            "archived_memories": 0,
            "importance_count": 1,
            "importance_sum": 5.0,
            "active_bytes": 2,
            "archived_bytes": 0,
            "accesses_that_day": 0,
            "accessed_memories": 1,
            "accesses": None,
            "expired": 0,
            "archived": 0,
            "restored": 0,
            "pruned": 0,
            "promoted": 0,
        },
    ]


def test_a_second_snapshot_of_a_day_replaces_the_first(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=HOUR)
    migrated.ok("cleanup")
    migrated.at(NOW + HOUR).ok("snapshot")
    remember(expired_for=HOUR, agent_id="qa_agent")
    migrated.at(NOW + 2 * HOUR).ok("cleanup")

    migrated.at(NOW + 3 * HOUR).ok("snapshot")

    assert kept(db, "period_start", "period_end", "agent_id", "expired") == [
        ("2026-11-22T09:43:58Z", "2026-11-22T12:43:58Z", "build_agent", 1),
        ("2026-11-22T09:43:58Z", "2026-11-22T12:43:58Z", "qa_agent", 1),
    ]


def history(path: Path, *, now: datetime, span: timedelta = 30 * DAY) -> list[tuple[Any, ...]]:
    """Return the memories and the events of each day in `metrics --history`."""
    with closing(connect(path)) as db:
        days = read_history(SqliteSnapshots(db), now - span, now=now).of_all()
    return [
        (
            day.date,
            day.figures and day.figures.memories,
            day.changes.expired,
            day.changes.archived,
            day.changes.pruned,
            day.changes.promoted,
        )
        for day in days
    ]


def test_events_of_a_day_without_snapshot_count_on_that_day(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(key="stays")
    migrated.ok("snapshot")
    remember(expired_for=HOUR)
    migrated.at(NOW + DAY).ok("cleanup")

    migrated.at(NOW + 3 * DAY).ok("snapshot")

    assert kept(db, "snapshot_date", "period_start", "period_end", "expired") == [
        ("2026-11-22", "2026-11-22T09:43:58Z", "2026-11-22T09:43:58Z", 0),
        ("2026-11-25", "2026-11-25T00:00:00Z", "2026-11-25T09:43:58Z", 0),
    ]
    assert history(migrated.database, now=NOW + 3 * DAY) == [
        ("2026-11-22", 1, 0, 0, 0, 0),
        ("2026-11-23", None, 1, 1, 0, 0),
        ("2026-11-24", None, 0, 0, 0, 0),
        ("2026-11-25", 1, 0, 0, 0, 0),
    ]


def test_the_next_snapshot_adds_later_events_of_the_day_before(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(key="stays")
    remember(expired_for=HOUR, type="context")
    migrated.ok("snapshot")
    migrated.at(NOW + HOUR).ok("cleanup")
    before = kept(db, "snapshot_date", "type", "memories", "expired", "period_end")

    migrated.at(NOW + DAY).ok("snapshot")

    assert before == [
        ("2026-11-22", "context", 1, 0, "2026-11-22T09:43:58Z"),
        ("2026-11-22", "learning", 1, 0, "2026-11-22T09:43:58Z"),
    ]
    assert kept(db, "snapshot_date", "type", "memories", "expired", "period_end") == [
        ("2026-11-22", "context", 1, 1, "2026-11-22T09:43:58Z"),
        ("2026-11-22", "learning", 1, 0, "2026-11-22T09:43:58Z"),
        ("2026-11-23", "context", 0, 0, "2026-11-23T09:43:58Z"),
        ("2026-11-23", "learning", 1, 0, "2026-11-23T09:43:58Z"),
    ]


def test_pruned_events_are_counted_from_the_snapshots(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=HOUR)
    migrated.ok("cleanup")
    migrated.ok("snapshot")
    db.execute("DELETE FROM memory_events")

    now = NOW + 366 * DAY
    days = read_history(SqliteSnapshots(db), NOW - DAY, now=now).of_all()

    assert [(day.date, day.changes.expired) for day in days if day.changes.expired] == [
        ("2026-11-22", 1)
    ]


def test_an_agent_without_memories_has_a_row_for_its_events(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=HOUR)
    migrated.ok("cleanup")
    migrated.ok("restore", "--run", "1")
    db.execute("DELETE FROM agent_memory")

    migrated.ok("snapshot")
    migrated.at(NOW + DAY).ok("snapshot")

    assert kept(db, "snapshot_date", "memories", "archived_memories", "expired", "restored") == [
        ("2026-11-22", 0, 0, 1, 1)
    ]


def test_a_snapshot_does_not_change_rows_of_later_days(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(key="stays")
    remember(expired_for=HOUR)
    migrated.at(NOW + 40 * DAY).ok("cleanup")
    migrated.at(NOW + 40 * DAY).ok("snapshot")

    migrated.ok("snapshot", "--force")

    assert kept(db, "snapshot_date", "memories", "expired") == [
        ("2026-11-22", 1, 0),
        ("2027-01-01", 1, 1),
    ]
    assert history(migrated.database, now=NOW)[0] == ("2026-11-22", 1, 0, 0, 0, 0)


def test_an_access_counts_on_its_day_whenever_snapshots_run(
    db: sqlite3.Connection, migrated: Memctl, service: Service, remember: Callable[..., str]
) -> None:
    memory = remember()
    migrated.ok("enable", "access-counting")
    read(service, memory, at=NOW)
    migrated.ok("snapshot")
    read(service, memory, at=NOW)
    read(service, memory, at=NOW + HOUR)
    read(service, memory, at=NOW + DAY)
    migrated.at(NOW + DAY).ok("snapshot")
    read(service, memory, at=NOW + DAY + HOUR)
    migrated.at(NOW + DAY + 2 * HOUR).ok("snapshot")
    read(service, memory, at=NOW + DAY + 3 * HOUR)

    migrated.at(NOW + 2 * DAY).ok("snapshot")

    assert kept(db, "snapshot_date", "accesses_that_day", "accesses", "accessed_memories") == [
        ("2026-11-22", 3, None, 1),
        ("2026-11-23", 3, 3, 1),
        ("2026-11-24", 0, 0, 1),
    ]


def test_accesses_are_unknown_for_a_day_that_was_only_partly_counted(
    db: sqlite3.Connection, migrated: Memctl, service: Service, remember: Callable[..., str]
) -> None:
    memory = remember()
    migrated.ok("snapshot")
    migrated.at(NOW + HOUR).ok("enable", "access-counting")
    read(service, memory, at=NOW + HOUR)
    migrated.at(NOW + DAY).ok("snapshot")
    read(service, memory, at=NOW + DAY)
    migrated.at(NOW + 2 * DAY).ok("snapshot")
    counted = kept(db, "snapshot_date", "accesses")
    db.execute("DROP TRIGGER memctl_access_counting")

    migrated.at(NOW + 3 * DAY).ok("snapshot")

    assert counted == [("2026-11-22", None), ("2026-11-23", 1), ("2026-11-24", 0)]
    assert kept(db, "snapshot_date", "accesses") == [
        ("2026-11-22", None),
        ("2026-11-23", 1),
        ("2026-11-24", None),
        ("2026-11-25", None),
    ]


def test_writing_a_memory_does_not_count_as_an_access(
    db: sqlite3.Connection, migrated: Memctl, service: Service
) -> None:
    service.remember("build_agent", "learning", "k", "v")

    migrated.at(datetime.now(NOW.tzinfo) + DAY).ok("snapshot")

    assert kept(db, "memories", "accessed_memories") == [(1, 0)]


@pytest.mark.parametrize("importance", [9e999, -9e999, "", None, b"9", -(2**63)])
def test_an_invalid_importance_is_left_out_of_the_average(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str], importance: Any
) -> None:
    remember(importance=importance)
    remember(importance=4)

    migrated.ok("snapshot")

    assert kept(db, "memories", "importance_count", "importance_sum") == [(2, 1, 4.0)]


def test_names_in_invalid_utf_8_are_stored_unchanged(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember()
    db.execute("UPDATE agent_memory SET agent_id = CAST(x'ff00fe' AS TEXT)")

    migrated.ok("snapshot")

    assert kept(db, "typeof(agent_id)", "CAST(agent_id AS BLOB)") == [("text", b"\xff\x00\xfe")]


def test_a_preview_counts_the_rows_and_writes_none(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember()

    answer = migrated.ok("snapshot", "--dry-run")

    assert answer.err == "snapshot: would record today's figures in 1 row\n"
    assert kept(db, "*") == []
    assert rows(db, "memory_runs") == []


def test_the_ledger_records_a_snapshot(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember()

    migrated.ok("snapshot")

    (row,) = rows(db, "memory_runs", "job, status, counts, longest_lock_ms > 0")
    assert (*row[:2], json.loads(row[2]), row[3]) == ("snapshot", "ok", {"rows": 1}, 1)


@pytest.mark.parametrize("option", ["--agent=build_agent", "--list", "--max-seconds=5"])
def test_snapshot_has_no_option_for_part_of_its_work(migrated: Memctl, option: str) -> None:
    answer = migrated("snapshot", option)

    assert (answer.exit_code, answer.out) == (2, "")
    assert answer.err.startswith(f"memctl: no such option: {option.partition('=')[0]}; ")


def test_a_killed_snapshot_is_complete_or_had_no_effect(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.execute("BEGIN")
    for number in range(600):
        insert_memory(db, agent_id=f"agent-{number}")
    db.execute("COMMIT")
    migrated.ok("snapshot")
    chance = random.Random(20261122)
    found = []

    for number in range(12):
        process = migrated.at(NOW + (number + 1) * HOUR).start("snapshot")
        try:
            process.communicate(timeout=chance.uniform(0.02, 0.2))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        found.append(kept(db, "count(*)", "count(DISTINCT period_end)"))

    assert found == [[(600, 1)]] * 12


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("remember"), st.sampled_from(["a", "b", "c"])),
        st.tuples(
            st.sampled_from(["cleanup", "archive", "prune", "snapshot", "snapshot"]), st.just("")
        ),
        st.tuples(
            st.just("wait"),
            st.sampled_from([timedelta(0), HOUR, 5 * HOUR, DAY, 8 * DAY, -HOUR, -3 * DAY]),
        ),
    ),
    min_size=8,
    max_size=40,
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A migrated database that all examples share, one after the other."""
    path = tmp_path_factory.mktemp("snapshot") / "memory.db"
    with closing(Service(path)):
        Memctl(path).ok("migrate", "--no-backup")
        yield path


EVENTS_OF = {
    "expired": ("memory:expired",),
    "archived": ("memory:expired", "memory:forgotten", "by hand"),
    "pruned": ("memory:pruned",),
    "promoted": ("memory:promoted",),
}


def events_by_day(db: sqlite3.Connection) -> dict[str, Counter[str]]:
    """Count the events of each day; archiving without a cause is `by hand`."""
    days: dict[str, Counter[str]] = {}
    for at, event, detail in rows(db, "memory_events", "at, event, detail"):
        if event == "memory:archived" and json.loads(detail or "{}").get("reason") == "manual":
            event = "by hand"
        days.setdefault(at[:10], Counter())[event] += 1
    return days


@given(moves=MOVES)
def test_every_event_counts_on_its_own_day_whatever_the_schedule(
    moves: list[tuple[str, Any]], database: Path
) -> None:
    with closing(connect(database)) as db:
        db.execute("PRAGMA synchronous = OFF")
        for table in ("agent_memory", "archived_memories", "memory_events", "memory_analytics"):
            db.execute(f"DELETE FROM {table}")

        def archive_all(run: JobContext) -> JobResult:
            ids = [found for (found,) in db.execute("SELECT id FROM agent_memory WHERE id > 'h'")]
            return archive(run, agent="a", ids=ids)

        jobs: dict[str, Callable[[Any], Any]] = {
            "cleanup": cleanup,
            "archive": archive_all,
            "prune": lambda run: prune(run, PrunePolicy(retention=HOUR)),
            "snapshot": snapshot,
        }
        now = latest = NOW
        for number, (move, what) in enumerate(moves):
            if move == "remember":
                insert_memory(db, agent_id=what, expired_for=timedelta(days=9))
            elif move == "wait":
                now += what
                latest = max(now, latest)
            elif move == "archive":
                insert_memory(db, agent_id="a", id=f"hand-{number}")
                perform(move, jobs[move], JobRequest(database, now, force=True))
            else:
                perform(move, jobs[move], JobRequest(database, now, force=True))

        perform("snapshot", snapshot, JobRequest(database, now, force=True))

        expected = {
            day: tuple(sum(events[event] for event in EVENTS_OF[name]) for name in EVENTS_OF)
            for day, events in events_by_day(db).items()
        }
        shown = {
            day: changes
            for day, _, *changes in history(database, now=latest + DAY, span=600 * DAY)
            if any(changes)
        }
        report = read_report(
            db, database, ReportPolicies(), since=NOW - 200 * DAY, now=latest + DAY
        )
        stored = db.execute(
            f"SELECT snapshot_date, {', '.join(f'total({name})' for name in EVENTS_OF)}"
            " FROM memory_analytics GROUP BY snapshot_date"
        ).fetchall()
        assert shown == {day: [*events] for day, events in expected.items() if any(events)}
        assert {
            day.day: [day.expired, day.expired + day.archived, day.pruned, day.promoted]
            for day in report.changes
            if day.expired + day.archived + day.pruned
        } == shown
        nothing = tuple(0 for _ in EVENTS_OF)
        assert [tuple(row) for row in stored] == [
            (day, *expected.get(day, nothing)) for day, *_ in stored
        ]
