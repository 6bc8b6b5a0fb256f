"""The health report that `memctl run` writes: once per period, complete, beside the other jobs."""

import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.config.jobs import JOBS
from tests.support.disks import fill_disk
from tests.support.kills import Step, kill
from tests.support.ledger import jobs_run, runs
from tests.support.program import NOW, Memctl, complaint
from tests.support.service import Service

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def configure(folder: Path, **keys: str) -> tuple[str, str]:
    """Write a configuration with a report and return the options that name it."""
    (folder / "reports").mkdir(exist_ok=True)
    keys = {"every": "weekly", "directory": "reports"} | keys
    file = folder / "memctl.toml"
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in keys.items()]
    file.write_text("[report]\n" + "".join(lines))
    return "--config", str(file)


def written(folder: Path) -> list[str]:
    """Return the names of the files in the directory of reports."""
    return sorted(path.name for path in (folder / "reports").iterdir())


@pytest.mark.parametrize(
    ("form", "ending", "begin"),
    [
        pytest.param("html", "html", "<!doctype html>", id="html"),
        pytest.param("text", "txt", "Memory report\n=====", id="text"),
        pytest.param("markdown", "md", "# Memory report", id="markdown"),
        pytest.param("json", "json", '{\n  "schema": 1,', id="json"),
    ],
)
def test_run_writes_the_report_in_each_format(
    migrated: Memctl,
    remember: Callable[..., str],
    tmp_path: Path,
    form: str,
    ending: str,
    begin: str,
) -> None:
    remember(key="k")

    answer = migrated.ok("run", *configure(tmp_path, format=form))

    file = tmp_path / "reports" / f"memctl-report-2026-11-22.{ending}"
    assert (answer.out, answer.err) == ("", "")
    assert written(tmp_path) == [file.name]
    assert file.read_text().lower().startswith(begin.lower())
    assert file.stat().st_mode & 0o777 == 0o600
    assert runs(migrated.database)[-1] == ("report", "ok", 1)


def test_by_default_no_report_is_written_and_none_is_mentioned(
    migrated: Memctl, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    answer = migrated.ok("run", "-v")

    assert "report" not in answer.err
    assert jobs_run(migrated.database) == list(JOBS)
    assert [path for path in tmp_path.iterdir() if path not in before] == [
        path for path in tmp_path.glob("harness.db-*") if path not in before
    ]


def test_a_report_is_written_once_in_its_period_even_when_late(
    migrated: Memctl, tmp_path: Path
) -> None:
    options = configure(tmp_path, format="text")
    monday = datetime(2026, 11, 23, tzinfo=UTC)

    for now in (
        NOW,
        NOW + HOUR,  # still Sunday
        monday,
        monday + 6 * DAY,
        monday + 24 * DAY,  # late, on a Thursday
        monday + 25 * DAY,
        monday + 28 * DAY,
    ):
        migrated.at(now).ok("run", *options)

    assert written(tmp_path) == [
        f"memctl-report-{day}.txt"
        for day in ("2026-11-22", "2026-11-23", "2026-12-17", "2026-12-21")
    ]


@pytest.mark.parametrize(
    ("every", "begin"),
    [("daily", "21 Nov"), ("weekly", "15 Nov"), ("monthly", "22 Oct")],
)
def test_a_report_covers_its_period(
    migrated: Memctl, tmp_path: Path, every: str, begin: str
) -> None:
    migrated.ok("run", *configure(tmp_path, every=every, format="text"))

    text = (tmp_path / "reports" / "memctl-report-2026-11-22.txt").read_text()
    assert f"\nPeriod    {begin} 2026, 09:43 UTC to 22 Nov 2026, 09:43 UTC\n" in text


def test_the_directory_is_by_default_that_of_the_database(migrated: Memctl, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "memctl.toml"
    file.write_text('[report]\nevery = "daily"\n')

    migrated.ok("run", "--config", str(file))

    assert (tmp_path / "memctl-report-2026-11-22.html").is_file()


def test_the_success_hook_receives_the_path(migrated: Memctl, tmp_path: Path) -> None:
    options = configure(tmp_path)
    received = tmp_path / "received.jsonl"
    command = json.dumps(["sh", "-c", f"cat >> {received}; echo >> {received}"])
    with Path(options[1]).open("a") as file:
        file.write(f"[hooks]\nsuccess = {command}\n")

    printed = migrated.ok("run", "--json", *options).json["jobs"][-1]

    last: dict[str, Any] = json.loads(received.read_text().splitlines()[-1])
    path = str(tmp_path / "reports" / "memctl-report-2026-11-22.html")
    assert (last["hook"], last["job"], last["result"]["path"]) == ("success", "report", path)
    assert printed == {"due": True, **last["result"]}


def test_a_preview_reports_what_would_be_written_and_when(migrated: Memctl, tmp_path: Path) -> None:
    options = configure(tmp_path)

    due = migrated.ok("run", "--dry-run", *options)
    none = written(tmp_path)
    migrated.ok("run", *options)
    done = migrated.ok("run", "--dry-run", *options)
    document = migrated.ok("run", "--dry-run", "--json", *options).json

    path = tmp_path / "reports" / "memctl-report-2026-11-22.html"
    assert due.err.splitlines()[-1] == f"report: would write {path}"
    assert none == []
    assert done.err.splitlines()[-1] == "report: not due before 2026-11-23T00:00:00Z"
    assert document["jobs"][-1] == {
        "job": "report",
        "due": False,
        "due_at": "2026-11-23T00:00:00Z",
        "error": None,
    }


def test_without_time_left_the_report_stays_due(migrated: Memctl, tmp_path: Path) -> None:
    options = configure(tmp_path)

    answer = migrated.ok("run", "-v", "--max-seconds", "0", *options)
    migrated.ok("run", *options)

    assert answer.err.splitlines()[-1] == "report: no time left; still due"
    assert written(tmp_path) == ["memctl-report-2026-11-22.html"]


# Failures


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        pytest.param(
            lambda path: path.parent.rmdir(),
            "cannot be written (No such file or directory)",
            id="no directory",
        ),
        pytest.param(lambda path: path.mkdir(), "is not a regular file", id="a directory"),
        pytest.param(
            lambda path: (path.parent.rmdir(), path.parent.touch()),
            "cannot be written (Not a directory)",
            id="a file in place of the directory",
        ),
    ],
)
def test_a_report_that_cannot_be_written_is_a_failed_run_beside_the_others(
    migrated: Memctl, tmp_path: Path, obstacle: Callable[[Path], object], reason: str
) -> None:
    options = configure(tmp_path)
    path = tmp_path / "reports" / "memctl-report-2026-11-22.html"
    obstacle(path)

    answer = migrated("run", *options)
    again = migrated("run", *options)

    assert answer.exit_code == 1
    assert complaint(answer) == (
        f"memctl: report: {path} {reason}; check [report] in the configuration"
    )
    assert runs(migrated.database) == [
        *((job, "ok", 1) for job in JOBS),
        ("report", "failed", 0),
        ("cleanup", "ok", 1),
    ]
    assert (again.exit_code, again.err) == (0, "")


def test_a_report_that_failed_is_written_an_hour_later(migrated: Memctl, tmp_path: Path) -> None:
    options = configure(tmp_path)
    (tmp_path / "reports").rmdir()
    migrated("run", *options)
    (tmp_path / "reports").mkdir()

    migrated.at(NOW + HOUR).ok("run", *options)

    assert written(tmp_path) == ["memctl-report-2026-11-22.html"]


def test_a_full_disk_leaves_no_part_of_a_report(
    migrated: Memctl, tmp_path: Path, small_disk: Path
) -> None:
    options = configure(tmp_path, directory=str(small_disk))
    filler = fill_disk(small_disk, room=4096)

    answer = migrated("run", *options)

    assert (answer.exit_code, "(No space left on device)" in complaint(answer)) == (1, True)
    assert list(small_disk.iterdir()) == [filler]


@pytest.mark.parametrize(
    "step",
    [
        pytest.param((1, "os.rename"), id="before the file has its name"),
        pytest.param((6, "UPDATE memory_runs SET finished_at =   duration_ms"), id="after it"),
    ],
)
def test_a_report_that_was_killed_is_written_by_a_later_run(
    migrated: Memctl, tmp_path: Path, step: Step
) -> None:
    options = configure(tmp_path)

    status = kill(step, migrated, ("run", *options))
    killed = runs(migrated.database)[-1]
    migrated.at(NOW + HOUR).ok("run", *options)

    assert (status, killed) == (-signal.SIGKILL, ("report", "running", 0))
    assert [path.name for path in (tmp_path / "reports").glob("*.html")] == [
        "memctl-report-2026-11-22.html"
    ]
    assert runs(migrated.database)[-1] == ("report", "ok", 1)


def test_a_report_that_fails_again_and_again_is_a_finding(migrated: Memctl, tmp_path: Path) -> None:
    options = configure(tmp_path)
    (tmp_path / "reports").rmdir()
    for hours in range(3):
        migrated.at(NOW + hours * HOUR)("run", *options)

    answer = migrated("check", *options)

    assert answer.exit_code == 3
    assert "report has failed 3 times in a row: " in answer.out


def test_a_report_of_a_database_with_unusual_memories_can_be_written(
    migrated: Memctl, service: Service, tmp_path: Path
) -> None:
    service.db.execute(
        "INSERT INTO agent_memory (id, agent_id, type, key, value)"
        " VALUES ('m', CAST(x'ff61' AS TEXT), 'context', CAST(x'fe' AS TEXT), '')"
    )

    migrated.ok("run", *configure(tmp_path))

    assert written(tmp_path) == ["memctl-report-2026-11-22.html"]


# Configuration


def test_a_missing_directory_is_found_by_config_validate(memctl: Memctl, tmp_path: Path) -> None:
    options = configure(tmp_path)
    good = memctl.ok("config", "validate", *options)
    (tmp_path / "reports").rmdir()
    bad = memctl("config", "validate", "--json", *options)
    unused = memctl.ok("config", "validate", *configure(tmp_path, every="never", directory="no"))

    assert ("is valid" in good.err, "is valid" in unused.err) == (True, True)
    assert bad.exit_code == 2
    assert bad.json["problems"] == [
        {
            "setting": "report.directory",
            "message": f"there is no directory {tmp_path}/reports",
            "hint": "create it, or correct the path",
        }
    ]


def test_an_unknown_period_is_an_error(memctl: Memctl, tmp_path: Path) -> None:
    answer = memctl("run", *configure(tmp_path, every="always"))

    assert answer.exit_code == 2
    assert "report.every: Input should be 'daily', 'weekly', 'monthly' or 'never'" in answer.err
