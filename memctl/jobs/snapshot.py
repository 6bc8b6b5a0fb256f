"""The figures of a day, kept: one row for each agent and type.

Stocks are those at the moment of the day's last snapshot. What happened belongs to the day on which
it happened, so a snapshot also completes the rows of earlier days; a day without a snapshot has no
rows. Days after its own stay as they are: they may be right, and the clock of this run wrong.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import NamedTuple

from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.tally import JobTally
from memctl.storage.sqlite.database import one_view, to_bytes
from memctl.storage.sqlite.figures import (
    KEPT_FIGURES,
    RATES_OVER,
    Figures,
    Key,
    Period,
    counted_since_day,
    first_moment,
    no_changes,
    read_changes,
    read_figures,
)
from memctl.storage.times import parse_moment, to_day, to_text

# The days with a snapshot that it did not see the end of: the last one before today, and those to
# which events have been added since.
INCOMPLETE_DAYS = """
    SELECT DISTINCT snapshot_date, period_start, period_end, last_event_id
    FROM memory_analytics
    WHERE snapshot_date <> :today AND (
        snapshot_date = (
            SELECT max(snapshot_date) FROM memory_analytics WHERE snapshot_date < :today
        )
        OR snapshot_date IN (
            SELECT substr(at, 1, 10) FROM memory_events
            WHERE event_id > (SELECT max(last_event_id) FROM memory_analytics)
        )
    )
"""

KEPT_ROWS = f"""
    SELECT agent_id, type, {", ".join(KEPT_FIGURES)} FROM memory_analytics WHERE snapshot_date = ?
"""

CHANGES = ("accesses_that_day", "accesses", "expired", "archived", "restored", "pruned", "promoted")

COLUMNS = (
    "snapshot_date",
    "agent_id",
    "type",
    "period_start",
    "period_end",
    "last_event_id",
    *KEPT_FIGURES,
)
TEXTS = ("agent_id", "type")

INSERT_ROW = f"""
    INSERT INTO memory_analytics ({", ".join(COLUMNS)})
    VALUES ({", ".join("CAST(? AS TEXT)" if name in TEXTS else "?" for name in COLUMNS)})
"""


@dataclass(frozen=True, kw_only=True)
class SnapshotResult(JobResult):
    """How many rows the day has."""

    rows: int


class Day(NamedTuple):
    """The rows of a day; the period ends with its last snapshot."""

    date: str
    period_start: str
    period_end: str
    last_event: int
    figures: Mapping[Key, Figures]


def snapshot(run: JobContext) -> SnapshotResult:
    """Keep the figures of all agents, for the day of the cutoff.

    It reads without a lock, in one view of the database, and then writes all rows at once.
    """
    with one_view(run.db):
        today = _read_today(run.db, now=run.now)
        days = [today, *_read_incomplete_days(run.db, today=today.date)]
    if run.batches is not None:
        run.batches.apply_at_once(lambda: _replace_rows(run.db, days))
    tally = JobTally()
    for agent, _ in today.figures:
        tally.count += 1
        tally.agents[agent] += 1
    return SnapshotResult(rows=tally.count, tally=tally)


def _read_today(db: Connection, *, now: datetime) -> Day:
    today = to_day(now)
    start = max(parse_moment(today), first_moment(db))
    (last_event,) = db.execute("SELECT ifnull(max(event_id), 0) FROM memory_events").fetchone()
    found = read_figures(db, Period(now - RATES_OVER, now, access_day=today, events_since=today))
    counted = no_changes(today, counted_since_day(db)).accesses is not None
    figures = {
        key: read if counted else read._replace(accesses=None)
        for key, read in found.items()
        if any(read)
    }
    return Day(today, to_text(start), to_text(now), last_event, figures)


def _read_incomplete_days(db: Connection, *, today: str) -> Iterator[Day]:
    """Yield the days that have been left behind, as they are complete."""
    counted_since = counted_since_day(db)
    for date, start, end, last_event in db.execute(INCOMPLETE_DAYS, {"today": today}).fetchall():
        kept = {
            (agent, type_): Figures(*figures)
            for agent, type_, *figures in db.execute(KEPT_ROWS, (date,))
        }
        changes = {key[1:]: change for key, change in read_changes(db, date, date).items()}
        nothing = no_changes(date, counted_since)
        figures = {}
        for key in sorted({*kept, *changes}):
            change = changes.get(key, nothing)
            figures[key] = kept.get(key, Figures())._replace(
                **{name: getattr(change, name) for name in CHANGES}
            )
        yield Day(date, start, end, last_event, figures)


def _replace_rows(db: Connection, days: list[Day]) -> None:
    for day in days:
        db.execute("DELETE FROM memory_analytics WHERE snapshot_date = ?", (day.date,))
        db.executemany(
            INSERT_ROW,
            (
                (
                    day.date,
                    to_bytes(agent),
                    to_bytes(type_),
                    day.period_start,
                    day.period_end,
                    day.last_event,
                    *figures[: len(KEPT_FIGURES)],
                )
                for (agent, type_), figures in day.figures.items()
            ),
        )
