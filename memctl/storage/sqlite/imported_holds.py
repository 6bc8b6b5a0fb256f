"""The holds in a document to import: one is added unless there is one on the same memories."""

from collections import Counter
from datetime import datetime
from sqlite3 import Connection

from memctl.storage.sqlite.features import renew_triggers
from memctl.storage.sqlite.holding import record_hold_event
from memctl.storage.sqlite.holds import held_parameter, in_force
from memctl.storage.sqlite.sections import HOLDS

TARGET = ("agent_id", "memory_id", "type", "key")
TERMS = ("reason", "until")


def _same(columns: tuple[str, ...], other: str) -> str:
    return " AND ".join(f"{other}.{column} IS incoming.{column}" for column in columns)


# A row of the document, or an earlier one of it, has the same target.
DECIDED = f"""
    SELECT incoming.rowid AS row, incoming.*, CASE
        WHEN other.terms_are_same IS NULL THEN 'inserted'
        WHEN other.terms_are_same THEN 'unchanged'
        ELSE 'skipped'
    END AS decision
    FROM (
        SELECT incoming.rowid AS incoming_row, (
            SELECT {_same(TERMS, "stored")} FROM (
                SELECT 0 AS place, hold_id AS number, {", ".join((*TARGET, *TERMS))}
                FROM memory_holds AS hold WHERE {in_force()}
                UNION ALL
                SELECT 1, rowid, {", ".join((*TARGET, *TERMS))} FROM incoming_holds
            ) AS stored
            WHERE {_same(TARGET, "stored")} AND (place = 0 OR number < incoming.rowid)
            ORDER BY place, number LIMIT 1
        ) AS terms_are_same
        FROM incoming_holds AS incoming
    ) AS other
    JOIN incoming_holds AS incoming ON incoming.rowid = other.incoming_row
"""

# Ended ones on the same memories; cleanup has not deleted them yet.
DELETE_ENDED = f"""
    DELETE FROM memory_holds
    WHERE NOT {in_force(row="memory_holds")} AND EXISTS (
        SELECT 1 FROM ({DECIDED}) AS incoming
        WHERE decision = 'inserted' AND {_same(TARGET, "memory_holds")}
    )
"""

ADD_HOLDS = f"""
    INSERT INTO memory_holds ({", ".join(HOLDS.columns)})
    SELECT {", ".join(HOLDS.columns)} FROM ({DECIDED})
    WHERE decision = 'inserted' ORDER BY row
    RETURNING hold_id, reason, until
"""


def count_hold_decisions(db: Connection, *, now: datetime) -> Counter[str | None]:
    """Return how many holds of the document are to be inserted, unchanged and skipped."""
    query = f"SELECT decision, count(*) FROM ({DECIDED}) GROUP BY decision"
    return Counter(dict(db.execute(query, held_parameter(now))))


def write_holds(db: Connection, *, now: datetime, run_id: int | None) -> None:
    """Add the holds, each with its event. Must be called in a transaction."""
    db.execute(DELETE_ENDED, held_parameter(now))
    for hold, reason, until in db.execute(ADD_HOLDS, held_parameter(now)).fetchall():
        detail = {"reason": reason, "until": until}
        record_hold_event(db, "memory:held", hold, detail, now=now, run_id=run_id)
    renew_triggers(db)
