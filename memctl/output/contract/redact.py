"""The receipt of `redact`, which does not contain the text."""

from memctl.output.contract.erasure import Overwriting
from memctl.output.contract.jobs import JobCounts
from memctl.output.contract.records import StoredText


class RedactCounts(JobCounts):
    """What was replaced, or would be."""

    redacted: int
    occurrences: int
    rows: int
    database: str
    changed_rows: dict[str, int]
    fingerprints: list[str]
    remaining_backups: list[StoredText]
    overwriting: Overwriting | None
