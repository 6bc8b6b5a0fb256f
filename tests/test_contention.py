"""Concurrent use of the database: by the service, another memctl, a reader; and signals."""

import json
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.database import Row, connect, everything, rows, text_of
from tests.support.forkserver import Process
from tests.support.jobs import CLEANUP, DECAY, IMPORT, JOBS, MANY, SCHEMA_CHANGES, Job, undisturbed
from tests.support.locks import lock_file, write_lock
from tests.support.processes import eventually
from tests.support.program import PROGRAM, Answer, Memctl, Words, fork_server
from tests.support.service import Service
from tests.support.service_at_work import (
    TODAY,
    TOMORROW,
    memory_of,
    read_row,
    service_at_work,
    use_memories,
)
from tests.support.snapshots import Snapshot, broken_promises, count_changed, snapshot


@pytest.fixture
def memctl(path: Path) -> Memctl:
    """The installed program at the current time; the database does not exist yet."""
    return Memctl(path, TODAY)


Ended = subprocess.CompletedProcess[bytes]

AT_ONCE = [*SCHEMA_CHANGES, IMPORT]

every_job = pytest.mark.parametrize("job", [pytest.param(job, id=job.name) for job in JOBS])
every_change = pytest.mark.parametrize(
    "job", [pytest.param(job, id=job.name) for job in JOBS + AT_ONCE]
)


def ledger(path: Path) -> list[tuple[Any, ...]]:
    """Return the job, status and error of each run."""
    with closing(connect(path)) as db:
        return rows(db, "memory_runs", "job, status, error")


# The service


@every_change
def test_the_service_and_a_command_running_together_lose_nothing(
    job: Job, memctl: Memctl, tmp_path: Path
) -> None:
    words = job.prepare(memctl, 1000)
    before = snapshot(memctl.database)
    after = undisturbed(memctl, words, tmp_path / "alone")

    with service_at_work(memctl.database, use_memories) as service:
        answer = memctl(*words)

    found = snapshot(memctl.database)
    own = {memory["id"] for memory in service.acknowledged.values()}
    assert (answer.exit_code, answer.out, service.errors) == (0, "", [])
    assert "locked" not in answer.err
    assert service.active(memctl.database) == service.acknowledged
    assert {name: found.states[name] for name in before.states if name in found.states} == {
        name: after.states[name] for name in before.states if name in after.states
    }
    assert len(found.order["agent_memory"]) == len(set(found.order["agent_memory"]))
    assert set(found.states) == {*after.states, *own}
    assert found.sound


def expired_names(path: Path) -> list[tuple[str, str, str]]:
    """Return the agent, type and key of the active memories that expired long ago.

    Without those whose key is not UTF-8, which no parameter can name.
    """
    with closing(connect(path)) as db:
        names = db.execute(
            "SELECT agent_id, type, key FROM agent_memory WHERE expires_at < ? ORDER BY rowid DESC",
            (text_of(TODAY - timedelta(days=200)),),
        ).fetchall()
    return [name for name in names if name[2].isprintable()]


def test_a_memory_renewed_by_the_service_during_cleanup_stays_active(memctl: Memctl) -> None:
    words = CLEANUP.prepare(memctl, MANY)
    expired = expired_names(memctl.database)

    def renew(service: Service, number: int) -> Row:
        name = expired[number % len(expired)]
        return memory_of(service.remember(*name, "written again", expires_at=TOMORROW))

    with service_at_work(memctl.database, renew) as service:
        answer = memctl(*words)

    archived = snapshot(memctl.database).order["archived_memories"]
    assert (answer, service.errors) == (Answer(0, "", ""), [])
    assert service.active(memctl.database) == service.acknowledged
    assert {memory["id"] for memory in service.acknowledged.values()}.isdisjoint(archived)


def replace_memories(db: sqlite3.Connection, names: list[tuple[str, str, str]]) -> None:
    """Renew memories as the service does."""
    for agent, kind, key in names:
        db.execute(
            """
            INSERT OR REPLACE INTO agent_memory (id, agent_id, type, key, value, expires_at)
            VALUES (?, ?, ?, ?, 'renewed', ?)
            """,
            (f"new {agent} {kind} {key}", agent, kind, key, TOMORROW),
        )


def prolong_memories(db: sqlite3.Connection, names: list[tuple[str, str, str]]) -> None:
    """Renew memories as with the sqlite3 shell."""
    for name in names:
        db.execute(
            """
            UPDATE agent_memory SET expires_at = ?, value = 'renewed'
            WHERE agent_id = ? AND type = ? AND key = ?
            """,
            (TOMORROW, *name),
        )


@pytest.mark.parametrize(
    "renew",
    [
        pytest.param(replace_memories, id="replaced"),
        pytest.param(prolong_memories, id="prolonged in place"),
    ],
)
def test_a_memory_renewed_between_search_and_batch_stays_active(
    renew: Callable[[sqlite3.Connection, list[tuple[str, str, str]]], None],
    memctl: Memctl,
    tmp_path: Path,
) -> None:
    renewed: list[tuple[str, str, str]] = []

    def renew_the_rest(process: Process, path: Path) -> Ended:
        with write_lock(path) as db:
            renewed[:] = expired_names(path)
            renew(db, renewed)
        return process.resume()

    midway = interfere(CLEANUP, memctl, tmp_path, renew_the_rest)

    with closing(connect(midway.program.database)) as db:
        active = db.execute("SELECT count(*) FROM agent_memory WHERE value = 'renewed'").fetchone()
        archived = db.execute(
            "SELECT count(*) FROM archived_memories WHERE value = 'renewed'"
        ).fetchone()
    assert renewed
    assert midway.answer == Answer(0, "", "")
    assert (active, archived) == ((len(renewed),), (0,))


def test_decay_overwrites_no_concurrent_access(memctl: Memctl, tmp_path: Path) -> None:
    words = DECAY.prepare(memctl, MANY)
    before = importances(memctl.database)
    undisturbed(memctl, words, tmp_path / "alone")
    after = importances(tmp_path / "alone" / "harness.db")
    chance = random.Random(7)
    names = [name for name in before if name[2].isprintable()]

    def recall(service: Service, _number: int) -> Row:
        name = chance.choice(names)
        service.recall(*name)
        memory = read_row(service, *name)
        return {column: memory[column] for column in memory if column != "importance"}

    with service_at_work(memctl.database, recall) as service:
        answer = memctl(*words)

    found = service.active(memctl.database)
    assert (answer, service.errors) == (Answer(0, "", ""), [])
    assert {name: (row["access_count"], row["last_accessed"]) for name, row in found.items()} == {
        name: (row["access_count"], row["last_accessed"])
        for name, row in service.acknowledged.items()
    }
    assert all(row["importance"] in (before[name], after[name]) for name, row in found.items())
    assert all(
        value == after[name]
        for name, value in importances(memctl.database).items()
        if name not in found
    )


def importances(path: Path) -> dict[tuple[str, str, str], Any]:
    """Return the importance of every active memory by agent, type and key."""
    with closing(connect(path)) as db:
        return {
            (agent, kind, key): importance
            for agent, kind, key, importance in rows(
                db, "agent_memory", "agent_id, type, key, importance"
            )
        }


# Interference between two batches of a job


@dataclass(frozen=True)
class Midway:
    """The result of a job with interference, and the state of the database before and after it."""

    program: Memctl
    words: Words
    answer: Answer
    before: Snapshot
    after: Snapshot


def interfere(
    job: Job,
    memctl: Memctl,
    folder: Path,
    interference: Callable[[Process, Path], Ended],
    *options: str,
) -> Midway:
    """Interfere with a job between its first two batches, and let it end."""
    words = job.prepare(memctl)
    before = snapshot(memctl.database)
    after = undisturbed(memctl, words, folder / "alone")
    process = fork_server().start_and_stop(
        [str(PROGRAM), *words, *options],
        environment=memctl.environment(),
        directory=memctl.database.parent,
        transaction=3,  # the first records the run
    )
    ended = interference(process, memctl.database)
    answer = Answer(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    return Midway(memctl, words, answer, before, after)


def send(number: signal.Signals) -> Callable[[Process, Path], Ended]:
    """Return an interference that sends a signal."""

    def interference(process: Process, _path: Path) -> Ended:
        os.kill(process.pid, number)
        return process.resume()

    return interference


@every_job
@pytest.mark.parametrize(
    ("number", "exit_code"),
    [
        pytest.param(signal.SIGTERM, 143, id="terminated"),
        pytest.param(signal.SIGINT, 130, id="interrupted"),
    ],
)
def test_a_signal_stops_a_job_between_two_batches(
    number: signal.Signals, exit_code: int, job: Job, memctl: Memctl, tmp_path: Path
) -> None:
    midway = interfere(job, memctl, tmp_path, send(number))

    found = snapshot(midway.program.database)
    assert (midway.answer.exit_code, midway.answer.out) == (exit_code, "")
    assert midway.answer.err.count("\n") <= 1
    assert "Traceback" not in midway.answer.err
    assert broken_promises(midway.before, midway.after, found) == []
    assert 0 < count_changed(midway.before, found) < count_changed(midway.before, midway.after)
    assert ledger(midway.program.database)[-1] == (job.name, "failed", "stopped by a signal")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT], ids=["terminated", "interrupted"]
)
def test_a_cleanup_stopped_by_a_signal_can_be_rerun(
    number: signal.Signals, memctl: Memctl, tmp_path: Path
) -> None:
    midway = interfere(CLEANUP, memctl, tmp_path, send(number))
    rerun = midway.program(*midway.words)

    assert rerun == Answer(0, "", "")
    assert snapshot(midway.program.database) == midway.after


@every_job
def test_a_job_locked_out_between_batches_fails_and_keeps_its_work(
    job: Job, memctl: Memctl, tmp_path: Path
) -> None:
    def lock_out(process: Process, path: Path) -> Ended:
        with write_lock(path):
            return process.resume()

    midway = interfere(job, memctl, tmp_path, lock_out, "--lock-wait", "0.2")

    found = snapshot(midway.program.database)
    assert (midway.answer.exit_code, midway.answer.out) == (11, "")
    assert midway.answer.err.count("\n") == 1
    assert "harness.db is locked by another program" in midway.answer.err
    assert broken_promises(midway.before, midway.after, found) == []
    assert ledger(midway.program.database)[-1][1] in ("running", "failed")


# Another memctl


def test_two_concurrent_cleanups_succeed_and_archive_nothing_twice(
    memctl: Memctl, tmp_path: Path
) -> None:
    words = CLEANUP.prepare(memctl)
    before, after = snapshot(memctl.database), undisturbed(memctl, words, tmp_path / "alone")

    processes = [memctl.start(*words, "--json") for _ in range(2)]
    outputs = [process.communicate() for process in processes]

    archived = sorted(json.loads(out)["archived"] for out, _ in outputs)
    assert [process.returncode for process in processes] == [0, 0]
    assert [err for _, err in outputs] == [b"", b""]
    assert archived == [0, count_changed(before, after)]
    assert snapshot(memctl.database) == after


def test_a_job_waits_for_a_running_job(memctl: Memctl) -> None:
    CLEANUP.prepare(memctl)

    with write_lock(memctl.database):
        first = memctl.start("cleanup", "--lock-wait", "60")
        eventually(lambda: holder(memctl.database) == ("cleanup", first.pid))
        second = memctl.start("decay", "--lock-wait", "60")
        still_running = (first.poll(), second.poll(), ledger(memctl.database))
    outputs = [first.communicate(), second.communicate()]

    assert still_running == (None, None, [])
    assert (first.returncode, second.returncode, outputs) == (0, 0, [(b"", b"")] * 2)
    assert ledger(memctl.database) == [("cleanup", "ok", None), ("decay", "ok", None)]


def holder(path: Path) -> tuple[str, int] | None:
    """Return the job and process that the lock file names."""
    note = path.with_name(f"{path.name}.memctl.lock").read_text()
    try:
        found = json.loads(note)
    except ValueError:
        return None
    return found["job"], found["pid"]


@every_change
def test_a_command_that_does_not_wait_names_the_running_memctl(job: Job, memctl: Memctl) -> None:
    words = job.prepare(memctl)
    before = everything(memctl.database)

    with lock_file(memctl.database, '{"job": "cleanup", "pid": 4711}'):
        answer = memctl(*words, "--lock-wait", "0")

    assert answer == Answer(
        11,
        "",
        "memctl: another memctl process is using this database: cleanup, process 4711;"
        " waited 0 s; try again, or increase --lock-wait\n",
    )
    assert everything(memctl.database) == before


def test_the_running_memctl_is_named_by_job_and_process(memctl: Memctl) -> None:
    CLEANUP.prepare(memctl)

    with write_lock(memctl.database):
        running = memctl.start("cleanup", "--lock-wait", "60")
        eventually(lambda: holder(memctl.database) == ("cleanup", running.pid))
        answer = memctl("decay", "--lock-wait", "0")
    running.communicate()

    assert answer.exit_code == 11
    assert f"using this database: cleanup, process {running.pid};" in answer.err
    assert running.returncode == 0


@pytest.mark.parametrize("note", ["", "not JSON", "[]", '"text"', '{"job": "cleanup"}', "\0" * 9])
def test_an_unreadable_note_in_the_lock_file_does_not_matter(note: str, migrated: Memctl) -> None:
    with lock_file(migrated.database, note):
        answer = migrated("cleanup", "--lock-wait", "0")

    assert (answer.exit_code, answer.err.count("\n")) == (11, 1)
    assert "unknown process" in answer.err


# Another program


def fill_for_pause(memctl: Memctl, memories: int) -> Words:
    """Give pause a migrated database."""
    CLEANUP.fill(memctl, memories)
    return ("pause", "--reason", "deploy")


def fill_for_resume(memctl: Memctl, memories: int) -> Words:
    """Give resume a paused database."""
    memctl.ok(*fill_for_pause(memctl, memories))
    return ("resume",)


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(job, id=job.name)
        for job in [
            *JOBS,
            *AT_ONCE,
            Job("pause", fill_for_pause),
            Job("resume", fill_for_resume),
        ]
    ],
)
def test_a_command_fails_cleanly_on_a_database_that_stays_locked(job: Job, memctl: Memctl) -> None:
    words = job.prepare(memctl)
    before = everything(memctl.database)

    with write_lock(memctl.database):
        answer = memctl(*words, "--lock-wait", "1")

    assert (answer.exit_code, answer.out, answer.err.count("\n")) == (11, "", 1)
    assert answer.err.startswith(f"memctl: {memctl.database} is locked by another program")
    assert everything(memctl.database) == before


@every_change
def test_a_long_read_transaction_does_not_stop_a_command(
    job: Job, memctl: Memctl, tmp_path: Path
) -> None:
    words = job.prepare(memctl)
    after = undisturbed(memctl, words, tmp_path / "alone")
    count = "SELECT count(*), max(rowid) FROM agent_memory"

    with closing(connect(memctl.database)) as reader:
        reader.execute("BEGIN")
        begun = reader.execute(count).fetchone()
        answer = memctl(*words)
        still = reader.execute(count).fetchone()

    assert (answer.exit_code, answer.out) == (0, "")
    assert still == begun
    assert snapshot(memctl.database) == after


# Limits and previews


@pytest.mark.parametrize(
    "job", [pytest.param(job, id=job.name) for job in JOBS if job.name != "import"]
)
def test_a_job_without_time_does_nothing_and_reports_what_remains(
    job: Job, memctl: Memctl, tmp_path: Path
) -> None:
    words = job.prepare(memctl)
    before, after = snapshot(memctl.database), undisturbed(memctl, words, tmp_path / "alone")

    stopped = memctl.ok(*words, "--max-seconds", "0", "--json")
    left = snapshot(memctl.database)
    rerun = memctl.ok(*words)

    assert (stopped.json["remaining"], stopped.err) == (count_changed(before, after), "")
    assert left == before
    assert (rerun.out, rerun.err) == ("", "")
    assert snapshot(memctl.database) == after


def test_a_job_out_of_time_stops_between_batches_and_reports_the_rest(
    memctl: Memctl, tmp_path: Path
) -> None:
    words = CLEANUP.prepare(memctl, MANY)
    before, after = snapshot(memctl.database), undisturbed(memctl, words, tmp_path / "alone")

    first = memctl.ok(*words, "--max-seconds", "0.01", "--json")
    left = snapshot(memctl.database)
    rest = memctl.ok(*words, "--json")

    assert 0 < first.json["remaining"] <= count_changed(before, after)
    assert first.json["archived"] == count_changed(before, left)
    assert first.json["remaining"] == rest.json["archived"]
    assert broken_promises(before, after, left) == []
    assert snapshot(memctl.database) == after
    assert ledger(memctl.database) == [("cleanup", "ok", None)] * 2


@every_job
def test_a_dry_run_takes_no_lock_and_writes_no_byte(job: Job, memctl: Memctl) -> None:
    words = job.prepare(memctl)
    with (
        closing(Service(memctl.database)) as service,
        lock_file(memctl.database),
        write_lock(memctl.database),
    ):
        service.recall_all("build_agent")
        before = checksums(memctl.database)

        answer = memctl(*words, "--dry-run", "--json", "--lock-wait", "0")

        after = checksums(memctl.database)
    assert (answer.exit_code, answer.err) == (0, "")
    assert answer.json["run_id"] is None
    assert after == before


def checksums(path: Path) -> bytes:
    """Return the checksums of a database and its write-ahead log.

    By another process: closing a file would give up the locks that SQLite holds on it in this one.
    """
    return subprocess.check_output(["cksum", path, f"{path}-wal"])


@every_job
def test_a_dry_run_alone_with_the_database_changes_nothing(job: Job, memctl: Memctl) -> None:
    words = job.prepare(memctl)
    before = everything(memctl.database)

    answer = memctl(*words, "--dry-run", "--json")

    assert answer.exit_code == 0
    assert everything(memctl.database) == before
