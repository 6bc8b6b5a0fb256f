"""Holds: what a hold covers, as SQL; a held memory is neither changed nor removed by memctl.

A hold covers one memory by its id, all versions of one memory by type and key, or all memories of
an agent. It covers active and archived memories, until it is released or its time has passed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection

from memctl.errors import RefusedError, counted
from memctl.storage.holds import held_error
from memctl.storage.sqlite.database import MemoryTable, table_exists
from memctl.storage.times import to_text

# Evaluated once in a query, so that no memory is looked up while there are no holds.
HAS_HOLDS = "EXISTS (SELECT 1 FROM memory_holds)"


def is_held(table: MemoryTable, row: str | None = None, *, moment: str = ":held_at") -> str:
    """Return SQL that is true if a memory is held, else false; `row` is its table or alias.

    `moment` is SQL for the time as our text; by default, that of `held_parameter`. Each way to hold
    a memory is one search in the index of the holds.
    """
    row = row or table
    ways = (
        "hold.memory_id IS NULL AND hold.type IS NULL",
        f"hold.memory_id IS NULL AND hold.type = {row}.type AND hold.key = {row}.key",
        *(f"hold.memory_id = {memory_id}" for memory_id in held_ids(table, row)),
    )
    found = (
        f"""
        EXISTS (
            SELECT 1 FROM memory_holds AS hold
            WHERE hold.agent_id = {row}.agent_id AND {way} AND {in_force(moment)}
        )
        """
        for way in ways
    )
    return f"({HAS_HOLDS} AND ({' OR '.join(found)}))"


def held_ids(table: MemoryTable, row: str) -> tuple[str, ...]:
    """Return SQL for the ids by which a memory may be held.

    An archived memory whose id an active one has taken over has a suffix: a tilde, and the number
    of a run or a time.
    """
    if table == "agent_memory":
        return (f"{row}.id",)
    with_tilde = f"rtrim({row}.id, '0123456789-:TZ')"
    return f"{row}.id", f"nullif(rtrim({with_tilde}, '~'), {with_tilde})"


def in_force(moment: str = ":held_at", row: str = "hold") -> str:
    """Return SQL that is true if a hold has not ended at a moment."""
    return f"({row}.until IS NULL OR {row}.until > {moment})"


def held_parameter(now: datetime) -> Mapping[str, str]:
    """Return the parameter of `is_held`."""
    return {"held_at": to_text(now)}


def has_holds(db: Connection) -> bool:
    """Return whether there are holds, in force or not; reads only."""
    return table_exists(db, "memory_holds") and bool(
        db.execute("SELECT 1 FROM memory_holds LIMIT 1").fetchone()
    )


def require_not_held(db: Connection, table: MemoryTable, rowids: str, *, now: datetime) -> None:
    """Raise RefusedError if any of the memories in these rows (a JSON array) is held."""
    found = db.execute(
        f"""
        SELECT count(*) OVER (), agent_id, type, key FROM {table}
        WHERE rowid IN (SELECT value FROM json_each(:rowids)) AND {is_held(table)}
        LIMIT 1
        """,
        {"rowids": rowids, **held_parameter(now)},
    ).fetchone()
    if found:
        raise held_error(*found)


def require_no_holds(db: Connection, steps: Sequence[int], *, now: datetime) -> None:
    """Raise RefusedError if there are holds, and these steps of the schema are to be rolled back.

    Holds need the archive, of the second step, and their table, of the third.
    """
    if not {2, 3} & set(steps) or not has_holds(db):
        return
    query = f"SELECT count(*) FROM memory_holds AS hold WHERE {in_force()}"
    (count,) = db.execute(query, held_parameter(now)).fetchone()
    if count:
        raise RefusedError(
            f"{counted(count, 'hold')} would be lost",
            "see `memctl holds`, and end the holds with `memctl release`; nothing was changed",
        )
