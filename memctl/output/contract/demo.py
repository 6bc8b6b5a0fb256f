"""The JSON of the demo."""

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document
from memctl.output.contract.figures import AgentFigures, LevelFigures, Period


class Scene(TypedDict):
    """A scene of the demo."""

    day: str
    command: str
    sentence: str


class Month(TypedDict):
    """The changes of memories in a month of the demo."""

    month: int
    written: int
    reads: int
    expired: int
    promoted: int
    restored: int
    pruned: int


class DemoFigures(TypedDict):
    """The figures at the end of the demo."""

    at: str
    period: Period
    accesses_since: str | None
    system: LevelFigures
    agents: dict[str, AgentFigures]


class DemoDocument(Document):
    """The story of the demo."""

    database: str | None
    scenes: list[Scene]
    months: list[Month]
    metrics: DemoFigures
