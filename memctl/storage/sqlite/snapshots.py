"""The daily snapshots in `memory_analytics`: one row for each day, agent and type."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from datetime import datetime
from sqlite3 import Connection

from memctl.storage.figures import (
    KEPT_FIGURES,
    DayKey,
    Figures,
    Key,
    Period,
    Snapshot,
    SnapshotPeriod,
)
from memctl.storage.sqlite import figures
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.database import one_view
from memctl.storage.text import to_bytes

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


class SqliteSnapshots:
    """The figures and their daily snapshots; see `storage.store.Snapshots`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def one_view(self) -> AbstractContextManager[None]:
        return one_view(self._db)

    def first_moment(self) -> datetime:
        return figures.first_moment(self._db)

    def counted_since_day(self) -> str | None:
        return figures.counted_since_day(self._db)

    def read_figures(
        self, period: Period, *, agent: str | None = None, numbered: bool = False
    ) -> dict[Key, Figures]:
        return figures.read_figures(self._db, period, agent=agent)

    def read_changes(
        self, first_day: str, last_day: str, *, agent: str | None = None, numbered: bool = False
    ) -> dict[DayKey, Figures]:
        return figures.read_changes(self._db, first_day, last_day, agent=agent)

    def last_event_id(self) -> int:
        query = "SELECT ifnull(max(event_id), 0) FROM memory_events"
        return int(self._db.execute(query).fetchone()[0])

    def incomplete_days(self, *, today: str) -> list[SnapshotPeriod]:
        return [SnapshotPeriod(*row) for row in self._db.execute(INCOMPLETE_DAYS, {"today": today})]

    def figures_of_day(self, day: str) -> dict[Key, Figures]:
        return {
            (agent, type_): Figures(*kept)
            for agent, type_, *kept in self._db.execute(FIGURES_OF_DAY, (day,))
        }

    def replace(self, snapshots: Collection[Snapshot]) -> None:
        for (date, *period), of_day in snapshots:
            self._db.execute("DELETE FROM memory_analytics WHERE snapshot_date = ?", (date,))
            self._db.executemany(
                INSERT_ROW,
                (
                    (date, to_bytes(agent), to_bytes(type_), *period, *found[: len(KEPT_FIGURES)])
                    for (agent, type_), found in of_day.items()
                ),
            )

    def days(self, first_day: str, last_day: str) -> list[str]:
        days = {"first_day": first_day, "last_day": last_day}
        return [day for (day,) in self._db.execute(SNAPSHOT_DAYS, days)]

    def read(
        self, first_day: str, last_day: str, *, agent: str | None = None
    ) -> dict[DayKey, Figures]:
        days = {"first_day": first_day, "last_day": last_day}
        rows = self._db.execute(SNAPSHOTS, {**days, **agent_parameter(agent)})
        return {(day, name, kind): Figures(*figures) for day, name, kind, *figures in rows}
