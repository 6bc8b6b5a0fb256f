"""What an erasure or a redaction leaves: in the files, in other rows, and in copies."""

from collections.abc import Sequence
from dataclasses import dataclass

from memctl.errors import RefusedError, counted
from memctl.jobs.copies import RewrittenCopy, was_chosen
from memctl.jobs.engine import JobResult
from memctl.storage.erasure import Overwritten


@dataclass(frozen=True, kw_only=True)
class ResultWithRemains(JobResult):
    """The result of a job that overwrites texts; no files were searched in a preview."""

    overwritten: Overwritten | None = None
    copies: Sequence[RewrittenCopy] = ()

    @property
    def remark(self) -> str | None:
        """How the files were overwritten, and how many copies were rewritten."""
        done, remarks = self.overwritten, []
        if done and done.vacuum_ms is not None:
            remarks.append(
                f"rewrote the file, which blocked other writers for {done.vacuum_ms:,.0f} ms"
            )
        if done:
            remarks.append(
                f"searched {done.bytes_checked:,} bytes in {counted(len(done.files), 'file')}"
            )
        rewritten = [copy for copy in self.copies if copy.action == "rewritten"]
        if rewritten:
            rows = counted(sum(copy.removed.total for copy in rewritten), "row")
            remarks.append(
                f"rewrote {counted(len(rewritten), 'backup')}, removing or redacting {rows}"
            )
        return "; ".join(remarks) or None

    @property
    def warning(self) -> str | None:
        """The other rows with the same text, and the copies that were not rewritten."""
        left = []
        if self.overwritten and self.overwritten.rows:
            rows = sorted(self.overwritten.rows.items())
            listed = ", ".join(f"{count} in {table}" for table, count in rows)
            left.append(f"other rows contain the same text or a part of it: {listed}")
        if others := sum(not was_chosen(copy) for copy in self.copies):
            left.append(
                f"{counted(others, 'backup')} may still contain it: `memctl erase --continue"
                f" --backups` rewrites {'it' if others == 1 else 'them'}"
            )
        return "; ".join(left) or None


def refusal_of_remains(done: Overwritten, *, removed: str, of_it: str) -> RefusedError | None:
    """Return why an erasure or a redaction is not finished; None if it is.

    `removed` says what was done, and `of_it` of what parts are left. `erase --continue` finishes
    both.
    """
    if done.would_stall:
        return RefusedError(
            f"{removed}, but the file may still contain parts {of_it}; rewriting a file of this"
            " size would keep another program from writing for seconds",
            "run `memctl erase --continue` when it does not write, or with --force",
        )
    if not done.log_truncated:
        return RefusedError(
            f"{removed}, but a reader keeps the write-ahead log from being emptied",
            "end long reads of other programs, then run `memctl erase --continue`",
        )
    if done.remains:
        files = ", ".join(f"{count} in {file}" for file, count in sorted(done.remains.items()))
        return RefusedError(
            f"{removed}, but parts {of_it} are still in the files: {files}",
            "run `memctl erase --continue` when no other program has the database open",
        )
    return None
