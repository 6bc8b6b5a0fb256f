"""Commands for the scheduled jobs: run, cleanup, decay, prune, promote, snapshot."""

import time
from dataclasses import replace
from typing import Annotated

import typer

from memctl.cli.options import AgentOption, ChangeOptions, GlobalOptions, JobOptions
from memctl.cli.session import job_request, run_job, show_warning, shown_progress
from memctl.errors import MemctlError, explained
from memctl.jobs.due import ScheduledJob, exit_failure, job_work, run_due_jobs
from memctl.jobs.programs import is_run_by_memctl
from memctl.storage.times import parse_duration


def run(call: GlobalOptions, job: JobOptions) -> None:
    """Run all jobs that are due; this is the command to schedule.

    The ledger records when each job last ran; [run] in the configuration sets how often it is due.
    """
    url = None if job.dry_run or is_run_by_memctl() else call.settings.heartbeat_url
    try:
        is_ours = _run(call, job)
    except Exception:  # not a signal, which must end the command at once
        _send_heartbeat(url, failed=True)
        raise
    if is_ours:
        _send_heartbeat(url, failed=False)


def _run(call: GlobalOptions, job: JobOptions) -> bool:
    """Run all jobs that are due, and print what they did.

    Returns false if another process did so instead; then there is nothing to report.
    """
    from memctl.output.run import show_failures, show_scheduled_outcome, show_scheduled_outcomes

    clock = time.monotonic()
    outcomes = []
    with shown_progress(call, "run") as progress:
        request = job_request(call, job, progress=progress)
        for outcome in run_due_jobs(call.settings, request, _report_job(call)):
            show_scheduled_outcome(
                outcome, as_json=call.json, quiet=call.quiet, dry_run=job.dry_run
            )
            outcomes.append(outcome)
    duration_ms = round((time.monotonic() - clock) * 1000)
    show_scheduled_outcomes(
        outcomes, request, as_json=call.json, listing=job.listing, duration_ms=duration_ms
    )
    show_failures(outcomes, as_json=call.json)
    for outcome in outcomes:
        if outcome.bug:
            raise outcome.bug
    if failures := [outcome.failure for outcome in outcomes if outcome.failure]:
        raise typer.Exit(exit_failure(failures).exit_code)
    return bool(outcomes)


def _report_job(call: GlobalOptions) -> list[ScheduledJob]:
    """Return the job that writes the health report, if it is configured."""
    if call.settings.report.every == "never":
        return []
    from memctl.cli.report import report_job

    return [report_job(call)]


def _send_heartbeat(url: str | None, *, failed: bool) -> None:
    """Send a heartbeat, if one is configured; a failure is only a warning."""
    if url is None:
        return
    try:
        from memctl.jobs.heartbeat import send_heartbeat

        send_heartbeat(url, failed=failed)
    except (MemctlError, OSError, MemoryError) as error:  # the import can lack memory or files
        show_warning(explained(error))


def cleanup(call: GlobalOptions, job: JobOptions, agent: AgentOption = None) -> None:
    """Archive expired memories.

    Then the least valuable memories of agents beyond their [quota] in the configuration are
    archived, and replaced versions beyond [archive] keep_versions are deleted.
    """
    _perform("cleanup", call, job, agent=agent)


def decay(call: GlobalOptions, job: JobOptions, agent: AgentOption = None) -> None:
    """Lower the importance of memories that have not been read recently."""
    _perform("decay", call, job, agent=agent)


def prune(
    call: GlobalOptions,
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
    work = job_work("prune", call.settings, policies=[policy], agent=agent)
    run_job("prune", work, call, job, partial=partial)


def promote(call: GlobalOptions, job: JobOptions, agent: AgentOption = None) -> None:
    """Promote proven memories to the knowledge base.

    --list also prints the memories that are not candidates, with the reason.
    """
    _perform("promote", call, job, agent=agent)


def snapshot(call: GlobalOptions, job: ChangeOptions) -> None:
    """Record today's figures for each agent, for `metrics --history` and `report`."""
    run_job("snapshot", job_work("snapshot", call.settings), call, job)


def _perform(name: str, call: GlobalOptions, job: JobOptions, *, agent: str | None) -> None:
    """Run a scheduled job for one agent, or for all of them."""
    work = job_work(name, call.settings, agent=agent)
    run_job(name, work, call, job, partial=agent is not None)
