"""The health report: correct figures, advice that follows from them, and escaped stored text."""

import json
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from memctl.config.jobs import JOBS
from memctl.config.policies import AlertPolicy, DecayPolicy, PromotePolicy
from memctl.insight import advice
from memctl.insight.metrics import DayFigures
from memctl.insight.report import AgentReport, HealthReport, JobFigures, read_report
from memctl.output.charts import Series, horizontal_bars, line_chart, stacked_bars
from memctl.output.fields import readable_bytes
from memctl.output.report import report_markdown, report_text
from memctl.output.report_html import report_html
from memctl.output.terminal import visible
from memctl.storage.figures import Figures
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.report import ReportedMemory
from tests.support.database import insert_memory, text_of
from tests.support.odd_values import ODD_AGENTS as ODD_BYTES
from tests.support.program import NOW, Memctl

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)

ODD_TEXTS = [text.decode("utf-8", "surrogateescape") for text in ODD_BYTES]

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
    *ODD_TEXTS,
]


def read(path: Path, **changes: Any) -> HealthReport:
    """Return the report of the last week."""
    with open_database(path, read_only=True) as db:
        report = read_report(
            db, path, PromotePolicy(), DecayPolicy(), AlertPolicy(), since=NOW - WEEK, now=NOW
        )
    return replace(report, **changes)


@pytest.fixture
def report(migrated: Memctl) -> HealthReport:
    """The report of an empty database, which no rule objects to; tests change it."""
    jobs = [job_report(job) for job in JOBS]
    return read(migrated.database, jobs=jobs, counts_accesses=True)


def job_report(job: str, **changes: Any) -> JobFigures:
    """Return the figures of a job that succeeded."""
    return JobFigures(job, 7, 7, 0, 0, 0, 12.0, 9.5, None)._replace(**changes)


def agent_report(agent: str, memories: int, **changes: Any) -> AgentReport:
    """Return an agent with that number of memories."""
    return AgentReport(agent, Figures(memories=memories), None, 0, 0)._replace(**changes)


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
    database = document.pop("database")
    changed = {"expired": 1, "archived_otherwise": 1, "restored": 0, "pruned": 0, "promoted": 0}
    nothing = dict.fromkeys([*changed, "decayed"], 0)
    assert jobs == {"archive": (1, 1), "cleanup": (1, 1), "decay": (1, 1), "snapshot": (1, 1)}
    assert database["path"] == str(migrated.database)
    assert document == {
        "schema": 1,
        "at": "2026-11-23T09:43:58Z",
        "since": "2026-11-15T09:43:58Z",
        "changes_known_since": "2026-11-15T09:43:58Z",
        "advice": [
            "Expired memories that agents still receive: 1. Run `memctl cleanup` more often.",
            "Jobs that did not run in this period: promote and prune. `memctl schedule --cron` "
            "prints a crontab line for all jobs.",
            "Memories that meet all conditions of promotion: 1. Run `memctl promote`.",
            "Accesses are not counted. To count them, run `memctl enable access-counting`.",
        ],
        "findings": ["warning: snapshot has not succeeded for 8 days"],
        "system": {
            "memories": 5,
            "archived": 2,
            "importance_avg": 7.42,
            "accessed_memories": 3,
            "storage_bytes": document["system"]["storage_bytes"],
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
                "written": 2,
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
                "written": 0,
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
            "memories": [
                memory("known", type_="error_pattern", importance=9, access_count=5, age_days=15)
            ],
        },
        "near_candidates": {
            "count": 1,
            "memories": [
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
        name: [memory["key"] for memory in report[name]["memories"]]
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
            PromotePolicy(),
            DecayPolicy(),
            AlertPolicy(),
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
            "Agents with more than 10,000 memories: build_agent (10,001). Set an expiry for more "
            "of their memories.",
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
            "The number of memories grew from 100 on 2026-11-15 to 150, most of all for qa_agent.",
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


# Formats


@pytest.fixture
def hostile(db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]) -> Memctl:
    """Memories with hostile names in every list of a report."""
    for name in HOSTILE:
        stored = name.encode("utf-8", "surrogateescape")
        for use in range(2):
            memory_id = remember(
                importance=9,
                idle_days=20,
                access_count=0 if use else 9,
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
        INSERT INTO memory_runs (job, started_at, status, error, memctl_version, host, pid)
        VALUES ('decay', '2026-11-20T00:00:00Z', 'failed', ?, '0', 'h', 1)
        """,
        (" ".join(HOSTILE[:7]),),
    )
    migrated.ok("snapshot")
    return migrated


@pytest.mark.parametrize("form", ["text", "markdown", "json", "html"])
def test_stored_text_is_printed_without_control_characters(hostile: Memctl, form: str) -> None:
    printed = hostile.ok("report", "--format", form).out

    assert all(character.isprintable() or character == "\n" for character in printed)
    assert "alert(1)" in printed.replace("\\", "")


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_well_formed_and_has_no_script_link_or_image(hostile: Memctl) -> None:
    page = Page()

    page.feed(hostile.ok("report", "--format", "html").out)

    assert page.open == []
    assert page.elements == {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div"),
        *("ul", "li", "table", "tr", "th", "td", "svg", "path", "rect", "circle", "text"),
    }
    assert page.attributes <= {
        *("lang", "charset", "name", "content", "class", "role", "aria-label", "aria-hidden"),
        *("viewbox", "d", "x", "y", "cx", "cy", "r", "rx", "width", "height", "text-anchor"),
    }
    assert "<script>alert(1)</script>" in page.text
    assert "url(" not in page.text


def test_stored_text_is_escaped_in_markdown(hostile: Memctl) -> None:
    text = hostile.ok("report", "--format", "markdown").out

    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)

    inline = {child.type for token in tokens for child in token.children or ()}
    assert inline <= {"text", "text_special", "softbreak"}
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
    found = replace(report, findings=["agent_memory has <b>5</b> unreadable expiries"])

    assert "\n## Findings\n\n- agent\\_memory has &lt;b&gt;5" in report_markdown(found)
    assert "* agent_memory has <b>5</b> unreadable expiries\n" in report_text(found)
    assert "<li>agent_memory has &lt;b&gt;5&lt;/b&gt; unreadable" in report_html(found)
    assert "Findings" not in report_text(report) + report_html(report)


def test_the_report_of_an_empty_database(migrated: Memctl) -> None:
    answer = migrated.ok("report")

    assert answer.out == (
        "Memory report, 2026-11-15T09:43:58Z to 2026-11-22T09:43:58Z\n"
        "===========================================================\n"
        "\n"
        "Recommended actions\n"
        "-------------------\n"
        "* Jobs that did not run in this period: cleanup, decay, promote, snapshot and prune. "
        "`memctl schedule --cron` prints a crontab line for all jobs.\n"
        "* Accesses are not counted. To count them, run `memctl enable access-counting`.\n"
        "\n"
        "Summary\n"
        "-------\n"
        f"* {migrated.database}: 0 memories of 0 agents, 0 in the archive; 0 B of text in a file "
        f"of {readable_bytes(migrated.database.stat().st_size)}.\n"
        "* Growth: unknown without a snapshot. Written and still active: 0.\n"
        "* Archived: 0 expired, 0 for other reasons. Restored: 0. Permanently deleted: 0. "
        "Importance lowered: 0 times. Promoted: 0.\n"
        "* Memories read in the last 30 days: 0. Never read and at least 7 days old: 0.\n"
        "* Changes are known only since 2026-11-22T09:43:58Z.\n"
    )
    assert json.loads(migrated.ok("report", "--format", "json").out)["agents"] == []
    assert "no memories" in migrated.ok("report", "--format", "html").out


def test_a_report_file_is_readable_only_by_its_owner(migrated: Memctl, tmp_path: Path) -> None:
    target = tmp_path / "report.html"

    answer = migrated.ok("report", "--format", "html", "-o", str(target))
    printed = migrated.ok("report", "--format", "html", "-o", "-")

    assert (answer.out, answer.err) == ("", "")
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_text() == printed.out


# Charts


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
        line for line in printed.splitlines() if "of promotion (" in line or "more than" in line
    ] == [
        "* Agents with more than 1 memories: build_agent (2). Set an expiry for more of their "
        "memories.",
        "* Memories that meet every condition of promotion (importance 6.5, 2 reads, 3 days of "
        "age, and a pattern or learning): 1; all but one: 0.",
    ]


def test_a_line_has_gaps_where_values_are_missing() -> None:
    drawing = line_chart("m", ["a", "b", "c", "d"], [10, None, 20, 40])

    assert (
        re.findall(r'class="line" d="([^"]*)"', drawing)
        == [
            "M44.0 149.8",
            "M273.3 98.0 L388.0 12.0",
        ]
        or len(re.findall('class="line"', drawing)) == 2
    )
    assert re.findall("<title>(.*?)</title>", drawing) == ["a: 10", "c: 20", "d: 40"]


def test_bars_are_stacked_to_the_height_of_their_sum() -> None:
    drawing = stacked_bars("m", ["x"], [Series("up", "one", [3]), Series("down", "two", [1])])

    bars = re.findall(
        r'class="(\w+)" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawing
    )
    assert bars == [("one", "55.5", "130.5"), ("two", "12.0", "43.5")]
    assert re.findall("<title>(.*?)</title>", drawing) == ["x: 3 up", "x: 1 down"]


def test_long_bar_names_are_truncated_with_the_full_name_in_the_title() -> None:
    drawing = horizontal_bars("m", ["a" * 40, "<b>"], [7, 0])

    assert f">{'a' * 19}…</text>" in drawing
    assert re.findall("<title>(.*?)</title>", drawing) == [f"{'a' * 40}: 7", "&lt;b&gt;: 0"]


@pytest.mark.parametrize("values", [[], [0], [None], [10**9, 1]])
def test_charts_can_be_drawn_of_few_and_of_large_values(values: list[int | None]) -> None:
    labels = [str(number) for number in range(len(values))]
    bars = [value or 0 for value in values]

    drawings = [
        line_chart("m", labels, values),
        stacked_bars("m", labels, [Series("s", "one", bars)]),
        horizontal_bars("m", labels, bars),
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
