"""Terminals: style and progress only where they are wanted, and columns that stay in line."""

import os
import pty
import re
import select
import sqlite3
import subprocess
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from tests.conftest import PROGRAM, Memctl, insert_memory
from tests.test_output import on_a_terminal

ESCAPE = "\x1b"


# Style


@pytest.mark.parametrize(
    ("variables", "on_terminal", "in_pipe"),
    [
        pytest.param({}, True, False, id="as it comes"),
        pytest.param({"NO_COLOR": "1"}, False, False, id="NO_COLOR"),
        pytest.param({"NO_COLOR": ""}, True, False, id="an empty NO_COLOR"),
        pytest.param({"FORCE_COLOR": "1"}, True, True, id="FORCE_COLOR"),
        pytest.param({"FORCE_COLOR": ""}, True, False, id="an empty FORCE_COLOR"),
        pytest.param({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False, id="both"),
        pytest.param({"TERM": "dumb"}, False, False, id="a dumb terminal"),
        pytest.param({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True, id="a dumb one, forced"),
    ],
)
def test_a_table_is_styled_where_it_is_wanted(
    variables: dict[str, str], on_terminal: bool, in_pipe: bool, migrated: Memctl
) -> None:
    shown = on_a_terminal(migrated, "migrate", "--list", **variables)
    piped = subprocess.run(
        [PROGRAM, "migrate", "--list"],
        env=migrated.environment() | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout

    assert (ESCAPE in shown, ESCAPE in piped) == (on_terminal, in_pipe)
    assert (
        re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", "")
        == migrated.ok("migrate", "--list").out
    )


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "status --help",
        "status --json",
        "nonsense",
        "report",
        "check",
        "events --since 0",
        "events --since 0 --csv",
        "events --since 0 --nl",
        "export build_agent -o -",
        "schedule --cron",
    ],
)
def test_nothing_but_a_table_is_ever_styled(
    words: str, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=timedelta(days=1))
    migrated.ok("cleanup")
    plain = migrated(*words.split())

    shown = on_a_terminal(
        migrated, *words.split(), exit_code=plain.exit_code, columns=200, FORCE_COLOR="1"
    )

    assert ESCAPE not in shown
    assert shown.replace("\r", "") == plain.out + plain.err


# Columns


WIDE = {
    "CJK": "記憶エージェント",
    "Hangul": "한국어",
    "fullwidth": "ｆｕｌｌ",
    "emoji": "🤖 bot",
    "joined emoji": "👩\u200d💻 coder",
    "combining": "e\u0301tude a\u0308",
    "Latin": "plain",
}


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


# Each table, and what stands in the column after the texts, in every row.
TABLES = {
    "cleanup -n --list": "2026-11-22T0",
    "run -n --list": "2026-11-22T0",
    "decay -n --list": " 4.",
    "archived agent --table": "filler",
    "list agent --table": "filler",
    "events --table": "learning",
    "metrics --table": " kB",
    "summary agent --table": "2026-11-02",
    "explain agent m-1": "filler",
}


@pytest.fixture
def wide(db: sqlite3.Connection, migrated: Memctl) -> Memctl:
    """The program, pointed at agents, types and keys of every width."""
    for name, text in WIDE.items():
        insert_memory(db, id=f"e-{name}", agent_id=text, key=text, expired_for=timedelta(hours=1))
        insert_memory(db, agent_id="one", type=text, key=text, idle_days=20)
    migrated.ok("cleanup")
    for name, text in WIDE.items():
        insert_memory(db, id=f"a-{name}", agent_id=text, key=text, expired_for=timedelta(hours=1))
    return migrated


@pytest.mark.parametrize("columns", [80, 200, None], ids=["80", "200", "piped"])
@pytest.mark.parametrize(
    ("words", "after"),
    [
        ("cleanup -n --list", "2026-11-22T08:43:58.000Z"),
        ("decay -n --list", "3.7"),
        ("run -n --list --quiet", "learning"),
        ("archived 記憶エージェント --table", "learning"),
        ("list one --table", "one"),
        ("events --since 0 --table", "memory:expired"),
        ("metrics --table --quiet", " B"),
        ("summary one --table", "2026-11-02 09:43:58"),
        ("report", "learning"),
    ],
)
def test_columns_stay_in_line_whatever_the_width_of_letters(
    words: str, after: str, columns: int | None, wide: Memctl
) -> None:
    if columns is None:
        printed = wide.ok(*words.split()).out
    else:
        printed = on_a_terminal(wide, *words.split(), columns=columns, NO_COLOR="1")

    print(printed)
    lines = [line for line in printed.splitlines()]
    print([cells(line.partition(after)[0]) for line in lines if after in line])
