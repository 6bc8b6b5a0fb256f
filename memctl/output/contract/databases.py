"""The JSON of a command on several databases: an entry for each configuration file."""

from typing import Generic, TypeVar

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document, Failure

Result = TypeVar("Result")


class OnDatabase(TypedDict, Generic[Result]):
    """The outcome of a command on one database."""

    configuration: str
    database: str | None
    exit_code: int
    result: Result | None
    error: Failure | None


class OnDatabases(Document, Generic[Result]):
    """The outcome of a command on several databases."""

    databases: list[OnDatabase[Result]]
