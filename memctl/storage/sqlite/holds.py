"""Holds: what a hold covers, as SQL; a held memory is neither changed nor removed by memctl.

A hold covers one memory by its id, all versions of one memory by type and key, or all memories of
an agent. It covers active and archived memories, until it is released or its time has passed.
"""

from collections.abc import Mapping
from datetime import datetime

from memctl.storage.sqlite.database import MemoryTable
from memctl.storage.times import to_text


def is_held(table: MemoryTable, row: str | None = None, *, moment: str = ":held_at") -> str:
    """Return SQL that is true if a memory is held; `row` is its table or alias in the query.

    `moment` is SQL for the time as our text; by default, that of `held_parameter`.
    """
    row = row or table
    return f"""
        EXISTS (
            SELECT 1 FROM memory_holds AS hold
            WHERE hold.agent_id = {row}.agent_id
                AND (hold.until IS NULL OR hold.until > {moment})
                AND (hold.memory_id IS NULL OR {is_held_id(table, row)})
                AND (hold.type IS NULL OR hold.type = {row}.type AND hold.key = {row}.key)
        )
    """


def is_held_id(table: MemoryTable, row: str) -> str:
    """Return SQL that is true if a hold by id is on this id.

    The archive appends a suffix to an id that an active memory needs.
    """
    if table == "agent_memory":
        return f"hold.memory_id = {row}.id"
    with_tilde = "CAST(hold.memory_id || '~' AS BLOB)"
    return f"""(
        hold.memory_id = {row}.id
        OR substr(CAST({row}.id AS BLOB), 1, length({with_tilde})) = {with_tilde}
    )"""


def held_parameter(now: datetime) -> Mapping[str, str]:
    """Return the parameter of `is_held`."""
    return {"held_at": to_text(now)}
