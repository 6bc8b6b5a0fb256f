"""What an export and an import need from a database, as an interface that each engine implements.

A document is made of rows in tables of SQLite, and is staged and compared in such tables, on every
engine: the rules exist once. They are temporary tables of the database itself, or those of a
working copy.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from sqlite3 import Connection
from typing import TYPE_CHECKING, Protocol

from memctl.storage.batches import Batches, BatchRows, FoundRows

if TYPE_CHECKING:
    from memctl.storage.sqlite.row_rules import InvalidValue
    from memctl.storage.sqlite.sections import DocumentSection


class Documents(Protocol):
    """Exports and imports of one open database."""

    ids_per_agent: bool  # memories of two agents may have the same id
    locks: str  # what a transaction that writes rows holds
    replaced_values: Mapping[str, int] | None  # what `replace_unstorable` has replaced, by kind

    @property
    def db(self) -> Connection:
        """The SQLite database that has the tables."""

    def copy_rows(
        self, agent: str | None, sections: Collection["DocumentSection"], *, now: datetime
    ) -> None:
        """Copy rows, as of one moment, to the tables of `sqlite.exports`.

        Those of an agent, or of all agents; the tables of sections that are not given stay empty.
        """

    def replace_unstorable(self, *, now: datetime) -> None:
        """Replace staged values that the engine cannot store.

        `now` replaces times that cannot be read and must not be NULL.
        """

    def unstorable_values(self, *, limit: int) -> "list[InvalidValue]":
        """Return the first staged values that the engine cannot store.

        If there are none, all staged values are changed to the form in which it returns them.
        """

    def copy_rivals(self, batches: Batches | None, *, run_id: int | None) -> None:
        """Copy to `db` the stored rows with which staged ones can be in conflict."""

    def identify(self, sha256: str, exported_at: str) -> None:
        """Note which document is staged, so that a repeated import continues in its order."""

    def found_rows(self, rows: Sequence[int]) -> FoundRows:
        """Return staged rows, given by their numbers, for `Batches.apply`."""

    def lock_rivals(self, batch: BatchRows) -> str:
        """Return the numbers of the rows of a batch as a JSON array.

        Until the end of the transaction, `db` has what is stored of their rivals.
        """

    def changes(self, batch: BatchRows) -> AbstractContextManager[None]:
        """Let the block write the rows of a batch to the tables of `db`; must be in a transaction.

        What it writes is stored. Memories are stored in the order of the document, even if batches
        are not.
        """
