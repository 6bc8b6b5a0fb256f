"""Help that is asked for: examples that run, the manual page, completion in real shells."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer

from memctl.cli import NAMES, build_app
from memctl.cli.examples import EXAMPLES, FIRST_STEPS, MORE, Example
from memctl.completion import FILES, WORDS, Candidate, candidates
from tests.conftest import PROGRAM, Memctl, connect, insert_memory

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "memctl.1"
BARE_SHELLS = {"bash": ["bash", "--norc"], "zsh": ["zsh", "-f"], "fish": ["fish", "-N"]}
PROGRAM_ITSELF: Any = typer.main.get_command(build_app())


def in_a_shell(memctl: Memctl, script: str, *, shell_name: str = "bash") -> str:
    """Run a script as a person would who has memctl on the path; return what it printed."""
    ran = subprocess.run(
        [*BARE_SHELLS[shell_name], "-c", script],
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
def agents(template: Path, memctl: Memctl) -> Memctl:
    """The program, and agents of which some have names that no shell takes as they are."""
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


@pytest.mark.parametrize("examples", [*EXAMPLES.values(), FIRST_STEPS], ids=[*EXAMPLES, "memctl"])
def test_the_examples_run_as_they_stand(examples: tuple[Example, ...], agents: Memctl) -> None:
    for example in examples:
        in_a_shell(agents, f"set -e -o pipefail; {example.line}")


def test_the_help_ends_with_the_examples(memctl: Memctl) -> None:
    assert memctl.ok("cleanup", "--help").out.endswith(
        "  Archive it, for at most a minute:\n    memctl cleanup --max-seconds 60\n"
    )
    assert memctl.ok("--help").out.endswith(f"    {FIRST_STEPS[-1].line}\n{MORE}")


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


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc, which shows it, is not installed")
def test_the_manual_page_loses_no_character() -> None:
    shown = subprocess.run(
        ["mandoc", "-Tutf8", PAGE], capture_output=True, text=True, check=True
    ).stdout
    read = re.sub("[^\b]\b", "", shown)  # what makes it bold

    examples = [example.line for examples in EXAMPLES.values() for example in examples]
    assert [line for line in examples if f" {line}\n" not in read] == []
    assert "\nNAME\n       memctl - keep the memory of a fleet of AI agents healthy\n" in read
    assert "\n       13     a document to import is invalid, or in conflict with the" in read
    assert [line for line in read.splitlines() if len(line) > 80] == []


# Completion

COMPLETED = [
    ("memctl cl", ["cleanup"]),
    ("memctl --db x.db --quiet cl", ["cleanup"]),
    ("memctl --q", ["--quiet"]),
    ("memctl cleanup --dr", ["--dry-run"]),
    ("memctl migrate --no", ["--no-backup"]),
    ("memctl run --n", []),  # --now is not for people
    ("memctl resume ", ["--db", "--config", "--json", "--quiet", "--verbose", "--log-format"]),
    ("memctl recall q", ["qa_agent"]),
    ("memctl recall -- q", ["qa_agent"]),
    ("memctl recall two\\ ", ["two words"]),
    ('memctl recall "two w', ["two words"]),
    ("memctl decay --agent=b", ["--agent=build_agent"]),
    ("memctl decay --max-seconds 5 --agent b", ["build_agent"]),
    ("memctl recall qa_agent e", ["error_pattern"]),
    ("memctl recall 'two words' e", ["error_pattern"]),
    ("memctl archived qa_agent --reason f", ["forgotten"]),
    ("memctl events --event memory:pru", ["memory:pruned"]),
    ("memctl runs --job pru", ["prune"]),
    ("memctl config i", ["init"]),
    ("memctl report --format m", ["markdown"]),
    ("memctl cleanup --log-format=j", ["--log-format=json", "--log-format=journal"]),
    ("memctl completion ", ["bash", "zsh", "fish"]),
    ("memctl import ", [FILES]),
    ("memctl import qa_agent ", [FILES]),
    ("memctl backup --verify ", [FILES]),
    ("memctl cleanup --config=", [FILES]),
    ("memctl recall qa_agent learning ", []),  # a key, of which there are too many
    ("memctl cleanup --nope=", []),
    ("memctl nope ", []),
]


@pytest.mark.parametrize(("line", "expected"), COMPLETED)
def test_what_may_come_next_is_known(line: str, expected: list[str], agents: Memctl) -> None:
    offered = [one.word for one in candidates(PROGRAM_ITSELF, line, agents.environment())]

    assert offered[: len(expected)] == expected
    assert expected or not offered


def test_agents_are_those_of_the_database_that_the_line_names(agents: Memctl) -> None:
    configuration = agents.database.with_name("memctl.toml")
    configuration.write_text(f'database = "{agents.database}"')
    home = {"HOME": str(agents.database.parent)}
    elsewhere = {**home, "MEMCTL_DB": "missing.db"}

    found = [
        candidates(PROGRAM_ITSELF, line, environment)
        for line, environment in (
            (f"memctl --db {agents.database} list q", elsewhere),
            (f"memctl decay --db={agents.database} --agent q", elsewhere),
            (f"memctl --config {configuration} list q", home),
            ("memctl list q", elsewhere),
        )
    ]

    assert found == [*[[Candidate("qa_agent")]] * 3, []]


def test_an_agent_of_the_archive_is_offered_too(agents: Memctl) -> None:
    agents.ok("forget", "qa_agent", "learning")

    offered = candidates(PROGRAM_ITSELF, "memctl archived q", agents.environment())

    assert [one.word for one in offered] == ["qa_agent"]


def test_the_words_that_stand_for_values_are_those_of_the_help() -> None:
    metavars = {
        parameter.metavar
        for command in PROGRAM_ITSELF.commands.values()
        for parameter in command.params
    }

    assert set(WORDS) | {"AGENT", "FILE"} <= metavars


# Each line, and what the shell then has in place of its last word.
IN_BASH = [
    ("memctl cl", "cl", ["cleanup"]),
    ("memctl recall q", "q", ["qa_agent"]),
    ("memctl recall two", "two", [r"two\ words"]),
    ('memctl recall "two', '"two', ["two words"]),
    ("memctl recall $", "$", [r"\$\(touch\ hacked\)"]),
    ('memctl recall "$', '"$', []),
    ("memctl decay --agent=b", "b", ["build_agent"]),
    ("memctl events --event memory:pru", "pru", ["pruned"]),
    ("memctl import ", "", ["option: default"]),
]


def test_bash_completes(agents: Memctl) -> None:
    printed = in_a_shell(
        agents,
        "source <(memctl completion bash)\n"
        'compopt() { COMPREPLY=("option: $2"); }\n'
        + "".join(
            f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}\n"
            f"_memctl memctl {shlex.quote(word)}\n"
            """printf '%s\\n' "${COMPREPLY[@]}" .\n"""
            for line, word, _ in IN_BASH
        )
        + "complete -p memctl",
    )

    *answers, registered = printed.split(".\n")
    assert [answer.split("\n")[:-1] for answer in answers] == [
        expected for _, _, expected in IN_BASH
    ]
    assert registered == "complete -F _memctl memctl\n"


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes(agents: Memctl) -> None:
    lines = (
        "cl",
        "recall q",
        "recall two",
        "decay --agent=b",
        "import REA",
        "cleanup --config=REA",
    )

    printed = in_a_shell(
        agents,
        "memctl completion fish | source\n"
        + "".join(f"complete --do-complete 'memctl {line}'\n" for line in lines),
        shell_name="fish",
    )

    assert printed.splitlines() == [
        "cleanup\tArchive the memories that have expired.",
        "qa_agent",
        "two words",
        "--agent=build_agent",
        "README",
        "--config=README",
    ]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes(agents: Memctl) -> None:
    lines = ("memctl cl", "memctl recall q", "memctl recall '$'", "memctl import ''")

    printed = in_a_shell(
        agents,
        "autoload -Uz compinit && compinit -u -D\n"
        "source <(memctl completion zsh)\n"
        "_describe() { print -rl -- $candidates }\n"
        "_files() { print files }\n"
        "compset() { }\n"
        + "".join(f"words=({line}); CURRENT=$#words PREFIX=$words[-1]; _memctl\n" for line in lines)
        + "print $_comps[memctl]",
        shell_name="zsh",
    )

    assert printed.splitlines() == [
        "cleanup:Archive the memories that have expired.",
        "qa_agent",
        "$(touch hacked)",
        "files",
        "_memctl",
    ]


@pytest.mark.parametrize("trouble", ["missing", "no database", "locked", "no home directory"])
def test_where_no_agents_can_be_read_none_is_offered_and_nothing_said(
    trouble: str, agents: Memctl
) -> None:
    line = "memctl recall "
    environment = agents.environment()
    if trouble == "missing":
        line = "memctl --db missing.db recall "
    elif trouble == "no database":
        line = "memctl --db README recall "
    elif trouble == "locked":
        line = "memctl --db locked.db recall "
    elif trouble == "no home directory":
        environment = {}
    place = agents.database.parent
    with closing(connect(agents.database)) as db:
        db.execute("VACUUM INTO ?", [str(place / "locked.db")])
    with closing(connect(place / "locked.db")) as db:  # not in WAL mode
        db.execute("BEGIN EXCLUSIVE")

        answer = subprocess.run(
            [PROGRAM, "completion", "bash", "--complete", line],
            cwd=place,
            env=environment,
            capture_output=True,
            check=False,
        )

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, b"", b"")
    assert not (place / "missing.db").exists()
