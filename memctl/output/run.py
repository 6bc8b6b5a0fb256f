"""What `memctl run` prints of its jobs: each as it ends, and at the end the whole."""

from collections.abc import Sequence

from memctl.errors import MemctlError
from memctl.jobs.due import Turn
from memctl.jobs.engine import Request
from memctl.output.messages import Message
from memctl.output.results import memory_row, report_document, show_outcome
from memctl.output.tables import show_rows
from memctl.output.terminal import error_document, show_document, show_error, show_message
from memctl.storage.times import to_text


def show_turn(turn: Turn, *, as_json: bool, quiet: bool, dry_run: bool) -> None:
    """Print on stderr what became of one of the jobs of `memctl run`."""
    if turn.report:
        show_outcome(turn.report, as_json=as_json, quiet=quiet)
    elif not turn.error:
        when = f"before {to_text(turn.due_at)}" if turn.due_at else "ever"
        why = "no time left for it; it is still due" if turn.due else f"not due {when}"
        message = Message(
            f"{turn.job}: {why}",
            level="info" if turn.due or dry_run else "debug",
            event="out_of_time" if turn.due else "not_due",
            job=turn.job,
        )
        show_message(message, as_json=as_json, quiet=quiet, only_on_terminal=not dry_run)


def show_turns(
    turns: Sequence[Turn], request: Request, *, as_json: bool, listing: bool, duration_ms: int
) -> None:
    """Print what became of all jobs: JSON, or the list of memories."""
    if as_json:
        show_document(
            {
                "job": "run",
                "dry_run": request.dry_run,
                "cutoff": to_text(request.now),
                "jobs": [turn_document(turn, listing=listing) for turn in turns],
                "duration_ms": duration_ms,
            }
        )
    elif listing:
        for turn in turns:
            if turn.report and turn.report.result:
                memories = turn.report.result.tally.memories
                show_rows(({"job": turn.job, **memory_row(memory)} for memory in memories), "table")


def show_failures(turns: Sequence[Turn], *, as_json: bool) -> None:
    """Print why jobs were not done, each reason once."""
    alike: dict[str, list[tuple[str, MemctlError]]] = {}
    for turn in turns:
        if turn.failure:
            alike.setdefault(str(turn.failure), []).append((turn.job, turn.failure))
    for failures in alike.values():
        show_error(failures[0][1], as_json=as_json, jobs=[job for job, _ in failures])


def turn_document(turn: Turn, *, listing: bool) -> dict[str, object]:
    """Return the JSON form of what became of one job."""
    if turn.report:
        return {"job": turn.job, "due": True, **report_document(turn.report, listing=listing)}
    return {
        "job": turn.job,
        "due": turn.due,
        "due_at": to_text(turn.due_at) if turn.due_at else None,
        "error": error_document(turn.error) if turn.error else None,
    }
