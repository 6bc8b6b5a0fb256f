"""Place and release holds, which keep memories from every change and removal by memctl.

A second hold on the same target changes the first: its end is that of the second, and its reason if
the second has one. A hold is released by the selection with which it was placed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from memctl.errors import UsageError
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.tally import JobTally
from memctl.storage.holds import HoldTarget


class HoldSelection(NamedTuple):
    """What a user selects: memories of an agent by their ids, or by type and key, or all."""

    agent: str
    ids: Sequence[str] = ()
    type: str | None = None
    key: str | None = None
    all: bool = False


@dataclass(frozen=True, kw_only=True)
class HoldResult(JobResult):
    """How many holds were added, changed in reason or end, and already as requested."""

    added: int
    changed: int
    unchanged: int


@dataclass(frozen=True, kw_only=True)
class ReleaseResult(JobResult):
    """How many holds were released, and how many of the selected holds do not exist."""

    released: int
    not_found: int

    @property
    def warning(self) -> str | None:
        """How many holds do not exist; the memories may still be covered by others."""
        return f"{self.not_found:,} of the selected holds not found" if self.not_found else None


def hold(
    run: JobContext,
    selection: HoldSelection,
    *,
    reason: str | None = None,
    until: datetime | None = None,
) -> HoldResult:
    """Hold memories until a moment, or until they are released.

    Raises UsageError unless exactly one way to select is used and `until` is in the future, and
    NotFoundError, before anything is changed, if there is no such memory, active or archived.
    """
    if until is not None and until <= run.now:
        raise UsageError("--until is in the past", "specify a future time; nothing was changed")
    _require_one_way(selection)
    run.store.require_agent(selection.agent)
    if selection.ids:
        run.store.require_ids(selection.agent, selection.ids)
    holds = run.store.holds
    targets = _targets(run, selection)
    holds.require_known(targets)
    changes = holds.plan(targets, reason=reason, until=until, now=run.now)
    counts = Counter(change.outcome for change in changes)
    if run.batches and counts["added"] + counts["changed"]:
        run.batches.apply_at_once(lambda: holds.place(changes, now=run.now, run_id=run.run_id))
    return HoldResult(
        added=counts["added"],
        changed=counts["changed"],
        unchanged=counts["unchanged"],
        tally=_tally(selection.agent, counts["added"] + counts["changed"]),
    )


def release(run: JobContext, selection: HoldSelection) -> ReleaseResult:
    """Release the holds that were placed with the same selection.

    Raises UsageError as `hold` does. Holds that do not exist are skipped, so that the command can
    be repeated.
    """
    _require_one_way(selection)
    holds = run.store.holds
    targets = _targets(run, selection)
    found = holds.find(targets, now=run.now)
    if run.batches and found:
        run.batches.apply_at_once(lambda: holds.release(found, now=run.now, run_id=run.run_id))
    return ReleaseResult(
        released=len(found),
        not_found=len(targets) - len(found),
        tally=_tally(selection.agent, len(found)),
    )


def _require_one_way(selection: HoldSelection) -> None:
    if (selection.type is None) != (selection.key is None):
        raise UsageError("--type and --key must be used together", "specify both")
    ways = (bool(selection.ids), selection.type is not None, selection.all)
    if sum(ways) != 1:
        raise UsageError(
            "exactly one of ids, --type with --key, and --all is required",
            "specify one of them",
        )


def _targets(run: JobContext, selection: HoldSelection) -> list[HoldTarget]:
    if selection.ids:
        return list(dict.fromkeys(run.store.holds.targets(selection.agent, selection.ids)))
    return [HoldTarget(selection.agent, None, selection.type, selection.key)]


def _tally(agent: str, count: int) -> JobTally:
    tally = JobTally()
    tally.count = count
    if count:
        tally.agents[agent] = count
    return tally
