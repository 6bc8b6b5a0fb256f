"""The receipt of a redaction, which does not contain the text."""

from memctl.jobs.engine import JobReport
from memctl.jobs.redact import RedactResult
from memctl.output.receipt import copies_document, overwriting_document
from memctl.output.results import job_document


def redaction_document(report: JobReport[RedactResult], *, database: str) -> dict[str, object]:
    """Return the receipt as JSON; whoever has the text can compare its fingerprints."""
    result = report.result
    if result is None:
        raise AssertionError("a redaction is not paused")
    done = result.overwritten
    return {
        **job_document(report, listing=False),
        "database": database,
        "changed_rows": dict(sorted(result.redaction.places.items())),
        "fingerprints": list(result.fingerprints),
        "backups": copies_document(result.copies),
        "overwriting": None if done is None else overwriting_document(done),
    }
