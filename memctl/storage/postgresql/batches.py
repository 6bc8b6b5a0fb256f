"""Changes in short transactions of about 25 ms, each for memories of one agent.

Other programs wait for the rows of one batch at most, or for its commit to reach the disk: with
batches of 50 ms, the slowest of their writes took twice as long. Pauses between batches would not
help them: with pauses, their writes took as long.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import psycopg

from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.lease import Lease
from memctl.storage.postgresql.server_errors import is_conflict
from memctl.storage.progress import NO_PROGRESS, Progress

FIRST_BATCH_ROWS = 10  # a value may have megabytes; the next batch has at most twice as many rows
MOST_BATCH_ROWS = 1000
BATCH_SECONDS = 0.025
# A batch of so few rows takes longer only if the server is distant or busy, or if they are large.
FEW_ROWS = 200
LARGE_ROWS_SECONDS = 0.5
EVENTS_PER_ROW = 4  # at most; numbers that are not used are left out

Result = TypeVar("Result")
FoundRow = tuple[str, str]  # the agent, and the row's other key


class Batch(NamedTuple):
    """The rows that one transaction changes, all of one agent.

    `last_event` is the last of EVENTS_PER_ROW numbers for each row; None without a lease.
    """

    agent: str
    keys: Sequence[str]
    last_event: int | None

    @property
    def first_event(self) -> int | None:
        """The first of these numbers; None if events are numbered later."""
        if self.last_event is None:
            return None
        return self.last_event - EVENTS_PER_ROW * len(self.keys) + 1

    def event_numbers(self, count: int) -> list[int | None]:
        """Return numbers for events, in order; None for each if they are numbered later."""
        first = self.first_event
        return [None] * count if first is None else list(range(first, first + count))


class PostgresBatches:
    """Applies changes in batches, and measures how long each held its rows; see `store.Batches`."""

    def __init__(
        self,
        db: Database,
        lease: Lease | None,
        *,
        max_seconds: float | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.longest_lock_ms = 0.0
        self._db = db
        self._lease = lease
        self._progress = progress
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._rows = FIRST_BATCH_ROWS

    def apply(
        self,
        rows: Sequence[FoundRow],
        change: Callable[[Batch], object],
        *,
        doing: str,
        after: Callable[[Any], object] | None = None,
        at_once: bool = False,
        shared: bool = False,
    ) -> int:
        """Call `change` with one batch of rows after the other; those of an agent must be together.

        `shared` has no meaning here: there is no lock for which others wait between batches.
        """
        self._progress.phase(doing, total=None if at_once else len(rows))
        if at_once:
            every, _ = self._hold(lambda: [*map(change, self._batches_of(rows))])
            if after:
                for changed in every:
                    after(changed)
            return 0
        done = 0
        while done < len(rows):
            if self._deadline is not None and time.monotonic() >= self._deadline:
                break
            agent = rows[done][0]
            some = rows[done : done + self._rows]
            keys = [key for of, key in some if of == agent]
            try:
                changed, held = self._hold(lambda: change(self._batch(agent, keys)))  # noqa: B023  called at once
            except psycopg.Error as error:
                if not is_conflict(error) or len(keys) == 1:
                    raise
                self._rows = max(1, len(keys) // 4)  # fewer rows, fewer conflicts with clients
                continue
            if after:
                after(changed)
            done += len(keys)
            self._progress.advance(len(keys))
            if len(keys) == self._rows or held > BATCH_SECONDS:  # the last of an agent may be few
                self._rows = _next_rows(len(keys), held)
        return len(rows) - done

    def apply_at_once(self, change: Callable[[], object]) -> None:
        """Call `change` in one transaction, which renews the lease."""

        def work() -> None:
            if self._lease:
                self._lease.renew(self._db)
            change()

        self._hold(work)

    def keep(self) -> None:
        """Renew the lease if that is due; must not be called in a transaction."""
        if self._lease:
            self._lease.keep(self._db)

    def _batches_of(self, rows: Sequence[FoundRow]) -> Iterator[Batch]:
        for agent, group in groupby(rows, key=itemgetter(0)):
            keys = [key for _, key in group]
            for start in range(0, len(keys), MOST_BATCH_ROWS):
                yield self._batch(agent, keys[start : start + MOST_BATCH_ROWS])

    def _batch(self, agent: str, keys: Sequence[str]) -> Batch:
        """Return a batch, whose transaction renews the lease."""
        last = None
        if self._lease:
            last = self._lease.renew(self._db, events=EVENTS_PER_ROW * len(keys))
        return Batch(agent, keys, last)

    def _hold(self, change: Callable[[], Result]) -> tuple[Result, float]:
        """Call `change` in a transaction; return what it returns, and how many seconds it took."""
        begun = time.monotonic()
        changed = self._db.transaction(change)
        held = time.monotonic() - begun
        self.longest_lock_ms = max(self.longest_lock_ms, held * 1000)
        return changed, held


def _next_rows(rows: int, held: float) -> int:
    """Return the size of the batch after one of so many rows, which took so many seconds."""
    least = FEW_ROWS if held < LARGE_ROWS_SECONDS else 1
    most = min(2 * rows, MOST_BATCH_ROWS)
    return min(max(int(rows * BATCH_SECONDS / held), least), most)
