"""What the tests share: a service's database, the installed program, and rows to put in."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from memctl import AgentMemory
from tests.forkserver import ForkServer
from tests.service import Service

# A shell that runs the tests in the background, or nohup, has all that they start ignore these.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Where there is memory for them, databases that nobody keeps need not wait for a disk.
MEMORY_DISK = Path("/dev/shm")  # noqa: S108  pytest makes a private directory in it
if os.access(MEMORY_DISK, os.W_OK) and shutil.disk_usage(MEMORY_DISK).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK))

NOW = datetime(2026, 11, 22, 9, 43, 58, tzinfo=UTC)
PROGRAM = Path(sys.executable).with_name("memctl")

Row = dict[str, Any]


def text_of(moment: datetime) -> str:
    """Return a moment as SQLite writes it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True)
class Answer:
    """What a command of the installed program came to."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)


@cache
def fork_server() -> ForkServer:
    """Return what runs the program without the cost of its start."""
    return ForkServer()


def pytest_unconfigure() -> None:
    """End the server with the tests."""
    if fork_server.cache_info().currsize:
        fork_server().close()


@dataclass(frozen=True)
class Memctl:
    """The installed program, pointed at one database at one time, in an empty environment."""

    database: Path
    now: datetime = NOW
    prefix: tuple[str, ...] = ()  # a program that runs it under other conditions

    def environment(self) -> dict[str, str]:
        """Return the whole environment that a command gets."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.database.parent),
            "XDG_STATE_HOME": str(self.state_home),
            "MEMCTL_DB": str(self.database),
            "MEMCTL_NOW": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    @property
    def state_home(self) -> Path:
        """Where what cannot be kept in the database goes; out of the way of the other files."""
        return self.database.parent.with_name(f"{self.database.parent.name}-state")

    def at(self, now: datetime) -> "Memctl":
        """Return the program at another time."""
        return replace(self, now=now)

    def __call__(self, *words: str | bytes, given: bytes = b"", timeout: float = 60) -> Answer:
        """Run a command to its end, whatever its exit code; `given` is its standard input."""
        if self.prefix:
            ran = subprocess.run(
                [*self.prefix, PROGRAM, *words],
                env=self.environment(),
                input=given,
                capture_output=True,
                timeout=timeout,
            )
        else:
            ran = fork_server().run(
                [str(PROGRAM), *words],
                environment=self.environment(),
                directory=Path.cwd(),
                given=given,
                timeout=timeout,
            )
        return Answer(
            ran.returncode,
            ran.stdout.decode("utf-8", "surrogateescape"),
            ran.stderr.decode("utf-8", "surrogateescape"),
        )

    def ok(self, *words: str | bytes, given: bytes = b"") -> Answer:
        """Run a command that must succeed."""
        answer = self(*words, given=given)
        assert answer.exit_code == 0, answer
        return answer

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command and leave it running."""
        return subprocess.Popen(
            [*self.prefix, PROGRAM, *words],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The place of the database; there is none yet."""
    return tmp_path / "harness.db"


@pytest.fixture
def service(path: Path) -> Iterator[Service]:
    """The service, connected to its database."""
    with closing(Service(path)) as connected:
        yield connected


@pytest.fixture
def memctl(path: Path) -> Memctl:
    """The installed program, pointed at `path`; the database may not exist yet."""
    return Memctl(path)


@pytest.fixture
def migrated(memctl: Memctl, service: Service) -> Memctl:
    """The installed program, pointed at the service's migrated database."""
    memctl.ok("migrate", "--no-backup")
    return memctl


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without memories, to be copied."""
    memctl = Memctl(tmp_path_factory.mktemp("template") / "harness.db")
    Service(memctl.database).close()
    memctl.ok("migrate", "--no-backup")
    return memctl.database


@pytest.fixture
def db(path: Path, migrated: Memctl) -> Iterator[sqlite3.Connection]:
    """A plain connection to the migrated database, for looking and for preparing rows."""
    with closing(connect(path)) as connection:
        yield connection


@pytest.fixture
def api(path: Path, migrated: Memctl) -> Iterator[AgentMemory]:
    """The Python API, on the service's migrated database, at NOW."""
    with AgentMemory(path, clock=lambda: NOW) as opened:
        yield opened


def connect(path: Path) -> sqlite3.Connection:
    """Open a database as any program would."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
    return connection


@pytest.fixture
def remember(db: sqlite3.Connection) -> Callable[..., str]:
    """Write a memory with only what matters to the test; returns its id."""

    def write(**columns: Any) -> str:
        return insert_memory(db, **columns)

    return write


def insert_memory(
    db: sqlite3.Connection,
    *,
    idle_days: float = 0,
    expired_for: timedelta | None = None,
    **columns: Any,
) -> str:
    """Insert a memory that was last read `idle_days` before NOW; returns its id."""
    read_at = text_of(NOW - timedelta(days=idle_days))
    row: Row = {
        "id": str(uuid.uuid4()),
        "agent_id": "build_agent",
        "type": "learning",
        "key": str(uuid.uuid4()),
        "value": "cache the toolchain",
        "last_accessed": read_at,
        "created_at": read_at,
    }
    if expired_for is not None:
        row["expires_at"] = (NOW - expired_for).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    row |= columns
    names = ", ".join(row)
    marks = ", ".join("?" for _ in row)
    db.execute(f"INSERT INTO agent_memory ({names}) VALUES ({marks})", tuple(row.values()))
    return str(row["id"])


def rows(db: sqlite3.Connection, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """Return a table, row by row in rowid order."""
    return db.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()


def everything(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that a database holds, with the SQLite type and bytes of every value."""
    with closing(connect(path)) as db:
        found = {}
        tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        for (table,) in tables.fetchall():
            columns = [row[1] for row in db.execute(f"PRAGMA table_info('{table}')")]
            exact = ", ".join(f'typeof("{name}"), CAST("{name}" AS BLOB)' for name in columns)
            found[table] = db.execute(f"SELECT {exact} FROM '{table}' ORDER BY 1, 2").fetchall()
        return found


def is_sound(db: sqlite3.Connection) -> bool:
    """Tell whether SQLite finds nothing wrong with the file."""
    return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# What a user's environment always has, and what the test runner itself needs. Everything else could
# hide a fault that appears on other machines: PYTHONUNBUFFERED did.
KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "HYPOTHESIS_PROFILE")


@pytest.fixture(scope="session", autouse=True)
def _bare_environment() -> None:
    """Keep the settings of the user who runs the tests out of them."""
    for name in set(os.environ).difference(KEPT_VARIABLES):
        if not name.startswith(("PYTEST", "COVERAGE")):
            del os.environ[name]
