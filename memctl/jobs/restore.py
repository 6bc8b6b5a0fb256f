"""Bring memories back from the archive, as they were.

What is restored stays restored: an expiry that has passed is cleared, and decay counts the time in
the archive as charged. Of several archived copies of one memory the newest comes back. A memory
whose id went to the one that replaced it gets it back.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from memctl.errors import RefusedError, UsageError
from memctl.jobs.engine import Batch, JobContext, JobResult
from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.agents import require_agent, require_ids
from memctl.storage.sqlite.archiving import archive_replaced
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.ledger import require_run
from memctl.storage.sqlite.restore import (
    ArchivedSelection,
    archived_selection,
    conflicting_rows,
    restore_rows,
)

RestoreConflict = Literal["fail", "skip", "replace"]


@dataclass(frozen=True, kw_only=True)
class RestoreResult(JobResult):
    """How many memories came back, stayed archived, and were archived to make room."""

    restored: int
    skipped: int
    replaced: int


def restore(
    run: JobContext,
    which: ArchiveFilter,
    *,
    on_conflict: RestoreConflict = "fail",
    expires_in: timedelta | None = None,
) -> RestoreResult:
    """Move archived memories back, changing nothing but their expiry and decay stamp.

    A conflict is an active memory of the same id, or of the same agent, type and key: `fail`
    refuses the whole restore, `skip` leaves those archived, `replace` archives the active one.
    Raises NotFoundError for an unknown agent, id or run.
    """
    _require_known(run.db, which)
    archived = archived_selection(which)
    selected = archived.count(run.db)
    if on_conflict != "skip":
        _refuse_foreign_ids(run.db, archived)
    if on_conflict == "fail":
        _refuse_conflicts(run.db, archived)
    if on_conflict == "replace":
        restorable = archived.without_foreign_ids()
    else:
        restorable = archived.without_conflicts()
    expires_at = run.now + expires_in if expires_in else None
    replaced = 0

    def move_back(batch: Batch) -> int:
        nonlocal replaced
        in_the_way = conflicting_rows(run.db, batch.rowids)
        replaced += archive_replaced(run.db, in_the_way, now=run.now, run_id=run.number)
        return restore_rows(
            run.db, batch.rowids, expires_at=expires_at, now=run.now, run_id=run.number
        )

    if run.batches is None:
        rowids = json.dumps(restorable.rowids(run.db).tolist())
        replaced = len(conflicting_rows(run.db, rowids))
    tally = run.apply_in_batches(restorable, move_back)
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


def _refuse_foreign_ids(db: Connection, archived: ArchivedSelection) -> None:
    count = archived.count_foreign_ids(db)
    if count:
        raise RefusedError(
            f"{count} of these memories have an id that a memory of another agent has now",
            "--on-conflict skip leaves them archived; nothing was changed",
        )


def _refuse_conflicts(db: Connection, archived: ArchivedSelection) -> None:
    count = archived.count_conflicts(db)
    if not count:
        return
    agent_id, type_, key = archived.first_conflict(db)
    raise RefusedError(
        f"{count} of these memories have been written anew, the first '{agent_id}' {type_} '{key}'",
        "choose --on-conflict skip or replace; nothing was changed",
    )
