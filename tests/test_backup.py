"""Backups of the whole database: verified, rotated safely, and restored safely."""

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from memctl.errors import LockedError, MemctlError, SchemaError
from memctl.storage.sqlite.backup import back_up, verify
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.restore_backup import restore_backup
from memctl.storage.sqlite.retention import Retention
from tests.support.database import (
    Row,
    connect,
    everything,
    exact_rows,
    insert_memory,
    is_sound,
    names_beside,
    rows,
)
from tests.support.disks import fill_disk
from tests.support.locks import write_lock
from tests.support.processes import backup_begun, eventually
from tests.support.program import NOW, Memctl, complaint
from tests.support.service import SCHEMA, Service
from tests.support.service_at_work import read_row, service_at_work, use_memories

FIRST = "harness.db.backup-20261122T094358Z"


@pytest.fixture
def memories(migrated: Memctl, remember: Callable[..., str]) -> Memctl:
    """The program, pointed at an active and an archived memory."""
    remember(id="m-1", key="k1", value="monday")
    remember(id="m-2", key="k2", expired_for=timedelta(days=1))
    migrated.ok("cleanup")
    return migrated


def identity(database: Path) -> str:
    """Return the identity of a database or a backup."""
    with closing(connect(database)) as db:
        ((stored,),) = db.execute("SELECT value FROM memory_state WHERE key = 'database_id'")
    return str(json.loads(stored)["id"])


def test_a_backup_is_the_whole_database_with_a_manifest(memories: Memctl) -> None:
    printed = memories.ok("backup", "--json").json

    file = memories.database.with_name(FIRST)
    manifest = json.loads(file.with_name(f"{FIRST}.json").read_text())
    assert everything(file) == everything(memories.database)
    assert manifest == {
        "file": FIRST,
        "database": str(memories.database),
        "created_at": "2026-11-22T09:43:58Z",
        "size_bytes": file.stat().st_size,
        "sha256": sha256(file.read_bytes()).hexdigest(),
        "schema_step": 3,
        "memories": 1,
        "archived": 1,
        "memctl_version": "0.1.0",
        "format": "memctl.backup",
        "version": 1,
        "database_id": identity(memories.database),
        "host": os.uname().nodename,
    }
    assert printed == {
        "schema": 1,
        "path": str(file),
        "manifest": manifest,
        "removed": [],
        "dry_run": False,
    }
    assert [stat.S_IMODE(file.with_name(name).stat().st_mode) for name in (FIRST, f"{FIRST}.json")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.glob(f"{FIRST}*")} == {0o600}


def test_a_backup_is_silent_off_a_terminal(memories: Memctl) -> None:
    answer = memories.ok("backup")

    assert (answer.out, answer.err) == ("", "")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        pytest.param((), [FIRST, f"{FIRST}-2"], id="beside the database"),
        pytest.param(("-o", "."), [FIRST, f"{FIRST}-2"], id="in a directory"),
        pytest.param(
            ("-o", "copy", "--keep", "2"),
            ["copy-20261122T094358Z", "copy-20261122T094358Z-2"],
            id="several with one name",
        ),
    ],
)
def test_two_backups_in_the_same_second_get_different_names(
    memories: Memctl, tmp_path: Path, words: tuple[str, ...], names: list[str]
) -> None:
    words = tuple(str(tmp_path / word) if word in (".", "copy") else word for word in words)

    found = [memories.ok("backup", "--json", *words).json["path"] for _ in range(2)]

    assert found == [str(tmp_path / name) for name in names]


def test_an_existing_file_is_not_overwritten(memories: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    memories.ok("backup", "-o", str(file))
    content = file.read_bytes()

    answer = memories("backup", "-o", str(file))

    assert answer.exit_code == 2
    assert complaint(answer) == (
        f"memctl: {file} already exists; specify another file, or use --keep N"
    )
    assert file.read_bytes() == content


def test_the_database_is_not_overwritten(memories: Memctl) -> None:
    before = everything(memories.database)

    answer = memories("backup", "-o", str(memories.database))

    assert answer.exit_code == 2
    assert everything(memories.database) == before


def test_rotation_keeps_the_newest_and_removes_only_own_backups(
    memories: Memctl, tmp_path: Path
) -> None:
    others = {
        "harness.db.backup-by-hand": b"",
        "harness.db.backup-20200101T000000Z": b"no manifest",
        "harness.db.backup-20200102T000000Z": b"not mine",
        "harness.db.backup-20200102T000000Z.json": b'{"format": "other"}',
        "harness.db.backup-20200103T000000Z.json": b"[" * 100_000,
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    memories.ok("migrate")

    removed = [
        memories.at(NOW + timedelta(days=day)).ok("backup", "--keep", "2", "--json").json["removed"]
        for day in range(4)
    ]

    first, second = (str(tmp_path / f"harness.db.backup-202611{day}T094358Z") for day in (22, 23))
    assert removed == [[], [], [first], [second]]
    left = (
        set(names_beside(memories.database))
        - set(others)
        - {"harness.db", "harness.db.memctl.lock"}
    )
    assert left - {"harness.db-shm", "harness.db-wal"} == {
        f"harness.db.backup-202611{day}T094358Z{end}" for day in (24, 25) for end in ("", ".json")
    }
    assert {name: (tmp_path / name).read_bytes() for name in others} == others


def test_rotation_never_removes_the_backup_just_made(memories: Memctl) -> None:
    first = memories.ok("backup", "--keep", "1", "--json").json["path"]

    answer = memories.ok("backup", "--keep", "1", "--json").json

    assert Path(answer["path"]).exists()
    assert answer["removed"] == [first]


def test_backups_from_the_future_are_neither_counted_nor_removed(memories: Memctl) -> None:
    future = [
        memories.at(NOW + timedelta(days=days)).ok("backup", "--json").json["path"]
        for days in (3600, 3601)
    ]
    past = memories.ok("backup", "--json").json["path"]

    removed = [
        memories.at(NOW + timedelta(days=day)).ok("backup", "--keep", "2", "--json").json["removed"]
        for day in (1, 2)
    ]

    assert removed == [[], [past]]
    assert all(Path(file).exists() for file in future)


def test_rotation_does_not_count_a_damaged_backup(memories: Memctl) -> None:
    files = [
        Path(memories.at(NOW + timedelta(days=day)).ok("backup", "--json").json["path"])
        for day in range(3)
    ]
    files[2].write_bytes(b"cut off")

    answer = memories.at(NOW + timedelta(days=3)).ok("backup", "--keep", "2", "--json").json

    assert answer["removed"] == [str(files[0])]
    assert files[1].exists()


def test_a_damaged_database_makes_rotation_remove_no_good_backup(memories: Memctl) -> None:
    good = memories.ok("backup", "--json").json["path"]
    with closing(connect(memories.database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'agent_memory'"
        ).fetchone()
    content = bytearray(memories.database.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xaa" * 4096
    memories.database.write_bytes(content)

    answer = memories.at(NOW + timedelta(days=1))("backup", "--keep", "1")

    assert answer.exit_code == 1
    assert "damaged" in complaint(answer)
    assert [name for name in names_beside(memories.database) if "backup" in name] == [
        FIRST,
        f"{FIRST}.json",
    ]
    assert memories.ok("backup", "--verify", good)


def test_verifying_a_backup_leaves_no_files(memories: Memctl) -> None:
    file = memories.ok("backup", "--json").json["path"]
    before = names_beside(memories.database)

    answer = memories.ok("backup", "--verify", file)

    assert (answer.out, answer.err) == (
        "",
        f"backup: {file} is valid; it was created at 2026-11-22T09:43:58Z\n",
    )
    assert names_beside(memories.database) == before


def flip(file: Path) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        pytest.param(flip, "was changed after the backup: its SHA-256 is", id="one bit"),
        pytest.param(lambda file: os.truncate(file, 4096), "was changed after", id="cut off"),
        pytest.param(Path.unlink, "there is no backup", id="missing"),
        pytest.param(
            lambda file: file.with_name(f"{file.name}.json").unlink(),
            "has no manifest",
            id="no manifest",
        ),
    ],
)
def test_an_incomplete_or_damaged_backup_fails_verification(
    memories: Memctl, damage: Callable[[Path], Any], problem: str
) -> None:
    file = Path(memories.ok("backup", "--json").json["path"])
    damage(file)

    answer = memories("backup", "--verify", str(file))

    assert answer.exit_code == 1
    assert problem in complaint(answer)


def test_a_backup_beside_a_writing_service_is_consistent(memories: Memctl) -> None:
    with service_at_work(memories.database, use_memories) as service:
        file = memories.ok("backup", "--json").json["path"]
        acknowledged = dict(service.acknowledged)

    with closing(connect(Path(file))) as copy, closing(connect(memories.database)) as db:
        copied, stored = exact_rows(copy, "agent_memory"), exact_rows(db, "agent_memory")
        assert is_sound(copy)
    assert service.errors == []
    assert ("service", "learning", "key 0") in acknowledged
    assert {row[0] for row in copied} & {row[0] for row in stored}


# Restoring


def test_restoring_a_backup_brings_back_the_database(memories: Memctl, tmp_path: Path) -> None:
    file = memories.ok("backup", "--json").json["path"]
    before = everything(memories.database)
    with closing(connect(memories.database)) as db:
        db.execute("DELETE FROM agent_memory")
        db.execute("CREATE TABLE more (x)")
    spoilt = everything(memories.database)

    answer = memories.ok("backup", "--restore", file, "--json").json

    assert everything(memories.database) == before
    assert everything(Path(answer["backup"])) == spoilt
    assert answer["backup"] == str(tmp_path / "harness.db.before-restore-20261122T094358Z")


def test_restoring_a_backup_can_be_undone(memories: Memctl) -> None:
    file = memories.ok("backup", "--json").json["path"]
    with closing(connect(memories.database)) as db:
        db.execute("UPDATE agent_memory SET value = 'tuesday'")
    before = memories.ok("backup", "--restore", file, "--json").json["backup"]

    memories.ok("backup", "--restore", before)

    with closing(connect(memories.database)) as db:
        assert rows(db, "agent_memory", "value") == [("tuesday",)]


def test_a_connected_service_continues_with_the_restored_database(memories: Memctl) -> None:
    with closing(Service(memories.database)) as service:
        file = memories.ok("backup", "--json").json["path"]
        service.remember("build_agent", "learning", "k1", "tuesday")
        service.db.execute("BEGIN")
        read = service.recall_all("build_agent")[0]["value"]

        memories.ok("backup", "--restore", file)
        still = service.recall_all("build_agent")[0]["value"]
        service.db.execute("COMMIT")
        service.recall("build_agent", "learning", "k1")
        service.remember("build_agent", "learning", "k3", "wednesday")

        values = {row["value"]: row["access_count"] for row in service.recall_all("build_agent")}
    with closing(connect(memories.database)) as db:
        assert is_sound(db)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert (read, still) == ("tuesday", "tuesday")
    assert values == {"monday": 1, "wednesday": 0}


def write_and_read(service: Service, number: int) -> Row:
    """Write a memory that a restore may remove, and read one that it may not."""
    service.remember("service", "learning", f"key {number}", "v")
    return read_row(service, "build_agent", "learning", "k1")


def test_a_running_service_never_misses_its_memories_during_a_restore(memories: Memctl) -> None:
    file = memories.ok("backup", "--json").json["path"]

    with service_at_work(memories.database, write_and_read) as service:
        answer = memories("backup", "--restore", file)

    with closing(connect(memories.database)) as db:
        assert is_sound(db)
    assert answer.exit_code == 0
    assert service.errors == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip, id="damaged"),
        pytest.param(Path.unlink, id="missing"),
        pytest.param(lambda file: file.write_bytes(b"x" * 9999), id="no database"),
    ],
)
@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "no manifest"])
def test_an_incomplete_or_damaged_backup_is_not_restored(
    memories: Memctl, damage: Callable[[Path], Any], manifest: bool
) -> None:
    file = Path(memories.ok("backup", "--json").json["path"])
    if not manifest:
        file.with_name(f"{file.name}.json").unlink()
        if damage is flip:  # without a checksum, SQLite finds only damage of its structure
            file.write_bytes(file.read_bytes()[:8192])
    if manifest or damage is not flip:
        damage(file)
    before = everything(memories.database)

    answer = memories("backup", "--restore", str(file))

    assert answer.exit_code in (1, 10)
    assert complaint(answer)
    assert everything(memories.database) == before
    assert not [name for name in names_beside(memories.database) if "before" in name]


def test_a_database_of_another_program_is_not_restored(memories: Memctl, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(connect(other)) as db:
        db.execute("CREATE TABLE t (x)")
    before = everything(memories.database)

    answer = memories("backup", "--restore", str(other))

    assert answer.exit_code == 3
    assert complaint(answer) == f"memctl: {other} has no table agent_memory; nothing was changed"
    assert everything(memories.database) == before


@pytest.mark.parametrize("name", ["harness.db", "other.db"])
def test_a_database_in_use_is_not_restored_as_a_backup(
    memories: Memctl, tmp_path: Path, name: str
) -> None:
    before = everything(memories.database)

    with closing(Service(tmp_path / name)) as service:
        service.remember("build_agent", "learning", "k", "v", memory_id="in the log")
        answer = memories("backup", "--restore", str(tmp_path / name))
        service.forget("build_agent", "learning", "k")

    assert answer.exit_code == 3
    assert complaint(answer) == (
        f"memctl: {tmp_path / name} is a database in use, not a backup; nothing was changed"
    )
    assert everything(memories.database) == before


def test_a_backup_to_a_full_disk_leaves_no_file(small_disk: Path, memories: Memctl) -> None:
    memories.ok("backup", "-o", str(small_disk), "--keep", "1")
    fill_disk(small_disk, room=64 * 1024)

    answer = memories.at(NOW + timedelta(days=1))("backup", "-o", str(small_disk), "--keep", "1")

    assert answer.exit_code == 1
    assert "full" in complaint(answer)
    assert sorted(file.name for file in small_disk.iterdir()) == ["filler", FIRST, f"{FIRST}.json"]


def test_restoring_a_backup_waits_for_a_lock_as_long_as_specified(memories: Memctl) -> None:
    file = memories.ok("backup", "--json").json["path"]
    before = everything(memories.database)

    with write_lock(memories.database):
        answer = memories("backup", "--restore", file, "--lock-wait", "0.2")

    assert answer.exit_code == 11
    assert "is locked by another program; waited 0.2 s" in complaint(answer)
    assert everything(memories.database) == before
    assert not [name for name in names_beside(memories.database) if "before" in name]


def test_a_lost_database_is_created_again_and_restored(memories: Memctl) -> None:
    file = memories.ok("backup", "--json").json["path"]
    before = everything(memories.database)
    for name in ("harness.db", "harness.db-wal", "harness.db-shm"):
        memories.database.with_name(name).unlink(missing_ok=True)

    memories.ok("migrate")
    memories.ok("backup", "--restore", file)

    assert everything(memories.database) == before


@pytest.mark.parametrize("page_size", [512, 1024, 8192, 65536])
def test_a_lost_database_of_any_page_size_is_restored(
    template: Path, path: Path, page_size: int
) -> None:
    shutil.copyfile(template, path)
    with closing(connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute(f"PRAGMA page_size = {page_size}")
        db.execute("VACUUM")
        insert_memory(db, value="x" * 100_000)
    with open_database(path) as db:
        made = Path(back_up(db, path, target=None, retention=Retention(), now=NOW).path)
    before = everything(path)
    shutil.copyfile(template, path)

    with open_database(path) as db:
        restore_backup(db, path, made, now=NOW, lock_wait=1)

    assert everything(path) == before
    with closing(connect(path)) as db:
        assert is_sound(db)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA page_size").fetchone() == (page_size,)


def test_a_backup_with_another_page_size_is_not_restored_while_in_use(
    template: Path, path: Path, tmp_path: Path
) -> None:
    shutil.copyfile(template, path)
    other = tmp_path / "other.db"
    with closing(connect(path)) as db:
        db.execute("VACUUM INTO ?", (str(other),))
    with closing(connect(other)) as db:
        db.execute("PRAGMA page_size = 8192")
        db.execute("VACUUM")
    before = everything(path)

    with (
        closing(Service(path)),
        open_database(path, lock_wait=0.1) as db,
        pytest.raises(LockedError, match=r"a different page size than .*, which is in use"),
    ):
        restore_backup(db, path, other, now=NOW, lock_wait=0.1)

    assert everything(path) == before
    assert not [name for name in names_beside(path) if "before" in name]


def test_a_backup_that_is_not_utf8_is_not_restored(
    template: Path, path: Path, tmp_path: Path
) -> None:
    shutil.copyfile(template, path)
    other = tmp_path / "other.db"
    with closing(connect(other)) as db:
        db.executescript(f"PRAGMA encoding = 'UTF-16le'; {SCHEMA}")
    before = everything(path)

    with open_database(path) as db, pytest.raises(SchemaError, match="stores text as UTF-16le"):
        restore_backup(db, path, other, now=NOW, lock_wait=1)

    assert everything(path) == before


def test_a_killed_restore_is_complete_or_had_no_effect(
    memories: Memctl, remember: Callable[..., str], tmp_path: Path
) -> None:
    for _ in range(400):
        remember(value="x" * 2000)
    file = memories.ok("backup", "--json").json["path"]
    restored = everything(memories.database)["agent_memory"]
    with closing(connect(memories.database)) as db:
        db.execute("UPDATE agent_memory SET value = 'y' || value")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spoilt = everything(memories.database)["agent_memory"]
    found = []

    for attempt in range(6):
        place = tmp_path / str(attempt)
        place.mkdir()
        program = Memctl(place / "harness.db")
        shutil.copyfile(memories.database, program.database)
        begun = backup_begun(program.database)
        process = program.start("backup", "--restore", file)
        eventually(begun)
        try:
            process.wait(timeout=0.004 * attempt)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        with closing(connect(program.database)) as db:
            assert is_sound(db)
        found.append(everything(program.database)["agent_memory"])

    assert all(state in (restored, spoilt) for state in found)


def begin_backup(made: Path, name: str, **changes: Any) -> list[Path]:
    """Leave the files of a backup killed while it copied; `made` is a finished one.

    Returns its draft and its manifest.
    """
    manifest = json.loads(made.with_name(f"{made.name}.json").read_text())
    begun = {**manifest, "file": name, "size_bytes": 0, "sha256": None, **changes}
    note, draft = made.with_name(f"{name}.json"), made.with_name(f".{name}.abcd1234")
    note.write_text(json.dumps(begun))
    draft.write_bytes(b"a draft")
    return [draft, note]


def test_the_next_backup_removes_the_files_of_a_killed_one(
    memories: Memctl, tmp_path: Path
) -> None:
    made = Path(memories.ok("backup", "--json").json["path"])
    left = begin_backup(made, "harness.db.backup-20261121T094358Z")
    named = (
        tmp_path / "harness.db.backup-20261120T094358Z"
    )  # killed before the manifest was complete
    left += [named, *begin_backup(made, named.name)]
    shutil.copyfile(made, named)
    by_hand = tmp_path / ".harness.db.backup-mine"
    by_hand.touch()

    memories.at(NOW + timedelta(days=1)).ok("backup", "--keep", "2")

    assert [file for file in left if file.exists()] == []
    assert by_hand.exists()
    assert made.exists()


def test_the_draft_of_another_databases_backup_is_not_removed(memories: Memctl) -> None:
    made = Path(memories.ok("backup", "--json").json["path"])
    begun = begin_backup(made, "harness.db.backup-20261121T094358Z", database_id="another")

    memories.at(NOW + timedelta(days=1)).ok("backup", "--keep", "1")

    assert all(file.exists() for file in begun)


def test_a_name_that_another_backup_has_reserved_is_not_taken(memories: Memctl) -> None:
    made = Path(memories.ok("backup", "--json").json["path"])
    begin_backup(made, "harness.db.backup-20261123T094358Z", database_id="another")

    answer = memories.at(NOW + timedelta(days=1)).ok("backup", "--json").json

    assert answer["path"] == f"{memories.database}.backup-20261123T094358Z-2"


# Ownership of backups


@dataclass(frozen=True)
class Machine:
    """A database and a directory for backups, as memctl's functions see them."""

    path: Path
    directory: Path

    def back_up(self, *, day: int, keep: int | None = None) -> list[str]:
        """Make a backup on a day; returns the names of the backups removed."""
        with open_database(self.path) as db:
            made = back_up(
                db,
                self.path,
                target=self.directory,
                retention=Retention(last=keep),
                now=NOW + timedelta(days=day),
            )
        return [Path(file).name for file in made.removed]


@pytest.fixture
def machine(template: Path, tmp_path: Path) -> Machine:
    """A machine with a migrated database, and a directory for backups."""
    (tmp_path / "backups").mkdir()
    (tmp_path / "data").mkdir()
    shutil.copyfile(template, tmp_path / "data" / "harness.db")
    return Machine(tmp_path / "data" / "harness.db", tmp_path / "backups")


def test_databases_with_the_same_name_rotate_only_their_own_backups(
    machine: Machine, template: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = replace(machine, path=tmp_path / "other" / "harness.db")
    shutil.copyfile(template, other.path)

    removed = [one.back_up(day=day, keep=2) for day in range(3) for one in (machine, other)]

    assert removed == [
        *([[]] * 4),
        ["harness.db.backup-20261122T094358Z"],
        ["harness.db.backup-20261122T094358Z-2"],
    ]


@pytest.mark.parametrize("name", ["harness.db", "renamed.db"])
def test_a_moved_database_continues_to_rotate_its_backups(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    machine.back_up(day=0)
    machine.back_up(day=1)
    (tmp_path / "new").mkdir()
    moved = replace(machine, path=machine.path.rename(tmp_path / "new" / name))

    removed = moved.back_up(day=2, keep=2)

    assert removed == ["harness.db.backup-20261122T094358Z"]


def test_restoring_anothers_backup_does_not_rotate_its_backups(
    machine: Machine, tmp_path: Path
) -> None:
    machine.back_up(day=0)
    (made,) = machine.directory.glob("*Z")
    (tmp_path / "new").mkdir()
    moved = replace(machine, path=machine.path.rename(tmp_path / "new" / "harness.db"))
    moved.back_up(day=1)
    copy = replace(machine, path=tmp_path / "copy.db")
    shutil.copyfile(moved.path, copy.path)
    copy.back_up(day=2)
    with open_database(copy.path) as db:
        restore_backup(db, copy.path, made, now=NOW, lock_wait=0)

    removed = copy.back_up(day=3, keep=1)

    assert removed == ["copy.db.backup-20261124T094358Z"]


def test_a_database_moved_to_another_disk_continues_its_rotation(
    machine: Machine, tmp_path: Path
) -> None:
    machine.back_up(day=0)
    moved = replace(machine, path=tmp_path / "copied.db")
    shutil.copyfile(machine.path, moved.path)
    machine.path.unlink()

    assert moved.back_up(day=1, keep=1) == ["harness.db.backup-20261122T094358Z"]


def change_identity(path: Path, **changes: str) -> None:
    """Make a database record another identity of its file."""
    with closing(connect(path)) as db:
        ((stored,),) = db.execute("SELECT value FROM memory_state WHERE key = 'database_id'")
        db.execute(
            "UPDATE memory_state SET value = ? WHERE key = 'database_id'",
            (json.dumps({**json.loads(stored), **changes}),),
        )


def test_a_container_with_a_new_name_continues_its_rotation(machine: Machine) -> None:
    machine.back_up(day=0)
    change_identity(machine.path, host="3f1c0ffee")

    assert machine.back_up(day=1, keep=1) == ["harness.db.backup-20261122T094358Z"]


def test_a_copied_database_does_not_rotate_the_originals_backups(
    machine: Machine, tmp_path: Path
) -> None:
    machine.back_up(day=0)
    copy = replace(machine, path=tmp_path / "harness.db")
    shutil.copyfile(machine.path, copy.path)

    removed = [copy.back_up(day=day, keep=1) for day in (1, 2)]

    assert removed == [[], ["harness.db.backup-20261123T094358Z"]]
    assert machine.back_up(day=3, keep=1) == ["harness.db.backup-20261122T094358Z"]


def test_copies_of_a_moved_database_do_not_rotate_each_others_backups(
    machine: Machine, tmp_path: Path
) -> None:
    machine.back_up(day=0)
    copies = [replace(machine, path=tmp_path / name) for name in ("one.db", "two.db")]
    for copy in copies:
        shutil.copyfile(machine.path, copy.path)
    machine.path.unlink()

    removed = [copy.back_up(day=day, keep=1) for day in (1, 2) for copy in copies]

    # Whose the original's backup is cannot be known; the first one claims it.
    assert removed == [
        ["harness.db.backup-20261122T094358Z"],
        [],
        ["one.db.backup-20261123T094358Z"],
        ["two.db.backup-20261123T094358Z"],
    ]


def test_a_copy_on_another_machine_at_the_same_path_is_another_database(machine: Machine) -> None:
    machine.back_up(day=0)
    change_identity(machine.path, host="another", file="1:2")

    assert machine.back_up(day=1, keep=1) == []


def test_a_restored_database_keeps_its_identity(memories: Memctl) -> None:
    file = memories.ok("backup", "--json").json["path"]
    before = identity(memories.database)
    for name in ("harness.db", "harness.db-wal", "harness.db-shm"):
        memories.database.with_name(name).unlink(missing_ok=True)
    memories.ok("migrate")
    memories.ok("backup", "--restore", file)

    removed = memories.at(NOW + timedelta(days=1)).ok("backup", "--keep", "1", "--json").json

    assert identity(memories.database) == before
    assert removed["removed"] == [file]


def test_series_with_different_names_are_rotated_separately(machine: Machine) -> None:
    daily = replace(machine, directory=machine.directory / "daily")
    weekly = replace(machine, directory=machine.directory / "weekly")
    weekly.back_up(day=0, keep=1)
    machine.back_up(day=0)

    removed = [daily.back_up(day=day, keep=1) for day in range(2)]

    assert removed == [[], ["daily-20261122T094358Z"]]


def test_backups_of_an_earlier_memctl_are_kept(machine: Machine) -> None:
    machine.back_up(day=0)
    note = machine.directory / f"{FIRST}.json"
    manifest = json.loads(note.read_text())
    del manifest["database_id"], manifest["host"]
    note.write_text(json.dumps(manifest))

    assert machine.back_up(day=1, keep=1) == []


@pytest.mark.parametrize("note", ["renamed with it", "left behind", "of a later memctl"])
def test_a_renamed_backup_keeps_its_checksum(machine: Machine, note: str) -> None:
    machine.back_up(day=0)
    made = machine.directory / FIRST
    renamed = made.rename(machine.directory / "before the upgrade")
    manifest = machine.directory / f"{FIRST}.json"
    if note == "renamed with it":
        manifest.rename(machine.directory / "before the upgrade.json")
    if note == "of a later memctl":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "later": 1}))

    assert verify(renamed).file == FIRST
    assert machine.back_up(day=1, keep=1) == []
    flip(renamed)
    with pytest.raises(MemctlError, match="was changed after the backup: its SHA-256 is"):
        verify(renamed)


@pytest.mark.parametrize("action", ["migrate", "restore", "rollback"])
def test_a_backup_made_before_a_change_has_a_manifest(
    memories: Memctl, tmp_path: Path, action: str
) -> None:
    if action == "migrate":
        memories = Memctl(tmp_path / "plain" / "harness.db")
        memories.database.parent.mkdir()
        Service(memories.database).close()
        memories.ok("migrate")
    elif action == "restore":
        memories.ok("backup", "--restore", memories.ok("backup", "--json").json["path"])
    else:
        memories.ok("rollback", "--yes")
    copy = memories.database.with_name(f"harness.db.before-{action}-20261122T094358Z")

    manifest = verify(copy)
    flip(copy)

    assert manifest.file == copy.name
    with pytest.raises(MemctlError, match="was changed after the backup"):
        verify(copy)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--keep", "0"), id="keep none"),
        pytest.param(("--keep", "two"), id="keep a word"),
        pytest.param(("--verify", "a", "--keep", "1"), id="verify and make"),
        pytest.param(("--verify", "a", "--restore", "a"), id="verify and restore"),
        pytest.param(("-o", "a", "--restore", "a"), id="make and restore"),
    ],
)
def test_invalid_options_of_backup_are_usage_errors(
    memories: Memctl, words: tuple[str, ...]
) -> None:
    assert memories("backup", *words).exit_code == 2


@pytest.mark.parametrize("place", ["nowhere/copy.db", "x" * 300])
def test_an_unwritable_directory_is_named_in_the_error(
    memories: Memctl, tmp_path: Path, place: str
) -> None:
    answer = memories("backup", "-o", str(tmp_path / place))

    assert answer.exit_code == 1
    assert complaint(answer).startswith("memctl: ")
    assert not [name for name in names_beside(memories.database) if "backup" in name]


def test_an_unmigrated_database_can_be_backed_up(memctl: Memctl, service: Service) -> None:
    service.remember("build_agent", "learning", "k", "v")

    manifest = memctl.ok("backup", "--json").json["manifest"]

    assert (manifest["schema_step"], manifest["memories"], manifest["archived"]) == (0, 1, None)


def test_sqlite_itself_opens_a_backup(memories: Memctl) -> None:
    file = memories.ok("backup", "--json").json["path"]

    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as backup:
        assert backup.execute("SELECT id FROM agent_memory").fetchall() == [("m-1",)]
