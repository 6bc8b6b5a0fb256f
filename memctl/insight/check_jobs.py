"""The findings about the ledger of runs and about the numbers of memories."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from memctl.config.jobs import REPORT
from memctl.config.policies import AlertPolicy, CheckPolicy
from memctl.insight.findings import Finding
from memctl.jobs.alerts import FAILURES_IN_A_ROW, FEW_MEMORIES, drop_alerts, growth_alerts
from memctl.jobs.watchdog import failures_besides, failures_in_a_row
from memctl.storage.rows import Pause, RunFilter, RunRecord
from memctl.storage.spool import Failure
from memctl.storage.sqlite.alerts import figures_before_today
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.ledger import clock_error, crashed_runs, list_runs
from memctl.storage.sqlite.pause import current_pause
from memctl.storage.sqlite.run_summaries import last_successes
from memctl.storage.times import parse_moment

LONG_PAUSE = timedelta(days=1)
DROPS_REMEMBERED = timedelta(days=7)
MOST_RUNS = 10_000


def find_in_jobs(
    db: Connection, path: Path, policy: CheckPolicy, *, now: datetime, spooled: Sequence[Failure]
) -> Iterator[Finding]:
    """Check when the jobs ran, and with which result; reads only."""
    if wrong_clock := clock_error(db, now=now):
        yield Finding("error", "clock", wrong_clock.message, wrong_clock.hint)
    if pause := current_pause(db, now=now):
        yield pause_finding(pause, now=now)
    successes = last_successes(db)
    for job, days in policy.overdue_days.items():
        if job in successes and now - successes[job].started_at > timedelta(days=days):
            yield overdue_finding(job, now - successes[job].started_at)
        yield from _find_failures(db, path, job, spooled)
    yield from _find_failures(db, path, REPORT, spooled)
    crashed = crashed_runs(db, path)
    for run in list_runs(db, RunFilter(status="crashed"), crashed=crashed, limit=MOST_RUNS):
        completed = run.job in successes and run.run_id < successes[run.job].run_id
        fix = f"mark run {run.run_id} as failed"
        yield crash_finding(run, completed=completed, fix=fix)


def _find_failures(
    db: Connection, path: Path, job: str, spooled: Sequence[Failure]
) -> Iterator[Finding]:
    in_ledger = failures_in_a_row(db, path, job)
    kept = failures_besides(in_ledger, spooled, job)
    failures = len(in_ledger) + len(kept)
    if not failures:
        return
    refused = (kept or in_ledger)[-1 if kept else 0].status == "refused"
    error = (kept[-1].error if kept else in_ledger[0].error) or "the process was killed"
    yield failures_finding(job, failures, refused=refused, error=error)


def pause_finding(pause: Pause, *, now: datetime) -> Finding:
    """Return the finding for a pause in force."""
    forgotten = pause.until is None and now - parse_moment(pause.since) > LONG_PAUSE
    return Finding(
        "warning" if forgotten else "info",
        "paused",
        f"jobs have been paused since {pause.since}: {pause.reason}",
        f"it ends at {pause.until}" if pause.until else "end the pause with `memctl resume`",
    )


def overdue_finding(job: str, idle: timedelta) -> Finding:
    """Return the finding for a job whose last success was long ago."""
    return Finding(
        "warning",
        "overdue",
        f"{job} has not succeeded for {idle.days} days",
        "check that it is scheduled, and that it can run",
    )


def failures_finding(job: str, failures: int, *, refused: bool, error: str) -> Finding:
    """Return the finding for a job that has failed since its last success."""
    times = "once" if failures == 1 else f"{failures} times in a row"
    return Finding(
        "error" if failures >= FAILURES_IN_A_ROW else "warning",
        "refused" if refused else "failing",
        f"{job} {'was refused' if refused else 'has failed'} {times}: {error}",
        "see `memctl runs`",
    )


def crash_finding(run: RunRecord, *, completed: bool, fix: str | None = None) -> Finding:
    """Return the finding for a run without an end; `completed`: a later one has done the rest."""
    return Finding(
        "info" if completed else "warning",
        "crashed",
        f"run {run.run_id} ({run.job}) of {run.started_at} did not finish",
        "its changes are kept" + ("" if completed else "; the next run makes the others"),
        fix=fix,
    )


def find_in_numbers(
    db: Connection, of_agents: Mapping[str, int], policy: AlertPolicy, *, now: datetime
) -> Iterator[Finding]:
    """Check for agents with too many memories, and for large decreases; reads only."""
    for alert in growth_alerts(of_agents, policy):
        yield Finding(
            "warning",
            "growth",
            alert.message,
            "check that the agent forgets memories or sets expiries",
        )
    memories = sum(of_agents.values())
    for alert in drop_alerts(memories, figures_before_today(db, now=now)):
        yield Finding("error", "drop", alert.message, "see `memctl runs` and `memctl events`")
    lately = RunFilter(status="ok", since=now - DROPS_REMEMBERED)
    for run in list_runs(db, lately, crashed=(), limit=MOST_RUNS):
        counts = run.counts if isinstance(run.counts, dict) else {}
        numbers = [counts.get(name) for name in ("archived", "over_quota")]
        archived = sum(number for number in numbers if isinstance(number, int))
        if archived > max(FEW_MEMORIES, memories):
            yield Finding(
                "info",
                "drop",
                f"run {run.run_id} ({run.job}) archived {archived} memories;"
                f" active memories left: {memories}",
                f"if this was unintended, run `memctl restore --run {run.run_id}`",
            )
