"""The write lock is always released, and temporary files find a directory."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memctl.errors import MemctlError
from memctl.storage.sqlite import database
from memctl.storage.sqlite.database import open_database, transaction
from memctl.storage.sqlite.sqlite_errors import translate_errors


class SignalledConnection(sqlite3.Connection):
    """A connection whose user presses Ctrl-C at the worst moment."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:  # type: ignore[override]
        """Execute, and raise KeyboardInterrupt right after a transaction has begun."""
        cursor = super().execute(sql, parameters)
        if sql.startswith("BEGIN"):
            raise KeyboardInterrupt
        return cursor


def test_a_signal_right_after_begin_rolls_the_transaction_back() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None, factory=SignalledConnection)

    with pytest.raises(KeyboardInterrupt), transaction(db):
        pytest.fail("the block was entered")

    assert not db.in_transaction
    db.close()


@pytest.fixture
def _no_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave SQLite no directory for temporary files; its choice holds for the whole process."""
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(database, "TEMPORARY_DIRECTORIES", ("/nowhere",))
    yield
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("PRAGMA temp_store_directory = ''")


@pytest.mark.usefixtures("_no_temporary_directory")
def test_temporary_files_go_beside_the_database_where_no_other_directory_exists(
    tmp_path: Path,
) -> None:
    path = tmp_path / "o'clock.db"
    path.touch()

    with open_database(path) as db:
        db.execute("PRAGMA temp.cache_size = 1")
        db.execute("CREATE TEMP TABLE big AS SELECT zeroblob(10000000) AS content")
        opened = [
            os.readlink(link)  # noqa: PTH115  it may be gone
            for link in map(str, Path("/dev/fd").iterdir())
            if os.path.lexists(link)
        ]

    assert [name for name in opened if name.startswith(f"{tmp_path}/etilqs_")]


def test_the_error_names_the_variable_for_the_temporary_directory(tmp_path: Path) -> None:
    error = sqlite3.OperationalError("unable to open a temporary database file")
    error.sqlite_errorcode = 6410  # SQLITE_IOERR_GETTEMPPATH

    with pytest.raises(MemctlError, match="SQLITE_TMPDIR"), translate_errors(tmp_path):
        raise error
