"""SIGKILL at random moments: a command that dies loses nothing, doubles nothing, and can be rerun.

Every memory must at all times be exactly as it was before the command, or exactly as an unkilled
run leaves it, and its events must tell which.
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from memctl.storage.sqlite.manifests import manifests_in
from tests.support.database import connect, connected_to_copy
from tests.support.jobs import (
    MEMORIES,
    SEED,
    Job,
    every_job,
    fill_legacy_table,
    prepare_cleanup,
    prepare_import,
)
from tests.support.processes import (
    Sign,
    at_once,
    backup_begun,
    eventually,
    first_commit,
    kill,
    run_begun,
    slow_down,
    speed_up,
)
from tests.support.program import Memctl, Words
from tests.support.snapshots import Shape, Snapshot, broken_promises, count_changed, shape, snapshot

KILLS = 6  # of each command and each way to choose the moment


# Killing


@dataclass(frozen=True)
class Timing:
    """How long an unkilled run took, and how much of that came after the first sign of work."""

    whole: float
    at_work: float


def time_unkilled(memctl: Memctl, words: Words, sign: Callable[[Path], Sign]) -> Timing:
    """Run a command to its good end."""
    working = sign(memctl.database)
    started = time.monotonic()
    process = memctl.start(*words)
    eventually(working)
    first_sign = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    ended = time.monotonic()
    return Timing(ended - started, ended - first_sign)


def killed(
    template: Memctl, words: Words, *, folder: Path, sign: Callable[[Path], Sign], span: float
) -> Iterator[Memctl]:
    """Kill a command once in each equal part of the time span that follows the sign.

    Yields the program pointed at what the dead process left. A run that ends before its turn to
    be killed does not count and is repeated with less time.
    """
    chance = random.Random(f"{SEED} {words[0]} {sign.__name__}")
    for part in range(KILLS):
        delay = span * (part + chance.random()) / KILLS
        for attempt in range(20):
            place = folder / f"{part}-{attempt}"
            place.mkdir()
            memctl = Memctl(place / "harness.db", template.now)
            shutil.copyfile(template.database, memctl.database)
            if kill(memctl, words, after=sign(memctl.database), delay=delay):
                yield memctl
                shutil.rmtree(place)
                break
            shutil.rmtree(place)
            delay *= 0.9
        else:
            pytest.fail(f"{words[0]} always ended before it could be killed")


def ledger_since(path: Path, template: Path) -> list[tuple[str, bool]]:
    """Return of each run that the template lacks the status and whether it was finished."""
    runs = "SELECT run_id, status, finished_at IS NOT NULL FROM memory_runs ORDER BY run_id"
    with closing(connect(template)) as db:
        known = len(db.execute(runs).fetchall())
    with connected_to_copy(path) as db:
        return [(status, bool(finished)) for _, status, finished in db.execute(runs)][known:]


# The jobs


@dataclass(frozen=True)
class Crash:
    """What a killed job left, and what its rerun made of it."""

    changed: float  # the part of the whole work that was done
    broken: list[str]
    ledger: list[tuple[str, bool]]
    rerun: int
    rerun_ended_like_unkilled: bool

    @property
    def recorded(self) -> bool:
        """Tell whether the ledger shows what was done, as a crash unless all of it was."""
        return self.ledger == [("running", False)] or (self.changed, self.ledger) in (
            (0, []),
            (1, [("ok", True)]),
        )


def program_at(folder: Path) -> Memctl:
    """Return the program, pointed at a database in a folder of its own."""
    folder.mkdir()
    return Memctl(folder / "harness.db")


def crash_repeatedly(job: Job, folder: Path, *, at_work: bool) -> list[Crash]:
    """Kill a job over and over, each time on a fresh copy of its database."""
    template, unkilled = program_at(folder / "template"), program_at(folder / "unkilled")
    words = job.prepare(template)
    before = snapshot(template.database)
    shutil.copyfile(template.database, unkilled.database)
    if at_work:
        slow_down(template.database)
        slow_down(unkilled.database)
    timing = time_unkilled(unkilled, words, first_commit)
    after = snapshot(unkilled.database)
    crashes = []
    for memctl in killed(
        template,
        words,
        folder=folder,
        sign=first_commit if at_work else at_once,
        span=timing.at_work if at_work else timing.whole,
    ):
        left = snapshot(memctl.database)
        ledger = ledger_since(memctl.database, template.database)
        if at_work:
            speed_up(memctl.database)
        rerun = memctl(*words)
        crashes.append(
            Crash(
                changed=count_changed(before, left) / count_changed(before, after),
                broken=broken_promises(before, after, left),
                ledger=ledger,
                rerun=rerun.exit_code,
                rerun_ended_like_unkilled=snapshot(memctl.database) == after,
            )
        )
    return crashes


@every_job
def test_a_job_killed_at_any_moment_loses_and_doubles_nothing(job: Job, tmp_path: Path) -> None:
    crashes = crash_repeatedly(job, tmp_path, at_work=False)

    assert [crash.broken for crash in crashes] == [[]] * KILLS
    assert [crash for crash in crashes if not crash.recorded] == []
    assert [crash.rerun for crash in crashes] == [0] * KILLS
    assert [crash for crash in crashes if not crash.rerun_ended_like_unkilled] == []


@every_job
def test_a_job_killed_between_batches_loses_and_doubles_nothing(job: Job, tmp_path: Path) -> None:
    crashes = crash_repeatedly(job, tmp_path, at_work=True)

    assert any(0 < crash.changed < 1 for crash in crashes)
    assert [crash.broken for crash in crashes] == [[]] * KILLS
    assert [crash for crash in crashes if not crash.recorded] == []
    assert [crash.rerun for crash in crashes] == [0] * KILLS
    assert [crash for crash in crashes if not crash.rerun_ended_like_unkilled] == []


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(at_once, id="at any moment"),
        pytest.param(run_begun, id="once it is at work"),
    ],
)
def test_a_killed_atomic_import_happened_whole_or_not_at_all(
    sign: Callable[[Path], Sign], tmp_path: Path
) -> None:
    template, unkilled = program_at(tmp_path / "template"), program_at(tmp_path / "unkilled")
    words = (*prepare_import(template), "--atomic")
    before = snapshot(template.database)
    shutil.copyfile(template.database, unkilled.database)
    timing = time_unkilled(unkilled, words, run_begun)
    after = snapshot(unkilled.database)
    span = timing.whole if sign is at_once else timing.at_work
    lefts, reruns = [], []

    for memctl in killed(template, words, folder=tmp_path, sign=sign, span=span):
        lefts.append(snapshot(memctl.database))
        reruns.append(memctl(*words).exit_code)

    assert count_changed(before, after) > MEMORIES / 8
    assert [left in (before, after) for left in lefts] == [True] * KILLS
    assert reruns == [0] * KILLS


# The schema


@dataclass(frozen=True)
class SchemaCrash:
    """What a killed change of the schema left, and what its rerun made of it."""

    left: Shape
    backups: list[Snapshot]
    rerun: int
    drafts: list[str]  # parts of backups that are left after the rerun
    end: Shape


def crash_schema_repeatedly(
    template: Memctl, words: Words, folder: Path, *, sign: Callable[[Path], Sign]
) -> list[SchemaCrash]:
    """Kill a change of the schema over and over, each time on a fresh copy of the database."""
    unkilled = program_at(folder / "unkilled")
    shutil.copyfile(template.database, unkilled.database)
    timing = time_unkilled(unkilled, words, backup_begun)
    crashes = []
    for memctl in killed(
        template,
        words,
        folder=folder,
        sign=sign,
        span=timing.at_work if sign is backup_begun else timing.whole,
    ):
        left = shape(memctl.database)
        backups = [snapshot(copy) for copy in memctl.database.parent.glob("harness.db.before-*Z")]
        rerun = memctl(*words)
        drafts = [file.name for file in memctl.database.parent.glob(".*")]
        drafts += [
            note.name
            for note, manifest in manifests_in(memctl.database.parent)
            if manifest.sha256 is None
        ]
        crashes.append(SchemaCrash(left, backups, rerun.exit_code, drafts, shape(memctl.database)))
    return crashes


either_way = pytest.mark.parametrize(
    "sign",
    [
        pytest.param(at_once, id="at any moment"),
        pytest.param(backup_begun, id="from the backup on"),
    ],
)


@either_way
def test_a_killed_migration_stops_at_a_whole_step_and_changes_no_memory(
    sign: Callable[[Path], Sign], tmp_path: Path
) -> None:
    template, stepwise = program_at(tmp_path / "template"), program_at(tmp_path / "stepwise")
    fill_legacy_table(template.database, now=template.now)
    shutil.copyfile(template.database, stepwise.database)
    steps = [shape(template.database)]
    for step in ("1", "2"):
        stepwise.ok("migrate", "--no-backup", "--to", step)
        steps.append(shape(stepwise.database))

    crashes = crash_schema_repeatedly(template, ("migrate",), tmp_path, sign=sign)

    assert len(crashes) == KILLS
    assert [crash.left for crash in crashes if crash.left not in steps] == []
    assert [crash for crash in crashes if not crash.backups and crash.left != steps[0]] == []
    assert all(copy == snapshot(template.database) for crash in crashes for copy in crash.backups)
    assert [crash.rerun for crash in crashes] == [0] * KILLS
    assert [crash.drafts for crash in crashes] == [[]] * KILLS
    assert [crash.end for crash in crashes if crash.end != steps[-1]] == []


@either_way
def test_a_killed_rollback_happens_or_not_and_keeps_the_archive_in_its_backup(
    sign: Callable[[Path], Sign], tmp_path: Path
) -> None:
    template, unkilled = program_at(tmp_path / "template"), program_at(tmp_path / "whole")
    template.ok(*prepare_cleanup(template))
    words = ("rollback", "--to", "1", "--yes")
    shutil.copyfile(template.database, unkilled.database)
    unkilled.ok(*words)
    before, after = shape(template.database), shape(unkilled.database)

    crashes = crash_schema_repeatedly(template, words, tmp_path, sign=sign)

    assert len(crashes) == KILLS
    assert [crash.left for crash in crashes if crash.left not in (before, after)] == []
    assert [crash for crash in crashes if not crash.backups and crash.left != before] == []
    assert all(copy == snapshot(template.database) for crash in crashes for copy in crash.backups)
    assert [crash.rerun for crash in crashes] == [0] * KILLS
    assert [crash.drafts for crash in crashes] == [[]] * KILLS
    assert [crash.end for crash in crashes if crash.end != after] == []


# The control: the check can fail

CARELESS = """
import sqlite3, sys

database, first, second = sys.argv[1:]
db = sqlite3.connect(database, isolation_level=None)
db.execute(first)
print("between", flush=True)
sys.stdin.readline()
db.execute(second)
"""

COPY_EXPIRED = """
    INSERT INTO archived_memories
        (id, agent_id, type, key, value, importance, archived_at, archived_reason)
    SELECT id, agent_id, type, key, value, importance, '2026-11-22T09:43:58Z', 'expired'
    FROM {source} WHERE expires_at < '2026-11-22'
"""

DELETE_EXPIRED = "DELETE FROM agent_memory WHERE expires_at < '2026-11-22'"


@pytest.mark.parametrize(
    ("statements", "places"),
    [
        pytest.param(
            (COPY_EXPIRED.format(source="agent_memory"), DELETE_EXPIRED),
            ["agent_memory", "archived_memories"],
            id="archives first",
        ),
        pytest.param(
            (DELETE_EXPIRED, COPY_EXPIRED.format(source="before_deletion")), [], id="deletes first"
        ),
    ],
)
def test_a_program_killed_between_two_transactions_is_caught(
    statements: Words, places: list[str], tmp_path: Path
) -> None:
    template, unkilled = program_at(tmp_path / "template"), program_at(tmp_path / "unkilled")
    prepare_cleanup(template)
    with closing(connect(template.database)) as db:
        db.execute("CREATE TABLE before_deletion AS SELECT * FROM agent_memory")
        expired = [
            memory_id
            for (memory_id,) in db.execute(
                "SELECT id FROM agent_memory WHERE expires_at < '2026-11-22' ORDER BY id"
            )
        ]
    shutil.copyfile(template.database, unkilled.database)
    before = snapshot(template.database)
    run_careless(unkilled, statements, killed_between=False)
    after = snapshot(unkilled.database)

    run_careless(template, statements, killed_between=True)

    assert broken_promises(before, after, after) == []
    assert broken_promises(before, after, snapshot(template.database)) == [
        f"{memory_id} is in {places}, told of by []" for memory_id in expired
    ]


def run_careless(memctl: Memctl, statements: Words, *, killed_between: bool) -> None:
    """Run a program that archives and deletes in two transactions."""
    with subprocess.Popen(
        [sys.executable, "-c", CARELESS, memctl.database, *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"between\n"
        if killed_between:
            process.kill()
        process.communicate(b"\n")
