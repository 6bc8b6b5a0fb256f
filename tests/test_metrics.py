"""Metrics: the same figures as JSON, records, a table, and for Prometheus."""

import csv
import io
import json
import platform
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl import __version__
from memctl.insight.metrics import read_metrics
from memctl.storage.sqlite.store import SqliteStore
from tests.support.database import insert_memory
from tests.support.odd_values import ODD_AGENTS
from tests.support.program import NOW, Memctl
from tests.support.terminal import on_a_terminal

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def fleet(migrated: Memctl, remember: Callable[..., str]) -> Memctl:
    """Two agents, an expiry, and snapshots on three of four days; the current day is the fifth."""
    remember(key="a", value="xx", importance=8, access_count=3)
    remember(key="b", value="yy", importance="high")
    remember(key="c", value="zz", type="context", expired_for=HOUR)
    migrated.ok("snapshot")
    migrated.at(NOW + DAY).ok("cleanup")
    migrated.at(NOW + DAY).ok("snapshot")
    remember(key="日本", value="v" * 1500, agent_id="агент 🤖", metadata="{}", importance=2)
    migrated.at(NOW + 3 * DAY).ok("snapshot")
    return migrated.at(NOW + 4 * DAY)


def level(**figures: Any) -> dict[str, Any]:
    """Return the figures of a level, most of which are zero."""
    return {
        "memories": 0,
        "archived": 0,
        "importance_avg": None,
        "accessed_memories": 0,
        "accesses": None,
        "accesses_at_least": 0,
        "expired_per_day": 0.0,
        "archived_per_day": 0.0,
        "storage_bytes": 0,
        **figures,
    }


def test_metrics_are_reported_for_types_agents_and_all(fleet: Memctl) -> None:
    answer = fleet.ok("metrics").json

    learning = level(
        memories=2, importance_avg=8.0, accessed_memories=1, accesses_at_least=3, storage_bytes=6
    )
    context = level(archived=1, expired_per_day=0.25, archived_per_day=0.25, storage_bytes=3)
    other = level(memories=1, importance_avg=2.0, storage_bytes=1508)
    both = {
        "expired_per_day": 0.25,
        "archived_per_day": 0.25,
        "accessed_memories": 1,
        "accesses_at_least": 3,
    }
    jobs = answer.pop("jobs")
    assert answer == {
        "schema": 1,
        "at": "2026-11-26T09:43:58Z",
        "database": str(fleet.database),
        "storage": {
            "size_bytes": fleet.database.stat().st_size,
            "wal_bytes": fleet.database.with_name("harness.db-wal").stat().st_size,
            "free_pages": 0,
            "free_bytes": 0,
        },
        "period": {"since": "2026-11-22T09:43:58Z", "days": 4.0},
        "accesses_since": None,
        "system": level(memories=3, archived=1, importance_avg=5.0, storage_bytes=1517, **both),
        "agents": {
            "build_agent": {
                **level(memories=2, archived=1, importance_avg=8.0, storage_bytes=9, **both),
                "types": {"context": context, "learning": learning},
            },
            "агент 🤖": {**other, "types": {"learning": other}},
        },
    }
    assert [(job["job"], job["run_id"], job["consecutive_failures"]) for job in jobs] == [
        ("cleanup", 2, 0),
        ("snapshot", 4, 0),
    ]


def test_metrics_of_one_agent_include_no_other(fleet: Memctl) -> None:
    answer = fleet.ok("metrics", "--agent", "агент 🤖").json

    assert list(answer["agents"]) == ["агент 🤖"]
    assert answer["system"] == level(memories=1, importance_avg=2.0, storage_bytes=1508)


def test_an_unknown_agent_is_not_found(fleet: Memctl) -> None:
    answer = fleet("metrics", "--agent", "build_agnt")

    assert (answer.exit_code, answer.out) == (1, "")
    assert "did you mean 'build_agent'?" in answer.err


def test_metrics_of_an_empty_database_are_zero(migrated: Memctl) -> None:
    answer = migrated.ok("metrics").json

    assert (answer["system"], answer["agents"], answer["jobs"]) == (level(), {}, [])
    assert migrated.ok("metrics", "--csv").out == ""
    assert migrated.ok("metrics", "--history", "30d").json["system"]["history"] == []


def test_history_shows_each_day_including_gaps(fleet: Memctl) -> None:
    answer = fleet.ok("metrics", "--history", "30d").json

    assert [
        (day["date"], day["figures"]["memories"], day["figures"]["expired_that_day"])
        for day in answer["system"]["history"]
    ] == [
        ("2026-11-22", 3, 0),
        ("2026-11-23", 2, 1),
        ("2026-11-24", None, 0),
        ("2026-11-25", 3, 0),
        ("2026-11-26", None, 0),
    ]
    assert [day["figures"]["memories"] for day in answer["agents"]["агент 🤖"]["history"]] == [
        0,
        0,
        None,
        1,
        None,
    ]


def test_history_covers_the_requested_number_of_days(fleet: Memctl) -> None:
    answer = fleet.ok("metrics", "--history", "4d").json

    assert [day["date"] for day in answer["system"]["history"]] == [
        "2026-11-23",
        "2026-11-24",
        "2026-11-25",
        "2026-11-26",
    ]


def test_records_are_by_agent_and_type(fleet: Memctl) -> None:
    lines = fleet.ok("metrics", "--nl").out.splitlines()
    table = list(csv.DictReader(io.StringIO(fleet.ok("metrics", "--csv").out)))

    records = [json.loads(line) for line in lines]
    assert [(record["agent_id"], record["type"], record["memories"]) for record in records] == [
        ("build_agent", "context", 0),
        ("build_agent", "learning", 2),
        ("агент 🤖", "learning", 1),
    ]
    assert table == [
        {name: "" if value is None else str(value) for name, value in record.items()}
        for record in records
    ]


def test_records_of_the_history_are_by_day_agent_and_type(fleet: Memctl) -> None:
    lines = fleet.ok("metrics", "--history", "30d", "--nl").out.splitlines()

    assert [
        (row["date"], row["agent_id"], row["type"], row["memories"], row["expired_that_day"])
        for row in map(json.loads, lines)
    ] == [
        ("2026-11-22", "build_agent", "context", 1, 0),
        ("2026-11-22", "build_agent", "learning", 2, 0),
        ("2026-11-23", "build_agent", "context", 0, 1),
        ("2026-11-23", "build_agent", "learning", 2, 0),
        ("2026-11-25", "build_agent", "context", 0, 0),
        ("2026-11-25", "build_agent", "learning", 2, 0),
        ("2026-11-25", "агент 🤖", "learning", 1, 0),
    ]


def test_the_table_has_the_largest_agent_first_and_the_total_last(fleet: Memctl) -> None:
    answer = fleet.ok("metrics", "--table")

    assert answer.out == (
        "                                     average        accesses  expired  archived         "
        "  memories\n"
        "agent         memories  archived  importance  read  at least  per day   per day  storage"
        "  per day\n"
        "build_agent          2         1         8.0     1         3      0.2       0.2      9 B"
        "  █▁ ▁\n"
        "агент 🤖             1         0         2.0     0         0      0.0       0.0   1.5 kB"
        "  ▁▁ █\n"
        "all 2 agents         3         1         5.0     1         3      0.2       0.2   1.5 kB"
        "  █▁ █\n"
    )
    assert answer.err == (
        "metrics: 'read' covers the last 30 days; rates are since 2026-11-22T09:43:58Z\n"
    )


def test_a_narrow_terminal_omits_the_last_columns(fleet: Memctl) -> None:
    words = ("metrics", "-t", "--quiet")
    narrow = on_a_terminal(fleet, *words, columns=70)
    wide = on_a_terminal(fleet, *words, columns=200)

    assert narrow.replace("\r", "") == (
        "                                     average        expired\n"
        "agent         memories  archived  importance  read  per day  storage\n"
        "build_agent          2         1         8.0     1      0.2      9 B\n"
        "агент 🤖             1         0         2.0     0      0.0   1.5 kB\n"
        "all 2 agents         3         1         5.0     1      0.2   1.5 kB\n"
    )
    assert wide.replace("\r", "") == fleet.ok(*words).out


def test_accesses_count_from_the_first_whole_day_on(
    migrated: Memctl, remember: Callable[..., str], db: sqlite3.Connection
) -> None:
    remember()
    migrated.ok("enable", "access-counting")
    for at in (NOW, NOW + DAY, NOW + DAY + HOUR):
        db.execute(
            "UPDATE agent_memory SET access_count = access_count + 1, last_accessed = ?",
            (at.strftime("%Y-%m-%d %H:%M:%S"),),
        )

    early = migrated.at(NOW + HOUR).ok("metrics").json
    late = migrated.at(NOW + 2 * DAY).ok("metrics").json

    assert (early["accesses_since"], early["system"]["accesses"]) == (None, None)
    assert (late["accesses_since"], late["system"]["accesses"]) == ("2026-11-23T00:00:00Z", 2)


@pytest.mark.parametrize(
    ("columns", "reads"),
    [
        pytest.param(
            {"created_days": 2, "idle_days": 1, "access_count": 7},
            7,
            id="written within the window",
        ),
        pytest.param(
            {"created_days": 40, "idle_days": 1, "access_count": 7}, 1, id="read within the window"
        ),
        pytest.param(
            {"created_days": 40, "idle_days": 31, "access_count": 7}, 0, id="read before the window"
        ),
        pytest.param({"created_days": 2, "idle_days": 2, "access_count": 0}, 0, id="never read"),
        pytest.param({"created_days": 2, "idle_days": 1, "access_count": -3}, 0, id="negative"),
        pytest.param({"created_days": 2, "idle_days": 1, "access_count": "many"}, 0, id="a word"),
        pytest.param(
            {"created_days": 2, "idle_days": -2, "access_count": 4}, 4, id="a wrong clock"
        ),
    ],
)
def test_accesses_are_at_least_those_that_the_memories_show(
    db: sqlite3.Connection, migrated: Memctl, columns: dict[str, Any], reads: int
) -> None:
    created = NOW - timedelta(days=columns.pop("created_days"))
    insert_memory(db, created_at=created.strftime("%Y-%m-%d %H:%M:%S"), **columns)

    found = read_metrics(SqliteStore(db), migrated.database, now=NOW)

    assert (found.system.accesses, found.system.accesses_at_least) == (None, reads)


def test_each_name_has_one_meaning(fleet: Memctl) -> None:
    answer = fleet.ok("metrics", "--history", "30d").json

    day = answer["system"]["history"][1]["figures"]
    assert (day["archived"], day["archived_that_day"]) == (1, 1)
    assert [figures["figures"]["archived"] for figures in answer["system"]["history"]] == [
        0,
        1,
        None,
        1,
        None,
    ]
    assert {name for name in day if not name.endswith("_that_day")} < set(answer["system"])


def test_rates_are_over_the_last_thirty_days(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=HOUR)
    migrated.ok("cleanup")

    late = migrated.at(NOW + 30 * DAY).ok("metrics").json
    later = migrated.at(NOW + 31 * DAY).ok("metrics").json

    assert late["system"]["expired_per_day"] == round(1 / 30, 6)
    assert (later["system"]["expired_per_day"], later["period"]) == (
        0.0,
        {"since": "2026-11-23T09:43:58Z", "days": 30.0},
    )


@pytest.mark.parametrize(
    ("statuses", "failures"),
    [
        pytest.param(["ok", "failed", "failed"], 2, id="two failures"),
        pytest.param(["failed", "ok"], 0, id="failures before a success"),
        pytest.param(["ok", "failed", "refused", "failed"], 2, id="a refusal between failures"),
        pytest.param(["running", "failed"], 2, id="a crash before a failure"),
        pytest.param(["failed", "running"], 1, id="a run that may be in progress"),
    ],
)
def test_failures_in_a_row_are_counted(
    db: sqlite3.Connection, migrated: Memctl, statuses: list[str], failures: int
) -> None:
    for status in statuses:
        db.execute(
            """
            INSERT INTO memory_runs
                (job, started_at, finished_at, status, memctl_version, host, pid)
            VALUES ('prune', '2026-11-22T09:00:00Z', '2026-11-22T09:00:01Z', ?, '0', 'h', 1)
            """,
            (status,),
        )

    (job,) = migrated.ok("metrics").json["jobs"]

    assert job["consecutive_failures"] == failures
    assert job["last_ok_at"] == ("2026-11-22T09:00:01Z" if "ok" in statuses else None)


def test_the_text_for_prometheus_has_every_figure(fleet: Memctl, db: sqlite3.Connection) -> None:
    db.execute("UPDATE memory_runs SET duration_ms = 1500, longest_lock_ms = 2.5")

    text = fleet.ok("metrics", "--prometheus").out

    size = fleet.database.stat().st_size
    wal = fleet.database.with_name("harness.db-wal").stat().st_size
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    of_types = {
        "memories": (0, 2, 1),
        "archived_memories": (1, 0, 0),
        "importance_average": (None, 8.0, 2.0),
        "accessed_memories": (0, 1, 0),
        "accesses_at_least": (0, 3, 0),
        "storage_bytes": (3, 6, 1508),
    }
    types = ("build_agent", "context"), ("build_agent", "learning"), ("агент 🤖", "learning")
    archived = {"expired": 1, "forgotten": 0, "deleted": 0, "replaced": 0, "imported": 0}
    archived |= {"manual": 0, "quota": 0}
    finished = {"cleanup": 1, "decay": 0, "promote": 0, "snapshot": 3, "prune": 0}
    place = f'database="{fleet.database}"'
    assert [sample.replace(f"{place},", "").replace(f"{{{place}}}", "") for sample in samples] == [
        *(
            f'memctl_{name}{{agent="{agent}",type="{type_}"}} {value}'
            for name, values in of_types.items()
            for (agent, type_), value in zip(types, values, strict=True)
            if value is not None
        ),
        *(
            f'memctl_memories_archived_total{{reason="{reason}"}} {count}'
            for reason, count in archived.items()
        ),
        "memctl_memories_restored_total 0",
        "memctl_memories_pruned_total 0",
        "memctl_memories_decayed_total 0",
        "memctl_memories_promoted_total 0",
        "memctl_memories_imported_total 0",
        "memctl_alerts_total 0",
        *(
            f'memctl_runs_total{{job="{job}",status="{status}"}} {count if status == "ok" else 0}'
            for job, count in finished.items()
            for status in ("ok", "failed", "refused")
        ),
        'memctl_job_last_start_timestamp_seconds{job="cleanup"} 1795427038',
        'memctl_job_last_start_timestamp_seconds{job="snapshot"} 1795599838',
        'memctl_job_last_success_timestamp_seconds{job="cleanup"} 1795427038',
        'memctl_job_last_success_timestamp_seconds{job="snapshot"} 1795599838',
        'memctl_job_last_duration_seconds{job="cleanup"} 1.5',
        'memctl_job_last_duration_seconds{job="snapshot"} 1.5',
        'memctl_job_last_longest_lock_seconds{job="cleanup"} 0.0025',
        'memctl_job_last_longest_lock_seconds{job="snapshot"} 0.0025',
        'memctl_job_consecutive_failures{job="cleanup"} 0',
        'memctl_job_consecutive_failures{job="snapshot"} 0',
        "memctl_paused 0",
        "memctl_schema_step 3",
        f"memctl_database_size_bytes {size}",
        f"memctl_database_wal_bytes {wal}",
        "memctl_database_free_bytes 0",
        "memctl_read_timestamp_seconds 1795686238",
        'memctl_findings{severity="error"} 0',
        'memctl_findings{severity="warning"} 1',
        'memctl_findings{severity="info"} 1',
        f'memctl_build_info{{version="{__version__}",sqlite="{sqlite3.sqlite_version}",'
        f'python="{platform.python_version()}"}} 1',
    ]


def test_prometheus_sees_a_pause_and_only_findings_that_are_cheap(
    fleet: Memctl, remember: Callable[..., str]
) -> None:
    remember(expires_at="soon")  # only a look at all memories finds it
    before = fleet.ok("metrics", "--prometheus").out
    fleet.ok("pause", "--reason", "deploying")

    paused = fleet.ok("metrics", "--prometheus").out

    severities = [finding["severity"] for finding in fleet("check", "--json").json["findings"]]
    assert (counted(before, "memctl_paused"), counted(paused, "memctl_paused")) == ([0], [1])
    assert counted(before, "memctl_findings") == [0, 1, 1]
    assert counted(paused, "memctl_findings") == [0, 1, 2]
    assert severities.count("warning") > 1


def counted(text: str, name: str) -> list[int]:
    """Return the values of the samples of a metric."""
    return [int(value) for value in re.findall(rf"^{name}\{{.*\}} (\d+)$", text, re.MULTILINE)]


def remember_odd_names(db: sqlite3.Connection) -> None:
    """Write a memory for every odd name: as agent, type and key."""
    for number, name in enumerate(ODD_AGENTS):
        db.execute(
            """
            INSERT INTO agent_memory (id, agent_id, type, key, value)
            VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), 'v')
            """,
            (f"odd-{number}", name, name, name),
        )


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, of Debian's prometheus")
def test_promtool_finds_nothing_wrong(db: sqlite3.Connection, migrated: Memctl) -> None:
    remember_odd_names(db)
    migrated.ok("snapshot")
    migrated.ok("enable", "access-counting")
    text = migrated.at(NOW + DAY).ok("metrics", "--prometheus").out

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


HOW_TO = Path(__file__).parent.parent / "docs" / "how-to"
RULES = HOW_TO / "memctl.rules.yml"


def test_the_rules_have_the_documented_expressions_and_metrics_that_exist(
    migrated: Memctl,
) -> None:
    migrated.ok("run")
    printed = migrated.ok("metrics", "--prometheus").out
    expressions = re.findall(r"^ +expr: (.*)$", RULES.read_text(), re.MULTILINE)
    _, _, section = (HOW_TO / "monitor.md").read_text().partition("\n## Prometheus\n")
    documented = re.findall(r"^\| `(.*memctl_.*?)` \|", section, re.MULTILINE)

    used = set(re.findall(r"memctl_\w+", " ".join(documented)))

    assert set(expressions) < set(documented)
    assert used <= set(re.findall(r"^(memctl_\w+)\{", printed, re.MULTILINE))


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, of Debian's prometheus")
def test_promtool_accepts_the_rules() -> None:
    checked = subprocess.run(
        ["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, "SUCCESS: 5 rules found" in checked.stdout) == (0, True), checked


@pytest.mark.parametrize(
    "form", ["--table", "--csv", "--nl", "--json", "--prometheus", "--history=9d"]
)
def test_odd_names_stay_distinct_and_are_escaped(
    db: sqlite3.Connection, migrated: Memctl, form: str
) -> None:
    remember_odd_names(db)
    migrated.ok("snapshot")

    printed = migrated.ok("metrics", form).out

    assert all(character.isprintable() or character == "\n" for character in printed)
    assert len(set(re.findall(r"^memctl_memories\{.*", printed, re.MULTILINE))) == (
        len(ODD_AGENTS) if form == "--prometheus" else 0
    )


def test_the_file_for_prometheus_is_replaced_atomically(fleet: Memctl, tmp_path: Path) -> None:
    target = tmp_path / "memctl.prom"
    target.write_text("old")
    target.chmod(0o600)
    before = sorted(tmp_path.iterdir())

    answer = fleet.ok("metrics", "--prometheus", "-o", str(target))

    assert (answer.out, answer.err) == ("", "")
    assert target.read_text() == fleet.ok("metrics", "--prometheus").out
    assert target.stat().st_mode & 0o777 == 0o644
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "exit_code", "complaint"),
    [
        pytest.param(
            ("metrics", "--prometheus", "-o", "{}/no/x"), 1, "cannot be written", id="gone"
        ),
        pytest.param(
            ("metrics", "--prometheus", "-o", "{}"), 2, "is not a regular file", id="directory"
        ),
        pytest.param(
            ("report", "-o", "/dev/null"), 2, "/dev/null is not a regular file", id="a device"
        ),
        pytest.param(("metrics", "-o", "{}/x"), 2, "-o requires --prometheus", id="not for JSON"),
        pytest.param(
            ("metrics", "--prometheus", "-t"),
            2,
            "--prometheus cannot be used with",
            id="two formats",
        ),
        pytest.param(
            ("metrics", "--prometheus", "--json"),
            2,
            "--prometheus cannot be used with",
            id="json, too",
        ),
        pytest.param(("metrics", "--csv", "-t"), 2, "cannot be used together", id="csv and table"),
        pytest.param(("metrics", "--history", "0d"), 2, "out of range", id="without --history"),
        pytest.param(("metrics", "--history", "week"), 2, "is not a duration", id="not a duration"),
        pytest.param(("report", "--since", "2031-01-01"), 2, "not in the past", id="the future"),
        pytest.param(("report", "--since", "lately"), 2, "is not a time", id="not a time"),
    ],
)
def test_invalid_output_and_options_are_errors_of_one_line(
    migrated: Memctl, tmp_path: Path, words: tuple[str, ...], exit_code: int, complaint: str
) -> None:
    before = sorted(tmp_path.iterdir())

    answer = migrated(*(word.format(tmp_path) for word in words))

    assert (answer.exit_code, answer.out, answer.err.count("\n")) == (exit_code, "", 1)
    assert complaint in answer.err
    assert sorted(tmp_path.iterdir()) == before
    assert Path("/dev/null").is_char_device()
