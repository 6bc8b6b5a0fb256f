"""The check of the clock against the last run, before a job changes anything."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from memctl.errors import ClockLeapError, RefusedError
from memctl.storage.times import to_text

CLOCK_TOLERANCE = timedelta(hours=1)
LONGEST_SILENCE = timedelta(days=60)


class LastRun(NamedTuple):
    """The newest run whose clock was accepted."""

    run_id: int
    job: str
    started_at: datetime


def clock_error_after(
    last: LastRun | None, clients_wrote: Callable[[], bool], *, now: datetime
) -> RefusedError | None:
    """Return why the clock cannot be right, or None.

    It must be at most one hour behind the last run, and at most 60 days ahead of the later of that
    run and the last write of a client. `clients_wrote` returns whether there was one in the 60 days
    before `now`; later ones do not count. Before the first run, any clock is accepted.
    """
    if last is None:
        return None
    if now < last.started_at - CLOCK_TOLERANCE:
        return RefusedError(
            f"the clock reads {to_text(now)}, but run {last.run_id} ({last.job}) was at "
            f"{to_text(last.started_at)}",
            "correct the clock; if the clock of that run was wrong, use --force once",
        )
    if now > last.started_at + LONGEST_SILENCE and not clients_wrote():
        return ClockLeapError(
            f"the clock reads {to_text(now)}, but run {last.run_id} ({last.job}) was at "
            f"{to_text(last.started_at)}, and no memory was written or read in the last "
            f"{LONGEST_SILENCE.days} days",
            "correct the clock; if it is right, use --force once",
        )
    return None
