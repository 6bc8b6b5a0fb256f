"""Bring memories back from the archive, as they were.

What is restored stays restored: an expiry that has passed is cleared, and decay counts the time in
the archive as charged. Of several archived copies of one memory the newest comes back. A memory
whose id went to the one that replaced it gets it back.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from sqlite3 import Connection
from typing import Literal

from memctl.errors import RefusedError, UsageError
from memctl.jobs.archive import archive_replaced, give_up_ids, original_id, remove_archived
from memctl.jobs.engine import Batch, JobResult, Run
from memctl.jobs.selection import Due
from memctl.storage.sqlite.agents import require_agent, require_ids
from memctl.storage.sqlite.archive import ArchiveFilter
from memctl.storage.sqlite.ledger import require_run
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.times import is_before, to_service_text, to_text, to_unix

OnConflict = Literal["fail", "skip", "replace"]

ID = original_id("archived_memories")

CONFLICTS = f"""
    EXISTS (SELECT 1 FROM agent_memory AS active WHERE active.id = {ID})
    OR EXISTS (
        SELECT 1 FROM agent_memory AS active
        WHERE active.agent_id = archived_memories.agent_id
            AND active.type = archived_memories.type
            AND active.key = archived_memories.key
    )
"""

# Not even --on-conflict replace may touch a memory of another agent.
FOREIGN_ID = f"""
    EXISTS (
        SELECT 1 FROM agent_memory AS active
        WHERE active.id = {ID} AND active.agent_id <> archived_memories.agent_id
    )
"""

RESTORABLE_MEMORIES = f"""
    SELECT archive_id AS rowid, {ID} AS id, agent_id, type, key, archived_at, archived_reason
    FROM archived_memories
    {{{{where}}}} {{condition}}
"""

# Not simply the last to come: an import may bring older copies than there are.
NEWEST_COPIES = f"""
    archive_id IN (
        SELECT archive_id
        FROM (
            SELECT archive_id,
                row_number() OVER (
                    PARTITION BY agent_id, type, key
                    ORDER BY archived_at DESC, archive_id DESC
                ) AS age_by_key,
                row_number() OVER (
                    PARTITION BY ifnull({ID}, archive_id)
                    ORDER BY archived_at DESC, archive_id DESC
                ) AS age_by_id
            FROM archived_memories
            WHERE {{condition}}
        )
        WHERE age_by_key = 1 AND age_by_id = 1
    )
"""

ACTIVE_IN_THE_WAY = f"""
    SELECT rowid FROM agent_memory
    WHERE id IN (
            SELECT {ID} FROM archived_memories
            WHERE archive_id IN (SELECT value FROM json_each(:rowids))
        )
        OR (agent_id, type, key) IN (
            SELECT agent_id, type, key FROM archived_memories
            WHERE archive_id IN (SELECT value FROM json_each(:rowids))
        )
"""

OTHER_COPIES = """
    id IN (
        SELECT id FROM archived_memories
        WHERE archive_id IN (SELECT value FROM json_each(:rowids))
    )
    AND archive_id NOT IN (SELECT value FROM json_each(:rowids))
"""

TAKE_IDS_BACK = f"""
    UPDATE archived_memories SET id = {ID}
    WHERE archive_id IN (SELECT value FROM json_each(:rowids)) AND id IS NOT {ID}
"""

CHANGED_BY_RESTORE = {
    "expires_at": f"""
        CASE WHEN :expires_at IS NOT NULL THEN :expires_at
            WHEN {is_before("expires_at", ":now")} THEN NULL
            ELSE expires_at
        END
    """,
    "last_decay_at": ":charged_at",
}

COPY_TO_ACTIVE = f"""
    INSERT INTO agent_memory ({", ".join(MEMORY_COLUMNS)})
    SELECT {", ".join(CHANGED_BY_RESTORE.get(column, column) for column in MEMORY_COLUMNS)}
    FROM archived_memories
    WHERE archive_id IN (SELECT value FROM json_each(:rowids))
    ORDER BY archive_id
"""


@dataclass(frozen=True, kw_only=True)
class RestoreResult(JobResult):
    """How many memories came back, stayed archived, and were archived to make room."""

    restored: int
    skipped: int
    replaced: int


def restore(
    run: Run,
    which: ArchiveFilter,
    *,
    on_conflict: OnConflict = "fail",
    expires_in: timedelta | None = None,
) -> RestoreResult:
    """Move archived memories back, changing nothing but their expiry and decay stamp.

    A conflict is an active memory of the same id, or of the same agent, type and key: `fail`
    refuses the whole restore, `skip` leaves those archived, `replace` archives the active one.
    Raises NotFoundError for an unknown agent, id or run.
    """
    _require_known(run.db, which)
    condition, parameters = which.condition()
    (selected,) = run.db.execute(
        f"SELECT count(*) FROM archived_memories WHERE {condition}", parameters
    ).fetchone()
    if on_conflict != "skip":
        _refuse_foreign_ids(run.db, condition, parameters)
    if on_conflict == "fail":
        _refuse_conflicts(run.db, condition, parameters)
    obstacle = FOREIGN_ID if on_conflict == "replace" else CONFLICTS
    due = Due(
        RESTORABLE_MEMORIES.format(condition=f"{condition} AND NOT ({obstacle})"),
        parameters,
        search_only=NEWEST_COPIES.format(condition=condition),
    )
    replaced = 0

    def move_back(batch: Batch) -> int:
        nonlocal replaced
        rowids = batch.rowids
        replaced += _make_room(run, rowids)
        run.db.execute(TAKE_IDS_BACK, {"rowids": rowids})
        moved = run.db.execute(
            COPY_TO_ACTIVE,
            {
                "rowids": rowids,
                "now": to_unix(run.now),
                "charged_at": to_text(run.now),
                "expires_at": to_service_text(run.now + expires_in) if expires_in else None,
            },
        ).rowcount
        give_up_ids(run, OTHER_COPIES, {"rowids": rowids})
        removed = remove_archived(run, rowids, "memory:restored")
        require_equal_counts(run.db, restored=moved, removed=removed)
        return moved

    if run.batches is None:
        candidates = json.dumps(due.rowids(run.db).tolist())
        replaced = len(run.db.execute(ACTIVE_IN_THE_WAY, {"rowids": candidates}).fetchall())
    tally = run.settle(due, move_back)
    refusal = None
    if on_conflict == "fail" and tally.changed_meanwhile:
        refusal = RefusedError(
            f"{tally.changed_meanwhile} memories were written anew meanwhile and stay archived",
            "choose --on-conflict skip or replace for them",
        )
    return RestoreResult(
        restored=tally.count,
        skipped=selected - tally.count - tally.remaining,
        replaced=replaced,
        tally=tally,
        refusal=refusal,
    )


def _make_room(run: Run, rowids: str) -> int:
    """Archive the active memories that these archived ones replace; returns how many."""
    return archive_replaced(
        run, [row for (row,) in run.db.execute(ACTIVE_IN_THE_WAY, {"rowids": rowids})]
    )


def _require_known(db: Connection, which: ArchiveFilter) -> None:
    if which.ids and which.agent is None:
        raise UsageError("ids need their agent", "memctl restore AGENT ID…")
    if not which.ids and which.run_id is None and which.reason is None and which.since is None:
        raise UsageError("nothing says what to restore", "name ids, --run, --reason or --since")
    if which.agent is None and which.run_id is None:
        raise UsageError("--reason and --since need an agent", "memctl restore AGENT --reason …")
    require_agent(db, which.agent)
    if which.agent is not None and which.ids:
        require_ids(db, which.agent, which.ids)
    if which.run_id is not None:
        require_run(db, which.run_id)


def _refuse_foreign_ids(db: Connection, condition: str, parameters: dict[str, object]) -> None:
    (count,) = db.execute(
        f"SELECT count(*) FROM archived_memories WHERE {condition} AND {FOREIGN_ID}", parameters
    ).fetchone()
    if count:
        raise RefusedError(
            f"{count} of these memories have an id that a memory of another agent has now",
            "--on-conflict skip leaves them archived; nothing was changed",
        )


def _refuse_conflicts(db: Connection, condition: str, parameters: dict[str, object]) -> None:
    conflict = f"FROM archived_memories WHERE {condition} AND ({CONFLICTS})"
    (count,) = db.execute(f"SELECT count(*) {conflict}", parameters).fetchone()
    if not count:
        return
    agent_id, kind, key = db.execute(
        f"SELECT agent_id, type, key {conflict} LIMIT 1", parameters
    ).fetchone()
    raise RefusedError(
        f"{count} of these memories have been written anew, the first '{agent_id}' {kind} '{key}'",
        "choose --on-conflict skip or replace; nothing was changed",
    )
