"""SIGKILL: a killed command loses nothing, duplicates nothing, and can be rerun.

Every memory must at all times be exactly as it was before the command, or exactly as an unkilled
run leaves it, and its events must agree. Commands are killed before each step that can change
something (one step of each kind here, every step in the campaign), and at random moments, at which
they may have ended.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path

import pytest

from memctl.storage.sqlite.manifests import manifests_in
from tests.support.database import connect, connected_to_copy
from tests.support.jobs import CLEANUP, IMPORT, MIGRATE, ROLLBACK, Job, every_job
from tests.support.kills import (
    copy_at,
    killed_at_random,
    killed_before,
    one_of_each_kind,
    program_at,
)
from tests.support.program import Memctl, Words
from tests.support.snapshots import Shape, Snapshot, broken_promises, count_changed, shape, snapshot

MEMORIES = 40

Killed = Callable[[Memctl, Words, Path], Iterator[Memctl]]


def killed_before_one_of_each_kind(
    template: Memctl, words: Words, folder: Path
) -> Iterator[Memctl]:
    """Kill a command before one step of each kind; yields what each kill left."""
    steps = one_of_each_kind(copy_at(folder / "recorded", template), words)
    kills = 0
    for memctl in killed_before(steps, template, words, folder):
        yield memctl
        kills += 1
    assert kills == len(steps)


def killed_before_every_step(template: Memctl, words: Words, folder: Path) -> Iterator[Memctl]:
    """Kill a command before each of its steps; yields what each kill left."""
    return killed_before(zip(count(1), repeat(None)), template, words, folder)


campaign = pytest.mark.campaign
by_step = [
    pytest.param(killed_before_one_of_each_kind, id="before one step of each kind"),
    pytest.param(killed_before_every_step, id="before every step", marks=campaign),
]
at_random = pytest.param(killed_at_random, id="at random moments", marks=campaign)
however_killed = pytest.mark.parametrize("killed", [*by_step, at_random])


def ledger_since(path: Path, template: Path) -> list[tuple[str, bool]]:
    """Return the status of each run that the template lacks, and whether it was finished."""
    runs = "SELECT run_id, status, finished_at IS NOT NULL FROM memory_runs ORDER BY run_id"
    with closing(connect(template)) as db:
        known = len(db.execute(runs).fetchall())
    with connected_to_copy(path) as db:
        return [(status, bool(finished)) for _, status, finished in db.execute(runs)][known:]


# The jobs


@dataclass(frozen=True)
class Crash:
    """The state that a killed job left, and the state after its rerun."""

    changed: float  # the share of the work that was done
    broken: list[str]
    ledger: list[tuple[str, bool]]
    rerun: int
    rerun_ended_like_unkilled: bool

    @property
    def recorded(self) -> bool:
        """Return whether the ledger records the work, as a crash unless it was finished."""
        return self.ledger == [("running", False)] or (self.changed, self.ledger) in (
            (0, []),
            (1, [("ok", True)]),
        )


def crash_repeatedly(job: Job, killed: Killed, folder: Path) -> list[Crash]:
    """Kill a job repeatedly, each time on a fresh copy of its database."""
    template = program_at(folder / "template")
    words = job.prepare(template, MEMORIES)
    unkilled = copy_at(folder / "unkilled", template)
    unkilled.ok(*words)
    before, after = snapshot(template.database), snapshot(unkilled.database)
    crashes = []
    for memctl in killed(template, words, folder):
        left = snapshot(memctl.database)
        ledger = ledger_since(memctl.database, template.database)
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


def check(crashes: list[Crash]) -> None:
    """Fail unless each crash left its database sound, and its rerun finished the work."""
    assert [crash for crash in crashes if crash.broken] == []
    assert [crash for crash in crashes if not crash.recorded] == []
    assert [crash for crash in crashes if crash.rerun != 0] == []
    assert [crash for crash in crashes if not crash.rerun_ended_like_unkilled] == []


@pytest.mark.parametrize("killed", by_step)
@every_job
def test_a_job_killed_before_a_step_loses_and_duplicates_nothing(
    job: Job, killed: Killed, tmp_path: Path
) -> None:
    crashes = crash_repeatedly(job, killed, tmp_path)

    check(crashes)
    assert crashes[0].changed == 0
    assert any(0 < crash.changed < 1 for crash in crashes)
    assert crashes[-1].changed == 1


@campaign
@every_job
def test_a_job_killed_at_random_loses_and_duplicates_nothing(job: Job, tmp_path: Path) -> None:
    check(crash_repeatedly(job, killed_at_random, tmp_path))


@however_killed
def test_a_killed_atomic_import_is_complete_or_had_no_effect(
    killed: Killed, tmp_path: Path
) -> None:
    template = program_at(tmp_path / "template")
    words = (*IMPORT.prepare(template, MEMORIES), "--atomic")
    unkilled = copy_at(tmp_path / "unkilled", template)
    unkilled.ok(*words)
    before, after = snapshot(template.database), snapshot(unkilled.database)
    lefts, reruns = [], []

    for memctl in killed(template, words, tmp_path):
        lefts.append(snapshot(memctl.database))
        reruns.append(memctl(*words).exit_code)

    assert count_changed(before, after) > MEMORIES / 8
    assert [left for left in lefts if left not in (before, after)] == []
    assert set(reruns) == {0}


# The schema


@dataclass(frozen=True)
class SchemaCrash:
    """The state that a killed schema change left, and the state after its rerun."""

    left: Shape
    backups: list[Snapshot]
    rerun: int
    drafts: list[str]  # parts of backups that are left after the rerun
    end: Shape


def crashes_of_schema_change(words: Words, killed: Iterable[Memctl]) -> list[SchemaCrash]:
    """Kill a schema change repeatedly; return what each kill left and the state after the rerun."""
    crashes = []
    for memctl in killed:
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


@however_killed
def test_a_killed_migration_ends_at_a_whole_step_with_no_memory_changed(
    killed: Killed, tmp_path: Path
) -> None:
    template = program_at(tmp_path / "template")
    words = MIGRATE.prepare(template, MEMORIES)
    stepwise = copy_at(tmp_path / "stepwise", template)
    steps = [shape(template.database)]
    for step in ("1", "2", "3"):
        stepwise.ok("migrate", "--no-backup", "--to", step)
        steps.append(shape(stepwise.database))
    before = snapshot(template.database)

    crashes = crashes_of_schema_change(words, killed(template, words, tmp_path))

    assert [crash.left for crash in crashes if crash.left not in steps] == []
    assert [crash for crash in crashes if not crash.backups and crash.left != steps[0]] == []
    assert all(copy == before for crash in crashes for copy in crash.backups)
    assert [crash for crash in crashes if crash.rerun != 0] == []
    assert [crash.drafts for crash in crashes if crash.drafts] == []
    assert [crash.end for crash in crashes if crash.end != steps[-1]] == []


@however_killed
def test_a_killed_rollback_is_complete_or_had_no_effect_and_leaves_a_whole_backup(
    killed: Killed, tmp_path: Path
) -> None:
    template = program_at(tmp_path / "template")
    words = ROLLBACK.prepare(template, MEMORIES)
    unkilled = copy_at(tmp_path / "unkilled", template)
    unkilled.ok(*words)
    before, after = shape(template.database), shape(unkilled.database)
    content = snapshot(template.database)

    crashes = crashes_of_schema_change(words, killed(template, words, tmp_path))

    assert [crash.left for crash in crashes if crash.left not in (before, after)] == []
    assert [crash for crash in crashes if not crash.backups and crash.left != before] == []
    assert all(copy == content for crash in crashes for copy in crash.backups)
    assert [crash for crash in crashes if crash.rerun != 0] == []
    assert [crash.drafts for crash in crashes if crash.drafts] == []
    assert [crash.end for crash in crashes if crash.end != after] == []


# Control: the check can fail

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
    template = program_at(tmp_path / "template")
    CLEANUP.prepare(template, MEMORIES)
    with closing(connect(template.database)) as db:
        db.execute("CREATE TABLE before_deletion AS SELECT * FROM agent_memory")
        expired = [
            memory_id
            for (memory_id,) in db.execute(
                "SELECT id FROM agent_memory WHERE expires_at < '2026-11-22' ORDER BY id"
            )
        ]
    unkilled = copy_at(tmp_path / "unkilled", template)
    before = snapshot(template.database)
    run_careless(unkilled, statements, killed_between=False)
    after = snapshot(unkilled.database)

    run_careless(template, statements, killed_between=True)

    assert broken_promises(before, after, after) == []
    assert broken_promises(before, after, snapshot(template.database)) == [
        f"{memory_id} is in {places}, recorded by []" for memory_id in expired
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
