"""The daily snapshots in `memory_analytics`: one row for each day, agent and type."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from memctl.storage.figures import (
    KEPT_FIGURES,
    DayKey,
    Figures,
    Key,
    Period,
    Snapshot,
    SnapshotPeriod,
)
from memctl.storage.postgresql import figures
from memctl.storage.postgresql.archiving import of_agent
from memctl.storage.postgresql.arrays import insert_rows
from memctl.storage.postgresql.copied_tables import CopiedTable
from memctl.storage.postgresql.database import Database, text
from memctl.storage.postgresql.times import our_text

DAY = "to_char(snapshot_date, 'YYYY-MM-DD')"
FIGURES = ", ".join(KEPT_FIGURES)

# The days whose figures may have changed since their snapshot: the last one before today, and those
# to which events have been added since.
INCOMPLETE_DAYS = f"""
    SELECT DISTINCT {DAY}, {our_text("period_start")}, {our_text("period_end")}, last_event_id
    FROM memory_analytics
    WHERE snapshot_date <> %(today)s::date AND (
        snapshot_date = (
            SELECT max(snapshot_date) FROM memory_analytics WHERE snapshot_date < %(today)s::date
        )
        OR snapshot_date IN (
            SELECT (at AT TIME ZONE 'UTC')::date FROM memory_events
            WHERE event_id > (SELECT max(last_event_id) FROM memory_analytics)
        )
    )
"""

FIGURES_OF_DAY = f"""
    SELECT agent_id, type, {FIGURES} FROM memory_analytics WHERE snapshot_date = %(day)s::date
"""

IN_PERIOD = "snapshot_date BETWEEN %(first_day)s::date AND %(last_day)s::date"

TABLE = CopiedTable(
    "memory_analytics",
    ("agent_id", "snapshot_date", "type"),
    (
        *("snapshot_date", "agent_id", "type", "period_start", "period_end", "last_event_id"),
        *KEPT_FIGURES,
    ),
    {},
    {
        "snapshot_date": "date",
        "period_start": "timestamptz",
        "period_end": "timestamptz",
        **dict.fromkeys(("last_event_id", *KEPT_FIGURES), "bigint"),
        "importance_sum": "double precision",
    },
)


class PostgresSnapshots:
    """The figures and their daily snapshots; see `storage.store.Snapshots`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def one_view(self) -> AbstractContextManager[None]:
        return self._db.one_view()

    def first_moment(self) -> datetime:
        return figures.first_moment(self._db)

    def counted_since_day(self) -> None:
        """Return None: without triggers, accesses are not counted."""

    def last_event_id(self) -> int:
        return int(self._db.value("SELECT coalesce(max(event_id), 0) FROM memory_events"))

    def read_figures(
        self, period: Period, *, agent: str | None = None, numbered: bool = False
    ) -> dict[Key, Figures]:
        return figures.read_figures(self._db, period, agent=agent, numbered=numbered)

    def read_changes(
        self, first_day: str, last_day: str, *, agent: str | None = None, numbered: bool = False
    ) -> dict[DayKey, Figures]:
        return figures.read_changes(self._db, first_day, last_day, agent=agent, numbered=numbered)

    def incomplete_days(self, *, today: str) -> list[SnapshotPeriod]:
        return [SnapshotPeriod(*row) for row in self._db.rows(INCOMPLETE_DAYS, {"today": today})]

    def figures_of_day(self, day: str) -> dict[Key, Figures]:
        return {
            (agent, type_): Figures(*kept)
            for agent, type_, *kept in self._db.rows(FIGURES_OF_DAY, {"day": day})
        }

    def replace(self, snapshots: Collection[Snapshot]) -> None:
        days = [snapshot.period.date for snapshot in snapshots]
        self._db.execute(
            "DELETE FROM memory_analytics WHERE snapshot_date = ANY(%(days)s::date[])",
            {"days": days},
        )
        rows: list[tuple[Any, ...]] = [
            (date, agent, type_, *period, *found[: len(KEPT_FIGURES)])
            for (date, *period), of_day in snapshots
            for (agent, type_), found in of_day.items()
        ]
        insert_rows(self._db, TABLE, TABLE.columns, rows, replacing=False)

    def days(self, first_day: str, last_day: str) -> list[str]:
        rows = self._db.rows(
            f"SELECT DISTINCT {DAY} FROM memory_analytics WHERE {IN_PERIOD} ORDER BY 1",
            {"first_day": first_day, "last_day": last_day},
        )
        return [day for (day,) in rows]

    def read(
        self, first_day: str, last_day: str, *, agent: str | None = None
    ) -> dict[DayKey, Figures]:
        rows = self._db.rows(
            f"SELECT {DAY}, agent_id, type, {FIGURES} FROM memory_analytics"
            f" WHERE {IN_PERIOD} {of_agent(agent)} ORDER BY 1, 2, 3",
            {"first_day": first_day, "last_day": last_day, "of_agent": agent and text(agent)},
        )
        return {(day, name, type_): Figures(*kept) for day, name, type_, *kept in rows}
