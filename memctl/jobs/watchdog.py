"""What follows each run to report how it ended: alerts, the spool, and the service's events.

This happens after the work and never makes a run fail. It takes a few queries, and once an hour a
count of the memories of each agent.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from memctl import __version__
from memctl.config.policies import AlertPolicy
from memctl.errors import MemctlError, RefusedError
from memctl.jobs.alerts import (
    FAILURES_IN_A_ROW,
    clock_alerts,
    drop_alerts,
    failure_alerts,
    growth_alerts,
    update_alerts,
)
from memctl.jobs.programs import PROGRAM_SECONDS
from memctl.storage.rows import RunFilter, RunIdentity, RunRecord
from memctl.storage.spool import (
    DeliveredAlert,
    Failure,
    FailureStatus,
    RaisedAlert,
    SpoolEntry,
    delivery_lock,
    opened_spool,
)
from memctl.storage.sqlite.alerts import (
    Alert,
    Undelivered,
    any_undelivered,
    claim_undelivered,
    count_memories,
    figures_before_today,
    mark_delivered,
    raise_alert,
    raised_conditions,
)
from memctl.storage.sqlite.database import Connection, StorageError, open_database, transaction
from memctl.storage.sqlite.ledger import crashed_runs, last_success, list_runs, record_failure
from memctl.storage.sqlite.locking import exclusive
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.times import parse_moment, to_text

MOST_FAILURES = 1000  # that are counted in a row


class Watch(NamedTuple):
    """How the outcome of runs is reported.

    `deliver` delivers an alert within some seconds and returns whether it succeeded; without it,
    alerts wait for a run that can deliver them.
    """

    alerts: AlertPolicy = AlertPolicy()
    deliver: Callable[[Undelivered, float], bool] | None = None
    spool: Path | None = None  # for failures that cannot be recorded in the database
    service_events: bool = False  # add a row for each run to the service's own table


def failures_in_a_row(db: Connection, database: Path, job: str) -> list[RunRecord]:
    """Return the failed, crashed and refused runs of a job since its last success, newest first."""
    crashed = crashed_runs(db, database)
    runs = list_runs(db, RunFilter(job=job), crashed=crashed, limit=MOST_FAILURES)
    ended = (run for run in runs if run.status != "running")
    return list(takewhile(lambda run: run.status != "ok", ended))


def failures_besides(
    recorded: Iterable[RunRecord], spooled: Iterable[Failure], job: str
) -> list[Failure]:
    """Return the failures of a job in the spool that are not in the ledger."""
    known = {run.identity for run in recorded}
    return [one for one in spooled if one.job == job and one.identity not in known]


def after_run(
    db: Connection,
    database: Path,
    watch: Watch,
    *,
    now: datetime,
    by_hand: bool,
    wrong_clock: RefusedError | None,
    held_up: bool,
) -> bool:
    """Raise and clear alerts after a run, for which the caller still holds memctl's lock.

    A failure `by_hand` raises no alert; a run that is `held_up` until a person decides raises one
    at once. Returns whether an alert waits for delivery.
    """
    (run,) = list_runs(db, RunFilter(), crashed=(), limit=1)
    if watch.service_events:
        from memctl.storage.sqlite.service_events import record_run_for_service

        with suppress(StorageError):  # `memctl check` reports the obstacle
            record_run_for_service(db, run)
    found: list[Alert] = []
    examined: list[str] = []
    if not by_hand:
        examined += [f"failures:{run.job}", "clock"]
        found += clock_alerts(wrong_clock)
        if run.status != "ok":
            failures = len(failures_in_a_row(db, database, run.job))
            enough = 1 if held_up else FAILURES_IN_A_ROW
            found += failure_alerts(
                run.job, failures, str(run.error), refused=run.status == "refused", enough=enough
            )
    if run.status != "failed" and _is_first_of_the_hour(db, run):
        examined += ["growth:", "drop"]
        memories = count_memories(db)
        found += growth_alerts(memories, watch.alerts)
        found += drop_alerts(sum(memories.values()), figures_before_today(db, now=now))
    update_alerts(db, found, examined=examined, now=now, run_id=run.run_id)
    return any_undelivered(db)


def _is_first_of_the_hour(db: Connection, run: RunRecord) -> bool:
    """Return whether no earlier run has succeeded in the same hour of the clock."""
    earlier = last_success(db, before=run.run_id)
    hour = len("2026-11-22T09")
    return earlier is None or earlier[:hour] != run.started_at[:hour]


def keep_failure(
    job: str,
    database: Path,
    error: Exception,
    watch: Watch,
    *,
    now: datetime,
    status: FailureStatus,
) -> None:
    """Record a run that failed or was refused before it was in the ledger.

    It is added to the spool, which is moved to the database at once if possible. If the spool is
    not writable either, the message on stderr is the only record.
    """
    if watch.spool is None:
        return
    host, version = os.uname().nodename, __version__
    failure = Failure(job, to_text(now), host, os.getpid(), str(error), version, status)
    known, raised = _recorded_failures(job, database)
    with suppress(OSError), opened_spool(watch.spool, create=True) as spool:
        spool.add(failure)
        entries = spool.read()
        kept = failures_besides(known, [one for one in entries if isinstance(one, Failure)], job)
        raised |= {entry.condition for entry in entries if isinstance(entry, RaisedAlert)}
        failures = len(known) + len(kept)
        for alert in failure_alerts(job, failures, failure.error, refused=status == "refused"):
            if alert.condition not in raised:
                spool.add(RaisedAlert(alert.condition, alert.message, alert.figures, to_text(now)))
    with (
        suppress(MemctlError, StorageError),
        open_database(database, lock_wait=0) as db,
        exclusive(database, job=job, wait=0),
    ):
        require_current(db)
        take_in_spool(db, watch)


def _recorded_failures(job: str, database: Path) -> tuple[list[RunRecord], set[str]]:
    """Return the failures in a row and the raised conditions; empty if they cannot be read."""
    with (
        suppress(MemctlError, StorageError),
        open_database(database, read_only=True, lock_wait=0) as db,
    ):
        return failures_in_a_row(db, database, job), raised_conditions(db)
    return [], set()


def take_in_spool(db: Connection, watch: Watch) -> None:
    """Move the content of the spool to the database, for which the caller holds memctl's lock.

    Can be repeated: entries that are already recorded are skipped.
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
                    raise_alert(db, alert, raised_at=entry.raised_at, run_id=None)
                elif isinstance(entry, DeliveredAlert):
                    mark_delivered(db, entry.condition)
        spool.remove()


def _runs_since(db: Connection, moment: str | None) -> dict[RunIdentity, RunRecord]:
    if moment is None:
        return {}
    which = RunFilter(since=parse_moment(moment))
    return {run.identity: run for run in list_runs(db, which, crashed=(), limit=-1)}


def deliver_alerts(database: Path, watch: Watch) -> None:
    """Deliver the waiting alerts, until one fails or ten seconds have passed.

    The others wait for the next run. The caller must not hold a lock, because the command may be
    slow.
    """
    if watch.deliver is None:
        return
    deadline = time.monotonic() + PROGRAM_SECONDS

    def deliver(alert: Undelivered) -> bool:
        left = deadline - time.monotonic()
        return left > 0 and watch.deliver is not None and watch.deliver(alert, left)

    with delivery_lock(watch.spool) as alone, suppress(MemctlError, StorageError):
        if alone and _deliver_spooled(watch.spool, deliver):
            with open_database(database, lock_wait=1) as db:
                while waiting := claim_undelivered(db):
                    if not deliver(waiting):
                        break
                    mark_delivered(db, waiting.alert.condition)


def _deliver_spooled(path: Path | None, deliver: Callable[[Undelivered], bool]) -> bool:
    """Deliver the alerts in the spool and return whether all succeeded."""
    entries: list[SpoolEntry] = []
    if path is not None:
        with suppress(OSError), opened_spool(path, create=False) as spool:
            entries = spool.read()
    delivered = {entry.condition for entry in entries if isinstance(entry, DeliveredAlert)}
    for entry in entries:
        if not isinstance(entry, RaisedAlert) or entry.condition in delivered:
            continue
        alert = Alert(entry.condition, entry.message, entry.figures)
        if path is None or not deliver(Undelivered(alert, entry.raised_at)):
            return False
        with suppress(OSError), opened_spool(path, create=True) as spool:
            spool.add(DeliveredAlert(entry.condition))
    return True
