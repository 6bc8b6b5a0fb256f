"""Recommendations derived from the figures of a report."""

from collections.abc import Callable

from memctl.insight.report import HealthReport

LONG_LOCK_MS = 50.0
BIG_VALUE_BYTES = 1_000_000
ENOUGH_TO_JUDGE = 100  # memories
FAST_GROWTH = 1.5

Rule = Callable[[HealthReport], str | None]


def advise(report: HealthReport) -> list[str]:
    """Return the recommendations of all rules, the most urgent first."""
    return [advice for rule in RULES if (advice := rule(report))]


def fix_failing_jobs(report: HealthReport) -> str | None:
    """A job that failed or crashed may not have completed its changes."""
    bad = [job for job in report.jobs if job.failed or job.crashed]
    if not bad:
        return None
    listed = ", ".join(f"{job.job} in {job.failed + job.crashed} of {job.runs} runs" for job in bad)
    last = next((f"; last error: {job.last_error}" for job in bad if job.last_error), "")
    return f"Jobs failed or crashed: {listed}{last}."


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
    ran = {job.job for job in report.jobs}
    missing = [job for job in report.scheduled if job not in ran]
    if not missing:
        return None
    *others, last = missing
    named = f"{', '.join(others)} and {last}" if others else last
    return (
        f"Jobs that did not run in this period: {named}. `memctl schedule --cron` prints a crontab "
        "line for all jobs."
    )


def look_into_large_agents(report: HealthReport) -> str | None:
    """Agents read all of their memories for each prompt."""
    many = report.alerts.agent_memories
    large = [agent for agent in report.agents if agent.figures.memories > many]
    if not large:
        return None
    listed = ", ".join(f"{agent.agent} ({agent.figures.memories:,})" for agent in large[:3])
    return (
        f"Agents with more than {many:,} memories: {listed}. Set an expiry for more of their "
        "memories."
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
        f"The number of memories grew from {before.figures.memories:,} on {before.date} to "
        f"{now:,}, most of all for {grown.agent}."
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
