"""The receipt of `redact`, which does not contain the text."""

from memctl.output.contract.erasure import CopyRecord, Overwriting
from memctl.output.contract.jobs import JobCounts


class RedactCounts(JobCounts):
    """What was replaced, or would be."""

    redacted: int
    occurrences: int
    rows: int
    database: str
    changed_rows: dict[str, int]
    fingerprints: list[str]
    backups: list[CopyRecord]
    overwriting: Overwriting | None
