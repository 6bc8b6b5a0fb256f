"""Recommended actions derived from the figures of a report."""

from collections.abc import Callable

from memctl.errors import counted
from memctl.insight.report import HealthReport
from memctl.insight.verdict import listed, missing_jobs

LONG_LOCK_MS = 50.0  # batches aim at 10 ms; a service that stalls for 100 ms is noticed
BIG_VALUE_BYTES = 1_000_000  # an agent cannot use as much text in a prompt
ENOUGH_TO_JUDGE = 100  # memories; a share of fewer means little
FAST_GROWTH = 1.5  # by half: the number doubles in less than two periods

Rule = Callable[[HealthReport], str | None]


def advise(report: HealthReport) -> list[str]:
    """Return the recommendations of all rules, the most urgent first."""
    return [advice for rule in RULES if (advice := rule(report))]


def fix_failing_jobs(report: HealthReport) -> str | None:
    """A job that failed or crashed may not have completed its changes."""
    bad = [job for job in report.jobs if job.failed or job.crashed]
    if not bad:
        return None
    named = ", ".join(f"{job.job} in {job.failed + job.crashed} of {job.runs} runs" for job in bad)
    last = next((f"; last error: {job.last_error}" for job in bad if job.last_error), "")
    return f"Jobs failed or crashed: {named}{last}."


def archive_what_has_expired(report: HealthReport) -> str | None:
    """Agents receive an expired memory until cleanup archives it."""
    if not report.overdue:
        return None
    return (
        f"Expired memories that agents still receive: {report.overdue:,}. Run `memctl cleanup` "
        "more often."
    )


def schedule_missing_jobs(report: HealthReport) -> str | None:
    """A job that did not run is probably not scheduled."""
    missing = missing_jobs(report)
    if not missing:
        return None
    return (
        f"Jobs that did not run in this period: {listed(missing)}. `memctl schedule --cron` prints"
        " a crontab line for all jobs."
    )


def look_into_large_agents(report: HealthReport) -> str | None:
    """Agents read all of their memories for each prompt."""
    many = report.policies.alerts.agent_memories
    large = [agent for agent in report.agents if agent.figures.memories > many]
    if not large:
        return None
    named = ", ".join(f"{agent.agent} ({agent.figures.memories:,})" for agent in large[:3])
    return (
        f"Agents above the limit of {counted(many, 'memory')}: {named}. Set an expiry for more of"
        " their memories."
    )


def look_into_fast_growth(report: HealthReport) -> str | None:
    """Growth by half in one period is worth an investigation."""
    before, now = report.before, report.figures.memories
    if before is None or before.figures is None or before.figures.memories < ENOUGH_TO_JUDGE:
        return None
    if now < before.figures.memories * FAST_GROWTH:
        return None
    grown = max(report.agents, key=lambda agent: agent.figures.memories - (agent.before or 0))
    return (
        f"The number of memories grew from {before.figures.memories:,} at the first snapshot of "
        f"this period to {now:,}, most of all for {grown.agent}."
    )


def shorten_long_locks(report: HealthReport) -> str | None:
    """Other programs cannot write while a job holds the lock."""
    slow = [job for job in report.jobs if (job.longest_lock_ms or 0) > LONG_LOCK_MS]
    if not slow:
        return None
    slowest = max(slow, key=lambda job: job.longest_lock_ms or 0)
    return (
        f"{slowest.job} held the write lock for up to {slowest.longest_lock_ms:.0f} ms: check for "
        "very large values or a slow disk."
    )


def move_big_values_out(report: HealthReport) -> str | None:
    """Every read and every backup copies the whole value."""
    if not report.biggest or report.biggest[0].remarkable[0] < BIG_VALUE_BYTES:
        return None
    memory = report.biggest[0]
    return (
        f"The largest value, {memory.key} of {memory.agent}, has "
        f"{memory.remarkable[0] / 1e6:,.1f} MB: store such values in files, and only their paths "
        "in memories."
    )


def let_unread_memories_expire(report: HealthReport) -> str | None:
    """Memories that are never read make lists longer without any benefit."""
    unread = sum(agent.unread for agent in report.agents)
    if report.figures.memories < ENOUGH_TO_JUDGE or unread * 2 < report.figures.memories:
        return None
    return (
        f"{unread:,} of {report.figures.memories:,} memories are at least a week old and were "
        "never read: store such memories with an expiry, or not at all."
    )


def promote_candidates(report: HealthReport) -> str | None:
    """Promoted knowledge is available to all agents."""
    if not report.candidate_count:
        return None
    return (
        f"Memories that meet all conditions of promotion: {report.candidate_count:,}. Run "
        "`memctl promote`."
    )


def count_accesses(report: HealthReport) -> str | None:
    """Otherwise, only the last access of each memory is known."""
    if report.counts_accesses:
        return None
    return "Accesses are not counted. To count them, run `memctl enable access-counting`."


RULES: tuple[Rule, ...] = (
    fix_failing_jobs,
    archive_what_has_expired,
    schedule_missing_jobs,
    look_into_large_agents,
    look_into_fast_growth,
    shorten_long_locks,
    move_big_values_out,
    let_unread_memories_expire,
    promote_candidates,
    count_accesses,
)
