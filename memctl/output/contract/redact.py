"""The JSON of redact."""

from memctl.output.contract.jobs import JobCounts


class RedactCounts(JobCounts):
    """The counts of redact."""

    redacted: int
    occurrences: int
    places: dict[str, int]
    free_pages: int
    bytes_checked: int
    remains: dict[str, int]
    backups: list[str]
