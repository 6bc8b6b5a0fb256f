"""Trying a change of the schema on a copy of it in memory, without the rows."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from sqlite3 import Connection

SCHEMA = """
    SELECT name, sql FROM sqlite_schema
    WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    ORDER BY type <> 'table', rowid
"""
OBJECTS = """
    SELECT type || ' ' || name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    UNION
    SELECT 'column agent_memory.' || name FROM pragma_table_info('agent_memory')
"""


@dataclass(frozen=True)
class SchemaChange:
    """What a change would add to the schema, and remove from it, such as `index NAME`."""

    added: list[str]
    removed: list[str]


def rehearse(db: Connection, statements: Iterable[str]) -> SchemaChange | None:
    """Execute statements on a copy of the schema, and return the difference.

    Raises sqlite3.OperationalError as the statements do. Returns None if they fail and the copy is
    not complete, because this SQLite lacks something that the schema uses.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        complete = _copy_schema(db, copy)
        before = _objects(copy)
        try:
            for statement in statements:
                copy.execute(statement)
        except sqlite3.OperationalError:
            if complete:
                raise
            return None
        after = _objects(copy)
    # The columns of a new table are not listed.
    old, new = (
        {name for name in names if _is_listed(name, before & after)}
        for names in (before - after, after - before)
    )
    return SchemaChange(added=sorted(new), removed=sorted(old))


def _is_listed(name: str, lasting: set[str]) -> bool:
    return not name.startswith("column ") or "table agent_memory" in lasting


def _copy_schema(db: Connection, copy: Connection) -> bool:
    """Create every object in an empty database; return whether all could be created.

    The tables of a virtual table are created with it.
    """
    complete = True
    for name, statement in db.execute(SCHEMA).fetchall():
        try:
            copy.execute(statement)
        except (sqlite3.Error, UnicodeEncodeError):
            exists = copy.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,))
            complete = complete and exists.fetchone() is not None
    return complete


def _objects(db: Connection) -> set[str]:
    return {name for (name,) in db.execute(OBJECTS)}
