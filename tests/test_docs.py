"""The documentation: its examples are executed, its tables and links are checked.

Every fenced block of README.md and docs/**/*.md is run or validated, by its language:

    console    each command after `$ ` is run, and its output compared; `...` stands for anything
    python     typed into an interpreter, and each result compared
    sh         run by bash, and must succeed
    cron       each command is run, and must succeed without output
    toml       must be a valid configuration; `<!-- NAME.toml -->` before it makes it a file
    ini        must be a drop-in that systemd accepts for the units of `memctl schedule --systemd`
    json, sql  must be JSON; must be SQL that runs
    postgresql must be SQL that runs on the server of the section

A comment `<!-- not run: REASON -->` before a block excludes it, for one of the reasons below. The
blocks of one page share a folder that has a migrated database harness.db.
`<!-- a fresh database -->` begins a new folder, `<!-- a database that was not migrated -->` one
whose database memctl has not touched.
"""

import configparser
import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from markdown_it import MarkdownIt
from psycopg.conninfo import conninfo_to_dict

from memctl import AgentMemory
from tests.support.database import connect, insert_memory
from tests.support.engines import server_database
from tests.support.program import NOW, PROGRAM, Answer, Memctl
from tests.support.service import Service
from tests.support.shells import run_with_forks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# All documents in the repository that are written for people.
MARKDOWN = [*PAGES, *(path for path in sorted(ROOT.glob("*.md")) if path not in PAGES)]
REASONS = {
    "changes the crontab",
    "needs a container engine",
    "needs a second machine",
    "needs root and systemd",
    "needs the alert program",
    "tested with the help texts",
}
NOT_RUN = "not run: "
FLEET = "postgresql:///?service=fleet"  # the database on a server that examples use
# Unchanged, each in a fresh checkout.
RUN_BY_THE_GATE = [("README.md", name) for name in ("demo", "install", "test")]
FRESH = re.compile(r"^(?=<!-- a (?:fresh database|database that was not migrated) -->$)", re.M)
UNMIGRATED = "<!-- a database that was not migrated -->"
FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^>]*) -->\n)?^```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$", re.M
)


class Block(NamedTuple):
    """A fenced block, and the comment in the line before it."""

    note: str
    language: str
    text: str


def blocks(markdown: str) -> list[Block]:
    """Return the fenced blocks of a text, in order."""
    return [
        Block(found["note"] or "", found["language"], found["text"])
        for found in FENCE.finditer(markdown)
    ]


def prepare(path: Path) -> None:
    """Make the service's database that the examples use."""
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
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)  # a service does not run as root


def sections() -> Iterator[tuple[Path, str]]:
    """Return the parts of all pages that have a folder and a database each."""
    for page in PAGES:
        for part in FRESH.split(page.read_text(encoding="utf-8")):
            if any(block.language for block in blocks(part)):
                yield page, part


def section_id(section: tuple[Path, str]) -> str:
    """Return the name of a page and the first heading of a part of it."""
    page, part = section
    heading = re.search(r"^#+ (.*)$", part, re.MULTILINE)
    return f"{page.relative_to(ROOT)}: {heading[1] if heading else ''}"


# Examples


def pattern_of(expected: str) -> str:
    """Return a pattern for an output: `...` is any part of a line, or any lines if it is alone."""
    lines = re.split(r"^\.\.\.\n", expected, flags=re.MULTILINE)
    return "(?s:.*)".join(".*?".join(map(re.escape, part.split("..."))) for part in lines)


def run_console(block: str, folder: Path, environment: dict[str, str]) -> None:
    """Run each command and compare what it prints; later commands see what it exports."""
    assert block.startswith("$ "), block
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        ran = run_with_forks(
            ["bash", "-c", command],
            environment=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        environment |= re.findall(r"^export (\w+)=(\S+)$", command)
        assert re.fullmatch(pattern_of(expected), ran.stdout), f"{command}\n{ran.stdout}"


def run_python(block: str, names: dict[str, object]) -> None:
    """Run an example in Python, and compare what each line prints; later ones see its names."""
    example = doctest.DocTestParser().get_doctest(block, names, "documentation", None, None)
    assert example.examples
    complaints: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=complaints.append, clear_globs=False)
    names |= example.globs
    assert not complaints, "".join(complaints)


def run_shell(block: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a script, which must succeed."""
    ran = run_with_forks(
        ["bash", "-e", "-o", "pipefail", "-c", block],
        environment=environment,
        cwd=folder,
        capture_output=True,
    )
    assert ran.returncode == 0, f"{block}\n{ran.stderr}"


def run_cron(block: str, folder: Path) -> None:
    """Run the commands of crontab lines on the database of the folder; all must be silent."""
    memctl = Memctl(folder / "harness.db")
    for line in block.splitlines():
        when, program, *words = re.split(r"\s+", line.replace(" ", "_", 4))
        assert re.fullmatch(r"[\d*,/-]+(_[\d*,/-]+){4}", when)
        assert program.endswith("/memctl")
        words[words.index("--db") + 1] = str(memctl.database)
        if "-o" in words:
            place = words.index("-o") + 1
            words[place] = str(folder / Path(words[place]).name)
        assert memctl(*words) == Answer(0, "", ""), line


def check_drop_in(block: str, folder: Path) -> None:
    """Check with systemd that a drop-in is valid for the units that memctl prints."""
    parsed = configparser.RawConfigParser(strict=False)  # a drop-in clears a list, then sets it
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(block)
    assert parsed.sections()
    if not shutil.which("systemd-analyze"):
        return
    drop_ins = folder / "memctl.service.d"
    drop_ins.mkdir(exist_ok=True)
    (drop_ins / "example.conf").write_text(block)
    unit = (ROOT / "systemd" / "memctl.service").read_text()
    (folder / "memctl.service").write_text(re.sub("(?m)^ExecStart=.*", "ExecStart=/bin/true", unit))
    verified = subprocess.run(
        ["systemd-analyze", "verify", folder / "memctl.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(drop_ins) not in verified.stderr, verified.stderr


def run_block(
    block: Block, folder: Path, environment: dict[str, str], names: dict[str, object]
) -> None:
    """Run or validate one block, by its language."""
    text, memctl = block.text, Memctl(folder / "harness.db")
    match block.language:
        case "console":
            run_console(text, folder, environment)
        case "python":
            run_python(text, names)
        case "sh":
            run_shell(text, folder, environment)
        case "cron":
            run_cron(text, folder)
        case "toml":
            file = folder / (block.note if block.note.endswith(".toml") else "block.toml")
            file.write_text(text)
            memctl.ok("config", "validate", "--config", str(file))
        case "ini":
            check_drop_in(text, folder)
        case "json":
            json.loads(text)
        case "postgresql":
            with psycopg.connect("service=fleet", autocommit=True) as server:
                server.execute(text.encode())
        case "sql":
            with closing(connect(folder / "harness.db")) as db:
                db.executescript(text)
        case _:
            pytest.fail(f"nothing checks a block of the language {block.language!r}:\n{text}")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[None]:
    """An empty database on a server, which the examples call by the service `fleet`."""
    with server_database("fleet") as url:
        parts = conninfo_to_dict(url)
        lines = [f"{name}={value}" for name, value in parts.items()]
        (tmp_path / ".pg_service.conf").write_text("\n".join(["[fleet]", *lines, ""]))
        yield


@pytest.mark.parametrize(
    "section", [pytest.param(part, id=section_id(part)) for part in sections()]
)
def test_the_examples_work_as_documented(
    section: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    page, part = section
    if FLEET in part:
        request.getfixturevalue("fleet")
    database = tmp_path / "harness.db"
    prepare(database)
    if UNMIGRATED not in part:
        Memctl(database).ok("migrate", "--no-backup")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    environment = {
        "PATH": f"{PROGRAM.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "MEMCTL_DB": database.name,
        "MEMCTL_NOW": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }

    names: dict[str, object] = {}
    for block in blocks(part):
        if block.note.startswith(NOT_RUN):
            assert block.note.removeprefix(NOT_RUN) in REASONS
        elif (page.name, block.note) not in RUN_BY_THE_GATE:
            run_block(block, tmp_path, environment, names)


def test_the_gate_runs_the_blocks_that_are_not_run_here() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    notes = [("README.md", block.note) for block in blocks(README) if block.language == "sh"]

    assert notes == RUN_BY_THE_GATE
    assert [name for _, name in RUN_BY_THE_GATE if f"readme_command {name}" not in gate] == []
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize(
    "wrong",
    [
        Block("", "console", "$ echo yes\nno\n"),
        Block("", "console", "memctl status\n"),
        Block("", "python", ">>> 1 + 1\n3\n"),
        Block("", "sh", "false\ntrue\n"),
        Block("", "cron", "45 * * * *  /opt/memctl/bin/memctl status --db harness.db\n"),
        Block("", "toml", "[decay]\nfloors = 3\n"),
        Block("", "json", "{]\n"),
        Block("", "rust", "fn main() {}\n"),
    ],
    ids=lambda block: f"{block.language} {block.text}",
)
def test_a_wrong_example_is_found(wrong: Block, template: Path, tmp_path: Path) -> None:
    shutil.copyfile(template, tmp_path / "harness.db")

    with pytest.raises((AssertionError, pytest.fail.Exception, ValueError)):
        run_block(wrong, tmp_path, {"PATH": f"{PROGRAM.parent}:/usr/bin:/bin"}, {})


def test_the_first_command_shows_what_the_picture_shows(tmp_path: Path) -> None:
    """memctl is already installed here; `.ci/run` runs the line unchanged."""
    (line,) = (block.text for block in blocks(README) if block.note == "demo")
    *installation, demo = line.strip().split(" && ")
    (tmp_path / ".venv").symlink_to(sys.prefix)

    ran = subprocess.run(
        ["bash", "-c", demo], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )

    assert installation == ["python3 -m venv .venv", ".venv/bin/pip install -q ."]
    assert "\nall 7 agents " in ran.stdout
    assert "\n  save the database first    .venv/bin/memctl demo --keep demo.db\n" in ran.stdout
    assert [file.name for file in tmp_path.iterdir()] == [".venv"]


# Generated parts


def test_the_generated_parts_are_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "reference.py", "--check"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (made.returncode, made.stdout) == (0, "")


def test_the_python_api_describes_the_methods_of_the_class_rather_than_of_its_base() -> None:
    reference = (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")

    (remember,) = re.findall(r"^#### `remember\(.*\n\n(.*)", reference, re.M)

    assert AgentMemory.remember.__doc__
    assert remember == AgentMemory.remember.__doc__.splitlines()[0]


# Structure and links


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as forges make them."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    headings = [
        tokens[number + 1].children or []
        for number, token in enumerate(tokens)
        if token.type == "heading_open"
    ]
    texts = ["".join(part.content for part in heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts}


def links(page: Path) -> Iterator[str]:
    """Return where the links and pictures of a page lead."""
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        for part in token.children or []:
            if target := part.attrs.get("href") or part.attrs.get("src"):
                yield str(target)


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    broken = []
    for target in links(page):
        name, _, anchor = target.partition("#")
        if re.match("https?:", target):
            continue
        place = (page.parent / name).resolve() if name else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)

    assert broken == []


def test_every_page_is_linked_from_the_index_and_the_readme() -> None:
    pages = {page for page in PAGES[1:] if page != ROOT / "docs" / "index.md"}
    for start in (ROOT / "docs" / "index.md", ROOT / "README.md"):
        linked = {(start.parent / target.partition("#")[0]).resolve() for target in links(start)}
        assert pages <= linked, start


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 250
