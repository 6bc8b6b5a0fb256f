"""What happened in a period, to compare it with the period of the same length before it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from memctl.storage.figures import DAY
from memctl.storage.sqlite.report import Changes
from memctl.storage.times import to_day


class PeriodFigures(NamedTuple):
    """What happened in a period; None: unknown."""

    start: datetime
    end: datetime
    written: int | None = None
    growth: int | None = None  # of the number of memories, from a snapshot at the start
    changes: Changes | None = None
    runs: int | None = None
    failed_runs: int | None = None  # includes those that crashed

    @property
    def is_known(self) -> bool:
        """Whether changes were recorded in the whole period."""
        return self.changes is not None


def sum_of_changes(changes: Iterable[Changes]) -> Changes:
    """Return the changes of several days together."""
    columns = list(zip(*changes, strict=True))[1:]
    return Changes("", *(sum(column) for column in columns))


def growth(sizes: Mapping[str, int], start: datetime, end: datetime) -> int | None:
    """Return by how much the number of memories, given by day, has grown; None if unknown."""
    first, last = _day_of_size(sizes, start), _day_of_size(sizes, end)
    if first is None or last is None or first >= last:
        return None
    return sizes[last] - sizes[first]


def _day_of_size(sizes: Mapping[str, int], moment: datetime) -> str | None:
    """Return the day whose snapshot has the size at a moment.

    Snapshots are daily: the first one after a moment is of the same day, or of the next.
    """
    return next((day for day in (to_day(moment), to_day(moment + DAY)) if day in sizes), None)
