"""The README is true: its examples are executed, its tables compared with the program."""

import doctest
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from memctl.cli.program import build_app
from memctl.config.describe import default_file
from tests.conftest import NOW, PROGRAM, Answer, Memctl, connect, insert_memory
from tests.service import Service

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# From each of these on the examples have a database of their own, prepared and migrated.
FRESH = "<!-- a fresh database -->\n"


def command_table() -> str:
    """Return the table of commands as the README shall have it."""
    app = build_app()
    lines = ["| command | what it does |", "|---|---|"]
    for command in app.registered_commands:
        assert command.callback is not None
        summary = (command.callback.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| `{command.name}` | {summary} |")
    return "\n".join(lines)


def test_the_table_of_commands_is_the_programs_own() -> None:
    match = re.search(r"<!-- commands -->\n(.*?)\n<!-- end of commands -->", README, re.DOTALL)

    assert match
    assert match[1] == command_table()


def test_the_configuration_shown_is_what_config_init_writes() -> None:
    match = re.search(r"<!-- configuration -->\n```toml\n(.*?)```", README, re.DOTALL)

    assert match
    assert match[1] == default_file()


def test_every_promise_names_tests_that_exist() -> None:
    promises = README.partition("## What is promised")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", promises))

    assert len(named) > 10
    assert {name for name in named if not (ROOT / "tests" / f"{name}.py").exists()} == set()


def test_every_command_that_stands_for_a_request_is_one() -> None:
    table = README.partition("## If you know it as a web API")[2].partition("\n## ")[0]
    named = set(re.findall(r"`memctl (\w+)", table))

    assert named <= {command.name for command in build_app().registered_commands}
    assert named >= {"archived", "restore", "metrics", "export", "import", "prune"}


def test_the_lines_for_cron_are_silent_while_all_is_well(tmp_path: Path) -> None:
    lines = re.search(r"```cron\n(.*?)```", README, re.DOTALL)
    assert lines
    memctl = Memctl(tmp_path / "harness.db")
    prepare(memctl.database)
    memctl.ok("migrate", "--no-backup")

    for line in lines[1].splitlines():
        words = line.split()[6:]
        assert memctl(*words[: words.index("--db")]) == Answer(0, "", "")


def test_the_first_command_shows_what_the_picture_shows(tmp_path: Path) -> None:
    """Here memctl is installed already; the gate runs the line as it stands."""
    line = re.search(r"<!-- demo -->\n```sh\n(.*)\n```", README)
    assert line
    *installation, demo = line[1].split(" && ")
    (tmp_path / ".venv").symlink_to(sys.prefix)

    ran = subprocess.run(
        ["bash", "-c", demo], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )

    assert installation == ["python3 -m venv .venv", ".venv/bin/pip install -q ."]
    assert "\nall 7 agents " in ran.stdout
    assert "\n  keep it, and then     .venv/bin/memctl demo --keep demo.db\n" in ran.stdout
    assert [file.name for file in tmp_path.iterdir()] == [".venv"]
    (picture,) = re.findall(r"!\[[^]]*\]\((.*)\)", README)
    assert (ROOT / picture).exists()


def prepare(path: Path) -> None:
    """Make the service's database that the examples speak of."""
    with closing(Service(path)), closing(connect(path)) as db:
        insert_memory(
            db,
            id="m-1",
            type="context",
            key="task:41",
            expires_at="2026-11-21T17:00:00.000Z",
        )
        insert_memory(
            db,
            id="m-2",
            agent_id="qa_agent",
            type="error_pattern",
            key="flaky:e2e",
            value="retry once, then report",
            expires_at="2026-11-22T09:00:00.000Z",
        )
        insert_memory(db, id="m-3", key="toolchain", importance=9, idle_days=40)
        insert_memory(
            db, id="m-4", agent_id="qa_agent", type="preference", key="test-style", idle_days=9
        )
        insert_memory(db, id="m-5", key="new")
        insert_memory(
            db,
            id="m-6",
            type="error_pattern",
            key="SQLITE_BUSY",
            value='{"description": "locked while a backup runs", "fix": "wait and try again"}',
            importance=9,
            access_count=12,
            created_at="2026-10-23 09:43:58",
        )
        insert_memory(
            db,
            id="m-7",
            agent_id="qa_agent",
            type="error_pattern",
            key="SQLITE_BUSY",
            value="locked while a backup runs. Fix: wait and try again later",
            importance=8,
            access_count=5,
            created_at="2026-11-08 09:43:58",
        )
        insert_memory(
            db,
            id="m-8",
            agent_id="qa_agent",
            key="slow-e2e",
            importance=8,
            access_count=4,
            created_at="2026-11-02 09:43:58",
        )


def run_console(block: str, folder: Path, environment: dict[str, str]) -> None:
    """Run the commands of an example and compare what each prints; `...` stands for anything.

    What one of them exports is in the environment from then on.
    """
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        environment |= re.findall(r"^export (\w+)=(\S+)$", command)
        pattern = ".*?".join(map(re.escape, expected.split("...")))
        assert re.fullmatch(pattern, ran.stdout), f"{command}\n{ran.stdout}"


def run_python(block: str) -> None:
    """Run an example as a person would type it into Python, and compare what each line prints."""
    example = doctest.DocTestParser().get_doctest(block, {}, "README.md", None, None)
    complaints: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=complaints.append)
    assert not complaints, "".join(complaints)


@pytest.mark.parametrize(
    "section", [pytest.param(text, id=text.strip().split("\n")[0]) for text in README.split(FRESH)]
)
def test_the_examples_print_what_the_readme_says(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "harness.db"
    prepare(database)
    if not README.startswith(section):
        Memctl(database).ok("migrate", "--no-backup")
    for name, content in re.findall(r"<!-- (\w+\.toml) -->\n```toml\n(.*?)```", README, re.DOTALL):
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    environment = {
        "PATH": f"{PROGRAM.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "MEMCTL_DB": database.name,
        "MEMCTL_NOW": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }

    for language, block in re.findall(r"```(console|python)\n(.*?)```", section, re.DOTALL):
        if language == "console":
            run_console(block, tmp_path, environment)
        else:
            run_python(block)


@pytest.mark.parametrize("script", [".ci/run"])
def test_the_gate_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
