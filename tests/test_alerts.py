"""Alerts: delivered once, in any way that works, and without affecting the job."""

import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.config.policies import AlertPolicy
from memctl.errors import MemctlError, UsageError
from memctl.jobs.cleanup import cleanup
from memctl.jobs.engine import JobContext, JobRequest, JobResult, Session, perform
from memctl.jobs.programs import run_program
from memctl.jobs.watchdog import Watch
from memctl.storage.spool import Failure, delivery_lock, opened_spool, spool_path
from memctl.storage.sqlite.alerts import Undelivered
from tests.support.alerts import SERVICE_EVENTS, fail, raised, take_snapshot
from tests.support.database import connect, insert_memory, rows
from tests.support.disks import fill_disk
from tests.support.locks import lock_file, locked
from tests.support.processes import eventually, is_gone
from tests.support.program import NOW, PROGRAM, Memctl
from tests.support.service import Service

HOUR = timedelta(hours=1)

# An event that cannot be recorded makes the job fail.
REFUSE_EVENTS = """
    CREATE TRIGGER mute BEFORE INSERT ON memory_events WHEN NEW.event = 'memory:expired'
    BEGIN SELECT RAISE(ABORT, 'not today'); END
"""


@pytest.fixture
def delivered(tmp_path: Path) -> Path:
    """The file to which the alert command writes its input."""
    return tmp_path / "delivered.jsonl"


@pytest.fixture
def configured(migrated: Memctl, tmp_path: Path, delivered: Path) -> tuple[str, str]:
    """The options that name a configuration with an alert command and a low threshold."""
    return configure(tmp_path, ["sh", "-c", f"cat >> {delivered}; echo >> {delivered}"])


def configure(folder: Path, command: list[str], *, agent_memories: int = 3) -> tuple[str, str]:
    """Write a configuration and return the options that name it."""
    configuration = folder / "memctl.toml"
    configuration.write_text(
        f"[alerts]\nagent_memories = {agent_memories}\ncommand = {json.dumps(command)}\n"
    )
    return "--config", str(configuration)


def documents(delivered: Path) -> list[Any]:
    """Return the documents that the alert command was given."""
    lines = delivered.read_text().splitlines() if delivered.exists() else []
    return [json.loads(line) for line in lines if line]


def alert_events(db: sqlite3.Connection) -> list[tuple[str, str | None, Any]]:
    """Return the time, agent and detail of every alert event."""
    return [
        (at, agent, json.loads(detail))
        for at, event, agent, detail in rows(db, "memory_events", "at, event, agent_id, detail")
        if event == "memory:alert"
    ]


def spool_of(memctl: Memctl) -> Path:
    """Return the path of the spool of failures that could not be recorded in the database."""
    return spool_path(memctl.state_home / "memctl", memctl.database)


def statuses(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return job and status of every run."""
    return rows(db, "memory_runs", "job, status")


# Failures recorded in the ledger


def not_today(memctl: Memctl) -> str:
    """Return the message of a job that `REFUSE_EVENTS` stops."""
    return (
        f"a constraint or trigger in {memctl.database} rejects a change by memctl (not today); "
        "the interrupted step was rolled back; change it in the program that created it"
    )


def test_an_alert_is_raised_once_after_three_failures_in_a_row(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    insert_memory(db, expired_for=HOUR)
    db.execute(REFUSE_EVENTS)
    counts = []

    for _ in range(4):
        assert migrated("cleanup", *configured).exit_code == 12
        counts.append(len(documents(delivered)))

    assert counts == [0, 0, 1, 1]
    assert documents(delivered) == [
        {
            "schema": 1,
            "at": "2026-11-22T09:43:58Z",
            "database": str(migrated.database),
            "message": f"cleanup has failed 3 times in a row: {not_today(migrated)}",
            "condition": "failures",
            "job": "cleanup",
            "failures": 3,
            "error": not_today(migrated),
        }
    ]
    assert alert_events(db) == [
        (
            "2026-11-22T09:43:58Z",
            None,
            {
                "condition": "failures",
                "job": "cleanup",
                "failures": 3,
                "error": not_today(migrated),
            },
        )
    ]
    assert rows(db, "memory_events", "run_id") == [(3,)]


def test_three_more_failures_after_a_success_raise_another_alert(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    insert_memory(db, expired_for=HOUR)

    for _ in range(2):
        db.execute(REFUSE_EVENTS)
        for _ in range(3):
            migrated("cleanup", *configured)
        db.execute("DROP TRIGGER mute")
        migrated.ok("cleanup", *configured)
        insert_memory(db, expired_for=HOUR)

    assert [document["failures"] for document in documents(delivered)] == [3, 3]
    assert raised(db) == []


def test_two_failures_before_and_after_a_success_raise_no_alert(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    insert_memory(db, expired_for=HOUR)
    for failing in (True, True, False, True, True):
        if failing:
            db.execute(REFUSE_EVENTS)
        migrated("cleanup", *configured)
        db.execute("DROP TRIGGER IF EXISTS mute")
        insert_memory(db, expired_for=HOUR)

    assert [status for _, status in statuses(db)] == ["failed", "failed", "ok", "failed", "failed"]
    assert documents(delivered) == []


def test_a_job_that_is_killed_counts_as_failed(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    insert_memory(db, expired_for=HOUR)
    db.execute(REFUSE_EVENTS)
    db.executescript(
        """
        INSERT INTO memory_runs (job, started_at, status, memctl_version, host, pid)
        VALUES ('cleanup', '2026-11-22T09:00:00Z', 'running', '0.1.0', 'h', 1),
            ('cleanup', '2026-11-22T09:15:00Z', 'running', '0.1.0', 'h', 2);
        """
    )

    migrated("cleanup", *configured)

    assert [document["failures"] for document in documents(delivered)] == [3]


def test_a_failure_of_a_command_run_by_hand_raises_no_alert(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    insert_memory(db, id="m-1")

    with locked(migrated.database):
        for _ in range(3):
            migrated("archive", "build_agent", "m-1", "--lock-wait", "0", *configured)

    assert documents(delivered) == []
    assert not spool_of(migrated).exists()


@pytest.mark.parametrize(
    ("words", "hours", "exit_code", "reason"),
    [
        pytest.param(("cleanup", "--agent", "nobody"), 0, 1, "agent 'nobody' ", id="no agent"),
        pytest.param(("cleanup",), -2, 3, "the clock reads ", id="a clock set back"),
        pytest.param(("run",), -2, 3, "the clock reads ", id="a clock set back, for all jobs"),
    ],
)
def test_refusals_count_as_failures(
    db: sqlite3.Connection,
    migrated: Memctl,
    configured: tuple[str, str],
    delivered: Path,
    words: tuple[str, ...],
    hours: int,
    exit_code: int,
    reason: str,
) -> None:
    migrated.ok("decay", *configured)

    for _ in range(3):
        assert migrated.at(NOW + hours * HOUR)(*words, *configured).exit_code == exit_code

    (document,) = documents(delivered)
    assert document["message"].startswith(f"cleanup was refused 3 times in a row: {reason}")
    assert statuses(db) == [("decay", "ok"), *[("cleanup", "refused")] * 3]
    assert not spool_of(migrated).exists()


def test_a_prune_refused_for_a_new_policy_raises_one_alert_at_once(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    Path(configured[1]).write_text(
        Path(configured[1]).read_text() + "[prune]\nretention_days = 30\n"
    )
    db.executemany(
        "INSERT INTO archived_memories"
        " (id, agent_id, type, key, value, importance, archived_at, archived_reason)"
        " VALUES (?, 'a', 'learning', ?, 'v', 5, '2026-10-01T00:00:00Z', 'expired')",
        [(number, number) for number in range(150)],
    )

    by_hand = migrated("prune", "--older-than", "2d", *configured)
    delivered_by_hand = documents(delivered)
    for _ in range(3):
        migrated("prune", *configured)
    alerts = documents(delivered)
    migrated.ok("prune", "--force", *configured)

    assert (by_hand.exit_code, delivered_by_hand) == (3, [])
    assert len(alerts) == 1
    assert alerts[0]["message"].startswith(
        "prune was refused 2 times in a row: the retention policy has changed "
    )
    assert "150 of 150 memories of 'a'" in alerts[0]["message"]
    assert raised(db) == []


def test_a_usage_error_is_not_recorded_in_the_ledger(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember()

    def misuse(run: JobContext) -> JobResult:
        raise UsageError("that makes no sense", "say something else")

    for _ in range(3):
        with pytest.raises(UsageError):
            perform("cleanup", misuse, JobRequest(migrated.database, NOW))
        with (
            pytest.raises(UsageError),
            Session(spooled_request(migrated)).failures_of("cleanup"),
        ):
            raise UsageError("that makes no sense", "say something else")

    assert statuses(db) == []
    assert not spool_of(migrated).exists()


def spooled_request(migrated: Memctl) -> JobRequest:
    """Return a request with a spool, at NOW."""
    return JobRequest(migrated.database, NOW, watch=Watch(spool=spool_of(migrated)))


# Failures that cannot be recorded in the database


def test_spooled_failures_raise_an_alert_and_are_recorded_later(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    with locked(migrated.database):
        for minutes in range(4):
            fail(migrated.at(NOW + timedelta(minutes=minutes)), *configured)
    spool = spool_of(migrated)
    mode, lines = spool.stat().st_mode & 0o777, spool.read_text().splitlines()

    migrated.at(NOW + HOUR).ok("cleanup", *configured)

    assert (mode, len(lines)) == (0o600, 6)  # the alert and its delivery, too
    assert [document["failures"] for document in documents(delivered)] == [3]
    assert not spool.exists()
    assert rows(db, "memory_runs", "job, status, started_at") == [
        ("cleanup", "failed", "2026-11-22T09:43:58Z"),
        ("cleanup", "failed", "2026-11-22T09:44:58Z"),
        ("cleanup", "failed", "2026-11-22T09:45:58Z"),
        ("cleanup", "failed", "2026-11-22T09:46:58Z"),
        ("cleanup", "ok", "2026-11-22T10:43:58Z"),
    ]
    ((at, agent, detail),) = alert_events(db)
    assert (at, agent, detail["failures"]) == ("2026-11-22T09:45:58Z", None, 3)
    assert raised(db) == []


def test_recorded_and_spooled_failures_raise_one_alert_together(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    insert_memory(db, expired_for=HOUR)
    db.execute(REFUSE_EVENTS)
    migrated("cleanup", *configured)
    migrated("cleanup", *configured)
    with locked(migrated.database):
        fail(migrated, *configured)
        fail(migrated, *configured)
    migrated("cleanup", *configured)

    assert [document["failures"] for document in documents(delivered)] == [3]
    assert [status for _, status in statuses(db)] == ["failed"] * 5
    assert len(alert_events(db)) == 1


def test_a_missing_database_raises_an_alert(
    memctl: Memctl, tmp_path: Path, delivered: Path
) -> None:
    options = configure(tmp_path, ["sh", "-c", f"cat >> {delivered}; echo >> {delivered}"])

    for _ in range(4):
        memctl("decay", *options)

    (document,) = documents(delivered)
    assert document["message"].startswith(
        f"decay has failed 3 times in a row: there is no database at {memctl.database}"
    )


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """Remove the database during the block."""
    path.rename(path.with_name("elsewhere"))
    yield
    path.with_name("elsewhere").rename(path)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Damage the database during the block."""
    with closing(connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xaa" * (len(content) - 100))
    yield
    path.write_bytes(content)


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """Add a column that memctl does not know during the block."""
    with closing(connect(path)) as db:
        db.execute("ALTER TABLE agent_memory ADD COLUMN mood TEXT")
        yield
        db.execute("ALTER TABLE agent_memory DROP COLUMN mood")


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """Hold the lock as another memctl process during the block."""
    with lock_file(path):
        yield


@pytest.mark.parametrize(
    ("trouble", "exit_code", "reason", "setting", "job"),
    [
        pytest.param(gone, 10, "there is no database at ", "", "cleanup", id="no database"),
        pytest.param(damaged, 1, "is damaged (", "", "cleanup", id="damaged"),
        pytest.param(changed, 12, "mood", "", "cleanup", id="another schema"),
        pytest.param(
            held_by_another,
            11,
            "another memctl process is using",
            '[run]\ncleanup = "never"\n',
            "decay",
            id="locked out, and no cleanup",
        ),
    ],
)
def test_a_run_that_cannot_start_its_jobs_raises_an_alert_and_is_recorded(
    migrated: Memctl,
    service: Service,
    configured: tuple[str, str],
    delivered: Path,
    trouble: Callable[[Path], AbstractContextManager[None]],
    exit_code: int,
    reason: str,
    setting: str,
    job: str,
) -> None:
    service.close()
    Path(configured[1]).write_text(Path(configured[1]).read_text() + setting)
    words = ("run", "--lock-wait", "0", *configured)

    with trouble(migrated.database):
        answers = [migrated.at(NOW + number * HOUR / 4)(*words) for number in range(4)]
    kept = spool_of(migrated).exists()
    migrated.at(NOW + 3 * HOUR).ok(*words)

    assert [answer.exit_code for answer in answers] == [exit_code] * 4
    (document,) = documents(delivered)
    assert document["message"].startswith(f"{job} has failed 3 times in a row: ")
    assert reason in document["error"]
    assert kept
    assert not spool_of(migrated).exists()
    with closing(connect(migrated.database)) as db:
        assert statuses(db)[:5] == [*[(job, "failed")] * 4, (job, "ok")]
        assert len(alert_events(db)) == 1
        assert raised(db) == []


def test_a_failed_preview_is_not_recorded_as_a_failure(migrated: Memctl) -> None:
    migrated.database.rename(migrated.database.with_name("elsewhere"))

    for _ in range(3):
        assert migrated("run", "--dry-run").exit_code == 10

    assert not spool_of(migrated).exists()


def test_concurrent_failures_are_all_spooled(db: sqlite3.Connection, migrated: Memctl) -> None:
    with locked(migrated.database):
        processes = [migrated.start("cleanup", "--lock-wait", "0") for _ in range(8)]
        for process in processes:
            process.communicate()
    migrated.ok("cleanup")

    assert [process.returncode for process in processes] == [11] * 8
    assert [status for _, status in statuses(db)] == [*["failed"] * 8, "ok"]
    assert len(alert_events(db)) == 1


def test_a_spooled_failure_recorded_before_a_kill_is_not_recorded_again(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    with locked(migrated.database):
        for _ in range(3):
            fail(migrated)
    spool = spool_of(migrated)
    kept = spool.read_bytes()
    migrated.ok("decay")
    spool.write_bytes(kept)  # as if it was killed before removing the spool

    migrated.ok("decay")

    assert statuses(db) == [*[("cleanup", "failed")] * 3, ("decay", "ok"), ("decay", "ok")]
    assert len(alert_events(db)) == 1
    assert not spool.exists()


def test_a_run_whose_end_could_not_be_recorded_is_not_counted_twice(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    migrated.ok("cleanup")
    spool = spool_of(migrated)
    job, started_at, host, pid, version = rows(
        db, "memory_runs", "job, started_at, host, pid, memctl_version"
    )[0]
    db.execute("UPDATE memory_runs SET status = 'running', finished_at = NULL")
    with opened_spool(spool, create=True) as opened:
        opened.add(Failure(job, started_at, host, pid, "the disk is full", version))

    migrated.ok("decay")

    assert rows(db, "memory_runs", "run_id, job, status, error") == [
        (1, "cleanup", "failed", "the disk is full"),
        (2, "decay", "ok", None),
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"Failure": {"job": "clean', id="half a line"),
        pytest.param(b"\xff\0\n[]\n7\n{}\nnull\n", id="garbage"),
        pytest.param(b'{"Failure": {"job": "x"}}\n{"Sin": {}}\n', id="unknown entries"),
    ],
)
def test_an_unreadable_spool_does_not_affect_a_job(
    db: sqlite3.Connection, migrated: Memctl, content: bytes
) -> None:
    spool = spool_of(migrated)
    spool.parent.mkdir(parents=True)
    spool.write_bytes(content)

    migrated.ok("cleanup")

    assert statuses(db) == [("cleanup", "ok")]
    assert not spool.exists()


def test_without_a_place_for_the_spool_a_failure_is_still_printed(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    migrated.state_home.write_text("not a directory")

    with locked(migrated.database):
        fail(migrated)
    migrated.ok("cleanup")

    assert statuses(db) == [("cleanup", "ok")]


def test_a_link_in_place_of_the_spool_is_not_followed(migrated: Memctl, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    spool = spool_of(migrated)
    spool.parent.mkdir(parents=True)
    spool.symlink_to(victim)

    with locked(migrated.database):
        fail(migrated)
    migrated.ok("cleanup")

    assert victim.read_text() == "precious"


def test_on_a_full_disk_a_failure_is_spooled_completely_or_not_at_all(
    small_disk: Path,
) -> None:
    spool = small_disk / "failures"
    failure = Failure("cleanup", "2026-11-22T09:43:58Z", "h", 1, "x" * 3000, "0.1.0")
    with opened_spool(spool, create=True) as opened:
        opened.add(failure)
    fill_disk(small_disk, room=0)

    kept = 1
    for _ in range(3):
        with opened_spool(spool, create=False) as opened, suppress(OSError):
            opened.add(failure)
            kept += 1

    with opened_spool(spool, create=False) as opened:
        assert opened.read() == [failure] * kept
    assert kept < 4
    assert spool.read_bytes().endswith(b"\n")


# Growth


def grow(db: sqlite3.Connection, memories: int, agent: Any = "qa_agent") -> None:
    """Write memories of one agent."""
    for _ in range(memories):
        insert_memory(db, agent_id=agent)


def test_an_agent_that_grew_too_large_raises_one_alert_until_it_shrinks(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    counts = []
    for hour, change in enumerate(
        ["", "grow", "", "DELETE FROM agent_memory WHERE rowid > 2", "grow"]
    ):
        if change == "grow":
            grow(db, 4)
        elif change:
            db.execute(change)
        migrated.at(NOW + hour * HOUR).ok("cleanup", *configured)
        counts.append(len(documents(delivered)))

    assert counts == [0, 1, 1, 1, 2]
    assert documents(delivered)[0] == {
        "schema": 1,
        "at": "2026-11-22T10:43:58Z",
        "database": str(migrated.database),
        "message": "agent 'qa_agent' has 4 memories, over 3",
        "agent_id": "qa_agent",
        "condition": "growth",
        "memories": 4,
        "threshold": 3,
    }
    assert alert_events(db)[0] == (
        "2026-11-22T10:43:58Z",
        "qa_agent",
        {"condition": "growth", "memories": 4, "threshold": 3},
    )


def test_agents_are_counted_by_the_first_run_of_an_hour(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    migrated.ok("cleanup", *configured)
    grow(db, 4)

    migrated.at(NOW + timedelta(minutes=15)).ok("decay", *configured)
    soon = documents(delivered)
    migrated.at(NOW + timedelta(minutes=17)).ok("cleanup", *configured)

    assert soon == []
    assert len(documents(delivered)) == 1


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param("", id="empty"),
        pytest.param("a\nb: c\x1b[31m[bold]", id="dangerous"),
        pytest.param("half \udcf0\udc9f", id="invalid UTF-8"),
        pytest.param("a\0b", id="NUL"),
        pytest.param("\u202etfel*", id="right to left"),
    ],
)
def test_an_agent_of_any_name_raises_one_alert_that_clears(
    db: sqlite3.Connection,
    migrated: Memctl,
    configured: tuple[str, str],
    delivered: Path,
    agent: str,
) -> None:
    name = agent.encode("utf-8", "surrogateescape")
    for _ in range(4):
        memory = insert_memory(db)
        db.execute(
            "UPDATE agent_memory SET agent_id = CAST(? AS TEXT) WHERE id = ?", (name, memory)
        )

    migrated.ok("cleanup", *configured)
    migrated.at(NOW + HOUR).ok("cleanup", *configured)
    remembered = rows(db, "memory_events", "agent_id")
    db.execute("DELETE FROM agent_memory")
    migrated.at(NOW + 2 * HOUR).ok("cleanup", *configured)

    (document,) = documents(delivered)
    assert document["message"].isprintable()
    assert remembered == [(agent,)]
    assert raised(db) == []


# Drops


def test_archived_memories_do_not_count_as_a_drop(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    for number in range(400):
        insert_memory(
            db,
            id=str(number),
            agent_id=str(number),
            idle_days=2,
            expired_for=HOUR if number < 260 else None,
        )
    take_snapshot(db, "2026-11-21", 400, at="2026-11-21T20:00:00Z")
    for _ in range(20):  # written since, so they were not in the snapshot
        insert_memory(db, agent_id="new", expired_for=HOUR)

    migrated.ok("cleanup", *configured)
    backlog = documents(delivered)
    db.execute("DELETE FROM agent_memory WHERE CAST(id AS INTEGER) < 330")  # half of the rest
    migrated.at(NOW + HOUR).ok("cleanup", *configured)
    half = documents(delivered)
    db.execute("DELETE FROM agent_memory WHERE id = '330'")
    migrated.at(NOW + 2 * HOUR).ok("cleanup", *configured)

    assert (backlog, half) == ([], [])
    (document,) = documents(delivered)
    assert document["message"] == (
        "the number of active memories fell from 400 to 69, but only 260 were archived"
    )
    assert (document["memories"], document["before"], document["archived"]) == (69, 400, 260)


@pytest.mark.parametrize(
    ("left", "alerts"),
    [
        pytest.param(150, False, id="half is left"),
        pytest.param(149, True, id="more than half is gone"),
    ],
)
def test_memories_are_compared_with_the_last_snapshot(
    db: sqlite3.Connection,
    migrated: Memctl,
    configured: tuple[str, str],
    delivered: Path,
    left: int,
    alerts: bool,
) -> None:
    for number in range(left):
        insert_memory(db, agent_id=str(number))
    take_snapshot(db, "2026-11-20", 1)
    take_snapshot(db, "2026-11-21", 300)
    take_snapshot(db, "2026-11-22", left)  # today's is not compared: it may be newer than the drop

    migrated.ok("cleanup", *configured)

    assert [document["condition"] for document in documents(delivered)] == ["drop"] * alerts


def test_a_drop_in_a_small_database_raises_no_alert(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    for number in range(100):
        insert_memory(db, agent_id=str(number), expired_for=HOUR)

    migrated.ok("cleanup", *configured)

    assert documents(delivered) == []


# The command


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        pytest.param(["false"], "the alert command ended with 1", id="fails"),
        pytest.param(
            ["/no/such"],
            "the alert command cannot be run (No such file or directory)",
            id="missing",
        ),
        pytest.param(
            ["/etc"], "the alert command cannot be run (Permission denied)", id="a directory"
        ),
        pytest.param(["a\0b"], "the alert command cannot be run (embedded null", id="impossible"),
        pytest.param(
            ["sh", "-c", "kill -9 $$"], "the alert command was ended by signal 9", id="killed"
        ),
    ],
)
def test_a_failing_command_is_reported_in_one_line_and_the_job_succeeds(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path, command: list[str], complaint: str
) -> None:
    for agent in ("a", "b"):  # two alerts, of which the first fails
        for number in range(4):
            insert_memory(db, agent_id=agent, key=str(number))

    answer = migrated.ok("cleanup", *configure(tmp_path, command))

    assert (answer.out, answer.err.count("\n")) == ("", 1)
    assert answer.err.startswith(f"memctl: {complaint}")
    assert answer.err.endswith("; check [alerts] in the configuration; the next run will retry\n")
    assert statuses(db) == [("cleanup", "ok")]


def test_a_command_that_takes_too_long_is_stopped_with_its_children(
    tmp_path: Path,
) -> None:
    started = tmp_path / "started"

    with pytest.raises(MemctlError, match=r"was stopped after 0\.2 s"):
        run_program(
            ["sh", "-c", f"sleep 600 & echo $! > {started}; wait"],
            "{}",
            name="the alert command",
            table="alerts",
            seconds=0.2,
        )

    # On a busy machine it may not have started yet.
    pid = started.read_text().strip() if started.exists() else ""
    eventually(lambda: not pid or is_gone(int(pid)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_also_stops_the_command(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path, number: int
) -> None:
    grow(db, 4)
    started = tmp_path / "started"
    command = f"sleep 600 & echo $! > {started}.new; mv {started}.new {started}; wait"
    process = migrated.start("cleanup", *configure(tmp_path, ["sh", "-c", command]))
    eventually(started.exists)
    sleeper = int(started.read_text())

    process.send_signal(number)
    process.communicate()

    assert process.returncode in (128 + number, -number)
    eventually(lambda: is_gone(sleeper))
    assert ("undelivered:growth:qa_agent",) in raised(db)


class Receiver:
    """A receiver of alerts, which can be made to fail."""

    def __init__(self) -> None:
        self.works = True
        self.tried: list[tuple[str, str]] = []  # the condition, and when it was raised

    def __call__(self, waiting: Undelivered, seconds: float) -> bool:
        assert 0 < seconds <= 10
        self.tried.append((waiting.alert.condition, waiting.raised_at[11:16]))
        return self.works


def run_cleanup(migrated: Memctl, receiver: Receiver, hours: float) -> None:
    """Run a cleanup in this process, a number of hours after NOW."""
    policy = AlertPolicy(agent_memories=3)
    watch = Watch(policy, receiver, spool_of(migrated))
    request = JobRequest(migrated.database, NOW + hours * HOUR, watch=watch, lock_wait=0)
    with suppress(MemctlError):
        perform("cleanup", cleanup, request)


def test_an_alert_is_delivered_again_until_the_command_succeeds(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    receiver = Receiver()
    receiver.works = False
    grow(db, 4)

    for quarter in range(3):
        run_cleanup(migrated, receiver, quarter / 4)
    db.execute("DELETE FROM agent_memory")  # a cleared alert is still delivered
    run_cleanup(migrated, receiver, 2)
    cleared = raised(db)
    receiver.works = True
    for quarter in range(9, 11):
        run_cleanup(migrated, receiver, quarter / 4)

    assert receiver.tried == [("growth:qa_agent", "09:43")] * 5
    assert cleared == [("undelivered:growth:qa_agent",)]
    assert raised(db) == []
    assert len(alert_events(db)) == 1


def test_an_alert_that_cannot_be_delivered_does_not_delay_others(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    receiver = Receiver()
    receiver.works = False
    for agent in ("a", "b", "c"):
        grow(db, 4, agent)

    for quarter in range(4):
        run_cleanup(migrated, receiver, quarter / 4)

    assert sorted(condition for condition, _ in receiver.tried[:3]) == [
        "growth:a",
        "growth:b",
        "growth:c",
    ]
    assert len(receiver.tried) == 4


def test_an_alert_that_was_raised_before_a_kill_is_delivered_by_any_later_run(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    receiver = Receiver()
    grow(db, 4)
    policy = AlertPolicy(agent_memories=3)
    perform("cleanup", cleanup, JobRequest(migrated.database, NOW, watch=Watch(policy)))

    run_cleanup(migrated, receiver, 0.25)

    assert receiver.tried == [("growth:qa_agent", "09:43")]


def test_alerts_are_delivered_by_one_process_at_a_time(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    receiver = Receiver()
    grow(db, 4)

    with delivery_lock(spool_of(migrated)) as alone:
        run_cleanup(migrated, receiver, 0)
        during_delivery = receiver.tried.copy()
    run_cleanup(migrated, receiver, 0.25)

    assert (alone, during_delivery) == (True, [])
    assert receiver.tried == [("growth:qa_agent", "09:43")]


def test_a_spooled_alert_is_delivered_again(db: sqlite3.Connection, migrated: Memctl) -> None:
    receiver = Receiver()
    receiver.works = False

    with locked(migrated.database):
        for quarter in range(4):
            run_cleanup(migrated, receiver, quarter / 4)
        receiver.works = True
        for quarter in range(4, 6):
            run_cleanup(migrated, receiver, quarter / 4)
    while_locked = receiver.tried.copy()
    run_cleanup(migrated, receiver, 2)

    assert while_locked == [("failures:cleanup", "10:13")] * 3
    assert receiver.tried == while_locked
    assert [status for _, status in statuses(db)] == [*["failed"] * 6, "ok"]
    assert raised(db) == []


def test_a_spooled_alert_moves_to_the_database_until_delivered(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    receiver = Receiver()
    receiver.works = False

    with locked(migrated.database):
        for quarter in range(3):
            run_cleanup(migrated, receiver, quarter / 4)
    run_cleanup(migrated, receiver, 1)
    receiver.works = True
    run_cleanup(migrated, receiver, 2)

    assert receiver.tried == [("failures:cleanup", "10:13")] * 3
    assert raised(db) == []


def test_the_alert_command_can_be_tested(
    migrated: Memctl, configured: tuple[str, str], delivered: Path, tmp_path: Path
) -> None:
    good = migrated.ok("alerts", "test", "-v", *configured)
    bad = migrated("alerts", "test", *configure(tmp_path, ["sh", "-c", "exit 7"]))
    none = migrated("alerts", "test")

    assert documents(delivered) == [
        {
            "schema": 1,
            "at": "2026-11-22T09:43:58Z",
            "database": str(migrated.database),
            "message": "this is a test of the alert command",
            "condition": "test",
        }
    ]
    assert (good.out, good.err) == ("", "alerts: sh accepted the test alert\n")
    assert (bad.exit_code, bad.err) == (
        1,
        "memctl: the alert command ended with 7; check [alerts] in the configuration\n",
    )
    assert (none.exit_code, none.err) == (
        1,
        "memctl: no alert command is configured; set `command` under [alerts] in the"
        " configuration\n",
    )


def test_a_missing_alert_program_is_found_by_config_validate(
    migrated: Memctl, tmp_path: Path
) -> None:
    missing = configure(tmp_path, ["no-such-program", "x"])

    answer = migrated("config", "validate", "--json", *missing)
    job = migrated.ok("cleanup", *missing)
    good = migrated.ok("config", "validate", *configure(tmp_path, ["sh"]))

    assert answer.exit_code == 2
    assert answer.json["problems"] == [
        {
            "setting": "alerts.command",
            "message": "there is no program 'no-such-program' that this user can run",
            "hint": "correct the path, or install the program",
        }
    ]
    assert (job.err, "is valid" in good.err) == ("", True)


def test_a_command_that_reads_and_prints_nothing_succeeds(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path
) -> None:
    grow(db, 4)

    answer = migrated.ok("cleanup", *configure(tmp_path, ["sh", "-c", "echo hi; echo ho >&2"]))

    assert (answer.out, answer.err) == ("", "")


def test_arguments_are_not_interpreted_by_a_shell(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path
) -> None:
    script = tmp_path / "show.sh"
    script.write_text(f'#!/bin/sh\nprintf "%s|" "$@" > {tmp_path}/arguments\n')
    script.chmod(0o700)
    grow(db, 4)

    migrated.ok("cleanup", *configure(tmp_path, [str(script), "$HOME", "a b", "*", ";ls"]))

    assert (tmp_path / "arguments").read_text() == "$HOME|a b|*|;ls|"


def test_the_command_may_use_memctl_itself(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path
) -> None:
    grow(db, 4)

    migrated.ok("cleanup", *configure(tmp_path, [str(PROGRAM), "decay", "--lock-wait", "0"]))

    assert statuses(db) == [("cleanup", "ok"), ("decay", "ok")]


def test_without_a_command_an_alert_is_only_an_event(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    take_snapshot(db, "2026-11-21", 300)

    answer = migrated.ok("cleanup")

    assert (answer.out, answer.err) == ("", "")
    assert [detail["condition"] for _, _, detail in alert_events(db)] == ["drop"]
    assert raised(db) == [("alert:drop",)]


def test_a_preview_delivers_no_alert(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], delivered: Path
) -> None:
    grow(db, 4)

    migrated.ok("cleanup", "--dry-run", *configured)

    assert documents(delivered) == []
    assert alert_events(db) == []


# The bridge


@pytest.fixture
def bridged(tmp_path: Path) -> tuple[str, str]:
    """The options that name a configuration with the bridge enabled."""
    configuration = tmp_path / "bridge.toml"
    configuration.write_text("[observability]\nevents = true\n")
    return "--config", str(configuration)


@pytest.mark.parametrize("key", ["TEXT PRIMARY KEY NOT NULL", "INTEGER PRIMARY KEY AUTOINCREMENT"])
def test_every_run_is_one_row_in_the_services_table(
    db: sqlite3.Connection, migrated: Memctl, bridged: tuple[str, str], key: str
) -> None:
    db.execute(SERVICE_EVENTS.format(id=key))
    for _ in range(450):
        insert_memory(db, expired_for=HOUR)
    migrated.ok("cleanup", *bridged)
    migrated("cleanup", "--agent", "nobody", *bridged)
    insert_memory(db, expired_for=HOUR)
    db.execute(REFUSE_EVENTS)
    migrated("cleanup", *bridged)
    migrated.ok("cleanup", "--dry-run", *bridged)
    db.execute("DROP TRIGGER mute")
    migrated.ok("cleanup")  # without the configuration that enables it

    columns = "event_type, agent_id, severity, message, timestamp IS NOT NULL, id IS NOT NULL"
    assert rows(db, "observability_events", columns) == [
        ("memory_lifecycle", "memctl", severity, f"memctl cleanup {message}", 1, 1)
        for severity, message in [
            ("info", "ok: archived 450 (run 1)"),
            (
                "warning",
                "refused: agent 'nobody' has no memories; names are case-sensitive (run 2)",
            ),
            ("error", f"failed: {not_today(migrated)} (run 3)"),
        ]
    ]
    assert json.loads(rows(db, "observability_events", "payload")[0][0]) == {
        "run_id": 1,
        "job": "cleanup",
        "counts": {
            "archived": 450,
            "over_quota": 0,
            "held_over_quota": 0,
            "held": 0,
            "versions_pruned": 0,
        },
    }


@pytest.mark.parametrize(
    "table",
    [
        pytest.param("", id="missing"),
        pytest.param(
            "CREATE TABLE observability_events (id, event_type, message)", id="another table"
        ),
        pytest.param(
            SERVICE_EVENTS.format(id="TEXT").replace("task_id TEXT", "task_id TEXT NOT NULL"),
            id="a required column more",
        ),
        pytest.param(
            "CREATE VIEW observability_events AS"
            " SELECT 1 AS event_type, 2 AS agent_id, 3 AS severity, 4 AS message",
            id="a view",
        ),
    ],
)
def test_a_table_that_does_not_accept_the_row_fails_no_job(
    db: sqlite3.Connection, migrated: Memctl, bridged: tuple[str, str], table: str
) -> None:
    db.executescript(table)
    insert_memory(db, expired_for=HOUR)

    answer = migrated.ok("cleanup", *bridged)

    assert (answer.out, answer.err) == ("", "")
    assert statuses(db) == [("cleanup", "ok")]


def test_no_row_is_written_unless_the_bridge_is_enabled(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.execute(SERVICE_EVENTS.format(id="TEXT"))

    migrated.ok("cleanup")

    assert rows(db, "observability_events") == []
