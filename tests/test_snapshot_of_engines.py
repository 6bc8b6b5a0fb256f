"""Snapshots on each engine: the same rows for the same memories and events."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memctl.config.policies import PrunePolicy
from memctl.insight.metrics import read_history
from memctl.jobs.cleanup import cleanup
from memctl.jobs.engine import JobContext, JobRequest, perform
from memctl.jobs.prune import prune
from memctl.jobs.snapshot import SnapshotResult, snapshot
from memctl.storage.engines import open_store
from tests.support.database import memory_row
from tests.support.engines import Engine, PostgresEngine
from tests.support.program import NOW

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def kept(engine: Engine, *columns: str) -> list[tuple[Any, ...]]:
    """Return columns of all rows of memory_analytics, by day, agent and type."""
    found = engine.rows("memory_analytics")
    found.sort(key=lambda row: (row["snapshot_date"], row["agent_id"], row["type"]))
    return [tuple(row[column] for column in columns) for row in found]


def history(engine: Engine, *, now: datetime, span: timedelta = 30 * DAY) -> list[tuple[Any, ...]]:
    """Return the memories and the events of each day in `metrics --history`."""
    with open_store(engine.address, read_only=True) as store:
        days = read_history(store.snapshots, now - span, now=now).of_all()
    return [
        (day.date, day.figures and day.figures.memories, day.changes.expired, day.changes.archived)
        for day in days
    ]


def test_a_snapshot_has_a_row_for_each_agent_and_type(engine: Engine) -> None:
    engine.insert(key="ab", value="ü", metadata="{}", importance=7.5)
    engine.insert(key="a", value="x", importance=None)
    engine.insert(key="gone", value="x", expired_for=HOUR)
    engine.insert(agent_id="qa_agent", type="context", key="k", value="v", access_count=2)
    engine.memctl.ok("cleanup")
    last_event = engine.memctl.ok("events", "--json").json[-1]["event_id"]

    answer = engine.memctl.at(NOW + HOUR).ok("snapshot", "--json").json

    assert {name: answer[name] for name in ("rows", "agents", "remaining")} == {
        "rows": 2,
        "agents": {"build_agent": 1, "qa_agent": 1},
        "remaining": 0,
    }
    rows = {row["agent_id"]: row for row in engine.rows("memory_analytics")}
    assert {row["last_event_id"] for row in rows.values()} == {last_event}
    names = (
        *("memories", "archived_memories", "importance_count", "importance_sum"),
        *("active_bytes", "archived_bytes", "accesses_that_day", "accessed_memories", "accesses"),
        *("expired", "archived", "restored", "pruned", "promoted"),
    )
    assert [[rows[agent][name] for name in names] for agent in ("build_agent", "qa_agent")] == [
        [2, 1, 1, 7.5, 8, 5, 0, 0, None, 1, 1, 0, 0, 0],
        [1, 0, 1, 5.0, 2, 0, 0, 1, None, 0, 0, 0, 0, 0],
    ]


def test_a_second_snapshot_of_a_day_replaces_the_first(engine: Engine) -> None:
    for number, agent in enumerate(("build_agent", "qa_agent")):
        engine.insert(agent_id=agent, expired_for=HOUR)
        engine.memctl.at(NOW + 2 * number * HOUR).ok("cleanup")
        engine.memctl.at(NOW + (2 * number + 1) * HOUR).ok("snapshot")

    assert kept(engine, "snapshot_date", "agent_id", "expired") == [
        ("2026-11-22", "build_agent", 1),
        ("2026-11-22", "qa_agent", 1),
    ]


def test_the_next_snapshot_adds_later_events_of_the_day_before(engine: Engine) -> None:
    engine.insert(key="stays")
    engine.insert(expired_for=HOUR, type="context")
    engine.memctl.ok("snapshot")
    engine.memctl.at(NOW + HOUR).ok("cleanup")
    before = kept(engine, "snapshot_date", "type", "memories", "expired")

    engine.memctl.at(NOW + DAY).ok("snapshot")

    assert before == [
        ("2026-11-22", "context", 1, 0),
        ("2026-11-22", "learning", 1, 0),
    ]
    assert kept(engine, "snapshot_date", "type", "memories", "expired") == [
        ("2026-11-22", "context", 1, 1),
        ("2026-11-22", "learning", 1, 0),
        ("2026-11-23", "context", 0, 0),
        ("2026-11-23", "learning", 1, 0),
    ]


def test_a_snapshot_does_not_change_rows_of_later_days(engine: Engine) -> None:
    engine.insert(key="stays")
    engine.insert(expired_for=HOUR)
    engine.memctl.at(NOW + 40 * DAY).ok("cleanup")
    engine.memctl.at(NOW + 40 * DAY).ok("snapshot")

    engine.memctl.ok("snapshot", "--force")

    assert kept(engine, "snapshot_date", "memories", "expired") == [
        ("2026-11-22", 1, 0),
        ("2027-01-01", 1, 1),
    ]
    assert history(engine, now=NOW)[0] == ("2026-11-22", 1, 0, 0)


def test_a_preview_counts_the_rows_and_writes_none(engine: Engine) -> None:
    engine.insert()

    answer = engine.memctl.ok("snapshot", "--dry-run")

    assert answer.err == "snapshot: would record today's figures in 1 row\n"
    assert (engine.rows("memory_analytics"), engine.rows("memory_runs")) == ([], [])


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("remember"), st.sampled_from(["a", "b", "c"])),
        st.tuples(st.sampled_from(["cleanup", "prune", "snapshot", "snapshot"]), st.just("")),
        st.tuples(
            st.just("wait"),
            st.sampled_from([timedelta(0), HOUR, 5 * HOUR, DAY, 8 * DAY, -HOUR, -3 * DAY]),
        ),
    ),
    min_size=8,
    max_size=30,
)

EVENTS_OF = {
    "expired": ("memory:expired",),
    "archived": ("memory:expired",),
    "pruned": ("memory:pruned",),
}


@given(moves=MOVES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_event_counts_on_its_own_day_whatever_the_schedule(
    moves: list[tuple[str, Any]], engine: Engine
) -> None:
    engine.empty()
    jobs: dict[str, Callable[[Any], Any]] = {
        "cleanup": cleanup,
        "prune": lambda run: prune(run, PrunePolicy(retention=HOUR)),
        "snapshot": snapshot,
    }
    now = latest = NOW
    for move, what in (*moves, ("snapshot", "")):
        if move == "remember":
            expired = memory_row(agent_id=what, expired_for=timedelta(days=9))
            engine.fill("agent_memory", [expired])
        elif move == "wait":
            now += what
            latest = max(now, latest)
        else:
            perform(move, jobs[move], JobRequest(engine.address, now, force=True))

    happened: dict[str, Counter[str]] = {}
    for event in engine.rows("memory_events"):
        happened.setdefault(event["at"][:10], Counter())[event["event"]] += 1
    with open_store(engine.address, read_only=True) as store:
        days = read_history(store.snapshots, NOW - 200 * DAY, now=latest + DAY).of_all()
    expected = {
        day: tuple(sum(events[event] for event in EVENTS_OF[name]) for name in EVENTS_OF)
        for day, events in happened.items()
    }
    shown = {
        day.date: (day.changes.expired, day.changes.archived, day.changes.pruned) for day in days
    }
    stored: dict[str, Counter[str]] = {}
    for row in engine.rows("memory_analytics"):
        of_day = stored.setdefault(row["snapshot_date"], Counter())
        of_day.update({name: row[name] for name in EVENTS_OF})
    assert {day: counts for day, counts in shown.items() if any(counts)} == expected
    for day, counts in stored.items():
        assert tuple(counts[name] for name in EVENTS_OF) == expected.get(day, (0, 0, 0))


def test_a_snapshot_leaves_what_has_no_number_yet_to_the_next(on_server: PostgresEngine) -> None:
    on_server.insert(agent_id="a", id="x")

    def while_a_client_archives(run: JobContext) -> SnapshotResult:
        with open_store(on_server.address) as client:
            change = client.forgotten("a", None, now=NOW)
            client.batches(max_seconds=None).apply(change.find(), change.apply, doing="archiving")
        return snapshot(run)

    perform("snapshot", while_a_client_archives, JobRequest(on_server.address, NOW))
    early = kept(on_server, "archived_memories", "archived", "last_event_id")
    on_server.memctl.at(NOW + HOUR).ok("snapshot")
    late = kept(on_server, "archived_memories", "archived", "last_event_id")

    assert early == [(1, 0, 0)]
    assert late == [(1, 1, 2)]
