"""Output: safe on a terminal, quiet under cron, complete in a pipe."""

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta

import pytest

from memctl.output.terminal import json_text, visible
from tests.support.odd_values import DANGEROUS
from tests.support.program import Memctl
from tests.support.terminal import on_a_terminal


@pytest.mark.parametrize("form", ["--json", "--nl", "--csv", "--table"])
def test_control_characters_in_stored_text_are_escaped(
    migrated: Memctl, remember: Callable[..., str], form: str
) -> None:
    memory = remember(key=DANGEROUS, value=DANGEROUS)
    migrated.ok("archive", "build_agent", memory)

    printed = migrated.ok("archived", "build_agent", form).out

    assert all(character.isprintable() or character == "\n" for character in printed)
    assert "[bold]red[/]" in printed


SPECIMENS = f"{DANGEROUS}\0 half \udcf0\udc9f \t\r\n".encode("utf-8", "surrogateescape")

FORMATS = ("--json", "--nl", "--csv", "--table")
SHOWN: dict[str, tuple[str, ...]] = {
    "events --since 0": (*FORMATS, "--follow --limit 3"),
    "runs": FORMATS,
    "archived AGENT": FORMATS,
    "explain AGENT m-2": ("", "--json"),
    "check": ("", "--json", "--nagios", "--fix -n"),
    "status": ("", "--json"),
    "cleanup --dry-run --list": ("", "--json"),
    "summary AGENT": ("", "--table"),
}


@pytest.mark.parametrize(
    "line", [f"{command} {form}".strip() for command, forms in SHOWN.items() for form in forms]
)
def test_every_format_of_every_command_escapes_control_characters(
    db: sqlite3.Connection, migrated: Memctl, line: str
) -> None:
    write = """
        INSERT INTO agent_memory
            (id, agent_id, type, key, value, importance, expires_at, metadata)
        VALUES (:id, :agent, :text, :text, :text, :text, :expires_at, :text)
    """.replace(":text", "CAST(:text AS TEXT)")
    values = {"agent": DANGEROUS, "text": SPECIMENS, "expires_at": "2026-01-01"}
    db.execute(write, {**values, "id": "m-1"})
    migrated.ok("cleanup")
    db.execute(write, {**values, "id": "m-2"})
    db.execute(
        "INSERT INTO memory_runs (job, started_at, status, error, memctl_version, host, pid)"
        " VALUES ('decay', '2026-11-22T09:00:00Z', 'failed', CAST(:text AS TEXT), '', '', 1),"
        " ('decay', '2026-11-22T09:00:00Z', 'failed', :agent, '', '', 1)",
        values,
    )
    db.execute(
        "INSERT INTO memory_events (at, event, agent_id, detail)"
        " VALUES ('', 'memory:alert', CAST(:text AS TEXT), CAST(:text AS TEXT)), ('', '', '', '')",
        {"text": SPECIMENS},
    )
    migrated.ok("pause", "--reason", DANGEROUS)

    answer = migrated(*(DANGEROUS if word == "AGENT" else word for word in line.split()))

    assert answer.exit_code in (0, 1, 2, 3)
    assert "31m" in answer.out
    assert all(one.isprintable() or one == "\n" for one in answer.out + answer.err)


def test_an_error_escapes_control_characters_in_a_name(migrated: Memctl) -> None:
    answer = migrated("archived", DANGEROUS)

    assert answer.exit_code == 1
    assert "\\x1b]0;owned\\x07[bold]red[/] \\x7f\\x9b31m \\u202e\\u200f" in answer.err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("агент-тест 🤖", "агент-тест 🤖", id="letters and emoji"),
        pytest.param("a\tb\nc", "a\\tb\\nc", id="tab and newline"),
        pytest.param("half \udcf0\udc9f", "half \\udcf0\\udc9f", id="invalid UTF-8"),
        pytest.param("\u202etfel", "\\u202etfel", id="a right-to-left mark"),
    ],
)
def test_only_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_json_encodes_bytes_that_are_not_text(migrated: Memctl) -> None:
    assert json.loads(json_text({"a\udcff": ["b\udcff", b"\x00"]})) == {
        "a\\xff": [{"base64": "Yv8="}, {"blob_base64": "AA=="}]
    }


def test_jobs_print_nothing_off_a_terminal(migrated: Memctl, remember: Callable[..., str]) -> None:
    remember(expired_for=timedelta(days=1), idle_days=50)

    printed = [migrated.ok(job) for job in ("cleanup", "decay", "prune")]

    assert [(answer.out, answer.err) for answer in printed] == [("", "")] * 3


def test_a_job_prints_one_sentence_on_a_terminal(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=timedelta(days=1))

    printed = on_a_terminal(migrated, "cleanup", "--dry-run")

    assert printed == "cleanup: would archive 1 expired memory\r\n"


def test_a_real_run_prints_its_number_on_a_terminal(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=timedelta(days=1))

    printed = on_a_terminal(migrated, "cleanup")

    assert printed.startswith("cleanup: archived 1 expired memory; run 1, ")
    assert printed.count("\n") == 1


def test_a_closed_pipe_ends_the_program_silently_with_141(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for _ in range(300):
        remember(value="x" * 1000, expired_for=timedelta(days=1))
    migrated.ok("cleanup")
    process = migrated.start("archived", "build_agent", "--limit", "300", "--nl")
    assert process.stdout is not None
    assert process.stderr is not None

    process.stdout.close()
    complaint = process.stderr.read()
    process.wait()
    process.stderr.close()

    assert (process.returncode, complaint) == (141, b"")


def test_piped_tables_are_not_truncated(migrated: Memctl, remember: Callable[..., str]) -> None:
    memory = remember(value="wide " * 100 + "end")
    migrated.ok("archive", "build_agent", memory)

    printed = migrated.ok("archived", "build_agent", "--table").out

    assert "wide wide end" in printed
    assert "…" not in printed


FORMULAS = ("=1+1", "+1", "-2+3", "@SUM(1)", "\uff1d1", "\t=1", "\r=1")


def test_csv_disarms_formulas_and_keeps_numbers(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    for number, text in enumerate(FORMULAS):
        remember(id=f"m-{number}", agent_id="=cmd()", key=text, value=text, importance=-3 - number)
    remember(id="last", agent_id="=cmd()", key="a=b", value="'quoted'", importance=-20)

    printed = migrated.ok("list", "=cmd()", "--csv").out

    shown = ["'=1+1", "'+1", "'-2+3", "'@SUM(1)", "'\uff1d1", "\\t=1", "\\r=1"]
    records = list(csv.DictReader(io.StringIO(printed)))
    assert [(record["key"], record["value"]) for record in records] == [
        *zip(shown, shown, strict=True),
        ("a=b", "'quoted'"),
    ]
    assert {record["agent_id"] for record in records} == {"'=cmd()"}
    assert [record["importance"] for record in records] == [*map(str, range(-3, -10, -1)), "-20"]
    assert json.loads(migrated.ok("list", "=cmd()").out)[0]["value"] == "=1+1"


@pytest.mark.parametrize(
    "words",
    [
        "report --json --format html",
        "report --json --format markdown",
        "report --json --format text",
        "recall build_agent learning k --json --value",
        "export build_agent --json --nl",
        "summary build_agent --json --table",
        "list build_agent --json --csv",
        "metrics --json --prometheus",
        "metrics --table --prometheus",
        "events --follow --csv",
        "check --json --nagios",
        "migrate --list --to 1",
        "migrate --exit-code --no-backup",
    ],
)
def test_contradictory_options_are_refused(
    migrated: Memctl, remember: Callable[..., str], words: str
) -> None:
    remember(key="k")

    answer = migrated(*words.split())

    assert (answer.exit_code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1


def test_equivalent_options_are_accepted_together(migrated: Memctl) -> None:
    assert migrated.ok("report", "--json", "--format", "json").json["schema"] == 1
