"""Move memories into the archive: each is copied, recorded as an event, and deleted.

All three happen in one transaction, so that a memory is either active or archived at any time.
Every column is copied unchanged.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from sqlite3 import Connection

from memctl.errors import RefusedError
from memctl.storage.rows import Event, Reason
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.archive import KEPT_COLUMNS
from memctl.storage.sqlite.database import bind_texts
from memctl.storage.sqlite.events import record_archiving, record_events
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.times import to_text, to_unix

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


def archive_rows(
    db: Connection, rowids: str, *, reason: Reason, now: datetime, run_id: int | None
) -> int:
    """Archive the memories in these rows (a JSON array) and return their number.

    Must be called in a transaction, which is to be rolled back on an error. `run_id` is None for
    what a client archives. Raises SchemaError if a foreign trigger interferes.
    """
    parameters = {"now": to_text(now), "reason": reason, "run_id": run_id, "rowids": rowids}
    copied = db.execute(COPY_TO_ARCHIVE, parameters).rowcount
    recorded = record_archiving(db, rowids, reason=reason, now=now, run_id=run_id)
    with own_deletes(db):
        removed = db.execute(REMOVE_ACTIVE, parameters).rowcount
    require_equal_counts(db, archived=copied, recorded=recorded, removed=removed)
    return removed


# Not visible to other connections: the mark is deleted before the transaction ends.
BEGIN_OWN_DELETE = "INSERT INTO memory_state (key, value) VALUES ('own_delete', '')"
END_OWN_DELETE = "DELETE FROM memory_state WHERE key = 'own_delete'"


@contextmanager
def own_deletes(db: Connection) -> Iterator[None]:
    """Exempt the deletes of the block, in its transaction, from the feature archive-on-delete."""
    db.execute(BEGIN_OWN_DELETE)
    yield
    db.execute(END_OWN_DELETE)


REMOVE_ARCHIVED = """
    DELETE FROM archived_memories
    WHERE archive_id IN (SELECT value FROM json_each(:rowids))
"""


def remove_archived(
    db: Connection, rowids: str, event: Event, *, now: datetime, run_id: int | None
) -> int:
    """Delete the memories in these rows (a JSON array) of the archive and record an event for each.

    Returns their number. Must be called in a transaction. Raises SchemaError if a foreign trigger
    interferes.
    """
    recorded = record_events(db, event, "archived_memories", rowids, now=now, run_id=run_id)
    removed = db.execute(REMOVE_ARCHIVED, {"rowids": rowids}).rowcount
    require_equal_counts(db, recorded=recorded, removed=removed)
    return removed


def _suffix(label: str) -> str:
    """Return SQL for the suffix of ids that were given up: the run's number, or else the time."""
    return f"CAST('~' || {label} AS BLOB)"


def _ends_in(column: str, suffix: str) -> str:
    """Return SQL that is true if the bytes of a column end in a suffix."""
    return f"substr(CAST({column} AS BLOB), -length({suffix})) = {suffix}"


def renamed(column: str, suffix: str = ":suffix") -> str:
    """Return SQL for an id with a suffix appended; a BLOB stays one."""
    text = f"{column} || {suffix}"
    return f"CASE typeof({column}) WHEN 'blob' THEN CAST({text} AS BLOB) ELSE {text} END"


def original_id(row: str) -> str:
    """Return SQL for the id that an archived memory had before it was given up."""
    suffix = _suffix(f"ifnull({row}.run_id, {row}.archived_at)")
    content = f"CAST({row}.id AS BLOB)"
    original = f"substr({content}, 1, length({content}) - length({suffix}))"
    return f"""
        CASE
            WHEN {row}.archived_reason <> 'replaced' OR NOT {_ends_in(f"{row}.id", suffix)}
                OR {row}.id IS NULL
                THEN {row}.id
            WHEN typeof({row}.id) = 'blob' THEN {original}
            ELSE CAST({original} AS TEXT)
        END
    """


ENDS_IN_SUFFIX = f"""
    SELECT 1 FROM agent_memory
    WHERE rowid IN (SELECT value FROM json_each(:rowids))
        AND {_ends_in("id", _suffix(":run_id"))}
"""


def archive_replaced(
    db: Connection, rowids: Sequence[int], *, now: datetime, run_id: int | None
) -> int:
    """Archive the memories in these rows, which are being replaced, and return their number.

    Must be called in a transaction. Raises RefusedError if an id already ends in the suffix of the
    run.
    """
    if not rowids:
        return 0
    listed = json.dumps(rowids)
    if db.execute(ENDS_IN_SUFFIX, {"rowids": listed, "run_id": run_id}).fetchone():
        raise _suffix_error(run_id)
    return archive_rows(db, listed, reason="replaced", now=now, run_id=run_id)


IN_BOTH = """
    SELECT 1 FROM agent_memory
    WHERE id IN (
        SELECT id FROM archived_memories
        WHERE archive_id IN (SELECT value FROM json_each(:rowids))
    )
"""


def give_up_ids(
    db: Connection, condition: str, parameters: Mapping[str, object], *, run_id: int | None
) -> None:
    """Append the suffix of the run to the ids of archived memories that active ones now have.

    `condition` is SQL for these archived memories. Must be called in a transaction. Raises
    RefusedError if an active memory already has such an id.
    """
    changed = db.execute(
        f"UPDATE archived_memories SET id = {renamed('id')} WHERE {condition} RETURNING archive_id",
        {**parameters, "suffix": f"~{run_id}"},
    )
    rowids = json.dumps([row for (row,) in changed])
    if db.execute(IN_BOTH, {"rowids": rowids}).fetchone():
        raise _suffix_error(run_id)


def _suffix_error(run_id: int | None) -> RefusedError:
    return RefusedError(
        f"an id already ends in '~{run_id}', which this run appends to ids of what it replaces",
        "run the command again: its next run has another number",
    )


def _named_memories(ids: str, rows: Rows) -> str:
    return f"""
        SELECT rowid, id, agent_id, type, key
        FROM agent_memory
        {rows.where(f"id IN ({ids}) AND {OF_AGENT}")}
    """


def select_named(agent: str, ids: Sequence[str]) -> Selection:
    """Select the active memories of an agent with these ids."""
    listed, parameters = bind_texts("id", ids)
    return Selection(partial(_named_memories, listed), {**parameters, **agent_parameter(agent)})


# Active memories only: the event of one imported into the archive has a detail.
IMPORTED_BY_RUN = """
    event.run_id = :import AND event.event = 'memory:imported' AND event.detail IS NULL
    AND (:agent IS NULL OR event.agent_id = CAST(:agent AS TEXT))
"""

IS_SAME_MEMORY = """
    memory.agent_id = event.agent_id AND memory.type = event.type AND memory.key = event.key
    AND memory.id IS event.memory_id
"""

# A memory that is written again gets another id, which no longer matches the event.
STILL_THERE = f"""
    rowid IN (
        SELECT memory.rowid
        FROM memory_events AS event CROSS JOIN agent_memory AS memory ON {IS_SAME_MEMORY}
        WHERE {IMPORTED_BY_RUN}
    )
"""

COUNT_STILL_THERE = f"SELECT count(*) FROM agent_memory WHERE {STILL_THERE}"

COUNT_GONE = f"""
    SELECT count(*) FROM memory_events AS event
    WHERE {IMPORTED_BY_RUN}
        AND NOT EXISTS (SELECT 1 FROM agent_memory AS memory WHERE {IS_SAME_MEMORY})
        AND NOT EXISTS (SELECT 1 FROM archived_memories AS memory WHERE {IS_SAME_MEMORY})
"""

AS_IMPORTED = " AND ".join(
    f"coalesce({unix_seconds(column)} <= :imported_at, TRUE)"
    for column in ("created_at", "last_accessed")
)


def _imported_memories(rows: Rows) -> str:
    return f"""
        SELECT rowid, id, agent_id, type, key
        FROM agent_memory
        {rows.where(AS_IMPORTED)}
    """


def imported_memories(
    db: Connection, run_id: int, imported_at: datetime, *, agent: str | None
) -> tuple[int, int, Selection]:
    """Return the memories, of one agent or of all, that a run imported as active ones.

    That is how many are still active with the id they were imported with; how many are neither
    active nor archived with it; and those active ones that were neither written nor read since.
    """
    parameters = {**agent_parameter(agent), "import": run_id, "imported_at": to_unix(imported_at)}
    (active,) = db.execute(COUNT_STILL_THERE, parameters).fetchone()
    (gone,) = db.execute(COUNT_GONE, parameters).fetchone()
    unused = Selection(_imported_memories, parameters, search_only=STILL_THERE)
    return active, gone, unused
