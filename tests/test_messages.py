"""Messages on stderr: as text, as a JSON log, and for the journal."""

import json
import re
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.support.jobs import fill_archive
from tests.support.program import Answer, Memctl


def logged(answer: Answer) -> list[dict[str, Any]]:
    """Return the lines of a JSON log without the fields that differ each time."""
    lines = [json.loads(line) for line in answer.err.splitlines()]
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
        line.pop("duration_ms", None)
        line.pop("longest_lock_ms", None)
        line["message"] = line["message"].split("; run ")[0]
    return lines


def test_a_json_log_reports_each_job_with_its_counts(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=timedelta(days=1))

    answer = migrated.ok("run", "--log-format", "json")

    common = {
        "level": "info",
        "event": "finished",
        "dry_run": False,
        "cutoff": "2026-11-22T09:43:58Z",
        "remaining": 0,
    }
    assert answer.out == ""
    assert logged(answer) == [
        {
            "job": "cleanup",
            "run_id": 1,
            "archived": 1,
            "versions_pruned": 0,
            "over_quota": 0,
            "held_over_quota": 0,
            "held": 0,
            "message": "cleanup: archived 1 expired memory",
            **common,
        },
        {
            "job": "decay",
            "run_id": 2,
            "decayed": 0,
            "held": 0,
            "message": "decay: lowered the importance of 0 idle memories",
            **common,
        },
        {
            "job": "promote",
            "run_id": 3,
            "promoted": 0,
            "merged": 0,
            "superseded": 0,
            "message": "promote: promoted 0 memories, merged 0 into existing entries, "
            "superseded 0 entries",
            **common,
        },
        {
            "job": "snapshot",
            "run_id": 4,
            "rows": 1,
            "message": "snapshot: recorded today's figures in 1 row",
            **common,
        },
        {
            "job": "prune",
            "run_id": 5,
            "pruned": 0,
            "kept_important": 0,
            "held": 0,
            "message": "prune: deleted 0 archived memories, kept 0 important memories",
            **common,
        },
    ]


@pytest.mark.parametrize("words", ["cleanup", "decay", "prune", "restore --run 1"])
def test_a_json_log_has_the_durations_of_every_job(
    migrated: Memctl, remember: Callable[..., str], words: str
) -> None:
    remember(expired_for=timedelta(days=1))
    migrated.ok("cleanup")

    answer = migrated.ok(*words.split(), "--log-format", "json")

    line = json.loads(answer.err)
    assert (line["job"], line["event"]) == (words.split()[0], "finished")
    assert line["duration_ms"] >= 0
    assert line["longest_lock_ms"] >= 0


def test_a_json_log_reports_a_failure_with_its_code(memctl: Memctl) -> None:
    answer = memctl("cleanup", "--log-format", "json", "--json")

    message = f"there is no database at {memctl.database}"
    hint = "check --db, or create one with `memctl migrate`"
    assert (answer.exit_code, answer.out) == (10, "")
    assert logged(answer) == [
        {
            "level": "error",
            "job": "cleanup",
            "event": "failed",
            "error": {"code": "no_database", "exit_code": 10, "message": message, "hint": hint},
            "message": f"memctl: {message}; {hint}",
        }
    ]


def test_a_journal_line_begins_with_its_priority(db: sqlite3.Connection, migrated: Memctl) -> None:
    fill_archive(db)

    answer = migrated("run", "--log-format", "journal", "--verbose")
    again = migrated("run", "--log-format", "journal", "--verbose")
    missing = migrated("run", "--log-format", "journal", "--db", "missing.db")

    prefixes = [line.split(":")[0] for line in (answer.err + again.err + missing.err).splitlines()]
    assert prefixes == [
        "<6>cleanup",
        "<6>decay",
        "<6>promote",
        "<6>snapshot",
        "<6>prune",
        "<4>memctl",
        "<6>cleanup",
        "<7>decay",
        "<7>promote",
        "<7>snapshot",
        "<7>prune",
        "<3>memctl",
    ]


@pytest.mark.parametrize("form", ["text", "json", "journal"])
def test_quiet_suppresses_everything_but_errors(
    memctl: Memctl, migrated: Memctl, form: str
) -> None:
    quiet = migrated.ok("run", "--quiet", "--log-format", form)
    error = migrated("run", "--quiet", "--log-format", form, "--db", "missing.db")

    assert (quiet.out, quiet.err) == ("", "")
    assert error.err.count("\n") == 1


@pytest.mark.parametrize("words", ["cleanup -q -v", "-v cleanup -q"])
def test_quiet_and_verbose_exclude_each_other(migrated: Memctl, words: str) -> None:
    answer = migrated(*words.split())

    assert answer == Answer(
        2, "", "memctl: --quiet and --verbose cannot be used together; choose one\n"
    )


@pytest.mark.parametrize("form", ["text", "json", "journal"])
def test_stored_text_is_escaped_in_messages(migrated: Memctl, form: str) -> None:
    agent = b"two\nlines \x1b[31m\xff\x7f"

    answer = migrated("cleanup", "--agent", agent, "--log-format", form)

    assert answer.exit_code == 1
    assert answer.err.count("\n") == 1
    assert answer.err.isascii()
    assert answer.err.rstrip("\n").isprintable()


def test_the_log_has_the_messages_of_other_commands_too(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(key="k")

    answers = [
        migrated.ok(*words.split(), "--log-format", "json")
        for words in (
            "forget build_agent learning k",
            "enable access-boost",
            "pause --reason deploying",
            "cleanup",
        )
    ]

    lines = [line for answer in answers for line in logged(answer)]
    assert [(line["job"], line["event"], line["message"]) for line in lines] == [
        ("forget", "finished", "forget: archived 1 memory"),
        ("enable", "message", "enable: access-boost is now enabled"),
        ("pause", "message", "pause: jobs are paused until `memctl resume`"),
        (
            "cleanup",
            "paused",
            "cleanup: paused until `memctl resume` (deploying); nothing was done",
        ),
    ]
    assert lines[0]["archived"] == 1
