"""Shared fixtures: a service's database, the installed program, and rows to insert."""

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import is_hypothesis_test, settings

from memctl import AgentMemory
from tests.support import properties
from tests.support.database import connect, insert_memory
from tests.support.engines import (
    ENGINES,
    Engine,
    PostgresEngine,
    SqliteEngine,
    emptied,
    server_database,
)
from tests.support.program import NOW, Memctl, fork_servers
from tests.support.service import Service

# A shell that runs the tests in the background, or nohup, makes their subprocesses ignore these.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Temporary databases are kept in memory where there is enough, to save the wait for a disk.
MEMORY_DISK = Path("/dev/shm")  # noqa: S108  pytest makes a private directory in it
if os.access(MEMORY_DISK, os.W_OK) and shutil.disk_usage(MEMORY_DISK).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK))


def pytest_configure(config: pytest.Config) -> None:
    """Choose the number of examples for the property tests."""
    settings.register_profile("default", properties.DEFAULT)
    settings.register_profile("campaign", properties.CAMPAIGN)
    settings.load_profile("campaign" if is_campaign(config) else "default")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers for `-n auto`: half of the time, a test waits for a program."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Include the property tests in the campaign."""
    if is_campaign(config):
        for item in items:
            if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
                item.add_marker("campaign")


def is_campaign(config: pytest.Config) -> bool:
    """Return whether the tests were started with `-m campaign`."""
    return bool(config.option.markexpr == "campaign")


def pytest_unconfigure() -> None:
    """Stop the fork servers at the end of the tests."""
    for server in fork_servers:
        server.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the engines be chosen on which the tests of `engine` run."""
    parser.addoption("--engine", default=",".join(ENGINES), help="engines, such as sqlite,postgres")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of `engine` on each engine."""
    if "engine" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--engine").split(",")
        metafunc.parametrize("engine", [one for one in ENGINES if one in chosen], indirect=True)


@pytest.fixture(scope="session")
def migrated_url() -> Iterator[str]:
    """The URL of a migrated database on the server of the tests."""
    with server_database("tests") as url:
        Memctl(Path("unused.db").absolute(), url=url).ok("migrate")
        yield url


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """A migrated database without memories on one of the engines."""
    if request.param == "postgres":
        return emptied(request.getfixturevalue("migrated_url"), tmp_path)
    return copied(request.getfixturevalue("migrated_database"), tmp_path)


@pytest.fixture
def engines(migrated_database: Path, migrated_url: str, tmp_path: Path) -> tuple[Engine, Engine]:
    """A migrated database without memories on each engine, SQLite first."""
    return copied(migrated_database, tmp_path), emptied(migrated_url, tmp_path)


def copied(source: Path, place: Path) -> SqliteEngine:
    """Return a copy of a migrated file without memories."""
    memctl = Memctl(place / "harness.db")
    for ending in ("", ".memctl.lock"):
        shutil.copyfile(f"{source}{ending}", f"{memctl.database}{ending}")
    return SqliteEngine(memctl)


@pytest.fixture
def on_server(migrated_url: str, tmp_path: Path) -> PostgresEngine:
    """A migrated database without memories on a PostgreSQL server."""
    return emptied(migrated_url, tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the database, which does not exist yet."""
    return tmp_path / "harness.db"


@pytest.fixture
def service(request: pytest.FixtureRequest, path: Path) -> Iterator[Service]:
    """The service, connected to its database, which is migrated if the test needs that."""
    if "migrated" in request.fixturenames and not path.exists():
        source = request.getfixturevalue("migrated_database")
        for ending in ("", ".memctl.lock"):
            shutil.copyfile(f"{source}{ending}", f"{path}{ending}")
    with closing(Service(path)) as connected:
        yield connected


@pytest.fixture
def memctl(path: Path) -> Memctl:
    """The installed program, pointed at `path`; the database may not exist yet."""
    return Memctl(path)


@pytest.fixture
def migrated(memctl: Memctl, service: Service) -> Memctl:
    """The installed program, pointed at the service's migrated database."""
    assert service.db.execute("SELECT max(version) FROM memctl_migrations").fetchone()[0]
    return memctl


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without memories."""
    memctl = Memctl(tmp_path_factory.mktemp("template") / "harness.db")
    Service(memctl.database).close()
    memctl.ok("migrate", "--no-backup")
    return memctl.database


@pytest.fixture(scope="session")
def template(migrated_database: Path) -> Path:
    """A migrated database without memories, to copy."""
    return migrated_database


@pytest.fixture
def db(path: Path, migrated: Memctl) -> Iterator[sqlite3.Connection]:
    """A plain connection to the migrated database, to read and to prepare rows."""
    with closing(connect(path)) as connection:
        yield connection


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[AgentMemory]:
    """The Python API at NOW: on the engine of the test, or on the service's migrated database."""
    if "engine" in request.fixturenames:
        database = request.getfixturevalue("engine").address
    else:
        database = request.getfixturevalue("migrated").database
    with AgentMemory(database, clock=lambda: NOW) as opened:
        yield opened


@pytest.fixture
def remember(db: sqlite3.Connection) -> Callable[..., str]:
    """Write a memory with only the columns that matter to the test; returns its id."""

    def write(**columns: Any) -> str:
        return insert_memory(db, **columns)

    return write


# Variables that every user's environment has, and those that the test runner needs. Any other could
# hide a fault that appears on other machines: PYTHONUNBUFFERED did.
KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "HYPOTHESIS_PROFILE")


@pytest.fixture(scope="session", autouse=True)
def _bare_environment() -> None:
    """Keep the settings of the user who runs the tests out of the tests."""
    for name in set(os.environ).difference(KEPT_VARIABLES):
        if not name.startswith(("PYTEST", "COVERAGE")):
            del os.environ[name]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An active and an archived memory of each of two agents, to copy."""
    memctl = Memctl(tmp_path_factory.mktemp("prepared") / "harness.db")
    Service(memctl.database).close()
    memctl.ok("migrate", "--no-backup")
    with closing(connect(memctl.database)) as db:
        hour = timedelta(hours=1)
        insert_memory(db, id="active", key="k", idle_days=20)
        insert_memory(db, id="archived", expired_for=hour)
        insert_memory(db, id="of another", agent_id="qa_agent")
        insert_memory(db, id="archived of another", agent_id="qa_agent", expired_for=hour)
    memctl.ok("cleanup")
    return memctl.database


@pytest.fixture
def memories(prepared: Path, memctl: Memctl) -> Memctl:
    """The program, pointed at an active and an archived memory of each of two agents."""
    shutil.copyfile(prepared, memctl.database)
    return memctl


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "memctl-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here; root can")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
