"""The rows of an import after the decisions of `conflicts`: counted, listed, and written."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from sqlite3 import Connection
from typing import Literal, NamedTuple

from memctl.storage.sqlite.archiving import give_up_ids
from memctl.storage.sqlite.conflicts import AMONG, IS_WRITTEN, in_document
from memctl.storage.sqlite.database import MemoryTable
from memctl.storage.sqlite.events import record_events
from memctl.storage.sqlite.row_rules import (
    SECTION_OF_ROW,
    UNKNOWN_TYPE,
    InvalidValue,
    StagedTable,
    find_invalid_values,
)
from memctl.storage.sqlite.sections import ACTIVE, ARCHIVED, PROMOTIONS, DocumentSection
from memctl.storage.sqlite.times import is_before
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.times import to_unix

# The condition on the rows of each staged table that they are to be written.
WRITTEN_ROWS: Mapping[StagedTable, str] = {
    "incoming": f"rowid IN (SELECT row FROM decisions WHERE {IS_WRITTEN})",
    "incoming_promotions": (
        f"rowid IN (SELECT promotion FROM promotion_decisions WHERE {IS_WRITTEN})"
    ),
}

# The staged rows of each section, with their decisions.
DECIDED_ROWS = {
    ACTIVE: "decided_incoming WHERE archived_reason IS NULL",
    ARCHIVED: "decided_incoming WHERE archived_reason IS NOT NULL",
    PROMOTIONS: "decided_incoming_promotions WHERE TRUE",
}

EXPIRED = f"archived_reason IS NULL AND {is_before('expires_at', ':now')}"

COUNT_BY_AGENT = f"""
    SELECT agent_id, count(*) FROM decided_incoming WHERE {IS_WRITTEN} GROUP BY 1
"""

REPLACED_ROWS = """
    SELECT DISTINCT stored_row FROM rivals JOIN decisions ON decisions.row = incoming_row
    WHERE place = 'active' AND decision = 'replaced'
    ORDER BY stored_row
"""

# A replaced memory keeps everything except its id, which its successor now has.
REPLACED_IN_ARCHIVE = f"""
    id IN (SELECT id FROM decided_incoming WHERE row {AMONG} AND decision = 'replaced')
    AND agent_id IN (SELECT agent_id FROM decided_incoming WHERE row {AMONG})
    AND NOT {in_document("archived_memories")}
"""

WRITE_PROMOTIONS = f"""
    INSERT OR REPLACE INTO memory_promotions ({", ".join(PROMOTIONS.columns)})
    SELECT {", ".join(PROMOTIONS.columns)} FROM decided_incoming_promotions
    WHERE row {AMONG} AND {IS_WRITTEN}
"""


class DocumentRow(NamedTuple):
    """A row of the document, by its section and its number there."""

    section: str
    number: int


def invalid_values(db: Connection, *, limit: int) -> list[InvalidValue]:
    """Return the first values that break a rule, in the rows to be written."""
    return find_invalid_values(db, WRITTEN_ROWS, limit=limit)


def rows_decided(
    db: Connection,
    table: StagedTable,
    decision: Literal["foreign", "skipped"],
    *,
    among: str | None,
    limit: int,
) -> list[DocumentRow]:
    """Return the first rows with this decision, of all or of those in `among` (a JSON array)."""
    condition = "TRUE" if among is None else f"row {AMONG}"
    found = db.execute(
        f"SELECT {SECTION_OF_ROW[table]}, number FROM decided_{table}"
        f" WHERE {condition} AND decision = '{decision}' LIMIT {limit}",
        {"rows": among},
    )
    return [DocumentRow(*row) for row in found]


def count_decisions(db: Connection, section: DocumentSection) -> Counter[str | None]:
    """Return how many rows of a section have each decision; None if it was withdrawn."""
    query = f"SELECT decision, count(*) FROM {DECIDED_ROWS[section]} GROUP BY decision"
    return Counter(dict(db.execute(query)))


def count_by_agent(db: Connection) -> dict[str, int]:
    """Return how many memories are written for each agent."""
    return dict(db.execute(COUNT_BY_AGENT))


def count_expired(db: Connection, *, now: datetime) -> int:
    """Return how many active memories are written that have expired."""
    return _count_written(db, EXPIRED, {"now": to_unix(now)})


def count_unknown_types(db: Connection) -> int:
    """Return how many memories are written whose type is not one of the known types."""
    return _count_written(db, UNKNOWN_TYPE, {})


def _count_written(db: Connection, condition: str, parameters: Mapping[str, object]) -> int:
    query = f"SELECT count(*) FROM decided_incoming WHERE {IS_WRITTEN} AND {condition}"
    return int(db.execute(query, parameters).fetchone()[0])


def replaced_rows(db: Connection) -> list[int]:
    """Return the rowids of the active memories that the rows decided last replace."""
    return [row for (row,) in db.execute(REPLACED_ROWS)]


def write_memories(
    db: Connection, section: DocumentSection, rows: str, *, now: datetime, run_id: int | None
) -> None:
    """Write those of the rows (a JSON array) that belong to a section, each with its event.

    Must be called in a transaction. Raises SchemaError if a foreign trigger interferes.
    """
    table: MemoryTable = "archived_memories" if section is ARCHIVED else "agent_memory"
    columns = ", ".join(section.columns)
    source = f"{DECIDED_ROWS[section]} AND row {AMONG} AND {IS_WRITTEN}"
    (due,) = db.execute(f"SELECT count(*) FROM {source}", {"rows": rows}).fetchone()
    statement = f"""
        INSERT INTO {table} ({columns})
        SELECT {columns} FROM {source}
        ORDER BY row
        RETURNING rowid
    """
    rowids = [row for (row,) in db.execute(statement, {"rows": rows})]
    recorded = record_events(
        db,
        "memory:imported",
        table,
        json.dumps(rowids),
        now=now,
        run_id=run_id,
        detail={"archived": True} if section is ARCHIVED else None,
    )
    require_equal_counts(db, due=due, imported=len(rowids), recorded=recorded)


def write_promotions(db: Connection, rows: str) -> None:
    """Write the promotions of these rows (a JSON array). Must be called in a transaction."""
    db.execute(WRITE_PROMOTIONS, {"rows": rows})


def give_up_replaced_ids(db: Connection, rows: str, *, run_id: int | None) -> None:
    """Rename the archived memories whose ids these rows (a JSON array) have taken over.

    Must be called in a transaction. Raises RefusedError as `give_up_ids` does.
    """
    give_up_ids(db, REPLACED_IN_ARCHIVE, {"rows": rows}, run_id=run_id)
