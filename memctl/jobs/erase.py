"""Erase memories for good: from the tables, and every byte that the files still contain of them.

First the rows are removed in short transactions, then the whole file is written anew, during which
other programs cannot write; on request, only if there is no other way to remove the remains. An
erasure that was interrupted after the first step is finished by the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from memctl.errors import NotFoundError, RefusedError
from memctl.jobs.copies import (
    NO_COPIES,
    Copies,
    CopyChoice,
    RewrittenCopy,
    refusal_of_left,
    remark_on_files,
    warning_of_copies,
    was_chosen,
)
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.tally import JobTally
from memctl.storage.erasure import Erasure, ErasureFilter, Overwritten, Removal


@dataclass(frozen=True, kw_only=True)
class EraseResult(JobResult):
    """What was removed, and what is left in the files; no files were searched in a preview."""

    removal: Removal = field(default_factory=Removal)
    overwritten: Overwritten | None = None
    copies: Sequence[RewrittenCopy] = ()
    is_unmatched: bool = False  # nothing contains the text that was searched for

    @property
    def counts(self) -> dict[str, object]:
        """The numbers for the ledger."""
        return {"erased": self.removal.memories, "rows": self.removal.places.total()}

    @property
    def remark(self) -> str | None:
        """How the files were overwritten, and which copies were rewritten."""
        return remark_on_files(self.overwritten, self.copies)

    @property
    def warning(self) -> str | None:
        """What stays, and which other rows have the same text."""
        left = ["no row contains the text"] if self.is_unmatched else []
        if self.removal.kept:
            kept = ", ".join(f"{count} {why}" for why, count in sorted(self.removal.kept.items()))
            left.append(f"kept: {kept}")
        if self.overwritten and self.overwritten.rows:
            rows = ", ".join(
                f"{count} in {table}" for table, count in sorted(self.overwritten.rows.items())
            )
            left.append(f"other rows contain the same text or a part of it: {rows}")
        if of_copies := warning_of_copies(self.copies):
            left.append(of_copies)
        return "; ".join(left) or None


def erase(
    run: JobContext,
    which: ErasureFilter | None,
    chosen: CopyChoice = NO_COPIES,
    *,
    avoid_vacuum: bool = False,
) -> EraseResult:
    """Erase what a filter selects; without one, finish an erasure that was interrupted.

    To `avoid_vacuum`, the file is written anew only if remains are found in it.

    The chosen copies of the database are rewritten. Raises NotFoundError if there is nothing, and
    RefusedError if any of the memories is held, or a chosen copy is of another database.
    """
    copies = Copies(run, chosen)
    removal, overwritten, missing = Removal(), None, None
    try:
        erasure = run.store.erasure(which, now=run.now)
    except NotFoundError as error:
        if not chosen or which:
            raise
        missing = error  # perhaps a copy still contains what was erased earlier
    else:
        removal, overwritten = _erase(run, erasure, avoid_vacuum=avoid_vacuum)
    done = copies.rewrite(which, removal)
    if missing and not any(was_chosen(copy) and copy.action != "unchanged" for copy in done):
        raise NotFoundError(
            "no erasure was interrupted, and no chosen backup contains anything that was erased",
            "nothing was changed",
        ) from missing
    refusal = _refusal(overwritten) if overwritten else None
    return EraseResult(
        tally=JobTally(),
        removal=removal,
        overwritten=overwritten,
        copies=done,
        is_unmatched=(
            which is not None
            and which.text is not None
            and not (removal.places or removal.kept or any(copy.removed.total for copy in done))
        ),
        refusal=refusal or refusal_of_left(done),
    )


def _erase(
    run: JobContext, erasure: Erasure, *, avoid_vacuum: bool
) -> tuple[Removal, Overwritten | None]:
    """Remove memories from the database and overwrite what is left of them."""
    if run.batches is None:
        return erasure.preview(), None
    removal = erasure.remove(run.batches, run_id=run.run_id)
    overwritten = erasure.overwrite(
        run.request.database,
        removal,
        run.batches,
        spool=run.request.watch.spool,
        wait=run.request.lock_wait,
        force=run.request.force,
        avoid_vacuum=avoid_vacuum,
    )
    return removal, overwritten


def _refusal(done: Overwritten) -> RefusedError | None:
    """Return why the erasure is not finished."""
    if done.would_stall:
        return RefusedError(
            "the memories were erased, but the file may still contain parts of them; rewriting a"
            " file of this size would keep another program from writing for seconds",
            "run `memctl erase --continue` when it does not write, or with --force",
        )
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
