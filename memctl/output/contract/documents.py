"""What many JSON objects have in common."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from memctl.insight.metrics import DatabaseSize
from memctl.output.contract.records import StoredText


class Document(TypedDict):
    """One JSON object."""

    schema: Literal[1]


class Storage(TypedDict):
    """The size of a database file, of its write-ahead log, and of the free pages in it."""

    size_bytes: int
    wal_bytes: int
    free_pages: int
    free_bytes: int


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
