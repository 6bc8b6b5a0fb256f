"""The daily snapshot: store the figures of each agent and type.

The numbers of memories are those at the time of the day's last snapshot. Changes count on the day
on which they happened, and a snapshot therefore also completes earlier days that have a snapshot.
Days in the future are left alone: the clock of this run may be the one that is wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.tally import JobTally
from memctl.storage.figures import RATES_OVER, Figures, Period, Snapshot, SnapshotPeriod, no_changes
from memctl.storage.times import parse_moment, to_day, to_text

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Snapshots

CHANGES = ("accesses_that_day", "accesses", "expired", "archived", "restored", "pruned", "promoted")


@dataclass(frozen=True, kw_only=True)
class SnapshotResult(JobResult):
    """The number of rows of the day."""

    rows: int


def snapshot(run: JobContext) -> SnapshotResult:
    """Store the figures of all agents for the present day.

    All figures are read in one read transaction, without a lock, and written in one transaction.
    """
    stored = run.store.snapshots
    with stored.one_view():
        today = _read_today(stored, now=run.now)
        days = [today, *_completed(stored, today=today.period.date)]
    if run.batches is not None:
        run.batches.apply_at_once(lambda: stored.replace(days))
    tally = JobTally()
    for agent, _ in today.figures:
        tally.count += 1
        tally.agents[agent] += 1
    return SnapshotResult(rows=tally.count, tally=tally)


def _read_today(stored: "Snapshots", *, now: datetime) -> Snapshot:
    today = to_day(now)
    start = max(parse_moment(today), stored.first_moment())
    period = SnapshotPeriod(today, to_text(start), to_text(now), stored.last_event_id())
    last_day = Period(now - RATES_OVER, now, access_day=today, events_since=today)
    found = stored.read_figures(last_day, numbered=True)
    counted = no_changes(today, stored.counted_since_day()).accesses is not None
    figures = {
        key: read if counted else read._replace(accesses=None)
        for key, read in found.items()
        if any(read)
    }
    return Snapshot(period, figures)


def _completed(stored: "Snapshots", *, today: str) -> Iterator[Snapshot]:
    """Yield the snapshots of other days that are incomplete, with the changes of the whole day."""
    counted_since = stored.counted_since_day()
    for period in stored.incomplete_days(today=today):
        kept = stored.figures_of_day(period.date)
        of_day = stored.read_changes(period.date, period.date, numbered=True)
        changes = {key[1:]: change for key, change in of_day.items()}
        nothing = no_changes(period.date, counted_since)
        figures = {}
        for key in sorted({*kept, *changes}):
            change = changes.get(key, nothing)
            figures[key] = kept.get(key, Figures())._replace(
                **{name: getattr(change, name) for name in CHANGES}
            )
        yield Snapshot(period, figures)
