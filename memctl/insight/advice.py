"""What follows from the figures of a report: each rule gives its advice, or None."""

from collections.abc import Callable

from memctl.config.jobs import JOBS
from memctl.insight.report import HealthReport

LONG_LOCK_MS = 50.0
BIG_VALUE_BYTES = 1_000_000
ENOUGH_TO_JUDGE = 100  # memories
FAST_GROWTH = 1.5

Rule = Callable[[HealthReport], str | None]


def advise(report: HealthReport) -> list[str]:
    """Return the advice of every rule that has any, the most urgent first."""
    return [advice for rule in RULES if (advice := rule(report))]


def mend_failing_jobs(report: HealthReport) -> str | None:
    """A job that failed or crashed did not do its work."""
    bad = [job for job in report.jobs if job.failed or job.crashed]
    if not bad:
        return None
    told = ", ".join(f"{job.job} {job.failed + job.crashed} of {job.runs} times" for job in bad)
    last = next((f"; the last error was: {job.last_error}" for job in bad if job.last_error), "")
    return f"Jobs failed or crashed: {told}{last}."


def archive_what_has_expired(report: HealthReport) -> str | None:
    """What has expired is still given to agents until cleanup archives it."""
    if not report.overdue:
        return None
    return (
        f"{report.overdue:,} memories have expired and are still given to agents: "
        "run `memctl cleanup` more often."
    )


def schedule_missing_jobs(report: HealthReport) -> str | None:
    """A job that never ran is probably not scheduled."""
    ran = {job.job for job in report.jobs}
    missing = [job for job in JOBS if job not in ran]
    if not missing:
        return None
    *others, last = missing
    named = f"{', '.join(others)} and {last}" if others else last
    return (
        f"In this time {named} did not run: `memctl schedule --cron` prints the line that runs "
        "every job."
    )


def look_into_large_agents(report: HealthReport) -> str | None:
    """Listing an agent's memories is a full read of them, for each prompt."""
    many = report.alerts.agent_memories
    large = [agent for agent in report.agents if agent.figures.memories > many]
    if not large:
        return None
    told = ", ".join(f"{agent.agent} ({agent.figures.memories:,})" for agent in large[:3])
    return f"Over {many:,} memories of one agent: {told}. Let more of them expire."


def look_into_fast_growth(report: HealthReport) -> str | None:
    """Half as many again in one period will not stay unnoticed."""
    before, now = report.before, report.figures.memories
    if before is None or before.figures is None or before.figures.memories < ENOUGH_TO_JUDGE:
        return None
    if now < before.figures.memories * FAST_GROWTH:
        return None
    grown = max(report.agents, key=lambda agent: agent.figures.memories - (agent.before or 0))
    return (
        f"Memories grew from {before.figures.memories:,} on {before.date} to {now:,}, "
        f"most of all those of {grown.agent}."
    )


def shorten_long_locks(report: HealthReport) -> str | None:
    """Who writes beside a job waits for as long as it holds the lock."""
    slow = [job for job in report.jobs if (job.longest_lock_ms or 0) > LONG_LOCK_MS]
    if not slow:
        return None
    worst = max(slow, key=lambda job: job.longest_lock_ms or 0)
    return (
        f"{worst.job} held the write lock for {worst.longest_lock_ms:.0f} ms at a stretch: "
        "look for very large values, or a slow disk."
    )


def move_big_values_out(report: HealthReport) -> str | None:
    """Every read of a value takes all of it, and so does each backup."""
    if not report.biggest or report.biggest[0].remarkable[0] < BIG_VALUE_BYTES:
        return None
    memory = report.biggest[0]
    return (
        f"The largest value, {memory.key} of {memory.agent}, has "
        f"{memory.remarkable[0] / 1e6:,.1f} MB: keep such things in files, and their names here."
    )


def let_unread_memories_expire(report: HealthReport) -> str | None:
    """A memory that nobody has read is probably not worth its place in a list."""
    unread = sum(agent.unread for agent in report.agents)
    if report.figures.memories < ENOUGH_TO_JUDGE or unread * 2 < report.figures.memories:
        return None
    return (
        f"{unread:,} of {report.figures.memories:,} memories were never read in the week or more "
        "since they were written: write them with an expiry, or not at all."
    )


def promote_candidates(report: HealthReport) -> str | None:
    """Knowledge is of use to all agents, a memory only to one."""
    if not report.candidate_count:
        return None
    return f"{report.candidate_count:,} memories meet every condition of promotion and wait for it."


def count_accesses(report: HealthReport) -> str | None:
    """Without counting, only the last access of a memory is known."""
    if report.counts_accesses:
        return None
    return "How often agents read is not counted: to know, `memctl enable access-counting`."


RULES: tuple[Rule, ...] = (
    mend_failing_jobs,
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
