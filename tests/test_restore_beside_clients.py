"""Restore while clients write the same memories, while another restore runs, and after a kill."""

import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from memctl.jobs.engine import JobContext, JobRequest, perform
from memctl.jobs.restore import RestoreConflict, RestoreResult, restore
from memctl.storage.engines import open_store
from memctl.storage.postgresql.batches import PostgresBatches
from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.batches import SqliteBatches
from memctl.storage.sqlite.restore import SqliteRestoration
from tests.support.database import memory_row
from tests.support.engines import Engine, PostgresEngine
from tests.support.processes import eventually
from tests.support.program import NOW

DAY = timedelta(days=1)
KILLS = 5


def shown(engine: Engine, columns: str, table: str = "agent_memory") -> list[tuple[Any, ...]]:
    """Return some columns of a table, sorted."""
    return sorted(tuple(row[name] for name in columns.split(", ")) for row in engine.rows(table))


def fill(engine: Engine, count: int) -> None:
    """Insert memories of two agents that have expired."""
    engine.fill(
        "agent_memory",
        [
            memory_row(
                id=f"m{number}", agent_id=f"a{number % 2}", key=f"k{number}", expired_for=DAY
            )
            for number in range(count)
        ],
    )


def test_a_memory_written_during_a_restore_is_kept_and_reported(engine: Engine) -> None:
    for number in range(50):
        engine.insert(key=str(number), value="old", expired_for=DAY)
    engine.memctl.ok("cleanup")

    def restore_while_the_service_writes(run: JobContext) -> RestoreResult:
        # The conflict arises between the check of all and the first batch.
        assert isinstance(run.batches, SqliteBatches | PostgresBatches)
        apply = run.batches.apply

        def write_first(rows: Any, change: Callable[[Any], object], **how: Any) -> int:
            engine.insert(key="49", value="new")
            return apply(rows, change, **how)

        run.batches.apply = write_first  # type: ignore[method-assign]
        return restore(run, ArchiveFilter(run_id=1))

    request = JobRequest(engine.address, NOW)
    result = perform("restore", restore_while_the_service_writes, request).result

    assert result is not None
    assert (result.restored, result.skipped) == (49, 1)
    assert result.refusal is not None
    assert result.refusal.message == (
        "1 memory conflicts with a memory written during the restore, and stays archived"
    )
    assert ("49", "new") in shown(engine, "key, value")
    assert shown(engine, "key, value", "archived_memories") == [("49", "old")]


def wait_until(on_server: PostgresEngine, count: str) -> None:
    """Wait until a query returns a count above zero."""
    with psycopg.connect(on_server.url, autocommit=True) as observer:
        eventually(lambda: observer.execute(count).fetchone() != (0,))


def during_the_first_batch(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once while a batch of a restore has its copies, but has written nothing."""
    apply = SqliteRestoration.apply
    done: list[object] = []

    def act_first(self: SqliteRestoration, batch: str) -> Any:
        if not done:
            done.append(act())
        return apply(self, batch)

    monkeypatch.setattr(SqliteRestoration, "apply", act_first)


@pytest.mark.parametrize("same", ["the key", "the id"])
@pytest.mark.parametrize("on_conflict", ["fail", "skip", "replace"])
def test_a_memory_written_while_a_batch_is_restored_is_a_conflict(
    on_server: PostgresEngine,
    monkeypatch: pytest.MonkeyPatch,
    same: str,
    on_conflict: RestoreConflict,
) -> None:
    for name in ("1", "2"):
        on_server.insert(id=f"m{name}", key=f"k{name}", value="old", expired_for=DAY)
    on_server.memctl.ok("cleanup")
    new = {"key": "k1"} if same == "the key" else {"id": "m1", "key": "other"}
    during_the_first_batch(monkeypatch, lambda: on_server.insert(value="new", **new))

    result = perform(
        "restore",
        lambda run: restore(run, ArchiveFilter(run_id=1), on_conflict=on_conflict),
        JobRequest(on_server.address, NOW),
    ).result

    assert result is not None
    replacing = on_conflict == "replace"
    assert (result.restored, result.skipped, result.replaced) == (
        (2, 0, 1) if replacing else (1, 1, 0)
    )
    assert (result.refusal is not None) == (on_conflict == "fail")
    key = new["key"]
    assert shown(on_server, "key, value") == sorted(
        [("k2", "old"), ("k1", "old") if replacing else (key, "new")]
    )
    assert shown(on_server, "key, value", "archived_memories") == [
        (key, "new") if replacing else ("k1", "old")
    ]
    restored = {("memory:restored", "k2"), ("memory:restored", "k1")}
    assert {
        event for event in shown(on_server, "event, key", "memory_events") if "restored" in event[0]
    } == (restored if replacing else {("memory:restored", "k2")})


def test_a_memory_deleted_while_a_batch_is_restored_is_not_archived_as_replaced(
    on_server: PostgresEngine,
) -> None:
    """The client's lock on the row comes first; the batch waits, and finds it gone."""
    on_server.insert(id="m", key="k", value="old", expired_for=DAY)
    on_server.memctl.ok("cleanup")
    on_server.insert(id="n", key="k", value="new")
    with psycopg.connect(on_server.url) as client:
        client.execute("DELETE FROM agent_memory WHERE id = 'n'")
        process = on_server.memctl.start("restore", "--run", "1", "--on-conflict", "replace")
        wait_until(on_server, "SELECT count(*) FROM pg_locks WHERE NOT granted")
        client.commit()
        process.communicate()

    assert process.returncode == 0
    assert shown(on_server, "id, value") == [("m", "old")]
    assert on_server.rows("archived_memories") == []


def test_what_another_restore_has_just_restored_is_left_alone(engine: Engine) -> None:
    fill(engine, 20)
    engine.memctl.ok("cleanup")

    with open_store(engine.address) as one, open_store(engine.address) as other:
        restorations = [
            store.archived(ArchiveFilter(run_id=1), now=NOW).restoration(
                replacing=True, expires_at=None, now=NOW, run_id=run_id
            )
            for run_id, store in enumerate((one, other), 2)
        ]
        found = [restoration.find() for restoration in restorations]
        restored: list[int] = []
        for store, restoration, rows in zip((one, other), restorations, found, strict=True):
            store.batches(max_seconds=None).apply(
                rows, restoration.apply, doing="", after=lambda part: restored.append(len(part))
            )

    assert sum(restored) == 20
    assert [restoration.replaced for restoration in restorations] == [0, 0]
    assert len(engine.rows()) == 20
    assert engine.rows("archived_memories") == []


def test_two_restores_at_once_restore_each_memory_once(engine: Engine) -> None:
    fill(engine, 300)
    engine.memctl.ok("cleanup")

    processes = [
        engine.memctl.start("restore", "--run", "1", "--json", "--lock-wait", "60")
        for _ in range(2)
    ]
    codes = [process.wait() for process in processes if process.communicate()]

    assert codes == [0, 0]
    assert len(engine.rows()) == 300
    assert engine.rows("archived_memories") == []
    assert Counter(shown(engine, "event", "memory_events")) == {
        ("memory:expired",): 300,
        ("memory:archived",): 300,
        ("memory:restored",): 300,
    }


def test_a_client_that_writes_the_same_keys_loses_nothing(on_server: PostgresEngine) -> None:
    fill(on_server, 200)
    on_server.memctl.ok("cleanup")

    process = on_server.memctl.start("restore", "--run", "1", "--on-conflict", "skip")
    upsert = """
        INSERT INTO agent_memory (id, agent_id, type, key, value)
        VALUES (%(id)s, %(agent)s, 'learning', %(key)s, 'new')
        ON CONFLICT (agent_id, type, key) DO UPDATE SET id = excluded.id, value = excluded.value
    """
    with psycopg.connect(on_server.url, autocommit=True) as client:
        for number in random.sample(range(200), 200):
            client.execute(
                upsert, {"id": f"n{number}", "agent": f"a{number % 2}", "key": f"k{number}"}
            )
    process.communicate()

    assert process.returncode == 0
    assert [value for (value,) in shown(on_server, "value")] == ["new"] * 200
    written_first = shown(on_server, "key", "archived_memories")
    restored = [row for row in on_server.rows("memory_events") if row["event"] == "memory:restored"]
    assert len(written_first) + len(restored) == 200


@pytest.mark.parametrize("words", [("cleanup",), ("restore", "--run", "1")], ids=" ".join)
def test_after_a_kill_every_memory_is_in_one_place_and_the_next_run_completes_the_work(
    on_server: PostgresEngine, words: tuple[str, ...]
) -> None:
    count = 400
    seconds = 0.0
    for kill in range(KILLS + 1):
        on_server.empty()
        fill(on_server, count)
        if words[0] == "restore":
            on_server.memctl.ok("cleanup")
        process = on_server.memctl.start(*words)
        if kill:  # the first run measures how long the work takes
            wait_until(on_server, "SELECT count(*) FROM memory_runs WHERE status = 'running'")
            time.sleep(random.uniform(0, seconds))
            process.kill()
        process.communicate()
        seconds = seconds or on_server.rows("memory_runs")[-1]["duration_ms"] / 1000

        left = on_server.rows(), on_server.rows("archived_memories")
        events = Counter(shown(on_server, "event", "memory_events"))
        on_server.memctl.ok(*words)

        assert sorted(row["id"] for rows in left for row in rows) == sorted(
            f"m{number}" for number in range(count)
        )
        moved = left[0] if words[0] == "restore" else left[1]
        event = "memory:restored" if words[0] == "restore" else "memory:archived"
        assert events[(event,)] == len(moved)
        active, archived = (
            len(on_server.rows(table)) for table in ("agent_memory", "archived_memories")
        )
        assert (active, archived) == ((count, 0) if words[0] == "restore" else (0, count))
        numbers = [row["event_id"] for row in on_server.rows("memory_events")]
        assert len(set(numbers)) == len(numbers)
