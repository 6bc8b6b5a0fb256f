"""Restore archived memories with all their columns.

An expiry in the past is cleared, so that the memory does not expire again at once, and decay does
not charge the time in the archive. Of several archived copies of a memory, the newest is restored.
A memory whose id was given to the memory that replaced it gets its id back. Any version of a memory
can be restored by its number in the history.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from memctl.errors import RefusedError, UsageError
from memctl.jobs.engine import JobContext, JobResult
from memctl.storage.rows import ArchiveFilter

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import ArchivedMemories, Store

RestoreConflict = Literal["fail", "skip", "replace"]


@dataclass(frozen=True, kw_only=True)
class RestoreResult(JobResult):
    """How many memories were restored, stayed archived, and were archived as replaced.

    `held` counts those of the skipped that stayed archived because of a held memory.
    """

    restored: int
    skipped: int
    replaced: int
    held: int
    erased: int = 0  # archived memories that were erased, and written anew by another program

    @property
    def warning(self) -> str | None:
        """How many memories were left in the archive because they were erased."""
        if not self.erased:
            return None
        return f"not restored because they were erased: {self.erased:,}; see `memctl check`"


def restore(
    run: JobContext,
    which: ArchiveFilter,
    *,
    version: int | Literal["newest"] | None = None,
    on_conflict: RestoreConflict = "fail",
    expires_in: timedelta | None = None,
) -> RestoreResult:
    """Move archived memories back; only their expiry and decay time may change.

    An archived memory conflicts with an active one that has the same id, or the same agent, type
    and key: `fail` refuses the whole restore, `skip` skips these memories, `replace` archives the
    active ones, but refuses the whole restore if one of them is held. If `which` has a type and a
    key, `version` selects one of their archived versions; 1 is the oldest. Raises UsageError if
    `which` does not select by agent and something else, or by run; NotFoundError for an unknown
    agent, id, run or version.
    """
    _require_known(run.store, which)
    if version is not None:
        which = _of_version(run.store, which, None if version == "newest" else version)
    archived = run.store.archived(which, now=run.now)
    selected = archived.count()
    if on_conflict != "skip":
        _refuse_foreign_ids(archived)
    if on_conflict == "fail":
        _refuse_conflicts(archived)
    behind_held = archived.behind_held()
    if on_conflict != "skip":
        _refuse_behind_held(behind_held)
    restoration = archived.restoration(
        replacing=on_conflict == "replace",
        expires_at=run.now + expires_in if expires_in else None,
        now=run.now,
        run_id=run.run_id,
    )
    tally = run.apply_in_batches(restoration, doing="restoring")
    refusal = None
    if on_conflict == "fail" and tally.changed_meanwhile:
        count = tally.changed_meanwhile
        refusal = RefusedError(
            f"{count} memories conflict with memories written during the restore, and stay archived"
            if count > 1
            else "1 memory conflicts with a memory written during the restore, and stays archived",
            "to restore the rest, use --on-conflict skip or replace",
        )
    return RestoreResult(
        restored=tally.count,
        skipped=selected - tally.count - tally.remaining,
        replaced=restoration.replaced if run.batches else restoration.count_in_the_way(),
        held=len(behind_held),
        erased=archived.erased,
        tally=tally,
        refusal=refusal,
    )


def _require_known(store: "Store", which: ArchiveFilter) -> None:
    if which.ids and which.agent is None:
        raise UsageError("ids require an agent", "memctl restore AGENT ID…")
    selects = (which.ids or None, which.run_id, which.reason, which.since, which.key)
    if all(selected is None for selected in selects):
        raise UsageError("nothing to restore", "specify ids, --run, --reason, --since or --key")
    if which.agent is None and which.run_id is None:
        raise UsageError("--reason and --since require an agent", "memctl restore AGENT --reason …")
    store.require_agent(which.agent)
    if which.agent is not None and which.ids:
        store.require_ids(which.agent, which.ids)
    if which.run_id is not None:
        store.require_run(which.run_id)


def _of_version(store: "Store", which: ArchiveFilter, version: int | None) -> ArchiveFilter:
    if which.agent is None or which.type is None or which.key is None:
        raise UsageError(
            "a version requires an agent, a type and a key",
            "memctl restore AGENT --type TYPE --key KEY --version N",
        )
    found = store.archived_version(which.agent, which.type, which.key, version)
    return replace(which, archive_id=found)


def _refuse_foreign_ids(archived: "ArchivedMemories") -> None:
    count = archived.count_foreign_ids()
    if count:
        raise RefusedError(
            f"{count} memories have an id that an active memory of another agent has"
            if count > 1
            else "1 memory has an id that an active memory of another agent has",
            "use --on-conflict skip to leave them archived; nothing was changed",
        )


def _refuse_conflicts(archived: "ArchivedMemories") -> None:
    count = archived.count_conflicts()
    if not count:
        return
    agent_id, type_, key = archived.first_conflict()
    first = f"'{agent_id}' {type_} '{key}'"
    raise RefusedError(
        f"{count} memories conflict with active memories, the first is {first}"
        if count > 1
        else f"1 memory conflicts with an active memory: {first}",
        "use --on-conflict skip or replace; nothing was changed",
    )


def _refuse_behind_held(behind_held: Sequence[tuple[str, str, str]]) -> None:
    if not behind_held:
        return
    agent_id, type_, key = behind_held[0]
    first = f"'{agent_id}' {type_} '{key}'"
    raise RefusedError(
        f"held memories are in the way of {len(behind_held)} memories, the first is {first}"
        if len(behind_held) > 1
        else f"a held memory is in the way of {first}",
        "end the hold with `memctl release`, or use --on-conflict skip; nothing was changed",
    )
