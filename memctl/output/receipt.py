"""The receipts of an erasure and of a redaction, which name neither the memories nor the texts."""

from collections.abc import Mapping, Sequence

from memctl.jobs.copies import RewrittenCopy
from memctl.jobs.engine import JobReport
from memctl.jobs.erase import EraseResult
from memctl.jobs.redact import RedactResult
from memctl.output.results import job_document
from memctl.output.terminal import json_key
from memctl.storage.erasure import Overwritten
from memctl.storage.text import encodable
from memctl.storage.times import to_text


def erasure_document(
    report: JobReport[EraseResult], *, database: str, listing: bool
) -> dict[str, object]:
    """Return the receipt as JSON; that of a preview also lists the memories, on request."""
    result = report.result
    if result is None:
        raise AssertionError("an erasure is not paused")
    removal = result.removal
    document: dict[str, object] = {
        "job": report.job,
        "run_id": report.run_id,
        "dry_run": report.dry_run,
        "cutoff": to_text(report.cutoff),
        "database": database,
        "erased": removal.memories,
        "fingerprints": sorted(removal.fingerprints),
        "erased_rows": _sorted(removal.places),
        "kept_rows": _sorted(removal.kept),
        "backups": _copies(result.copies),
        "overwriting": _overwriting(result.overwritten),
        "duration_ms": report.duration_ms,
        "longest_lock_ms": report.longest_lock_ms,
    }
    if result.refusal:
        document["refused"] = result.refusal.message
    if listing:
        document["listed"] = [
            {part: encodable(value) for part, value in name._asdict().items()}
            for name in removal.listed
        ]
    return document


def redaction_document(report: JobReport[RedactResult], *, database: str) -> dict[str, object]:
    """Return the receipt as JSON; its fingerprints can be compared by those who have the text."""
    result = report.result
    if result is None:
        raise AssertionError("a redaction is not paused")
    return {
        **job_document(report, listing=False),
        "database": database,
        "changed_rows": _sorted(result.redaction.places),
        "fingerprints": list(result.fingerprints),
        "backups": _copies(result.copies),
        "overwriting": _overwriting(result.overwritten),
    }


def _copies(copies: Sequence[RewrittenCopy]) -> list[dict[str, object]]:
    """Return what was, or would be, done with the backups of the database."""
    return [
        {
            "path": encodable(copy.path),
            "action": copy.action,
            "reason": copy.reason,
            "removed_memories": copy.removed.memories,
            "removed_rows": copy.removed.rows.total(),
            "redacted_rows": copy.removed.redacted.total(),
        }
        for copy in copies
    ]


def _overwriting(done: Overwritten | None) -> dict[str, object] | None:
    """Return how the remains in the files were overwritten; None in a preview."""
    if done is None:
        return None
    return {
        "is_complete": done.is_clean,
        "files_searched": [file.name for file in done.files],
        "bytes_checked": done.bytes_checked,
        "overwritten_pages": done.overwritten_pages,
        "log_truncated": done.log_truncated,
        "vacuum_ms": None if done.vacuum_ms is None else round(done.vacuum_ms, 1),
        "longest_lock_ms": round(done.longest_lock_ms, 1),
        "remains_before_vacuum": _sorted(done.before),
        "remains": _sorted(done.remains),
        "written_since": _sorted(done.written_since),
        "same_text": {json_key(table): count for table, count in sorted(done.rows.items())},
    }


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
