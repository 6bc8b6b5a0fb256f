"""Erase memories for good: from the tables, and every byte that the files still contain of them.

First the rows are removed in short transactions, then the whole file is written anew, during which
other programs cannot write; on request, only if there is no other way to remove the remains. An
erasure that was interrupted after the first step is finished by the next one.
"""

from dataclasses import dataclass, field

from memctl.errors import NotFoundError
from memctl.jobs.copies import NO_COPIES, Copies, CopyChoice, refusal_of_left, was_chosen
from memctl.jobs.engine import JobContext
from memctl.jobs.remains import ResultWithRemains, refusal_of_remains
from memctl.jobs.tally import JobTally
from memctl.storage.erasure import ErasureFilter, Overwritten, Removal
from memctl.storage.sqlite.erasure import Erasure
from memctl.storage.sqlite.raw_files import RawFiles


@dataclass(frozen=True, kw_only=True)
class EraseResult(ResultWithRemains):
    """What was removed, and what is left."""

    removal: Removal = field(default_factory=Removal)
    is_unmatched: bool = False  # nothing contains the text that was searched for

    @property
    def counts(self) -> dict[str, object]:
        """The numbers for the ledger."""
        return {"erased": self.removal.memories, "rows": self.removal.places.total()}

    @property
    def warning(self) -> str | None:
        """What stays, and the remains."""
        left = ["no row contains the text"] if self.is_unmatched else []
        if self.removal.kept:
            kept = ", ".join(f"{count} {why}" for why, count in sorted(self.removal.kept.items()))
            left.append(f"kept: {kept}")
        if of_files := super().warning:
            left.append(of_files)
        return "; ".join(left) or None


def erase(
    run: JobContext,
    files: RawFiles,
    which: ErasureFilter | None,
    chosen: CopyChoice = NO_COPIES,
    *,
    avoid_vacuum: bool = False,
) -> EraseResult:
    """Erase what a filter selects; without one, finish an erasure that was interrupted.

    To `avoid_vacuum`, the file is written anew only if remains are found in it.

    `files` stay open until the connection is closed. The chosen copies of the database are
    rewritten. Raises NotFoundError if there is nothing, and RefusedError if any of the memories is
    held, or a chosen copy is of another database.
    """
    copies = Copies(run, chosen)
    removal, overwritten, missing = Removal(), None, None
    try:
        erasure = Erasure(run.store.sqlite, which, files, now=run.now)
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
    refusal = None
    if overwritten:
        refusal = refusal_of_remains(
            overwritten, removed="the memories were erased", of_it="of their texts"
        )
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
        run.request.file,
        removal,
        run.batches,
        spool=run.request.watch.spool,
        wait=run.request.lock_wait,
        force=run.request.force,
        avoid_vacuum=avoid_vacuum,
    )
    return removal, overwritten
