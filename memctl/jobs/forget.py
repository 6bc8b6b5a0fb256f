"""Archive the memories that a client forgets: all of an agent, or those of one type.

It is not recorded in the ledger, and works while memctl is paused, as other statements of clients.
"""

from datetime import datetime

from memctl.jobs.engine import JobContext, JobRequest
from memctl.jobs.tally import JobTally
from memctl.storage.addresses import Address
from memctl.storage.engines import open_store


def forget_all(
    database: Address, agent: str, type: str | None, *, now: datetime, lock_wait: float
) -> JobTally:
    """Archive an agent's memories in batches; those that are held are left, and counted."""
    with open_store(database, lock_wait=lock_wait) as store:
        store.require_current()
        run = JobContext(store, JobRequest(database, now), batches=store.batches(max_seconds=None))
        return run.apply_in_batches(store.forgotten(agent, type, now=now), doing="archiving")
