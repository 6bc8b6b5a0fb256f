"""Put memories into the archive: each is copied with every field as it is, told of, and removed.

The three happen in one transaction, so that a memory is active or archived at every instant.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import Literal

from memctl.agents import OF_AGENT, agent_parameter, require_agent, require_ids
from memctl.database import bind_texts
from memctl.due import Due
from memctl.events import Event, record_events
from memctl.jobs import Batch, JobResult, Run
from memctl.migrations import MEMORY_COLUMNS, require_equal_counts
from memctl.timestamps import to_text

Reason = Literal["expired", "forgotten", "deleted", "replaced", "imported", "manual"]

# The archive has its own archived_at: the time of this archiving, not of an earlier one.
KEPT_COLUMNS = ", ".join(column for column in MEMORY_COLUMNS if column != "archived_at")

COPY_TO_ARCHIVE = f"""
    INSERT INTO archived_memories ({KEPT_COLUMNS}, archived_at, archived_reason, run_id)
    SELECT {KEPT_COLUMNS}, :now, :reason, :run_id
    FROM agent_memory
    WHERE rowid IN (SELECT value FROM json_each(:rowids))
    ORDER BY rowid
"""

REMOVE_ACTIVE = """
    DELETE FROM agent_memory
    WHERE rowid IN (SELECT value FROM json_each(:rowids))
"""

# Seen by nobody else: it is gone again before the transaction ends.
BEGIN_OWN_DELETE = "INSERT INTO memory_state (key, value) VALUES ('own_delete', '')"
END_OWN_DELETE = "DELETE FROM memory_state WHERE key = 'own_delete'"

REMOVE_ARCHIVED = """
    DELETE FROM archived_memories
    WHERE archive_id IN (SELECT value FROM json_each(:rowids))
"""

NAMED_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key
    FROM agent_memory
    {{where}} id IN (IDS) AND {OF_AGENT}
"""


@dataclass(frozen=True, kw_only=True)
class ArchiveResult(JobResult):
    """How many memories were archived."""

    archived: int


def archive_rows(
    db: Connection, rowids: str, *, event: Event, reason: Reason, now: datetime, run_id: int | None
) -> int:
    """Archive the memories in these rows (a JSON array) and return how many.

    Call it in a transaction: what it cannot do for all of them must be rolled back. What a client
    archives belongs to no run.
    """
    parameters = {"now": to_text(now), "reason": reason, "run_id": run_id, "rowids": rowids}
    copied = db.execute(COPY_TO_ARCHIVE, parameters).rowcount
    told = record_events(db, event, "agent_memory", rowids, now=now, run_id=run_id)
    with own_deletes(db):
        removed = db.execute(REMOVE_ACTIVE, parameters).rowcount
    require_equal_counts(db, archived=copied, recorded=told, removed=removed)
    return removed


@contextmanager
def own_deletes(db: Connection) -> Iterator[None]:
    """Keep the feature archive-on-delete out of what the block deletes, in its transaction."""
    db.execute(BEGIN_OWN_DELETE)
    yield
    db.execute(END_OWN_DELETE)


def archiving(run: Run, *, event: Event, reason: Reason) -> Callable[[Batch], int]:
    """Return the change that archives a batch of due memories."""
    return lambda batch: archive_rows(
        run.db, batch.rowids, event=event, reason=reason, now=run.now, run_id=run.number
    )


def remove_archived(run: Run, rowids: str, event: Event) -> int:
    """Tell of the memories in these rows of the archive (a JSON array), and remove them there.

    Returns how many there were. Call it in a transaction, as `archive_rows`.
    """
    told = record_events(run.db, event, "archived_memories", rowids, now=run.now, run_id=run.number)
    removed = run.db.execute(REMOVE_ARCHIVED, {"rowids": rowids}).rowcount
    require_equal_counts(run.db, recorded=told, removed=removed)
    return removed


def archive(run: Run, *, agent: str, ids: Sequence[str]) -> ArchiveResult:
    """Archive an agent's memories by their ids, for the reason `manual`.

    Those that are archived already are left alone, so that it can be repeated. Raises
    NotFoundError, before anything is changed, for an id that is no memory of the agent.
    """
    require_agent(run.db, agent)
    require_ids(run.db, agent, ids)
    listed, parameters = bind_texts("id", ids)
    due = Due(NAMED_MEMORIES.replace("IDS", listed), {**parameters, **agent_parameter(agent)})
    tally = run.settle(due, archiving(run, event="memory:archived", reason="manual"))
    return ArchiveResult(archived=tally.count, tally=tally)
