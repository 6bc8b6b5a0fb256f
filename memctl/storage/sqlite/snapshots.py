"""The daily snapshots in `memory_analytics`: one row for each day, agent and type."""

from collections.abc import Collection, Mapping
from sqlite3 import Connection
from typing import NamedTuple

from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.database import to_bytes
from memctl.storage.sqlite.figures import KEPT_FIGURES, DayKey, Figures, Key

# The days whose figures may have changed since their snapshot: the last one before today, and those
# to which events have been added since.
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

FIGURES_OF_DAY = f"""
    SELECT agent_id, type, {", ".join(KEPT_FIGURES)} FROM memory_analytics WHERE snapshot_date = ?
"""

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

SNAPSHOTS = f"""
    SELECT snapshot_date, agent_id, type, {", ".join(KEPT_FIGURES)}
    FROM memory_analytics
    WHERE snapshot_date BETWEEN :first_day AND :last_day AND {OF_AGENT}
    ORDER BY snapshot_date, agent_id, type
"""

SNAPSHOT_DAYS = """
    SELECT DISTINCT snapshot_date FROM memory_analytics
    WHERE snapshot_date BETWEEN :first_day AND :last_day
    ORDER BY snapshot_date
"""


class SnapshotPeriod(NamedTuple):
    """The day of a snapshot, the period that it covers, and the last event that it counts."""

    date: str
    start: str
    end: str  # the time of the snapshot
    last_event: int


class Snapshot(NamedTuple):
    """The snapshot of a day."""

    period: SnapshotPeriod
    figures: Mapping[Key, Figures]


def last_event_id(db: Connection) -> int:
    """Return the id of the newest event; 0 if there is none."""
    (event_id,) = db.execute("SELECT ifnull(max(event_id), 0) FROM memory_events").fetchone()
    return int(event_id)


def incomplete_days(db: Connection, *, today: str) -> list[SnapshotPeriod]:
    """Return the days other than today whose snapshots may have to be completed."""
    return [SnapshotPeriod(*row) for row in db.execute(INCOMPLETE_DAYS, {"today": today})]


def figures_of_day(db: Connection, day: str) -> dict[Key, Figures]:
    """Return the figures in the snapshot of a day."""
    return {
        (agent, type_): Figures(*figures)
        for agent, type_, *figures in db.execute(FIGURES_OF_DAY, (day,))
    }


def replace_snapshots(db: Connection, snapshots: Collection[Snapshot]) -> None:
    """Write snapshots in place of earlier ones of the same days. Call it in a transaction."""
    for (date, *period), figures in snapshots:
        db.execute("DELETE FROM memory_analytics WHERE snapshot_date = ?", (date,))
        db.executemany(
            INSERT_ROW,
            (
                (date, to_bytes(agent), to_bytes(type_), *period, *found[: len(KEPT_FIGURES)])
                for (agent, type_), found in figures.items()
            ),
        )


def snapshot_days(db: Connection, first_day: str, last_day: str) -> list[str]:
    """Return the days with a snapshot of any agent, in their order."""
    days = {"first_day": first_day, "last_day": last_day}
    return [day for (day,) in db.execute(SNAPSHOT_DAYS, days)]


def read_snapshots(
    db: Connection, first_day: str, last_day: str, *, agent: str | None = None
) -> dict[DayKey, Figures]:
    """Return the snapshots of an agent, or of all agents, by day, agent and type."""
    days = {"first_day": first_day, "last_day": last_day}
    rows = db.execute(SNAPSHOTS, {**days, **agent_parameter(agent)})
    return {(day, name, kind): Figures(*figures) for day, name, kind, *figures in rows}
