"""Properties of every command: its help, JSON, usage errors, odd streams and environments.

The commands are taken from the program, so that a new one without a case fails.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest

from memctl.cli.config import Action
from memctl.cli.program import MODULES
from tests.support.commands import COMMANDS, NEED_NO_DATABASE
from tests.support.database import connect
from tests.support.forkserver import NO_STREAMS
from tests.support.program import PROGRAM, Answer, Memctl, complaint, fork_server

NAMES = [
    name
    for names in MODULES.values()
    for command in names
    for name in (
        [f"config {action}" for action in get_args(Action)] if command == "config" else [command]
    )
]
CASES = {
    **COMMANDS,
    "alerts": NEED_NO_DATABASE["alerts"],
    "enable": ("enable", "access-boost"),
    "disable": ("disable", "access-boost"),
    "schema": ("schema", "list"),
    "completion": ("completion", "bash"),
    "help": ("help", "cleanup"),
    "demo": ("demo",),
    **{f"config {action}": ("config", action) for action in get_args(Action)},
    # With files of their own: `config init` creates one, and `config path` requires one.
    "config init": ("config", "init", "--config", "new.toml"),
    "config path": ("config", "path", "--config", "memctl.toml"),
}
# Commands whose output is not an object with a schema number.
ARRAYS = ("archived", "list", "search", "agents", "events", "runs", "history", "holds")
DOCUMENT = "export"
# The failure of a command without a database, or for `config` without a configuration.
NOTHING = (
    dict.fromkeys(NAMES, (10, "no_database", ("--db", "missing/harness.db")))
    | {
        name: (2, "usage", ("--config", "missing/memctl.toml"))
        for name in NAMES
        if name == "alerts" or name.startswith("config ")
    }
    | {"config init": (1, "failed", ("--config", "missing/memctl.toml"))}
    | {"demo": (2, "usage", ("--db", "harness.db"))}  # it has its own database
    # These need none.
    | {"completion": (2, "usage", ("tcsh",)), "schema": (2, "usage", ("lists",))}
    | {"help": (2, "usage", ("clean",))}
)

every_command = pytest.mark.parametrize("name", NAMES)
# The demo takes a second, and prints its JSON as the others do.
every_fast_command = pytest.mark.parametrize("name", [name for name in NAMES if name != "demo"])


def run(
    memctl: Memctl,
    *words: str,
    environment: dict[str, str] | None = None,
    streams: Mapping[int, int] = NO_STREAMS,
    closed: tuple[int, ...] = (),
) -> Answer:
    """Run a command in the database's directory; with other streams or another environment."""
    ran = fork_server().run(
        [str(PROGRAM), *words],
        environment=memctl.environment() if environment is None else environment,
        directory=memctl.database.parent,
        streams=streams,
        closed=closed,
    )
    return Answer(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def start(memctl: Memctl, *words: str, environment: dict[str, str]) -> Answer:
    """Run a command in the database's directory, as a new process of its own."""
    ran = subprocess.run(
        [PROGRAM, *words],
        cwd=memctl.database.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture
def place(memories: Memctl) -> Memctl:
    """The program, in a directory with an active and an archived memory and a configuration."""
    memories.database.with_name("memctl.toml").write_text("")
    return memories


def one_error(text: str) -> dict[str, Any]:
    """Return the error, which must be the whole output, as one line of JSON."""
    document = json.loads(text)
    assert (text.count("\n"), text[-1:], list(document)) == (1, "\n", ["error"])
    assert list(document["error"]) == ["code", "exit_code", "message", "hint"]
    error: dict[str, Any] = document["error"]
    return error


@every_command
def test_the_help_of_a_command_fits_a_terminal(name: str, memctl: Memctl) -> None:
    command = CASES[name][0]
    narrow = {**memctl.environment(), "COLUMNS": "80"}

    answer = run(memctl, command, "--help", environment=narrow)

    assert (answer.exit_code, answer.err) == (0, "")
    assert answer.out.startswith(f"Usage: memctl {command} ")
    assert "\n  -h, --help " in answer.out
    assert [line for line in answer.out.splitlines() if len(line) > 80] == []


# Each of these has made some Python program behave differently on some machine.
HOSTILE = {
    "CI": "true",
    "COLUMNS": "7",
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONDEVMODE": "1",
    "PYTHONHASHSEED": "1",
    "PYTHONOPTIMIZE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "0",
    "PYTHONWARNINGS": "error",
    "TERM": "dumb",
    "TMPDIR": "/nonexistent",
    "TZ": "Asia/Kathmandu",
}


@every_command
def test_json_is_one_document_in_any_order_of_options_and_environment(
    name: str, place: Memctl, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = CASES[name]
    database = () if name == "demo" else ("--db", place.database.name)
    options = ("--json", "--quiet", *database)
    now = ("--now", place.environment()["MEMCTL_NOW"])
    copies = [tmp_path_factory.mktemp("copy") for _ in range(2)]
    for copy in copies:
        shutil.copytree(place.database.parent, copy, dirs_exist_ok=True)
    bare, hostile = (Memctl(copy / place.database.name) for copy in copies)

    usual = run(place, *words, *options)
    before = run(bare, *options, *now, *words, environment={})
    after = start(hostile, *words, *options, environment=hostile.environment() | HOSTILE)

    assert (usual.exit_code, usual.err) == (0, "")
    for answer, program in ((before, bare), (after, hostile)):
        assert steady(answer, program) == steady(usual, place)
        assert (answer.exit_code, answer.err) == (0, "")
    document = usual.json
    if name in ARRAYS:
        assert isinstance(document, list)
    elif name == "schema":
        assert document["title"] == "memctl list"
    elif name == DOCUMENT:
        assert document["format"] == "memctl.export"
    else:
        assert (next(iter(document)), document["schema"]) == ("schema", 1)


def steady(answer: Answer, memctl: Memctl) -> str:
    """Remove the parts of a result that differ each time."""
    printed = answer.out.replace(str(memctl.database.parent), "…")
    printed = re.sub(r'("(?:duration_ms|longest_lock_ms|vacuum_ms)": )[\d.]+', r"\1…", printed)
    printed = re.sub(r'"[0-9a-f]{32,64}"', '"…"', printed)  # a backup, and its database
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "…", printed)


@every_command
def test_with_json_a_failure_is_one_object_on_stderr(name: str, memctl: Memctl) -> None:
    exit_code, code, words = NOTHING[name]

    answer = run(memctl, *CASES[name], *words, "--json")

    error = one_error(answer.err)
    assert (answer.exit_code, answer.out) == (exit_code, "")
    assert (error["exit_code"], error["code"]) == (exit_code, code)
    assert error["message"]
    assert error["hint"]


@every_command
def test_with_json_a_usage_error_is_one_object_on_stderr(name: str, place: Memctl) -> None:
    answer = run(place, *CASES[name], "--jsn", "--json")

    assert (answer.exit_code, answer.out) == (2, "")
    assert one_error(answer.err) == {
        "code": "usage",
        "exit_code": 2,
        "message": "no such option: --jsn",
        "hint": "did you mean --json?",
    }


@every_fast_command
def test_closed_streams_are_not_an_error(name: str, place: Memctl) -> None:
    answer = run(place, *CASES[name], "--json", closed=(0, 1))

    assert answer == Answer(0, "", "")


@every_command
def test_an_output_on_a_full_device_is_an_error_of_one_line(name: str, place: Memctl) -> None:
    with Path("/dev/full").open("w") as full:
        answer = run(place, *CASES[name], "--json", streams={1: full.fileno()})

    assert answer.exit_code == 1
    assert "No space left on device" in one_error(answer.err)["message"]


@every_fast_command
def test_a_pipe_without_a_reader_ends_a_command_silently(name: str, place: Memctl) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    answer = run(place, *CASES[name], "--json", streams={1: writer})
    os.close(writer)

    assert (answer.exit_code, answer.err) == (141, "")


# Without a command, and with an unknown one


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_help_lists_every_command(word: str, memctl: Memctl) -> None:
    answer = memctl(word)

    listed = re.findall(
        r"(?m)^  (\w+)  ", answer.out.partition("\nDatabase:\n")[2].partition("\nExamples:\n")[0]
    )
    assert (answer.exit_code, answer.err) == (0, "")
    assert listed == [command for names in MODULES.values() for command in names]
    assert [line for line in answer.out.splitlines() if len(line) > 80] == []


def test_without_arguments_the_help_is_an_error(memctl: Memctl) -> None:
    answer = memctl()

    assert answer == Answer(2, "", memctl("--help").out)


@pytest.mark.parametrize("words", ["--version", "-V", "--json --version"])
@pytest.mark.parametrize(
    ("stdout", "exit_code", "complaints"),
    [
        pytest.param(">&-", 0, 0, id="closed"),
        pytest.param(">/dev/full", 1, 1, id="a full device"),
        pytest.param("", 141, 0, id="a pipe without a reader"),
    ],
)
def test_the_version_reports_an_output_that_cannot_be_written(
    words: str, stdout: str, exit_code: int, complaints: int
) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    ran = subprocess.run(
        ["sh", "-c", f"exec {PROGRAM} {words} {stdout}"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert ran.returncode == exit_code
    assert ran.stderr.count("\n") == complaints


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param("cleanp", "no such command 'cleanp'; did you mean 'cleanup'?", id="a command"),
        pytest.param(
            "cleanp --agent run",
            "no such command 'cleanp'; did you mean 'cleanup'?",
            id="a command, before the name of another",
        ),
        pytest.param(
            "zzz",
            "no such command 'zzz'; see `memctl --help`",
            id="no similar command",
        ),
        pytest.param("--quiet", "missing command; see `memctl --help`", id="no command"),
        pytest.param(
            "cleanup --dry-rnu",
            "no such option: --dry-rnu; did you mean --dry-run?",
            id="an option",
        ),
        pytest.param(
            "cleanup --zzz",
            "no such option: --zzz; see `memctl cleanup --help`",
            id="no similar option",
        ),
        pytest.param(
            "metrics --since 7d",
            "no such option: --since; see `memctl metrics --help`",
            id="an option of another command",
        ),
        pytest.param(
            "metrics --noww 7d",
            "no such option: --noww; see `memctl metrics --help`",
            id="an option like a hidden one",
        ),
        pytest.param(
            "runs --since lately",
            "'lately' is not a time; use a format such as 2026-11-22 or 2026-11-22T09:43:58Z, or a"
            " duration such as 7d",
            id="not a time",
        ),
        pytest.param(
            "prune --older-than month",
            "'month' is not a duration; use a whole number and a unit (s, m, h, d or w), such as"
            " 90d, 12h or 30m",
            id="not a duration",
        ),
        pytest.param(
            "report --format markdwon",
            "invalid value for '--format': 'markdwon' is not one of 'text', 'markdown', 'json',"
            " 'html'; did you mean markdown?",
            id="a choice",
        ),
        pytest.param(
            "report --format pdf",
            "invalid value for '--format': 'pdf' is not one of 'text', 'markdown', 'json', 'html';"
            " see `memctl report --help`",
            id="no similar choice",
        ),
        pytest.param(
            "enable",
            "missing argument 'FEATURE'; choose from: access-boost, access-counting,"
            " archive-on-delete, archive-on-replace",
            id="a missing choice",
        ),
        pytest.param(
            "summary",
            "missing argument 'AGENT'; see `memctl summary --help`",
            id="a missing argument",
        ),
        pytest.param(
            "archived a --limit",
            "option '--limit' requires an argument; see `memctl archived --help`",
            id="a missing value",
        ),
        pytest.param(
            "resume now",
            "got unexpected extra argument(s) (now); see `memctl resume --help`",
            id="an argument too many",
        ),
    ],
)
def test_an_unknown_word_is_named_with_a_suggestion(
    words: str, message: str, memctl: Memctl
) -> None:
    plain = memctl(*words.split())
    json = memctl("--json", *words.split())

    assert plain == Answer(2, "", f"memctl: {message}\n")
    error = one_error(json.err)
    assert (json.exit_code, json.out) == (2, "")
    assert f"{error['message']}; {error['hint']}" == message
    assert (error["code"], error["exit_code"]) == ("usage", 2)


def test_control_characters_in_an_unknown_word_are_escaped(memctl: Memctl) -> None:
    answer = memctl(b"clean\x1b[31m\nup\xff")

    assert answer.exit_code == 2
    assert complaint(answer).isprintable()


def test_an_error_that_cannot_be_printed_keeps_its_exit_code(memctl: Memctl) -> None:
    with Path("/dev/full").open("w") as full:
        assert run(memctl, "status", streams={2: full.fileno()}).exit_code == 10
        assert run(memctl, "--nope", streams={2: full.fileno()}).exit_code == 2


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param("--log-format json", "--log-format text", "text", id="the default value"),
        pytest.param("--log-format text", "--log-format json", "json", id="another form"),
        pytest.param("--log-format json", "", "json", id="only before the command"),
        pytest.param("--db missing", "--db {path}", "text", id="another database"),
        pytest.param("--config missing", "--config {config}", "text", id="another file"),
        pytest.param("--now 1999-01-01", "", "3", id="a time before the command"),
    ],
)
def test_an_option_after_the_command_takes_precedence(
    migrated: Memctl, tmp_path: Path, before: str, after: str, expected: str
) -> None:
    config = tmp_path / "memctl.toml"
    config.touch()
    migrated.ok("decay")
    words = f"{before} cleanup -n {after}".format(path=migrated.database, config=config)

    answer = migrated(*words.split())

    form = "json" if answer.err.startswith("{") else "text" if answer.err else ""
    assert expected in (form, str(answer.exit_code))


def test_messages_truncate_long_names(migrated: Memctl) -> None:
    long = "a" * 100_000
    commands = [
        ("recall", long, "learning", "k"),
        ("recall", "a", long, "k"),
        ("explain", "a", "learning", long),
        ("restore", "a", long),
        ("prune", "--agent", long),
        ("runs", "--since", long),
        ("metrics", f"--{long}"),
        (long,),
        ("decay", "--db", long),
        ("decay", "--config", long),
        ("recall", "a", "learning", "\U0001f400" * 30_000),
        ("prune", "--agent", "\x1b" * 100_000),
    ]

    for words in commands:
        for options in ((), ("--json",), ("--log-format", "json")):
            answer = migrated(*words, *options)
            assert answer.exit_code in (1, 2, 10), (words[0], options)
            assert answer.err.count("\n") == 1
            # JSON escapes everything that is not ASCII, and a log has the error twice.
            longest = 40_000 if options else 2000
            assert len(answer.err.encode("utf-8", "surrogateescape")) < longest, (words[0], options)
    with closing(connect(migrated.database)) as db:
        assert max(len(error) for (error,) in db.execute("SELECT error FROM memory_runs")) < 2000
