"""The scheduled jobs."""

import time
from dataclasses import replace
from typing import Annotated

import typer

from memctl.cli.options import AgentOption, Call, ChangeOptions, JobOptions, finish
from memctl.jobs.engine import perform
from memctl.storage.times import parse_duration


def run(call: Call, job: JobOptions) -> None:
    """Run the jobs that are due, each on its own; what one line in crontab calls.

    The ledger tells when each was last done, and [run] in the configuration how often it is due.
    """
    from memctl.jobs.due import run_due_jobs, worst
    from memctl.output.run import show_failures, show_turns, tell_turn

    clock = time.monotonic()
    request = job.request(call)
    turns = []
    for turn in run_due_jobs(call.settings, request):
        tell_turn(turn, as_json=call.json, quiet=call.quiet, dry_run=job.dry_run)
        turns.append(turn)
    duration_ms = round((time.monotonic() - clock) * 1000)
    show_turns(turns, request, as_json=call.json, listing=job.listing, duration_ms=duration_ms)
    show_failures(turns, as_json=call.json)
    for turn in turns:
        if turn.bug:
            raise turn.bug
    if failures := [turn.failure for turn in turns if turn.failure]:
        raise typer.Exit(worst(failures).exit_code)


def cleanup(call: Call, job: JobOptions, agent: AgentOption = None) -> None:
    """Archive the memories that have expired."""
    from memctl.jobs.cleanup import cleanup as archive_expired

    request = job.request(call, partial=agent is not None)
    report = perform("cleanup", lambda run: archive_expired(run, agent=agent), request)
    finish(report, call, job)


def decay(call: Call, job: JobOptions, agent: AgentOption = None) -> None:
    """Lower the importance of memories that nobody has read lately."""
    from memctl.jobs.candidates import decay_with_notes

    policy, promotion = call.settings.decay, call.settings.promote
    request = job.request(call, partial=agent is not None)
    report = perform(
        "decay", lambda run: decay_with_notes(run, policy, promotion, agent=agent), request
    )
    finish(report, call, job)


def prune(
    call: Call,
    job: JobOptions,
    agent: AgentOption = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Such as 30d, in place of the general retention."),
    ] = None,
) -> None:
    """Remove old, unimportant memories from the archive for good."""
    from memctl.jobs.prune import prune as remove_old

    policy = call.settings.prune
    if older_than is not None:
        policy = replace(policy, retention=parse_duration(older_than))
    request = job.request(call, partial=agent is not None or older_than is not None)
    report = perform("prune", lambda run: remove_old(run, policy, agent=agent), request)
    finish(report, call, job)


def promote(call: Call, job: JobOptions, agent: AgentOption = None) -> None:
    """Bring what memories have proved to be worth knowing into the knowledge base.

    With --list also those are printed that are no candidates, and why not.
    """
    from memctl.jobs.promote import promote as promote_proven

    policy, decay_policy = call.settings.promote, call.settings.decay
    request = job.request(call, partial=agent is not None)
    report = perform(
        "promote", lambda run: promote_proven(run, policy, decay_policy, agent=agent), request
    )
    finish(report, call, job)


def snapshot(call: Call, job: ChangeOptions) -> None:
    """Keep the figures of the day, of every agent, for `metrics --history` and `report`."""
    from memctl.jobs.snapshot import snapshot as keep_figures

    finish(perform("snapshot", keep_figures, job.request(call)), call, job)
