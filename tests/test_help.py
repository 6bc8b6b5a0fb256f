"""Help that is asked for: examples that run, the manual page, completion in real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memctl.cli import NAMES
from memctl.cli.examples import EXAMPLES, FIRST_STEPS, Example
from tests.conftest import PROGRAM, Memctl, connect, insert_memory

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "memctl.1"


def in_a_shell(memctl: Memctl, script: str, *, shell: str = "bash") -> str:
    """Run a script as a person would who has memctl on the path; return what it printed."""
    ran = subprocess.run(
        [*{"bash": ["bash", "--norc"], "zsh": ["zsh", "-f"], "fish": ["fish", "-N"]}[shell], "-c"]
        + [script],
        cwd=memctl.database.parent,
        env={
            **memctl.environment(),
            "PATH": f"{PROGRAM.parent}:/usr/bin:/bin",
            "HOME": str(memctl.database.parent),
            "MEMCTL_DB": memctl.database.name,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def agents(migrated: Memctl) -> Memctl:
    """The program, and agents of which some have names that no shell takes as one word."""
    with connect(migrated.database) as db:
        insert_memory(db, id="m-1", agent_id="build_agent", key="toolchain")
        for agent in ("qa_agent", "$(touch hacked)", "two words", "new\nline", "\x1b[31mred"):
            insert_memory(db, agent_id=agent)
    migrated.database.with_name("README").write_text("how it works\n")
    return migrated


# Examples


def test_every_command_has_an_example() -> None:
    assert set(NAMES) == set(EXAMPLES)
    assert all(EXAMPLES.values())


@pytest.mark.parametrize("examples", [*EXAMPLES.values(), FIRST_STEPS], ids=[*EXAMPLES, "memctl"])
def test_the_examples_run_as_they_stand(examples: tuple[Example, ...], agents: Memctl) -> None:
    for example in examples:
        in_a_shell(agents, f"set -e -o pipefail; {example.line}")


def test_the_help_ends_with_the_examples(memctl: Memctl) -> None:
    assert memctl.ok("cleanup", "--help").out.endswith(
        "  Archive it, for at most a minute:\n    memctl cleanup --max-seconds 60\n"
    )
    assert memctl.ok("--help").out.endswith("    memctl metrics --table; memctl check\n")


def test_the_help_has_every_command_with_the_whole_of_its_first_line(memctl: Memctl) -> None:
    printed = " ".join(memctl.ok("--help").out.split())

    assert "..." not in printed.partition("Database: ")[2]
    assert [name for name in NAMES if f" {name} " not in printed] == []


# The manual page


def test_the_manual_page_is_made_from_the_program() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "manual.py", "--print"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert made == PAGE.read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc, which checks it, is not installed")
def test_the_manual_page_is_as_man_wants_it() -> None:
    checked = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", PAGE], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_manual_page_loses_no_character(memctl: Memctl) -> None:
    page = PAGE.read_text(encoding="utf-8")

    for example in (example for examples in EXAMPLES.values() for example in examples):
        assert [part for part in example.line.split() if part.isalnum() and part not in page] == []
    assert "\\fB13\\fR\na document to import is invalid" in page


# Completion

COMPLETED = [
    (("cl",), ["cleanup"]),
    (("cleanup", "--dr"), ["--dry-run"]),
    (("--db", "harness.db", "recall", ""), ["build_agent", "qa_agent"]),
    (("recall", "q"), ["qa_agent"]),
    (("recall", "qa_agent", "e"), ["error_pattern"]),
    (("decay", "--agent", "b"), ["build_agent"]),
    (("archived", "qa_agent", "--reason", "f"), ["forgotten"]),
    (("config", "i"), ["init"]),
    (("report", "--format", "m"), ["markdown"]),
    (("completion", ""), ["bash", "zsh", "fish"]),
    (("import", "qa_agent", "back"), []),  # then the shell completes names of files
]


@pytest.mark.parametrize(("words", "expected"), COMPLETED)
def test_bash_completes(words: tuple[str, ...], expected: list[str], agents: Memctl) -> None:
    line = " ".join(repr(word) for word in ("memctl", *words))

    printed = in_a_shell(
        agents,
        f"""
        eval "$(memctl completion bash)"
        COMP_WORDS=({line}) COMP_CWORD={len(words)}
        _memctl_completion memctl
        printf '%s\\n' "${{COMPREPLY[@]}}"
        complete -p memctl
        """,
    )

    *offered, registered = printed.splitlines()
    assert registered == "complete -o default -F _memctl_completion memctl"
    assert [word for word in offered if word] == expected


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [("memctl cl", ["cleanup"]), ("memctl recall q", ["qa_agent"])],
)
def test_fish_completes(line: str, expected: list[str], agents: Memctl) -> None:
    printed = in_a_shell(
        agents, f"memctl completion fish | source; complete --do-complete '{line}'", shell="fish"
    )

    assert [offered.partition("\t")[0] for offered in printed.splitlines()] == expected


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes(agents: Memctl) -> None:
    printed = in_a_shell(
        agents,
        """
        autoload -Uz compinit && compinit -u -D
        source <(memctl completion zsh)
        _arguments() { print -r -- "$@" }
        words=(memctl recall q) CURRENT=3
        _memctl_completion
        print $_comps[memctl]
        """,
        shell="zsh",
    )

    assert "qa_agent" in printed
    assert "hacked" not in printed
    assert printed.endswith("_memctl_completion\n")


@pytest.mark.parametrize("database", ["missing.db", "README"])
def test_without_a_database_no_agent_is_offered_and_nothing_said(
    database: str, agents: Memctl
) -> None:
    answer = subprocess.run(
        [PROGRAM],
        env={
            **agents.environment(),
            "MEMCTL_DB": str(agents.database.with_name(database)),
            "_MEMCTL_COMPLETE": "complete_bash",
            "COMP_WORDS": "memctl recall ",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        check=False,
    )

    assert (answer.stdout.strip(), answer.stderr) == (b"", b"")
    assert not agents.database.with_name("missing.db").exists()
