"""Which backups of one database are kept, by rules as in restic and borg.

A rule keeps the newest N backups, or the newest backup of each of the newest N days, weeks from
Monday, or months, in UTC. Periods without a backup do not count. A backup is kept if any rule keeps
it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Retention:
    """How many backups each rule keeps; None: there is no such rule."""

    last: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is a rule; without one, every backup is kept."""
        return any(count is not None for _, count, _ in self._rules())

    def reasons(self, moments: Sequence[datetime]) -> list[list[str]]:
        """Return, for the time of each backup, newest first, the rules that keep it."""
        kept: list[list[str]] = [[] for _ in moments]
        for name, count, period in self._rules():
            seen: set[object] = set()
            for number, moment in enumerate(moments):
                current = number if period is None else period(moment.astimezone(UTC))
                if count is not None and current not in seen and len(seen) < count:
                    seen.add(current)
                    kept[number].append(name)
        return kept

    def _rules(self) -> Iterator[tuple[str, int | None, Callable[[datetime], object] | None]]:
        yield "last", self.last, None
        yield "daily", self.daily, lambda moment: moment.date()
        yield "weekly", self.weekly, lambda moment: moment.isocalendar()[:2]
        yield "monthly", self.monthly, lambda moment: (moment.year, moment.month)
