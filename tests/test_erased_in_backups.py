"""What was erased goes from backups, and does not come back with one."""

import shutil
import signal
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from memctl.storage.sqlite.backup import sha256_of
from memctl.storage.sqlite.manifests import manifest_path, read_manifest
from tests.support.database import connect, is_sound, rows
from tests.support.kills import copy_at, kill, killed_before, one_of_each_kind
from tests.support.program import NOW, Answer, Memctl
from tests.support.service import Service

TEXT = "sk-live-4eC39HqLyjWDarjtT1zdp7dc"  # planted
NAME = ("--type", "learning", "--key", "key")


def names_with(path: Path, text: str = TEXT) -> list[str]:
    """Return the names of the database, and of the files beside it, that contain a text."""
    return sorted(
        file.name
        for file in path.parent.iterdir()
        if file.is_file() and text.encode() in file.read_bytes()
    )


@pytest.fixture
def old(path: Path) -> Path:
    """The path of a backup that was made before the erasure."""
    return path.with_name("old.db")


@pytest.fixture
def planted(migrated: Memctl, service: Service, old: Path) -> Memctl:
    """A database with a planted text, and a backup of it."""
    service.remember("a", "learning", "key", f"{TEXT} 1")
    service.remember("a", "learning", "other", "kept")
    migrated.ok("archive", "a", *ids(migrated, "other"))
    service.remember("a", "learning", "other", "kept again")
    migrated.ok("backup", "-o", str(old))
    return migrated


def ids(memctl: Memctl, key: str) -> list[str]:
    """Return the ids of the active memories of a key."""
    with closing(connect(memctl.database)) as db:
        return [row[0] for row in db.execute("SELECT id FROM agent_memory WHERE key = ?", (key,))]


# Restoring a backup


def test_a_restored_backup_leaves_out_what_was_erased_since(
    planted: Memctl, path: Path, old: Path
) -> None:
    planted.ok("erase", "a", *NAME, "--yes")
    before = old.read_bytes()

    answer = planted("backup", "--restore", str(old), "--json")

    assert answer.json == {
        "schema": 1,
        "database": str(path),
        "restored_from": str(old),
        "backup": f"{path}.before-restore-20261122T094358Z",
        "removed_memories": 1,
        "removed_rows": 1,
        "redacted_rows": 0,
    }
    with closing(connect(path)) as db:
        assert rows(db, "agent_memory", "value") == [("kept again",)]
        assert rows(db, "archived_memories", "value") == [("kept",)]
        assert len(rows(db, "memory_tombstones")) == 2
        assert is_sound(db)
    assert names_with(path) == ["old.db"]
    assert old.read_bytes() == before


def test_the_message_names_what_was_left_out(planted: Memctl, path: Path, old: Path) -> None:
    planted.ok("erase", "a", *NAME, "--yes")

    answer = planted("backup", "--restore", str(old))

    assert answer == Answer(
        0,
        "",
        f"backup: {path} was restored from {old}\n"
        f"backup: the previous database was saved as {path}.before-restore-20261122T094358Z\n"
        "backup: what was erased or redacted since then was left out: 1 memory, 1 row;"
        f" {old} still contains it\n",
    )


@pytest.mark.parametrize("step", ["1", "2"])
def test_a_backup_of_an_earlier_schema_gets_the_tombstones(
    path: Path, memctl: Memctl, service: Service, old: Path, step: str
) -> None:
    memctl.ok("migrate", "--to", step, "--no-backup")
    service.remember("a", "learning", "key", f"{TEXT} 1")
    service.remember("a", "learning", "other", "kept")
    memctl.ok("backup", "-o", str(old))
    memctl.ok("migrate", "--no-backup")
    memctl.ok("erase", "a", *NAME, "--yes")

    memctl.ok("backup", "--restore", str(old))
    restored = names_with(path)
    memctl.ok("migrate", "--no-backup")

    with closing(connect(path)) as db:
        assert rows(db, "agent_memory", "value") == [("kept",)]
        assert len(rows(db, "memory_tombstones")) == 2
        assert is_sound(db)
    assert restored == ["old.db"]


def test_a_backup_made_after_the_erasure_keeps_what_was_written_anew(
    planted: Memctl, service: Service, path: Path
) -> None:
    planted.ok("erase", "a", *NAME, "--yes")
    service.remember("a", "learning", "key", "another value")
    newer = path.with_name("newer.db")
    planted.ok("backup", "-o", str(newer))

    answer = planted("backup", "--restore", str(newer), "--json")

    assert answer.json["removed_rows"] == 0
    with closing(connect(path)) as db:
        assert sorted(rows(db, "agent_memory", "value")) == [("another value",), ("kept again",)]


def test_deleted_rows_in_free_pages_of_a_backup_do_not_come_back(
    migrated: Memctl, service: Service, path: Path, old: Path
) -> None:
    service.db.execute("PRAGMA secure_delete = OFF")
    service.remember("a", "learning", "key", f"{TEXT} {'x' * 50_000}")
    service.forget("a", "learning", "key")
    migrated.ok("backup", "-o", str(old))
    service.remember("a", "learning", "key", f"{TEXT} again")
    migrated.ok("erase", "a", *NAME, "--yes")

    migrated.ok("backup", "--restore", str(old))

    assert names_with(path) == ["old.db"]


def test_a_text_that_was_redacted_is_replaced_in_a_restored_backup(
    planted: Memctl, path: Path, old: Path
) -> None:
    planted.ok("redact", "a", *NAME, "--match", TEXT, "--yes")

    answer = planted("backup", "--restore", str(old), "--json")

    assert answer.json["redacted_rows"] == 1
    with closing(connect(path)) as db:
        assert rows(db, "agent_memory", "value")[0] == ("[redacted] 1",)
    assert names_with(path) == ["old.db"]


def test_a_killed_restore_leaves_the_old_or_the_new_state_and_no_text(
    planted: Memctl, path: Path, old: Path, tmp_path: Path
) -> None:
    planted.ok("erase", "a", *NAME, "--yes")
    words = ("backup", "--restore", str(old))
    kept = old.read_bytes()
    with closing(connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    steps = one_of_each_kind(copy_at(tmp_path / "all", planted), words)
    for killed in killed_before(steps, planted, words, tmp_path):
        with closing(connect(killed.database)) as db:
            assert is_sound(db)
            assert sorted(rows(db, "memory_tombstones", "kind")) == [("erased",)] * 2
        assert names_with(killed.database)[1:] == []
        killed.ok(*words)
        assert names_with(killed.database) == []
        with closing(connect(killed.database)) as db:
            assert rows(db, "agent_memory", "value") == [("kept again",)]
    assert old.read_bytes() == kept


def test_a_later_erasure_removes_the_draft_of_a_killed_restore(
    planted: Memctl, path: Path, old: Path
) -> None:
    planted.ok("erase", "a", *NAME, "--yes")
    left = path.with_name(f".{path.name}.restored.0123abcd")
    shutil.copy(old, left)

    planted.ok("erase", "a", "--type", "learning", "--key", "other", "--yes")

    assert names_with(path) == ["old.db"]


@pytest.mark.parametrize("to", ["2", "1"])
def test_an_old_export_is_recognized_after_a_rollback_and_a_migration(
    planted: Memctl, path: Path, old: Path, to: str
) -> None:
    exported = path.parent.with_name("old.json")
    planted.ok("export", "--all", "-o", str(exported))
    planted.ok("erase", "a", *NAME, "--backup", str(old), "--yes")
    planted.ok("rollback", "--to", to, "--yes")
    planted.ok("migrate")

    answer = planted("import", "--all", str(exported), "--on-conflict", "replace")

    assert answer.exit_code == 3
    assert names_with(path) == []
    with closing(connect(path)) as db:
        assert rows(db, "agent_memory", "key") == [("other",)]


# Rewriting backups


def rewritten(file: Path | str, memories: int = 1, changed: int = 1) -> dict[str, object]:
    """Return what a receipt says about a backup that was rewritten."""
    return {
        "path": str(file),
        "action": "rewritten",
        "reason": None,
        "removed_memories": memories,
        "removed_rows": changed,
        "redacted_rows": 0,
    }


def left(file: Path | str, reason: str) -> dict[str, object]:
    """Return what a receipt says about a backup that was left."""
    return {**rewritten(file, 0, 0), "action": "left", "reason": reason}


def unchanged(file: Path | str) -> dict[str, object]:
    """Return what a receipt says about a backup that has nothing of what was erased."""
    return {**rewritten(file, 0, 0), "action": "unchanged"}


def test_erase_rewrites_the_backups_of_the_database(planted: Memctl, path: Path, old: Path) -> None:
    before = read_manifest(manifest_path(old))

    preview = planted("erase", "a", *NAME, "--backups", "--dry-run", "--json")
    previewed = names_with(path)
    answer = planted("erase", "a", *NAME, "--backups", "--yes", "--json")

    after = read_manifest(manifest_path(old))
    verified = planted("backup", "--verify", str(old))
    assert preview.json["backups"] == answer.json["backups"] == [rewritten(old)]
    assert "old.db" in previewed
    assert names_with(path) == []
    assert verified.exit_code == 0
    assert before is not None
    assert after == replace(
        before, memories=1, size_bytes=old.stat().st_size, sha256=sha256_of(old)
    )
    with closing(connect(old)) as db:
        assert rows(db, "agent_memory", "value") == [("kept again",)]
        assert rows(db, "archived_memories", "value") == [("kept",)]
        assert is_sound(db)
    assert old.stat().st_mode & 0o777 == 0o600


def test_without_the_option_backups_are_listed_and_not_changed(
    planted: Memctl, path: Path, old: Path
) -> None:
    before = old.read_bytes()

    answer = planted("erase", "a", *NAME, "--yes", "--json")

    assert answer.json["backups"] == [left(old, "not selected by --backups or --backup")]
    assert old.read_bytes() == before


def test_backups_can_be_rewritten_later(planted: Memctl, path: Path, old: Path) -> None:
    planted.ok("erase", "a", *NAME, "--yes")

    answer = planted("erase", "--continue", "--backups", "--json")
    again = planted("erase", "--continue", "--backups", "--json")

    assert answer.json["backups"] == [rewritten(old)]
    assert names_with(path) == []
    assert (again.exit_code, again.out) == (1, "")


@pytest.mark.parametrize("words", [("erase", "--continue", "--backups"), ("backup", "--restore")])
def test_a_copy_of_a_database_whose_erasure_was_interrupted_has_remains(
    migrated: Memctl, service: Service, path: Path, old: Path, words: tuple[str, ...]
) -> None:
    service.db.execute("PRAGMA secure_delete = OFF")
    service.remember("a", "learning", "key", f"{TEXT} {'x' * 50_000}")
    service.forget("a", "learning", "key")
    service.db.execute("INSERT INTO memory_state VALUES ('erase_pending', '{}')")
    migrated.ok("backup", "-o", str(old))
    copied = TEXT.encode() in old.read_bytes()
    migrated.ok("erase", "--continue")

    migrated.ok(*words, *([str(old)] if "--restore" in words else []))

    assert copied
    assert names_with(path) == (["old.db"] if "--restore" in words else [])
    assert migrated("erase", "--continue").exit_code == 1


def test_every_kind_of_copy_is_rewritten(service: Service, memctl: Memctl, path: Path) -> None:
    service.remember("a", "learning", "key", f"{TEXT} 1")
    memctl.ok("migrate")
    memctl.ok("rollback")
    later = memctl.at(NOW + timedelta(hours=1))
    later.ok("migrate")
    later.ok("backup")
    later.ok("backup", "--restore", f"{path}.backup-{later.now:%Y%m%dT%H%M%SZ}")
    elsewhere = path.with_name("elsewhere")
    elsewhere.mkdir()
    later.ok("backup", "-o", str(elsewhere / "named.db"))

    answer = later(
        "erase", "a", *NAME, "--backups", "--backup", str(elsewhere / "named.db"), "--yes", "--json"
    )

    found = {copy["path"]: copy for copy in answer.json["backups"]}
    made = [
        elsewhere / "named.db",
        *(path.with_name(file.name.removesuffix(".json")) for file in path.parent.glob("*.json")),
    ]
    assert len(made) == 6
    assert found == {str(file): rewritten(file) for file in made}
    assert names_with(path) == names_with(elsewhere / "named.db") == []
    assert all(later("backup", "--verify", str(file)).exit_code == 0 for file in made)


def test_a_text_is_erased_from_backups_even_if_the_database_no_longer_has_it(
    planted: Memctl, service: Service, path: Path, old: Path
) -> None:
    service.remember("a", "learning", "key", "harmless")
    planted.ok("erase", "a", *NAME, "--yes")
    planted.ok("backup", "--restore", str(old))
    service.remember("a", "learning", "second", f"{TEXT} 2")
    planted.ok("backup", "-o", str(path.with_name("second.db")))
    service.forget("a", "learning", "second")

    words = ("erase", "--match", TEXT, "--all-agents", "--backups")
    preview = planted(*words, "--dry-run", "--json")
    answer = planted(*words, "--yes", "--json")

    assert preview.json["backups"] == answer.json["backups"]
    assert {copy["action"] for copy in answer.json["backups"]} == {"rewritten"}
    assert names_with(path) == []


@pytest.mark.parametrize(
    ("name", "exit_code", "message"),
    [
        pytest.param(
            "another.db.backup-20261122T094358Z",
            3,
            "memctl: {file} is not a copy of this database; its memories may be others of the same"
            " names; nothing was changed\n",
            id="of another database",
        ),
        pytest.param(
            "another.db",
            3,
            "memctl: {file} is a database in use, not a backup; name a backup; nothing was"
            " changed\n",
            id="in use",
        ),
        pytest.param(
            "harness.db",
            3,
            "memctl: {file} is a database in use, not a backup; name a backup; nothing was"
            " changed\n",
            id="the database itself",
        ),
        pytest.param(
            "missing.db", 1, "memctl: there is no backup {file}; check the path\n", id="missing"
        ),
    ],
)
def test_only_copies_of_the_database_are_rewritten(
    planted: Memctl, path: Path, old: Path, name: str, exit_code: int, message: str
) -> None:
    another = Memctl(path.with_name("another.db"))
    with closing(Service(another.database)) as used:
        another.ok("migrate", "--no-backup")
        used.remember("a", "learning", "key", f"{TEXT} 1")
        another.ok("backup")
        before = {file: file.read_bytes() for file in path.parent.glob("*backup*")}

        answer = planted("erase", "a", *NAME, "--backup", str(path.with_name(name)), "--yes")

        assert answer == Answer(exit_code, "", message.format(file=path.with_name(name)))
        assert {file: file.read_bytes() for file in path.parent.glob("*backup*")} == before
        assert TEXT.encode() in old.read_bytes()


def test_a_damaged_backup_is_left_and_the_others_are_rewritten(
    planted: Memctl, path: Path, old: Path
) -> None:
    damaged = path.with_name("damaged.db")
    planted.ok("backup", "-o", str(damaged))
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)

    answer = planted("erase", "a", *NAME, "--backups", "--yes")

    assert answer.exit_code == 3
    assert "damaged.db was not rewritten" in answer.err
    assert names_with(path) == ["damaged.db"]
    assert damaged.read_bytes() == content


def test_a_killed_rewrite_leaves_a_backup_with_a_valid_manifest(
    planted: Memctl, old: Path, tmp_path: Path
) -> None:
    planted.ok("erase", "a", *NAME, "--yes")
    copy = tmp_path / "copies" / "old.db"
    words = ("erase", "--continue", "--backup", str(copy))

    def prepare() -> None:
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        for file in (old, manifest_path(old)):
            shutil.copy(file, copy.with_name(file.name))

    prepare()
    states = set()
    for step in one_of_each_kind(planted, words):
        prepare()
        assert kill(step, planted, words) == -signal.SIGKILL
        states.add(TEXT.encode() in copy.read_bytes())
        left = planted("backup", "--verify", str(copy))
        finished = planted(*words)
        manifest = read_manifest(manifest_path(copy))

        assert left.exit_code == 0
        assert finished.exit_code in (0, 1)  # 1: there was nothing left to do
        assert planted("backup", "--verify", str(copy)).exit_code == 0
        assert sorted(file.name for file in copy.parent.iterdir()) == ["old.db", "old.db.json"]
        assert names_with(copy) == []
        assert manifest is not None
        assert manifest.next_sha256 is None
    assert states == {True, False}


def test_redact_rewrites_backups(planted: Memctl, path: Path, old: Path) -> None:
    words = ("redact", "a", *NAME, "--match", TEXT, "--backups")

    preview = planted("redact", "a", *NAME, "--match", TEXT, "--backups", "--dry-run", "--json")
    answer = planted(*words, "--yes", "--json")

    done = {**rewritten(old, 0, 0), "redacted_rows": 1}
    assert preview.json["backups"] == answer.json["backups"] == [done]
    assert names_with(path) == []
    with closing(connect(old)) as db:
        assert rows(db, "agent_memory", "value")[0] == ("[redacted] 1",)
    assert planted("backup", "--verify", str(old)).exit_code == 0
