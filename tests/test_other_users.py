"""Users other than the owner of the database: readers, root, and writers of its directory.

These tests need root: they become other users, who need no entry in the list of users.
"""

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from memctl import AgentMemory
from memctl.cli.completion import answer_shell
from memctl.cli.options import ASKED_BY
from memctl.cli.program import NAMES, build_app
from memctl.cli.shell_scripts import LINE
from memctl.errors import MemctlError, UsageError
from memctl.storage.spool import delivery_lock
from memctl.storage.sqlite import ownership
from memctl.storage.sqlite.backup import back_up
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.files import require_place, write_file
from memctl.storage.sqlite.locking import exclusive, lock_path
from memctl.storage.sqlite.retention import Retention
from tests.support.database import connect
from tests.support.program import NOW, PROGRAM, Memctl, fork_server

SERVICE, READER, GROUP = 4101, 4102, 4100

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")


@contextmanager
def acting_as(user: int, group: int = GROUP) -> Iterator[None]:
    """Act as another user in the block, except for rights already given to the process."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users can enter, and that belongs to the service and its group."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    folder = place / "service"
    folder.mkdir()
    os.chown(folder, SERVICE, GROUP)
    folder.chmod(0o2770)
    yield folder
    shutil.rmtree(place)


@pytest.fixture
def database(folder: Path, template: Path) -> Path:
    """The service's database, which its group may read."""
    path = folder / "harness.db"
    shutil.copyfile(template, path)
    os.chown(path, SERVICE, GROUP)
    path.chmod(0o640)
    return path


def owners(folder: Path) -> dict[str, int]:
    """Return the owner of every file below a directory."""
    return {str(file.relative_to(folder)): file.stat().st_uid for file in folder.rglob("*")}


def write_a_memory(path: Path) -> None:
    """Write a memory as the service does."""
    with acting_as(SERVICE), closing(connect(path)) as db:
        db.execute(
            "INSERT INTO agent_memory (id, agent_id, type, key, value)"
            " VALUES (hex(randomblob(8)), 'bot', 'context', hex(randomblob(8)), 'v')"
        )


def read_database(path: Path) -> None:
    """Read as commands do."""
    with open_database(path, read_only=True) as db:
        db.execute("SELECT count(*) FROM agent_memory").fetchone()


def open_api(path: Path) -> None:
    """Read with the Python API."""
    with AgentMemory(path, clock=lambda: NOW) as memories:
        memories.recall_all("bot")


def take_lock(path: Path) -> None:
    """Take the lock as commands that change something do."""
    with exclusive(path, job="backup", wait=0):
        pass


# Readers


@pytest.mark.parametrize("access", [read_database, open_api, take_lock])
def test_a_user_who_cannot_write_the_database_leaves_nothing_beside_it(
    database: Path, access: Callable[[Path], None]
) -> None:
    with acting_as(READER), pytest.raises(MemctlError, match="belongs to another user"):
        access(database)

    assert owners(database.parent) == {"harness.db": SERVICE}
    write_a_memory(database)


def test_completion_by_another_user_leaves_no_files(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_a_memory(database)
    monkeypatch.setenv("HOME", str(database.parent))
    monkeypatch.setenv("MEMCTL_DB", str(database))
    monkeypatch.setenv(ASKED_BY, "fish")
    monkeypatch.setenv(LINE, "memctl list ")

    answer_shell(build_app, NAMES)
    offered_to_owner = capsys.readouterr().out
    with acting_as(READER):
        answer_shell(build_app, NAMES)
    offered = capsys.readouterr().out

    assert (offered_to_owner, offered) == ("bot\n", "bot\n")
    assert owners(database.parent) == {"harness.db": SERVICE}


def test_another_user_reads_while_the_service_has_the_database_open(database: Path) -> None:
    with acting_as(SERVICE), closing(connect(database)) as db:
        db.execute("SELECT count(*) FROM agent_memory").fetchone()
        os.seteuid(0)
        os.seteuid(READER)
        read_database(database)
        os.seteuid(0)
        os.seteuid(SERVICE)

    write_a_memory(database)
    assert set(owners(database.parent).values()) == {SERVICE}


def test_a_group_writable_database_is_open_to_its_group(database: Path) -> None:
    database.chmod(0o660)

    with acting_as(READER):
        read_database(database)
        take_lock(database)
    write_a_memory(database)
    with acting_as(SERVICE):
        take_lock(database)

    assert stat.S_IMODE(lock_path(database).stat().st_mode) == 0o660


def test_a_user_outside_the_group_of_the_database_is_refused(database: Path) -> None:
    database.chmod(0o660)
    database.parent.chmod(0o777)

    with acting_as(READER, group=READER), pytest.raises(MemctlError):
        read_database(database)

    assert owners(database.parent) == {"harness.db": SERVICE}


def test_any_user_can_read_a_database_without_a_write_ahead_log(database: Path) -> None:
    with closing(connect(database)) as db:
        db.execute("PRAGMA journal_mode = DELETE")

    with acting_as(READER):
        read_database(database)

    assert owners(database.parent) == {"harness.db": SERVICE}


# Root


def test_files_created_by_root_belong_to_the_owner_of_the_directory(folder: Path) -> None:
    memctl = Memctl(folder / "harness.db")
    state = folder / "state"
    words = [
        ("migrate",),
        ("backup",),
        ("backup", "-o", str(folder / "backup"), "--keep", "1"),
        ("export", "--all", "-o", str(folder / "export.json")),
        ("report", "-o", str(folder / "report.txt")),
        ("metrics", "--prometheus", "-o", str(folder / "memctl.prom")),
        ("config", "init"),
        ("rollback", "--yes"),
        ("migrate",),
        ("cleanup",),
    ]

    for command in words:
        memctl.ok(*command)
    environment = {**memctl.environment(), "XDG_STATE_HOME": str(state)}
    with exclusive(memctl.database, job="test", wait=0):
        failed = fork_server().run(
            [str(PROGRAM), "cleanup", "--lock-wait", "0"],
            environment=environment,
            directory=folder,
            given=b"",
            timeout=60,
        )

    found = owners(folder)
    assert failed.returncode == 11
    assert {"state/memctl", ".config/memctl/config.toml", "report.txt"} <= found.keys()
    assert any(name.endswith(".failures") for name in found)
    assert {name: owner for name, owner in found.items() if owner != SERVICE} == {}


def test_the_delivery_lock_belongs_to_the_owner_of_the_directory(folder: Path) -> None:
    with delivery_lock(folder / "state" / "harness.failures") as alone:
        assert alone

    assert owners(folder) == {"state": SERVICE, "state/harness.delivery": SERVICE}


def test_the_owner_can_write_a_database_that_root_has_open(database: Path) -> None:
    with open_database(database) as db:
        db.execute("SELECT count(*) FROM agent_memory").fetchone()

        write_a_memory(database)

        assert len(owners(database.parent)) == 3
        assert set(owners(database.parent).values()) == {SERVICE}


# Users who can write to the directory


@pytest.fixture
def secret(folder: Path) -> Iterator[Path]:
    """A file of root, which must stay unchanged."""
    file = folder.parent / "secret"
    file.write_text("of root")
    file.chmod(0o600)
    yield file
    found = file.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o600)
    assert file.read_text() == "of root"


def swap(draft: Path, secret: Path) -> None:
    """Replace a draft with a link, as the owner of the directory can."""
    draft.unlink()
    draft.symlink_to(secret)
    os.lchown(draft, SERVICE, GROUP)


def test_a_link_in_place_of_a_draft_changes_the_owner_of_no_file(
    database: Path, secret: Path
) -> None:
    target = database.with_name("report.txt")

    def report() -> Iterator[str]:
        (draft,) = database.parent.glob(".report.txt.*")
        swap(draft, secret)
        yield "a report"

    with pytest.raises(MemctlError, match="replaced the temporary file"):
        write_file(target, report(), database=database, mode=0o644)

    assert owners(database.parent) == {"harness.db": SERVICE}


@pytest.mark.parametrize("of_root", ["a text", "a database"])
def test_a_link_in_place_of_the_draft_of_a_backup_is_not_followed(
    database: Path, secret: Path, monkeypatch: pytest.MonkeyPatch, of_root: str
) -> None:
    target = secret
    if of_root == "a database":
        target = secret.with_name("another.db")
        with closing(connect(target)) as other:
            other.execute("CREATE TABLE of_root (x)")
    before = target.read_bytes()
    connect_by_name: Callable[..., sqlite3.Connection] = sqlite3.connect

    def swap_first(path: Any, *options: Any, **named: Any) -> Any:
        if Path(path).name.startswith("."):
            swap(Path(path), target)
        return connect_by_name(path, *options, **named)

    with open_database(database) as db:
        monkeypatch.setattr(sqlite3, "connect", swap_first)
        with pytest.raises(MemctlError, match="replaced the temporary file"):
            back_up(db, database, target=None, retention=Retention(), now=NOW)

    assert target.read_bytes() == before
    assert [name for name in owners(database.parent) if "backup" in name] == []


def test_root_does_not_follow_links_of_other_users(database: Path, secret: Path) -> None:
    link = database.with_name("report.txt")
    link.symlink_to(secret)
    os.lchown(link, SERVICE, GROUP)
    step = database.with_name("latest.txt")
    step.symlink_to(link)

    for path in (link, step):
        with pytest.raises(UsageError, match="is a symbolic link created by another user"):
            write_file(path, ["a report"], database=database)


def test_an_existing_lock_file_keeps_its_owner(database: Path, folder: Path) -> None:
    lock = lock_path(database)
    lock.touch(mode=0o600)

    take_lock(database)

    assert lock.stat().st_uid == 0


def test_a_directory_that_was_swapped_keeps_its_owner(
    folder: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = secret.parent / "root's"
    inner.mkdir()
    (inner / "file").touch()
    make = Path.mkdir

    def swap_after(path: Path, *options: Any, **named: Any) -> None:
        make(path, *options, **named)
        path.rmdir()
        inner.rename(path)

    monkeypatch.setattr(Path, "mkdir", swap_after)
    ownership.create_directory(folder / "new")

    assert (folder / "new").stat().st_uid == 0


def test_links_of_the_same_user_are_followed(database: Path) -> None:
    link = database.with_name("latest")
    link.symlink_to("report.txt")

    assert require_place(link, database=database) == database.with_name("report.txt").resolve()
