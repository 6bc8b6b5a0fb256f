"""Reports of a test database, and names that no format of a report may interpret."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from memctl.config.jobs import JOBS
from memctl.insight.report import (
    AgentReport,
    HealthReport,
    JobFigures,
    ReportPolicies,
    read_report,
)
from memctl.storage.figures import Figures
from memctl.storage.sqlite.database import open_database
from tests.support.database import insert_memory
from tests.support.odd_values import ODD_AGENTS
from tests.support.program import NOW

WEEK = timedelta(days=7)

# The most extreme first: lists show ten.
HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\" onmouseover='alert(1)",
    "&lt;b&gt; &amp;",
    "[text](http://example.com) <http://example.com>",
    "http://example.com www.example.com a@example.com",
    "![image](http://example.com/x.png)",
    "a | b \\| c",
    "`code` ``more`` *bold* _soft_ ~~gone~~ # no heading",
    "- no list\n1. nor this",
    "NUL \0 inside",
    "{{ 7 * 7 }} {% raw %}",
    *(text.decode("utf-8", "surrogateescape") for text in ODD_AGENTS),
]

# Each of them is difficult to fit into a narrow column.
WIDE = [
    "W" * 500,
    "記憶エージェント" * 60,
    "👩\u200d💻" * 100,
    "זיכרון" * 80,
    "ذاكرة " * 80,
    "http://example.com/" + "a" * 300,
    "x\t\n" * 150,
    "ﷺ" * 50,
]


def read(path: Path, **changes: Any) -> HealthReport:
    """Return the report of the last week."""
    with open_database(path, read_only=True) as db:
        report = read_report(db, path, ReportPolicies(), since=NOW - WEEK, now=NOW)
    return replace(report, **changes)


def healthy_report(path: Path) -> HealthReport:
    """Return the report of an empty database, which no rule objects to; tests change it."""
    jobs = [job_report(job) for job in JOBS]
    return read(path, jobs=jobs, counts_accesses=True)


def job_report(job: str, **changes: Any) -> JobFigures:
    """Return the figures of a job that succeeded."""
    return JobFigures(job, 7, 7, 0, 0, 0, 12.0, 9.5, None)._replace(**changes)


def agent_report(agent: str, memories: int, **changes: Any) -> AgentReport:
    """Return an agent with that number of memories."""
    return AgentReport(agent, Figures(memories=memories), None, 0)._replace(**changes)


def remember_names(db: sqlite3.Connection, names: Sequence[str]) -> None:
    """Write memories with these names, for every list of a report, and a run that failed."""
    for name in names:
        stored = name.encode("utf-8", "surrogateescape")
        for use in range(2):
            memory_id = insert_memory(
                db,
                importance=9,
                idle_days=20,
                access_count=0 if use else 9_000_000_000_000_000,
                expires_at="2026-11-23 00:00:00" if use else None,
            )
            db.execute(
                """
                UPDATE agent_memory
                SET agent_id = CAST(:name AS TEXT), type = CAST(:type AS TEXT),
                    key = CAST(:name AS TEXT)
                WHERE id = :id
                """,
                {"name": stored, "type": stored if use else b"learning", "id": memory_id},
            )
    db.execute(
        """
        INSERT INTO memory_runs (job, started_at, status, duration_ms, error, memctl_version, host,
            pid)
        VALUES ('decay', '2026-11-20T00:00:00Z', 'failed', 900000000, ?, '0', 'h', 1)
        """,
        (" ".join(names[:7]),),
    )
