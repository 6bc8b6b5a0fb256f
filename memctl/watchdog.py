"""What follows every run, so that somebody learns how it ended: alerts, the spool, the bridge.

It comes after the work and never fails it. A run that went well pays for two look-ups; once an
hour it also counts the memories of every agent.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from memctl import __version__
from memctl.alerts import (
    FEW_MEMORIES,
    Alert,
    AlertPolicy,
    clock_alerts,
    count_memories,
    drop_alerts,
    failure_alerts,
    growth_alerts,
    memories_at_last_snapshot,
    raised_conditions,
    remember_alert,
    settle_alerts,
)
from memctl.database import open_database, transaction
from memctl.errors import MemctlError, RefusedError
from memctl.ledger import record_failure
from memctl.runs import Identity, RunFilter, RunRecord, crashed_runs, list_runs
from memctl.spool import Failure, RaisedAlert, opened_spool
from memctl.timestamps import parse_moment, to_text

MOST_FAILURES = 1000  # so far back a row of failures is counted


class Watch(NamedTuple):
    """How runs are watched over."""

    alerts: AlertPolicy = AlertPolicy()
    deliver: Callable[[Alert], object] = lambda _alert: None
    spool: Path | None = None  # for failures that the database cannot be told of
    service_events: bool = False  # a row for each run in the service's own table


def failures_in_a_row(db: Connection, database: Path, job: str) -> list[RunRecord]:
    """Return the failures and crashes of a job since it last did not fail, the newest first."""
    crashed = crashed_runs(db, database)
    runs = list_runs(db, RunFilter(job=job), crashed=crashed, limit=MOST_FAILURES)
    ended = (run for run in runs if run.status != "running")
    return list(takewhile(lambda run: run.status in ("failed", "crashed"), ended))


def failures_besides(
    recorded: Iterable[RunRecord], spooled: Iterable[Failure], job: str
) -> list[Failure]:
    """Return the failures of a job in the spool that are not among those that the ledger has."""
    known = {run.identity for run in recorded}
    return [one for one in spooled if one.job == job and one.identity not in known]


def after_run(
    db: Connection,
    database: Path,
    watch: Watch,
    *,
    now: datetime,
    by_hand: bool,
    wrong_clock: RefusedError | None = None,
) -> list[Alert]:
    """Look at the run that is just over, and at the memories if it is time; returns new alerts.

    The caller holds memctl's lock. What a person does by hand may fail without an alert.
    """
    (run,) = list_runs(db, RunFilter(), crashed=(), limit=1)
    if watch.service_events:
        from memctl.bridge import tell_service

        with suppress(sqlite3.Error):  # the check tells what is in its way
            tell_service(db, run)
    found: list[Alert] = []
    examined: list[str] = []
    if not by_hand:
        examined += [f"failures:{run.job}", "clock"]
        found += clock_alerts(wrong_clock)
        if run.status == "failed":
            failures = len(failures_in_a_row(db, database, run.job))
            found += failure_alerts(run.job, failures, str(run.error))
    archived = run.counts.get("archived") if isinstance(run.counts, dict) else None
    archived = archived if isinstance(archived, int) else 0
    if run.status != "failed" and (archived > FEW_MEMORIES or _is_first_of_the_hour(db, run)):
        examined += ["growth:", "drop"]
        memories = count_memories(db)
        left = sum(memories.values())
        found += growth_alerts(memories, watch.alerts)
        found += drop_alerts(left, max(left + archived, memories_at_last_snapshot(db, now=now)))
    return settle_alerts(db, found, examined=examined, now=now, run_id=run.run_id)


def _is_first_of_the_hour(db: Connection, run: RunRecord) -> bool:
    """Tell whether no run has gone well before in the same hour of the clock."""
    earlier = db.execute(
        "SELECT started_at FROM memory_runs WHERE status = 'ok' AND run_id < ?"
        " ORDER BY run_id DESC LIMIT 1",
        (run.run_id,),
    ).fetchone()
    hour = len("2026-11-22T09")
    return earlier is None or earlier[0][:hour] != run.started_at[:hour]


def keep_failure(
    job: str, database: Path, error: Exception, watch: Watch, *, now: datetime
) -> list[Alert]:
    """Keep a failure that the database could not be told of; returns new alerts.

    Where not even the spool can be written, what the command says on stderr is all there is.
    """
    if watch.spool is None:
        return []
    failure = Failure(job, to_text(now), os.uname().nodename, os.getpid(), str(error), __version__)
    known, raised = _what_the_database_knows(job, database)
    with suppress(OSError), opened_spool(watch.spool, create=True) as spool:
        spool.add(failure)
        entries = spool.read()
        kept = failures_besides(known, [one for one in entries if isinstance(one, Failure)], job)
        raised |= {entry.condition for entry in entries if isinstance(entry, RaisedAlert)}
        new = [
            alert
            for alert in failure_alerts(job, len(known) + len(kept), failure.error)
            if alert.condition not in raised
        ]
        for alert in new:
            spool.add(RaisedAlert(alert.condition, alert.message, alert.figures, to_text(now)))
        return new
    return []


def _what_the_database_knows(job: str, database: Path) -> tuple[list[RunRecord], set[str]]:
    """Return the failures in a row and the raised conditions, as far as they can be read."""
    with (
        suppress(MemctlError, sqlite3.Error),
        open_database(database, read_only=True, lock_wait=0) as db,
    ):
        return failures_in_a_row(db, database, job), raised_conditions(db)
    return [], set()


def take_in_spool(db: Connection, watch: Watch) -> None:
    """Move what the spool holds into the database. The caller holds memctl's lock.

    It can be repeated: what is known already is not recorded again.
    """
    if watch.spool is None:
        return
    with suppress(OSError), opened_spool(watch.spool, create=False) as spool:
        entries = spool.read()
        failures = [entry for entry in entries if isinstance(entry, Failure)]
        known = _runs_since(db, min((failure.started_at for failure in failures), default=None))
        with transaction(db):
            for failure in failures:
                run = known.get(failure.identity)
                if run is None or run.status == "running":
                    record_failure(db, failure, run_id=run and run.run_id)
            for entry in entries:
                if isinstance(entry, RaisedAlert):
                    alert = Alert(entry.condition, entry.message, entry.figures)
                    remember_alert(db, alert, raised_at=entry.raised_at, run_id=None)
        spool.remove()


def _runs_since(db: Connection, moment: str | None) -> dict[Identity, RunRecord]:
    if moment is None:
        return {}
    which = RunFilter(since=parse_moment(moment))
    return {run.identity: run for run in list_runs(db, which, crashed=(), limit=-1)}
