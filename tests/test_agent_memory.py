"""The Python API: it does what the service's own functions do, and more."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import astuple, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl import AgentMemory, ArchivedMemory, Memory, Summary
from memctl.agent_memory import utc_now
from memctl.errors import (
    MemctlError,
    NotFoundError,
    RefusedError,
    SchemaError,
    UsageError,
)
from memctl.storage.memory import MOST_BYTES, TYPES, MemoryType
from memctl.storage.sqlite.features import enable
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from tests.support.database import connect, everything, insert_memory, memory_row, rows, text_of
from tests.support.engines import Engine, values
from tests.support.locks import write_lock
from tests.support.odd_values import ODDITIES
from tests.support.program import NOW, Memctl
from tests.support.properties import examples
from tests.support.service import COLUMNS, LIST, LIST_TYPE, Service

NAME: tuple[str, MemoryType, str] = ("build_agent", "learning", "toolchain")
KEPT = ", ".join(name for name in MEMORY_COLUMNS if name != "archived_at")
EXACT_COLUMNS = ", ".join(
    f"typeof({name}), CAST({name} AS BLOB)" for name in MEMORY_COLUMNS if name != "archived_at"
)


def open_at(engine: Engine, now: datetime = NOW) -> AgentMemory:
    """Open a database as an agent with a constant clock."""
    return AgentMemory(engine.address, clock=lambda: now)


@pytest.fixture
def migrated(template: Path, path: Path) -> Memctl:
    """The installed program, pointed at a copy, because migrating for each test is slow."""
    shutil.copyfile(template, path)
    return Memctl(path)


@pytest.fixture
def service(path: Path, migrated: Memctl) -> Iterator[Service]:
    """The service, connected to the migrated database."""
    with closing(Service(path)) as connected:
        yield connected


def where(engine: Engine) -> dict[str, list[str]]:
    """Return the keys of the active and the archived memories."""
    return {
        table: [key for (key,) in values(engine, table, "key")]
        for table in ("agent_memory", "archived_memories")
    }


# Remember


def test_remember_returns_the_memory_as_stored(engine: Engine, api: AgentMemory) -> None:
    memory = api.remember(
        *NAME,
        "cache it",
        metadata={"taskId": "TASK-7", "tags": ["ключ"]},
        importance=7,
        expires_in=3600,
    )

    assert memory == Memory(
        id=memory.id,
        agent_id="build_agent",
        type="learning",
        key="toolchain",
        value="cache it",
        metadata='{"taskId":"TASK-7","tags":["ключ"]}',
        importance=7,
        access_count=0,
        last_accessed="2026-11-22 09:43:58",
        created_at="2026-11-22 09:43:58",
        expires_at="2026-11-22T10:43:58.000Z",
        archived_at=None,
        importance_decay_rate=None,
        last_decay_at=None,
        promoted_at=None,
    )
    assert values(engine, "agent_memory", ", ".join(MEMORY_COLUMNS)) == [astuple(memory)]


def test_a_memory_has_every_column_of_the_table_in_its_order() -> None:
    assert tuple(field.name for field in fields(Memory)) == MEMORY_COLUMNS


def test_a_memory_with_defaults_is_as_the_service_writes_it(
    api: AgentMemory, db: sqlite3.Connection
) -> None:
    memory = api.remember(*NAME, "cache it")

    assert (memory.importance, memory.metadata, memory.expires_at) == (5, None, None)


@pytest.mark.parametrize(
    ("expires_in", "expires_at"),
    [
        pytest.param(None, None, id="never"),
        pytest.param(0, None, id="zero is never"),
        pytest.param(timedelta(0), None, id="None is never"),
        pytest.param(90, "2026-11-22T09:45:28.000Z", id="seconds"),
        pytest.param(0.25, "2026-11-22T09:43:58.250Z", id="part of a second"),
        pytest.param(timedelta(days=2), "2026-11-24T09:43:58.000Z", id="a timedelta"),
    ],
)
def test_a_memory_expires_at_the_given_time(
    engine: Engine, api: AgentMemory, expires_in: float | timedelta | None, expires_at: str | None
) -> None:
    memory = api.remember(*NAME, "cache it", expires_in=expires_in)

    assert memory.expires_at == expires_at


def test_remembering_again_replaces_the_memory_with_a_new_one(
    engine: Engine, api: AgentMemory
) -> None:
    old = api.remember(*NAME, "old", importance=9, metadata={}, expires_in=1)
    api.recall(*NAME)
    engine.execute(
        "UPDATE agent_memory SET archived_at = ?, last_decay_at = ?", *["2026-11-22"] * 2
    )
    engine.execute("UPDATE agent_memory SET promoted_at = ?", "2026-11-22")

    with open_at(engine, NOW + timedelta(days=1)) as later:
        new = later.remember(*NAME, "new")

    assert new.id != old.id
    assert astuple(new)[1:] == (
        *(*NAME, "new", None, 5, 0),
        *("2026-11-23 09:43:58", "2026-11-23 09:43:58", None),
        *(None, None, None, None),
    )
    assert where(engine) == {"agent_memory": ["toolchain"], "archived_memories": []}


def test_a_replaced_memory_can_be_archived(engine: Engine, api: AgentMemory) -> None:
    first = api.remember(*NAME, "first", metadata={"a": 1}, keep_replaced=True)
    api.recall(*NAME)

    second = api.remember(*NAME, "second", keep_replaced=True)

    columns = "id, value, metadata, access_count, archived_at, archived_reason, run_id"
    kept = (first.id, "first", '{"a":1}', 1, "2026-11-22T09:43:58Z", "replaced", None)
    assert values(engine, "agent_memory", "id, value, access_count") == [(second.id, "second", 0)]
    assert values(engine, "archived_memories", columns) == [kept]
    assert values(engine, "memory_events", "event, memory_id, agent_id, type, key, run_id") == [
        ("memory:archived", first.id, *NAME, None)
    ]


def test_a_memory_that_cannot_be_replaced_is_not_archived(
    api: AgentMemory, db: sqlite3.Connection
) -> None:
    api.remember(*NAME, "first")
    db.execute(
        "CREATE TRIGGER memctl_access_boost BEFORE INSERT ON agent_memory"
        " BEGIN SELECT RAISE(ABORT, 'stop'); END"
    )

    with pytest.raises(SchemaError, match="stop"):
        api.remember(*NAME, "second", keep_replaced=True)

    assert rows(db, "agent_memory", "value") == [("first",)]
    assert rows(db, "archived_memories") == []


def test_replacing_fires_triggers_of_other_programs_and_archives_nothing(
    api: AgentMemory, db: sqlite3.Connection
) -> None:
    first = api.remember(*NAME, "first")
    enable(db, "archive-on-delete", now=NOW)
    db.execute("CREATE TABLE seen (id)")
    db.execute(
        "CREATE TRIGGER theirs AFTER DELETE ON agent_memory"
        " BEGIN INSERT INTO seen VALUES (OLD.id); END"
    )

    api.remember(*NAME, "second")

    assert rows(db, "seen") == [(first.id,)]
    assert rows(db, "archived_memories") == []


# Recall


def test_recall_returns_the_memory_as_it_was_and_counts_the_access(
    engine: Engine, api: AgentMemory
) -> None:
    remembered = api.remember(*NAME, "cache it")

    with open_at(engine, NOW + timedelta(hours=1)) as later:
        first, second = later.recall(*NAME), later.recall(*NAME)

    assert first == remembered
    assert second == replace(remembered, access_count=1, last_accessed="2026-11-22 10:43:58")


def test_recall_finds_only_the_named_memory(engine: Engine, api: AgentMemory) -> None:
    api.remember(*NAME, "cache it")

    found = [
        api.recall("qa_agent", "learning", "toolchain"),
        api.recall("build_agent", "context", "toolchain"),
        api.recall("build_agent", "learning", "Toolchain"),
        api.recall("build_agent", "learning", "toolchain "),
        api.recall("", "learning", ""),
    ]

    assert found == [None] * 5
    assert values(engine, "agent_memory", "access_count") == [(0,)]


def test_recall_of_a_missing_memory_takes_no_lock(path: Path, migrated: Memctl) -> None:
    with write_lock(path), AgentMemory(path, lock_wait=0) as api:
        assert api.recall(*NAME) is None
        assert api.has_seen_error("build_agent", "never") is None
        assert api.recall_all("build_agent") == []


# List and summary


@pytest.fixture
def ties(db: sqlite3.Connection) -> None:
    """Some hundred memories with many ties in importance and access count."""
    chance = Random(3)
    for number in range(600):
        insert_memory(
            db,
            agent_id=chance.choice(["build_agent", "build_agent", "qa_agent"]),
            type=chance.choice(TYPES),
            key=f"{chance.random()} {number}",
            importance=chance.choice([5, 5, 5, 7, 7.5, 8, 0, "high", None]),
            access_count=chance.choice([0, 0, 1, 2]),
        )
    db.execute("DELETE FROM agent_memory WHERE rowid % 7 = 3")


@pytest.mark.parametrize("kind", [None, *TYPES])
@pytest.mark.usefixtures("ties")
def test_a_list_has_the_services_order_and_a_limit_takes_the_first(
    service: Service, api: AgentMemory, path: Path, kind: str | None
) -> None:
    expected = [tuple(row) for row in service.recall_all("build_agent", kind)]
    limits = [*range(1, 20), len(expected) // 2, len(expected), len(expected) + 1]
    before = everything(path)

    listed = [astuple(memory) for memory in api.recall_all("build_agent", kind)]
    beginnings = [
        [astuple(memory) for memory in api.recall_all("build_agent", kind, limit=limit)]
        for limit in limits
    ]

    assert len(expected) > 40
    assert listed == expected
    assert beginnings == [expected[:limit] for limit in limits]
    assert everything(path) == before


@pytest.mark.parametrize("kind", [None, "learning"])
def test_a_list_has_the_services_query_plan_and_order_of_ties(
    service: Service, api: AgentMemory, kind: str | None
) -> None:
    statement, given_ = (LIST, ["a"]) if kind is None else (LIST_TYPE, ["a", kind])
    expected = [row[3] for row in service.db.execute(f"EXPLAIN QUERY PLAN {statement}", given_)]
    asked: list[str] = []

    api._opened.store.sqlite.set_trace_callback(asked.append)
    api.recall_all("a", kind)
    api._opened.store.sqlite.set_trace_callback(None)

    plan = [row[3] for row in service.db.execute(f"EXPLAIN QUERY PLAN {asked[-1]}")]
    assert plan == expected


def test_a_summary_is_from_one_snapshot(db: sqlite3.Connection, api: AgentMemory) -> None:
    def remember_more(statement: str) -> None:
        if "FROM agent_memory" in statement:
            insert_memory(db, agent_id="a")

    api._opened.store.sqlite.set_trace_callback(remember_more)
    summary = api.summary("a")
    api._opened.store.sqlite.set_trace_callback(None)

    assert len(summary.top_memories) == summary.memories


@pytest.mark.usefixtures("ties")
def test_a_summary_counts_by_type_and_shows_the_ten_most_important(
    service: Service, api: AgentMemory
) -> None:
    expected = service.recall_all("build_agent")
    counts = {kind: len(service.recall_all("build_agent", kind)) for kind in TYPES}

    summary = api.summary("build_agent")
    of_unknown_agent = api.summary("nobody")

    assert (summary.memories, summary.by_type) == (len(expected), counts)
    assert [astuple(memory) for memory in summary.top_memories] == [
        tuple(row) for row in expected[:10]
    ]
    assert of_unknown_agent == Summary(0, {}, [])


# Forget


def test_a_forgotten_memory_is_archived_unchanged(engine: Engine, api: AgentMemory) -> None:
    memory = api.remember(*NAME, "cache it", metadata=[1], importance=7.5, expires_in=60)
    api.recall(*NAME)
    api.remember("qa_agent", "learning", "toolchain", "another's")
    api.remember("build_agent", "context", "toolchain", "of another type")
    before = [row for row in values(engine, "agent_memory", KEPT) if row[0] == memory.id]

    answers = [api.forget(*NAME), api.forget(*NAME)]

    assert answers == [True, False]
    assert values(engine, "archived_memories", KEPT) == before
    assert values(engine, "archived_memories", "archived_at, archived_reason, run_id") == [
        ("2026-11-22T09:43:58Z", "forgotten", None)
    ]
    assert values(engine, "memory_events", "event, at, memory_id, agent_id, type, key, run_id") == [
        ("memory:archived", "2026-11-22T09:43:58Z", memory.id, *NAME, None),
        ("memory:forgotten", "2026-11-22T09:43:58Z", memory.id, *NAME, None),
    ]
    assert values(engine, "agent_memory", "value") == [("another's",), ("of another type",)]


@pytest.mark.parametrize("kind", [None, "learning"])
def test_forget_can_archive_all_memories_of_one_agent(
    engine: Engine, api: AgentMemory, kind: str | None
) -> None:
    engine.fill(
        "agent_memory",
        [
            memory_row(key=f"k{number:03}", type=("learning", "context")[number % 2])
            for number in range(400)
        ],
    )
    engine.insert(agent_id="qa_agent")
    stored = values(engine, "agent_memory", KEPT)
    going = [row for row in stored if row[1] == "build_agent" and kind in (None, row[2])]

    counts = [api.forget_all("build_agent", kind), api.forget_all("build_agent", kind)]

    assert counts == [len(going), 0]
    assert values(engine, "agent_memory", KEPT) == sorted({*stored} - {*going}, key=repr)
    assert values(engine, "archived_memories", KEPT) == going
    assert {*values(engine, "archived_memories", "archived_reason, run_id")} == {
        ("forgotten", None)
    }
    assert Counter(values(engine, "memory_events", "event")) == {
        ("memory:forgotten",): len(going),
        ("memory:archived",): len(going),
    }
    assert engine.rows("memory_runs") == []


def test_a_forgotten_memory_can_be_restored(
    api: AgentMemory, migrated: Memctl, db: sqlite3.Connection
) -> None:
    for key in ("a", "b"):
        api.remember("build_agent", "learning", key, "value")
    before = rows(db, "agent_memory", ", ".join(COLUMNS))

    api.forget_all("build_agent")
    migrated.ok("restore", "build_agent", "--reason", "forgotten")

    assert rows(db, "agent_memory", ", ".join(COLUMNS)) == before


# Cleanup


def test_cleanup_is_exact_and_recorded_and_can_be_undone(engine: Engine, api: AgentMemory) -> None:
    api.remember(*NAME, "gone today", expires_in=60)
    api.remember("qa_agent", "context", "k", "another's", expires_in=61)
    api.remember("qa_agent", "context", "later", "not yet", expires_in=62)

    with open_at(engine, NOW + timedelta(seconds=62)) as later:
        counts = [later.cleanup_expired(), later.cleanup_expired()]

    assert counts == [2, 0]
    assert where(engine) == {"agent_memory": ["later"], "archived_memories": ["k", "toolchain"]}
    assert values(engine, "memory_runs", "run_id, job, status, counts") == [
        (
            run_id,
            "cleanup",
            "ok",
            f'{{"archived": {archived}, "over_quota": 0, "held_over_quota": 0, "held": 0,'
            ' "versions_pruned": 0}',
        )
        for run_id, archived in ((1, 2), (2, 0))
    ]
    engine.memctl.ok("restore", "--run", "1")
    assert where(engine) == {"agent_memory": ["k", "later", "toolchain"], "archived_memories": []}


def test_cleanup_does_nothing_while_memctl_is_paused(engine: Engine, api: AgentMemory) -> None:
    api.remember(*NAME, "cache it", expires_in=1)
    engine.memctl.ok("pause", "--reason", "deploy")

    with open_at(engine, NOW + timedelta(days=1)) as later:
        count = later.cleanup_expired()

    assert count == 0
    assert where(engine) == {"agent_memory": ["toolchain"], "archived_memories": []}


def test_cleanup_with_a_clock_set_back_is_refused(engine: Engine) -> None:
    with open_at(engine) as api, open_at(engine, NOW - timedelta(hours=2)) as earlier:
        api.cleanup_expired()

        with pytest.raises(RefusedError, match="the clock reads 2026-11-22T07:43:58Z"):
            earlier.cleanup_expired()


# Tasks and patterns


def test_the_context_of_a_task_is_kept_for_a_day(engine: Engine, api: AgentMemory) -> None:
    context = {"step": 3, "files": ["a/b.ts"], "note": 'ключ\n\0"', "deep": {"x": None}}

    memory = api.set_task_context("build_agent", "41", context)

    assert (memory.type, memory.key, memory.importance) == ("context", "task:41", 3)
    assert memory.value == (
        '{"step":3,"files":["a/b.ts"],"note":"ключ\\n\\u0000\\"","deep":{"x":null}}'
    )
    assert memory.expires_at == "2026-11-23T09:43:58.000Z"
    assert api.get_task_context("build_agent", "41") == context
    assert api.get_task_context("qa_agent", "41") is None
    assert values(engine, "agent_memory", "access_count") == [(1,)]


@pytest.mark.parametrize(
    "value", ["", "plain text", "{", '{"a": NaN}', "-Infinity", "[" * 100_000, "\ufeff{}"]
)
def test_a_context_that_is_not_json_is_none_and_counts_as_read(
    engine: Engine, api: AgentMemory, value: str
) -> None:
    api.remember("build_agent", "context", "task:41", value)

    assert api.get_task_context("build_agent", "41") is None
    assert values(engine, "agent_memory", "access_count") == [(1,)]


def test_patterns_are_stored_with_their_own_importance(engine: Engine, api: AgentMemory) -> None:
    success = api.learn_success("build_agent", "retry", {"steps": ["wait"]})
    error = api.learn_error("build_agent", "EADDRINUSE", {"fix": "choose another port"})

    seen = api.has_seen_error("build_agent", "EADDRINUSE")
    unseen = [
        api.has_seen_error("build_agent", "retry"),
        api.has_seen_error("qa_agent", "EADDRINUSE"),
    ]

    columns = "type, key, value, importance, access_count, expires_at"
    assert values(engine, "agent_memory", columns) == [
        ("error_pattern", "EADDRINUSE", '{"fix":"choose another port"}', 8, 1, None),
        ("success_pattern", "retry", '{"steps":["wait"]}', 7, 0, None),
    ]
    assert (seen, unseen) == (error, [None, None])
    assert api.recall("build_agent", "success_pattern", "retry") == success


# The service's own statements, as an oracle


class Call(NamedTuple):
    """One call of the API: a method and its arguments."""

    method: str
    given: dict[str, Any]


def service_answer(service: Service, now: datetime, method: str, given: dict[str, Any]) -> Any:
    """Do with the service's statements what a method of the API must do."""
    agent = given["agent"]
    if method == "remember":
        options = dict(given)
        metadata, lasts = options.pop("metadata", None), options.pop("expires_in", None)
        expires = now + timedelta(seconds=lasts) if lasts else None
        return service.remember(
            agent,
            options["type"],
            options["key"],
            options["value"],
            metadata=None if metadata is None else to_json(metadata),
            importance=options.get("importance", 5),
            expires_at=expires.strftime("%Y-%m-%dT%H:%M:%S.000Z") if expires else None,
        )
    if method == "recall":
        return service.recall(agent, given["type"], given["key"])
    if method == "recall_all":
        return service.recall_all(agent, given.get("type"))
    if method == "forget":
        return bool(service.forget(agent, given["type"], given["key"]))
    if method == "forget_all":
        return service.forget_all(agent, given.get("type"))
    if method == "set_task_context":
        return service.remember(
            agent,
            "context",
            f"task:{given['task_id']}",
            to_json(given["context"]),
            importance=3,
            expires_at=(now + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        )
    if method == "get_task_context":
        found = service.recall(agent, "context", f"task:{given['task_id']}")
        try:
            return found and json.loads(found["value"])
        except ValueError:
            return None
    if method == "has_seen_error":
        return service.recall(agent, "error_pattern", given["pattern"])
    kind, importance = {
        "learn_success": ("success_pattern", 7),
        "learn_error": ("error_pattern", 8),
    }[method]
    details = to_json(given["details"])
    return service.remember(agent, kind, given["pattern"], details, importance=importance)


def to_json(document: object) -> str:
    """Return JSON without optional white space."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def as_seen(answer: Any) -> Any:
    """Return an answer without the ids, which are random."""
    if isinstance(answer, Memory | sqlite3.Row):
        values = astuple(answer) if isinstance(answer, Memory) else tuple(answer)
        return values[1 : len(COLUMNS)]
    if isinstance(answer, list) and all(isinstance(one, Memory | sqlite3.Row) for one in answer):
        return [as_seen(one) for one in answer]
    return answer


AGENT = {"agent": st.sampled_from(["build_agent", "a/b"])}
TYPE = {"type": st.sampled_from(["context", "error_pattern"])}
KEY = {"key": st.sampled_from(["task:1", "k", "--help", "nul\0inside"])}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
TASK = {**AGENT, "task_id": st.sampled_from(["1", "2"])}
PATTERN = {**AGENT, "pattern": st.sampled_from(["task:1", "k"])}
OPTIONS = {
    "metadata": DOCUMENTS,
    "importance": st.integers(1, 10) | st.floats(1, 10),
    "expires_in": st.integers(0, 10**9) | st.none(),
}


def calls_of(
    method: str, given: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]
) -> st.SearchStrategy[Call]:
    """Return calls of one method."""
    return st.builds(Call, st.just(method), st.fixed_dictionaries(given, optional=optional))


CALLS = st.one_of(
    calls_of("remember", {**AGENT, **TYPE, **KEY, "value": TEXTS}, **OPTIONS),
    calls_of("recall", {**AGENT, **TYPE, **KEY}),
    calls_of("recall_all", AGENT, **TYPE),
    calls_of("forget", {**AGENT, **TYPE, **KEY}),
    calls_of("forget_all", AGENT, **TYPE),
    calls_of("set_task_context", {**TASK, "context": DOCUMENTS}),
    calls_of("get_task_context", TASK),
    calls_of("learn_success", {**PATTERN, "details": DOCUMENTS}),
    calls_of("learn_error", {**PATTERN, "details": DOCUMENTS}),
    calls_of("has_seen_error", PATTERN),
)


@examples(2)
@given(calls=st.lists(CALLS, max_size=15))
def test_every_call_has_the_effect_of_the_services_statements(
    template: Path, calls: list[Call]
) -> None:
    moment = NOW
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.db", Path(folder) / "theirs.db"
        shutil.copy(template, ours)
        shutil.copy(template, theirs)
        with closing(Service(theirs)) as service, AgentMemory(ours, clock=lambda: moment) as api:
            service.db.create_function("datetime", 1, lambda _: text_of(moment))
            answers, expected = [], []
            for method, given_ in calls:
                moment += timedelta(seconds=1)
                answers.append(as_seen(getattr(api, method)(**given_)))
                expected.append(as_seen(service_answer(service, moment, method, given_)))
        left = [stored(path) for path in (ours, theirs)]

    assert answers == expected
    assert left[0] == left[1]


def stored(path: Path) -> list[tuple[Any, ...]]:
    """Return rowids, types and values of all memories, without their ids."""
    typed = ", ".join(f"typeof({name}), {name}" for name in MEMORY_COLUMNS if name != "id")
    with closing(connect(path)) as db:
        return rows(db, "agent_memory", f"rowid, {typed}")


def test_the_api_and_the_service_see_each_others_memories(
    service: Service, api: AgentMemory
) -> None:
    theirs = service.remember(*NAME, "by the service", metadata="{}")
    found = api.recall(*NAME)
    ours = api.remember(*NAME, "by the api")
    seen = service.recall(*NAME)

    assert found is not None
    assert astuple(found) == tuple(theirs)
    assert seen is not None
    assert tuple(seen) == astuple(ours)
    assert service.forget(*NAME) == 1
    assert not api.forget(*NAME)


# Values that may be stored by any program


@pytest.fixture(scope="module")
def scratch(template: Path) -> Path:
    """A migrated database that all examples share, one after the other."""
    copy = template.with_name("scratch.db")
    shutil.copyfile(template, copy)
    return copy


@examples(2)
@given(value=st.binary(), key=st.binary(min_size=1), agent=st.binary(min_size=1))
def test_any_bytes_can_be_stored_and_come_back_unchanged(
    scratch: Path, value: bytes, key: bytes, agent: bytes
) -> None:
    name: tuple[str, MemoryType, str] = (as_text(agent), "learning", as_text(key))
    with AgentMemory(scratch) as api:
        api.remember(*name, as_text(value))

        found = api.recall(*name)
        forgotten = api.forget(*name)

    with closing(connect(scratch)) as db:
        (archived,) = rows(
            db,
            "archived_memories",
            "typeof(value), CAST(agent_id AS BLOB), CAST(key AS BLOB), CAST(value AS BLOB)",
        )
        db.execute("DELETE FROM archived_memories")
    assert found is not None
    assert (found.agent_id, found.key, found.value) == (name[0], name[2], as_text(value))
    assert forgotten
    assert archived == ("text", agent, key, value)


def as_text(content: bytes) -> str:
    """Return bytes as Python represents them in a string."""
    return content.decode("utf-8", "surrogateescape")


@examples(2)
@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_any_context_comes_back_even_with_lone_surrogates(scratch: Path, document: object) -> None:
    with AgentMemory(scratch) as api:
        api.set_task_context("build_agent", "1", document)

        assert api.get_task_context("build_agent", "1") == document


@pytest.mark.parametrize("columns", ODDITIES.values(), ids=ODDITIES.keys())
def test_values_of_other_programs_can_be_read_and_forgotten(
    api: AgentMemory, db: sqlite3.Connection, columns: dict[str, Any]
) -> None:
    insert_memory(db, id="m-1", key="k")
    for name, value in columns.items():
        form = "?" if value == b"\x00\x01" or not isinstance(value, bytes) else "CAST(? AS TEXT)"
        db.execute(f"UPDATE agent_memory SET {name} = {form}", (value,))
    ((kind, key),) = rows(db, "agent_memory", "type, key")
    stored_row = rows(db, "agent_memory", ", ".join(MEMORY_COLUMNS))
    before = rows(db, "agent_memory", EXACT_COLUMNS)

    listed = api.recall_all("build_agent", kind)
    summary = api.summary("build_agent")
    recalled = api.recall("build_agent", kind, key)
    db.execute("UPDATE agent_memory SET (access_count, last_accessed) = (?, ?)", stored_row[0][7:9])
    forgotten = api.forget("build_agent", kind, key)

    assert recalled is not None
    assert [astuple(recalled)] == stored_row
    assert listed == [recalled]
    assert summary == Summary(1, {kind: 1}, [recalled])
    assert forgotten
    assert rows(db, "archived_memories", EXACT_COLUMNS) == before


@pytest.mark.parametrize("memory_id", [None, b"\xff"], ids=["no id", "a BLOB"])
def test_a_memory_without_a_usable_id_can_be_read(
    api: AgentMemory, db: sqlite3.Connection, memory_id: Any
) -> None:
    insert_memory(db, id=memory_id, key="k")

    found = api.recall("build_agent", "learning", "k")

    assert found is not None
    assert found.id == memory_id
    assert api.forget("build_agent", "learning", "k")


# Invalid arguments


@pytest.mark.parametrize(
    "given_",
    [
        *(
            pytest.param({"type": kind}, id=f"type {kind!r}")
            for kind in ("task", "Learning", "", None, "learning ")
        ),
        *(
            pytest.param({"importance": number}, id=f"importance {number!r}")
            for number in (0, 0.99, 10.01, 11, -3, float("nan"), float("inf"), True, "5", None, 5j)
        ),
        *(
            pytest.param({"expires_in": time}, id=f"expires in {time!r}")
            for time in (
                -1,
                timedelta(seconds=-1),
                1e-9,
                float("nan"),
                float("inf"),
                10**12,
                10**30,
                timedelta.max,
                True,
                "24h",
            )
        ),
        *(pytest.param({name: ""}, id=f"no {name}") for name in ("agent", "key")),
        *(
            pytest.param({name: text}, id=f"{name} {text!r}")
            for name in ("agent", "key", "value")
            for text in (None, 7, b"bytes", {"a": 1}, "half \ud83e")
        ),
        *(
            pytest.param({"metadata": document}, id=f"metadata {document!r}")
            for document in (float("nan"), [float("inf")], {1, 2}, NOW, b"", {(1, 2): 3})
        ),
    ],
)
def test_invalid_arguments_are_not_stored(
    path: Path, api: AgentMemory, given_: dict[str, Any]
) -> None:
    api.remember(*NAME, "first")
    before = everything(path)
    sensible = dict(zip(("agent", "type", "key"), NAME, strict=True)) | {"value": "second"}

    with pytest.raises(UsageError):
        api.remember(**{**sensible, **given_}, keep_replaced=True)

    assert everything(path) == before


def test_a_text_that_is_too_large_is_refused(path: Path, api: AgentMemory) -> None:
    before = everything(path)

    with pytest.raises(UsageError) as caught:
        api.remember(*NAME, "x" * (MOST_BYTES + 1))

    assert str(caught.value) == "the value is too large; at most 200,000,000 bytes are stored"
    assert everything(path) == before


@pytest.mark.parametrize(
    "document", [float("nan"), {"a": object()}, [[]] * 1], ids=["NaN", "an object", "itself"]
)
def test_a_value_that_json_cannot_represent_is_refused(
    path: Path, api: AgentMemory, document: Any
) -> None:
    if isinstance(document, list):
        document.append(document)
    before = everything(path)

    for learn in (api.set_task_context, api.learn_success, api.learn_error):
        with pytest.raises(UsageError, match="the value cannot be represented as JSON"):
            learn("build_agent", "k", document)

    assert everything(path) == before


def test_only_a_type_without_memories_is_an_unknown_type(
    api: AgentMemory, db: sqlite3.Connection
) -> None:
    insert_memory(db, type="task:blocker", key="k")
    insert_memory(db, type="task:blocker", key="l")
    mistaken: list[Callable[[], object]] = [
        lambda: api.recall("build_agent", "lerning", "k"),
        lambda: api.recall_all("build_agent", "lerning"),
        lambda: api.forget("build_agent", "lerning", "k"),
        lambda: api.forget_all("build_agent", "lerning"),
        lambda: api.search("k", type="lerning"),
        lambda: api.archived("build_agent", "lerning"),
        lambda: api.restore("build_agent", type="lerning", key="k"),
    ]

    for call in mistaken:
        with pytest.raises(UsageError) as caught:
            call()
        assert str(caught.value) == (
            "there is no type 'lerning'; use context, learning, preference, error_pattern, "
            "success_pattern"
        )

    assert api.recall("build_agent", "task:blocker", "k") is not None
    assert len(api.recall_all("build_agent", "task:blocker")) == 2
    assert api.forget("build_agent", "task:blocker", "k")
    assert api.forget_all("build_agent", "task:blocker") == 1


def test_a_clock_without_an_offset_is_refused(path: Path, migrated: Memctl) -> None:
    with (
        AgentMemory(path, clock=lambda: NOW.replace(tzinfo=None)) as api,
        pytest.raises(UsageError, match="without an offset"),
    ):
        api.remember(*NAME, "cache it")


def test_the_default_clock_is_the_system_clock(path: Path, migrated: Memctl) -> None:
    before = text_of(utc_now())

    with AgentMemory(path) as api:
        memory = api.remember(*NAME, "cache it")

    assert memory.created_at is not None
    assert before <= memory.created_at <= text_of(utc_now())


EACH_CALL: dict[str, Callable[[AgentMemory], object]] = {
    "remember": lambda api: api.remember("a", "learning", "k", "v"),
    "recall": lambda api: api.recall("a", "learning", "k"),
    "recall_all": lambda api: api.recall_all("a"),
    "forget": lambda api: api.forget("a", "learning", "k"),
    "forget_all": lambda api: api.forget_all("a"),
    "cleanup_expired": lambda api: api.cleanup_expired(),
    "summary": lambda api: api.summary("a"),
    "search": lambda api: api.search("k"),
    "archived": lambda api: api.archived("a"),
    "restore": lambda api: api.restore("a", ["m-1"]),
}


def complaints_of(api: AgentMemory) -> list[str]:
    """Return what each call raises, which must be UsageError."""
    found = []
    for call in EACH_CALL.values():
        with pytest.raises(UsageError) as raised:
            call(api)
        found.append(raised.value.message)
    return found


@pytest.mark.parametrize("elsewhere", ["another thread", "another process", "after its end"])
def test_an_instance_works_only_in_its_thread_and_until_closed(
    api: AgentMemory, elsewhere: str
) -> None:
    wrong = "this AgentMemory belongs to another thread or process"
    if elsewhere == "another thread":
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(complaints_of, api).result()
            with pytest.raises(UsageError):
                pool.submit(api.close).result()
    elif elsewhere == "another process":
        reader, writer = os.pipe()
        if not (child := os.fork()):
            try:
                os.write(writer, "\n".join(complaints_of(api)).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        found = os.read(reader, 10_000).decode().split("\n")
        os.close(reader)
        os.close(writer)
    else:
        api.close()
        api.close()
        found, wrong = complaints_of(api), "this AgentMemory is closed"

    assert found == [wrong] * len(EACH_CALL)


@pytest.mark.parametrize("limit", [2**63, -(2**70), -1, 1.5, "5", True, float("nan")])
def test_an_invalid_limit_is_refused(api: AgentMemory, limit: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: api.recall_all("build_agent", limit=limit),
        lambda: api.search("k", limit=limit),
        lambda: api.archived("build_agent", limit=limit),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=r"invalid limit .*; use a whole number from 0 to"):
            call()


@pytest.mark.parametrize("lock_wait", [float("nan"), float("inf"), -1, "5", None, 2**70])
def test_an_invalid_lock_wait_is_refused(api: AgentMemory, path: Path, lock_wait: Any) -> None:
    with pytest.raises(UsageError, match=r"invalid lock_wait .*; pass seconds"):
        AgentMemory(path, lock_wait=lock_wait)


@pytest.mark.parametrize(
    "moment",
    [
        5,
        None,
        datetime(2026, 1, 1),  # noqa: DTZ001  a time without a zone
        NOW.replace(tzinfo=None),
        datetime.max.replace(tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
    ],
)
def test_a_clock_that_returns_an_impossible_time_is_refused(
    api: AgentMemory, path: Path, moment: Any
) -> None:
    with (
        AgentMemory(path, clock=lambda: moment) as wrong,
        pytest.raises(UsageError, match="the clock returned"),
    ):
        wrong.remember("a", "learning", "k", "v", expires_in=5)


@pytest.mark.parametrize("path", ["a\0b", "half \ud800", 5, b"x"])
def test_an_invalid_path_is_refused(path: Any) -> None:
    with pytest.raises(MemctlError):
        AgentMemory(path)


# Searching, listing and restoring


def test_a_search_returns_active_and_archived_memories(engine: Engine, api: AgentMemory) -> None:
    kept = api.remember("a", "learning", "npm", "pin it", metadata={"tags": ["ci"]})
    api.remember("b", "context", "task:1", "run NPM first", importance=8)
    api.forget("b", "context", "task:1")

    found = api.search("Npm")

    assert [(hit.state, hit.found_in, hit.excerpt) for hit in found] == [
        ("active", "key", "pin it"),
        ("archived", "value", "run NPM first"),
    ]
    assert found[0].memory == kept
    assert type(found[0].memory) is Memory
    assert found[1:] == api.search("npm", agent="b") == api.search("npm", state="archived")
    assert found[:1] == api.search("npm", type="learning") == api.search("npm", state="active")
    assert found[1:] == api.search("npm", offset=1) == api.search("npm", limit=1, offset=1)
    assert found[1].memory == api.archived("b")[0]
    assert api.search("elephant") == api.search("npm", agent="c") == []


def test_a_search_in_python_is_that_of_the_command(engine: Engine, api: AgentMemory) -> None:
    for number in range(6):
        api.remember(f"agent-{number % 2}", "learning", f"k{number}", "v", importance=number + 1)
    api.forget("agent-0", "learning", "k4")

    found = api.search("K")

    printed = engine.memctl.ok("search", "K").json
    assert [(hit.memory.id, hit.state) for hit in found] == [
        (record["id"], record["state"]) for record in printed
    ]


def test_archived_memories_are_listed_newest_first(engine: Engine, api: AgentMemory) -> None:
    for agent, key in (("a", "first"), ("b", "second"), ("a", "third")):
        api.remember(agent, "learning", key, "v")
        api.forget(agent, "learning", key)

    listed = {
        "all": api.archived(),
        "a": api.archived("a"),
        "a page": api.archived(limit=1, offset=1),
        "a key": api.archived("a", "learning", key="first"),
        "a reason": api.archived("a", reason="forgotten", limit=1),
        "another reason": api.archived("a", reason="expired"),
    }

    assert {name: [memory.key for memory in found] for name, found in listed.items()} == {
        "all": ["third", "second", "first"],
        "a": ["third", "first"],
        "a page": ["second"],
        "a key": ["first"],
        "a reason": ["third"],
        "another reason": [],
    }
    newest = listed["all"][0]
    assert isinstance(newest, ArchivedMemory)
    assert (newest.archived_at, newest.archived_reason) == ("2026-11-22T09:43:58Z", "forgotten")
    assert newest.run_id is None
    assert newest.archive_id == engine.memctl.ok("archived", "a").json[0]["archive_id"]


@pytest.mark.parametrize(
    "selection",
    [
        pytest.param({"ids": ["m-1", "m-2"]}, id="ids"),
        pytest.param({"ids": ("m-1", "m-2")}, id="a tuple of ids"),
        pytest.param({"ids": "m-1"}, id="one id"),
        pytest.param({"type": "learning", "key": "k1"}, id="a name"),
    ],
)
def test_memories_are_restored_as_by_the_command(
    engine: Engine, api: AgentMemory, selection: dict[str, Any]
) -> None:
    for number in (1, 2):
        engine.insert(id=f"m-{number}", key=f"k{number}", expires_at="2020-01-01")
    before = values(engine, "agent_memory", "id, key, value, importance")
    engine.memctl.ok("cleanup")

    restored = api.restore("build_agent", **selection)

    assert values(engine, "agent_memory", "id, key, value, importance") == before[:restored]
    assert restored == (2 if isinstance(selection.get("ids"), list | tuple) else 1)
    assert values(engine, "agent_memory", "expires_at") == [(None,)] * restored
    counts = {"restored": restored, "skipped": 0, "replaced": 0, "held": 0, "erased": 0}
    assert values(engine, "memory_runs", "run_id, job, status, counts")[1:] == [
        (2, "restore", "ok", json.dumps(counts))
    ]
    events = values(engine, "memory_events", "event, memory_id, run_id")[-restored:]
    assert events == [("memory:restored", f"m-{number + 1}", 2) for number in range(restored)]


def test_a_restore_can_set_an_expiry(engine: Engine, api: AgentMemory) -> None:
    for number, lasts in enumerate((60, timedelta(minutes=1), 0, None)):
        api.remember("a", "learning", f"k{number}", "v", expires_in=3600)
        api.forget("a", "learning", f"k{number}")
        api.restore("a", type="learning", key=f"k{number}", expires_in=lasts)

    assert values(engine, "agent_memory", "expires_at") == [
        ("2026-11-22T09:44:58.000Z",),
        ("2026-11-22T09:44:58.000Z",),
        ("2026-11-22T10:43:58.000Z",),
        ("2026-11-22T10:43:58.000Z",),
    ]


def test_a_restore_in_conflict_is_refused_or_decided(engine: Engine, api: AgentMemory) -> None:
    api.remember("a", "learning", "k", "old")
    api.forget("a", "learning", "k")
    api.remember("a", "learning", "k", "new")
    name: dict[str, Any] = {"type": "learning", "key": "k"}

    with pytest.raises(RefusedError, match="conflicts with an active memory: 'a' learning 'k'"):
        api.restore("a", **name)
    skipped = api.restore("a", **name, on_conflict="skip")
    before = values(engine, "agent_memory", "value")
    replaced = api.restore("a", **name, on_conflict="replace")

    assert (skipped, before) == (0, [("new",)])
    assert (replaced, values(engine, "agent_memory", "value")) == (1, [("old",)])
    assert values(engine, "archived_memories", "value, archived_reason") == [("new", "replaced")]


def test_restoring_what_is_not_archived_restores_nothing(engine: Engine, api: AgentMemory) -> None:
    kept = api.remember("a", "learning", "k", "v")

    assert kept.id is not None
    assert api.restore("a", type="learning", key="k") == api.restore("a", [kept.id]) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(lambda api: api.search(""), UsageError, "is empty", id="no text"),
        pytest.param(lambda api: api.search(b"k"), UsageError, "is of type bytes", id="bytes"),
        pytest.param(lambda api: api.search("k", agent=5), UsageError, "agent is of", id="agent"),
        pytest.param(lambda api: api.search("k", state="gone"), UsageError, "state", id="state"),
        pytest.param(lambda api: api.search("k", offset=-1), UsageError, "offset", id="offset"),
        pytest.param(lambda api: api.archived(5), UsageError, "agent is of", id="no agent"),
        pytest.param(lambda api: api.archived("a", key=5), UsageError, "key is of", id="no key"),
        pytest.param(lambda api: api.archived(reason="x"), UsageError, "reason 'x'", id="reason"),
        pytest.param(lambda api: api.archived("\ud800"), UsageError, "unpaired", id="surrogate"),
        pytest.param(lambda api: api.restore("a"), UsageError, "either ids or", id="nothing"),
        pytest.param(
            lambda api: api.restore("a", ["m"], type="learning", key="k"),
            UsageError,
            "either ids or",
            id="ids and a name",
        ),
        pytest.param(
            lambda api: api.restore("a", type="learning"), UsageError, "either ids", id="no key"
        ),
        pytest.param(lambda api: api.restore(None, ["m"]), UsageError, "agent", id="None"),
        pytest.param(lambda api: api.restore("a", [5]), UsageError, "id is of", id="a number"),
        pytest.param(
            lambda api: api.restore("a", ["m"], on_conflict="ask"), UsageError, "ask", id="conflict"
        ),
        pytest.param(
            lambda api: api.restore("a", ["m"], expires_in=-1), UsageError, "expires", id="expiry"
        ),
        pytest.param(lambda api: api.restore("a", ["m-9"]), NotFoundError, "'m-9'", id="unknown"),
        pytest.param(
            lambda api: api.restore("b", type="learning", key="k"),
            NotFoundError,
            "agent 'b' has no memories",
            id="an unknown agent",
        ),
    ],
)
def test_an_invalid_call_changes_no_memory(
    engine: Engine,
    api: AgentMemory,
    call: Callable[[Any], object],
    error: type[MemctlError],
    message: str,
) -> None:
    api.remember("a", "learning", "k", "v")
    api.forget("a", "learning", "k")
    before = engine.rows("agent_memory"), engine.rows("archived_memories")

    with pytest.raises(error, match=message):
        call(api)

    assert (engine.rows("agent_memory"), engine.rows("archived_memories")) == before
