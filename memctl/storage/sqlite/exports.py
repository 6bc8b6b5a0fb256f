"""Copies of memories for an export: temporary tables with the rows as of one moment."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.sqlite.agents import agent_parameter
from memctl.storage.sqlite.database import one_view, temporary_tables
from memctl.storage.sqlite.holds import held_parameter, in_force
from memctl.storage.sqlite.sections import HOLDS, SECTIONS, DocumentSection

MEMORIES_IN_BOTH = """
    SELECT agent_id, id, count(*) OVER ()
    FROM exported_active
    WHERE (iif(:ids_per_agent, agent_id, ''), id) IN (
        SELECT iif(:ids_per_agent, agent_id, ''), id FROM exported_archived
    )
    LIMIT 1
"""


class MemoriesInBoth(NamedTuple):
    """Memories that are both active and archived: the first one, and how many there are."""

    agent_id: str
    memory_id: str
    total: int


def copy_rows(
    db: Connection, agent: str | None, sections: Collection[DocumentSection], *, now: datetime
) -> None:
    """Copy the rows of an agent, or of all agents, to temporary tables in one read transaction.

    The tables of sections that are not given stay empty. Of the holds, those in force are copied.
    """
    of_agent = "TRUE" if agent is None else "agent_id = CAST(:agent AS TEXT)"
    parameters = {**agent_parameter(agent), **held_parameter(now)}
    with temporary_tables(db), one_view(db):
        for section in SECTIONS.values():
            condition = of_agent if section in sections else "FALSE"
            if section is HOLDS:
                condition += f" AND {in_force(row=HOLDS.table)}"
            db.execute(_copy_of(section, condition), parameters)


def _copy_of(section: DocumentSection, condition: str) -> str:
    """Return SQL that copies the rows of a section; an index on the agent keeps their order."""
    return f"""
        CREATE TEMP TABLE exported_{section.name} AS
        SELECT {", ".join(section.columns)} FROM {section.table}
        WHERE {condition} ORDER BY {section.order}
    """


def count_copied(db: Connection, section: DocumentSection) -> int:
    """Return how many rows of a section were copied."""
    return int(db.execute(f"SELECT count(*) FROM exported_{section.name}").fetchone()[0])


def copied_rows(db: Connection, section: DocumentSection) -> Iterator[Sequence[Any]]:
    """Return the copied rows of a section in their order."""
    return db.execute(f"SELECT * FROM exported_{section.name} ORDER BY rowid")


def copied_to_both(db: Connection, *, ids_per_agent: bool) -> MemoriesInBoth | None:
    """Return the copied memories that are both active and archived, or None."""
    found = db.execute(MEMORIES_IN_BOTH, {"ids_per_agent": ids_per_agent}).fetchone()
    return None if found is None else MemoriesInBoth(*found)
