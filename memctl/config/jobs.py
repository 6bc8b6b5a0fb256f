"""The table of scheduled jobs.

`memctl run`, `[run]` and `[check]` in the configuration, the checks and the advice read it.
"""

from typing import Literal, NamedTuple

Every = Literal["always", "daily", "weekly", "never"]

REPORT = "report"  # in the ledger, the job that writes the health report; [report] configures it
ReportEvery = Literal["daily", "weekly", "monthly", "never"]


class Job(NamedTuple):
    """One scheduled job."""

    name: str
    work: str  # its function, as `module:name`; it takes a JobContext, `policies` and `agent`
    policies: tuple[str, ...]  # the settings that its function takes, in order
    every: Every  # how often it is due by default
    overdue_days: int  # the check reports the job after this number of days without success
    summary: str  # in the configuration file


# In the order of a run: decay does not charge memories that cleanup archives, and prune, which
# deletes permanently, is last.
_TABLE = (
    Job(
        "cleanup",
        work="memctl.jobs.cleanup:cleanup",
        policies=("quota", "archive"),
        every="always",
        overdue_days=2,
        summary='archive expired memories: "always", "daily", "weekly" or "never"',
    ),
    Job(
        "decay",
        work="memctl.jobs.decay:decay",
        policies=("decay", "promote"),
        every="daily",
        overdue_days=2,
        summary="lower the importance of idle memories",
    ),
    Job(
        "promote",
        work="memctl.jobs.promote:promote",
        policies=("promote", "decay"),
        every="daily",
        overdue_days=8,
        summary="copy proven memories to the knowledge base",
    ),
    Job(
        "snapshot",
        work="memctl.jobs.snapshot:snapshot",
        policies=(),
        every="daily",
        overdue_days=2,
        summary="record the figures of the day",
    ),
    Job(
        "prune",
        work="memctl.jobs.prune:prune",
        policies=("prune",),
        every="weekly",
        overdue_days=15,
        summary="delete old memories from the archive",
    ),
)

JOBS = {job.name: job for job in _TABLE}

# Every job that a run in the ledger can have.
RECORDED = (
    *JOBS,
    REPORT,
    "archive",
    "restore",
    "import",
    "hold",
    "release",
    "redact",
    "erase",
    "compact",
)
