"""The counters for Prometheus never decrease, although old events and runs are deleted."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.storage.sqlite import counters
from memctl.storage.sqlite.batches import SqliteBatches
from memctl.storage.sqlite.counters import read_counters
from memctl.storage.sqlite.prune import delete_old_records
from memctl.storage.times import to_text
from tests.support.database import connect, rows
from tests.support.program import NOW, Memctl

DAY = timedelta(days=1)


def totals(memctl: Memctl) -> dict[str, float]:
    """Return the counters that are not 0, by name and labels."""
    text = memctl.ok("metrics", "--prometheus").out
    of_database = f'database="{memctl.database}"'
    samples = re.findall(r"^memctl_(\w+_total)\{(.*)\} (\S+)$", text, re.MULTILINE)
    return {
        f"{name} {labels.removeprefix(of_database).lstrip(',')}".strip(): float(value)
        for name, labels, value in samples
        if float(value)
    }


def test_the_counters_count_what_happened(
    migrated: Memctl, db: sqlite3.Connection, remember: Callable[..., str], tmp_path: Path
) -> None:
    for key in ("a", "b"):
        remember(key=key, importance=2, expired_for=timedelta(hours=1))
    remember(key="idle", importance=9, idle_days=20)
    remember(key="proven", importance=10, access_count=9, created_at="2026-10-23 09:43:58")
    forgotten = remember(key="forgotten")
    remember(key="old", type="context")
    migrated.ok("run")
    migrated.ok("forget", "build_agent", "learning", "forgotten")
    migrated.ok("remember", "build_agent", "context", "old", "new", "--keep-replaced")
    migrated.ok("restore", "build_agent", forgotten)
    document = str(tmp_path / "document.json")
    migrated.ok("export", "build_agent", "-o", document)
    db.execute("DELETE FROM agent_memory WHERE key = 'idle'")
    migrated.ok("import", "build_agent", document)
    migrated.at(NOW + DAY).ok("prune", "--older-than", "1h")
    migrated.at(NOW + DAY)("decay", "--agent", "nobody")

    assert totals(migrated.at(NOW + DAY)) == {
        'memories_archived_total reason="expired"': 2,
        'memories_archived_total reason="forgotten"': 1,
        'memories_archived_total reason="replaced"': 1,
        "memories_restored_total": 1,
        "memories_pruned_total": 3,
        "memories_decayed_total": 1,
        "memories_promoted_total": 1,
        "memories_imported_total": 1,
        'runs_total job="cleanup",status="ok"': 1,
        'runs_total job="decay",status="ok"': 1,
        'runs_total job="decay",status="refused"': 1,
        'runs_total job="import",status="ok"': 1,
        'runs_total job="promote",status="ok"': 1,
        'runs_total job="prune",status="ok"': 2,
        'runs_total job="restore",status="ok"': 1,
        'runs_total job="snapshot",status="ok"': 1,
    }


def test_deleting_old_events_and_runs_changes_no_counter(
    migrated: Memctl, db: sqlite3.Connection, remember: Callable[..., str]
) -> None:
    long_ago = migrated.at(NOW - 400 * DAY)
    remember(key="expired", importance=9, expires_at="2020-01-01")
    remember(key="idle", importance=9, last_accessed="2025-01-01 00:00:00")
    long_ago.ok("cleanup")
    long_ago.ok("decay")
    long_ago.ok("snapshot")
    db.execute("DELETE FROM archived_memories")  # as long as there are any, their run stays
    remember(key="new")  # a service that wrote today makes the clock credible
    migrated.ok("forget", "build_agent", "learning", "new")
    before = totals(migrated)

    migrated.ok("prune")

    assert rows(db, "memory_runs", "job") == [("prune",)]
    assert rows(db, "memory_events", "event") == [("memory:forgotten",), ("memory:archived",)]
    assert before['memories_archived_total reason="expired"'] == 1
    assert totals(migrated) == {**before, 'runs_total job="prune",status="ok"': 1}


def test_a_crashed_run_counts_as_failed_when_it_is_deleted(
    migrated: Memctl, db: sqlite3.Connection, remember: Callable[..., str]
) -> None:
    db.execute(
        "INSERT INTO memory_runs (job, started_at, status, memctl_version, host, pid)"
        " VALUES ('decay', '2025-01-01T00:00:00Z', 'running', '0', 'h', 1)"
    )
    remember()
    before = totals(migrated)

    migrated.ok("prune")

    assert before == {}
    assert totals(migrated) == {
        'runs_total job="decay",status="failed"': 1,
        'runs_total job="prune",status="ok"': 1,
    }


KINDS = ["memory:expired", "memory:archived", "memory:restored", "memory:decayed", "memory:alert"]
EXPIRED, DECAYED = '{"reason": "expired"}', '{"decayed": 3}'
DETAILS = [None, EXPIRED, DECAYED, "not JSON", "[]"]


@given(
    periods=st.lists(
        st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(DETAILS)), max_size=9),
        min_size=1,
        max_size=5,
    ),
    page=st.integers(1, 5),
)
def test_counters_are_those_of_a_database_that_deletes_nothing(
    template: Path, periods: list[list[tuple[str, str | None]]], page: int
) -> None:
    insert = "INSERT INTO memory_events (at, event, detail) VALUES (?, ?, ?)"
    events: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        with closing(connect(template)) as source:
            source.backup(db)
        for number, period in enumerate(periods):
            day = NOW + number * DAY
            for event, detail in period:
                db.execute(insert, (to_text(day), event, detail))
                events[event] += 3 * (detail == DECAYED) if event == "memory:decayed" else 1
                if event == "memory:archived":
                    reasons["expired" if detail == EXPIRED else "unknown"] += 1

            with pytest.MonkeyPatch.context() as small:
                small.setattr(counters, "PAGE_EVENTS", page)
                delete_old_records(db, SqliteBatches(db), before=day)

            found = read_counters(db)
            assert (+found.events, found.archived) == (+events, reasons)
