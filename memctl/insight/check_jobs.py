"""What the check finds in the ledger and in the numbers of memories."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from sqlite3 import Connection

from memctl.config.policies import AlertPolicy, CheckPolicy
from memctl.insight.findings import Finding
from memctl.jobs.alerts import (
    FAILURES_IN_A_ROW,
    FEW_MEMORIES,
    drop_alerts,
    growth_alerts,
)
from memctl.jobs.watchdog import failures_besides, failures_in_a_row
from memctl.storage.rows import RunFilter
from memctl.storage.spool import Failure
from memctl.storage.sqlite.alerts import figures_before_today
from memctl.storage.sqlite.ledger import clock_error, crashed_runs, list_runs
from memctl.storage.sqlite.pause import current_pause
from memctl.storage.times import parse_moment

LONG_PAUSE = timedelta(days=1)
DROPS_REMEMBERED = timedelta(days=7)
MOST_RUNS = 10_000

# The time is that of the newest run, not the latest one: a clock may have been ahead.
LAST_SUCCESSES = """
    SELECT job, max(run_id), started_at FROM memory_runs WHERE status = 'ok' GROUP BY job
"""


def find_in_jobs(
    db: Connection,
    path: Path,
    policy: CheckPolicy,
    *,
    now: datetime,
    spooled: Sequence[Failure],
) -> Iterator[Finding]:
    """Look at how the jobs went, and when; reads only."""
    if wrong_clock := clock_error(db, now=now):
        yield Finding("error", "clock", wrong_clock.message, wrong_clock.hint)
    pause = current_pause(db, now=now)
    if pause:
        forgotten = pause.until is None and now - parse_moment(pause.since) > LONG_PAUSE
        yield Finding(
            "warning" if forgotten else "info",
            "paused",
            f"the jobs are paused since {pause.since}: {pause.reason}",
            "end it with `memctl resume`" if not pause.until else f"it ends at {pause.until}",
        )
    successes = {
        job: (run_id, parse_moment(started_at))
        for job, run_id, started_at in db.execute(LAST_SUCCESSES)
    }
    for job, days in policy.overdue_days.items():
        if job in successes and now - successes[job][1] > timedelta(days=days):
            yield Finding(
                "warning",
                "overdue",
                f"{job} has not succeeded for {(now - successes[job][1]).days} days",
                "is it still scheduled, and allowed to run?",
            )
        yield from _find_failures(db, path, job, spooled)
    crashed = crashed_runs(db, path)
    for run in list_runs(db, RunFilter(status="crashed"), crashed=crashed, limit=MOST_RUNS):
        made_up = run.job in successes and run.run_id < successes[run.job][0]
        yield Finding(
            "info" if made_up else "warning",
            "crashed",
            f"run {run.run_id} ({run.job}) of {run.started_at} never ended",
            "what it had done is done" + ("" if made_up else "; the next run does the rest"),
            fix=f"mark run {run.run_id} as failed",
        )


def _find_failures(
    db: Connection, path: Path, job: str, spooled: Sequence[Failure]
) -> Iterator[Finding]:
    in_ledger = failures_in_a_row(db, path, job)
    kept = failures_besides(in_ledger, spooled, job)
    failures = len(in_ledger) + len(kept)
    if not failures:
        return
    refused = (kept or in_ledger)[-1 if kept else 0].status == "refused"
    last = kept[-1].error if kept else in_ledger[0].error
    times = "once" if failures == 1 else f"{failures} times in a row"
    yield Finding(
        "error" if failures >= FAILURES_IN_A_ROW else "warning",
        "refused" if refused else "failing",
        f"{job} {'was refused' if refused else 'has failed'} {times}: {last or 'it was killed'}",
        "see `memctl runs`",
    )


def find_in_numbers(
    db: Connection, of_agents: Mapping[str, int], policy: AlertPolicy, *, now: datetime
) -> Iterator[Finding]:
    """Look for too many memories of one agent, and for many that are gone; reads only."""
    for alert in growth_alerts(of_agents, policy):
        yield Finding(
            "warning",
            "growth",
            alert.message,
            "does it forget what it no longer needs, or set expiries?",
        )
    memories = sum(of_agents.values())
    for alert in drop_alerts(memories, figures_before_today(db, now=now)):
        yield Finding("error", "drop", alert.message, "see `memctl runs` and `memctl events`")
    lately = RunFilter(status="ok", since=now - DROPS_REMEMBERED)
    for run in list_runs(db, lately, crashed=(), limit=MOST_RUNS):
        archived = run.counts.get("archived") if isinstance(run.counts, dict) else None
        if isinstance(archived, int) and archived > max(FEW_MEMORIES, memories):
            yield Finding(
                "info",
                "drop",
                f"run {run.run_id} ({run.job}) archived {archived} memories,"
                f" and {memories} are left",
                f"if it was not meant: `memctl restore --run {run.run_id}`",
            )
