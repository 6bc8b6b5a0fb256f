"""SIGKILL before any step of a command, or at a random moment."""

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.program import PROGRAM, Memctl, Words, fork_server

RANDOM_KILLS = 50

# The number of a step, from 1, among those of one kind, or among all steps without a kind.
Step = tuple[int, str | None]


def program_at(folder: Path) -> Memctl:
    """Return the program, pointed at a database in a new folder."""
    folder.mkdir()
    return Memctl(folder / "harness.db")


def copy_at(folder: Path, template: Memctl) -> Memctl:
    """Return the program, pointed at a copy of a database in a new folder."""
    memctl = program_at(folder).at(template.now)
    shutil.copyfile(template.database, memctl.database)
    return memctl


def one_of_each_kind(memctl: Memctl, words: Words) -> list[Step]:
    """Run a command to success; return a step of each kind: the third, when there are three.

    By then a job has committed a batch and is working on another: the first batch is one row, and
    no later one is more than twice as large as the one before.
    """
    assert kill((0, None), memctl, words) == 0
    kinds = Counter(memctl.database.with_name("steps").read_text().splitlines())
    return [(min(times, 3), kind) for kind, times in kinds.items()]


def kill(step: Step, memctl: Memctl, words: Words) -> int:
    """Run a command and kill it before a step; return its exit status."""
    ran = fork_server().run(
        [str(PROGRAM), *words],
        environment=memctl.environment(),
        directory=memctl.database.parent,
        steps=memctl.database.with_name("steps"),
        kill_before=step,
    )
    return ran.returncode


def killed_before(
    steps: Iterable[Step], template: Memctl, words: Words, folder: Path
) -> Iterator[Memctl]:
    """Kill a command before each of these steps, each time on a fresh copy of the database.

    Yields the program pointed at what the killed process left; ends when a run ends by itself.
    """
    for number, step in enumerate(steps):
        memctl = copy_at(folder / f"killed-{number}", template)
        status = kill(step, memctl, words)
        if status == 0:
            return
        assert status == -signal.SIGKILL
        yield memctl
        shutil.rmtree(memctl.database.parent)


def killed_at_random(template: Memctl, words: Words, folder: Path) -> Iterator[Memctl]:
    """Kill a command at random moments, each time on a fresh copy of the database.

    Yields the program pointed at what is left; a run may have ended before its kill.
    """
    unkilled = copy_at(folder / "timed", template)
    began = time.monotonic()
    unkilled.start(*words).communicate()
    whole = time.monotonic() - began
    for number in range(RANDOM_KILLS):
        memctl = copy_at(folder / f"random-{number}", template)
        process = memctl.start(*words)
        time.sleep(random.uniform(0, whole))
        process.kill()
        process.communicate()
        yield memctl
        shutil.rmtree(memctl.database.parent)
