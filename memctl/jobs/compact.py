"""Compaction: gives the free pages of the file back to the disk.

A file with `auto_vacuum` becomes shorter in small steps beside a working service. Any other file
has to be rewritten, and other programs cannot write meanwhile: that is refused while one of them
does, without enough space on the disks, and for a small gain, unless it is forced.
"""

from dataclasses import dataclass
from typing import Literal

from memctl.errors import RefusedError, readable_bytes
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.tally import JobTally
from memctl.storage.sqlite.space import (
    Space,
    give_back,
    is_shortened,
    lack_of_space,
    read_gaps,
    read_space,
    recent_write,
)
from memctl.storage.sqlite.vacuum import vacuum

Method = Literal["none", "steps", "rewrite"]

# The parts of the file that are worth a rewrite. Pages that were filled in order have gaps, too.
LEAST_FREE = 0.01
LEAST_GAPS = 1 / 3


@dataclass(frozen=True, kw_only=True)
class CompactResult(JobResult):
    """What was given back to the disk, or would be.

    A rewrite also closes the gaps within pages, of `gap_bytes`; None: unknown. In its preview,
    `estimated_ms` is about how long other programs could not write, and `needed_bytes` the space
    that it needs for a temporary file, and again for the write-ahead log.
    """

    method: Method
    freed_bytes: int
    free_bytes: int  # that are left in the file
    gap_bytes: int | None = None
    size_bytes: int  # of the file
    shortened: bool = True  # false: another program keeps the file from getting shorter yet
    estimated_ms: int | None = None
    needed_bytes: int | None = None

    @property
    def remark(self) -> str | None:
        """How it is done, and at what cost."""
        if self.method == "steps":
            return "in steps"
        gaps = (
            "" if self.gap_bytes is None else f"gaps within pages: {readable_bytes(self.gap_bytes)}"
        )
        if self.method == "none":
            size = readable_bytes(self.size_bytes)
            free = f"{readable_bytes(self.free_bytes)} of {size} in free pages"
            return f"{free}, {gaps or 'gaps unknown'}; not worth a rewrite without --force"
        if self.needed_bytes is None or self.estimated_ms is None:
            return "rewrote the file"
        cost = (
            f"by a rewrite, during which other programs could not write for about"
            f" {self.estimated_ms / 1000:.1f} s; it needs twice {readable_bytes(self.needed_bytes)}"
            " of disk space"
        )
        return f"{cost}; {gaps}, of which it frees a part" if gaps else cost

    @property
    def warning(self) -> str | None:
        """Why the file is not shorter yet."""
        if self.shortened:
            return None
        return (
            "a program that uses the database keeps the file from getting shorter: a later"
            " checkpoint does that"
        )


def compact(run: JobContext, *, incremental: bool = False) -> CompactResult:
    """Give free pages back to the disk: in steps if the file allows it, or else by a rewrite.

    If `incremental`, a rewrite makes the file one that allows steps. Raises RefusedError, before
    anything is changed, if a rewrite would disturb other programs or may lack space.
    """
    space = read_space(run.store.sqlite)
    if space.in_steps:
        return _in_steps(run, space)
    gaps = None
    if run.batches is None or space.free_bytes < LEAST_FREE * space.bytes:
        gaps = read_gaps(run.store.sqlite)
    is_worth_it = (
        space.free_bytes >= LEAST_FREE * space.bytes or (gaps or 0) >= LEAST_GAPS * space.bytes
    )
    if not (is_worth_it or incremental or run.request.force):
        return CompactResult(
            method="none",
            freed_bytes=0,
            free_bytes=space.free_bytes,
            gap_bytes=gaps,
            size_bytes=space.bytes,
            tally=JobTally(),
        )
    if not run.request.force:
        _require_harmless(run, space)
    if run.batches is None:
        return CompactResult(
            method="rewrite",
            freed_bytes=space.free_bytes,
            free_bytes=0,
            gap_bytes=gaps,
            size_bytes=space.bytes - space.free_bytes,
            estimated_ms=round(space.rewrite_seconds * 1000),
            needed_bytes=space.rewrite_bytes,
            tally=JobTally(),
        )
    run.request.progress.phase("rewriting the file")
    run.batches.longest_lock_ms = vacuum(run.store.sqlite, incremental=incremental)
    return _result(run, "rewrite", space)


def _in_steps(run: JobContext, space: Space) -> CompactResult:
    if run.batches is None:
        return CompactResult(
            method="steps",
            freed_bytes=space.free_bytes,
            free_bytes=0,
            size_bytes=space.bytes - space.free_bytes,
            tally=JobTally(),
        )
    give_back(run.store.sqlite, run.batches, space.free_pages)
    return _result(run, "steps", space)


def _result(run: JobContext, method: Method, before: Space) -> CompactResult:
    after = read_space(run.store.sqlite)
    return CompactResult(
        method=method,
        freed_bytes=max(0, before.bytes - after.bytes),
        free_bytes=after.free_bytes,
        size_bytes=after.bytes,
        shortened=is_shortened(run.request.file, after),
        held_at_once="the write lock" if method == "rewrite" else None,
        tally=JobTally(),
    )


def _require_harmless(run: JobContext, space: Space) -> None:
    """Raise RefusedError if a rewrite may lack space, or if another program writes now."""
    lack = lack_of_space(run.store.sqlite, run.request.file, space)
    if lack:
        raise RefusedError(
            f"a rewrite of the file needs up to {lack}",
            "free some space, set SQLITE_TMPDIR to another directory, or use --force",
        )
    if run.batches is None:
        return
    writing = recent_write(run.store.sqlite, now=run.now)
    if writing:
        raise RefusedError(
            f"a rewrite of the file would keep other programs from writing for about"
            f" {space.rewrite_seconds:.1f} s, and the database is in use: {writing}",
            "stop the service, or use --force",
        )
