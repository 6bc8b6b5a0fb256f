"""The health report: correct figures, advice that follows from them, and escaped stored text."""

import json
import os
import re
import sqlite3
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from memctl import __version__
from memctl.insight import advice
from memctl.insight.findings import Finding
from memctl.insight.metrics import DayFigures
from memctl.insight.report import HealthReport, JobFigures, ReportPolicies, read_report
from memctl.output.charts import Chart, Series, horizontal_bars, line_chart, stacked_bars
from memctl.output.readable import readable_bytes
from memctl.output.report import report_markdown, report_text
from memctl.output.report_html import report_html
from memctl.output.terminal import visible
from memctl.storage.figures import Figures
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.report import ReportedMemory
from tests.support.database import insert_memory, text_of
from tests.support.program import NOW, Memctl
from tests.support.reports import (
    HOSTILE,
    agent_report,
    healthy_report,
    job_report,
    read,
    remember_names,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)

NO_BACKUP = (
    "There is no backup beside the database; run `memctl backup` regularly, unless backups are made"
    " elsewhere."
)


@pytest.fixture
def report(migrated: Memctl) -> HealthReport:
    return healthy_report(migrated.database)


def test_a_report_has_the_figures_of_the_period(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    week_ago = migrated.at(NOW - WEEK)
    db.execute("UPDATE memctl_migrations SET applied_at = '2026-10-01T00:00:00Z'")
    remember(key="first", idle_days=20, importance=9)
    week_ago.ok("snapshot")
    remember(key="new", idle_days=1, importance=8, access_count=2)
    remember(key="expired", idle_days=3, expired_for=HOUR)
    remember(key="overdue", expires_at="2026-11-23 00:00:00")
    by_hand = remember(key="by hand", agent_id="qa_agent")
    remember(
        key="known",
        type="error_pattern",
        importance=9,
        access_count=5,
        created_at=text_of(NOW - 14 * DAY),
        value="x" * 500,
    )
    remember(
        key="nearly",
        type="error_pattern",
        importance=7.5,
        access_count=6,
        created_at=text_of(NOW - 15 * DAY),
    )
    migrated.ok("cleanup")
    migrated.ok("archive", "qa_agent", by_hand)
    later = migrated.at(NOW + DAY)
    later.ok("decay")

    document = later.ok("report", "--since", "8d", "--json").json

    jobs = {job["job"]: (job["runs"], job["ok"]) for job in document.pop("jobs")}
    changed = {"expired": 1, "archived_otherwise": 1, "restored": 0, "pruned": 0, "promoted": 0}
    nothing = dict.fromkeys([*changed, "decayed"], 0)
    assert jobs == {"archive": (1, 1), "cleanup": (1, 1), "decay": (1, 1), "snapshot": (1, 1)}
    assert document == {
        "schema": 1,
        "at": "2026-11-23T09:43:58Z",
        "since": "2026-11-15T09:43:58Z",
        "changes_known_since": "2026-11-15T09:43:58Z",
        "database": str(migrated.database),
        "storage": {
            "size_bytes": migrated.database.stat().st_size,
            "wal_bytes": document["storage"]["wal_bytes"],
            "free_pages": 0,
            "free_bytes": 0,
        },
        "host": os.uname().nodename,
        "memctl_version": __version__,
        "verdict": {
            "healthy": False,
            "sentence": "Needs attention: promote and prune did not run in this period, and"
            " snapshot has not succeeded for 8 days.",
            "reasons": [
                "promote and prune did not run in this period",
                "snapshot has not succeeded for 8 days",
            ],
        },
        "advice": [
            "Expired memories that agents still receive: 1. Run `memctl cleanup` more often.",
            "Jobs that did not run in this period: promote and prune. `memctl schedule --cron` "
            "prints a crontab line for all jobs.",
            "Memories that meet all conditions of promotion: 1. Run `memctl promote`.",
            "Accesses are not counted. To count them, run `memctl enable access-counting`.",
        ],
        "findings": ["warning: snapshot has not succeeded for 8 days"],
        "remarks": [NO_BACKUP],
        "period": {
            "since": "2026-11-15T09:43:58Z",
            "until": "2026-11-23T09:43:58Z",
            "written": 4,
            "growth": 4,
            **changed,
            "decayed": 1,
            "runs": 4,
            "unsuccessful_runs": 0,
        },
        "period_before": {
            "since": "2026-11-07T09:43:58Z",
            "until": "2026-11-15T09:43:58Z",
            "written": 1,
            "growth": None,
            **nothing,
            "runs": 0,
            "unsuccessful_runs": 0,
        },
        "system": {
            "memories": 5,
            "archived": 2,
            "importance_avg": 7.42,
            "accessed_memories": 3,
            "storage_bytes": document["system"]["storage_bytes"],
            "at_floor": 0,
            **changed,
            "decayed": 1,
        },
        "agents": [
            {
                "agent_id": "build_agent",
                "memories": 5,
                "archived": 1,
                "importance_avg": 7.42,
                "accessed_memories": 3,
                "storage_bytes": document["agents"][0]["storage_bytes"],
                "memories_before": 1,
                "written": 3,
                "written_before": 1,
                "never_read": 1,
            },
            {
                "agent_id": "qa_agent",
                "memories": 0,
                "archived": 1,
                "importance_avg": None,
                "accessed_memories": 0,
                "storage_bytes": document["agents"][1]["storage_bytes"],
                "memories_before": 0,
                "written": 1,
                "written_before": 0,
                "never_read": 0,
            },
        ],
        "types": document["types"],
        "history": [
            {"date": "2026-11-15", "memories": 1},
            *({"date": f"2026-11-{day}", "memories": None} for day in range(16, 24)),
        ],
        "days": [
            *({"date": f"2026-11-{day}", **nothing} for day in range(15, 22)),
            {"date": "2026-11-22", **changed, "decayed": 0},
            {"date": "2026-11-23", **nothing, "decayed": 1},
        ],
        "importances": [0, 0, 0, 0, 0, 1, 0, 2, 1, 1, 0],
        "never_read": [memory("first", importance=7.6, created_at=text_of(NOW - 20 * DAY))],
        "biggest": [
            memory("known", type_="error_pattern", value_bytes=500),
            *(
                memory(key, type_=type_, value_bytes=19)
                for key, type_ in (
                    ("first", "learning"),
                    ("new", "learning"),
                    ("overdue", "learning"),
                    ("nearly", "error_pattern"),
                )
            ),
        ],
        "overdue": 1,
        "expiring_in_a_week": 0,
        "expiring": [],
        "candidates": {
            "count": 1,
            "shown": [
                memory("known", type_="error_pattern", importance=9, access_count=5, age_days=15)
            ],
        },
        "near_candidates": {
            "count": 1,
            "shown": [
                memory("nearly", type_="error_pattern", importance=7.5, access_count=6, age_days=16)
            ],
        },
    }


def memory(key: str, *, type_: str = "learning", **more: Any) -> dict[str, Any]:
    """Return a memory as in a report."""
    return {"agent_id": "build_agent", "type": type_, "key": key, **more}


def test_the_nearest_expiries_come_first_whatever_their_format(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    for key, expires_at in (
        ("third", "2026-11-30 00:00:00"),
        ("first", "2026-11-22T10:00:00.000Z"),
        ("second", "2026-11-22T09:00:00-02:00"),
        ("gone", "2026-11-22 09:00:00"),
        ("never", "soon"),
        ("far", "+011533-07-07T00:00:00.000Z"),
    ):
        remember(key=key, expires_at=expires_at)

    report = read(migrated.database)

    assert [memory.key for memory in report.expiring] == ["first", "second", "third", "far"]
    assert (report.overdue, report.expiring_soon) == (1, 2)


def test_the_report_lists_the_candidates_that_promote_then_promotes(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    proven: dict[str, Any] = {
        "importance": 8,
        "access_count": 5,
        "created_at": text_of(NOW - 20 * DAY),
        "last_accessed": text_of(NOW - 12 * DAY),
    }
    remember(key="known", value="known", **proven)
    remember(key="changed", value="before", **proven)
    migrated.ok("promote")
    db.execute("UPDATE agent_memory SET value = 'other words' WHERE key = 'changed'")
    remember(key="decayed", value="decayed", **proven)
    remember(key="marked", value="marked", promoted_at="2026-11-01T00:00:00Z", **proven)
    remember(key="unread", value="unread", **{**proven, "importance": 9, "access_count": 4})
    remember(key="of another type", type="context", **proven)
    remember(key="in words", **{**proven, "importance": "high"})
    later = migrated.at(NOW + DAY)
    later.ok("decay")

    report = later.ok("report", "--json").json
    promoted = later.ok("promote", "--json").json

    keys = {
        name: [memory["key"] for memory in report[name]["shown"]]
        for name in ("candidates", "near_candidates")
    }
    assert keys == {"candidates": ["changed", "decayed", "marked"], "near_candidates": ["unread"]}
    assert promoted["promoted"] + promoted["superseded"] == report["candidates"]["count"] == 3
    assert later.ok("report", "--json").json["candidates"]["count"] == 0


def test_a_report_ignores_another_products_knowledge_base(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.execute("CREATE TABLE knowledge_entries (id, question)")

    assert read(migrated.database).candidate_count == 0


def test_the_figures_of_a_report_are_from_one_snapshot(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=HOUR)

    def remember_more(statement: str) -> None:
        if "FROM agent_memory" in statement:
            insert_memory(db, expired_for=HOUR)

    with open_database(migrated.database, read_only=True) as reader:
        reader.set_trace_callback(remember_more)
        report = read_report(
            reader,
            migrated.database,
            ReportPolicies(),
            since=NOW - WEEK,
            now=NOW,
        )

    assert report.figures.memories == sum(report.importances) == len(report.biggest)
    assert report.overdue == report.figures.memories


def test_an_unfinished_run_is_crashed_unless_it_is_the_newest(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for status, duration, lock, error in (
        ("running", None, None, None),
        ("ok", 10, 3.0, None),
        ("failed", 30, 60.5, "disk full"),
        ("refused", 20, 0.0, "more than half"),
        ("running", None, None, None),
    ):
        db.execute(
            """
            INSERT INTO memory_runs (job, started_at, status, duration_ms, longest_lock_ms, error,
                memctl_version, host, pid)
            VALUES ('prune', '2026-11-20T00:00:00Z', ?, ?, ?, ?, '0', 'h', 1)
            """,
            (status, duration, lock, error),
        )

    report = read(migrated.database)

    assert report.jobs == [JobFigures("prune", 5, 1, 1, 1, 1, 20, 60.5, "disk full")]


# Advice


def test_a_healthy_database_gets_no_advice(report: HealthReport) -> None:
    assert advice.advise(report) == []


@pytest.mark.parametrize(
    ("rule", "changes", "expected"),
    [
        pytest.param(
            advice.fix_failing_jobs,
            {"jobs": [job_report("decay", failed=2, crashed=1, last_error="disk full")]},
            "Jobs failed or crashed: decay in 3 of 7 runs; last error: disk full.",
            id="a job that fails",
        ),
        pytest.param(
            advice.archive_what_has_expired,
            {"overdue": 1200},
            "Expired memories that agents still receive: 1,200. Run `memctl cleanup` more often.",
            id="expired and not archived",
        ),
        pytest.param(
            advice.schedule_missing_jobs,
            {"jobs": [job_report("cleanup"), job_report("prune")]},
            "Jobs that did not run in this period: decay, promote and snapshot. `memctl schedule "
            "--cron` prints a crontab line for all jobs.",
            id="jobs that never ran",
        ),
        pytest.param(
            advice.schedule_missing_jobs,
            {"jobs": [job_report("cleanup")], "scheduled": ["cleanup", "decay"]},
            "Jobs that did not run in this period: decay. `memctl schedule --cron` prints a "
            "crontab line for all jobs.",
            id="jobs that never ran, and others that are not scheduled",
        ),
        pytest.param(
            advice.look_into_large_agents,
            {"agents": [agent_report("build_agent", 10_001), agent_report("qa_agent", 10_000)]},
            "Agents above the limit of 10,000 memories: build_agent (10,001). Set an expiry for"
            " more of their memories.",
            id="an agent that is too large",
        ),
        pytest.param(
            advice.look_into_fast_growth,
            {
                "figures": Figures(memories=150),
                "history": [DayFigures("2026-11-15", Figures(memories=100))],
                "agents": [
                    agent_report("build_agent", 90, before=80),
                    agent_report("qa_agent", 60, before=20),
                ],
            },
            "The number of memories grew from 100 at the first snapshot of this period to 150, most"
            " of all for qa_agent.",
            id="fast growth",
        ),
        pytest.param(
            advice.shorten_long_locks,
            {"jobs": [job_report("prune", longest_lock_ms=75.2), job_report("decay")]},
            "prune held the write lock for up to 75 ms: check for very large values or a "
            "slow disk.",
            id="a long lock",
        ),
        pytest.param(
            advice.move_big_values_out,
            {"biggest": [ReportedMemory("qa_agent", "context", "log", (1_500_000,))]},
            "The largest value, log of qa_agent, has 1.5 MB: store such values in files, and only "
            "their paths in memories.",
            id="a big value",
        ),
        pytest.param(
            advice.let_unread_memories_expire,
            {"figures": Figures(memories=100), "agents": [agent_report("a", 100, unread=50)]},
            "50 of 100 memories are at least a week old and were never read: store such memories "
            "with an expiry, or not at all.",
            id="memories that are never read",
        ),
        pytest.param(
            advice.promote_candidates,
            {"candidate_count": 3},
            "Memories that meet all conditions of promotion: 3. Run `memctl promote`.",
            id="candidates",
        ),
        pytest.param(
            advice.count_accesses,
            {"counts_accesses": False},
            "Accesses are not counted. To count them, run `memctl enable access-counting`.",
            id="accesses are not counted",
        ),
    ],
)
def test_advice_follows_from_figures(
    report: HealthReport, rule: advice.Rule, changes: dict[str, Any], expected: str
) -> None:
    changed = replace(report, **changes)

    assert rule(report) is None
    assert rule(changed) == expected
    assert expected in advice.advise(changed)


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        pytest.param(
            advice.look_into_fast_growth,
            {
                "figures": Figures(memories=149),
                "history": [DayFigures("2026-11-15", Figures(memories=100))],
            },
            id="slower growth",
        ),
        pytest.param(
            advice.look_into_fast_growth,
            {
                "figures": Figures(memories=900),
                "history": [DayFigures("2026-11-15", Figures(memories=99))],
            },
            id="growth of a small agent",
        ),
        pytest.param(
            advice.let_unread_memories_expire,
            {"figures": Figures(memories=99), "agents": [agent_report("a", 99, unread=99)]},
            id="too few to judge",
        ),
        pytest.param(
            advice.move_big_values_out,
            {"biggest": [ReportedMemory("qa_agent", "context", "log", (999_999,))]},
            id="a value that is just small enough",
        ),
    ],
)
def test_no_advice_is_given_below_a_threshold(
    report: HealthReport, rule: advice.Rule, changes: dict[str, Any]
) -> None:
    assert rule(replace(report, **changes)) is None


# The period before


def test_a_period_is_compared_with_the_one_before(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    db.execute("UPDATE memctl_migrations SET applied_at = '2026-10-01T00:00:00Z'")
    for days_ago, number in ((12, 3), (2, 5)):
        moment = migrated.at(NOW - days_ago * DAY)
        for _ in range(number):
            remember(idle_days=days_ago + 1, expires_at=text_of(NOW - days_ago * DAY - HOUR))
        moment.ok("cleanup")
    remember(idle_days=10)
    for days_ago in (14, 7):
        migrated.at(NOW - days_ago * DAY).ok("snapshot", "--force")
    remember(idle_days=1)
    db.execute("UPDATE memory_runs SET status = 'failed' WHERE run_id = 1")

    document = migrated.ok("report", "--json").json
    text = migrated.ok("report").out

    names = ("since", "until", "written", "growth", "expired", "runs", "unsuccessful_runs")
    periods = [document["period"], document["period_before"]]
    assert [[period[name] for name in names] for period in periods] == [
        ["2026-11-15T09:43:58Z", "2026-11-22T09:43:58Z", 6, 1, 5, 2, 0],
        ["2026-11-08T09:43:58Z", "2026-11-15T09:43:58Z", 4, 0, 3, 2, 1],
    ]
    assert "memories expired                       5              3      +2\n" in text


@pytest.mark.parametrize(
    ("applied_at", "since", "expected"),
    [
        pytest.param("2026-11-08T09:43:58Z", "7d", 0, id="recorded from its start on"),
        pytest.param("2026-11-08T09:43:59Z", "7d", None, id="recorded in a part of it"),
        pytest.param("2020-01-01T00:00:00Z", "182d", 0, id="two halves of a year"),
        pytest.param("2020-01-01T00:00:00Z", "183d", None, id="older than records are kept"),
        pytest.param("2020-01-01T00:00:00Z", "1000d", None, id="a period longer than that"),
    ],
)
def test_an_earlier_period_is_unknown_unless_all_of_it_was_recorded(
    db: sqlite3.Connection, migrated: Memctl, applied_at: str, since: str, expected: int | None
) -> None:
    db.execute("UPDATE memctl_migrations SET applied_at = ?", (applied_at,))

    before = migrated.ok("report", "--since", since, "--json").json["period_before"]

    names = ("written", "expired", "pruned", "runs", "unsuccessful_runs")
    assert [before[name] for name in names] == [expected] * len(names)


def test_growth_is_unknown_within_one_day(db: sqlite3.Connection, migrated: Memctl) -> None:
    migrated.ok("snapshot")

    assert migrated.ok("report", "--since", "1h", "--json").json["period"]["growth"] is None


# Decay


def test_memories_at_their_own_floor_are_counted(
    migrated: Memctl, remember: Callable[..., str], tmp_path: Path
) -> None:
    for agent in ("build_agent", "qa_agent"):
        for importance in (0.5, 1, 2, 3, "high"):
            remember(agent_id=agent, importance=importance)
    configuration = tmp_path / "memctl.toml"
    configuration.write_text("[agents.qa_agent.decay]\nfloor = 2\n")

    counts = [
        migrated.ok("report", "--json", *options).json["system"]["at_floor"]
        for options in ((), ("--config", str(configuration)))
    ]

    assert counts == [4, 5]


# Width


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_sentences_wrap_on_a_terminal(report: HealthReport, width: int) -> None:
    sentences = ["記" * 120, "word " * 40, "x" * 200]
    found = replace(
        report,
        findings=[Finding("warning", "a", sentence) for sentence in sentences],
        host="h" * 99,
    )

    wrapped = report_text(found, width=width).split("\nSummary\n")[0]
    unlimited = report_text(found).split("\nSummary\n")[0]

    assert max(map(cells, wrapped.splitlines())) <= width
    assert re.sub(r"\s", "", wrapped) == re.sub(r"\s", "", unlimited)
    assert f"  {'記' * ((width - 2) // 2)}\n" in wrapped
    assert f"* Warning: {sentences[0]}.\n" in unlimited


# Formats


@pytest.fixture
def hostile(db: sqlite3.Connection, migrated: Memctl) -> Memctl:
    """Memories with hostile names in every list of a report."""
    remember_names(db, HOSTILE)
    migrated.ok("snapshot")
    return migrated


@pytest.mark.parametrize("form", ["text", "markdown", "json", "html"])
def test_stored_text_is_printed_without_control_characters(hostile: Memctl, form: str) -> None:
    printed = hostile.ok("report", "--format", form).out

    assert all(character.isprintable() or character == "\n" for character in printed)
    assert "alert(1)" in printed.replace("\\", "")


def test_sentences_in_json_are_texts_whatever_the_names(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for _ in range(100):
        remember(agent_id="a", type="context")
    db.execute("UPDATE agent_memory SET agent_id = CAST(:name AS TEXT)", {"name": b"half \xf0\x9f"})
    remember(agent_id="b", importance="high", type="context")
    db.execute(
        "UPDATE agent_memory SET key = CAST(:key AS TEXT) WHERE agent_id = 'b'", {"key": b"\xff"}
    )

    document = migrated.ok("report", "--json").json

    sentences = [
        *(document["remarks"] + document["advice"] + document["findings"]),
        *(document["verdict"]["sentence"], *document["verdict"]["reasons"]),
    ]
    assert all(isinstance(sentence, str) for sentence in sentences)
    assert "half \\xf0\\x9f has 99 % of all memories (100 of 101)." in sentences


def test_stored_text_is_escaped_in_markdown(hostile: Memctl) -> None:
    text = hostile.ok("report", "--format", "markdown").out

    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)

    inline = [child for token in tokens for child in token.children or ()]
    commands = [child.content for child in inline if child.type == "code_inline"]
    assert {child.type for child in inline if child.type != "code_inline"} <= {
        *("text", "text_special", "softbreak", "strong_open", "strong_close"),
    }
    assert all(command.startswith("memctl ") for command in commands)
    assert {token.type for token in tokens if token.nesting >= 0} <= {
        *("heading_open", "inline", "bullet_list_open", "list_item_open", "paragraph_open"),
        *("table_open", "thead_open", "tbody_open", "tr_open", "th_open", "td_open"),
    }
    assert not re.search(r"(?<!:)(http|https)://|www\.", text)


def test_markdown_shows_every_name_unchanged(hostile: Memctl) -> None:
    text = hostile.ok("report", "--format", "markdown").out

    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)

    shown = {
        "".join(child.content for child in token.children or ())
        for token in tokens
        if token.type == "inline"
    }
    listed = {visible(name) for name in HOSTILE[:10]}
    assert shown >= listed


def test_findings_are_shown_if_there_are_any(report: HealthReport) -> None:
    finding = Finding("warning", "expiry", "agent_memory has <b>5</b> times", "run `memctl check`")
    found = replace(report, findings=[finding])

    assert (
        "\n## Findings\n\n- Warning: Agent\\_memory has &lt;b&gt;5&lt;/b&gt; times; run "
        "`memctl check`.\n"
    ) in report_markdown(found)
    assert "* Warning: Agent_memory has <b>5</b> times; run `memctl check`.\n" in report_text(found)
    assert (
        "<p>Warning: Agent_memory has &lt;b&gt;5&lt;/b&gt; times; run "
        "<code>memctl check</code>.</p>"
    ) in report_html(found)
    assert "Findings" not in report_text(report) + report_html(report)


def test_the_report_of_an_empty_database(migrated: Memctl) -> None:
    answer = migrated.ok("report")

    size = readable_bytes(migrated.database.stat().st_size)
    assert (
        answer.out
        == f"""\
Memory report
=============
Needs attention: no scheduled job has run in this period.

Period    15 Nov 2026, 09:43 UTC to 22 Nov 2026, 09:43 UTC
Database  {migrated.database}
Host      {os.uname().nodename}
Created   22 Nov 2026, 09:43 UTC, by memctl {__version__}

Recommended actions
-------------------
* Jobs that did not run in this period: cleanup, decay, promote, snapshot and prune. \
`memctl schedule --cron` prints a crontab line for all jobs.
* Accesses are not counted. To count them, run `memctl enable access-counting`.

Remarks
-------
* {NO_BACKUP}

Summary
-------
* 0 memories of 0 agents, 0 in the archive; 0 B of text in a file of {size}.
* Growth: unknown without a snapshot.
* Memories read in the last 30 days: 0. Never read and at least 7 days old: 0. At the floor of \
decay: 0.

Compared with the period before
-------------------------------
* Changes are known only since 22 Nov 2026, 09:43 UTC.
* The period before, from 8 Nov 2026, 09:43 UTC to 15 Nov 2026, 09:43 UTC, is unknown: changes are \
recorded since 22 Nov 2026, 09:43 UTC.
figure                       this period
memories written                       0
memories expired                       0
memories archived otherwise            0
memories restored                      0
memories pruned                        0
memories promoted                      0
reductions of importance               0
growth of active memories        unknown
runs of jobs                           0
runs that failed or crashed            0
"""
    )
    assert json.loads(migrated.ok("report", "--format", "json").out)["agents"] == []
    assert "There are no memories." in migrated.ok("report", "--format", "html").out


def test_a_report_file_is_readable_only_by_its_owner(migrated: Memctl, tmp_path: Path) -> None:
    target = tmp_path / "report.html"

    answer = migrated.ok("report", "--format", "html", "-o", str(target))
    printed = migrated.ok("report", "--format", "html", "-o", "-")

    assert (answer.out, answer.err) == ("", "")
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_text() == printed.out


# Charts


CHART = Chart("m", "Memories")


def titles(drawing: str) -> list[str]:
    """Return the titles of the shapes, after that of the chart."""
    of_chart, *of_shapes = re.findall("<title[^>]*>(.*?)</title>", drawing)
    assert of_chart == CHART.title
    return of_shapes


def test_a_report_applies_the_configuration(
    migrated: Memctl, remember: Callable[..., str], tmp_path: Path
) -> None:
    remember(type="learning", importance=6.5, access_count=2, created_at=text_of(NOW - 4 * DAY))
    remember(type="context", importance=6.5, access_count=2)
    configuration = tmp_path / "memctl.toml"
    configuration.write_text(
        "[promote]\nimportance = 6.5\naccesses = 2\nage_days = 3\n[alerts]\nagent_memories = 1\n"
    )

    printed = migrated.ok("report", "--config", str(configuration)).out

    assert [
        line for line in printed.splitlines() if re.search("above the limit|of promotion [(]", line)
    ] == [
        "* Agents above the limit of 1 memory: build_agent (2). Set an expiry for more of their "
        "memories.",
        "* Memories that meet every condition of promotion (importance 6.5, 2 reads, 3 days of "
        "age, and a pattern or learning): 1; all but one: 0.",
    ]


def test_a_line_has_gaps_where_values_are_missing() -> None:
    drawing = line_chart(CHART, ["a", "b", "c", "d"], [10, None, 20, 40])

    assert re.findall(r'class="line" d="([^"]*)"', drawing) == [
        "M44.0 141.0",
        "M264.0 98.0 L374.0 12.0",
    ]
    assert re.findall("<title[^>]*>(.*?)</title>", drawing) == [
        "Memories",
        "a: 10",
        "c: 20",
        "d: 40",
    ]


def test_bars_are_stacked_to_the_height_of_their_sum() -> None:
    drawing = stacked_bars(CHART, ["x"], [Series("up", "one", [3]), Series("down", "two", [1])])

    bars = re.findall(
        r'class="(\w+)" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawing
    )
    assert bars == [("one", "55.0", "129.0"), ("two", "12.0", "43.0")]
    assert titles(drawing) == ["x: 3 up", "x: 1 down"]


def test_long_bar_names_are_truncated_with_the_full_name_in_the_title() -> None:
    drawing = horizontal_bars(CHART, ["a" * 50, "<b>"], [7, 0])

    assert f">{'a' * 40}…</text>" in drawing
    assert re.findall("<title[^>]*>(.*?)</title>", drawing) == [
        "Memories",
        f"{'a' * 50}: 7",
        "&lt;b&gt;: 0",
    ]


@pytest.mark.parametrize("values", [[], [0], [None], [10**9, 1]])
def test_charts_can_be_drawn_of_few_and_of_large_values(values: list[int | None]) -> None:
    labels = [str(number) for number in range(len(values))]
    bars = [value or 0 for value in values]

    drawings = [
        line_chart(CHART, labels, values),
        stacked_bars(CHART, labels, [Series("s", "one", bars)]),
        horizontal_bars(CHART, labels, bars),
    ]

    assert all(drawing.startswith("<svg ") and "nan" not in drawing for drawing in drawings)


def test_the_report_includes_the_findings_of_check(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, expires_at="soon")

    reported = migrated.ok("report", "--json").json["findings"]
    checked = migrated("check", "--json").json["findings"]

    assert reported == [
        f"{one['severity']}: {one['message']}" for one in checked if one["severity"] != "info"
    ]
    assert len(reported) == 1
