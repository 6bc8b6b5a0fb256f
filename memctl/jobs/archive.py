"""Archive memories on request: those with given ids, or those that an import added.

Memories that are already archived are skipped, so that the command can be repeated. An imported
memory that was written or read since the import stays active, and so does one that is held.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from memctl.errors import UsageError
from memctl.jobs.engine import JobContext, JobResult
from memctl.storage.holds import held_error


@dataclass(frozen=True, kw_only=True)
class ArchiveResult(JobResult):
    """How many memories were archived.

    For an import also: how many stay active because they were written or read since, how many are
    neither active nor archived with the id they were imported with, and how many stay active
    because they are held.
    """

    archived: int
    in_use: int = 0
    gone: int = 0
    held: int = 0

    @property
    def warning(self) -> str | None:
        """Which imported memories were not archived."""
        if not self.in_use + self.gone:
            return None
        return (
            f"not archived: {self.in_use} written or read since the import,"
            f" {self.gone} no longer present as imported"
        )


def archive(
    run: JobContext, *, agent: str | None, ids: Sequence[str] = (), of_run: int | None = None
) -> ArchiveResult:
    """Archive an agent's memories by their ids, or the memories that a run imported.

    Raises UsageError unless either the ids of an agent or an import are given; NotFoundError,
    before anything is changed, for an id that is no memory of the agent, and for an unknown run;
    RefusedError, before anything is changed, for the id of an active memory that is held.
    """
    if bool(ids) == (of_run is not None):
        raise UsageError("specify either ids or --run", "memctl archive AGENT ID…, or --run N")
    run.store.require_agent(agent)
    if of_run is not None:
        return _archive_imported(run, agent, of_run)
    if agent is None:
        raise UsageError("ids require an agent", "memctl archive AGENT ID…")
    run.store.require_ids(agent, ids)
    named = run.store.named(agent, ids, now=run.now, run_id=run.run_id)
    held = list(named.held())
    if held:
        raise held_error(len(held), held[0].agent_id, held[0].type, held[0].key)
    tally = run.apply_in_batches(named, doing="archiving")
    return ArchiveResult(archived=tally.count, tally=tally)


def _archive_imported(run: JobContext, agent: str | None, of_run: int) -> ArchiveResult:
    job, started_at = run.store.require_run(of_run)
    if job != "import":
        raise UsageError(
            f"run {of_run} is a run of {job}, not an import", "see `memctl runs --job import`"
        )
    imported = run.store.imported(of_run, started_at, agent=agent, now=run.now, run_id=run.run_id)
    tally = run.apply_in_batches(imported.unused, doing="archiving")
    return ArchiveResult(
        archived=tally.count,
        in_use=imported.active - tally.count - tally.remaining - tally.held,
        gone=imported.gone,
        held=tally.held,
        tally=tally,
    )
