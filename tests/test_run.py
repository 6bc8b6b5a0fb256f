"""`memctl run`: which jobs are due, when, in which order, and what happens when one fails."""

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.jobs import JOBS, Every, ReportEvery
from memctl.jobs.due import due_at
from memctl.storage.rows import JobHistory
from tests.support.database import connect, everything, rows
from tests.support.jobs import CLEANUP, fill_archive, undisturbed
from tests.support.kills import kill
from tests.support.ledger import jobs_run, runs
from tests.support.locks import write_lock
from tests.support.program import NOW, Answer, Memctl
from tests.support.snapshots import broken_promises, snapshot

SUNDAY = datetime(2026, 11, 22, tzinfo=UTC)
NEVER = JobHistory(None, None)
HOUR = timedelta(hours=1)


def all_but(left_out: str) -> list[str]:
    """Return the other jobs in order."""
    return [job for job in JOBS if job != left_out]


def record_run(db: sqlite3.Connection, job: str, status: str, *, at: datetime) -> None:
    """Record a run in the ledger that did not do its work."""
    db.execute(
        "INSERT INTO memory_runs (job, started_at, status, memctl_version, host, pid)"
        " VALUES (?, ?, ?, '0', 'host', 1)",
        (job, at.strftime("%Y-%m-%dT%H:%M:%SZ"), status),
    )


# When a job is due


@pytest.mark.parametrize(
    ("every", "done", "expected"),
    [
        pytest.param("always", NOW, NOW, id="always, done this very second"),
        pytest.param("daily", None, NOW, id="daily, never done"),
        pytest.param("daily", SUNDAY, SUNDAY + timedelta(days=1), id="daily, done at midnight"),
        pytest.param("daily", SUNDAY - timedelta(seconds=1), NOW, id="daily, done before it"),
        pytest.param("daily", SUNDAY + timedelta(days=1), NOW, id="daily, done in the future"),
        pytest.param(
            "weekly",
            SUNDAY - timedelta(days=6),
            SUNDAY + timedelta(days=1),
            id="weekly, done on Monday",
        ),
        pytest.param(
            "weekly", SUNDAY - timedelta(days=7), NOW, id="weekly, done the Sunday before"
        ),
        pytest.param(
            "monthly",
            datetime(2026, 11, 1, tzinfo=UTC),
            datetime(2026, 12, 1, tzinfo=UTC),
            id="monthly, done on the first",
        ),
        pytest.param("monthly", datetime(2026, 10, 31, tzinfo=UTC), NOW, id="monthly, done before"),
        pytest.param("never", None, None, id="never"),
    ],
)
def test_a_job_is_due_once_in_its_period(
    every: Every | ReportEvery, done: datetime | None, expected: datetime | None
) -> None:
    assert due_at(every, JobHistory(done, None), now=NOW) == expected


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        pytest.param(NOW, NOW + HOUR, id="just now"),
        pytest.param(NOW - HOUR + timedelta(seconds=1), NOW + timedelta(seconds=1), id="nearly"),
        pytest.param(NOW - HOUR, NOW, id="an hour ago"),
        pytest.param(NOW + timedelta(seconds=1), NOW, id="in the future"),
    ],
)
def test_a_job_that_failed_waits_for_an_hour(failed: datetime, expected: datetime) -> None:
    assert due_at("daily", JobHistory(None, failed), now=NOW) == expected


@given(st.lists(st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(days=5))))
def test_a_job_runs_at_the_first_call_of_each_day_week_or_month(
    gaps: list[timedelta],
) -> None:
    calls = [NOW + sum(gaps[:number], timedelta()) for number in range(len(gaps) + 1)]
    first_of_day: dict[Any, datetime] = {}
    first_of_week: dict[Any, datetime] = {}
    first_of_month: dict[Any, datetime] = {}
    for call in calls:
        first_of_day.setdefault(call.date(), call)
        first_of_week.setdefault(call.isocalendar()[:2], call)
        first_of_month.setdefault((call.year, call.month), call)

    assert times_run("daily", calls) == list(first_of_day.values())
    assert times_run("weekly", calls) == list(first_of_week.values())
    assert times_run("monthly", calls) == list(first_of_month.values())


def times_run(every: Every | ReportEvery, calls: list[datetime]) -> list[datetime]:
    """Return the calls of `memctl run` that run a job that never fails."""
    ran: list[datetime] = []
    for call in calls:
        if due_at(every, JobHistory(ran[-1] if ran else None, None), now=call) == call:
            ran.append(call)
    return ran


# What a run does


def test_all_jobs_run_in_a_safe_order_and_later_only_those_due(migrated: Memctl) -> None:
    migrated.ok("run")
    first = runs(migrated.database)
    migrated.at(NOW + timedelta(minutes=15)).ok("run")
    same_day = jobs_run(migrated.database)[len(first) :]
    migrated.at(NOW + timedelta(days=1)).ok("run")
    monday = jobs_run(migrated.database)[len(first) + len(same_day) :]

    assert first == [(job, "ok", 1) for job in JOBS]
    assert same_day == ["cleanup"]
    assert monday == list(JOBS)


def test_a_month_of_missed_runs_is_made_up_at_once(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    kept = remember(importance=9, idle_days=10)
    remember(expired_for=-timedelta(days=3))
    migrated.ok("run")

    migrated.at(NOW + timedelta(days=30)).ok("run")
    after = everything(migrated.database)
    migrated.at(NOW + timedelta(days=30, minutes=15)).ok("run")

    assert rows(db, "agent_memory", "id, importance") == [(kept, 9 - 2.3 - 2.0)]
    assert len(rows(db, "archived_memories")) == 1
    assert jobs_run(migrated.database) == [*JOBS, *JOBS, "cleanup"]
    for table in ("agent_memory", "archived_memories", "memory_events"):
        assert everything(migrated.database)[table] == after[table]


def test_a_job_run_by_hand_is_not_due(migrated: Memctl) -> None:
    migrated.ok("decay")
    migrated.ok("run")

    assert jobs_run(migrated.database) == ["decay", *all_but("decay")]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("decay --agent build_agent", id="of one agent"),
        pytest.param("decay --max-seconds 0", id="with a time limit"),
        pytest.param("prune --older-than 300d", id="with another policy"),
    ],
)
def test_a_job_that_did_part_of_its_work_is_still_due(
    migrated: Memctl, remember: Callable[..., str], words: str
) -> None:
    remember(idle_days=20)
    migrated.ok(*words.split())
    by_hand = runs(migrated.database)

    migrated.ok("run")

    assert by_hand == [(words.split()[0], "ok", 0)]
    assert jobs_run(migrated.database)[1:] == list(JOBS)


def test_without_time_left_no_job_starts_and_all_stay_due(migrated: Memctl) -> None:
    answer = migrated.ok("run", "--max-seconds", "0", "-v")

    assert runs(migrated.database) == []
    assert answer.err.splitlines() == [f"{job}: no time left; still due" for job in JOBS]


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        pytest.param('cleanup = "never"', all_but("cleanup"), id="never"),
        pytest.param('cleanup = "daily"', list(JOBS), id="less often"),
        pytest.param('prune = "always"', [*JOBS, "cleanup", "prune"], id="more often"),
    ],
)
def test_the_configuration_sets_how_often_a_job_runs(
    migrated: Memctl, tmp_path: Path, configuration: str, expected: list[str]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[run]\n{configuration}\n")

    migrated.ok("run", "--config", str(file))
    migrated.ok("run", "--config", str(file))

    assert jobs_run(migrated.database) == expected


def test_while_paused_a_run_does_nothing_and_prints_nothing(migrated: Memctl) -> None:
    migrated.ok("pause", "--reason", "deploying")

    answer = migrated.ok("run")

    assert (answer.out, answer.err) == ("", "")
    assert runs(migrated.database) == []


def test_concurrent_runs_do_no_work_twice(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for _ in range(200):
        remember(idle_days=20, importance=9)

    both = [migrated.start("run") for _ in range(2)]
    outcomes = [(*process.communicate(), process.returncode) for process in both]

    assert outcomes == [(b"", b"", 0)] * 2
    assert jobs_run(migrated.database) == [*JOBS, "cleanup"]
    assert rows(db, "agent_memory", "DISTINCT importance") == [(7.7,)]


# What a run prints


def without_measurements(document: dict[str, Any]) -> dict[str, Any]:
    """Return the result of `run` without the fields that differ each time."""
    measured = ("duration_ms", "longest_lock_ms")
    for part in (document, *document["jobs"]):
        for name in measured:
            part.pop(name, None)
    return document


def test_json_has_the_result_of_each_job(migrated: Memctl, remember: Callable[..., str]) -> None:
    remember(expired_for=timedelta(days=1))
    migrated.ok("decay")

    document = without_measurements(migrated.ok("run", "--json").json)

    common = {"due": True, "dry_run": False, "cutoff": "2026-11-22T09:43:58Z", "remaining": 0}
    assert document == {
        "schema": 1,
        "job": "run",
        "dry_run": False,
        "cutoff": "2026-11-22T09:43:58Z",
        "jobs": [
            {
                "job": "cleanup",
                "run_id": 2,
                "archived": 1,
                "over_quota": 0,
                "held_over_quota": 0,
                "held": 0,
                "versions_pruned": 0,
                "agents": {"build_agent": 1},
                **common,
            },
            {"job": "decay", "due": False, "due_at": "2026-11-23T00:00:00Z", "error": None},
            {
                "job": "promote",
                "run_id": 3,
                "promoted": 0,
                "merged": 0,
                "superseded": 0,
                "agents": {},
                **common,
            },
            {"job": "snapshot", "run_id": 4, "rows": 1, "agents": {"build_agent": 1}, **common},
            {
                "job": "prune",
                "run_id": 5,
                "pruned": 0,
                "kept_important": 0,
                "held": 0,
                "agents": {},
                **common,
            },
        ],
    }


def test_a_preview_lists_what_is_due_and_changes_nothing(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember(expired_for=timedelta(days=1), key="k", idle_days=8)
    migrated.ok("prune")
    lock = migrated.database.with_name("harness.db.memctl.lock")
    lock.unlink()
    before = everything(migrated.database)

    answer = migrated.ok("run", "--dry-run", "--list")

    assert everything(migrated.database) == before
    assert not lock.exists()
    assert answer == Answer(
        0,
        "job      id                                    agent        type      key  expires "
        "  reason\n"
        f"cleanup  {memory}  build_agent  learning  k    24 h ago  expired\n"
        "job    id                                    agent        type      key  importance"
        "  decayed\n"
        f"decay  {memory}  build_agent  learning  k             5      4.9\n"
        "job      id                                    agent        type      key  importance"
        "  reads  days old  why\n"
        f"promote  {memory}  build_agent  learning  k             5      0         8  "
        "importance after decay 4.9 of 8; reads 0 of 5; age 8 of 14 days\n",
        "cleanup: would archive 1 expired memory\n"
        "decay: would lower the importance of 1 idle memory\n"
        "promote: would promote 0 memories, merge 0 into existing entries, "
        "supersede 0 entries\n"
        "snapshot: would record today's figures in 1 row\n"
        "prune: not due before 2026-11-23T00:00:00Z\n",
    )


def test_a_successful_run_is_silent_unless_verbose(migrated: Memctl) -> None:
    silent = migrated.ok("run")
    asked = migrated.ok("run", "--verbose")

    assert (silent.out, silent.err, asked.out) == ("", "", "")
    assert [line.split(";")[0] for line in asked.err.splitlines()] == [
        "cleanup: archived 0 expired memories",
        *(f"{job}: not due before 2026-11-23T00:00:00Z" for job in all_but("cleanup")),
    ]


# Failures


@pytest.fixture
def broken(db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]) -> Memctl:
    """The program, pointed at a database in which only the index for cleanup is damaged."""
    for _ in range(3):
        remember(expired_for=-timedelta(days=1), idle_days=20)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = db.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'memctl_expires_at'"
    ).fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    with migrated.database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xaa" * size)
    return migrated


def test_a_job_that_fails_does_not_stop_the_rest(broken: Memctl) -> None:
    answer = broken("run")

    assert runs(broken.database) == [
        ("cleanup", "failed", 0),
        *((job, "ok", 1) for job in all_but("cleanup")),
    ]
    assert (answer.exit_code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert answer.err.startswith(f"memctl: cleanup: {broken.database} is damaged (")


def test_json_shows_which_job_failed(broken: Memctl) -> None:
    answer = broken("run", "--json")

    error = json.loads(answer.err)["error"]
    outcomes = [(part["job"], part.get("error")) for part in answer.json["jobs"]]
    assert answer.exit_code == 1
    assert error.pop("jobs") == ["cleanup"]
    assert (error["code"], error["exit_code"]) == ("failed", 1)
    assert outcomes == [("cleanup", error), *((job, None) for job in all_but("cleanup"))]


def test_a_refusal_is_reported_once_in_its_period(db: sqlite3.Connection, migrated: Memctl) -> None:
    fill_archive(db)

    first = migrated("run")
    again = migrated("run")

    assert (first.exit_code, first.out) == (3, "")
    assert first.err.startswith("memctl: prune: the retention policy has changed ")
    assert first.err.count("\n") == 1
    assert again == Answer(0, "", "")


def test_a_failure_decides_the_exit_code_before_a_refusal(broken: Memctl) -> None:
    with closing(connect(broken.database)) as db:
        fill_archive(db)

    answer = broken("run")

    assert [line.split(":")[1] for line in answer.err.splitlines()] == [" cleanup", " prune"]
    assert answer.exit_code == 1


def test_a_cause_that_stops_several_jobs_is_reported_in_one_line(migrated: Memctl) -> None:
    with write_lock(migrated.database):
        answer = migrated("run", "--lock-wait", "0")

    assert (answer.exit_code, answer.out, answer.err.count("\n")) == (11, "", 1)
    assert answer.err.startswith(
        f"memctl: {', '.join(JOBS)}: {migrated.database} is locked by another program ("
    )


def test_a_bug_in_one_job_keeps_its_traceback_and_stops_no_other_job(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(idle_days=20)
    db.execute(
        "CREATE TRIGGER nobody_expects BEFORE INSERT ON memory_events"
        " BEGIN SELECT no_such_function(); END"
    )

    answer = migrated("run")

    assert runs(migrated.database) == [
        (job, "failed", 0) if job == "decay" else (job, "ok", 1) for job in JOBS
    ]
    assert answer.exit_code == 1
    assert answer.err.startswith("memctl: decay: OperationalError: no such function")
    assert "Traceback" in answer.err


@pytest.mark.parametrize("status", ["failed", "running"])
def test_a_failed_or_crashed_job_is_retried_after_an_hour(
    db: sqlite3.Connection, migrated: Memctl, status: str
) -> None:
    record_run(db, "decay", status, at=NOW)

    migrated.at(NOW + HOUR - timedelta(seconds=1)).ok("run")
    before = jobs_run(migrated.database)
    migrated.at(NOW + HOUR).ok("run")

    assert before == ["decay", *all_but("decay")]
    assert runs(migrated.database)[len(before) :] == [("cleanup", "ok", 1), ("decay", "ok", 1)]


def test_a_clock_set_back_is_reported_in_one_line(migrated: Memctl) -> None:
    migrated.ok("run")

    answer = migrated.at(NOW - timedelta(hours=2))("run")

    assert answer == Answer(
        3,
        "",
        "memctl: cleanup: the clock reads 2026-11-22T07:43:58Z, but run 5 (prune) was at "
        "2026-11-22T09:43:58Z; correct the clock; if the clock of that run was wrong, use --force"
        " once\n",
    )
    assert runs(migrated.database)[len(JOBS) :] == [("cleanup", "refused", 0)]


def test_a_run_killed_between_batches_is_completed_by_the_next(
    memctl: Memctl, tmp_path: Path
) -> None:
    CLEANUP.prepare(memctl)
    before = snapshot(memctl.database)
    after = undisturbed(memctl, ("run",), tmp_path / "alone")

    status = kill((3, "COMMIT"), memctl, ("run",))
    left = snapshot(memctl.database)
    memctl.at(memctl.now + HOUR).ok("run")
    found = snapshot(memctl.database)

    assert status == -signal.SIGKILL
    assert broken_promises(before, after, left) == []
    assert found.sound
    homes = {"agent_memory", "archived_memories"}  # a link to a promoted entry is not a new entry
    assert [len(homes & {*state.places}) for state in found.states.values()] == [1] * len(
        before.states
    )
    assert [run for run in runs(memctl.database) if run[1] != "ok"] == [("cleanup", "running", 0)]
    assert jobs_run(memctl.database) == ["cleanup", *JOBS]
