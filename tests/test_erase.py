"""Erasing memories: what is selected, what goes from the rows, and what is left in the files."""

import json
import random
import sqlite3
import stat
import string
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.storage.erasure import ErasureFilter
from memctl.storage.spool import Failure, opened_spool, spool_path
from memctl.storage.sqlite.database import open_database, transaction
from memctl.storage.sqlite.erasable import Erasable
from memctl.storage.sqlite.erasing_text import ErasedText, TextSearch, text_of
from memctl.storage.tombstones import Name
from tests.support.database import Row, connect, everything, insert_memory, is_sound, memory_tables
from tests.support.kills import killed_before
from tests.support.locks import write_lock
from tests.support.program import NOW, Memctl, Words, complaint
from tests.support.service import Service
from tests.support.service_at_work import memory_of, service_at_work, use_memories
from tests.support.terminal import on_a_terminal

TOKEN = "ghp_f4K3t0k3nZq81xY7vRm"  # noqa: S105  it opens nothing
AGENT = "build_agent"
KEY = "deploy-credentials:eu-west"
NAMED = ("erase", AGENT, "--type", "learning", "--key", KEY)
MATCHING = ("erase", "--all-agents", "--match", TOKEN)


def content_of(*directories: Path) -> dict[str, bytes]:
    """Return the content of every file.

    Another process reads them: this one would lose the locks of its connections.
    """
    files = [file for directory in directories for file in directory.rglob("*") if file.is_file()]
    return {
        file.name: subprocess.run(["/bin/cat", file], capture_output=True, check=True).stdout
        for file in files
    }


def files_with(memctl: Memctl, *texts: str) -> list[str]:
    """Return the names of the files that contain one of the texts, or 24 bytes of it."""
    parts = {
        text.encode()[start : start + 24]
        for text in texts
        for start in range(max(1, len(text.encode()) - 23))
    }
    found = content_of(memctl.database.parent, memctl.state_home)
    return sorted(name for name, content in found.items() if any(part in content for part in parts))


def random_text(chance: random.Random, size: int) -> str:
    """Return a text that occurs nowhere else."""
    return "".join(chance.choices(string.ascii_letters + string.digits, k=size))


@pytest.fixture
def careless(service: Service, migrated: Memctl) -> Service:
    """The service, with an SQLite that does not overwrite what it deletes, on a migrated database.

    Some distributions build SQLite so that it does.
    """
    service.db.execute("PRAGMA secure_delete = OFF")
    return service


# What is erased


def plant(db: sqlite3.Connection) -> None:
    """Write the token into every column of memctl's tables that may have such a text."""
    db.execute("DROP TABLE IF EXISTS memory_idle_times")
    db.executescript(
        f"""
        INSERT INTO agent_memory (id, agent_id, type, key, value, metadata)
        VALUES
            ('in-id-{TOKEN}', 'a', 'learning', 'one', 'v', NULL),
            ('m-2', 'a', 'kind {TOKEN}', 'two', 'v', NULL),
            ('m-3', 'a', 'learning', 'three {TOKEN}', 'v', NULL),
            ('m-4', 'b', 'learning', 'four', 'x {TOKEN} y', NULL),
            ('m-5', 'b', 'learning', 'five', 'v', '{{"by": "{TOKEN}"}}'),
            ('m-6', 'b', 'learning', 'six', x'00ff' || '{TOKEN}', NULL);
        INSERT INTO archived_memories
            (id, agent_id, type, key, value, metadata, archived_at, archived_reason, created_at)
        VALUES
            ('a-1', 'a', 'learning', 'one', 'earlier {TOKEN}', NULL, 't', 'expired', NULL),
            ('a-2', 'c', 'learning', 'gone', 'v', NULL, '{TOKEN}', 'expired', NULL),
            ('a-3', 'c', 'learning', 'old', 'v', NULL, 't', 'expired', '{TOKEN}');
        INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, detail)
        VALUES
            ('2026-11-01T00:00:00Z', 'memory:pruned', 'e-1', 'a', 'learning', '{TOKEN}', NULL),
            ('2026-11-01T00:00:00Z', 'memory:pruned', '{TOKEN}', 'a', 'learning', 'k', NULL),
            ('2026-11-01T00:00:00Z', 'memory:alert', NULL, 'a', NULL, NULL, '{{"x": "{TOKEN}"}}'),
            ('2026-11-01T00:00:00Z', 'memory:pruned', 'e-4', 'a', 'x{TOKEN}', 'k', NULL);
        INSERT INTO memory_promotions VALUES ('a', 'learning', 'p {TOKEN}', 'k-1', 'h', 't');
        INSERT INTO memory_runs
            (job, started_at, finished_at, status, counts, error, memctl_version, host, pid)
        VALUES ('promote', '2026-11-01T00:00:00Z', 't', 'failed', '{{"{TOKEN}": 1}}',
            'about {TOKEN}', '1', 'h', 1);
        INSERT INTO memory_state VALUES
            ('candidate:{TOKEN}', '8'),
            ('undelivered:x', '[["x", "{TOKEN}", {{}}, null], "2026-11-01T00:00:00Z", 0]'),
            ('pause', '{{"since": "2026-11-01T00:00:00Z", "until": null, "reason": "{TOKEN}"}}');
        INSERT INTO memory_holds (agent_id, reason, held_at, until)
        VALUES ('z', 'because of {TOKEN}', '2026-11-01T00:00:00Z', '2026-11-02T00:00:00Z');
        INSERT INTO memory_access_counts VALUES ('2026-11-01', 'a', 'kind {TOKEN}', 3);
        CREATE TABLE memory_idle_times (
            memory_id, importance, access_count, last_accessed, last_decay_at, accessed_at
        );
        INSERT INTO memory_idle_times VALUES ('{TOKEN}', 5, 1, NULL, NULL, NULL);
        INSERT INTO memory_replacements (replaced_row, is_lost, agent_id, type, key, value)
        VALUES (1, 1, 'a', 'learning', 'k', '{TOKEN}');
        CREATE TABLE knowledge_entries (
            id TEXT PRIMARY KEY, type TEXT NOT NULL, content TEXT NOT NULL, file_patterns TEXT,
            action_types TEXT, tags TEXT, confidence REAL, occurrences INTEGER,
            source_execution_id TEXT, source_task_id TEXT, source_agent_id TEXT NOT NULL,
            created_at TEXT, updated_at TEXT, last_used_at TEXT,
            superseded_by TEXT REFERENCES knowledge_entries (id)
        );
        INSERT INTO knowledge_entries (id, type, content, tags, source_agent_id, superseded_by)
        VALUES ('k-1', 'pattern', 'text {TOKEN}', '["from-memory"]', 'a', NULL),
            ('k-2', 'pattern', 'harmless', '["from-memory"]', 'b', 'k-1');
        """
    )


def test_a_text_is_erased_from_every_place(careless: Service, migrated: Memctl) -> None:
    plant(careless.db)
    spool = spool_path(migrated.state_home / "memctl", migrated.database)
    with opened_spool(spool, create=True) as opened:
        opened.add(Failure("decay", "2026-11-01T00:00:00Z", "h", 1, f"about {TOKEN}", "1"))
    assert spool.name in files_with(migrated, TOKEN)

    answer = migrated(*MATCHING, "--yes", "--json")

    assert (answer.exit_code, files_with(migrated, TOKEN)) == (0, [])
    assert answer.json["erased_rows"] == {
        "agent_memory": 6,
        "archived_memories": 3,
        "knowledge_entries": 1,
        "memory_access_counts": 1,
        "memory_events": 4,
        "memory_holds": 1,
        "memory_idle_times": 1,
        "memory_promotions": 1,
        "memory_replacements": 1,
        "memory_runs": 2,
        "memory_state": 3,
    }
    assert (answer.json["kept_rows"], answer.json["overwriting"]["remains"]) == ({}, {})
    kept = careless.db.execute("SELECT id, superseded_by FROM knowledge_entries").fetchall()
    assert [tuple(row) for row in kept] == [("k-2", None)]


def test_every_version_and_what_is_said_about_it_is_erased(
    careless: Service, migrated: Memctl
) -> None:
    migrated.ok("enable", "archive-on-replace")
    values = [random_text(random.Random(number), 3000) for number in range(3)]
    ids = [careless.remember(AGENT, "learning", KEY, value)["id"] for value in values]
    careless.remember(AGENT, "learning", "another", "kept")
    before = memory_tables(migrated.database)

    answer = migrated(*NAMED, "--yes", "--json")

    after = memory_tables(migrated.database)
    assert (answer.exit_code, files_with(migrated, KEY, *ids, *values)) == (0, [])
    assert answer.json["erased_rows"] == {
        "agent_memory": 1,
        "archived_memories": 2,
        "memory_events": 2,
    }
    assert len(after["memory_tombstones"]) == 4
    assert (len(before["agent_memory"]), len(after["agent_memory"])) == (2, 1)
    assert [row[5] for row in after["memory_events"]] == [
        *[b"memory:archived"] * 2,
        b"memory:erased",
    ]


def test_an_id_of_an_archived_version_selects_the_whole_memory(
    careless: Service, migrated: Memctl
) -> None:
    first = careless.remember(AGENT, "learning", KEY, "one")["id"]
    migrated.ok("forget", AGENT, "learning", KEY)
    careless.remember(AGENT, "learning", KEY, "two")

    migrated.ok("erase", AGENT, first, "--yes")

    assert everything(migrated.database)["agent_memory"] == []
    assert files_with(migrated, KEY, first) == []


def test_an_entry_that_another_memory_is_linked_to_stays_without_the_text(
    careless: Service, migrated: Memctl
) -> None:
    plant(careless.db)
    careless.db.execute("DELETE FROM memory_holds")
    careless.db.execute("UPDATE knowledge_entries SET content = 'shared by two'")
    for agent in (AGENT, "qa_agent"):
        careless.remember(agent, "learning", KEY, f"the value of {agent}")
        careless.db.execute(
            "INSERT INTO memory_promotions VALUES (?, 'learning', ?, 'k-2', 'h', 't')",
            (agent, KEY),
        )

    answer = migrated.ok(*NAMED, "--yes", "--json")

    assert answer.json["kept_rows"] == {"shared with other memories": 1}
    assert careless.db.execute("SELECT count(*) FROM knowledge_entries").fetchone()[0] == 2


def test_entries_are_kept_on_request(careless: Service, migrated: Memctl) -> None:
    plant(careless.db)

    preview = migrated(*MATCHING, "--keep-knowledge", "--dry-run", "--json")
    answer = migrated(*MATCHING, "--keep-knowledge", "--yes")

    assert preview.json["kept_rows"] == {"kept on request": 1}
    assert (
        "kept: 1 kept on request; other rows contain the same text or a part of it: 1 in knowledge"
        in answer.err
    )


def test_the_same_text_in_a_table_of_the_service_is_reported_and_kept(
    careless: Service, migrated: Memctl
) -> None:
    careless.db.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, title TEXT)")
    careless.db.execute("INSERT INTO tasks (title) VALUES (?)", (f"rotate {TOKEN}",))
    careless.remember(AGENT, "learning", KEY, TOKEN)

    answer = migrated(*MATCHING, "--yes", "--json")

    assert (answer.exit_code, answer.json["overwriting"]["same_text"]) == (0, {"tasks": 1})
    assert careless.db.execute("SELECT count(*) FROM tasks").fetchone()[0] == 1


ODD = {
    "a BLOB": ("key", b"\x00\x01" + TOKEN.encode()),
    "a BLOB as key": (b"\xff" + TOKEN.encode(), "value"),
    "a NUL": ("a\0b", f"\0{TOKEN}\0"),
    "five megabytes": ("key", TOKEN + "0123456789abcdef" * 327_680),
    "nothing": (TOKEN, ""),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_memories_are_erased(name: str, careless: Service, migrated: Memctl) -> None:
    key, value = ODD[name]
    insert_memory(careless.db, key=key, value=value)
    insert_memory(careless.db, key="kept", value="kept")

    listed = migrated.ok(*MATCHING, "--dry-run", "--list", "--json").json["listed"]
    table = migrated.ok(*MATCHING, "--dry-run", "--list").out.splitlines()
    answer = migrated(*MATCHING, "--yes", "--json")

    assert (answer.exit_code, files_with(migrated, TOKEN)) == (0, [])
    assert (answer.json["erased"], answer.json["overwriting"]["same_text"]) == (1, {})
    assert (len(listed), len(table)) == (1, 2)


def test_text_that_is_invalid_utf_8_is_erased(careless: Service, migrated: Memctl) -> None:
    careless.db.execute(
        "INSERT INTO agent_memory (id, agent_id, type, key, value)"
        " VALUES ('m', CAST(x'61ff' AS TEXT), 'learning', CAST(x'6bfe' AS TEXT), ?)",
        (f"{TOKEN} of it",),
    )

    answer = migrated("erase", b"a\xff", "--type", "learning", "--key", b"k\xfe", "--yes", "--json")

    assert (answer.exit_code, files_with(migrated, f"{TOKEN} of it")) == (0, [])


# Selection


texts = st.text(st.sampled_from('ab"\\/é'), max_size=6)


@given(
    memories=st.lists(st.tuples(st.sampled_from("xy"), texts, texts, st.none() | texts)),
    text=st.text(st.sampled_from('ab"\\/é'), min_size=4, max_size=5),
    agent=st.sampled_from([None, "x"]),
)
def test_a_text_selects_what_contains_it_also_as_json(
    memories: list[tuple[str, str, str, str | None]],
    text: str,
    agent: str | None,
    template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("matching") / "harness.db"
    path.write_bytes(template.read_bytes())
    with closing(connect(path)) as db:
        for number, (of, key, value, metadata) in enumerate(memories):
            row: Row = {"agent_id": of, "key": f"{number}{key}", "value": value, "id": f"{number}"}
            insert_memory(db, **row, metadata=metadata)

    searched = text_of(ErasureFilter(agent, text=text))
    assert searched
    with open_database(path, read_only=True) as db:
        found = TextSearch(db, searched).names()

    forms = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    forms |= {form.replace("/", r"\/") for form in forms - {text}}
    expected = {
        (of, "learning", f"{number}{key}")
        for number, (of, key, value, metadata) in enumerate(memories)
        if agent in (None, of)
        and any(
            form in part for form in forms for part in (f"{number}{key}", value, metadata or "")
        )
    }
    assert found == expected


names = st.tuples(
    st.sampled_from(["x", "y"]), st.sampled_from(["learning", "odd"]), st.sampled_from(["k", "l"])
)


@given(
    active=st.sets(names),
    archived=st.lists(names, max_size=8),
    events=st.lists(names, max_size=8),
    erased=st.sets(names, min_size=1, max_size=3),
)
def test_exactly_the_memories_of_the_names_are_removed(
    active: set[tuple[str, str, str]],
    archived: list[tuple[str, str, str]],
    events: list[tuple[str, str, str]],
    erased: set[tuple[str, str, str]],
    template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("removing") / "harness.db"
    path.write_bytes(template.read_bytes())
    with closing(connect(path)) as db:
        for name in active:
            row: Row = dict(zip(("agent_id", "type", "key"), name, strict=True))
            insert_memory(db, **row)
        db.executemany(
            "INSERT INTO archived_memories"
            " (id, agent_id, type, key, value, archived_at, archived_reason)"
            " VALUES (hex(randomblob(8)), ?, ?, ?, 'v', 't', 'expired')",
            archived,
        )
        db.executemany(
            "INSERT INTO memory_events (at, event, agent_id, type, key, memory_id)"
            " VALUES ('t', 'memory:pruned', ?, ?, ?, 'm')",
            events,
        )

        with transaction(db):
            removal = Erasable(db, {Name(*name) for name in erased}, now=NOW).remove()

        columns = "agent_id, type, key"
        found = {
            table: db.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()
            for table in ("agent_memory", "archived_memories", "memory_events")
        }
    assert set(found["agent_memory"]) == active - erased
    assert found["archived_memories"] == [name for name in archived if name not in erased]
    kept = {type_ for _, type_, _ in (*found["agent_memory"], *found["archived_memories"])}
    assert found["memory_events"] == [
        (agent, type_ if type_ in {"learning", *kept} else None, None)
        if (agent, type_, key) in erased
        else (agent, type_, key)
        for agent, type_, key in events
    ]
    assert removal.places["memory_events"] == sum(name in erased for name in events)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_memories_are_removed_from_databases_of_earlier_schemas(
    step: int, careless: Service, migrated: Memctl
) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    careless.remember(AGENT, "learning", "another", "kept")
    if step < 3:
        migrated.ok("rollback", "--to", str(step), "--yes")

    with closing(sqlite3.connect(migrated.database, isolation_level=None)) as db:
        with transaction(db):
            removal = Erasable(db, {Name(AGENT, "learning", KEY)}, now=NOW).remove()
        left = db.execute("SELECT key FROM agent_memory").fetchall()

    assert (removal.places, left) == ({"agent_memory": 1}, [("another",)])


@pytest.mark.parametrize(
    "text", ["learning", "2026-11", "expired", "archived", "candidate", "from-memory", "pattern"]
)
def test_words_of_memctl_and_times_select_nothing(
    text: str, careless: Service, migrated: Memctl
) -> None:
    plant(careless.db)
    insert_memory(careless.db, key="k", expires_at="2026-11-01T00:00:00.000Z")
    migrated.ok("cleanup")
    careless.remember(AGENT, "learning", KEY, "value")

    preview = migrated.ok("erase", "--all-agents", "--match", text, "--dry-run", "--json").json

    assert (preview["erased"], preview["erased_rows"]) == (0, {"memory_replacements": 1})


def test_a_number_like_a_time_is_erased(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", KEY, "+49 170 555-0147")

    answer = migrated.ok("erase", AGENT, "--match", "170 555-0147", "--yes", "--json")

    assert (answer.json["erased"], files_with(migrated, "170 555-0147")) == (1, [])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param(("--match", "abc", "--all-agents"), "fewer than 4 bytes", id="a short text"),
        pytest.param((AGENT,), "exactly one of ids", id="nothing"),
        pytest.param((AGENT, "x", "--match", TOKEN), "exactly one of ids", id="two ways"),
        pytest.param((AGENT, "--type", "learning"), "used together", id="a type alone"),
        pytest.param(("--match", TOKEN), "an agent is required", id="no agent"),
        pytest.param((AGENT, "x", "--all-agents"), "requires --match", id="ids of all agents"),
        pytest.param((AGENT, "x", "--list"), "requires --dry-run", id="a list"),
        pytest.param(("--continue", AGENT), "used with an agent", id="continue with an agent"),
    ],
)
def test_what_to_erase_must_be_clear(
    words: tuple[str, ...], problem: str, migrated: Memctl
) -> None:
    answer = migrated("erase", *words, "--yes")

    assert answer.exit_code == 2
    assert problem in complaint(answer)


def test_the_text_is_read_from_stdin(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)

    erased = migrated.ok(*MATCHING[:-1], "-", "--yes", "--json", given=f"{TOKEN}\n".encode()).json

    assert erased["erased"] == 1
    assert files_with(migrated, TOKEN) == []


def test_what_was_not_found_is_not_recorded(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", "another", "kept")

    answers = [migrated(*NAMED, "--yes"), migrated("erase", AGENT, TOKEN, "--yes")]

    assert [answer.exit_code for answer in answers] == [1, 1]
    assert files_with(migrated, KEY, TOKEN) == []


def test_a_held_memory_refuses_the_whole_erasure(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    careless.remember("qa_agent", "learning", "held", TOKEN)
    careless.db.execute(
        "INSERT INTO memory_holds (agent_id, type, key, held_at)"
        " VALUES ('qa_agent', 'learning', 'held', 't')"
    )
    before = memory_tables(migrated.database)

    answer = migrated(*MATCHING, "--yes")

    assert (answer.exit_code, complaint(answer)) == (
        3,
        "memctl: 1 of 2 memories to erase is held; see `memctl holds`, and end the holds with"
        " `memctl release` first; nothing was erased",
    )
    assert memory_tables(migrated.database) == before


# Preview, confirmation, receipt


def test_a_preview_shows_what_is_erased_and_changes_nothing(
    careless: Service, migrated: Memctl
) -> None:
    plant(careless.db)
    before = everything(migrated.database)

    preview = migrated.ok(*MATCHING, "--dry-run", "--list", "--json").json
    unchanged = everything(migrated.database)
    erased = migrated.ok(*MATCHING, "--yes", "--json").json

    assert unchanged == before
    same = ("erased", "erased_rows", "kept_rows", "backups")
    assert {name: preview[name] for name in same} == {name: erased[name] for name in same}
    assert len(preview["listed"]) == preview["erased"] == 11


def test_off_a_terminal_an_erasure_must_be_confirmed(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    before = everything(migrated.database)

    answer = migrated(*NAMED)

    assert (answer.exit_code, complaint(answer)) == (
        3,
        "memctl: this would erase 1 memory and 1 row in all, which cannot be undone; check it with"
        " --dry-run --list, then use --yes; nothing was erased",
    )
    assert everything(migrated.database) == before


@pytest.mark.parametrize(("key", "left"), [("y", 0), ("n", 1)])
def test_on_a_terminal_an_erasure_is_confirmed(
    key: str, left: int, careless: Service, migrated: Memctl
) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)

    shown = on_a_terminal(migrated, *NAMED, typed=f"{key}\n", exit_code=3 * left)

    assert "Erase 1 memory and 1 row in all? This cannot be undone. [y/N]" in shown
    assert careless.db.execute("SELECT count(*) FROM agent_memory").fetchone()[0] == left


def test_a_text_that_a_client_writes_again_during_the_search_is_found(
    careless: Service, migrated: Memctl
) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)

    def replace_it(statement: str) -> None:
        if "WHERE rowid = " in statement:
            careless.remember(AGENT, "learning", KEY, TOKEN)

    with open_database(migrated.database) as db:
        db.set_trace_callback(replace_it)
        names = TextSearch(db, ErasedText(frozenset({TOKEN.encode()}), agent=None)).names()

    assert names == {Name(AGENT, "learning", KEY)}


def test_a_text_that_nothing_contains_is_reported(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)

    answer = migrated("erase", "another", "--match", TOKEN, "--yes")

    assert answer.exit_code == 0
    assert "no row contains the text" in answer.err


@pytest.mark.parametrize("words", [("erase",), ("redact", "--match", TOKEN)])
def test_without_a_place_for_the_receipt_nothing_is_removed(
    words: Words, careless: Service, migrated: Memctl, tmp_path: Path
) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    place = tmp_path / "file" / "receipt.json"
    place.parent.touch()
    name = (AGENT, "--type", "learning", "--key", KEY)

    answer = migrated(*words, *name, "--yes", "--receipt", str(place))

    assert answer.exit_code != 0
    assert "receipt.json" in complaint(answer)
    assert careless.db.execute("SELECT value FROM agent_memory").fetchone()[0] == TOKEN


def test_the_receipt_names_nothing_and_only_its_owner_can_read_it(
    careless: Service, migrated: Memctl
) -> None:
    memory = careless.remember(AGENT, "learning", KEY, TOKEN)
    receipt = migrated.database.parent / "receipt.json"

    shown = migrated.ok(*NAMED, "--yes", "--json", "--receipt", str(receipt)).json

    text = receipt.read_text()
    assert json.loads(text) | {"schema": 1} == shown
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    assert [part for part in (KEY, TOKEN, memory["id"], AGENT) if part in text] == []
    hashes = careless.db.execute("SELECT lower(hex(name_hash)) FROM memory_tombstones").fetchall()
    assert {row[0] for row in hashes} == set(shown["fingerprints"])


def test_backups_that_may_have_the_memory_are_listed(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    migrated.ok("backup")

    receipt = migrated.ok(*NAMED, "--yes", "--json").json

    assert [Path(copy["path"]).name for copy in receipt["backups"]] == files_with(migrated, TOKEN)
    assert len(receipt["backups"]) == 1


# Bytes


def fragment(service: Service, chance: random.Random) -> dict[str, set[str]]:
    """Let the service write, replace and delete memories; return all values that each key had."""
    values: dict[str, set[str]] = {f"key-{random_text(chance, 20)}": set() for _ in range(30)}
    for _ in range(200):
        key = chance.choice(list(values))
        if chance.random() < 0.8:
            value = random_text(chance, chance.choice([20, 60, 300, 1000, 5000, 30_000]))
            service.remember(AGENT, "learning", key, value)
            values[key].add(value)
        else:
            service.forget(AGENT, "learning", key)
    return values


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("avoided", [False, True], ids=["always", "if needed"])
def test_no_byte_is_left_in_a_file_that_the_service_has_fragmented(
    seed: int, avoided: bool, careless: Service, migrated: Memctl
) -> None:
    values = fragment(careless, random.Random(seed))
    present = [row[0] for row in careless.db.execute("SELECT key FROM agent_memory")][:3]
    texts = [
        careless.db.execute("SELECT value FROM agent_memory WHERE key = ?", (key,)).fetchone()[0]
        for key in present
    ]
    assert set(texts) <= set.union(*values.values())
    if not avoided:  # also the values that were overwritten before, which memctl never knew
        texts = [value for key in present for value in values[key]]

    options = ["--avoid-vacuum"] if avoided else []
    for key in present:
        migrated.ok("erase", AGENT, "--type", "learning", "--key", key, "--yes", *options)

    assert files_with(migrated, *present, *texts) == []
    with closing(connect(migrated.database)) as db:
        assert is_sound(db)


def leave_stale_copies(service: Service) -> None:
    """Let pages with other rows have copies of deleted rows with the token in their unused part."""
    for number in range(40):
        service.remember("other", "learning", f"k{number}", "v" * 300)
    for number in range(0, 40, 2):
        service.remember("other", "learning", f"k{number}", f"{TOKEN} {number} " + "w" * 250)
    for number in range(0, 40, 2):
        service.forget("other", "learning", f"k{number}")


def test_vacuum_removes_what_deletes_have_left_and_keeps_everything_else(
    careless: Service, migrated: Memctl
) -> None:
    migrated.ok("enable", "archive-on-replace")
    leave_stale_copies(careless)
    careless.remember(AGENT, "learning", KEY, TOKEN)
    rowids = "SELECT rowid, id FROM agent_memory WHERE key <> ? ORDER BY rowid"
    schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
    before = [
        [tuple(row) for row in careless.db.execute(*query)]
        for query in ((rowids, (KEY,)), (schema,))
    ]

    answer = migrated.ok(*MATCHING, "--avoid-vacuum", "--yes", "--json")

    after = [
        [tuple(row) for row in careless.db.execute(*query)]
        for query in ((rowids, (KEY,)), (schema,))
    ]
    assert answer.json["overwriting"]["vacuum_ms"] > 0
    assert answer.json["overwriting"]["remains_before_vacuum"] == {"harness.db": 1}
    assert (files_with(migrated, TOKEN), after) == ([], before)
    assert careless.db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    with closing(connect(migrated.database)) as db:
        assert is_sound(db)


def test_memories_that_are_much_like_others_are_erased(careless: Service, migrated: Memctl) -> None:
    ids = [
        careless.remember(AGENT, "context", f"task:{n:04}", f"the build of host {n:04} failed" * 3)
        for n in range(600)
    ]
    erased = [row["id"] for row in ids[::3]]

    answer = migrated.ok("erase", AGENT, *erased, "--yes", "--json")

    overwriting = answer.json["overwriting"]
    assert (overwriting["is_complete"], overwriting["remains"]) == (True, {})


def test_a_text_that_only_deleted_rows_have_left_is_erased(
    careless: Service, migrated: Memctl
) -> None:
    leave_stale_copies(careless)
    careless.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert files_with(migrated, TOKEN) == ["harness.db"]

    answer = migrated(*MATCHING, "--yes", "--json")

    assert (answer.exit_code, answer.json["erased"], files_with(migrated, TOKEN)) == (0, 0, [])


def test_a_copy_that_an_ignored_insert_has_left_of_a_memory_that_is_gone_is_erased(
    careless: Service, migrated: Memctl
) -> None:
    migrated.ok("enable", "archive-on-replace")
    careless.remember(AGENT, "learning", KEY, TOKEN)
    careless.db.execute(
        "INSERT OR IGNORE INTO agent_memory (agent_id, type, key, value) VALUES (?, ?, ?, 'other')",
        (AGENT, "learning", KEY),
    )
    careless.db.execute("DELETE FROM agent_memory")

    preview = migrated.ok(*MATCHING, "--dry-run", "--json").json
    answer = migrated(*MATCHING, "--yes", "--json")

    assert answer.exit_code == 0
    assert preview["erased_rows"] == answer.json["erased_rows"] == {"memory_replacements": 1}
    assert files_with(migrated, TOKEN) == []


def test_a_reader_of_the_log_delays_the_end(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    with closing(connect(migrated.database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM agent_memory").fetchone()

        answer = migrated(*NAMED, "--yes", "--lock-wait", "0.2")
        problems = {one["code"] for one in migrated("check", "--json").json["findings"]}

        reader.execute("COMMIT")
    assert (answer.exit_code, complaint(answer)) == (
        3,
        "memctl: the memories were erased, but a reader keeps the write-ahead log from being"
        " emptied; end long reads of other programs, then run `memctl erase --continue`",
    )
    assert "erase_pending" in problems
    migrated.ok("erase", "--continue")
    assert files_with(migrated, KEY, TOKEN) == []
    assert migrated("erase", "--continue").exit_code == 1


def test_a_locked_database_is_not_changed(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    before = everything(migrated.database)
    with write_lock(migrated.database):
        answer = migrated(*NAMED, "--yes", "--lock-wait", "0")

    assert answer.exit_code == 11
    assert everything(migrated.database) == before


def test_the_service_writes_meanwhile(careless: Service, migrated: Memctl) -> None:
    values = fragment(careless, random.Random(7))
    keys = [key for key in values if careless.recall(AGENT, "learning", key)][:5]
    with service_at_work(migrated.database, use_memories) as service:
        answers = [
            migrated("erase", AGENT, "--type", "learning", "--key", key, "--yes") for key in keys
        ]

    assert ([answer.exit_code for answer in answers], service.errors) == ([0] * 5, [])
    assert service.active(migrated.database) == service.acknowledged
    assert files_with(migrated, *keys) == []


def rewrite(service: Service, number: int) -> Row:
    """Write the next version of the memory that is being erased."""
    value = f"version {number:06d} of the service {'x' * 500}"
    return memory_of(service.remember(AGENT, "learning", KEY, value))


def test_versions_that_the_service_writes_meanwhile_are_new(
    careless: Service, migrated: Memctl
) -> None:
    migrated.ok("enable", "archive-on-replace")
    with service_at_work(migrated.database, rewrite) as service:
        written = service.rounds
        answer = migrated(*NAMED, "--yes")
        after = service.rounds

    assert (answer.exit_code, service.errors, written < after) == (0, [], True)
    texts = [f"version {number:06d} of the service" for number in range(written)]
    assert files_with(migrated, *texts) == []
    assert service.active(migrated.database) == service.acknowledged
    with closing(connect(migrated.database)) as db:
        assert is_sound(db)


# Interruptions


def test_a_full_disk_leaves_the_overwriting_for_later(careless: Service, migrated: Memctl) -> None:
    # The log of VACUUM has 24 bytes more per page than the file, in which little is free.
    careless.remember("other", "learning", "large", "z" * 12_000_000)
    leave_stale_copies(careless)
    careless.remember(AGENT, "learning", KEY, TOKEN)
    careless.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    most = migrated.database.stat().st_size

    answer = replace(migrated, limits=(("fsize", most),))(*MATCHING, "--yes")

    assert (answer.exit_code, files_with(migrated, TOKEN)) == (1, ["harness.db"])
    assert "erase_pending" in migrated("check", "--json").out
    migrated.ok(*MATCHING, "--yes")
    assert files_with(migrated, TOKEN) == []


@pytest.fixture(scope="module")
def planted(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Memctl:
    """A database with the token in every place, in pages with copies of deleted rows."""
    memctl = Memctl(tmp_path_factory.mktemp("planted") / "harness.db")
    memctl.database.write_bytes(migrated_database.read_bytes())
    with closing(Service(memctl.database)) as service:
        service.db.execute("PRAGMA secure_delete = OFF")
        leave_stale_copies(service)
        plant(service.db)
        service.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return memctl


def finish(memctl: Memctl, words: Sequence[str]) -> None:
    """Run the command again, and check that nothing is left, and nothing else is lost."""
    answer = memctl(*words)
    assert (answer.exit_code, files_with(memctl, TOKEN)) == (0, [])
    with closing(connect(memctl.database)) as db:
        assert is_sound(db)
        assert db.execute("SELECT count(*) FROM agent_memory").fetchone() == (20,)
        assert (
            db.execute("SELECT key FROM memory_state WHERE key = 'erase_pending'").fetchall() == []
        )
        assert (
            db.execute("SELECT 1 FROM sqlite_schema WHERE name LIKE '%overwriting%'").fetchall()
            == []
        )


def steps(every: int) -> Iterator[tuple[int, None]]:
    """Yield every so manieth step, without an end."""
    number = 1
    while True:
        yield number, None
        number += every


def test_an_interrupted_erasure_is_finished_by_the_next(planted: Memctl, tmp_path: Path) -> None:
    words = (*MATCHING, "--avoid-vacuum", "--yes")
    for memctl in killed_before(steps(7), planted, words, tmp_path):
        finish(memctl, words)


def test_an_interrupted_erasure_of_several_ids_is_completed_by_the_same_command(
    careless: Service, migrated: Memctl, tmp_path: Path
) -> None:
    ids = [careless.remember(AGENT, "learning", f"key-{n}", f"{TOKEN}-{n}")["id"] for n in range(8)]
    kept = careless.remember(AGENT, "learning", "another", "kept")["id"]
    careless.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    words = ("erase", AGENT, *ids, "--yes")
    partly = 0
    for memctl in killed_before(steps(3), migrated, words, tmp_path):
        with closing(connect(memctl.database)) as db:
            left = db.execute("SELECT count(*) FROM agent_memory").fetchone()[0] - 1
            pending = db.execute("SELECT 1 FROM memory_state WHERE key = 'erase_pending'")
            was_begun = pending.fetchone() is not None
        if was_begun and left:
            partly += 0 < left < len(ids)
            answer = memctl("erase", "--continue")
            assert answer.exit_code == 3
            assert complaint(answer) == (
                "memctl: the command was interrupted before everything was removed from the tables;"
                " run it again as it was, `memctl erase` or `memctl redact`; nothing was changed"
            )
        if was_begun or left:
            memctl.ok(*words)
        with closing(connect(memctl.database)) as db:
            assert db.execute("SELECT id FROM agent_memory").fetchall() == [(kept,)]
        assert files_with(memctl, TOKEN) == []
    assert partly


@pytest.mark.campaign
def test_an_erasure_can_be_killed_before_every_statement(planted: Memctl, tmp_path: Path) -> None:
    words = (*MATCHING, "--avoid-vacuum", "--yes")
    for memctl in killed_before(steps(1), planted, words, tmp_path):
        finish(memctl, words)


# What must not come back


def test_what_was_erased_is_not_imported_again(careless: Service, migrated: Memctl) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    careless.remember(AGENT, "learning", "another", "kept")
    document = migrated.ok("export", AGENT).out.encode()
    migrated.ok(*NAMED, "--yes")
    careless.forget(AGENT, "learning", "another")

    preview = migrated("import", AGENT, "-", "--dry-run", "--json", given=document)
    answer = migrated("import", AGENT, "-", "--json", given=document)

    assert (preview.exit_code, answer.exit_code) == (3, 3)
    assert (preview.json["erased"], answer.json["erased"]) == (1, 1)
    assert answer.json["active"]["inserted"] == 1
    assert files_with(migrated, KEY, TOKEN) == []


def test_what_was_erased_is_not_imported_for_another_agent(
    careless: Service, migrated: Memctl
) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    document = migrated.ok("export", AGENT).out.encode()
    migrated.ok(*NAMED, "--yes")

    answer = migrated("import", "-", "--reassign-agent", "qa_agent", "--json", given=document)

    assert (answer.exit_code, answer.json["erased"]) == (3, 1)
    assert files_with(migrated, TOKEN) == []


def test_a_value_that_is_written_anew_is_reported_and_not_restored(
    careless: Service, migrated: Memctl
) -> None:
    careless.remember(AGENT, "learning", KEY, TOKEN)
    migrated.ok(*NAMED, "--yes")
    careless.remember(AGENT, "learning", KEY, "another value")
    clean = migrated("check", "--json").json["findings"]
    memory = careless.remember(AGENT, "learning", KEY, TOKEN)
    migrated.ok("forget", AGENT, "learning", KEY)

    found = migrated("check", "--json").json["findings"]
    restored = migrated.ok("restore", AGENT, memory["id"], "--json")

    assert "erased_value" not in {one["code"] for one in clean}
    (finding,) = (one for one in found if one["code"] == "erased_value")
    assert (memory["id"] in finding["message"], TOKEN in finding["message"]) == (True, False)
    assert (restored.json["restored"], restored.json["erased"]) == (0, 1)
