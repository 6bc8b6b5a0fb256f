"""Erase memories for good: from the tables, and every byte that the files still contain of them.

First the rows are removed in short transactions, then what they have left in the files is
overwritten. Only if that is not enough is the whole file written anew, during which other programs
cannot write. An erasure that was interrupted after the first step is finished by the next one.
"""

from dataclasses import dataclass, field

from memctl.errors import RefusedError
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.tally import JobTally
from memctl.storage.erasure import ErasureFilter, Overwritten, Removal


@dataclass(frozen=True, kw_only=True)
class EraseResult(JobResult):
    """What was removed, and what is left in the files; no files were searched in a preview."""

    removal: Removal = field(default_factory=Removal)
    overwritten: Overwritten | None = None

    @property
    def counts(self) -> dict[str, object]:
        """The numbers for the ledger."""
        return {"erased": self.removal.memories, "rows": self.removal.places.total()}

    @property
    def remark(self) -> str | None:
        """How the files were overwritten."""
        done = self.overwritten
        if done is None:
            return None
        if done.vacuum_ms is None:
            return f"searched {done.bytes_checked:,} bytes of {len(done.files)} files"
        return (
            f"rewrote the whole file, for which other programs waited {done.vacuum_ms:,.0f} ms;"
            f" searched {done.bytes_checked:,} bytes of {len(done.files)} files"
        )

    @property
    def warning(self) -> str | None:
        """What stays, and which other rows have the same text."""
        left = []
        if self.removal.kept:
            kept = ", ".join(f"{count} {why}" for why, count in sorted(self.removal.kept.items()))
            left.append(f"kept: {kept}")
        if self.overwritten and self.overwritten.rows:
            rows = ", ".join(
                f"{count} of {table}" for table, count in sorted(self.overwritten.rows.items())
            )
            left.append(f"other rows contain the same text: {rows}")
        return "; ".join(left) or None


def erase(run: JobContext, which: ErasureFilter | None) -> EraseResult:
    """Erase what a filter selects; without one, finish an erasure that was interrupted.

    Raises NotFoundError if there is nothing, and RefusedError if any of the memories is held.
    """
    erasure = run.store.erasure(which, now=run.now)
    if run.batches is None:
        return EraseResult(tally=JobTally(), removal=erasure.preview())
    removal = erasure.remove(run.batches, run_id=run.run_id)
    overwritten = erasure.overwrite(
        run.request.database,
        removal,
        run.batches,
        spool=run.request.watch.spool,
        wait=run.request.lock_wait,
    )
    return EraseResult(
        tally=JobTally(), removal=removal, overwritten=overwritten, refusal=_refusal(overwritten)
    )


def _refusal(done: Overwritten) -> RefusedError | None:
    """Return why the erasure is not finished."""
    if not done.log_truncated:
        return RefusedError(
            "the memories were erased, but a reader keeps the write-ahead log from being emptied",
            "end long reads of other programs, then run `memctl erase --continue`",
        )
    if done.remains:
        files = ", ".join(f"{count} in {file}" for file, count in sorted(done.remains.items()))
        return RefusedError(
            f"the memories were erased, but parts of their texts are still in the files: {files}",
            "run `memctl erase --continue` when no other program has the database open",
        )
    return None
