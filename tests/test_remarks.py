"""Remarks of a report: figures that are unusual, whether or not something must be done."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from memctl.insight import remarks
from memctl.insight.findings import Finding
from memctl.insight.periods import PeriodFigures
from memctl.insight.report import HealthReport
from memctl.storage.figures import Figures
from memctl.storage.sqlite.report import Changes
from tests.support.program import NOW, Memctl
from tests.support.reports import WEEK, agent_report, healthy_report


@pytest.fixture
def report(migrated: Memctl) -> HealthReport:
    return healthy_report(migrated.database)


def period(**figures: Any) -> PeriodFigures:
    """Return the figures of a known period."""
    written = figures.pop("written", 0)
    return PeriodFigures(NOW - WEEK, NOW, written, 0, Changes("", **figures), 1, 0)


READ = Figures(memories=100, accessed_memories=20)

CASES = [
    pytest.param(
        {"figures": READ, "at_floor": 34},
        "34 of 100 memories (34 %) are at the floor of decay, an importance of 1: agents have not"
        " read them for a long time, and importance no longer distinguishes them.",
        id="a third at the floor",
    ),
    pytest.param(
        {"figures": READ, "agents": [agent_report("a", 60), agent_report("b", 40)]},
        "a has 60 % of all memories (60 of 100).",
        id="an agent that has most",
    ),
    pytest.param(
        {"figures": Figures(memories=100), "agents": [agent_report("a", 100)]},
        "None of the 100 memories was ever read: either the agents do not use them, or the service"
        " does not count their reads.",
        id="nothing was ever read",
    ),
    pytest.param(
        {"figures": Figures(memories=100), "agents": [agent_report("a", 100, ever_read=1)]},
        "No memory was read in the last 30 days.",
        id="nothing was read lately",
    ),
    pytest.param(
        {"figures": READ, "period": period(written=0)},
        "No memory was written in this period: are the agents running?",
        id="nothing was written",
    ),
    pytest.param(
        {
            "figures": READ,
            "period": period(written=1),
            "agents": [agent_report(name, 20) for name in "abcde"],
        },
        "Agents that wrote nothing in this period and read nothing in the last 30 days: a (20"
        " memories), b (20 memories), c (20 memories) and 2 more.",
        id="agents that fell silent",
    ),
    pytest.param(
        {"known_since": NOW - timedelta(days=90), "period": period(expired=80, archived=20)},
        "The archive grows faster than it is pruned: 100 memories entered it in this period, and 0"
        " left it.",
        id="an archive that grows",
    ),
    pytest.param(
        {"period": period(expired=25), "period_before": period(expired=50)},
        "Memories expired: 25, in the period before 50.",
        id="half as many as before",
    ),
    pytest.param(
        {"period": period(written=100), "period_before": period(written=50)},
        "Memories written: 100, in the period before 50.",
        id="twice as many as before",
    ),
    pytest.param(
        {"findings": [Finding("info", "no_backup", "there is no backup", "run `memctl backup`")]},
        "There is no backup; run `memctl backup`.",
        id="a note of the check",
    ),
]


@pytest.mark.parametrize(("changes", "expected"), CASES)
def test_unusual_figures_cause_remarks(
    report: HealthReport, changes: dict[str, Any], expected: str
) -> None:
    assert remarks.remarkable(report) == []
    assert expected in remarks.remarkable(replace(report, **changes))


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        pytest.param(
            remarks.memories_at_the_floor, {"figures": READ, "at_floor": 33}, id="few at the floor"
        ),
        pytest.param(
            remarks.memories_at_the_floor,
            {"figures": Figures(memories=99), "at_floor": 99},
            id="too few to judge",
        ),
        pytest.param(
            remarks.one_agent_has_most,
            {"figures": READ, "agents": [agent_report("a", 59), agent_report("b", 41)]},
            id="no agent has most",
        ),
        pytest.param(
            remarks.one_agent_has_most,
            {"figures": READ, "agents": [agent_report("a", 100)]},
            id="there is only one agent",
        ),
        pytest.param(
            remarks.inactive_agents,
            {
                "figures": READ,
                "period": period(written=1),
                "agents": [agent_report("a", 19), agent_report("b", 81, written=1)],
            },
            id="a small agent, and one that writes",
        ),
        pytest.param(
            remarks.archive_that_grows,
            {"known_since": NOW - timedelta(days=89), "period": period(expired=100)},
            id="an archive younger than its retention",
        ),
        pytest.param(
            remarks.archive_that_grows,
            {
                "known_since": NOW - timedelta(days=90),
                "period": period(expired=100, pruned=30, restored=21),
            },
            id="an archive that is pruned",
        ),
        pytest.param(
            remarks.unusual_changes,
            {"period": period(expired=49), "period_before": period()},
            id="small numbers",
        ),
        pytest.param(
            remarks.unusual_changes,
            {"period": period(expired=900), "period_before": PeriodFigures(NOW, NOW)},
            id="an unknown period before",
        ),
        pytest.param(
            remarks.notes_of_the_check,
            {"findings": [Finding("warning", "a", "b"), Finding("info", "paused", "c")]},
            id="a finding, and a pause",
        ),
    ],
)
def test_usual_figures_cause_no_remarks(
    report: HealthReport, rule: remarks.Remarks, changes: dict[str, Any]
) -> None:
    assert rule(replace(report, **changes)) == []
