"""Terminals: style only where it is wanted, and aligned columns."""

import re
import sqlite3
import subprocess
import unicodedata
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.support.database import insert_memory
from tests.support.program import PROGRAM, Memctl
from tests.support.terminal import on_a_terminal

ESCAPE = "\x1b"


# Style


@pytest.mark.parametrize(
    ("variables", "on_terminal", "in_pipe"),
    [
        pytest.param({}, True, False, id="the default"),
        pytest.param({"NO_COLOR": "1"}, False, False, id="NO_COLOR"),
        pytest.param({"NO_COLOR": ""}, True, False, id="an empty NO_COLOR"),
        pytest.param({"FORCE_COLOR": "1"}, True, True, id="FORCE_COLOR"),
        pytest.param({"FORCE_COLOR": ""}, True, False, id="an empty FORCE_COLOR"),
        pytest.param({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False, id="both"),
        pytest.param({"TERM": "dumb"}, False, False, id="a dumb terminal"),
        pytest.param(
            {"TERM": "dumb", "FORCE_COLOR": "1"}, True, True, id="a dumb terminal, forced"
        ),
    ],
)
def test_a_table_is_styled_where_it_is_wanted(
    variables: dict[str, str], on_terminal: bool, in_pipe: bool, migrated: Memctl
) -> None:
    shown = on_a_terminal(migrated, "migrate", "--list", variables=variables)
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
        "status --json",
        "nonsense",
        "report",
        "events --since 0",
        "events --since 0 --csv",
        "events --since 0 --nl",
        "export build_agent -o -",
        "schedule --cron --quiet",
    ],
)
def test_only_tables_and_help_are_styled(
    words: str, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=timedelta(days=1))
    migrated.ok("cleanup")
    plain = migrated(*words.split())

    shown = on_a_terminal(
        migrated,
        *words.split(),
        exit_code=plain.exit_code,
        columns=200,
        variables={"FORCE_COLOR": "1"},
    )

    assert ESCAPE not in shown
    assert shown.replace("\r", "") == plain.out + plain.err


# Columns


WIDE = {
    "CJK": "記憶エージェント",
    "Hangul": "한국어",
    "fullwidth": "\uff46\uff55\uff4c\uff4c",
    "emoji": "🤖 bot",
    "joined emoji": "👩\u200d💻 coder",
    "combining": "e\u0301tude a\u0308",
    "Latin": "plain",
}


def cells(text: str) -> int:
    """Return how many terminal cells a text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


TABLES = (
    "cleanup -n --list --quiet",
    "decay -n --list --quiet",
    "run -n --list --quiet",
    "promote -n --list --quiet",
    "archived 記憶エージェント --table",
    "list one --table",
    "events --since 0 --table",
    "explain 記憶エージェント e-CJK",
    "metrics --table --quiet",
    "summary one --table",
)


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


def tables(printed: str) -> list[list[str]]:
    """Return the lines of each table; its first line has the headings."""
    found: list[list[str]] = []
    for line in printed.splitlines():
        if re.match("(id|job|agent|event id|type)  ", line):
            found.append([])
        if found:
            found[-1].append(line)
    return found


def columns_in_line(lines: list[str]) -> int:
    """Return the number of columns that are separated by at least two blank cells in every line."""
    spread = ["".join(one * cells(one) for one in line) for line in lines]
    longest = max(map(len, spread))
    used = "".join(
        "x" if any(line[number : number + 1].strip() for line in spread) else " "
        for number in range(longest)
    )
    return len(re.split(" {2,}", used.strip()))


@pytest.mark.parametrize("columns", [80, 200, None], ids=["80", "200", "piped"])
def test_columns_are_aligned_whatever_the_width_of_characters(
    columns: int | None, wide: Memctl
) -> None:
    for words in TABLES:
        if columns is None:
            printed = wide.ok(*words.split()).out
            assert "…" not in printed
        else:
            printed = on_a_terminal(wide, *words.split(), columns=columns)

        assert (words, tables(printed)) != (words, [])
        for lines in tables(printed):
            assert columns_in_line(lines) == len(re.split(" {2,}", lines[0])), "\n".join(lines)


def test_a_narrow_terminal_truncates_texts_but_not_numbers_or_times(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(
        db,
        id="00000000-0000-4000-8000-000000000001",
        agent_id="記憶エージェント" * 3,
        key="a long key " * 10,
        importance=8.25,
        idle_days=20,
        expires_at="2026-11-22T08:43:58.000Z",
    )

    lowered = on_a_terminal(migrated, "decay", "-n", "--list", "--quiet")
    archived = on_a_terminal(migrated, "cleanup", "-n", "--list", "--quiet")
    tiny = on_a_terminal(migrated, "decay", "-n", "--list", "--quiet", columns=10)

    assert lowered.replace("\r", "") == (
        f"{'id':36}  {'key':33}  decayed\n"
        "00000000-0000-4000-8000-000000000001  a long key a long key a long key…     6.95\n"
    )
    assert archived.replace("\r", "") == (
        f"{'id':36}  {'key':24}  expires  reason\n"
        "00000000-0000-4000-8000-000000000001  a long key a long key a…  1 h ago  expired\n"
    )
    assert tiny == "key\r\na long ke…\r\n"
