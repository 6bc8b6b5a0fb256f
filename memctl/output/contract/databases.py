"""The JSON of commands on several databases: an entry for each configuration file."""

from typing_extensions import TypedDict

from memctl.output.contract.documents import Failure


class OnDatabase(TypedDict):
    """The outcome of a command on one database."""

    configuration: str
    database: str | None
    exit_code: int
    error: Failure | None
