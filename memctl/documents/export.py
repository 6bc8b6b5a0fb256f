"""Export: an agent's memories, or all, as a document from which they can be brought back exactly.

The rows of one moment are copied to temporary tables at once; whoever is slow to read the document
then holds up nobody, and it may be larger than memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from memctl.documents.document import SECTIONS, DocumentSection, Form, Header, write_document
from memctl.errors import RefusedError
from memctl.storage.sqlite.agents import agent_parameter, require_agent
from memctl.storage.sqlite.database import one_view, temporary_tables

# Equal agents stand in the index in the order of their rows.
COPY_ROWS = """
    CREATE TEMP TABLE exported_{name} AS
    SELECT {columns} FROM {table} WHERE {condition} ORDER BY {order}
"""

IN_BOTH = """
    SELECT agent_id, id, count(*) OVER ()
    FROM exported_active
    WHERE id IN (SELECT id FROM exported_archived)
    LIMIT 1
"""


def export(
    db: Connection,
    *,
    agent: str | None,
    sections: Sequence[DocumentSection],
    form: Form,
    now: datetime,
    progress: Callable[[int, int], object],
) -> Iterator[str]:
    """Return the document, some text at a time; the sections not named have no rows in it.

    `progress` is told how many rows of how many are written. Raises NotFoundError for an agent
    without any memory, and RefusedError when a memory is both active and archived.
    """
    require_agent(db, agent)
    with temporary_tables(db):
        _copy_rows(db, agent, sections)
    _refuse_in_both(db)
    counts = {
        section.name: int(db.execute(f"SELECT count(*) FROM exported_{section.name}").fetchone()[0])
        for section in SECTIONS.values()
    }
    whole = sum(counts.values())
    done = 0

    def rows(section: DocumentSection) -> Iterator[Sequence[Any]]:
        nonlocal done
        for row in db.execute(f"SELECT * FROM exported_{section.name} ORDER BY rowid"):
            yield row
            done += 1
            progress(done, whole)

    return write_document(Header(now, agent, counts), rows, form)


def _copy_rows(db: Connection, agent: str | None, sections: Iterable[DocumentSection]) -> None:
    of_agent = "TRUE" if agent is None else "agent_id = CAST(:agent AS TEXT)"
    with one_view(db):
        for section in SECTIONS.values():
            statement = COPY_ROWS.format(
                name=section.name,
                columns=", ".join(section.columns),
                table=section.table,
                condition=of_agent if section in sections else "FALSE",
                order=section.order,
            )
            db.execute(statement, agent_parameter(agent))


def _refuse_in_both(db: Connection) -> None:
    """A memory is active or archived: what is both could not be imported."""
    found = db.execute(IN_BOTH).fetchone()
    if found:
        agent_id, memory_id, count = found
        raise RefusedError(
            f"{count} memories are both active and archived, the first '{memory_id}' of "
            f"'{agent_id}', and could not be imported",
            "archive them by hand, or export with --active-only and --archived-only",
        )
