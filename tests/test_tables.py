"""Tables and facts fit the terminal: every command that prints them, and any text in them.

The oracle of a terminal is the output off a terminal, which has every column and shortens nothing;
the oracle of that is the JSON form.
"""

import io
import json
import re
import shutil
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from datetime import timedelta
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.output import tables
from memctl.output.tables import Cell, Column, show_facts, table_text
from tests.support.database import connect, insert_memory
from tests.support.program import Memctl
from tests.support.properties import examples
from tests.support.terminal import on_a_terminal

TEXTS = {
    "CJK": "記憶エージェント",
    "fullwidth": "\uff46\uff55\uff4c\uff4c",
    "emoji": "🤖 bot",
    "joined emoji": "👩\u200d💻 coder",
    "combining": "e\u0301tude a\u0308",
    "control": "\x1b[31mred\n\x07\u202e",
    "long": "a-very-long-name-" * 8,
    "long CJK": "記憶" * 70,
    "long words": "many words in a row " * 9,
    "plain": "plain",
}

# Each list, and the command that prints the same records as JSON, if there is one.
LISTS = {
    "list one -t": "list one",
    "list one --wide": "list one",
    "list one --columns key,id,value,created_at -t": "list one",
    "archived one -t": "archived one",
    "archived one --wide": "archived one",
    "archived one --columns archive_id,id,metadata,archived_at,key -t": "archived one",
    "search gone --agent one -t": "search gone --agent one",
    "search gone --wide": "search gone",
    "agents -t": "",
    "events -t": "events",
    "events --wide": "events",
    "events --columns event_id,memory_id,at,detail -t": "events",
    "runs -t": "runs",
    "runs --wide": "runs",
    "runs --columns run_id,started_at,error,counts -t": "runs",
    "metrics -t": "",
    "metrics --wide": "",
    "migrate --list": "migrate --list --json",
    "cleanup -n --list": "cleanup -n --list --json",
    "decay -n --list": "decay -n --list --json",
    "promote -n --list": "promote -n --list --json",
    "prune -n --list": "prune -n --list --json",
    "restore one --run 1 -n --list": "restore one --run 1 -n --list --json",
}

# Facts, and facts with a table below them: the exit code of each.
OTHERS = {
    "status": 0,
    "check": 3,
    "config show": 0,
    "config validate --config wrong.toml": 2,
    "summary one -t": 0,
    "explain one learning gone": 0,
    "run -n --list": 0,
}
FACTS = ("config show", "config validate --config wrong.toml", "check")
WITH_IDS = (
    *("list one -t", "archived one -t", "search gone -t", "cleanup -n --list", "decay -n --list"),
    *("promote -n --list", "run -n --list", "summary one -t"),
)
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

# The headings of what may be shortened.
PROSE = {"type", "key", "value", "metadata", "detail", "error", "counts", "why", "outcome"} | {
    *("policy", "name", "state", "host", "baseline", "excerpt")
}

# The field of each heading that is not the name of its field.
FIELDS = {
    "agent": "agent_id",
    "copy": "archive_id",
    "reads": "access_count",
    "last read": "last_accessed",
    "written": "created_at",
    "expires": "expires_at",
    "archived": "archived_at",
    "reason": "archived_reason",
    "decay rate": "importance_decay_rate",
    "charged": "last_decay_at",
    "promoted": "promoted_at",
    "days old": "age_days",
    "found in": "found_in",
    "memory": "memory_id",
    "run": "run_id",
    "started": "started_at",
    "finished": "finished_at",
    "took": "duration_ms",
    "longest lock": "longest_lock_ms",
    "version": "memctl_version",
    "step": "schema_step",
    "applied": "applied_at",
}
IN_SHORT = ("at", "started_at", "finished_at", "applied_at")
AGO = {
    None: "",
    "2026-11-22 09:43:58": "now",
    "2026-11-22T09:43:58Z": "now",
    "2026-11-02 09:43:58": "20 d ago",
    "2026-11-22T08:43:58.000Z": "1 h ago",
    "2026-11-21T08:43:58.000Z": "25 h ago",
    "2026-01-02T03:04:05Z": "324 d ago",
}
DURATIONS = {None: "", 83456: "1 min 23 s", 12.5: "12 ms"}


def cells(text: str) -> int:
    """Return how many terminal cells a text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


class Odd(NamedTuple):
    """The program, pointed at odd memories, and what each command prints off a terminal."""

    memctl: Memctl
    piped: Callable[[str], str]


@pytest.fixture(params=["usual ids", "odd ids"], scope="module")
def odd(
    request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Odd:
    """Memories, archived memories, runs and events with odd texts; only some with odd ids."""
    memctl = Memctl(tmp_path_factory.mktemp("odd") / "harness.db")
    shutil.copyfile(template, memctl.database)
    keys = (f"agents.{json.dumps(text, ensure_ascii=False)}.floor" for text in TEXTS.values())
    wrong = memctl.database.with_name("wrong.toml")
    wrong.write_text("".join(f"{key} = 1\n" for key in keys), encoding="utf-8")
    with closing(connect(memctl.database)) as db:
        insert_odd(db, memctl, odd_ids=request.param == "odd ids")
    return Odd(memctl, cache(lambda words: memctl(*in_folder(words, memctl)).out))


def insert_odd(db: sqlite3.Connection, memctl: Memctl, *, odd_ids: bool) -> None:
    """Insert a memory with each text in each state, and failed runs."""

    def insert(state: str, **columns: Any) -> None:
        for name, text in TEXTS.items():
            own = {"key": f"{state} {text}", "type": text, "value": text, "metadata": text}
            if odd_ids:
                own["id"] = f"{state} {text}"
            if name == "plain":
                own |= {"type": "learning", "key": state}
            insert_memory(db, agent_id="one", **{**own, **columns})

    insert("gone", expired_for=timedelta(hours=1))
    memctl.ok("cleanup")
    db.execute("UPDATE archived_memories SET archived_at = '2026-01-02T03:04:05Z' WHERE rowid < 6")
    insert("idle", idle_days=20)
    insert("candidate", idle_days=20, importance=9.25, access_count=1234, type="learning")
    insert("expired", expires_at="2026-11-21T08:43:58.000Z")
    for name, text in TEXTS.items():
        insert_memory(db, agent_id=text, key=name, value="v" * 3000, importance=name)
        db.execute(
            """
            INSERT INTO memory_runs
                (job, started_at, status, duration_ms, longest_lock_ms, error, memctl_version,
                    host, pid)
            VALUES ('decay', '2026-11-22T09:00:00Z', 'failed', 83456, 12.5, ?, '0.1.0', ?, 4321)
            """,
            (text, text),
        )


def in_folder(words: str, memctl: Memctl) -> list[str]:
    """Return the words of a command, with the path of its file."""
    return words.replace("wrong.toml", str(memctl.database.with_name("wrong.toml"))).split()


def spread(line: str) -> list[str]:
    """Return what each cell of a line shows: a character, a blank, or nothing.

    The second cell of a wide character is `\\0`, and a combining character is with the one before.
    """
    found: list[str] = []
    for one in line:
        width = cells(one)
        if not width and found:
            at = -1 if found[-1] != "\0" else -2
            found[at] += one
        else:
            found += [one, "\0"][: max(width, 1)]
    return found


def columns_of(lines: list[str], headings: int) -> list[list[str]]:
    """Return each column of a table as its heading and its cells.

    A column begins where a heading or a cell does, after two cells that are blank in every line.
    """
    grid = [spread(line) for line in lines]
    width = max(map(len, grid))
    grid = [[*line, *" " * (width - len(line))] for line in grid]
    blank = [all(line[at] == " " for line in grid) for at in range(width)] + [True, True]
    starts = [0]
    for at in range(2, width):
        if blank[at - 1] and blank[at - 2] and not blank[at]:
            starts.append(at)
    found = []
    for start, end in zip(starts, [*starts[1:], width], strict=True):
        texts = ["".join(line[start:end]).replace("\0", "").strip() for line in grid]
        heading = " ".join(text for text in texts[:headings] if text)
        found.append([heading, *texts[headings:]])
    return found


def blocks_of(printed: str, headings: list[str]) -> dict[str, list[str]]:
    """Return the folded texts of a table in blocks, by their heading."""
    shown = [
        heading
        for heading in headings
        if re.search(f"^{re.escape(heading)}( |$)", printed.split("\n\n")[0], re.MULTILINE)
    ]
    margin = max(map(len, shown)) + 2
    found: dict[str, list[str]] = {heading: [] for heading in shown}
    for block in printed.split("\n\n"):
        left, heading = iter(shown), ""
        for line in block.splitlines():
            if line.startswith(" "):
                assert line[:margin].isspace()
                found[heading][-1] += "".join(line.split())
            else:
                heading = next(left)
                assert line == heading or line.startswith(f"{heading:{margin}}")
                found[heading].append("".join(line[margin:].split()))
        assert next(left, None) is None
    return found


def columns_off_a_terminal(printed: str) -> dict[str, list[str]]:
    """Return the columns of a table off a terminal, where nothing is left out or shortened."""
    lines = printed.splitlines()
    headings = 2 if "longest" in lines[0] or "average" in lines[0] else 1
    columns = columns_of(lines, headings)
    found = {heading: texts for heading, *texts in columns}
    assert len(found) == len(columns)
    return found


def columns_on_a_terminal(
    printed: str, whole: dict[str, list[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the columns on a terminal, and what is expected of them if nothing is shortened.

    A row in a block is folded, so both are without blanks then.
    """
    if "\n\n" in printed:
        shown = blocks_of(printed, list(whole))
        return shown, {name: ["".join(text.split()) for text in whole[name]] for name in whole}
    lines = printed.splitlines()
    rows = len(next(iter(whole.values())))
    return {name: texts for name, *texts in columns_of(lines, len(lines) - rows)}, whole


def as_shown(field: str, value: Any) -> str:
    """Return what a table shows of a value in the JSON form."""
    if field in IN_SHORT:
        return "" if value is None else value[:16].replace("T", " ")
    if field.endswith("_at") or field == "last_accessed":
        return AGO[value]
    if field in ("duration_ms", "longest_lock_ms"):
        return DURATIONS.get(value) or f"{value:.0f} ms"
    if field == "event":
        return str(value).removeprefix("memory:")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items() if item)
    if value is None:
        return ""
    # What a terminal would interpret is spelled out, and the blanks at the end do not show.
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(value)).strip()


def shortened(shown: str, whole: str) -> bool:
    """Return whether a text is the beginning of another, and ends with an ellipsis."""
    return shown.endswith("…") and whole.startswith(shown[:-1].rstrip())


# Terminals


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_lines_fit_the_terminal_and_only_prose_is_shortened(odd: Odd, width: int) -> None:
    for words, exit_code in {**dict.fromkeys(LISTS, 0), **OTHERS}.items():
        printed = on_a_terminal(
            odd.memctl,
            *in_folder(words, odd.memctl),
            columns=width,
            exit_code=exit_code,
            messages=False,
        ).replace("\r", "")

        assert printed, words
        assert [line for line in printed.splitlines() if cells(line) > width] == [], words
        if words in FACTS:
            assert "".join(printed.split()) == "".join(odd.piped(words).split()), words
        if words in LISTS:
            whole = columns_off_a_terminal(odd.piped(words))
            shown, expected = columns_on_a_terminal(printed, whole)
            assert set(shown) <= set(whole), words
            for name, texts in shown.items():
                assert len(texts) == len(expected[name]), words
                for text, all_of_it in zip(texts, expected[name], strict=True):
                    if name not in PROSE or not shortened(text, all_of_it):
                        assert (words, name, text) == (words, name, all_of_it)


@pytest.mark.parametrize("odd", ["usual ids"], indirect=True)
@pytest.mark.parametrize("width", [80, 100, 140, 200])
def test_ids_of_the_usual_length_are_shown_from_80_columns_on(odd: Odd, width: int) -> None:
    for words in WITH_IDS:
        ids = re.findall(UUID, odd.piped(words))

        printed = on_a_terminal(odd.memctl, *words.split(), columns=width, messages=False)

        assert ids
        assert (words, re.findall(UUID, printed)) == (words, ids)


@pytest.mark.parametrize("odd", ["usual ids"], indirect=True)
def test_an_id_is_left_out_of_a_narrow_table_rather_than_cut(odd: Odd) -> None:
    for words in (*WITH_IDS, "events -t", "explain one learning gone"):
        ids = set(re.findall(UUID, odd.piped(words)))

        for width in range(20, 80, 6):
            printed = on_a_terminal(odd.memctl, *words.split(), columns=width, messages=False)

            whole = "".join(printed.split())  # an id in a block is folded
            assert [one for one in ids if one[:8] in whole and one not in whole] == [], words


# Off a terminal


def test_a_table_off_a_terminal_has_the_ids_numbers_and_times_of_the_json_form(odd: Odd) -> None:
    for words, same in filter(itemgetter(1), LISTS.items()):
        columns = columns_off_a_terminal(odd.piped(words))

        document = json.loads(odd.piped(same))
        records = document["listed"] if isinstance(document, dict) else document
        for heading, texts in columns.items():
            field = FIELDS.get(heading, heading.replace(" ", "_"))
            assert (words, heading, texts) == (
                *(words, heading),
                [as_shown(field, record[field]) for record in records],
            )


# Any texts


# Single characters as a terminal shows them: of one cell, of two, and with a combining one.
CHARACTERS = st.sampled_from(["a", "Z", "9", "-", "[", "é", "e\u0301", "記", "한", "🤖", "\uff46"])
WORDS = (
    st.lists(CHARACTERS, min_size=1, max_size=20) | st.lists(CHARACTERS, min_size=20, max_size=60)
).map("".join)
SENTENCES = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
COLUMNS = st.lists(
    st.builds(
        Column,
        st.text("abcxyz", min_size=1, max_size=8),
        numeric=st.booleans(),
        rank=st.integers(0, 3),
        whole=st.booleans(),
        least=st.integers(3, 15),
    ),
    min_size=1,
    max_size=7,
    unique_by=lambda column: column.heading,
)


@st.composite
def any_tables(draw: st.DrawFn) -> tuple[list[Column], list[list[str]]]:
    """Return columns and at least two rows of texts."""
    columns = draw(COLUMNS)
    row = st.tuples(*(WORDS for _ in columns)).map(list)
    return columns, draw(st.lists(row, min_size=2, max_size=4))


@examples(times=10)
@given(table=any_tables(), width=st.integers(20, 240))
def test_any_table_fits_any_width_and_keeps_what_it_must(
    table: tuple[list[Column], list[list[str]]], width: int
) -> None:
    columns, rows = table
    whole = {column.heading: [row[number] for row in rows] for number, column in enumerate(columns)}

    printed = table_text(columns, rows, width=width)

    assert [line for line in printed.splitlines() if cells(line) > width] == []
    shown, _ = columns_on_a_terminal(printed, whole)
    kept = {column.heading for column in columns if not column.rank}
    assert kept <= set(shown) <= set(whole)
    assert list(shown) == [heading for heading in whole if heading in shown]
    for column in columns:
        prose = not column.whole and not column.numeric
        texts = shown.get(column.heading, whole[column.heading])
        for text, all_of_it in zip(texts, whole[column.heading], strict=True):
            assert text == all_of_it or (prose and shortened(text, all_of_it))
            if "\n\n" not in printed:  # else, a block has as many cells as it has beside its names
                assert cells(text) >= min(column.least, cells(all_of_it)) - 1


@examples(times=5)
@given(table=any_tables())
def test_a_table_of_no_width_loses_nothing(
    table: tuple[list[Column], list[list[str]]],
) -> None:
    columns, rows = table

    printed = table_text(columns, rows)

    assert columns_of(printed.splitlines(), headings=1) == [
        [column.heading, *(row[number] for row in rows)] for number, column in enumerate(columns)
    ]


@examples(times=10)
@given(
    facts=st.lists(st.tuples(WORDS, SENTENCES), min_size=1, max_size=5),
    width=st.none() | st.integers(20, 60) | st.integers(20, 240),
)
def test_any_facts_are_wrapped_to_any_width_and_keep_everything(
    facts: list[tuple[str, str]], width: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as stdout:
        patch.setattr(tables, "terminal_width", lambda: width)
        show_facts(facts)

    printed = stdout.getvalue()
    assert "".join(printed.split()) == "".join("".join(fact).replace(" ", "") for fact in facts)
    if width is None:
        margin = max(cells(name) for name, _ in facts) + 2
        assert printed == "".join(
            f"{name}{' ' * (margin - cells(name))}{text}\n" for name, text in facts
        )
    else:
        assert [line for line in printed.splitlines() if cells(line) > width] == []


def test_one_long_text_does_not_make_every_line_as_long_off_a_terminal() -> None:
    columns = [Column("key"), Column("value"), Column("reads\nin all", numeric=True)]
    rows: list[list[Cell]] = [["a", "short", 1], ["b", "x" * 100_000, 22]]

    lines = table_text(columns, rows).splitlines()

    assert [len(line) for line in lines] == [1013, 1013, 1013, 100_013]
    assert lines[1].split() == ["key", "value", "in", "all"]
    assert lines[3].split() == ["b", "x" * 100_000, "22"]
