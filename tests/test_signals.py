"""A signal ends a command at once, wherever it waits, with the exit code of that signal."""

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from memctl.storage.sqlite.locking import is_memctl_running
from tests.support.database import everything, insert_memory, rows, text_of
from tests.support.locks import write_lock
from tests.support.processes import eventually
from tests.support.program import NOW, Memctl

SMALLEST_PIPE = 4096

every_signal = pytest.mark.parametrize(
    ("number", "exit_code"),
    [
        pytest.param(signal.SIGHUP, 129, id="hung up"),
        pytest.param(signal.SIGINT, 130, id="interrupted"),
        pytest.param(signal.SIGTERM, 143, id="terminated"),
    ],
)


@every_signal
@pytest.mark.parametrize(
    "words",
    [
        "run",
        "cleanup",
        "import --all DOCUMENT",
        "restore --run 1",
        "enable access-boost",
        "migrate",
        "rollback --yes",
    ],
)
def test_a_signal_ends_the_wait_for_a_lock_and_nothing_changes(
    words: str,
    number: signal.Signals,
    exit_code: int,
    migrated: Memctl,
    remember: Callable[..., str],
    tmp_path: Path,
) -> None:
    document = tmp_path / "document.json"
    remember(expired_for=timedelta(days=1))
    migrated.ok("export", "--all", "-o", str(document))
    migrated.ok("cleanup")
    if words == "migrate":
        migrated.ok("rollback", "--yes")
    remember(expired_for=timedelta(days=1))
    before = everything(migrated.database)

    with write_lock(migrated.database):
        process = migrated.start(
            *words.replace("DOCUMENT", str(document)).split(), "--lock-wait", "600"
        )
        eventually(lambda: is_memctl_running(migrated.database))
        process.send_signal(number)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (exit_code, b"", b"")
    assert everything(migrated.database) == before


@every_signal
@pytest.mark.parametrize("words", ["export --all", "report --format html"])
def test_a_signal_ends_a_command_whose_reader_is_slow(
    words: str,
    number: signal.Signals,
    exit_code: int,
    migrated: Memctl,
    remember: Callable[..., str],
) -> None:
    remember(value="x" * 2 * SMALLEST_PIPE)
    process = migrated.start(*words.split())
    assert process.stdout is not None
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    os.read(process.stdout.fileno(), 1)  # unbuffered: the pipe stays full

    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (exit_code, b"")


SIGNALLED_IN_A_DESTRUCTOR = """
import os, sys, time
from memctl import __main__
from memctl.cli import program

class Signalled:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))

def wait(words):
    Signalled()
    time.sleep(600)

program.build_app = wait
__main__.main()
"""


@every_signal
def test_a_signal_that_arrives_in_a_destructor_is_not_lost(
    number: signal.Signals, exit_code: int
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SIGNALLED_IN_A_DESTRUCTOR, str(int(number))],
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (exit_code, b"")


SIGNALLED_IN_A_FUNCTION_OF_SQLITE = """
import os, sys
from memctl import __main__
from memctl.storage.sqlite import candidates, triggers

number, function = int(sys.argv.pop(1)), sys.argv.pop(1)

def send(*_):
    os.kill(os.getpid(), number)
    return "hash"

if function == "content_hash":
    candidates.content_hash = send
else:  # looked up by the function that examines what statements do
    triggers.OWN_TRIGGERS = type("Signalled", (frozenset,), {"__contains__": send})()
__main__.main()
"""


@every_signal
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(("content_hash", "promote"), id="the hash of a text"),
        pytest.param(("authorizer", "cleanup"), id="the check of triggers"),
    ],
)
def test_a_signal_that_arrives_in_a_function_called_by_sqlite_is_not_lost(
    db: sqlite3.Connection,
    migrated: Memctl,
    program: tuple[str, str],
    number: signal.Signals,
    exit_code: int,
) -> None:
    created = text_of(NOW - timedelta(days=20))
    insert_memory(db, importance=9, access_count=9, created_at=created)
    migrated.ok("promote")
    db.execute("CREATE TRIGGER of_another_program AFTER DELETE ON agent_memory BEGIN SELECT 1; END")
    runs = rows(db, "memory_runs", "job, status, error")

    function, command = program
    words = [str(int(number)), function, command, "--db", str(migrated.database)]
    ran = subprocess.run(
        [sys.executable, "-c", SIGNALLED_IN_A_FUNCTION_OF_SQLITE, *words],
        env={**os.environ, "MEMCTL_NOW": text_of(NOW)},
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (exit_code, b"")
    if command == "promote":  # the check of triggers comes before the run is recorded
        runs.append(("promote", "failed", "stopped by a signal"))
    assert rows(db, "memory_runs", "job, status, error") == runs
