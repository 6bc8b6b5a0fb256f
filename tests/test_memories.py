"""Memories from the shell: what agents do, one command each."""

import csv
import io
import json
import signal
import socket
import sqlite3
import struct
import subprocess
from collections.abc import Callable
from datetime import timedelta

import pytest

from memctl import AgentMemory
from tests.support.database import rows
from tests.support.engines import Engine, values
from tests.support.locks import write_lock
from tests.support.odd_values import DANGEROUS
from tests.support.program import NOW, PROGRAM, Memctl
from tests.support.terminal import on_a_terminal

NAME = ("build_agent", "learning", "toolchain")

# The names of a memory's fields in JSON, in order.
FIELDS = (
    *("id", "agent_id", "type", "key", "value", "metadata", "importance", "access_count"),
    *("last_accessed", "created_at", "expires_at", "archived_at", "importance_decay_rate"),
    *("last_decay_at", "promoted_at"),
)


def test_a_memory_is_stored_with_all_given_options(engine: Engine) -> None:
    answer = engine.memctl.ok(
        "remember",
        *NAME,
        "cache it",
        *("--importance", "7.5", "--expires-in", "24h", "--metadata", '{"tags": ["ключ"], "a": 1}'),
    )

    columns = "value, metadata, importance, access_count, last_accessed, created_at, expires_at"
    assert (answer.out, answer.err) == ("", "")
    assert values(engine, "agent_memory", f"agent_id, type, key, {columns}") == [
        (
            *NAME,
            *("cache it", '{"tags":["ключ"],"a":1}', 7.5, 0),
            *("2026-11-22 09:43:58", "2026-11-22 09:43:58", "2026-11-23T09:43:58.000Z"),
        )
    ]


def test_remember_can_print_the_memory(engine: Engine) -> None:
    answer = engine.memctl.ok("remember", *NAME, "cache it", "--json").json

    ((memory_id,),) = values(engine, "agent_memory", "id")
    assert tuple(answer) == ("schema", *FIELDS)
    assert answer == {
        **dict.fromkeys(FIELDS),
        "schema": 1,
        "id": memory_id,
        "agent_id": "build_agent",
        "type": "learning",
        "key": "toolchain",
        "value": "cache it",
        "importance": 5,
        "access_count": 0,
        "last_accessed": "2026-11-22 09:43:58",
        "created_at": "2026-11-22 09:43:58",
    }


def test_a_replaced_memory_is_archived_on_request(engine: Engine) -> None:
    for value, options in (("first", []), ("second", []), ("third", ["--keep-replaced"])):
        engine.memctl.ok("remember", *NAME, value, *options)

    assert values(engine, "agent_memory", "value") == [("third",)]
    assert values(engine, "archived_memories", "value, archived_reason") == [("second", "replaced")]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"two\nlines\n", id="lines with line ends"),
        pytest.param(b"-", id="a dash"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param(b"x" * 3_000_000, id="three megabytes"),
    ],
)
def test_a_value_from_stdin_comes_back_byte_for_byte(
    migrated: Memctl, db: sqlite3.Connection, value: bytes
) -> None:
    migrated.ok("remember", *NAME, "-", given=value)

    printed = migrated.ok("recall", *NAME, "--value").out

    assert rows(db, "agent_memory", "typeof(value), CAST(value AS BLOB)") == [("text", value)]
    assert printed.encode("utf-8", "surrogateescape") == value


@pytest.mark.parametrize("name", [b"--help", b"-rf", b"-", b"a\nb", b"k\xff", b"--json", b" "])
def test_any_key_is_accepted_after_two_dashes(
    migrated: Memctl, db: sqlite3.Connection, name: bytes
) -> None:
    migrated.ok("remember", "--importance", "7", "--", "a", "learning", name, "v")
    recalled = migrated.ok("recall", "--value", "a", "learning", "--", name).out
    stored = rows(db, "agent_memory", "CAST(key AS BLOB), importance, access_count")
    migrated.ok("forget", "a", "learning", "--", name)

    assert (recalled, stored) == ("v", [(name, 7, 1)])
    assert rows(db, "archived_memories", "CAST(key AS BLOB)") == [(name,)]


def test_recall_prints_the_memory_as_it_was_and_counts_the_access(engine: Engine) -> None:
    memory = engine.insert(key="toolchain", idle_days=10, importance=7.5, metadata="{}")
    later = engine.memctl.at(NOW + timedelta(hours=1))

    printed = [later.ok("recall", *NAME, *option) for option in ([], ["--json"], ["--value"])]

    first, second = printed[0].json, printed[1].json
    assert tuple(first) == ("schema", *FIELDS)
    assert first == {
        **dict.fromkeys(FIELDS),
        "schema": 1,
        "id": memory,
        "agent_id": "build_agent",
        "type": "learning",
        "key": "toolchain",
        "value": "cache the toolchain",
        "metadata": "{}",
        "importance": 7.5,
        "access_count": 0,
        "last_accessed": "2026-11-12 09:43:58",
        "created_at": "2026-11-12 09:43:58",
    }
    assert second == {**first, "access_count": 1, "last_accessed": "2026-11-22 10:43:58"}
    assert printed[2].out == "cache the toolchain"
    assert values(engine, "agent_memory", "access_count") == [(3,)]


@pytest.mark.parametrize("option", ["", "--value", "--json", "--quiet"])
def test_a_missing_memory_is_exit_1_with_nothing_on_stdout(engine: Engine, option: str) -> None:
    answer = engine.memctl("recall", *NAME, *option.split())

    message = "agent 'build_agent' has no learning 'toolchain'"
    hint = "`memctl search` finds memories, active or archived, by a part of their text"
    assert (answer.exit_code, answer.out) == (1, "")
    if option == "--json":
        error = {"code": "not_found", "exit_code": 1, "message": message, "hint": hint}
        assert json.loads(answer.err) == {"error": error}
    else:
        assert answer.err == f"memctl: {message}; {hint}\n"


def test_a_value_is_escaped_on_a_terminal(migrated: Memctl, remember: Callable[..., str]) -> None:
    remember(key="toolchain", value=f"two\nlines {DANGEROUS}")

    printed = on_a_terminal(migrated, "recall", *NAME, "--value")

    assert printed == (
        "two\r\nlines \\x1b]0;owned\\x07[bold]red[/] \\x7f\\x9b31m \\u202e\\u200f\r\n"
    )


def test_remember_prints_a_message_on_a_terminal(migrated: Memctl) -> None:
    printed = on_a_terminal(migrated, "remember", *NAME, "cache it")

    assert printed == "remember: stored learning 'toolchain' of agent 'build_agent'\r\n"


def test_list_is_ordered_by_importance_and_counts_no_access(engine: Engine) -> None:
    engine.insert(key="a", importance=5)
    engine.insert(key="b", importance=9)
    engine.insert(key="c", importance=9, access_count=1, type="context")
    engine.insert(key="d", agent_id="qa_agent")
    before = engine.rows("agent_memory")

    answers = {
        options: engine.memctl.ok("list", "build_agent", *options.split()).out
        for options in ("", "--type learning", "--limit 2", "--nl", "--csv", "--table")
    }

    whole = json.loads(answers[""])
    assert [memory["key"] for memory in whole] == ["c", "b", "a"]
    assert tuple(whole[0]) == FIELDS
    assert [memory["key"] for memory in json.loads(answers["--type learning"])] == ["b", "a"]
    assert json.loads(answers["--limit 2"]) == whole[:2]
    assert [json.loads(line) for line in answers["--nl"].splitlines()] == whole
    assert answers["--csv"].splitlines()[0] == ",".join(FIELDS)
    assert [row["key"] for row in csv.DictReader(io.StringIO(answers["--csv"]))] == ["c", "b", "a"]
    ids = [memory["id"] for memory in whole]
    assert answers["--table"] == (
        f"{'id':36}  agent        type      key  importance  last read  reads  value\n"
        f"{ids[0]}  build_agent  context   c             9  now            1  cache the toolchain\n"
        f"{ids[1]}  build_agent  learning  b             9  now            0  cache the toolchain\n"
        f"{ids[2]}  build_agent  learning  a             5  now            0  cache the toolchain\n"
    )
    assert engine.rows("agent_memory") == before


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        pytest.param([], ["c", "b", "a", "d"], id="the most important first"),
        pytest.param(["--type", "context"], ["c", "d"], id="of a type"),
        pytest.param(["--since", "2d"], ["b", "a"], id="written since a duration"),
        pytest.param(["--since", "2026-11-12T09:43:58Z"], ["c", "b", "a"], id="since a time"),
        pytest.param(["--until", "2026-11-12T09:43:58Z"], ["c", "d"], id="until a time"),
        pytest.param(["--since", "15d", "--until", "5d"], ["c"], id="between two times"),
        pytest.param(["--limit", "2", "--offset", "1"], ["b", "a"], id="a page"),
        pytest.param(["--offset", "3"], ["d"], id="the rest"),
        pytest.param(["--offset", "4"], [], id="nothing"),
    ],
)
def test_list_shows_the_memories_of_all_agents_on_request(
    engine: Engine, options: list[str], keys: list[str]
) -> None:
    engine.insert(key="c", importance=9, type="context", idle_days=10)
    engine.insert(key="a", importance=5)
    engine.insert(key="b", importance=9, agent_id="qa_agent")
    engine.insert(key="d", importance=1, type="context", idle_days=20, agent_id="human")

    listed = engine.memctl.ok("list", "--all", *options).json

    # Equal ones are in the order in which they were written.
    assert [memory["key"] for memory in listed] == keys


@pytest.mark.parametrize(
    ("created_at", "is_listed"),
    [
        pytest.param("2026-11-20 09:43:58", True, id="of SQLite"),
        pytest.param("2026-11-20T10:43:58.000+01:00", True, id="with an offset"),
        pytest.param("2026-11-20T10:43:57+01:00", False, id="a second earlier"),
        pytest.param("soon", False, id="no time"),
        pytest.param(None, False, id="none"),
    ],
)
def test_list_compares_times_in_any_format(
    migrated: Memctl, remember: Callable[..., str], created_at: str | None, is_listed: bool
) -> None:
    remember(key="a", created_at=created_at)

    listed = migrated.ok("list", "--all", "--since", "2d").json

    assert [memory["key"] for memory in listed] == (["a"] if is_listed else [])


def test_list_of_all_agents_is_empty_without_memories(engine: Engine) -> None:
    assert engine.memctl.ok("list", "--all").out == "[]\n"


def test_list_is_empty_for_an_agent_that_has_forgotten_everything(engine: Engine) -> None:
    engine.memctl.ok("remember", *NAME, "v")
    engine.memctl.ok("forget", *NAME)

    listed, summary = (
        engine.memctl.ok("list", "build_agent"),
        engine.memctl.ok("summary", "build_agent"),
    )

    assert listed.out == "[]\n"
    assert summary.json == {
        "schema": 1,
        "agent_id": "build_agent",
        "memories": 0,
        "by_type": {},
        "top_memories": [],
    }


def test_forget_archives_one_memory_or_all_of_a_type(engine: Engine) -> None:
    for key in ("a", "b", "c"):
        engine.insert(key=key)
    engine.insert(key="d", type="context")
    engine.insert(key="e", agent_id="qa_agent")

    one = engine.memctl.ok("forget", "build_agent", "learning", "b")
    again = engine.memctl("forget", "build_agent", "learning", "b")
    rest = engine.memctl.ok("forget", "build_agent", "learning", "--json")
    none = engine.memctl("forget", "build_agent", "learning")

    assert (one.out, one.err) == ("", "forget: archived 1 memory\n")
    assert again.exit_code == 1
    assert rest.json == {"schema": 1, "forgotten": 2, "held": 0}
    assert (none.exit_code, none.out) == (1, "")
    assert none.err.startswith("memctl: agent 'build_agent' has no learning; ")
    assert values(engine, "agent_memory", "key") == [("d",), ("e",)]
    assert values(engine, "archived_memories", "key, archived_reason, run_id") == [
        (key, "forgotten", None) for key in ("a", "b", "c")
    ]


def test_summary_has_counts_by_type_and_the_most_important_memories(engine: Engine) -> None:
    for number in range(12):
        engine.insert(key=f"k{number:02}", importance=12 - number)
    engine.insert(key="task:1", type="context", importance=1)
    engine.insert(key="another's", agent_id="qa_agent", importance=10)

    answer = engine.memctl.ok("summary", "build_agent").json
    table = engine.memctl.ok("summary", "build_agent", "--table").out

    listed = engine.memctl.ok("list", "build_agent", "--limit", "10").json
    assert answer == {
        "schema": 1,
        "agent_id": "build_agent",
        "memories": 13,
        "by_type": {"context": 1, "learning": 12},
        "top_memories": listed,
    }
    assert table == (
        "memories  13\n"
        "context   1\n"
        "learning  12\n"
        f"{'id':36}  agent        type      key  importance  last read  reads  value\n"
    ) + "".join(
        f"{memory['id']}  build_agent  learning  {memory['key']}  {memory['importance']:>10}"
        "  now            0  cache the toolchain\n"
        for memory in listed
    )


def test_summary_is_json_or_a_table(migrated: Memctl) -> None:
    answer = migrated("summary", "build_agent", "--json", "--table")

    assert (answer.exit_code, answer.out) == (2, "")
    assert (
        json.loads(answer.err)["error"]["message"] == "--json and --table cannot be used together"
    )


def test_text_that_is_not_utf_8_is_base64_in_json(migrated: Memctl) -> None:
    migrated.ok("remember", b"a\xff", "learning", b"k\xff", "-", given=b"v\xff")

    recalled = migrated.ok("recall", b"a\xff", "learning", b"k\xff").json
    summary = migrated.ok("summary", b"a\xff").json

    texts = ({"base64": text} for text in ("Yf8=", "a/8=", "dv8="))
    assert [recalled[name] for name in ("agent_id", "key", "value")] == list(texts)
    assert summary["agent_id"] == {"base64": "Yf8="}


def test_a_blob_value_is_printed_unchanged(migrated: Memctl, remember: Callable[..., str]) -> None:
    remember(key="toolchain", value=b"\0\xff")

    assert migrated.ok("recall", *NAME, "--value").out == "\0\udcff"


def test_unreadable_standard_input_is_an_error_without_traceback(
    migrated: Memctl, db: sqlite3.Connection
) -> None:
    ours, theirs = socket.create_server(("127.0.0.1", 0)), socket.socket()
    theirs.connect(ours.getsockname())
    peer, _ = ours.accept()
    # Closing it like this resets the connection.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()

    ran = subprocess.run(
        [PROGRAM, "remember", *NAME, "-"],
        env=migrated.environment(),
        stdin=theirs.fileno(),
        capture_output=True,
        text=True,
        check=False,
    )
    theirs.close()
    ours.close()

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "memctl: stdin cannot be read (Connection reset by peer); nothing was changed\n"
    )
    assert rows(db, "agent_memory") == []


def test_a_closed_standard_input_is_an_error_without_traceback(migrated: Memctl) -> None:
    ran = subprocess.run(
        ["sh", "-c", f"exec {PROGRAM} remember a learning k - <&-"],
        env=migrated.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "memctl: stdin is closed; pipe the value to stdin\n"


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_while_waiting_for_the_value_changes_nothing(
    migrated: Memctl, db: sqlite3.Connection, number: int, exit_code: int
) -> None:
    process = subprocess.Popen(
        [PROGRAM, "remember", *NAME, "-"], env=migrated.environment(), stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    # More than a pipe holds: writing returns when the program reads, which it does last.
    process.stdin.write(b"x" * 1_000_000)
    process.stdin.flush()

    process.send_signal(number)
    process.communicate()

    assert process.returncode == exit_code
    assert rows(db, "agent_memory") == []


@pytest.mark.parametrize(
    "words", [("remember", *NAME, "new"), ("recall", *NAME), ("forget", *NAME)], ids="{0[0]}".format
)
def test_a_command_waits_for_a_lock_as_long_as_specified(
    migrated: Memctl, db: sqlite3.Connection, remember: Callable[..., str], words: tuple[str, ...]
) -> None:
    remember(key="toolchain")
    before = rows(db, "agent_memory")

    with write_lock(migrated.database):
        answer = migrated(*words, "--lock-wait", "0.1")

    assert (answer.exit_code, answer.out) == (11, "")
    assert answer.err.startswith(f"memctl: {migrated.database} is locked by another program (")
    assert rows(db, "agent_memory") == before


def test_reading_waits_for_no_lock(migrated: Memctl, remember: Callable[..., str]) -> None:
    remember(key="toolchain")

    with write_lock(migrated.database):
        answers = [migrated(*words) for words in (("list", NAME[0]), ("summary", NAME[0]))]

    assert [answer.exit_code for answer in answers] == [0, 0]


def test_concurrent_shell_loops_lose_no_access(
    migrated: Memctl, db: sqlite3.Connection, remember: Callable[..., str]
) -> None:
    remember(key="toolchain")
    loop = f"for i in 1 2 3 4 5; do {PROGRAM} recall {' '.join(NAME)} --value; done"

    shells = [
        subprocess.Popen(
            ["sh", "-c", loop], env=migrated.environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    printed = [shell.communicate()[0] for shell in shells]

    assert printed == ["cache the toolchain" * 5] * 3
    assert rows(db, "agent_memory", "access_count") == [(15,)]


def test_the_shell_and_the_api_work_on_the_same_memories(engine: Engine, api: AgentMemory) -> None:
    api.remember("a", "learning", "api", "v", metadata={"b": [1]}, importance=7, expires_in=60)
    engine.memctl.ok(
        *("remember", "a", "learning", "shell", "v", "--metadata", '{"b": [1]}'),
        *("--importance", "7", "--expires-in", "60s"),
    )
    api.recall("a", "learning", "api")
    engine.memctl.ok("recall", "a", "learning", "shell")
    columns = ", ".join(name for name in FIELDS if name not in ("id", "key"))
    active = values(engine, "agent_memory", columns)
    api.forget("a", "learning", "api")
    engine.memctl.ok("forget", "a", "learning", "shell")
    archived = values(engine, "archived_memories", f"{columns}, archived_reason, run_id")

    assert active[0] == active[1]
    assert archived[0] == archived[1]
