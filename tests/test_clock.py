"""The clock: an impossible time changes nothing, and what a wrong clock has written is found."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.config.settings import load_settings
from memctl.errors import ClockLeapError, RefusedError
from memctl.insight.check import CheckPolicies, check
from memctl.jobs.cleanup import cleanup
from memctl.jobs.decay import decay
from memctl.jobs.due import run_due_jobs
from memctl.jobs.engine import JobContext, JobReport, JobRequest, JobResult, perform
from memctl.jobs.watchdog import Watch
from memctl.storage.spool import Failure
from memctl.storage.sqlite import ledger
from memctl.storage.sqlite.alerts import Alert, Undelivered
from tests.support.alerts import raised
from tests.support.database import Row, connect, everything, insert_memory, rows, text_of
from tests.support.program import NOW, Memctl

DAY = timedelta(days=1)
LEAP = datetime(2036, 2, 7, 6, 28, 16, tzinfo=NOW.tzinfo)


@pytest.fixture
def copy(template: Path, path: Path) -> Path:
    """A migrated database with an idle memory and one that has expired."""
    shutil.copyfile(template, path)
    with closing(connect(path)) as db:
        insert_memory(db, id="idle", idle_days=1, importance=9)
        insert_memory(db, id="expired", expired_for=DAY)
    return path


@pytest.fixture
def copy_db(copy: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection to the copied database."""
    with closing(connect(copy)) as db:
        yield db


@pytest.fixture
def delivered() -> list[Alert]:
    """The alerts that were delivered."""
    return []


def charge(run: JobContext) -> JobResult:
    """Run decay."""
    return decay(run, DecayPolicy(), PromotePolicy())


def perform_at(path: Path, now: datetime, **request: Any) -> JobReport[JobResult]:
    """Run decay at a time."""
    return perform("decay", charge, JobRequest(path, now, **request))


def statuses(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return job and status of every run."""
    return rows(db, "memory_runs", "job, status")


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows but those that record a refusal."""
    refusal = ("memory_runs", "memory_events", "memory_state")
    return {table: found for table, found in everything(path).items() if table not in refusal}


@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "preview"])
def test_a_clock_over_60_days_ahead_of_runs_and_writes_is_refused(
    copy: Path, dry_run: bool
) -> None:
    perform_at(copy, NOW)
    before = content(copy)

    with pytest.raises(ClockLeapError) as refused:
        perform_at(copy, NOW + 60 * DAY + timedelta(seconds=1), dry_run=dry_run)

    assert (refused.value.exit_code, str(refused.value)) == (
        3,
        "the clock reads 2027-01-21T09:43:59Z, but run 1 (decay) was at 2026-11-22T09:43:58Z, and "
        "no memory was written or read in the last 60 days; correct the clock; if it is right, use"
        " --force once",
    )
    assert content(copy) == before


def test_a_clock_60_days_ahead_is_accepted(copy: Path, copy_db: sqlite3.Connection) -> None:
    perform_at(copy, NOW)

    perform_at(copy, NOW + 60 * DAY)

    assert statuses(copy_db) == [("decay", "ok"), ("decay", "ok")]


def test_after_one_forced_leap_the_next_run_needs_no_force(
    copy: Path, copy_db: sqlite3.Connection
) -> None:
    perform_at(copy, NOW)

    perform_at(copy, LEAP, force=True)
    perform_at(copy, LEAP + DAY)

    assert [status for _, status in statuses(copy_db)] == ["ok", "ok", "ok"]


@pytest.mark.parametrize("column", ["created_at", "last_accessed"])
@pytest.mark.parametrize(
    ("written", "accepted"),
    [
        pytest.param(LEAP - DAY, True, id="yesterday"),
        pytest.param(LEAP - 60 * DAY, True, id="60 days ago"),
        pytest.param(LEAP - 61 * DAY, False, id="61 days ago"),
        pytest.param(LEAP + timedelta(minutes=5), True, id="five minutes in the future"),
        pytest.param(LEAP + 365 * DAY, False, id="an hour in the future"),
    ],
)
def test_after_a_long_outage_a_recent_write_makes_the_clock_credible(
    copy: Path, copy_db: sqlite3.Connection, column: str, written: datetime, accepted: bool
) -> None:
    perform_at(copy, NOW)
    columns: Row = {column: text_of(written)}
    insert_memory(copy_db, **columns)
    insert_memory(copy_db, created_at="a while ago", last_accessed=None)

    if accepted:
        perform_at(copy, LEAP)
    else:
        with pytest.raises(ClockLeapError):
            perform_at(copy, LEAP)


def test_the_first_run_is_never_refused(copy: Path, copy_db: sqlite3.Connection) -> None:
    perform_at(copy, NOW + 70 * DAY)

    assert statuses(copy_db) == [("decay", "ok")]


def spooled(db: sqlite3.Connection) -> None:
    """Spool a failure of 2036, as when it could not be recorded in the database."""
    failure = Failure("decay", "2036-02-07T06:28:16Z", "h", 1, "locked", "0.1.0")
    ledger.record_failure(db, failure, run_id=None)


def refused(db: sqlite3.Connection) -> None:
    """Begin a run of 2036 that is killed before its refusal is recorded."""
    ledger.start_run(db, "decay", now=LEAP, status="refused")


@pytest.mark.parametrize("leave", [spooled, refused])
def test_a_refused_run_of_2036_has_no_effect_on_later_clock_checks(
    copy: Path, copy_db: sqlite3.Connection, leave: Callable[[sqlite3.Connection], None]
) -> None:
    perform_at(copy, NOW)
    leave(copy_db)

    with pytest.raises(ClockLeapError):
        perform_at(copy, LEAP)
    perform_at(copy, NOW + timedelta(hours=1))

    assert [status for _, status in statuses(copy_db)][2:] == ["refused", "ok"]


def taking(delivered: list[Alert]) -> Callable[[Undelivered, float], bool]:
    """Return a delivery that succeeds and keeps every alert."""

    def take(waiting: Undelivered, _seconds: float) -> bool:
        delivered.append(waiting.alert)
        return True

    return take


def test_a_leap_raises_one_alert_until_a_run_is_accepted(
    copy: Path, copy_db: sqlite3.Connection, delivered: list[Alert]
) -> None:
    watch = Watch(deliver=taking(delivered))
    perform_at(copy, NOW, watch=watch)

    for now in (LEAP, LEAP + DAY, NOW + DAY, LEAP):
        try:
            perform_at(copy, now, watch=watch)
        except RefusedError:
            continue

    assert [alert.condition for alert in delivered] == ["clock", "clock"]
    assert delivered[0].message.startswith(
        "the clock reads 2036-02-07T06:28:16Z, but run 1 (decay)"
    )
    assert raised(copy_db) == [("alert:clock",)]
    assert rows(copy_db, "memory_events", "event, run_id") == [
        ("memory:alert", 2),
        ("memory:alert", 5),
    ]


def test_a_refusal_of_a_command_run_by_hand_raises_no_alert(
    copy: Path, delivered: list[Alert]
) -> None:
    perform_at(copy, NOW)
    request = JobRequest(copy, LEAP, watch=Watch(deliver=taking(delivered)))

    with pytest.raises(ClockLeapError):
        perform("archive", cleanup, request, by_hand=True)

    assert delivered == []


def test_run_records_one_refusal_for_all_its_jobs(
    copy: Path, copy_db: sqlite3.Connection, delivered: list[Alert], tmp_path: Path
) -> None:
    settings = load_settings(database=copy, configuration=None, environ={"HOME": str(tmp_path)})
    request = JobRequest(copy, NOW, watch=Watch(deliver=taking(delivered)))
    list(run_due_jobs(settings, request))
    before = content(copy)

    turns = list(run_due_jobs(settings, request._replace(now=LEAP)))

    assert [(turn.job, type(turn.failure)) for turn in turns] == [("cleanup", ClockLeapError)]
    assert statuses(copy_db)[5:] == [("cleanup", "refused")]
    assert [alert.condition for alert in delivered] == ["clock"]
    assert content(copy) == before


def findings(db: sqlite3.Connection, path: Path, *, now: datetime) -> list[tuple[str, str]]:
    """Return code and message of each finding of the check."""
    found = check(db, path, CheckPolicies(), now=now).findings
    return [(one.code, one.message) for one in found if one.severity != "info"]


def test_the_check_reports_the_wrong_clock(copy: Path, copy_db: sqlite3.Connection) -> None:
    perform_at(copy, NOW)

    assert next(code for code, _ in findings(copy_db, copy, now=LEAP)) == "clock"
    assert findings(copy_db, copy, now=NOW) == []


def test_the_check_ignores_the_timestamp_of_an_alert_for_a_refused_clock(
    copy: Path, copy_db: sqlite3.Connection
) -> None:
    perform_at(copy, NOW)
    with pytest.raises(ClockLeapError):
        perform_at(copy, LEAP)

    assert [code for code, _ in findings(copy_db, copy, now=NOW)] == ["refused"]


def test_the_check_finds_every_timestamp_written_by_a_clock_ahead(
    migrated: Memctl, db: sqlite3.Connection
) -> None:
    insert_memory(db, id="idle", key="idle", idle_days=1, importance=9)
    insert_memory(db, id="back", key="back", expired_for=DAY)
    insert_memory(db, id="out", key="out", expired_for=DAY)
    ahead = migrated.at(LEAP)
    for words in (
        ("run",),
        ("restore", "build_agent", "back"),
        ("enable", "access-counting"),
        ("pause", "--reason", "deploy"),
    ):
        ahead.ok(*words)
    migrated.ok("archive", "build_agent", "idle", "--force")
    migrated.ok("restore", "build_agent", "idle", "--force")
    db.execute("UPDATE memctl_migrations SET applied_at = '2036-02-07T06:28:16Z' WHERE version = 2")
    db.execute(
        "INSERT INTO memory_promotions (agent_id, type, key, entry_id, content_hash, promoted_at)"
        " VALUES ('a', 't', 'k', 'e', 'h', '2036-02-07T06:28:16Z')"
    )

    found = findings(db, migrated.database, now=NOW)

    at = "2036-02-07T06:28:16Z"
    future = "timestamps in the future in "
    assert [finding for finding in found if finding[0] in ("charged_ahead", "stamp_to_come")] == [
        (
            "charged_ahead",
            "memories whose last_decay_at is in the future do not decay until then: "
            "1, the first 'build_agent' learning 'back'",
        ),
        (
            "stamp_to_come",
            "memories whose archived_at or promoted_at is in the future: 1, "
            "the first 'build_agent' learning 'back'",
        ),
        *(
            ("stamp_to_come", future + place)
            for place in (
                f"archived_memories.archived_at: 1, the earliest {at} of 'build_agent' learning "
                "'out'",
                f"memory_promotions.promoted_at: 1, the earliest {at} of 'a' t 'k'",
                f"memory_runs: 6, the earliest {at} of run 1",
                f"memory_analytics: 1, the earliest {at} of the snapshot of 2036-02-07",
                f"memory_state: 2, the earliest {at} of feature:access-counting",
                f"memctl_migrations.applied_at: 1, the earliest {at} of step 002",
                f"memory_events.at: 6, the earliest {at} of event 1",
            )
        ),
    ]


def test_the_check_ignores_an_alert_raised_by_a_clock_ahead(
    copy: Path, copy_db: sqlite3.Connection
) -> None:
    perform_at(copy, NOW)
    with pytest.raises(ClockLeapError):
        perform_at(copy, LEAP)

    assert ("alert:clock",) in raised(copy_db)
    assert "stamp_to_come" not in dict(findings(copy_db, copy, now=NOW))


def test_a_job_that_succeeded_with_a_clock_ahead_can_be_overdue(
    copy: Path, copy_db: sqlite3.Connection
) -> None:
    perform_at(copy, LEAP)
    perform_at(copy, NOW, force=True)

    assert ("overdue", "decay has not succeeded for 10 days") in findings(
        copy_db, copy, now=NOW + 10 * DAY
    )
