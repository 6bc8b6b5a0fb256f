"""What was erased does not come back with a backup."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.support.database import connect, is_sound, rows
from tests.support.program import Memctl
from tests.support.service import Service

SECRET = "sk-live-4eC39HqLyjWDarjtT1zdp7dc"


def bytes_with(path: Path, text: str) -> list[str]:
    """Return the names of the database, and of the files beside it, that contain a text."""
    return sorted(file.name for file in path.parent.iterdir() if text.encode() in file.read_bytes())


@pytest.fixture
def erased(migrated: Memctl, service: Service) -> Memctl:
    """A database from which a memory was erased after a backup."""
    service.remember("a", "learning", "key", f"{SECRET} 1")
    service.remember("a", "learning", "other", "kept")
    service.forget("a", "learning", "other")
    service.remember("a", "learning", "other", "kept")
    migrated.ok("backup", "-o", str(migrated.database.with_name("old.db")))
    migrated.ok("erase", "a", "--type", "learning", "--key", "key", "--yes")
    return migrated


def test_a_restored_backup_leaves_out_what_was_erased_since(erased: Memctl, path: Path) -> None:
    answer = erased("backup", "--restore", str(path.with_name("old.db")), "--json")

    print(answer)
    with closing(connect(path)) as db:
        assert rows(db, "agent_memory", "key") == [("other",)]
        assert is_sound(db)
    print(bytes_with(path, SECRET))
    assert 0
