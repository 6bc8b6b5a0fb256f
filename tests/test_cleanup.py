"""Cleanup: exactly the expired memories are archived."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from memctl.errors import SchemaError
from memctl.jobs.cleanup import CleanupResult, cleanup
from memctl.jobs.engine import JobContext, JobRequest, JobResult, perform
from memctl.jobs.snapshot import snapshot
from memctl.storage.sqlite.batches import SqliteBatches
from tests.support.database import connect, rows
from tests.support.program import NOW, Memctl
from tests.support.service import Service


@pytest.mark.parametrize(
    ("expires_at", "gone"),
    [
        pytest.param("2026-11-22T09:43:57.999Z", True, id="a millisecond ago"),
        pytest.param("2026-11-22T09:43:58.000Z", False, id="at the cutoff itself"),
        pytest.param("2026-11-22 09:43:57", True, id="SQLite's format"),
        pytest.param("2026-11-22T23:43:57+14:00", True, id="far east"),
        pytest.param("2026-11-21T19:43:58-14:00", False, id="far west"),
        pytest.param("-000192-09-06T00:00:00.000Z", True, id="before our era"),
        pytest.param("+011533-07-07T00:00:00.000Z", False, id="the year 11533"),
        pytest.param("2020-02-30T00:00:00Z", False, id="an impossible date"),
        pytest.param("soon", False, id="not a time"),
        pytest.param("", False, id="an empty text"),
        pytest.param(None, False, id="never"),
    ],
)
def test_a_memory_is_archived_once_it_has_expired(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    expires_at: str | None,
    gone: bool,
) -> None:
    memory = remember(expires_at=expires_at)

    migrated.ok("cleanup")

    assert rows(db, "agent_memory", "id") == ([] if gone else [(memory,)])
    assert rows(db, "archived_memories", "id") == ([(memory,)] if gone else [])


def test_an_iso_expiry_earlier_today_is_found(
    db: sqlite3.Connection, service: Service, migrated: Memctl
) -> None:
    service.remember("a", "context", "task:1", "{}", expires_at="2026-11-22T01:00:00.000Z")

    answer = migrated.ok("cleanup", "--json").json

    assert answer["archived"] == 1
    assert service.recall("a", "context", "task:1") is None


def test_the_json_result_has_all_its_fields(migrated: Memctl, remember: Callable[..., str]) -> None:
    remember(expired_for=timedelta(days=1), agent_id="qa_agent")
    remember(expired_for=timedelta(days=2), agent_id="build_agent")
    remember(expired_for=timedelta(days=3), agent_id="qa_agent")

    answer = migrated.ok("cleanup", "--json").json

    assert answer.pop("duration_ms") >= 0
    assert answer.pop("longest_lock_ms") > 0
    assert answer == {
        "schema": 1,
        "job": "cleanup",
        "run_id": 1,
        "dry_run": False,
        "cutoff": "2026-11-22T09:43:58Z",
        "archived": 3,
        "over_quota": 0,
        "held_over_quota": 0,
        "held": 0,
        "versions_pruned": 0,
        "remaining": 0,
        "agents": {"build_agent": 1, "qa_agent": 2},
    }


def test_a_second_run_finds_nothing(migrated: Memctl, remember: Callable[..., str]) -> None:
    remember(expired_for=timedelta(days=1))

    counts = [migrated.ok("cleanup", "--json").json["archived"] for _ in range(2)]

    assert counts == [1, 0]


def test_a_preview_lists_what_the_run_then_archives(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for hours in range(-3, 4):
        remember(expired_for=timedelta(hours=hours), key=f"{hours} hours")
    before = rows(db, "agent_memory")

    previewed = migrated.ok("cleanup", "--dry-run", "--list", "--json").json
    untouched = (rows(db, "agent_memory"), rows(db, "memory_runs"), rows(db, "memory_events"))
    done = migrated.ok("cleanup", "--list", "--json").json

    assert untouched == (before, [], [])
    assert (previewed["dry_run"], previewed["run_id"]) == (True, None)
    assert previewed["archived"] == done["archived"] == 3
    assert sorted(previewed["listed"], key=str) == sorted(done["listed"], key=str)


def test_only_memories_of_the_named_agent_are_archived(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=timedelta(days=1), agent_id="qa_agent")
    remember(expired_for=timedelta(days=1), agent_id="build_agent")

    migrated.ok("cleanup", "--agent", "qa_agent")

    assert rows(db, "agent_memory", "agent_id") == [("build_agent",)]


def test_the_run_is_recorded_in_the_ledger(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=timedelta(days=1))

    migrated.ok("cleanup")

    columns = "run_id, job, started_at, status, counts, error"
    assert rows(db, "memory_runs", columns) == [
        (
            1,
            "cleanup",
            "2026-11-22T09:43:58Z",
            "ok",
            '{"archived": 1, "over_quota": 0, "held_over_quota": 0, "held": 0,'
            ' "versions_pruned": 0}',
            None,
        )
    ]
    (measured,) = rows(db, "memory_runs", "finished_at, duration_ms, longest_lock_ms, host, pid")
    assert all(measured)


def test_archiving_again_replaces_archived_at(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember()
    migrated.ok("archive", "build_agent", memory)
    migrated.ok("restore", "build_agent", memory)
    later = migrated.at(NOW + timedelta(days=5))

    later.ok("archive", "build_agent", memory)
    in_archive = rows(db, "archived_memories", "archived_at")
    later.ok("restore", "build_agent", memory)

    assert in_archive == [("2026-11-27T09:43:58Z",)]
    assert rows(db, "agent_memory", "archived_at") == [("2026-11-27T09:43:58Z",)]


def test_a_column_added_during_the_run_stops_the_job(
    path: Path, db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for _ in range(50):
        remember(expired_for=timedelta(days=1))

    def work(run: JobContext) -> CleanupResult:
        assert isinstance(run.batches, SqliteBatches)
        hold = run.batches._hold

        def change_the_table_first(change: Callable[[], object]) -> float:
            db.execute("ALTER TABLE agent_memory ADD COLUMN mood TEXT DEFAULT 'fine'")
            return hold(change)

        run.batches._hold = change_the_table_first  # type: ignore[method-assign]
        return cleanup(run)

    with pytest.raises(SchemaError, match="the schema was changed while the job ran"):
        perform("cleanup", work, JobRequest(path, NOW))

    assert rows(db, "agent_memory", "count(*)") == [(50,)]
    assert rows(db, "archived_memories") == []
    assert rows(db, "memory_runs", "status") == [("failed",)]
    assert migrated("cleanup").err == (
        "memctl: agent_memory has unknown column mood; "
        "memctl does not support this table; nothing was changed\n"
    )


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize(
    "job", [pytest.param(cleanup, id="in batches"), pytest.param(snapshot, id="at once")]
)
def test_a_table_that_the_service_creates_before_the_first_batch_does_not_stop_the_job(
    path: Path, db: sqlite3.Connection, remember: Callable[..., str], job: Callable[..., JobResult]
) -> None:
    remember(expired_for=timedelta(days=1))

    def work(run: JobContext) -> JobResult:
        db.execute("CREATE TABLE another (id)")
        return job(run)

    result = perform("cleanup", work, JobRequest(path, NOW)).result

    assert result is not None
    assert result.tally.count == 1
    assert rows(db, "memory_runs", "status") == [("ok",)]


def test_a_job_checkpoints_the_log_that_it_wrote(
    path: Path, service: Service, migrated: Memctl, remember: Callable[..., str], tmp_path: Path
) -> None:
    for _ in range(300):
        remember(expired_for=timedelta(days=1))
    service.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    migrated.ok("cleanup")

    # The file alone, without its write-ahead log, has everything but the end of the run.
    alone = tmp_path / "alone.db"
    alone.write_bytes(path.read_bytes())
    with closing(connect(alone)) as copy:
        assert rows(copy, "agent_memory", "count(*)") == [(0,)]
        assert rows(copy, "archived_memories", "count(*)") == [(300,)]
        assert rows(copy, "memory_runs", "status") == [("running",)]
