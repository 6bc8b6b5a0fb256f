"""The JSON of compact."""

from typing import Literal

from memctl.output.contract.documents import Document
from memctl.output.contract.jobs import JobCounts


class CompactCounts(JobCounts):
    """The counts of compact."""

    method: Literal["none", "steps", "rewrite"]
    freed_bytes: int
    free_bytes: int
    gap_bytes: int | None
    size_bytes: int
    shortened: bool
    estimated_ms: int | None
    needed_bytes: int | None


class CompactDocument(Document, CompactCounts):
    """The result of compact."""
