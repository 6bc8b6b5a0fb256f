"""The results of hold and release."""

from memctl.output.contract.documents import Document
from memctl.output.contract.jobs import JobCounts


class HoldDocument(Document, JobCounts):
    """The result of hold."""

    added: int
    changed: int
    unchanged: int


class ReleaseDocument(Document, JobCounts):
    """The result of release."""

    released: int
    not_found: int
