"""What many JSON objects have in common."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from memctl.output.contract.records import StoredText
from memctl.storage.rows import DatabaseSize


class Document(TypedDict):
    """One JSON object."""

    schema: Literal[1]


class Storage(TypedDict):
    """The size of a database, of its write-ahead log, and of its free pages."""

    size_bytes: int
    wal_bytes: int | None
    free_pages: int | None
    free_bytes: int | None


def storage(database: DatabaseSize) -> Storage:
    """Return the sizes of a database in their JSON form."""
    return {
        "size_bytes": database.size_bytes,
        "wal_bytes": database.wal_bytes,
        "free_pages": database.free_pages,
        "free_bytes": database.free_bytes,
    }


class Pause(TypedDict):
    """A pause of all jobs."""

    since: str
    until: str | None
    reason: StoredText


class Failure(TypedDict):
    """An error."""

    code: str
    exit_code: int
    message: str
    hint: str | None
    database: NotRequired[str]
    jobs: NotRequired[list[str]]


class ErrorDocument(TypedDict):
    """What --json prints on stderr when a command fails."""

    error: Failure
