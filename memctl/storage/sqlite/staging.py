"""The temporary tables into which a document is read: `incoming`, and one for each other section.

Only their connection sees them, and they vanish with it. `incoming` holds active and archived
memories in the order of the document; active ones have no archived_reason. `number` counts the rows
of a section.
"""

from collections.abc import Sequence
from itertools import groupby
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.sqlite.agents import agent_parameter
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.sections import ARCHIVED, HOLDS, PROMOTIONS, DocumentSection
from memctl.storage.text import from_bytes, is_unicode, to_bytes

CREATE_TABLES = (
    f"""
    CREATE TEMP TABLE incoming AS
    SELECT {", ".join(ARCHIVED.columns)}, 0 AS number FROM archived_memories LIMIT 0
    """,
    f"""
    CREATE TEMP TABLE incoming_promotions AS
    SELECT {", ".join(PROMOTIONS.columns)}, 0 AS number FROM memory_promotions LIMIT 0
    """,
    f"""
    CREATE TEMP TABLE incoming_holds AS
    SELECT {", ".join(HOLDS.columns)}, 0 AS number FROM memory_holds LIMIT 0
    """,
)

# The tables of the sections that are not memories.
TABLES = {PROMOTIONS: "incoming_promotions", HOLDS: "incoming_holds"}

CREATE_INDEXES = (
    "CREATE INDEX temp.incoming_by_id ON incoming (id, archived_reason)",
    "CREATE INDEX temp.incoming_by_key ON incoming (agent_id, type, key, archived_reason)",
)

# The rows that contradict others, by what is wrong with them.
CONTRADICTIONS = {
    "the id of another active row": """
        SELECT 'active', number FROM incoming AS mine
        WHERE archived_reason IS NULL AND EXISTS (
            SELECT 1 FROM incoming AS earlier
            WHERE earlier.id = mine.id AND earlier.archived_reason IS NULL
                AND earlier.rowid < mine.rowid
                AND (NOT :ids_per_agent OR earlier.agent_id = mine.agent_id)
        )
    """,
    "agent, type and key of another active row": """
        SELECT 'active', number FROM incoming AS mine
        WHERE archived_reason IS NULL AND EXISTS (
            SELECT 1 FROM incoming AS earlier
            WHERE earlier.agent_id = mine.agent_id AND earlier.type = mine.type
                AND earlier.key = mine.key AND earlier.archived_reason IS NULL
                AND earlier.rowid < mine.rowid
        )
    """,
    "the id of an active row": """
        SELECT 'archived', number FROM incoming AS mine
        WHERE archived_reason IS NOT NULL AND EXISTS (
            SELECT 1 FROM incoming AS active
            WHERE active.id = mine.id AND active.archived_reason IS NULL
                AND (NOT :ids_per_agent OR active.agent_id = mine.agent_id)
        )
    """,
    "agent, type and key of another promotion": """
        SELECT 'promotions', max(number) FROM incoming_promotions
        GROUP BY agent_id, type, key HAVING count(*) > 1
    """,
    "another agent than the document": """
        SELECT iif(archived_reason IS NULL, 'active', 'archived'), number FROM incoming
        WHERE agent_id <> CAST(:agent AS TEXT)
        UNION ALL
        SELECT 'promotions', number FROM incoming_promotions
        WHERE agent_id <> CAST(:agent AS TEXT)
        UNION ALL
        SELECT 'holds', number FROM incoming_holds
        WHERE agent_id <> CAST(:agent AS TEXT)
    """,
}


class Contradiction(NamedTuple):
    """A row that contradicts the rest of the document: it has `subject`."""

    section: str
    row: int
    subject: str


def create_staging_tables(db: Connection) -> None:
    """Create the empty tables, with the columns of the memories and promotions."""
    for statement in CREATE_TABLES:
        db.execute(statement)


def create_staging_indexes(db: Connection) -> None:
    """Create the indexes; call it after all rows are written, which is faster."""
    for statement in CREATE_INDEXES:
        db.execute(statement)


def stage_rows(
    db: Connection, section: DocumentSection, rows: Sequence[tuple[Any, ...]], *, first: int
) -> None:
    """Write rows of a section, numbered from `first`; their texts may be invalid UTF-8."""
    table = TABLES.get(section, "incoming")
    numbered = [(*row, number) for number, row in enumerate(rows, first)]
    with transaction(db, "BEGIN"):  # it writes only temporary tables, and takes no lock
        for invalid, alike in groupby(numbered, _invalid_texts):
            db.executemany(
                _insert(table, section, invalid), (_bound(row, invalid) for row in alike)
            )


def _insert(table: str, section: DocumentSection, invalid: Sequence[int]) -> str:
    """Return SQL that inserts a row whose texts at these places are invalid UTF-8."""
    places = range(len(section.columns) + 1)
    marks = ["CAST(? AS TEXT)" if place in invalid else "?" for place in places]
    return f"INSERT INTO {table} ({', '.join(section.columns)}, number) VALUES ({', '.join(marks)})"


def _invalid_texts(row: Sequence[object]) -> tuple[int, ...]:
    """Return the places in a row of texts that are invalid UTF-8."""
    return tuple(
        [
            place
            for place, value in enumerate(row)
            if isinstance(value, str) and not is_unicode(value)
        ]
    )


def _bound(row: Sequence[Any], invalid: Sequence[int]) -> Sequence[Any]:
    """Return the parameters for a row whose texts at these places are invalid UTF-8."""
    if not invalid:
        return row
    return [to_bytes(value) if place in invalid else value for place, value in enumerate(row)]


def only_agent(db: Connection) -> str | None:
    """Return the agent of all staged memories; None if there are several or none."""
    agents = db.execute("SELECT DISTINCT CAST(agent_id AS BLOB) FROM incoming LIMIT 2")
    found = [from_bytes(agent) for (agent,) in agents]
    return found[0] if len(found) == 1 else None


def find_contradictions(
    db: Connection, agent: str | None, *, ids_per_agent: bool, limit: int
) -> list[Contradiction]:
    """Return the first rows of each kind that contradict others, or the agent of the document.

    If `ids_per_agent`, memories of two agents may have the same id.
    """
    parameters = {**agent_parameter(agent), "ids_per_agent": ids_per_agent}
    return [
        Contradiction(section, number, subject)
        for subject, query in CONTRADICTIONS.items()
        for section, number in db.execute(f"{query} LIMIT {limit}", parameters)
    ]


def keep_agent(db: Connection, agent: str) -> None:
    """Delete the rows of all other agents."""
    for table in ("incoming", *TABLES.values()):
        db.execute(
            f"DELETE FROM {table} WHERE agent_id <> CAST(:agent AS TEXT)", agent_parameter(agent)
        )


def reassign_agent(db: Connection, agent: str) -> None:
    """Change the agent of all rows."""
    for table in ("incoming", *TABLES.values()):
        db.execute(f"UPDATE {table} SET agent_id = CAST(:agent AS TEXT)", agent_parameter(agent))


def has_memories(db: Connection) -> bool:
    """Return whether any memory is staged."""
    return db.execute("SELECT 1 FROM incoming LIMIT 1").fetchone() is not None
