"""Help: examples that run, the manual page, completion in real shells."""

import os
import re
import shlex
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
from tests.support.program import PROGRAM, Memctl
from tests.support.shells import run_with_forks

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "memctl.1"
BARE_SHELLS = {"bash": ["bash", "--norc"], "zsh": ["zsh", "-f"], "fish": ["fish", "-N"]}


def in_a_shell(memctl: Memctl, script: str, *, shell_name: str = "bash") -> str:
    """Run a script with memctl on the path; return what it printed."""
    ran = run_with_forks(
        [*BARE_SHELLS[shell_name], "-c", script],
        environment={
            **memctl.environment(),
            "PATH": f"{PROGRAM.parent}:/usr/bin:/bin",
            "HOME": str(memctl.database.parent),
            "MEMCTL_DB": memctl.database.name,
        },
        cwd=memctl.database.parent,
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def agents(template: Path, memctl: Memctl) -> Memctl:
    """The program, and agents of which some have names that a shell needs quoted."""
    shutil.copyfile(template, memctl.database)
    with closing(connect(memctl.database)) as db:
        insert_memory(db, id="m-1", agent_id="build_agent", key="toolchain")
        for agent in ("qa_agent", "$(touch hacked)", "two words", "new\nline", "\x1b[31mred"):
            insert_memory(db, agent_id=agent)
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
def test_the_examples_run_unchanged(lines: list[str], agents: Memctl) -> None:
    for line in lines:
        in_a_shell(agents, f"set -e -o pipefail; {line}")


def test_the_help_ends_with_the_examples(memctl: Memctl) -> None:
    assert memctl.ok("cleanup", "--help").out.endswith(
        "  Archive for at most one minute:\n    memctl cleanup --max-seconds 60\n"
    )
    assert memctl.ok("--help").out.endswith(f"    {FIRST_STEPS[-1].line}\n{MORE}")


def test_the_help_lists_every_command_with_its_full_summary(memctl: Memctl) -> None:
    printed = " ".join(memctl.ok("--help").out.split())

    assert "..." not in printed.partition("Database: ")[2]
    assert [name for name in NAMES if f" {name} " not in printed] == []


# The manual page


def test_the_manual_page_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "manual.py"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert made == PAGE.read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
def test_mandoc_finds_nothing_wrong_with_the_manual_page() -> None:
    checked = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", PAGE], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
def test_the_manual_page_shows_every_example_unchanged() -> None:
    shown = subprocess.run(
        ["mandoc", "-Tutf8", PAGE], capture_output=True, text=True, check=True
    ).stdout
    read = re.sub("[^\b]\b", "", shown)  # backspaces that make it bold

    assert [line for line in chain(*LINES.values()) if f" {line}\n" not in read] == []
    assert "\nNAME\n       memctl - maintain the memory of AI agents in a SQLite database\n" in read
    assert "\n       13     the document to import is invalid, or conflicts with the" in read
    assert [line for line in read.splitlines() if len(line) > 80] == []


# Completion

COMPLETED = [
    ("cl", ["cleanup"]),
    ("--db x.db --quiet cl", ["cleanup"]),
    ("cleanup --dr", ["--dry-run"]),
    ("run --n", []),  # --now is hidden
    ("recall q", ["qa_agent"]),
    ("--db missing.db recall q", []),
    ("recall $", []),  # a shell might run a name that it does not take as one word
    ("recall two", []),
    ("decay --max-seconds 5 --agent b", ["build_agent"]),
    ("recall qa_agent e", ["error_pattern"]),
    ("archived qa_agent --reason f", ["forgotten"]),
    ("events --event memory:pru", ["memory:pruned"]),
    ("runs --job cl", ["cleanup"]),
    ("config i", ["init"]),
    ("report --format m", ["markdown"]),
    ("cleanup --db h", []),  # no candidates, so the shell completes file names
]


def test_bash_completes(agents: Memctl) -> None:
    printed = in_a_shell(
        agents,
        "source <(memctl completion bash)\n"
        + "".join(
            f"COMP_WORDS=(memctl {' '.join(map(shlex.quote, line.split(' ')))})\n"
            "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
            "_memctl_completion memctl\n"
            "echo ${COMPREPLY[@]}\n"
            for line, _ in COMPLETED
        )
        + "complete -p memctl",
    )

    *answers, registered = printed.splitlines()
    assert answers == [" ".join(expected) for _, expected in COMPLETED]
    assert registered == "complete -o default -F _memctl_completion memctl"


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes(agents: Memctl) -> None:
    lines = ("cl", "recall q", "recall two")

    printed = in_a_shell(
        agents,
        "memctl completion fish | source\n"
        + "".join(f"complete --do-complete 'memctl {line}'\n" for line in lines),
        shell_name="fish",
    )

    assert printed.splitlines() == ["cleanup\tArchive expired memories.", "qa_agent"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes(agents: Memctl) -> None:
    lines = ("memctl recall q", "memctl recall two", "memctl cleanup --db ''")

    printed = in_a_shell(
        agents,
        "autoload -Uz compinit && compinit -u -D\n"
        "source <(memctl completion zsh)\n"
        "_arguments() { print -r -- $@ }\n"
        "_files() { print files }\n"
        + "".join(f"words=({line}); CURRENT=$#words; _memctl_completion\n" for line in lines)
        + "print $_comps[memctl]",
        shell_name="zsh",
    )

    first, *others = printed.splitlines()
    assert "qa_agent" in first
    assert others == ["files", "files", "_memctl_completion"]


@pytest.mark.parametrize("trouble", ["no database", "locked", "no home directory"])
def test_completion_prints_nothing_where_agents_cannot_be_read(
    trouble: str, agents: Memctl
) -> None:
    place = agents.database.parent
    database = {"no database": "README", "locked": "locked.db"}.get(trouble)
    asked = {
        "_MEMCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": f"memctl --db {database} recall " if database else "memctl recall ",
        "COMP_CWORD": "4" if database else "2",
    }
    with closing(connect(agents.database)) as db:
        db.execute("VACUUM INTO ?", [str(place / "locked.db")])
    with closing(connect(place / "locked.db")) as db:  # not in WAL mode
        db.execute("BEGIN EXCLUSIVE")

        answer = subprocess.run([PROGRAM], cwd=place, env=asked, capture_output=True, check=False)

    assert (answer.stdout.strip(), answer.stderr) == (b"", b"")
