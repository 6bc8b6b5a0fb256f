"""The findings about quotas that cleanup does not enforce."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from memctl.config.policies import CheckPolicy, QuotaPolicy
from memctl.errors import counted
from memctl.insight.findings import Finding
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.quota import QuotaUsage, agents_beyond_quota
from memctl.storage.sqlite.run_summaries import last_successes


def find_in_quotas(
    db: Connection, quota: QuotaPolicy, policy: CheckPolicy, *, now: datetime
) -> Iterator[Finding]:
    """Check for agents that stay beyond their quota; reads all memories of agents with a quota."""
    if not quota.is_limited:
        return
    beyond = agents_beyond_quota(db, quota, now=now)
    last = last_successes(db).get("cleanup")
    overdue = timedelta(days=policy.overdue_days["cleanup"])
    if beyond and (last is None or now - last.started_at > overdue):
        yield Finding(
            "warning",
            "over_quota",
            f"agents beyond their quota: {len(beyond)}, the first {_named(beyond[0])}",
            "cleanup archives what is beyond it: check that it is scheduled",
        )
    if held := [usage for usage in beyond if usage.held_alone]:
        yield Finding(
            "warning",
            "held_over_quota",
            f"agents whose held memories alone are beyond their quota: {len(held)}, the first"
            f" {_named(held[0])}",
            "end holds with `memctl release`, or raise the quota",
        )


def _named(usage: QuotaUsage) -> str:
    has = f"'{usage.agent}' with {counted(usage.memories, 'memory')}"
    return f"{has}, {usage.bytes:,} bytes" if usage.most_bytes is not None else has
