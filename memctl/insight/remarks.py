"""What is remarkable in the figures of a report, whether or not something must be done."""

from collections.abc import Callable

from memctl.errors import counted
from memctl.insight.advice import ENOUGH_TO_JUDGE
from memctl.insight.report import HealthReport
from memctl.storage.figures import RATES_OVER

FLOOR_SHARE = 1 / 3  # from here on, importance hardly orders what agents receive
DOMINANT_SHARE = 0.6  # from here on, averages describe one agent rather than the fleet
INACTIVE_AGENT_MEMORIES = 20  # an agent with fewer may have been a trial
ARCHIVE_FACTOR = 2  # in the long run, as many memories leave an archive as enter it
UNUSUAL_FACTOR = 2
UNUSUAL_NUMBER = 50  # smaller numbers double by chance
MOST_NAMES = 3

Remarks = Callable[[HealthReport], list[str]]


def remarkable(report: HealthReport) -> list[str]:
    """Return all remarks, in the order of RULES."""
    return [remark for rule in RULES for remark in rule(report)]


def memories_at_the_floor(report: HealthReport) -> list[str]:
    """Memories at the floor are no longer distinguished by their importance."""
    memories, floor = report.figures.memories, report.policies.decay.floor
    if memories < ENOUGH_TO_JUDGE or report.at_floor < memories * FLOOR_SHARE:
        return []
    share = percentage(report.at_floor, memories)
    return [
        f"{report.at_floor:,} of {memories:,} memories ({share}) are at"
        f" the floor of decay, an importance of {floor:g}: agents have not read them for a long"
        " time, and importance no longer distinguishes them."
    ]


def one_agent_has_most(report: HealthReport) -> list[str]:
    """One agent that has most of the memories dominates the averages over all agents."""
    memories = report.figures.memories
    if memories < ENOUGH_TO_JUDGE or len(report.agents) < 2:
        return []
    largest = report.agents[0]
    if largest.figures.memories < memories * DOMINANT_SHARE:
        return []
    return [
        f"{largest.agent} has {percentage(largest.figures.memories, memories)} of all memories"
        f" ({largest.figures.memories:,} of {memories:,})."
    ]


def nothing_was_read(report: HealthReport) -> list[str]:
    """Memories that no agent reads are of no use."""
    memories = report.figures.memories
    if memories < ENOUGH_TO_JUDGE or report.figures.accessed_memories:
        return []
    if any(agent.ever_read for agent in report.agents):
        return [f"No memory was read in the last {RATES_OVER.days} days."]
    return [
        f"None of the {memories:,} memories was ever read: either the agents do not use them, or"
        " the service does not count their reads."
    ]


def nothing_was_written(report: HealthReport) -> list[str]:
    """Agents that run write memories."""
    if report.figures.memories < ENOUGH_TO_JUDGE or report.period.written:
        return []
    return ["No memory was written in this period: are the agents running?"]


def inactive_agents(report: HealthReport) -> list[str]:
    """The memories of an agent that no longer exists can be archived."""
    if not report.figures.accessed_memories or not report.period.written:
        return []  # no agent is active
    inactive = [
        agent
        for agent in report.agents
        if agent.figures.memories >= INACTIVE_AGENT_MEMORIES
        and not agent.figures.accessed_memories
        and not agent.written
    ]
    if not inactive:
        return []
    named = ", ".join(
        f"{agent.agent} ({counted(agent.figures.memories, 'memory')})"
        for agent in inactive[:MOST_NAMES]
    )
    more = len(inactive) - MOST_NAMES
    return [
        f"Agents that wrote nothing in this period and read nothing in the last {RATES_OVER.days}"
        f" days: {named}{f' and {more} more' if more > 0 else ''}."
    ]


def archive_that_grows(report: HealthReport) -> list[str]:
    """An archive that is older than its retention should stay about the same."""
    changes = report.period.changes
    if changes is None or report.known_since > report.at - report.policies.prune.retention:
        return []
    entered, left = changes.expired + changes.archived, changes.restored + changes.pruned
    if entered < ENOUGH_TO_JUDGE or entered < left * ARCHIVE_FACTOR:
        return []
    return [
        f"The archive grows faster than it is pruned: {entered:,} memories entered it in this"
        f" period, and {left:,} left it."
    ]


def unusual_changes(report: HealthReport) -> list[str]:
    """Twice as many as in the period before, or half as many."""
    now, before = report.period, report.period_before
    if now.changes is None or before.changes is None:
        return []
    numbers = {
        "written": (now.written or 0, before.written or 0),
        "expired": (now.changes.expired, before.changes.expired),
        "archived for other reasons": (now.changes.archived, before.changes.archived),
        "restored": (now.changes.restored, before.changes.restored),
        "pruned": (now.changes.pruned, before.changes.pruned),
    }
    return [
        f"Memories {what}: {count:,}, in the period before {earlier:,}."
        for what, (count, earlier) in numbers.items()
        if max(count, earlier) >= UNUSUAL_NUMBER
        and max(count, earlier) >= UNUSUAL_FACTOR * min(count, earlier)
    ]


def notes_of_the_check(report: HealthReport) -> list[str]:
    """Findings for information, such as a missing backup; the verdict mentions a pause."""
    return [
        finding.sentence
        for finding in report.findings
        if finding.severity == "info" and finding.code != "paused"
    ]


def percentage(part: int, whole: int) -> str:
    """Return a share in percent, rounded down."""
    return f"{part * 100 // whole} %"


RULES: tuple[Remarks, ...] = (
    memories_at_the_floor,
    one_agent_has_most,
    nothing_was_read,
    nothing_was_written,
    inactive_agents,
    archive_that_grows,
    unusual_changes,
    notes_of_the_check,
)
