"""The output of `memctl run`: a message for each job as it ends, and a summary at the end."""

from collections.abc import Sequence

from memctl.errors import MemctlError
from memctl.jobs.due import ScheduledOutcome
from memctl.jobs.engine import JobRequest
from memctl.output.messages import Message
from memctl.output.results import job_document, memory_ranks, memory_row, show_outcome
from memctl.output.tables import Output, show_records
from memctl.output.terminal import error_document, show_document, show_error, show_message
from memctl.storage.times import to_text


def show_scheduled_outcome(
    outcome: ScheduledOutcome, *, as_json: bool, quiet: bool, dry_run: bool
) -> None:
    """Print the outcome of one job of `memctl run` on stderr."""
    if outcome.report:
        show_outcome(outcome.report, as_json=as_json, quiet=quiet)
    elif not outcome.error:
        when = f"not due before {to_text(outcome.due_at)}" if outcome.due_at else "never due"
        why = "no time left; still due" if outcome.due else when
        message = Message(
            f"{outcome.job}: {why}",
            level="info" if outcome.due or dry_run else "debug",
            event="out_of_time" if outcome.due else "not_due",
            job=outcome.job,
        )
        show_message(message, as_json=as_json, quiet=quiet, only_on_terminal=not dry_run)


def show_scheduled_outcomes(
    outcomes: Sequence[ScheduledOutcome],
    request: JobRequest,
    *,
    as_json: bool,
    listing: bool,
    duration_ms: int,
) -> None:
    """Print the outcome of all jobs on stdout: JSON, or the list of memories."""
    if as_json:
        show_document(
            {
                "job": "run",
                "dry_run": request.dry_run,
                "cutoff": to_text(request.now),
                "jobs": [outcome_document(outcome, listing=listing) for outcome in outcomes],
                "duration_ms": duration_ms,
            }
        )
    elif listing:
        for outcome in outcomes:
            if outcome.report and outcome.report.result:
                memories = outcome.report.result.tally.memories
                records = [{"job": outcome.job, **memory_row(memory)} for memory in memories]
                show_records(records, memory_ranks(records), Output("table", request.now))


def show_failures(outcomes: Sequence[ScheduledOutcome], *, as_json: bool) -> None:
    """Print the error of each job that failed, each error once."""
    alike: dict[str, list[tuple[str, MemctlError]]] = {}
    for outcome in outcomes:
        if outcome.failure:
            alike.setdefault(str(outcome.failure), []).append((outcome.job, outcome.failure))
    for failures in alike.values():
        show_error(failures[0][1], as_json=as_json, jobs=[job for job, _ in failures])


def outcome_document(outcome: ScheduledOutcome, *, listing: bool) -> dict[str, object]:
    """Return the outcome of one job in its JSON form."""
    if outcome.report:
        return {"job": outcome.job, "due": True, **job_document(outcome.report, listing=listing)}
    return {
        "job": outcome.job,
        "due": outcome.due,
        "due_at": to_text(outcome.due_at) if outcome.due_at else None,
        "error": error_document(outcome.error) if outcome.error else None,
    }
