"""The queries of cleanup: which memories have expired."""

from datetime import datetime

from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.sqlite.times import is_before
from memctl.storage.times import to_unix


def expired_memories(rows: Rows) -> str:
    """Return SQL for the memories that expired before `:now`, and when."""
    return f"""
        SELECT rowid, id, agent_id, type, key, expires_at, 'expired' AS archived_reason
        FROM agent_memory
        {rows.where(f"{is_before('expires_at', ':now')} AND {OF_AGENT}")}
    """


def select_expired(*, agent: str | None, now: datetime) -> Selection:
    """Select the memories, of one agent or of all, that expired before a moment."""
    return Selection(expired_memories, {"now": to_unix(now), **agent_parameter(agent)})
