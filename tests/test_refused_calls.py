"""Every system call with which memctl writes its own files fails once, as on full or faulty disks.

`strace` makes one call of one run fail. SQLite's own files are left out: SQLite is tested for this.
"""

import fcntl
import re
import shutil
import subprocess
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memctl.storage.sqlite.locking import lock_path
from tests.support.database import connect, everything, is_sound
from tests.support.program import NOW, Answer, Memctl

REFUSALS = {
    "openat": "ENOSPC",
    "write": "ENOSPC",
    "pwrite64": "ENOSPC",
    "ftruncate": "EIO",
    "fsync": "EIO",
    "fchown": "EPERM",
    "fchmod": "EPERM",
    "flock": "ENOLCK",
    "rename": "EACCES",
    "unlink": "EIO",
    "mkdir": "EDQUOT",
}
CALLS = ",".join(REFUSALS)
OF_SQLITE = re.compile(r'\.db(-wal|-shm|-journal)?[">]')


@dataclass(frozen=True)
class Writing:
    """A command that writes memctl's own files."""

    words: tuple[str, ...]
    exit_code: int = 0
    locked: bool = False  # another memctl process is running


COMMANDS = {
    "lock": Writing(("cleanup",)),
    "spool": Writing(("cleanup", "--lock-wait", "0"), exit_code=11, locked=True),
    "report": Writing(("report", "-o", "{}/report.txt")),
    "configuration": Writing(("config", "init")),
    "backup": Writing(("backup", "-o", "{}/backup")),
    "database": Writing(("migrate", "--db", "{}/new.db")),
}


@pytest.fixture(scope="module", autouse=True)
def _strace() -> None:
    """Skip where strace cannot make calls fail."""
    if shutil.which("strace") is None or subprocess.run(["strace", "-qq", "true"]).returncode:
        pytest.skip("system calls cannot be refused here: strace is missing, or may not trace")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_failed_call_is_one_error_line_and_leaves_nothing_half_written(
    name: str,
    prepared: Path,
    tmp_path: Path,
) -> None:
    writing = COMMANDS[name]
    before = memories_in(prepared)
    calls = calls_of(writing, prepared, tmp_path / "000")
    whole = contents(tmp_path / "000")

    wrong = []
    for run_number, (call, number) in enumerate(calls, 1):
        folder = tmp_path / f"{run_number:03}"  # a manifest names it: as long as the first name
        refuse = f"inject={call}:error={REFUSALS[call]}:when={number}"
        answer = run(writing, prepared, folder, "-o", "/dev/null", "-e", refuse)
        with closing(connect(folder / "harness.db")) as db:
            sound = is_sound(db)
        if (
            answer.exit_code not in (writing.exit_code, 1)
            or (answer.exit_code and answer.err.count("\n") != 1)
            or "Traceback" in answer.err
            or contents(folder) not in (whole, {} if answer.exit_code else whole)
            or not sound
            or (answer.exit_code and memories_in(folder / "harness.db") != before)
        ):
            wrong.append((call, number, answer, sorted(contents(folder))))

    assert calls
    assert wrong == []


def memories_in(path: Path) -> list[list[tuple[Any, ...]]]:
    """Return all active and archived memories."""
    tables = everything(path)
    return [tables["agent_memory"], tables["archived_memories"]]


def calls_of(writing: Writing, origin: Path, folder: Path) -> list[tuple[str, int]]:
    """Return the calls on memctl's own files: the name, and its number among those of that name."""
    trace = folder.with_suffix(".calls")
    answer = run(writing, origin, folder, "-y", "-o", str(trace))
    assert answer.exit_code == writing.exit_code, answer
    seen: Counter[str] = Counter()
    found = []
    for line in trace.read_text("utf-8", "replace").splitlines():
        call = line.partition("(")[0]
        seen[call] += 1
        if f"{folder}/" in line and not OF_SQLITE.search(line):
            found.append((call, seen[call]))
    return found


def run(writing: Writing, origin: Path, folder: Path, *options: str) -> Answer:
    """Run a command on a copy of a database, under strace."""
    folder.mkdir()
    program = Memctl(
        folder / "harness.db", NOW, ("strace", "-qq", "-e", f"trace={CALLS}", *options)
    )
    shutil.copyfile(origin, program.database)
    with ExitStack() as stack:
        if writing.locked:
            lock = stack.enter_context(lock_path(program.database).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        return program(*(word.format(folder) for word in writing.words))


def contents(folder: Path) -> dict[str, int]:
    """Return the names and sizes of the files that a command leaves, including drafts."""
    return {
        str(file.relative_to(folder)): file.stat().st_size
        for file in folder.rglob("*")
        if file.is_file()
        and not file.name.startswith("harness.db")
        and not file.name.endswith(".lock")  # kept on purpose
    }
