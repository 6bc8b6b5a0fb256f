"""Completion in real shells: commands, options, files, and the names in a database."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.database import connect, insert_memory
from tests.support.engines import Engine
from tests.support.program import PROGRAM, Memctl
from tests.support.shells import in_a_shell, shell_environment, typed_words

SHELLS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed"),
    )
    for name in ("bash", "zsh", "fish")
]
SETUP = {
    "bash": ["source <(memctl completion bash)"],
    "zsh": ["autoload -Uz compinit && compinit -u -D", "source <(memctl completion zsh)"],
    "fish": ["memctl completion fish | source"],
}


def test_names_in_the_database_are_completed(engine: Engine) -> None:
    engine.insert(id="m-1", key="toolchain")
    engine.insert(id="a-1", key="old_key", expired_for=timedelta(hours=1))
    engine.insert(id="q-1", agent_id="qa_agent", type="workflow")
    engine.memctl.ok("cleanup")

    answers = [
        asked(engine.memctl, f"memctl {line}").split("\n")[:-1]
        for line in (
            "list ",
            "list q",
            "recall build_agent learning ",
            "restore build_agent ",
            "forget qa_agent work",
            "restore --run ",
        )
    ]

    assert answers == [
        ["build_agent", "qa_agent"],
        ["qa_agent"],
        ["toolchain"],
        ["a-1"],
        ["workflow"],
        ["1\tcleanup, 2026-11-22T09:43:58Z"],
    ]


@pytest.mark.parametrize("database", ["postgresql://127.0.0.1:1/d", "postgresql://u:a@b@h/d"])
def test_a_database_that_cannot_be_reached_offers_no_names(tmp_path: Path, database: str) -> None:
    memctl = Memctl(tmp_path / "unused.db", url=database)

    assert asked(memctl, "memctl list ") == ""


@pytest.fixture
def names(template: Path, memctl: Memctl) -> Memctl:
    """The program, and a database with an archived memory, two runs and a backup."""
    shutil.copyfile(template, memctl.database)
    with closing(connect(memctl.database)) as db:
        insert_memory(db, id="m-1", key="toolchain")
        insert_memory(db, id="m-2", key="task:7")
        insert_memory(db, id="m-3", type="workflow")
        insert_memory(db, id="a-1", key="old_key", expired_for=timedelta(hours=1))
        insert_memory(db, id="q-1", agent_id="qa_agent")
        insert_memory(db, agent_id="two words")
    memctl.ok("cleanup")
    memctl.ok("decay")
    memctl.ok("backup")
    with closing(connect(memctl.database)) as db:
        db.execute("VACUUM INTO ?", [str(memctl.database.with_name("other.db"))])
    memctl.database.with_name("README").write_text("how it works\n")
    return memctl


def asked(memctl: Memctl, line: str, *, shell: str = "zsh", **environment: str) -> str:
    """Ask the program as the script for a shell does; return the answer."""
    ran = subprocess.run(
        [PROGRAM],
        env={
            **shell_environment(memctl),
            "_MEMCTL_COMPLETE": shell,
            "_MEMCTL_LINE": line,
            **environment,
        },
        cwd=memctl.database.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    return ran.stdout


# What is completed

COMPLETED = [
    ("cl", "cleanup"),
    ("--db x.db --quiet cl", "cleanup"),
    ("help cl", "cleanup"),
    ("cleanup --dr", "--dry-run"),
    ("run --n", ""),  # --now is hidden
    ("config i", "init"),
    ("report --format m", "markdown"),
    ("cleanup --max-seconds ", ""),
    # agents
    ("recall q", "qa_agent"),
    ("--db missing.db recall q", ""),
    ("recall --db missing.db q", ""),
    ("recall --db other.db q", "qa_agent"),
    ("decay --max-seconds 5 --agent b", "build_agent"),
    ("recall two", r"two\ words"),
    ("recall two\\ w", r"two\ words"),
    ("recall 'two w", "two words"),
    # types and keys
    ("recall qa_agent e", "error_pattern"),
    ("recall build_agent w", "workflow"),
    ("recall qa_agent w", ""),
    ("remember build_agent w", ""),  # it stores no other types than memctl's
    ("recall build_agent learning tool", "toolchain"),
    ("forget build_agent learning task:", "7"),  # bash replaces what follows the colon
    ("recall build_agent context t", ""),
    ("recall build_agent learning old", ""),
    ("explain build_agent learning old", "old_key"),
    ("archived build_agent --key o", "old_key"),
    ("archived --db other.db build_agent --type learning --key o", "old_key"),
    ("events --agent build_agent --key too", "toolchain"),
    ("events --key too", ""),
    # ids
    ("archive build_agent m-", "m-1 m-2 m-3"),
    ("archive build_agent m-1 m-", "m-2 m-3"),
    ("archive build_agent a-", ""),
    ("archive qa_agent m-", ""),
    ("restore build_agent a-", "a-1"),
    ("restore build_agent m-", ""),
    ("explain build_agent a-", "a-1"),
    ("explain build_agent m-1", "m-1"),
    # runs, reasons, events, jobs
    ("events --run ", "2 1"),
    ("events --run 1", "1"),
    ("restore --run ", "1"),  # the other has archived nothing
    ("archive --run ", ""),  # none has imported anything
    ("archived qa_agent --reason f", "forgotten"),
    ("events --event memory:pru", "pruned"),
    ("runs --job cl", "cleanup"),
    # files
    ("backup --restore harness", "harness.db.backup-20261122T094358Z"),
    ("backup --verify backups/", "(file names)"),
    ("cleanup --db h", "(file names)"),
    ("import --all R", "(file names)"),
]


def test_bash_completes(names: Memctl) -> None:
    printed = in_a_shell(
        names,
        "source <(memctl completion bash)\n"
        "compopt() { COMPREPLY=('(file names)'); }\n"
        + "".join(
            f"COMP_LINE={quoted(f'memctl {line}')} COMP_POINT=${{#COMP_LINE}}\n"
            "_memctl_completion memctl\n"
            'echo "${COMPREPLY[@]}"\n'
            for line, _ in COMPLETED
        )
        + "complete -p memctl",
    )

    *answers, registered = printed.splitlines()
    assert dict(zip([line for line, _ in COMPLETED], answers, strict=True)) == dict(COMPLETED)
    assert registered == "complete -F _memctl_completion memctl"


def quoted(line: str) -> str:
    """Return a line as one word for bash."""
    return "$'" + line.replace("\\", "\\\\").replace("'", "\\'") + "'"


def test_commands_options_and_runs_are_described(names: Memctl) -> None:
    assert asked(names, "memctl clean") == "cleanup\tArchive expired memories.\n"
    assert asked(names, "memctl run --dr") == (
        "--dry-run\tShow what would change, but change nothing.\n"
    )
    assert asked(names, "memctl restore --run ") == "1\tcleanup, 2026-11-22T09:43:58Z\n"


# What is inserted

ODD_KEYS = [
    *("two words", "a:b:c", "it's", 'say "hi"', "$(touch hacked)", "back\\slash", "`tick`"),
    *("ünïcode", "記憶", "star*", "semi;colon", "#hash", "~tilde", "a=b", "bang!", "{a,b}"),
    *("per%cent", "a&b|c<d>e", "q?[x]", "trailing ", "//"),
]
LEFT_OUT = ["-", "-dash", "--dry-run", "new\nline", "\ttab", "\x1b[31mred", "in\udcffvalid"]
BEGINNINGS = ["two", "two\\ w", "'two w", '"two w', "two\\ words:an", "'two words:a"]


@pytest.mark.parametrize("shell_name", SHELLS)
def test_an_unusual_key_is_inserted_in_quoted_form_or_left_out(
    shell_name: str, names: Memctl
) -> None:
    long = "two words:and 'more' $x"
    with closing(connect(names.database)) as db:
        for number, key in enumerate([*ODD_KEYS, *LEFT_OUT, long]):
            insert_memory(db, agent_id=f"a{number}", key=key.encode("utf-8", "surrogateescape"))
        db.execute("UPDATE agent_memory SET key = CAST(key AS TEXT)")
    count = len(ODD_KEYS) + len(LEFT_OUT)

    words = typed_words(
        names,
        shell_name,
        SETUP[shell_name],
        [
            *(f"memctl recall a{number} learning \t" for number in range(count)),
            *(f"memctl recall a{count} learning {begun}\t" for begun in BEGINNINGS),
            "memctl decay --agent=qa\t",
            "memctl events --event memory:pru\t",
            "memctl import --all REA\t",
        ],
    )

    keys = [word[3:] for word in words[: count + len(BEGINNINGS)]]
    assert keys == [
        *([key] for key in ODD_KEYS),
        *([] for _ in LEFT_OUT),
        *([long] for _ in BEGINNINGS),
    ]
    assert words[count + len(BEGINNINGS) :] == [
        ["decay", "--agent=qa_agent"],
        ["events", "--event", "memory:pruned"],
        ["import", "--all", "README"],
    ]
    assert not names.database.with_name("hacked").exists()


# What completion does not do


def test_completion_creates_and_writes_no_file(names: Memctl) -> None:
    with closing(connect(names.database)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    before = contents(names)

    answer = asked(names, "memctl recall q")
    asked(names, "memctl --db missing.db recall q")

    assert answer == "qa_agent\n"
    assert contents(names) == before


def test_completion_reads_what_a_service_has_just_written(names: Memctl) -> None:
    with closing(connect(names.database)) as db:
        insert_memory(db, agent_id="new_agent")
        before = contents(names)

        answer = asked(names, "memctl recall n")

        assert answer == "new_agent\n"
        assert contents(names) == before


def contents(memctl: Memctl) -> dict[str, bytes]:
    """Return the files in the directory of the database, except SQLite's index of the log."""
    return {
        file.name: file.read_bytes()
        for file in memctl.database.parent.iterdir()
        if file.is_file() and not file.name.endswith("-shm")
    }


def test_completion_offers_at_most_a_hundred_names(names: Memctl) -> None:
    with closing(connect(names.database)) as db:
        for number in range(200):
            insert_memory(db, id=f"z-{number:03}", agent_id=f"many-{number:03}", key="k")
            insert_memory(db, agent_id="one", key=f"key-{number:03}")

    assert asked(names, "memctl recall many-").count("\n") == 100
    assert asked(names, "memctl recall one learning key-").count("\n") == 100
    assert asked(names, "memctl recall many-19").count("\n") == 10


@contextmanager
def locked(memctl: Memctl) -> Iterator[None]:
    """Lock a database that is not in WAL mode exclusively."""
    with closing(connect(memctl.database.with_name("other.db"))) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("memctl --db README recall ", id="not a database"),
        pytest.param("memctl --db . recall ", id="a directory"),
        pytest.param("memctl --db '' recall ", id="no path"),
        pytest.param("memctl --db other.db recall ", id="a locked database"),
        pytest.param("memctl --config README recall ", id="an invalid configuration"),
        pytest.param("memctl recall --nonsense ", id="an unknown option"),
        pytest.param("memctl explain ", id="no agent"),
        pytest.param("memctl recall 'a\\", id="an open quote"),
    ],
)
def test_completion_prints_nothing_in_place_of_an_error(line: str, names: Memctl) -> None:
    names.database.unlink()
    with locked(names):
        assert asked(names, line) == ""


def test_completion_prints_nothing_after_a_crash_that_left_only_a_log(names: Memctl) -> None:
    with closing(connect(names.database)) as db:
        insert_memory(db, agent_id="new_agent")
        copy = names.database.with_name("copy.db")
        shutil.copyfile(names.database, copy)
        shutil.copyfile(f"{names.database}-wal", f"{copy}-wal")
    before = contents(names)

    assert asked(names, "memctl --db copy.db recall ") == ""
    assert contents(names) == before


def test_completion_needs_no_home_directory(names: Memctl) -> None:
    answer = subprocess.run(
        [PROGRAM],
        cwd=names.database.parent,
        env={"_MEMCTL_COMPLETE": "bash", "_MEMCTL_LINE": "memctl recall "},
        capture_output=True,
        check=True,
    )

    assert (answer.stdout, answer.stderr) == (b"", b"")
