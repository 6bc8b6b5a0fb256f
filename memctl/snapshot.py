"""The figures of a day, kept: one row for each agent and type.

A day's period begins where that of the day before ended, however long ago; a later snapshot of the
same day takes the place of the earlier one. So each event is counted in exactly one period. Rows
of later days, which a clock that ran ahead has left, are replaced too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import NamedTuple

from memctl.database import one_view, to_bytes
from memctl.due import Tally
from memctl.figures import Figures, Key, Period, counting_since, first_moment, read_figures
from memctl.jobs import JobResult, Run
from memctl.timestamps import parse_moment, to_day, to_text

DAY_BEFORE = """
    SELECT snapshot_date, period_end, last_event_id
    FROM memory_analytics
    WHERE snapshot_date < :today
    ORDER BY snapshot_date DESC
    LIMIT 1
"""

ACCESSES_TOLD = """
    SELECT agent_id, type, accesses_that_day FROM memory_analytics WHERE snapshot_date = :day
"""

COLUMNS = (
    "snapshot_date",
    "agent_id",
    "type",
    "period_start",
    "period_end",
    "last_event_id",
    *Figures._fields,
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
    """What a snapshot is about to keep."""

    period: Period
    last_event: int
    figures: Mapping[Key, Figures]


def snapshot(run: Run) -> SnapshotResult:
    """Keep the figures of all agents, for the day of the cutoff.

    It reads without a lock, in one view of the database, and then writes all rows at once.
    """
    with one_view(run.db):
        day = _read_day(run.db, now=run.now)
    if run.batches is not None:
        run.batches.apply_at_once(lambda: _replace_rows(run.db, day))
    tally = Tally()
    for agent, _ in day.figures:
        tally.count += 1
        tally.agents[agent] += 1
    return SnapshotResult(rows=tally.count, tally=tally)


def _read_day(db: Connection, *, now: datetime) -> Day:
    before = db.execute(DAY_BEFORE, {"today": to_day(now)}).fetchone()
    if before:
        period = Period(parse_moment(before[1]), now, before[0], after_event=before[2])
    else:
        period = Period(first_moment(db), now, access_day="")
    (last_event,) = db.execute("SELECT ifnull(max(event_id), 0) FROM memory_events").fetchone()
    counted_since = counting_since(db)
    counted = counted_since is not None and counted_since <= period.start
    # The day in which the period begins has been told of in part.
    told = {
        (agent, type_): accesses
        for agent, type_, accesses in db.execute(ACCESSES_TOLD, {"day": period.access_day})
    }
    figures = {}
    for key, read in read_figures(db, period).items():
        accesses = (read.accesses or 0) - told.get(key, 0)
        if any(read._replace(accesses=accesses)):
            figures[key] = read._replace(accesses=accesses if counted else None)
    return Day(period, last_event, figures)


def _replace_rows(db: Connection, day: Day) -> None:
    today = to_day(day.period.end)
    start, end = to_text(day.period.start), to_text(day.period.end)
    db.execute("DELETE FROM memory_analytics WHERE snapshot_date >= ?", (today,))
    db.executemany(
        INSERT_ROW,
        (
            (today, to_bytes(agent), to_bytes(type_), start, end, day.last_event, *figures)
            for (agent, type_), figures in day.figures.items()
        ),
    )
