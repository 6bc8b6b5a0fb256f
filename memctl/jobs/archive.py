"""Put memories into the archive: each is copied with every field as it is, told of, and removed.

The three happen in one transaction, so that a memory is active or archived at every instant.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection

from memctl.errors import RefusedError, UsageError
from memctl.jobs.engine import Batch, JobResult, Run
from memctl.jobs.selection import Due
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter, require_agent, require_ids
from memctl.storage.sqlite.archive import KEPT_COLUMNS
from memctl.storage.sqlite.database import bind_texts
from memctl.storage.sqlite.events import Event, Reason, record_archiving, record_events
from memctl.storage.sqlite.ledger import require_run
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.times import to_text, to_unix, unix_seconds

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

SUFFIX = "CAST('~' || {run_id} AS BLOB)"


def _ends_in(column: str, suffix: str) -> str:
    """Return SQL that is true when the bytes of a column end in these."""
    return f"substr(CAST({column} AS BLOB), -length({suffix})) = {suffix}"


def renamed(column: str) -> str:
    """Return SQL for an id with `:suffix` appended; a BLOB stays one."""
    return f"iif(typeof({column}) = 'blob', CAST({column} || :suffix AS BLOB), {column} || :suffix)"


def original_id(row: str) -> str:
    """Return SQL for the id that an archived memory had before another one took it over."""
    suffix = SUFFIX.format(run_id=f"{row}.run_id")
    content = f"CAST({row}.id AS BLOB)"
    original = f"substr({content}, 1, length({content}) - length({suffix}))"
    return f"""
        CASE
            WHEN {row}.archived_reason <> 'replaced' OR NOT {_ends_in(f"{row}.id", suffix)}
                OR {row}.run_id IS NULL OR {row}.id IS NULL
                THEN {row}.id
            WHEN typeof({row}.id) = 'blob' THEN {original}
            ELSE CAST({original} AS TEXT)
        END
    """


ENDS_IN_SUFFIX = f"""
    SELECT 1 FROM agent_memory
    WHERE rowid IN (SELECT value FROM json_each(:rowids))
        AND {_ends_in("id", SUFFIX.format(run_id=":run_id"))}
"""

IN_BOTH = """
    SELECT 1 FROM agent_memory
    WHERE id IN (
        SELECT id FROM archived_memories
        WHERE archive_id IN (SELECT value FROM json_each(:rowids))
    )
"""

NAMED_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key
    FROM agent_memory
    {{where}} id IN (IDS) AND {OF_AGENT}
"""

# Active memories alone: an event of what was imported into the archive says so.
IMPORTED_BY_RUN = """
    told.run_id = :import AND told.event = 'memory:imported' AND told.detail IS NULL
    AND (:agent IS NULL OR told.agent_id = CAST(:agent AS TEXT))
"""

IS_TOLD_OF = """
    memory.agent_id = told.agent_id AND memory.type = told.type AND memory.key = told.key
    AND memory.id IS told.memory_id
"""

# What is written anew gets another id, and by that another event.
STILL_THERE = f"""
    rowid IN (
        SELECT memory.rowid
        FROM memory_events AS told CROSS JOIN agent_memory AS memory ON {IS_TOLD_OF}
        WHERE {IMPORTED_BY_RUN}
    )
"""

GONE = f"""
    SELECT count(*) FROM memory_events AS told
    WHERE {IMPORTED_BY_RUN}
        AND NOT EXISTS (SELECT 1 FROM agent_memory AS memory WHERE {IS_TOLD_OF})
        AND NOT EXISTS (SELECT 1 FROM archived_memories AS memory WHERE {IS_TOLD_OF})
"""

AS_IMPORTED = " AND ".join(
    f"coalesce({unix_seconds(column)} <= :imported_at, TRUE)"
    for column in ("created_at", "last_accessed")
)

IMPORTED_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key
    FROM agent_memory
    {{where}} {AS_IMPORTED}
"""


@dataclass(frozen=True, kw_only=True)
class ArchiveResult(JobResult):
    """How many memories were archived.

    When they are those that a run imported: also how many stay because they were written or read
    since, and how many are neither active nor archived any more as they were imported.
    """

    archived: int
    in_use: int = 0
    gone: int = 0

    @property
    def warning(self) -> str | None:
        """Which imported memories were not archived."""
        if not self.in_use + self.gone:
            return None
        return (
            f"not archived because written or read since the import: {self.in_use}; "
            f"no longer there as imported: {self.gone}"
        )


def archive_rows(
    db: Connection, rowids: str, *, reason: Reason, now: datetime, run_id: int | None
) -> int:
    """Archive the memories in these rows (a JSON array) and return how many.

    Call it in a transaction: what it cannot do for all of them must be rolled back. What a client
    archives belongs to no run.
    """
    parameters = {"now": to_text(now), "reason": reason, "run_id": run_id, "rowids": rowids}
    copied = db.execute(COPY_TO_ARCHIVE, parameters).rowcount
    told = record_archiving(db, rowids, reason=reason, now=now, run_id=run_id)
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


def archive_replaced(run: Run, rowids: Sequence[int]) -> int:
    """Archive the memories in these rows, which others replace; returns how many.

    Call it in a transaction, as `archive_rows`. Raises RefusedError for an id that looks as if the
    run had given it.
    """
    if not rowids:
        return 0
    listed = json.dumps(rowids)
    if run.db.execute(ENDS_IN_SUFFIX, {"rowids": listed, "run_id": run.number}).fetchone():
        raise _suffix_is_taken(run)
    return archive_rows(
        run.db,
        listed,
        reason="replaced",
        now=run.now,
        run_id=run.number,
    )


def give_up_ids(run: Run, condition: str, parameters: Mapping[str, object]) -> None:
    """Give other ids to the archived memories for which `condition` is true: active ones have them.

    Call it in a transaction. Raises RefusedError when an active memory has such an id.
    """
    changed = run.db.execute(
        f"UPDATE archived_memories SET id = {renamed('id')} WHERE {condition} RETURNING archive_id",
        {**parameters, "suffix": f"~{run.number}"},
    )
    rowids = json.dumps([row for (row,) in changed])
    if run.db.execute(IN_BOTH, {"rowids": rowids}).fetchone():
        raise _suffix_is_taken(run)


def _suffix_is_taken(run: Run) -> RefusedError:
    return RefusedError(
        f"an id already ends in '~{run.number}', which this run appends to ids of what it replaces",
        "run the command again: its next run has another number",
    )


def archiving(run: Run, *, reason: Reason) -> Callable[[Batch], int]:
    """Return the change that archives a batch of due memories."""
    return lambda batch: archive_rows(
        run.db, batch.rowids, reason=reason, now=run.now, run_id=run.number
    )


def remove_archived(run: Run, rowids: str, event: Event) -> int:
    """Tell of the memories in these rows of the archive (a JSON array), and remove them there.

    Returns how many there were. Call it in a transaction, as `archive_rows`.
    """
    told = record_events(run.db, event, "archived_memories", rowids, now=run.now, run_id=run.number)
    removed = run.db.execute(REMOVE_ARCHIVED, {"rowids": rowids}).rowcount
    require_equal_counts(run.db, recorded=told, removed=removed)
    return removed


def archive(
    run: Run, *, agent: str | None, ids: Sequence[str] = (), of_run: int | None = None
) -> ArchiveResult:
    """Archive an agent's memories by their ids, or what a run imported, for the reason `manual`.

    Those that are archived already are left alone, so that it can be repeated; so is what was
    imported and has been written or read since. Raises UsageError unless there are ids of an agent
    or a run, which imported; NotFoundError, before anything is changed, for an id that is no memory
    of the agent, and for an unknown run.
    """
    if bool(ids) == (of_run is not None):
        raise UsageError(
            "either ids or --run must be given", "memctl archive AGENT ID…, or --run N"
        )
    require_agent(run.db, agent)
    if of_run is not None:
        return _archive_imported(run, agent, of_run)
    if agent is None:
        raise UsageError("ids need their agent", "memctl archive AGENT ID…")
    require_ids(run.db, agent, ids)
    listed, parameters = bind_texts("id", ids)
    due = Due(NAMED_MEMORIES.replace("IDS", listed), {**parameters, **agent_parameter(agent)})
    tally = run.settle(due, archiving(run, reason="manual"))
    return ArchiveResult(archived=tally.count, tally=tally)


def _archive_imported(run: Run, agent: str | None, of_run: int) -> ArchiveResult:
    job, started_at = require_run(run.db, of_run)
    if job != "import":
        raise UsageError(
            f"run {of_run} is a run of {job}, not an import", "see `memctl runs --job import`"
        )
    parameters = {
        **agent_parameter(agent),
        "import": of_run,
        "imported_at": to_unix(started_at),
    }
    (there,) = run.db.execute(
        f"SELECT count(*) FROM agent_memory WHERE {STILL_THERE}", parameters
    ).fetchone()
    (gone,) = run.db.execute(GONE, parameters).fetchone()
    due = Due(IMPORTED_MEMORIES, parameters, search_only=STILL_THERE)
    tally = run.settle(due, archiving(run, reason="manual"))
    return ArchiveResult(
        archived=tally.count,
        in_use=there - tally.count - tally.remaining,
        gone=gone,
        tally=tally,
    )
