"""Whether the database and its jobs are well, in one sentence.

A failure after which the same job has succeeded needs no attention.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memctl.errors import counted
from memctl.insight.report import HealthReport

MOST_REASONS = 3  # in the sentence, which is read at a glance
LONGEST_REASON = 120  # characters; an error may be long, and the findings have all of it

# An alert is not mentioned if the check has found the same problem.
FINDINGS_OF_ALERTS = {
    "clock": {"clock"},
    "drop": {"drop"},
    "failures": {"failing", "refused"},
    "growth": {"growth"},
}

Reasons = Callable[[HealthReport], list[str]]


@dataclass(frozen=True)
class Verdict:
    """What needs attention, the most urgent first; each reason is a clause."""

    reasons: list[str]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing needs attention."""
        return not self.reasons

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.is_healthy:
            return "Healthy: the check found no problem, and every scheduled job has run."
        shown = [_shortened(reason) for reason in self.reasons[:MOST_REASONS]]
        if more := len(self.reasons) - len(shown):
            shown.append(f"{counted(more, 'other reason')}")
        *others, last = shown
        joint = ", and " if len(others) == 1 else "; and "
        return f"Needs attention: {joint.join(['; '.join(others), last] if others else [last])}."


def judge(report: HealthReport) -> Verdict:
    """Return the verdict on a report."""
    return Verdict([reason for reasons in REASONS for reason in reasons(report)])


def errors(report: HealthReport) -> list[str]:
    """The check has found an error."""
    return _found(report, "error")


def paused(report: HealthReport) -> list[str]:
    """Nothing is archived, pruned or recorded during a pause."""
    if report.pause is None:
        return []
    until = f" until {report.pause.until}" if report.pause.until else ""
    return [f"jobs are paused{until} ({report.pause.reason})"]


def jobs_that_did_not_run(report: HealthReport) -> list[str]:
    """A job that did not run in a period that is long enough is probably not scheduled."""
    missing = missing_jobs(report)
    if not missing:
        return []
    if len(missing) == len(report.scheduled) > 1:
        return ["no scheduled job has run in this period"]
    return [f"{listed(missing)} did not run in this period"]


def memories_that_should_be_archived(report: HealthReport) -> list[str]:
    """Agents receive memories that expired more than a day ago."""
    if not report.long_overdue:
        return []
    return [
        f"agents still receive {counted(report.long_overdue, 'memory')} that expired over a day ago"
    ]


def warnings(report: HealthReport) -> list[str]:
    """The check has found something that will become a problem."""
    return _found(report, "warning")


def raised_alerts(report: HealthReport) -> list[str]:
    """An alert was raised and has not cleared."""
    found = {finding.code for finding in report.findings}
    kinds = {alert.partition(":")[0] for alert in report.alerts}
    others = sorted(kind for kind in kinds if not FINDINGS_OF_ALERTS.get(kind, set()) & found)
    return [f"the alert '{kind}' has not cleared" for kind in others]


def listed(names: Sequence[str]) -> str:
    """Return names as a part of a sentence."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def missing_jobs(report: HealthReport) -> list[str]:
    """Return the jobs that should have run in the period and did not."""
    ran = {job.job for job in report.jobs}
    return [job for job in report.scheduled if job not in ran]


def _shortened(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 1].rstrip()}…"


def _found(report: HealthReport, severity: str) -> list[str]:
    return [
        finding.message
        for finding in report.findings
        if finding.severity == severity and finding.code != "paused"
    ]


REASONS: tuple[Reasons, ...] = (
    errors,
    paused,
    jobs_that_did_not_run,
    memories_that_should_be_archived,
    warnings,
    raised_alerts,
)
