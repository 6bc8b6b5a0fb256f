"""Archive and restore: every field of a restored memory is unchanged."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.jobs.engine import JobContext, JobRequest, perform
from memctl.jobs.restore import RestoreResult, restore
from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.archive import archive_condition
from memctl.storage.sqlite.batches import SqliteBatches
from memctl.storage.sqlite.restore import restorable_memories
from memctl.storage.sqlite.selection import BATCH_ROWS
from tests.support.database import insert_memory, is_sound, rows
from tests.support.odd_values import ODDITIES
from tests.support.program import NOW, Memctl
from tests.support.service import COLUMNS

FIELDS = (*COLUMNS, "importance_decay_rate", "promoted_at")
EXACTLY = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in FIELDS)


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


def test_undoing_a_cleanup_restores_everything_permanently(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for number in range(500):
        remember(
            key=str(number), expired_for=timedelta(days=number + 1), idle_days=40, importance=9
        )
    before = rows(db, "agent_memory", "id, key, value, importance, last_accessed")

    migrated.ok("cleanup")
    answer = migrated.ok("restore", "--run", "1", "--json").json
    again = migrated.ok("cleanup", "--json").json
    decayed = migrated.ok("decay", "--json").json

    assert (answer["restored"], answer["skipped"], answer["replaced"]) == (500, 0, 0)
    assert again["archived"] == 0
    assert decayed["decayed"] == 0
    assert rows(db, "agent_memory", "id, key, value, importance, last_accessed") == before
    assert set(rows(db, "agent_memory", "expires_at, archived_at, last_decay_at")) == {
        (None, "2026-11-22T09:43:58Z", "2026-11-22T09:43:58Z")
    }
    assert is_sound(db)


def test_decay_charges_idle_time_after_a_restore_but_not_in_the_archive(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember(idle_days=40, importance=9)
    migrated.ok("archive", "build_agent", memory)

    migrated.at(NOW + timedelta(days=10)).ok("restore", "build_agent", memory)
    migrated.at(NOW + timedelta(days=13)).ok("decay")

    # Three days since the restore, at the rate of a memory idle for over a month.
    assert rows(db, "agent_memory", "importance") == [(8.4,)]


def test_an_expiry_in_the_future_is_kept(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember(expires_at="2026-11-25 00:00:00")
    migrated.ok("archive", "build_agent", memory)

    migrated.ok("restore", "build_agent", memory)

    assert rows(db, "agent_memory", "expires_at") == [("2026-11-25 00:00:00",)]


def test_a_restored_memory_can_be_given_a_new_expiry(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember(expired_for=timedelta(days=1))
    migrated.ok("cleanup")

    migrated.ok("restore", "build_agent", memory, "--expires-in", "2d")

    assert rows(db, "agent_memory", "expires_at") == [("2026-11-24T09:43:58.000Z",)]


def test_a_selection_by_reason_and_time_leaves_the_rest_archived(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    by_hand = remember(key="by hand")
    remember(key="long expired", expired_for=timedelta(days=30))
    migrated.at(NOW - timedelta(days=20)).ok("cleanup")
    remember(key="just expired", expired_for=timedelta(hours=1))
    migrated.ok("cleanup")
    migrated.ok("archive", "build_agent", by_hand)

    migrated.ok("restore", "build_agent", "--reason", "expired", "--since", "7d")

    assert rows(db, "agent_memory", "key") == [("just expired",)]
    assert rows(db, "archived_memories", "key") == [("long expired",), ("by hand",)]


@pytest.fixture
def conflict(db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]) -> str:
    """An archived memory 'old', which the service has written again as 'new', and a free one."""
    old = remember(key="k", value="old", expired_for=timedelta(days=1))
    remember(key="free", value="old", expired_for=timedelta(days=1))
    migrated.ok("cleanup")
    remember(key="k", value="new")
    return old


def test_a_restore_with_a_conflict_is_refused(
    db: sqlite3.Connection, migrated: Memctl, conflict: str
) -> None:
    answer = migrated("restore", "--run", "1")

    assert answer.exit_code == 3
    assert answer.err == (
        "memctl: 1 memory conflicts with an active memory: 'build_agent' learning 'k'; use"
        " --on-conflict skip or replace; nothing was changed\n"
    )
    assert rows(db, "agent_memory", "key, value") == [("k", "new")]
    assert rows(db, "archived_memories", "key") == [("k",), ("free",)]


def test_a_conflict_can_be_skipped(db: sqlite3.Connection, migrated: Memctl, conflict: str) -> None:
    answer = migrated.ok("restore", "--run", "1", "--on-conflict", "skip", "--json").json

    assert (answer["restored"], answer["skipped"], answer["replaced"]) == (1, 1, 0)
    assert rows(db, "agent_memory", "key, value") == [("k", "new"), ("free", "old")]
    assert rows(db, "archived_memories", "key, value") == [("k", "old")]


@pytest.mark.parametrize("preview", [True, False], ids=["previewed", "at once"])
def test_an_active_memory_can_be_replaced_and_is_archived(
    db: sqlite3.Connection, migrated: Memctl, conflict: str, preview: bool
) -> None:
    command = ("restore", "--run", "1", "--on-conflict", "replace", "--json")
    previewed = migrated.ok(*command, "--dry-run").json if preview else None

    answer = migrated.ok(*command).json

    counts = (answer["restored"], answer["skipped"], answer["replaced"])
    assert counts == (2, 0, 1)
    assert previewed is None or counts == tuple(
        previewed[name] for name in ("restored", "skipped", "replaced")
    )
    assert rows(db, "agent_memory", "key, value") == [("k", "old"), ("free", "old")]
    assert rows(db, "archived_memories", "key, value, archived_reason") == [
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


def test_the_newest_of_several_archived_copies_is_restored(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for value in ("first", "second", "third"):
        remember(key="task:1", value=value, expired_for=timedelta(days=1))
        migrated.ok("cleanup")

    answer = migrated.ok("restore", "build_agent", "--reason", "expired", "--json").json

    assert (answer["restored"], answer["skipped"]) == (1, 2)
    assert rows(db, "agent_memory", "value") == [("third",)]
    assert rows(db, "archived_memories", "value") == [("first",), ("second",)]


def test_each_change_is_recorded_in_one_event(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember(key="k", expired_for=timedelta(days=1))

    migrated.ok("cleanup")
    migrated.ok("restore", "build_agent", memory)
    migrated.ok("archive", "build_agent", memory)

    about = (memory, "build_agent", "learning", "k")
    assert rows(db, "memory_events", "event, memory_id, agent_id, type, key, run_id") == [
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
def test_a_restore_without_an_agent_requires_a_run(migrated: Memctl, options: list[str]) -> None:
    answer = migrated("restore", *options)

    assert answer.exit_code == 2
    assert answer.err == (
        "memctl: --reason and --since require an agent; memctl restore AGENT --reason …\n"
    )


def test_a_memory_written_during_a_restore_is_kept_and_reported(
    path: Path, db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for number in range(50):
        remember(key=str(number), value="old", expired_for=timedelta(days=1))
    migrated.ok("cleanup")

    def restore_while_the_service_writes(run: JobContext) -> RestoreResult:
        # The conflict arises between the check of all and the first batch.
        assert isinstance(run.batches, SqliteBatches)
        apply = run.batches.apply

        def write_first(rowids: Any, change: Callable[[str], object], **how: Any) -> int:
            remember(key="49", value="new")
            return apply(rowids, change, **how)

        run.batches.apply = write_first  # type: ignore[method-assign]
        return restore(run, ArchiveFilter(run_id=1))

    result = perform("restore", restore_while_the_service_writes, JobRequest(path, NOW)).result

    assert result is not None
    assert (result.restored, result.skipped) == (49, 1)
    assert result.refusal is not None
    assert result.refusal.message == (
        "1 memory conflicts with a memory written during the restore, and stays archived"
    )
    assert rows(db, "agent_memory WHERE key = '49'", "value") == [("new",)]
    assert rows(db, "archived_memories", "key, value") == [("49", "old")]


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


def test_archive_and_restore_can_be_repeated(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    first, second = remember(), remember()
    migrated.ok("archive", "build_agent", first)

    archived = [migrated.ok("archive", "build_agent", first, second, "--json") for _ in range(2)]
    migrated.ok("restore", "build_agent", first)
    restored = [migrated.ok("restore", "build_agent", first, second, "--json") for _ in range(2)]

    assert [answer.json["archived"] for answer in archived] == [1, 0]
    assert [answer.json["restored"] for answer in restored] == [1, 0]
    assert {row[0] for row in rows(db, "agent_memory", "id")} == {first, second}


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
