"""Exports and imports of a SQLite database, whose temporary tables they use."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from sqlite3 import Connection
from typing import TYPE_CHECKING

from memctl.storage.sqlite.exports import copy_rows
from memctl.storage.sqlite.row_rules import InvalidValue
from memctl.storage.sqlite.sections import DocumentSection

if TYPE_CHECKING:
    from memctl.storage.batches import Batches


class SqliteDocuments:
    """The database stores every staged value; see `storage.documents.Documents`."""

    ids_per_agent = False
    locks = "the write lock"
    replaced_values: Mapping[str, int] | None = None

    def __init__(self, db: Connection) -> None:
        self.db = db

    def copy_rows(
        self, agent: str | None, sections: Collection[DocumentSection], *, now: datetime
    ) -> None:
        """Copy rows to temporary tables in one read transaction."""
        copy_rows(self.db, agent, sections, now=now)

    def replace_unstorable(self, *, now: datetime) -> None:
        """Replace nothing."""

    def unstorable_values(self, *, limit: int) -> list[InvalidValue]:
        """Return nothing."""
        return []

    def copy_rivals(self, batches: "Batches | None", *, run_id: int | None) -> None:
        """Do nothing: the stored rows are in the same database."""

    def identify(self, sha256: str, exported_at: str) -> None:
        """Do nothing: rows are written in the order of the document."""

    def found_rows(self, rows: Sequence[int]) -> Sequence[int]:
        """Return the rows as they are."""
        return rows

    def lock_rivals(self, batch: str) -> str:
        """Return the batch, whose transaction holds the write lock."""
        return batch

    def changes(self, batch: str) -> AbstractContextManager[None]:
        """Return a block without an effect of its own."""
        return nullcontext()
