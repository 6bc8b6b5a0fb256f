"""Archive and restore: every field of a restored memory is unchanged."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from operator import itemgetter
from typing import Any

import pytest

from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.archive import archive_condition
from memctl.storage.sqlite.restore import restorable_memories
from memctl.storage.sqlite.selection import BATCH_ROWS
from tests.support.database import insert_memory, memory_row, rows
from tests.support.engines import Engine
from tests.support.odd_values import ODDITIES
from tests.support.program import NOW, Memctl
from tests.support.service import COLUMNS

DAY = timedelta(days=1)

FIELDS = (*COLUMNS, "importance_decay_rate", "promoted_at")
EXACTLY = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in FIELDS)


def shown(engine: Engine, columns: str, table: str = "agent_memory") -> list[tuple[Any, ...]]:
    """Return some columns of a table, sorted."""
    return sorted(tuple(row[name] for name in columns.split(", ")) for row in engine.rows(table))


@pytest.mark.parametrize("columns", ODDITIES.values(), ids=ODDITIES.keys())
def test_archiving_and_restoring_a_memory_preserves_every_byte(
    db: sqlite3.Connection, migrated: Memctl, columns: dict[str, Any]
) -> None:
    memory = insert_memory(db, id="m-1")
    for name, value in columns.items():
        # As TEXT, even where the bytes are not UTF-8; only the BLOB stays one.
        form = "?" if value == b"\x00\x01" or not isinstance(value, bytes) else "CAST(? AS TEXT)"
        db.execute(f"UPDATE agent_memory SET {name} = {form}", (value,))
    before = rows(db, "agent_memory", EXACTLY)

    migrated.ok("archive", "build_agent", memory)
    archived = rows(db, "archived_memories", EXACTLY)
    active_meanwhile = rows(db, "agent_memory")
    migrated.ok("restore", "build_agent", memory)

    assert archived == before
    assert active_meanwhile == []
    assert rows(db, "agent_memory", EXACTLY) == before
    assert rows(db, "archived_memories") == []


def test_undoing_a_cleanup_restores_everything_permanently(engine: Engine) -> None:
    engine.fill(
        "agent_memory",
        [
            memory_row(
                id=str(number),
                agent_id=f"agent_{number % 3}",
                key=str(number),
                value=f"value {number}",
                metadata='{"a": 1}',
                importance=number / 50,
                access_count=number,
                importance_decay_rate=0.5,
                expired_for=DAY * (number + 1),
                idle_days=40,
            )
            for number in range(500)
        ],
    )
    before = engine.rows()

    engine.memctl.ok("cleanup")
    archived = engine.rows("archived_memories")
    answer = engine.memctl.ok("restore", "--run", "1", "--json").json
    again = engine.memctl.ok("cleanup", "--json").json

    assert len(archived) == 500
    assert (answer["restored"], answer["skipped"], answer["replaced"]) == (500, 0, 0)
    assert answer["agents"] == {"agent_0": 167, "agent_1": 167, "agent_2": 166}
    assert again["archived"] == 0
    changed = {
        "expires_at": None,
        "archived_at": "2026-11-22T09:43:58Z",
        "last_decay_at": "2026-11-22T09:43:58Z",
    }
    assert engine.rows() == [row | changed for row in before]
    assert engine.rows("archived_memories") == []
    assert Counter(shown(engine, "event, run_id", "memory_events")) == {
        ("memory:expired", 1): 500,
        ("memory:archived", 1): 500,
        ("memory:restored", 2): 500,
    }


def test_decay_charges_idle_time_after_a_restore_but_not_in_the_archive(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember(idle_days=40, importance=9)
    migrated.ok("archive", "build_agent", memory)

    migrated.at(NOW + timedelta(days=10)).ok("restore", "build_agent", memory)
    migrated.at(NOW + timedelta(days=13)).ok("decay")

    # Three days since the restore, at the rate of a memory idle for over a month.
    assert rows(db, "agent_memory", "importance") == [(8.4,)]


def test_an_expiry_in_the_future_is_kept(engine: Engine) -> None:
    memory = engine.insert(expires_at="2026-11-25T00:00:00.000Z")
    engine.memctl.ok("archive", "build_agent", memory)

    engine.memctl.ok("restore", "build_agent", memory)

    assert shown(engine, "expires_at") == [("2026-11-25T00:00:00.000Z",)]


def test_a_restored_memory_can_be_given_a_new_expiry(engine: Engine) -> None:
    memory = engine.insert(expired_for=DAY)
    engine.memctl.ok("cleanup")

    engine.memctl.ok("restore", "build_agent", memory, "--expires-in", "2d")

    assert shown(engine, "expires_at") == [("2026-11-24T09:43:58.000Z",)]


def test_a_selection_by_reason_and_time_leaves_the_rest_archived(engine: Engine) -> None:
    by_hand = engine.insert(key="by hand")
    engine.insert(key="long expired", expired_for=timedelta(days=30))
    engine.memctl.at(NOW - timedelta(days=20)).ok("cleanup")
    engine.insert(key="just expired", expired_for=timedelta(hours=1))
    engine.memctl.ok("cleanup")
    engine.memctl.ok("archive", "build_agent", by_hand)

    engine.memctl.ok("restore", "build_agent", "--reason", "expired", "--since", "7d")

    assert shown(engine, "key") == [("just expired",)]
    assert shown(engine, "key", "archived_memories") == [("by hand",), ("long expired",)]


@pytest.fixture
def conflict(engine: Engine) -> None:
    """An archived memory 'old', which the service has written again as 'new', and a free one."""
    engine.insert(key="k", value="old", expired_for=DAY)
    engine.insert(key="free", value="old", expired_for=DAY)
    engine.memctl.ok("cleanup")
    engine.insert(key="k", value="new")


def test_a_restore_with_a_conflict_is_refused(engine: Engine, conflict: None) -> None:
    answer = engine.memctl("restore", "--run", "1")

    assert answer.exit_code == 3
    assert answer.err == (
        "memctl: 1 memory conflicts with an active memory: 'build_agent' learning 'k'; use"
        " --on-conflict skip or replace; nothing was changed\n"
    )
    assert shown(engine, "key, value") == [("k", "new")]
    assert shown(engine, "key", "archived_memories") == [("free",), ("k",)]


def test_a_conflict_can_be_skipped(engine: Engine, conflict: None) -> None:
    answer = engine.memctl.ok("restore", "--run", "1", "--on-conflict", "skip", "--json").json

    assert (answer["restored"], answer["skipped"], answer["replaced"]) == (1, 1, 0)
    assert shown(engine, "key, value") == [("free", "old"), ("k", "new")]
    assert shown(engine, "key, value", "archived_memories") == [("k", "old")]


@pytest.mark.parametrize("preview", [True, False], ids=["previewed", "at once"])
def test_an_active_memory_can_be_replaced_and_is_archived(
    engine: Engine, conflict: None, preview: bool
) -> None:
    command = ("restore", "--run", "1", "--on-conflict", "replace", "--json")
    previewed = engine.memctl.ok(*command, "--dry-run").json if preview else None

    answer = engine.memctl.ok(*command).json

    counts = (answer["restored"], answer["skipped"], answer["replaced"])
    assert counts == (2, 0, 1)
    assert previewed is None or counts == tuple(
        previewed[name] for name in ("restored", "skipped", "replaced")
    )
    assert shown(engine, "key, value") == [("free", "old"), ("k", "old")]
    assert shown(engine, "key, value, archived_reason", "archived_memories") == [
        ("k", "new", "replaced")
    ]


def test_replace_does_not_change_a_memory_of_another_agent(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="same", agent_id="build_agent")
    migrated.ok("archive", "build_agent", "same")
    remember(id="same", agent_id="qa_agent")

    answer = migrated("restore", "build_agent", "same", "--on-conflict", "replace")
    skipped = migrated.ok("restore", "build_agent", "same", "--on-conflict", "skip", "--json")

    assert answer.exit_code == 3
    assert answer.err == (
        "memctl: 1 memory has an id that an active memory of another agent has; use --on-conflict"
        " skip to leave them archived; nothing was changed\n"
    )
    assert (skipped.json["restored"], skipped.json["skipped"]) == (0, 1)
    assert rows(db, "agent_memory", "agent_id") == [("qa_agent",)]
    assert rows(db, "archived_memories", "agent_id") == [("build_agent",)]


def test_the_newest_of_several_archived_copies_is_restored(engine: Engine) -> None:
    for value in ("first", "second", "third"):
        engine.insert(key="task:1", value=value, expired_for=DAY)
        engine.memctl.ok("cleanup")

    answer = engine.memctl.ok("restore", "build_agent", "--reason", "expired", "--json").json

    assert (answer["restored"], answer["skipped"]) == (1, 2)
    assert shown(engine, "value") == [("third",)]
    assert shown(engine, "value", "archived_memories") == [("first",), ("second",)]


@pytest.mark.parametrize("number", [None, "1", "2"])
def test_any_archived_version_can_be_restored(engine: Engine, number: str | None) -> None:
    for value in ("first", "second"):
        engine.insert(key="k", value=value, expired_for=DAY)
        engine.memctl.ok("cleanup")
    engine.insert(id="active", key="k", value="third")
    version = () if number is None else ("--version", number)

    engine.memctl.ok("restore", "build_agent", "--type", "learning", "--key", "k", *version)

    restored, other = ("first", "second") if number == "1" else ("second", "first")
    assert shown(engine, "value") == [(restored,)]
    assert shown(engine, "value, archived_reason", "archived_memories") == sorted(
        [(other, "expired"), ("third", "replaced")]
    )


def test_a_memory_gets_back_the_id_that_was_given_to_the_one_in_its_place(engine: Engine) -> None:
    engine.insert(id="m", key="k", value="old")
    engine.memctl.ok("archive", "build_agent", "m")
    engine.insert(id="m", key="other", value="new")

    engine.memctl.ok("restore", "build_agent", "m", "--on-conflict", "replace")
    swapped = shown(engine, "id, value"), shown(engine, "id, value", "archived_memories")
    engine.memctl.ok("restore", "build_agent", "--reason", "replaced", "--on-conflict", "replace")

    assert swapped == ([("m", "old")], [("m~2", "new")])
    assert shown(engine, "id, value") == [("m", "new")]
    assert shown(engine, "id, value", "archived_memories") == [("m~3", "old")]


def test_one_memory_can_be_in_the_place_of_two(engine: Engine) -> None:
    engine.insert(id="m", key="k", value="old")
    engine.memctl.ok("archive", "build_agent", "m")
    engine.insert(id="m", key="other", value="has its id")
    engine.insert(id="n", key="k", value="has its key")

    answer = engine.memctl.ok("restore", "build_agent", "m", "--on-conflict=replace", "--json").json

    assert (answer["restored"], answer["replaced"]) == (1, 2)
    assert shown(engine, "id, value") == [("m", "old")]
    assert shown(engine, "id, value", "archived_memories") == [
        ("m~2", "has its id"),
        ("n", "has its key"),
    ]
    events = [row for row in engine.rows("memory_events") if row["run_id"] == 2]
    assert sorted(row["event"] for row in events) == [
        *("memory:archived", "memory:archived", "memory:restored")
    ]
    assert len({row["event_id"] for row in events}) == 3


def test_a_version_that_does_not_exist_is_not_restored(engine: Engine) -> None:
    engine.insert(key="k", expired_for=DAY)
    engine.memctl.ok("cleanup")

    answer = engine.memctl("restore", "build_agent", "--type=learning", "--key=k", "--version=2")

    assert answer.exit_code == 1
    assert answer.err.startswith(
        "memctl: the archive has 1 version of 'build_agent' learning 'k', but no version 2; "
    )


def test_each_change_is_recorded_in_one_event(engine: Engine) -> None:
    memory = engine.insert(key="k", expired_for=DAY)

    engine.memctl.ok("cleanup")
    engine.memctl.ok("restore", "build_agent", memory)
    engine.memctl.ok("archive", "build_agent", memory)

    about = (memory, "build_agent", "learning", "k")
    columns = ("event", "memory_id", "agent_id", "type", "key", "run_id")
    events = sorted(engine.rows("memory_events"), key=itemgetter("event_id"))
    assert [tuple(event[name] for name in columns) for event in events] == [
        ("memory:expired", *about, 1),
        ("memory:archived", *about, 1),
        ("memory:restored", *about, 2),
        ("memory:archived", *about, 3),
    ]


def test_an_agent_name_may_be_invalid_utf_8(db: sqlite3.Connection, migrated: Memctl) -> None:
    insert_memory(db, id="m-1")
    db.execute("UPDATE agent_memory SET agent_id = CAST(? AS TEXT)", (b"a\xff",))

    migrated.ok("archive", b"a\xff", "m-1")
    listed = migrated.ok("archived", b"a\xff").json
    migrated.ok("restore", b"a\xff", "m-1")

    assert listed[0]["agent_id"] == {"base64": "Yf8="}
    assert rows(db, "agent_memory", "CAST(agent_id AS BLOB)") == [(b"a\xff",)]


@pytest.mark.parametrize("options", [["--reason", "expired"], ["--since", "7d"]])
def test_a_restore_without_an_agent_requires_a_run(engine: Engine, options: list[str]) -> None:
    answer = engine.memctl("restore", *options)

    assert answer.exit_code == 2
    assert answer.err == (
        "memctl: --reason and --since require an agent; memctl restore AGENT --reason …\n"
    )


def test_a_batch_of_a_restore_looks_its_rows_up_by_number(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    which = ArchiveFilter(agent="a", reason="expired", since=NOW)
    condition, parameters = archive_condition(which)
    query = restorable_memories(condition, BATCH_ROWS)

    plan = [
        row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", {**parameters, "rowids": "[1]"})
    ]

    assert plan[0] == "SEARCH archived_memories USING INTEGER PRIMARY KEY (rowid=?)"


def test_archive_and_restore_can_be_repeated(engine: Engine) -> None:
    first, second = engine.insert(), engine.insert()
    memctl = engine.memctl
    memctl.ok("archive", "build_agent", first)

    archived = [memctl.ok("archive", "build_agent", first, second, "--json") for _ in range(2)]
    memctl.ok("restore", "build_agent", first)
    restored = [memctl.ok("restore", "build_agent", first, second, "--json") for _ in range(2)]

    assert [answer.json["archived"] for answer in archived] == [1, 0]
    assert [answer.json["restored"] for answer in restored] == [1, 0]
    assert {row["id"] for row in engine.rows()} == {first, second}


def test_a_run_can_be_undone_while_its_memories_are_archived(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember(importance=9, expired_for=timedelta(days=1))
    migrated.ok("cleanup")
    migrated.ok("decay")
    later = migrated.at(NOW + timedelta(days=800))

    later.ok("prune", "--force")
    kept = rows(db, "memory_runs", "job")
    later.ok("restore", "--run", "1")

    assert kept == [("cleanup",), ("prune",)]
    assert rows(db, "agent_memory", "id") == [(memory,)]


@pytest.mark.parametrize("command", [["cleanup"], ["restore", "--run", "1"], ["decay"]])
def test_a_trigger_that_would_change_memories_stops_a_job_at_the_start(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    command: list[str],
) -> None:
    remember(expired_for=timedelta(days=1), idle_days=50)
    migrated.ok("cleanup")
    remember(expired_for=timedelta(days=1), idle_days=50)
    db.execute(
        "CREATE TRIGGER meddler AFTER INSERT ON agent_memory"
        " BEGIN UPDATE agent_memory SET value = 'X' WHERE id = NEW.id; END"
    )
    before = rows(db, "agent_memory"), rows(db, "archived_memories")

    answer = migrated(*command)

    assert answer.exit_code == 12
    assert answer.err == (
        "memctl: the trigger meddler of another program would write to agent_memory when memctl"
        " does; change the trigger in the program that created it; nothing was changed\n"
    )
    assert (rows(db, "agent_memory"), rows(db, "archived_memories")) == before
