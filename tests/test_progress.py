"""Progress: shown on a terminal after a second, never wider than it, and erased at the end."""

import os
import pty
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from fcntl import ioctl
from pathlib import Path

import pytest

from memctl.output.progress import Phase, ProgressLine
from memctl.storage.progress import Progress
from memctl.storage.sqlite import backup, backup_copy
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.locking import exclusive
from memctl.storage.sqlite.retention import Retention
from tests.support.database import connect, insert_memory
from tests.support.program import NOW, PROGRAM, Memctl

ESCAPE = "\x1b"
ERASED = "\r\x1b[K"
STYLE = re.compile(r"\x1b\[[0-9;]*m")


class OnTerminal:
    """The program with a terminal for stderr."""

    def __init__(
        self, memctl: Memctl, *words: str, columns: int = 80, variables: Mapping[str, str] = {}
    ) -> None:
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [PROGRAM, *words],
            env={**memctl.environment(), "TERM": "xterm", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        self.printed = ""

    def wait_until_shown(self, text: str) -> None:
        """Read until a line of the progress contains a text."""
        while not re.search(rf"\r[^\r\n]*{re.escape(text)}", self.printed):
            self.printed += os.read(self._ours, 65536).decode()

    def end(self) -> int:
        """Read until the program ends; return its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with suppress(OSError):  # Linux reports in this way that the other end is closed
            while more := os.read(self._ours, 65536):
                self.printed += more.decode()
        os.close(self._ours)
        return self.process.wait()

    @property
    def lines(self) -> list[str]:
        """The lines of the progress, without styles."""
        drawn = re.findall(r"\r([^\r\n]+)\x1b\[K", self.printed)
        return [STYLE.sub("", line) for line in drawn]


@contextmanager
def busy(memctl: Memctl) -> Iterator[None]:
    """Hold memctl's lock, for which a command then waits."""
    with exclusive(memctl.database, job="cleanup", wait=0):
        yield


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["styled", "NO_COLOR"])
def test_progress_is_shown_on_a_terminal_and_erased_before_anything_else(
    variables: dict[str, str], migrated: Memctl
) -> None:
    with busy(migrated):
        running = OnTerminal(migrated, "cleanup", "--lock-wait", "60", variables=variables)
        running.wait_until_shown("cleanup: waiting for another memctl process")
    exit_code = running.end()

    assert exit_code == 0
    assert bool(STYLE.search(running.printed)) != bool(variables)
    assert running.printed.split(ERASED)[-1].startswith("cleanup: archived 0 expired memories")


WAITS = ("cleanup", "--lock-wait", "1.5")  # longer than a second


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        pytest.param(WAITS, {"TERM": "dumb"}, id="a dumb terminal"),
        pytest.param((*WAITS, "--quiet"), {}, id="quiet"),
        pytest.param((*WAITS, "--log-format", "json"), {}, id="a log"),
        pytest.param((*WAITS, "--log-format", "journal"), {}, id="a journal"),
    ],
)
def test_progress_is_not_shown_where_it_is_not_wanted(
    words: tuple[str, ...], variables: dict[str, str], migrated: Memctl
) -> None:
    with busy(migrated):
        running = OnTerminal(migrated, *words, variables=variables)
        exit_code = running.end()

    assert exit_code == 11
    assert ESCAPE not in running.printed
    assert running.printed.count("\n") == 1


def test_without_a_terminal_nothing_is_shown(migrated: Memctl) -> None:
    with busy(migrated):
        ended = subprocess.run(
            [PROGRAM, *WAITS],
            env={**migrated.environment(), "FORCE_COLOR": "1"},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert ended.returncode == 11
    assert ESCAPE not in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("columns", [30, 60, 140])
def test_an_import_shows_its_rows_and_fits_the_terminal(
    columns: int, db: sqlite3.Connection, migrated: Memctl
) -> None:
    for _ in range(30):
        insert_memory(db, value="x" * 100_000)
    document = migrated.ok("export", "--all").out.encode()

    running = OnTerminal(migrated, "import", "--all", "-", columns=columns)
    assert running.process.stdin is not None
    running.process.stdin.write(document[: len(document) // 2])
    running.process.stdin.flush()
    running.wait_until_shown("import: reading")
    running.process.stdin.write(document[len(document) // 2 :])

    assert running.end() == 0
    assert max(map(len, running.lines)) < columns
    assert any("/30 rows" in line for line in running.lines)
    assert running.printed.split(ERASED)[-1].startswith("import: imported 0 memories")


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_of_the_progress(
    number: int, exit_code: int, migrated: Memctl
) -> None:
    with busy(migrated):
        running = OnTerminal(migrated, "cleanup", "--lock-wait", "60")
        running.wait_until_shown("waiting")
        running.process.send_signal(number)

        assert running.end() == exit_code

    assert running.printed.endswith(ERASED)
    assert re.findall(r"\x1b\[\?", running.printed) == []  # the cursor was never hidden


RUN_AND_PRINT_IMPORTS = """
import sys
from memctl.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code
print([name for name in sys.modules if name.partition(".")[0] == "rich"])
"""


def test_a_command_that_ends_within_a_second_does_not_import_rich(migrated: Memctl) -> None:
    ours, theirs = pty.openpty()

    ran = subprocess.run(
        [sys.executable, "-c", RUN_AND_PRINT_IMPORTS, "cleanup"],
        env={**migrated.environment(), "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)

    assert ran.stdout == "[]\n"
    assert ESCAPE not in shown


@pytest.mark.parametrize("width", [1, 20, 40, 59, 79, 139])
@pytest.mark.parametrize(
    ("total", "done"),
    [(None, 0), (None, 12_345_678), (0, 0), (10, 0), (100_000_000, 12_345_678)],
)
def test_the_line_is_never_wider_than_wanted(total: int | None, done: int, width: int) -> None:
    line = ProgressLine()
    phase = Phase("lowering importance", total, "rows")
    line.text("cleanup", phase, width=width)
    phase.done = done

    text = STYLE.sub("", line.text("cleanup", phase, width=width))

    assert len(text) <= width
    assert text.startswith("cleanup: lowering importance"[:width])
    if width == 139 and done:
        wanted = "12,345,678 rows" if total is None else "12,345,678/100,000,000 rows"
        assert wanted in text


class WritingMeanwhile(Progress):
    """Lets another program write whenever more pages were copied."""

    def __init__(self, database: Path) -> None:
        self.reached: list[int] = []
        self._database = database

    def reach(self, done: int, total: int | None) -> None:
        """Note how many pages were copied."""
        self.reached.append(done)
        with closing(connect(self._database)) as db:
            insert_memory(db, agent_id="late")


def test_a_backup_reports_its_pages_and_does_not_start_again_after_a_write(
    db: sqlite3.Connection, migrated: Memctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_memory(db)
    path = migrated.database
    monkeypatch.setattr(backup_copy, "PAGES_AT_ONCE", 10)
    writing = WritingMeanwhile(path)

    with open_database(path) as source:
        made = backup.back_up(
            source, path, target=None, retention=Retention(), now=NOW, progress=writing
        )

    assert len(writing.reached) > 2
    assert writing.reached == sorted(set(writing.reached))
    with closing(connect(Path(made.path))) as copy:
        assert copy.execute("SELECT agent_id FROM agent_memory").fetchall() == [("build_agent",)]
