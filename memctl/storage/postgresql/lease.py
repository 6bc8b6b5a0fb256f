"""The lease, in place of a lock file: of the memctl processes on all machines, one runs jobs.

It ends by the server's clock. Each batch renews it in its own transaction, which fails if another
process has taken it. No change depends on it: each batch checks its rows again under their locks.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg

from memctl.errors import LeasedError, LockedError, MemctlError
from memctl.storage.addresses import ServerAddress
from memctl.storage.postgresql.database import Database, open_database

LEASE_SECONDS = 30  # longer than any single query of a job should take, and than --lock-wait
RENEW_AFTER = 3  # seconds, in a phase without batches
POLL_SECONDS = 0.25

# Only if it is free, or its holder is known to be dead.
TAKE = """
    INSERT INTO memory_leases (name, token, job, host, pid, held_until, last_event_id)
    VALUES (
        'memctl', %(token)s, %(job)s, %(host)s, %(pid)s,
        clock_timestamp() + %(seconds)s * interval '1 second', 0
    )
    ON CONFLICT (name) DO UPDATE
    SET token = excluded.token, job = excluded.job, host = excluded.host, pid = excluded.pid,
        held_until = excluded.held_until
    WHERE memory_leases.held_until < clock_timestamp() OR memory_leases.token = %(dead)s
    RETURNING token
"""

HOLDER = """
    SELECT token::text, job, host, pid FROM memory_leases
    WHERE name = 'memctl' AND held_until >= clock_timestamp()
"""

RENEW = """
    UPDATE memory_leases
    SET held_until = clock_timestamp() + %(seconds)s * interval '1 second',
        last_event_id = last_event_id + %(events)s
    WHERE name = 'memctl' AND token = %(token)s
    RETURNING last_event_id
"""

RELEASE = """
    UPDATE memory_leases SET held_until = '-infinity'
    WHERE name = 'memctl' AND token = %(token)s
"""


class Holder(NamedTuple):
    """The process that holds the lease."""

    token: str
    job: str
    host: str
    pid: int

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to have ended: it ran on this machine."""
        if self.host != os.uname().nodename:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False


class Lease:
    """A lease that this process has taken."""

    def __init__(self) -> None:
        self.token = str(uuid4())
        self._renewed = time.monotonic()

    def renew(self, db: Database, *, events: int = 0) -> int:
        """Renew it, and return the last of as many numbers for events; must be in a transaction.

        The row stays locked until the end of the transaction, so that no other process can take
        the lease before. Raises LockedError if one has.
        """
        last = db.value(RENEW, {"token": self.token, "seconds": LEASE_SECONDS, "events": events})
        if last is None:
            raise LockedError(
                "another memctl process has taken over, because this one did not answer for"
                f" {LEASE_SECONDS} seconds",
                "finished batches are kept; run the command again to complete it",
            )
        self._renewed = time.monotonic()
        return int(last)

    def keep(self, db: Database) -> None:
        """Renew it if that is due; to be called from time to time while no batches are applied."""
        if time.monotonic() > self._renewed + RENEW_AFTER:
            db.transaction(lambda: self.renew(db))


@contextmanager
def exclusive(address: ServerAddress, *, job: str, wait: float) -> Iterator[Lease]:
    """Hold the lease during the block.

    Raises LeasedError if another process still holds it after `wait` seconds.
    """
    lease = Lease()
    with open_database(address) as db:
        _take(db, lease, job, wait)
    try:
        yield lease
    finally:
        with suppress(psycopg.Error, MemctlError), open_database(address) as db:
            db.execute(RELEASE, {"token": lease.token})


def _take(db: Database, lease: Lease, job: str, wait: float) -> None:
    deadline = time.monotonic() + wait
    parameters: dict[str, Any] = {
        "token": lease.token,
        "job": job,
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "seconds": LEASE_SECONDS,
        "dead": None,
    }
    while True:
        holder = present_holder(db)  # without a lock, which would hold up the holder's batches
        if holder is None or holder.is_dead:
            parameters["dead"] = holder and holder.token
            with suppress(psycopg.errors.LockNotAvailable):
                if db.transaction(lambda: db.value(TAKE, parameters)):
                    return
        if time.monotonic() >= deadline:
            who = f"{holder.job} (process {holder.pid} on {holder.host})" if holder else "unknown"
            raise LeasedError(
                f"another memctl process is using this database: {who}",
                f"waited {wait:g} s; try again, or increase --lock-wait",
            )
        time.sleep(POLL_SECONDS)


def present_holder(db: Database) -> Holder | None:
    """Return the process that holds the lease now, or None."""
    row = db.row(HOLDER)
    return Holder(*row) if row else None
