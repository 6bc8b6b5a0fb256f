"""Expiry: a memory whose time is over goes to the archive.

A memory has expired when its `expires_at`, in whatever format, means an instant before the cutoff.
What cannot be read as a time never expires.
"""

from dataclasses import dataclass

from memctl.jobs.archive import archiving
from memctl.jobs.engine import JobResult, Run
from memctl.jobs.selection import Due
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter, require_agent
from memctl.storage.times import is_before, to_unix

EXPIRED_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key, expires_at
    FROM agent_memory
    {{where}} {is_before("expires_at", ":now")} AND {OF_AGENT}
"""


@dataclass(frozen=True, kw_only=True)
class CleanupResult(JobResult):
    """How many memories had expired and were archived."""

    archived: int


def cleanup(run: Run, *, agent: str | None = None) -> CleanupResult:
    """Archive every memory that expired before the cutoff, of one agent or of all.

    Raises NotFoundError for an agent without any memory.
    """
    require_agent(run.db, agent)
    due = Due(EXPIRED_MEMORIES, {"now": to_unix(run.now), **agent_parameter(agent)})
    tally = run.settle(due, archiving(run, reason="expired"))
    return CleanupResult(archived=tally.count, tally=tally)
