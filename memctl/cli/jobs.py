"""The scheduled jobs."""

import time
from dataclasses import replace
from typing import Annotated

import typer

from memctl.cli.options import AgentOption, Call, ChangeOptions, JobOptions, finish
from memctl.jobs.due import job_work, run_due_jobs, worst
from memctl.jobs.engine import perform
from memctl.storage.times import parse_duration


def run(call: Call, job: JobOptions) -> None:
    """Run all jobs that are due; this is the command to schedule.

    The ledger records when each job last ran; [run] in the configuration sets how often it is due.
    """
    from memctl.output.run import show_failures, show_turn, show_turns

    clock = time.monotonic()
    request = job.request(call)
    turns = []
    for turn in run_due_jobs(call.settings, request):
        show_turn(turn, as_json=call.json, quiet=call.quiet, dry_run=job.dry_run)
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
    """Archive expired memories."""
    _perform("cleanup", call, job, agent=agent)


def decay(call: Call, job: JobOptions, agent: AgentOption = None) -> None:
    """Lower the importance of memories that have not been read recently."""
    _perform("decay", call, job, agent=agent)


def prune(
    call: Call,
    job: JobOptions,
    agent: AgentOption = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Retention to apply instead of the general one, such as 30d."
        ),
    ] = None,
) -> None:
    """Permanently delete old, unimportant memories from the archive."""
    policy = call.settings.prune
    if older_than is not None:
        policy = replace(policy, retention=parse_duration(older_than))
    partial = agent is not None or older_than is not None
    report = perform(
        "prune",
        job_work("prune", call.settings, policies=[policy], agent=agent),
        job.request(call, partial=partial),
    )
    finish(report, call, job)


def promote(call: Call, job: JobOptions, agent: AgentOption = None) -> None:
    """Promote proven memories to the knowledge base.

    --list also prints the memories that are not candidates, with the reason.
    """
    _perform("promote", call, job, agent=agent)


def snapshot(call: Call, job: ChangeOptions) -> None:
    """Record today's figures for each agent, for `metrics --history` and `report`."""
    finish(perform("snapshot", job_work("snapshot", call.settings), job.request(call)), call, job)


def _perform(name: str, call: Call, job: JobOptions, *, agent: str | None) -> None:
    """Run a scheduled job for one agent, or for all of them."""
    work = job_work(name, call.settings, agent=agent)
    finish(perform(name, work, job.request(call, partial=agent is not None)), call, job)
