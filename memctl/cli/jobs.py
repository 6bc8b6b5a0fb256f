"""The scheduled jobs."""

from dataclasses import replace
from typing import Annotated

import typer

from memctl.cli.options import AgentOption, Call, JobOptions, finish
from memctl.jobs import perform
from memctl.timestamps import parse_duration


def cleanup(call: Call, job: JobOptions, agent: AgentOption = None) -> None:
    """Archive the memories that have expired."""
    from memctl.cleanup import cleanup as archive_expired

    report = perform("cleanup", lambda run: archive_expired(run, agent=agent), job.request(call))
    finish(report, call, job)


def decay(call: Call, job: JobOptions, agent: AgentOption = None) -> None:
    """Lower the importance of memories that nobody has read lately."""
    from memctl.decay import decay as charge_idle

    policy = call.settings.decay
    report = perform("decay", lambda run: charge_idle(run, policy, agent=agent), job.request(call))
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
    from memctl.prune import prune as remove_old

    policy = call.settings.prune
    if older_than is not None:
        policy = replace(policy, retention=parse_duration(older_than))
    report = perform("prune", lambda run: remove_old(run, policy, agent=agent), job.request(call))
    finish(report, call, job)
