"""Quota: cleanup archives the least valuable memories beyond it, and no other."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.policies import Override, QuotaPolicy
from memctl.jobs.cleanup import CleanupResult, cleanup
from memctl.jobs.engine import JobContext, JobRequest, perform
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.quota_excess import SqliteQuotaExcess
from tests.support.database import connect, insert_memory, rows, text_of
from tests.support.kills import copy_at, killed_before, one_of_each_kind
from tests.support.program import NOW, Memctl
from tests.support.properties import examples
from tests.support.service import Service


def configure(memctl: Memctl, text: str) -> Path:
    """Write a configuration file beside the database."""
    file = memctl.database.with_name("config.toml")
    file.write_text(text)
    return file


def hold(db: sqlite3.Connection, *, agent: str = "build_agent", **of: str) -> None:
    """Hold memories of an agent: all, or those that `of` names."""
    db.execute(
        "INSERT INTO memory_holds (agent_id, memory_id, type, key, until, held_at)"
        " VALUES (?, ?, ?, ?, ?, '2026-11-01T00:00:00Z')",
        (agent, *(of.get(name) for name in ("memory_id", "type", "key", "until"))),
    )


def left(db: sqlite3.Connection) -> list[str]:
    """Return the keys of the active memories, in rowid order."""
    return [key for (key,) in rows(db, "agent_memory", "key")]


VALUES = [
    pytest.param(
        [("low", {"importance": 2}), ("high", {"importance": 3})], id="the lower importance"
    ),
    pytest.param(
        [("idle", {"idle_days": 9}), ("read", {"idle_days": 8})], id="of these, the longer idle"
    ),
    pytest.param(
        [("high", {"importance": 9}), ("words", {"importance": "low"})],
        id="an importance in words last",
    ),
    pytest.param(
        [("high", {"importance": 9.5}), ("none", {"importance": None})], id="no importance last"
    ),
    pytest.param(
        [("idle", {"importance": "a", "idle_days": 2}), ("read", {"importance": None})],
        id="of those without a number, the longer idle",
    ),
    pytest.param(
        [("read", {}), ("unknown", {"last_accessed": "soon"})], id="an unreadable time last"
    ),
    pytest.param(
        [
            ("unread", {"last_accessed": None, "created_at": "2026-11-01 00:00:00"}),
            ("read", {"last_accessed": "2026-11-02 00:00:00"}),
        ],
        id="an unread memory by when it was written",
    ),
]


@pytest.mark.parametrize("memories", VALUES)
@pytest.mark.parametrize("order", [pytest.param(1, id="older"), pytest.param(-1, id="newer")])
def test_the_least_valuable_memory_is_archived(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    memories: list[tuple[str, dict[str, Any]]],
    order: int,
) -> None:
    for key, columns in memories[::order]:
        remember(key=key, **columns)
    file = configure(migrated, "[quota]\nmemories = 1\n")

    migrated.ok("cleanup", "--config", str(file))

    assert left(db) == [memories[1][0]]


@pytest.mark.parametrize(
    "idle_days", [pytest.param(0, id="now"), pytest.param(-5, id="to come, which counts as now")]
)
def test_of_memories_of_the_same_value_the_older_row_is_archived(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str], idle_days: int
) -> None:
    remember(key="older", idle_days=idle_days)
    remember(key="newer")
    file = configure(migrated, "[quota]\nmemories = 1\n")

    migrated.ok("cleanup", "--config", str(file))

    assert left(db) == ["newer"]


def test_a_quota_of_bytes_counts_keys_values_and_metadata(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(key="a", value="12345", metadata="{}")
    remember(key="b", value="é\0é", metadata=None, importance=6)
    remember(key="c", value=b"\xff" * 10, importance=7)
    file = configure(migrated, "[agents.build_agent.quota]\nbytes = 25\n")

    before = migrated.ok("cleanup", "--config", str(file), "--json").json["over_quota"]
    remember(key="d", value="", importance=8)
    after = migrated.ok("cleanup", "--config", str(file), "--json").json["over_quota"]

    assert (before, after) == (0, 1)
    assert left(db) == ["b", "c", "d"]


def test_expired_memories_go_first_and_do_not_count(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(key="expired", importance=9, expired_for=timedelta(days=1))
    remember(key="least", importance=1)
    remember(key="most", importance=9)
    file = configure(migrated, "[quota]\nmemories = 2\n")

    preview = migrated.ok("cleanup", "--config", str(file), "--dry-run", "--json").json
    answer = migrated.ok("cleanup", "--config", str(file), "--json").json

    assert (preview["archived"], preview["over_quota"]) == (1, 0)
    assert (answer["archived"], answer["over_quota"]) == (1, 0)
    assert left(db) == ["least", "most"]


def test_an_agent_has_its_own_quota_or_that_of_all(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for agent in ("a b", "other"):
        for number in range(4):
            remember(agent_id=agent, key=f"{agent} {number}")
    file = configure(migrated, '[quota]\nmemories = 3\n[agents."a b".quota]\nmemories = 2\n')

    answer = migrated.ok("cleanup", "--config", str(file), "--json").json

    assert answer["agents"] == {"a b": 2, "other": 1}
    assert left(db) == ["a b 2", "a b 3", "other 1", "other 2", "other 3"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("[quota]\nmemories = 0\n", "quota.memories", id="zero"),
        pytest.param("[agents.a.quota]\nbytes = -1\n", "agents.a.quota.bytes", id="negative"),
        pytest.param("[quota]\nmemory = 1\n", "quota.memory", id="an unknown key"),
        pytest.param("[quota.types.context]\nbytes = 1\n", "quota.types", id="by type"),
    ],
)
def test_an_invalid_quota_stops_every_job(
    db: sqlite3.Connection, migrated: Memctl, text: str, complaint: str
) -> None:
    file = configure(migrated, text)

    answer = migrated("cleanup", "--config", str(file))

    assert answer.exit_code == 2
    assert answer.err.startswith(f"memctl: {file}: {complaint}: ")
    assert rows(db, "memory_runs") == []


def test_only_the_named_agent_is_brought_within_its_quota(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for agent in ("one", "two"):
        for _ in range(2):
            remember(agent_id=agent)
    file = configure(migrated, "[quota]\nmemories = 1\n")

    migrated.ok("cleanup", "--config", str(file), "--agent", "one")

    assert rows(db, "agent_memory", "agent_id") == [("one",), ("two",), ("two",)]


def test_each_archived_memory_has_its_reason_and_an_event(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember(key="less", importance=1)
    remember(key="more")
    file = configure(migrated, "[quota]\nmemories = 1\n")

    listed = migrated.ok("cleanup", "--config", str(file), "--list", "--json").json["listed"]

    assert rows(db, "archived_memories", "id, archived_reason, run_id") == [(memory, "quota", 1)]
    assert rows(db, "memory_events", "event, memory_id, detail, run_id") == [
        ("memory:archived", memory, '{"reason": "quota"}', 1)
    ]
    assert listed == [
        {
            "id": memory,
            "agent_id": "build_agent",
            "type": "learning",
            "key": "less",
            "importance": 1,
            "last_accessed": "2026-11-22 09:43:58",
            "archived_reason": "quota",
        }
    ]


def test_the_run_is_undone_by_its_number(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(key="expired", expired_for=timedelta(days=1))
    for number in range(5):
        remember(key=f"{number}")
    file = configure(migrated, "[quota]\nmemories = 2\n")

    answer = migrated("cleanup", "--config", str(file), "-v")
    restored = migrated.ok("restore", "--run", "1", "--json").json["restored"]

    assert answer.err.startswith("cleanup: archived 1 expired memory; 3 beyond the quota; run 1")
    assert restored == 4
    assert sorted(left(db)) == ["0", "1", "2", "3", "4", "expired"]


def test_explain_shows_which_memories_the_next_cleanup_archives(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for key, importance in (("low", 1), ("middle", 2), ("high", 3), ("held", 1)):
        remember(key=key, importance=importance, value="v")
    hold(db, type="learning", key="held")
    file = configure(migrated, "[quota]\nmemories = 3\nbytes = 1000\n")

    def quota_of(key: str) -> Any:
        words = ("explain", "build_agent", "learning", key, "--config", str(file))
        text = migrated.ok(*words).out
        lines = [" ".join(line.split()) for line in text.splitlines() if line[:6] == "quota "]
        return migrated.ok(*words, "--json").json["active"]["quota"], lines

    usage = {"memories": 4, "bytes": 21, "most_memories": 3, "most_bytes": 1000}
    assert quota_of("low") == (
        {**usage, "less_valuable": 0, "is_beyond": True},
        ["quota the next cleanup archives it: its agent has 4 of 3 memories and 21 B of 1.0 kB"],
    )
    assert quota_of("high") == (
        {**usage, "less_valuable": 2, "is_beyond": False},
        ["quota its agent has 4 of 3 memories and 21 B of 1.0 kB; less valuable memories: 2"],
    )
    assert quota_of("held") == (None, [])


def test_check_finds_agents_that_stay_beyond_their_quota(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for key in ("one", "two", "three"):
        remember(key=key, value="v")
    file = configure(migrated, "[quota]\nmemories = 1\n[agents.build_agent.quota]\nbytes = 5\n")
    codes = ("over_quota", "held_over_quota")

    def found(memctl: Memctl) -> list[str]:
        findings = memctl("check", "--config", str(file), "--json").json["findings"]
        return [finding["message"] for finding in findings if finding["code"] in codes]

    unscheduled = found(migrated)
    hold(db, type="learning", key="one")
    hold(db, type="learning", key="two")
    migrated.ok("cleanup", "--config", str(file))
    scheduled = found(migrated)
    overdue = found(migrated.at(NOW + timedelta(days=3)))

    held = (
        "agents whose held memories alone are beyond their quota: 1, the first 'build_agent' with"
        " 2 memories, 8 bytes"
    )
    assert unscheduled == [
        "agents beyond their quota: 1, the first 'build_agent' with 3 memories, 14 bytes"
    ]
    assert scheduled == [held]
    assert overdue == [
        "agents beyond their quota: 1, the first 'build_agent' with 2 memories, 8 bytes",
        held,
    ]


def test_held_memories_count_but_stay(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(key="held", importance=1)
    remember(key="least", importance=2)
    remember(key="most", importance=3)
    hold(db, type="learning", key="held")
    file = configure(migrated, "[quota]\nmemories = 2\n")

    migrated.ok("cleanup", "--config", str(file))

    assert left(db) == ["held", "most"]


def test_agents_whose_held_memories_alone_are_beyond_the_quota_are_reported(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for key in ("held", "held, too", "free"):
        remember(key=key)
    hold(db, type="learning", key="held")
    hold(db, type="learning", key="held, too")
    hold(db, type="learning", key="free", until="2026-11-22T09:43:58Z")
    file = configure(migrated, "[quota]\nmemories = 1\n")

    preview = migrated("cleanup", "--config", str(file), "--dry-run")
    answer = migrated.ok("cleanup", "--config", str(file), "--json").json

    assert preview.err == (
        "cleanup: would archive 0 expired memories; 1 beyond the quota; 1 agent beyond the quota by"
        " held memories alone; left 2 held memories\n"
    )
    assert (answer["over_quota"], answer["held_over_quota"]) == (1, 1)
    assert left(db) == ["held", "held, too"]


def test_no_more_time_leaves_the_most_valuable_of_the_excess(
    path: Path, db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for number in range(9):
        remember(key=f"{number}", importance=10 - number)
    file = configure(migrated, "[quota]\nmemories = 4\n")

    answer = migrated.ok("cleanup", "--config", str(file), "--max-seconds", "0", "--json").json
    left_alone = left(db)
    with open_database(path) as opened:
        excess = SqliteQuotaExcess(
            opened, QuotaPolicy(memories=4), agent=None, now=NOW, run_id=None
        )
        first = list(excess.find())[:2]

    assert (answer["over_quota"], answer["remaining"]) == (0, 5)
    assert len(left_alone) == 9
    assert first == [9, 8]


# What a client does between the search and the batch, and the keys that are then archived. The
# quota is 2; the search found 'a', 'b' and 'c' of 'a' to 'e'.
MEANWHILE = [
    pytest.param("SELECT 1", "abc", id="nothing"),
    pytest.param(
        "UPDATE agent_memory SET last_accessed = '2026-11-22 09:00:00' WHERE key = 'b'",
        "acd",
        id="it reads one of them",
    ),
    pytest.param(
        "INSERT OR REPLACE INTO agent_memory (id, agent_id, type, key, value, importance)"
        " VALUES ('new', 'build_agent', 'learning', 'b', 'v', 9)",
        "acd",
        id="it writes one of them again",
    ),
    pytest.param("DELETE FROM agent_memory WHERE key = 'b'", "ac", id="it deletes one of them"),
    pytest.param("DELETE FROM agent_memory WHERE key = 'e'", "ab", id="it deletes another one"),
    pytest.param(
        "INSERT INTO agent_memory (id, agent_id, type, key, value, importance)"
        " VALUES ('new', 'build_agent', 'learning', 'z', 'v', 1)",
        "abc",
        id="it writes a less valuable one",
    ),
    pytest.param(
        "INSERT INTO memory_holds (agent_id, type, key, held_at)"
        " VALUES ('build_agent', 'learning', 'b', '')",
        "acd",
        id="one of them is held",
    ),
]


@pytest.mark.parametrize(("statement", "archived"), MEANWHILE)
@pytest.mark.parametrize("policy", [QuotaPolicy(memories=2), QuotaPolicy(bytes=4)])
def test_each_batch_considers_what_clients_did_meanwhile(
    path: Path,
    db: sqlite3.Connection,
    migrated: Memctl,
    statement: str,
    archived: str,
    policy: QuotaPolicy,
) -> None:
    for number, key in enumerate("abcde"):
        insert_memory(db, key=key, value="v", idle_days=9 - number)
    done = False

    def work(run: JobContext) -> CleanupResult:
        store = run.store
        quota_excess = store.quota_excess

        def changed_after_the_search(*words: Any, **options: Any) -> Any:
            excess = quota_excess(*words, **options)
            find = excess.find

            def find_and_change() -> Any:
                nonlocal done
                found = find()
                if not done:
                    done = True
                    db.execute(statement)
                return found

            excess.find = find_and_change  # type: ignore[method-assign]
            return excess

        store.quota_excess = changed_after_the_search  # type: ignore[method-assign]
        return cleanup(run, policy)

    perform("cleanup", work, JobRequest(path, NOW))

    assert "".join(key for (key,) in rows(db, "archived_memories", "key")) == archived


@dataclass(frozen=True)
class Memory:
    """The columns of an active memory that its value depends on."""

    agent: str
    importance: Any
    last_accessed: str | None
    created_at: str | None
    value: bytes
    expired: bool
    held: bool

    def rank(self, row: int) -> tuple[Any, ...]:
        """Return what the order of archiving compares."""
        known = isinstance(self.importance, int | float)
        stored = self.created_at if self.last_accessed is None else self.last_accessed
        try:
            read = min(datetime.fromisoformat(stored or ""), NOW.replace(tzinfo=None))
        except ValueError:
            read = None
        return (
            not known,
            self.importance if known else 0,
            read is None,
            read or NOW.replace(tzinfo=None),
            row,
        )


def archived_by(memories: list[Memory], policy: QuotaPolicy) -> set[int]:
    """Return which memories cleanup archives because of the quota; one after the other."""
    gone = {row for row, memory in enumerate(memories) if memory.expired and not memory.held}
    expired = set(gone)
    for agent in "ab":
        limits = policy.of(agent, None)
        while True:
            present = [
                row
                for row, memory in enumerate(memories)
                if memory.agent == agent and row not in gone
            ]
            size = sum(len(str(row)) + len(memories[row].value) for row in present)
            too_many = limits.memories is not None and len(present) > limits.memories
            too_large = limits.bytes is not None and size > limits.bytes
            free = [row for row in present if not memories[row].held]
            if not (too_many or too_large) or not free:
                break
            gone.add(min(free, key=lambda row: memories[row].rank(row)))
    return gone - expired


TIMES = st.sampled_from([text_of(NOW - timedelta(days=days)) for days in (-1, 0, 1, 2)] + ["soon"])
MEMORIES = st.lists(
    st.builds(
        Memory,
        agent=st.sampled_from("ab"),
        importance=st.sampled_from([1, 2, 2.5, 10, None, "high", b"3"]),
        last_accessed=st.none() | TIMES,
        created_at=st.none() | TIMES,
        value=st.sampled_from([b"", b"v", b"\xff\0", b"x" * 30]),
        expired=st.sampled_from([False, False, False, True]),
        held=st.sampled_from([False, False, False, True]),
    ),
    max_size=14,
)
LIMITS = st.none() | st.integers(1, 6)
POLICIES = st.builds(
    lambda memories, bytes_, own: QuotaPolicy(
        memories,
        bytes_ and bytes_ * 12,
        overrides=tuple(Override(key, value, "a") for key, value in own.items()),
    ),
    LIMITS,
    LIMITS,
    st.fixed_dictionaries(
        {}, optional={"memories": st.integers(1, 4), "bytes": st.integers(1, 60)}
    ),
).filter(lambda policy: policy.is_limited)


@examples(4)
@given(memories=MEMORIES, policy=POLICIES, interrupted_after=st.integers(0, 5))
def test_exactly_the_least_valuable_are_archived_in_any_number_of_runs(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Path,
    memories: list[Memory],
    policy: QuotaPolicy,
    interrupted_after: int,
) -> None:
    path = tmp_path_factory.mktemp("quota") / "harness.db"
    path.write_bytes(migrated_database.read_bytes())
    with closing(connect(path)) as db:
        for row, memory in enumerate(memories):
            insert_memory(
                db,
                agent_id=memory.agent,
                key=str(row),
                value=memory.value,
                importance=memory.importance,
                last_accessed=memory.last_accessed,
                created_at=memory.created_at,
                expired_for=timedelta(days=1) if memory.expired else None,
            )
            if memory.held:
                hold(db, agent=memory.agent, type="learning", key=str(row))

        previewed = perform(
            "cleanup",
            lambda run: cleanup(run, policy),
            JobRequest(path, NOW, dry_run=True, listing=True),
        ).result
        with open_database(path) as opened:
            part = SqliteQuotaExcess(opened, policy, agent=None, now=NOW, run_id=None)
            first = list(part.find())[:interrupted_after]
            opened.execute("BEGIN IMMEDIATE")
            part.apply(str(first))
            opened.execute("COMMIT")
        perform("cleanup", lambda run: cleanup(run, policy), JobRequest(path, NOW))
        found = rows(db, "archived_memories", "key, archived_reason")

    expected = archived_by(memories, policy)
    assert previewed is not None
    listed = {int(memory.key) for memory in previewed.tally.memories if "quota" in memory.details}
    assert {int(key) for key, reason in found if reason == "quota"} == expected
    assert listed == expected


def test_nothing_is_lost_when_cleanup_is_killed(
    tmp_path: Path, db: sqlite3.Connection, migrated: Memctl
) -> None:
    for number in range(40):
        insert_memory(db, key=f"{number}", importance=number % 7, idle_days=number % 5)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    words = ("cleanup", "--config", str(configure(migrated, "[quota]\nmemories = 10\n")))
    whole = copy_at(tmp_path / "whole", migrated)
    whole.ok(*words)
    steps = one_of_each_kind(copy_at(tmp_path / "counted", migrated), words)
    (tmp_path / "killed").mkdir()

    for memctl in killed_before(steps, migrated, words, tmp_path / "killed"):
        with closing(connect(memctl.database)) as found, closing(connect(whole.database)) as other:
            keys = [*rows(found, "agent_memory", "key"), *rows(found, "archived_memories", "key")]
            assert len(keys) == len(set(keys)) == 40
            memctl.ok(*words)
            assert left(found) == left(other)


def test_the_service_is_not_disturbed_by_the_tables_of_a_search(
    service: Service, migrated: Memctl
) -> None:
    service.remember("a", "context", "one", "{}")
    service.remember("a", "context", "two", "{}")
    file = configure(migrated, "[quota]\nmemories = 1\n")
    before = service.db.execute("SELECT name FROM sqlite_schema").fetchall()

    migrated.ok("cleanup", "--config", str(file))

    assert service.db.execute("SELECT name FROM sqlite_schema").fetchall() == before
    assert service.recall("a", "context", "two") is not None
