"""The verdict of a report: one sentence that says whether something needs attention."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from memctl.insight.findings import Finding
from memctl.insight.report import HealthReport
from memctl.insight.verdict import judge
from memctl.storage.rows import Pause
from tests.support.program import Memctl
from tests.support.reports import healthy_report, job_report

DAY = timedelta(days=1)


@pytest.fixture
def report(migrated: Memctl) -> HealthReport:
    return healthy_report(migrated.database)


def test_a_database_without_problems_is_healthy(report: HealthReport) -> None:
    verdict = judge(report)

    assert verdict.is_healthy
    assert verdict.sentence == (
        "Healthy: the check found no problem, and every scheduled job has run."
    )


def finding(code: str, message: str, severity: Any = "warning") -> Finding:
    return Finding(severity, code, message)


PAUSED = finding("paused", "jobs have been paused since 2026-11-20T00:00:00Z: move", "info")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"findings": [finding("damaged", "the file is damaged: page 3", "error")]},
            "the file is damaged: page 3",
            id="an error",
        ),
        pytest.param(
            {"pause": Pause("2026-11-20T00:00:00Z", None, "move"), "findings": [PAUSED]},
            "jobs are paused (move)",
            id="a pause",
        ),
        pytest.param(
            {"pause": Pause("2026-11-20T00:00:00Z", "2026-11-23T00:00:00Z", "move")},
            "jobs are paused until 2026-11-23T00:00:00Z (move)",
            id="a pause that ends",
        ),
        pytest.param(
            {"jobs": [job_report(job) for job in ("cleanup", "decay")]},
            "promote, snapshot and prune did not run in this period",
            id="jobs that did not run",
        ),
        pytest.param({"jobs": []}, "no scheduled job has run in this period", id="no job ran"),
        pytest.param(
            {"overdue": 2, "long_overdue": 1},
            "agents still receive 1 memory that expired over a day ago",
            id="an expired memory",
        ),
        pytest.param(
            {"alerts": ["growth:a", "growth:b"]},
            "the alert 'growth' has not cleared",
            id="alerts of one kind",
        ),
        pytest.param(
            {
                "alerts": ["failures:decay"],
                "findings": [finding("failing", "decay has failed 3 times in a row: disk full")],
            },
            "decay has failed 3 times in a row: disk full",
            id="an alert that a finding explains",
        ),
        pytest.param(
            {"findings": [finding("failing", "e" * 500)]}, f"{'e' * 119}…", id="a long reason"
        ),
        pytest.param(
            {"findings": [finding("a", "one"), finding("b", "two")]}, "one, and two", id="two"
        ),
        pytest.param(
            {"findings": [finding("a", "one"), finding("b", "two"), finding("c", "three")]},
            "one; two; and three",
            id="three",
        ),
        pytest.param(
            {"findings": [finding(code, code) for code in ("a", "b", "c", "d", "e")]},
            "a; b; c; and 2 other reasons",
            id="many",
        ),
        pytest.param(
            {"findings": [finding("b", "a warning"), finding("a", "an error", "error")]},
            "an error, and a warning",
            id="the most urgent first",
        ),
    ],
)
def test_what_needs_attention_is_named(
    report: HealthReport, changes: dict[str, Any], expected: str
) -> None:
    verdict = judge(replace(report, **changes))

    assert not verdict.is_healthy
    assert verdict.sentence == f"Needs attention: {expected}."


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"overdue": 3}, id="expired since the last cleanup"),
        pytest.param({"findings": [finding("no_backup", "no backup", "info")]}, id="an info"),
        pytest.param(
            {
                "jobs": [
                    job_report(job, failed=1)
                    for job in ("cleanup", "decay", "promote", "snapshot", "prune")
                ]
            },
            id="failures that were made good",
        ),
        pytest.param({"scheduled": ["cleanup"], "jobs": [job_report("cleanup")]}, id="not due"),
    ],
)
def test_normal_conditions_are_no_reason(report: HealthReport, changes: dict[str, Any]) -> None:
    assert judge(replace(report, **changes)).is_healthy


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        pytest.param("30m", [], id="minutes"),
        pytest.param("5h", ["cleanup"], id="hours"),
        pytest.param("1d", ["cleanup", "decay", "promote", "snapshot"], id="a day"),
        pytest.param("7d", ["cleanup", "decay", "promote", "snapshot", "prune"], id="a week"),
    ],
)
def test_only_jobs_that_are_due_in_the_period_are_missed(
    migrated: Memctl, since: str, expected: list[str]
) -> None:
    document = migrated.ok("report", "--since", since, "--json").json

    missing = [advice for advice in document["advice"] if "did not run" in advice]
    assert document["verdict"]["healthy"] == (not expected)
    assert all(job in missing[0].split("`")[0] for job in expected)
    assert bool(missing) == bool(expected)


def test_the_verdict_reports_a_pause_and_a_failure(migrated: Memctl) -> None:
    migrated.ok("run")
    migrated.ok("pause", "--for", "2d", "--reason", "new disk")

    lines = migrated.ok("report").out.splitlines()

    assert lines[2] == ("Needs attention: jobs are paused until 24 Nov 2026, 09:43 UTC (new disk).")
