"""Help: examples that run, its form on a terminal, the manual pages."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest

from memctl.cli.examples import EXAMPLES, FIRST_STEPS, MORE
from memctl.cli.program import NAMES
from tests.support.database import connect, insert_memory
from tests.support.program import Answer, Memctl
from tests.support.shells import in_a_shell
from tests.support.terminal import on_a_terminal

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "memctl.1", *sorted((ROOT / "docs" / "man").iterdir())]


@pytest.fixture
def memory(template: Path, memctl: Memctl) -> Memctl:
    """The program, pointed at the memory that the examples name."""
    shutil.copyfile(template, memctl.database)
    with closing(connect(memctl.database)) as db:
        insert_memory(db, id="m-1", agent_id="build_agent", key="toolchain")
    memctl.database.with_name("README").write_text("how it works\n")
    return memctl


# Examples


def test_every_command_has_an_example() -> None:
    assert set(NAMES) == set(EXAMPLES)
    assert all(EXAMPLES.values())


LINES = {name: [example.line for example in examples] for name, examples in EXAMPLES.items()}
# Examples that are also in the help of a command need not run twice.
LINES["memctl"] = sorted({example.line for example in FIRST_STEPS} - set(chain(*LINES.values())))


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
def test_the_examples_run_unchanged(lines: list[str], memory: Memctl) -> None:
    for line in lines:
        in_a_shell(memory, f"set -e -o pipefail; {line}")


def test_the_help_ends_with_the_examples(memctl: Memctl) -> None:
    assert memctl.ok("cleanup", "--help").out.endswith(
        "  Archive for at most one minute:\n    memctl cleanup --max-seconds 60\n"
    )
    assert memctl.ok("--help").out.endswith(f"    {FIRST_STEPS[-1].line}\n{MORE}")


def test_the_help_lists_every_command_with_its_full_summary(memctl: Memctl) -> None:
    printed = " ".join(memctl.ok("--help").out.split())

    assert "..." not in printed.partition("Database: ")[2]
    assert [name for name in NAMES if f" {name} " not in printed] == []


# On a terminal


BOLD = re.compile("\x1b\\[1m(.*?)\x1b\\[0m")


def test_headings_and_names_are_bold_on_a_terminal_and_nothing_else_differs(memctl: Memctl) -> None:
    plain = memctl.ok("archive", "--help").out

    shown = on_a_terminal(memctl, "archive", "--help", variables={}).replace("\r", "")

    assert BOLD.sub(r"\1", shown) == plain
    assert BOLD.findall(shown)[:11] == [
        *("Usage:", "Arguments:", "AGENT", "ID..."),
        *("Options:", "--run", "--db", "--config", "--json", "-q", "--quiet"),
    ]
    assert BOLD.findall(shown)[-3:] == ["-h", "--help", "Examples:"]


def test_the_names_of_commands_are_bold_on_a_terminal(memctl: Memctl) -> None:
    shown = on_a_terminal(memctl, "--help", variables={})

    assert [name for name in NAMES if name not in BOLD.findall(shown)] == []
    assert BOLD.findall(shown)[-2:] == ["demo", "Examples:"]


@pytest.mark.parametrize("columns", [60, 80, 140])
@pytest.mark.parametrize("name", [None, *NAMES])
def test_the_help_is_never_wider_than_the_terminal(
    name: str | None, columns: int, memctl: Memctl
) -> None:
    words = ["help"] if name is None else ["help", name]

    shown = on_a_terminal(memctl, *words, columns=columns)

    assert [line for line in shown.splitlines() if len(line) > columns] == []


def test_examples_that_a_narrow_terminal_breaks_can_still_be_copied(memctl: Memctl) -> None:
    shown = on_a_terminal(memctl, "remember", "--help", columns=60).replace("\r", "")

    joined = re.sub(r" \\\n +", " ", shown)
    assert joined != shown
    assert [line for line in LINES["remember"] if f"    {line}\n" not in joined] == []


# The command


@pytest.mark.parametrize("name", ["cleanup", "help", "import"])
def test_help_of_a_command_is_the_help_that_it_prints_itself(name: str, memctl: Memctl) -> None:
    assert memctl.ok("help", name) == memctl.ok(name, "--help")
    assert memctl.ok("help") == memctl.ok("--help")


def test_help_suggests_a_command_for_an_unknown_one(memctl: Memctl) -> None:
    assert memctl("help", "clean") == Answer(
        2, "", "memctl: no such command 'clean'; did you mean 'cleanup'?\n"
    )
    assert memctl("help", "zzz") == Answer(
        2, "", "memctl: no such command 'zzz'; see `memctl help`\n"
    )


@pytest.mark.parametrize("words", [("-V",), ("--quiet", "-V")])
def test_the_version_has_a_short_option(words: tuple[str, ...], memctl: Memctl) -> None:
    assert memctl.ok(*words) == memctl.ok("--version")


# The manual pages


def test_the_manual_pages_are_up_to_date() -> None:
    stale = subprocess.run(
        [sys.executable, ROOT / "docs" / "reference.py", "--check"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    ).stdout

    assert stale == ""
    assert [page.name for page in PAGES] == [
        "memctl.1",
        *sorted(f"memctl-{name}.1" for name in NAMES),
    ]


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
def test_mandoc_finds_nothing_wrong_with_the_manual_pages() -> None:
    checked = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", *PAGES], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
def test_the_manual_pages_show_every_example_unchanged() -> None:
    read = {page.stem: shown_by_mandoc(page) for page in PAGES}

    for name, lines in LINES.items():
        page = read["memctl" if name == "memctl" else f"memctl-{name}"]
        assert [line for line in lines if f" {line}\n" not in page] == []
    summary = "\nNAME\n       memctl - maintain the memory of AI agents in a SQLite database\n"
    assert summary in read["memctl"]
    assert "\n       13     the document to import is invalid, or conflicts with" in read["memctl"]
    assert [name for name in NAMES if f"memctl-{name}(1)" not in read["memctl"]] == []
    assert "\n       --run N\n              Restore the memories" in read["memctl-restore"]
    assert [line for page in read.values() for line in page.splitlines() if len(line) > 80] == []


def shown_by_mandoc(page: Path) -> str:
    """Return a manual page as text, without the backspaces that make some of it bold."""
    shown = subprocess.run(
        ["mandoc", "-Tutf8", page], capture_output=True, text=True, check=True
    ).stdout
    return re.sub("[^\b]\b", "", shown)
