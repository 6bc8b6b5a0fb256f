"""The receipt of a redaction: what was done and checked, and a fingerprint instead of the text."""

from memctl import __version__
from memctl.jobs.engine import JobReport
from memctl.jobs.redact import RedactResult
from memctl.output.results import job_document


def receipt_document(report: JobReport[RedactResult], database: str) -> dict[str, object]:
    """Return the receipt; whoever has the text can compute its fingerprints."""
    if report.result is None:
        raise AssertionError("a redaction is not paused")
    return {
        "format": "memctl.receipt",
        "version": 1,
        **job_document(report, listing=False),
        "database": database,
        "memctl_version": __version__,
        "salt": report.result.salt,
        "fingerprints": report.result.fingerprints,
    }
