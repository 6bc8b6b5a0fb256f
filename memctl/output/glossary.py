"""The terms of a health report, with the values of the policies in force."""

from memctl.errors import counted
from memctl.insight.report import AGE_BEFORE_UNREAD_COUNTS, HealthReport
from memctl.storage.figures import RATES_OVER


def glossary(report: HealthReport) -> dict[str, str]:
    """Return what each term means.

    The values are those for all memories; policies may differ for some agents or types.
    """
    promote, decay, prune, _ = report.policies
    return {
        "Memory": (
            "What an agent has stored under a type and a key. Unless stated otherwise, it is"
            " active: agents receive it."
        ),
        "Importance": (
            "How much a memory matters, from 1 to 10. Agents receive the most important memories"
            " first."
        ),
        "Written": "Stored or changed in the period, even if it has been archived since.",
        "Expired": (
            "Past the time that was set when it was written. The job cleanup moves expired"
            " memories to the archive."
        ),
        "Archive": (
            "Where memories are kept that expired or were forgotten. Agents do not receive them,"
            " and they can be restored."
        ),
        "Pruned": (
            f"Permanently deleted, {counted(prune.retention.days, 'day')} after it was archived,"
            f" because its importance is below {prune.protected_importance:g}."
        ),
        "Decay": (
            f"A memory that is not read for more than {counted(decay.grace_days, 'day')} loses"
            f" importance day by day, down to the floor of {decay.floor:g}."
        ),
        "Promoted": (
            "Copied to the knowledge base, which all agents share, after it has proven itself:"
            f" importance {promote.importance:g}, {counted(promote.accesses, 'read')},"
            f" {counted(promote.age.days, 'day')} of age."
        ),
        "Read": (
            f"Received by an agent in the last {RATES_OVER.days} days. Only a memory that is at"
            f" least {counted(AGE_BEFORE_UNREAD_COUNTS.days, 'day')} old counts as never read."
        ),
        "Snapshot": "The figures of a day, which the job snapshot records. It shows growth.",
        "Storage": "The bytes of keys, values and metadata of active and archived memories.",
        "Longest lock": "The longest time that a job kept other programs from writing.",
        "Refused": "The job might have done harm and changed nothing, or only the harmless part.",
        "Crashed": "The job was killed, or the machine stopped. The next run does the rest.",
    }
