"""The opt-in features: exact for every client, and without failing any statement."""

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.jobs.archive import archive
from memctl.jobs.decay import decay
from memctl.jobs.engine import JobContext, JobRequest, JobResult, perform
from memctl.jobs.restore import restore
from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.database import table_exists
from tests.support.database import connect, insert_memory, rows, text_of
from tests.support.program import NOW, Answer, Memctl
from tests.support.service import SCHEMA, Service

TRIGGERS = {
    "access-boost": ["memctl_access_boost"],
    "access-counting": ["memctl_access_counting"],
    "archive-on-delete": ["memctl_archive_on_delete"],
    "archive-on-replace": [
        "memctl_rename_begins",
        "memctl_rename_ends",
        "memctl_replace_begins",
        "memctl_replace_ends",
        "memctl_update_of_value",
    ],
}
# Those of the oracle; that of archive-on-replace is in test_replacing.py.
FEATURES = ("access-boost", "access-counting", "archive-on-delete")
Name = tuple[str, str, str]

COUNT_ACCESSES = (
    "UPDATE {conflict} agent_memory SET access_count = access_count + ?, last_accessed = ?"
)


def enable_all(memctl: Memctl) -> None:
    """Turn every feature on."""
    for feature in FEATURES:
        memctl.ok("enable", feature)


def run_decay(path: Path, now: datetime) -> None:
    """Run decay without the clock check."""
    perform(
        "decay",
        lambda run: decay(run, DecayPolicy(), PromotePolicy()),
        JobRequest(path, now, force=True),
    )


def triggers(db: sqlite3.Connection) -> list[str]:
    """Return the names of all triggers."""
    return [
        row[0]
        for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' ORDER BY name")
    ]


# The oracle: follows what clients and memctl do to a few memories.


def debt(days: int) -> Decimal:
    """Return the cost of a number of idle days under the default policy, day by day."""
    cost = Decimal(0)
    for day in range(1, days + 1):
        if day > 7:
            cost += Decimal("0.1") if day <= 30 else Decimal("0.2")
    return cost


@dataclass
class Known:
    """A memory as the oracle knows it: its importance when it was last read or restored."""

    id: str
    importance: Any
    read_at: datetime
    access_count: int = 0
    charged_until: datetime | None = None  # restored: earlier idle time is not charged

    def importance_at(self, now: datetime) -> Any:
        """Return the remaining importance at a time."""
        if not isinstance(self.importance, int | float) or math.isinf(self.importance):
            return self.importance
        before = Decimal(str(self.importance)).quantize(Decimal("0.000001"), ROUND_HALF_UP)
        idle = (now - self.read_at) // timedelta(days=1)
        charged = ((self.charged_until or self.read_at) - self.read_at) // timedelta(days=1)
        left = before - (debt(idle) - debt(charged))
        return float(max(min(before, Decimal(1)), left))

    def read(self, now: datetime, times: int) -> None:
        """Charge the idle days due, and boost."""
        importance = self.importance_at(now)
        if isinstance(importance, float):
            boosted = min(10, round(importance + 0.1 * times, 6))
            importance = max(importance, boosted)
        self.importance, self.read_at, self.charged_until = importance, now, None
        self.access_count += times


@dataclass
class Oracle:
    """All memories, active and archived, and how often each type was read on each day."""

    active: dict[Name, Known] = field(default_factory=dict)
    archived: list[tuple[str, str, Any, int]] = field(default_factory=list)
    accesses: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def read(self, name: Name, now: datetime, times: int = 1) -> None:
        """Follow an access."""
        self.active[name].read(now, times)
        self.accesses[f"{now:%Y-%m-%d}", name[0], name[1]] += times

    def archive(self, name: Name, reason: str) -> Known:
        """Archive a memory; its importance stays as the last decay left it."""
        known = self.active.pop(name)
        self.archived.append((known.id, reason, known.importance, known.access_count))
        return known


class World:
    """A database with all features on, a client that writes to it, and the oracle beside."""

    def __init__(self, path: Path, *, recursive: bool) -> None:
        self.path = path
        self.now = NOW - timedelta(days=200)
        self.oracle = Oracle()
        self.recursive = recursive
        self.numbers = iter(range(10**9))
        self.db = connect(path)
        self.db.execute(f"PRAGMA recursive_triggers = {int(recursive)}")
        for table in ("agent_memory", "archived_memories", "memory_access_counts"):
            self.db.execute(f"DELETE FROM {table}")
        self.db.execute("DELETE FROM archived_memories")  # what the line above archived

    def job(self, name: str, work: Callable[[JobContext], JobResult]) -> None:
        """Run one of memctl's jobs at the world's time."""
        perform(name, work, JobRequest(self.path, self.now, force=True))

    def settle(self) -> None:
        """Run decay, and record its result in the oracle."""
        run_decay(self.path, self.now)
        for known in self.oracle.active.values():
            left = known.importance_at(self.now)
            if left != known.importance:
                charged = max(known.charged_until or self.now, self.now)
                known.importance, known.charged_until = left, charged

    def write(self, name: Name, importance: Any) -> None:
        """Write a memory as the service does; it replaces one with the same name."""
        if name in self.oracle.active and self.recursive:
            self.oracle.archive(name, "deleted")
        memory_id = f"id-{next(self.numbers)}"
        moment = text_of(self.now)
        written = self.db.execute(
            "INSERT OR REPLACE INTO agent_memory"
            " (id, agent_id, type, key, value, importance, last_accessed, created_at)"
            " VALUES (?, ?, ?, ?, 'v', ?, ?, ?)",
            (memory_id, *name, importance, moment, moment),
        )
        assert written.rowcount == 1
        self.oracle.active[name] = Known(memory_id, importance, self.now)

    def read(self, name: Name, times: int, conflict: str) -> None:
        """Read one memory, if it is there."""
        found = self.oracle.active.get(name)
        counted = self.db.execute(
            COUNT_ACCESSES.format(conflict=conflict) + " WHERE id = ?",
            (times, text_of(self.now), found.id if found else "none"),
        )
        assert counted.rowcount == (1 if found else 0)
        if found:
            self.oracle.read(name, self.now, times)

    def set_importance(self, name: Name, importance: Any) -> None:
        """Write only the importance of a memory, right after a decay."""
        self.settle()
        self.db.execute(
            "UPDATE agent_memory SET importance = ? WHERE (agent_id, type, key) = (?, ?, ?)",
            (importance, *name),
        )
        if name in self.oracle.active:
            self.oracle.active[name].importance = importance

    def read_all(self, agent: str) -> None:
        """Read all memories of an agent in one statement; the time is as JavaScript writes it."""
        names = [name for name in self.oracle.active if name[0] == agent]
        counted = self.db.execute(
            COUNT_ACCESSES.format(conflict="") + " WHERE agent_id = ?",
            (1, self.now.strftime("%Y-%m-%dT%H:%M:%S.000Z"), agent),
        )
        assert counted.rowcount == len(names)
        for name in names:
            self.oracle.read(name, self.now)

    def delete_all(self, agent: str) -> None:
        """Delete all memories of an agent in one statement."""
        names = [name for name in self.oracle.active if name[0] == agent]
        deleted = self.db.execute("DELETE FROM agent_memory WHERE agent_id = ?", (agent,))
        assert deleted.rowcount == len(names)
        for name in names:
            self.oracle.archive(name, "deleted")

    def archive_and_restore(self, name: Name, after_decay: bool) -> None:
        """Let memctl archive a memory, after a decay or not, and restore it ten days later."""
        if after_decay:
            self.settle()
        known = self.oracle.active.get(name)
        if known is None:
            return
        self.job("archive", lambda run: archive(run, agent=name[0], ids=[known.id]))
        self.now += timedelta(days=10)
        self.job("restore", lambda run: restore(run, ArchiveFilter(agent=name[0], ids=[known.id])))
        known.charged_until = self.now

    def check(self) -> None:
        """Compare the whole database with the oracle."""
        self.settle()
        found = self.db.execute(
            "SELECT agent_id, type, key, id, importance, access_count FROM agent_memory"
        ).fetchall()
        archived = self.db.execute(
            "SELECT id, archived_reason, importance, access_count FROM archived_memories"
        ).fetchall()
        counted = self.db.execute("SELECT * FROM memory_access_counts").fetchall()
        assert {row[:3]: row[3:] for row in found} == {
            name: (known.id, known.importance, known.access_count)
            for name, known in self.oracle.active.items()
        }
        assert sorted(archived, key=repr) == sorted(self.oracle.archived, key=repr)
        assert {row[:3]: row[3] for row in counted} == dict(self.oracle.accesses)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A migrated database with all features on, which the examples share one after the other."""
    path = tmp_path_factory.mktemp("features") / "memory.db"
    with closing(Service(path)):
        Memctl(path).ok("migrate", "--no-backup")
        enable_all(Memctl(path))
        yield path


ALL_NAMES = (
    ("build_agent", "learning", "k1"),
    ("build_agent", "learning", "k2"),
    ("qa_agent", "context", "k1"),
)
NAMES = st.sampled_from(ALL_NAMES)
IMPORTANCES = st.one_of(
    st.integers(-3, 12),
    st.integers(-300, 1200).map(lambda hundredths: hundredths / 100),
    st.sampled_from([None, "high", "", 100, 1.234567, math.inf]),
)
CONFLICTS = st.sampled_from(["", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ROLLBACK"])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, IMPORTANCES),
    st.tuples(st.just("read"), NAMES, st.integers(1, 3), CONFLICTS),
    st.tuples(st.just("read"), NAMES, st.just(1), st.just("")),
    st.tuples(st.just("read_all"), st.sampled_from(["build_agent", "qa_agent"])),
    st.tuples(st.just("delete_all"), st.sampled_from(["build_agent", "qa_agent"])),
    st.tuples(st.just("settle")),
    st.tuples(st.just("archive_and_restore"), NAMES, st.booleans()),
    st.tuples(st.just("set_importance"), NAMES, IMPORTANCES),
)
PAUSES = st.builds(
    timedelta,
    days=st.sampled_from([0, 0, 1, 6, 7, 8, 20, 45]),
    seconds=st.sampled_from([0, 1, 43200, 86399]),
)


@given(
    importances=st.lists(IMPORTANCES, min_size=len(ALL_NAMES), max_size=len(ALL_NAMES)),
    steps=st.lists(st.tuples(PAUSES, STEPS), min_size=5, max_size=25),
    recursive=st.booleans(),
)
def test_any_mixture_of_clients_and_jobs_matches_the_oracle(
    importances: list[Any],
    steps: list[tuple[timedelta, tuple[Any, ...]]],
    recursive: bool,
    database: Path,
) -> None:
    world = World(database, recursive=recursive)
    with closing(world.db):
        for name, importance in zip(ALL_NAMES, importances, strict=True):
            world.write(name, importance)
        for pause, (method, *given) in steps:
            world.now += pause
            getattr(world, method)(*given)
        world.now += timedelta(days=9)
        world.check()


@pytest.mark.parametrize(
    ("importance", "idle_days", "expected"),
    [
        pytest.param(5, 0, 5.1, id="a boost"),
        pytest.param(5, 9, 4.9, id="two days past the grace week are charged first"),
        pytest.param(9, 90, 1.1, id="from the floor"),
        pytest.param(9.95, 0, 10, id="at most ten"),
        pytest.param(10, 0, 10, id="already at ten"),
        pytest.param(100, 0, 100, id="above ten is not lowered"),
        pytest.param(0, 50, 0.1, id="below the floor is not charged"),
        pytest.param("high", 50, "high", id="not a number"),
        pytest.param(None, 50, None, id="no importance"),
    ],
)
def test_an_access_charges_idle_days_and_boosts(
    db: sqlite3.Connection,
    migrated: Memctl,
    service: Service,
    remember: Callable[..., str],
    importance: Any,
    idle_days: float,
    expected: Any,
) -> None:
    memory_id = remember(importance=importance, idle_days=idle_days)
    migrated.ok("enable", "access-boost")

    counted = service.db.execute(
        COUNT_ACCESSES.format(conflict="") + " WHERE id = ?", (1, text_of(NOW), memory_id)
    ).rowcount
    run_decay(migrated.database, NOW)

    assert counted == 1
    assert rows(db, "agent_memory", "importance, access_count") == [(expected, 1)]
    assert rows(db, "memory_idle_times") == []


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        pytest.param("metadata", '{"decay_rate": 0.5}', 8.1, id="the rate of its metadata"),
        pytest.param("importance_decay_rate", 1, 7.1, id="the rate of its column"),
        pytest.param("metadata", '{"decay_rate": "fast"}', 8.9, id="no rate"),
        pytest.param("metadata", '{"decay_rate"', 8.9, id="not JSON"),
        pytest.param("last_decay_at", "2026-11-21T09:43:58Z", 9.0, id="charged a day ago"),
        pytest.param("last_accessed", None, 8.9, id="never read, only created"),
        pytest.param("last_accessed", "soon", 9.1, id="an unreadable last access"),
        pytest.param("last_accessed", "now", 9.1, id="last access 'now'"),
        pytest.param("last_accessed", "20261113T104358+0100", 8.9, id="the basic format"),
        pytest.param("last_decay_at", "soon", 9.1, id="an unreadable last decay"),
        pytest.param("last_accessed", "2026-11-13T10:43:58.000+01:00", 8.9, id="an offset"),
    ],
)
def test_an_access_charges_by_the_rules_of_decay(
    db: sqlite3.Connection,
    migrated: Memctl,
    service: Service,
    remember: Callable[..., str],
    column: str,
    value: Any,
    expected: float,
) -> None:
    remember(importance=9, idle_days=9, **{column: value})
    migrated.ok("enable", "access-boost")

    service.db.execute(COUNT_ACCESSES.format(conflict=""), (1, text_of(NOW)))
    run_decay(migrated.database, NOW)

    assert rows(db, "agent_memory", "importance") == [(expected,)]


def test_an_access_charges_by_the_configuration(
    db: sqlite3.Connection, memctl: Memctl, service: Service, tmp_path: Path
) -> None:
    memctl.ok("migrate", "--no-backup")
    insert_memory(db, importance=9, idle_days=40)
    configuration = tmp_path / "memctl.toml"
    configuration.write_text(
        '[decay]\nfloor = 5\ngrace_days = 2\nidle_rate = 1\nsince = "2026-11-20"\n'
    )
    memctl.ok("enable", "access-boost")

    service.db.execute(COUNT_ACCESSES.format(conflict=""), (1, text_of(NOW)))
    memctl.ok("decay", "--config", str(configuration))

    # 38 of 40 idle days were before the beginning; the two after it cost 0.2 each.
    assert rows(db, "agent_memory", "importance") == [(8.7,)]


def test_a_memory_deleted_by_a_client_is_archived_and_can_be_restored(
    db: sqlite3.Connection, migrated: Memctl, service: Service, remember: Callable[..., str]
) -> None:
    remember(id="m", key="k", value="precious", metadata='{"a": 1}', importance=7.5)
    before = rows(db, "agent_memory")
    migrated.ok("enable", "archive-on-delete")
    begun = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    deleted = service.forget("build_agent", "learning", "k")
    (archived,) = rows(db, "archived_memories", "archived_reason, archived_at, run_id")
    recorded = rows(
        db, "memory_events", "at, event, memory_id, agent_id, type, key, run_id, detail"
    )
    gone = rows(db, "agent_memory")
    migrated.ok("restore", "build_agent", "m")

    reason, archived_at, run_id = archived
    assert (deleted, gone) == (1, [])
    assert (reason, run_id) == ("deleted", None)
    assert begun <= archived_at <= datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = ("m", "build_agent", "learning", "k", None)
    assert recorded == [
        (archived_at, "memory:deleted", *about, None),
        (archived_at, "memory:archived", *about, '{"reason": "deleted"}'),
    ]
    assert [row[:11] for row in rows(db, "agent_memory")] == [row[:11] for row in before]


def test_memories_deleted_by_the_services_cleanup_are_archived(
    db: sqlite3.Connection, migrated: Memctl, service: Service, remember: Callable[..., str]
) -> None:
    remember(id="old", expires_at="2020-01-01 00:00:00")
    remember(id="kept")
    migrated.ok("enable", "archive-on-delete")

    deleted = service.cleanup_expired()

    assert deleted == 1
    assert rows(db, "archived_memories", "id, archived_reason") == [("old", "deleted")]


def test_memories_archived_by_memctl_are_archived_once(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="expired", expired_for=timedelta(days=1))
    remember(id="by hand")
    enable_all(migrated)

    migrated.ok("cleanup")
    migrated.ok("archive", "build_agent", "by hand")

    assert rows(db, "archived_memories", "id, archived_reason") == [
        ("expired", "expired"),
        ("by hand", "manual"),
    ]
    assert rows(db, "memory_events", "event, memory_id") == [
        ("memory:expired", "expired"),
        ("memory:archived", "expired"),
        ("memory:archived", "by hand"),
    ]
    assert list(db.execute("SELECT key FROM memory_state WHERE key = 'own_delete'")) == []


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"metadata": b"\xff\x00"}, id="metadata that is bytes"),
        pytest.param({"metadata": "[" * 2000}, id="metadata nested too deeply"),
        pytest.param({"metadata": '{"decay_rate": 1e999}'}, id="an infinite rate"),
        pytest.param({"access_count": 2**63 - 2}, id="the highest count"),
        pytest.param({"access_count": "many"}, id="a count that is text"),
        pytest.param({"access_count": None}, id="no count"),
        pytest.param({"importance": math.inf}, id="infinite importance"),
        pytest.param({"importance": -(2**63)}, id="the lowest importance"),
        pytest.param({"last_accessed": "+999999-01-01T00:00:00Z"}, id="a far year"),
        pytest.param({"last_accessed": "9999-12-31 23:59:59"}, id="the last day"),
        pytest.param({"created_at": b"\x00", "last_accessed": None}, id="created at bytes"),
        pytest.param({"type": "mood\0", "agent_id": "a\nb"}, id="odd names"),
    ],
)
def test_no_statement_of_a_client_fails(
    db: sqlite3.Connection, migrated: Memctl, service: Service, columns: dict[str, Any]
) -> None:
    memory_id = insert_memory(db, key="odd", **columns)
    enable_all(migrated)

    counted = service.db.execute(
        "UPDATE agent_memory SET access_count = access_count + 1, last_accessed = datetime('now')"
        " WHERE id = ?",
        (memory_id,),
    ).rowcount
    deleted = service.db.execute("DELETE FROM agent_memory WHERE id = ?", (memory_id,)).rowcount

    assert (counted, deleted) == (1, 1)
    assert rows(db, "archived_memories", "id") == [(memory_id,)]


def test_every_feature_works_for_a_client_that_trusts_no_schema(
    db: sqlite3.Connection, migrated: Memctl, service: Service, remember: Callable[..., str]
) -> None:
    memory_id = remember(importance=5, idle_days=9, metadata='{"decay_rate": 0.5}')
    enable_all(migrated)
    service.db.execute("PRAGMA trusted_schema = OFF")

    service.db.execute(COUNT_ACCESSES.format(conflict=""), (1, text_of(NOW)))
    service.remember("build_agent", "learning", "another", "v")
    run_decay(migrated.database, NOW + timedelta(seconds=1))
    service.forget_all("build_agent")

    archived = rows(db, "archived_memories", "id, importance")
    assert (memory_id, 4.1) in archived
    assert len(archived) == 2
    assert db.execute("SELECT accesses FROM memory_access_counts").fetchall() == [(1,)]


def test_a_preview_of_decay_includes_idle_times_ended_by_accesses(
    db: sqlite3.Connection, migrated: Memctl, service: Service, remember: Callable[..., str]
) -> None:
    remember(id="m", importance=9, idle_days=40)
    migrated.ok("enable", "access-boost")
    service.db.execute(COUNT_ACCESSES.format(conflict=""), (1, text_of(NOW)))
    later = migrated.at(NOW + timedelta(days=9))

    preview = later.ok("decay", "--dry-run", "--list", "--json").json
    explained = later.ok("explain", "build_agent", "m", "--json").json["active"]
    noted = rows(db, "memory_idle_times")
    later.ok("decay")

    (memory,) = preview["listed"]
    assert (memory["importance"], memory["decayed"]) == (4.8, 4.6)
    assert explained["importance"] == 9.1
    assert explained["fading"]["due"] == 4.5
    assert explained["fading"]["importance_after_next"] == 4.6
    assert len(noted) == 1
    assert rows(db, "agent_memory", "importance") == [(4.6,)]


def test_idle_times_of_deleted_memories_are_deleted(
    db: sqlite3.Connection, migrated: Memctl, service: Service, remember: Callable[..., str]
) -> None:
    remember(idle_days=40)
    migrated.ok("enable", "access-boost")
    service.db.execute(COUNT_ACCESSES.format(conflict=""), (1, text_of(NOW)))
    service.forget_all("build_agent")

    run_decay(migrated.database, NOW)

    assert rows(db, "memory_idle_times") == []


def test_text_that_is_not_utf8_is_archived_byte_for_byte(
    db: sqlite3.Connection, migrated: Memctl, service: Service
) -> None:
    db.execute(
        "INSERT INTO agent_memory (id, agent_id, type, key, value) VALUES"
        " ('m', CAST(x'ff61' AS TEXT), 'context', CAST(x'00ed' AS TEXT), CAST(x'eda080' AS TEXT))"
    )
    enable_all(migrated)

    service.db.execute(COUNT_ACCESSES.format(conflict=""), (1, text_of(NOW)))
    service.db.execute("DELETE FROM agent_memory")

    texts = "typeof(agent_id), hex(agent_id), hex(key), hex(value)"
    assert rows(db, "archived_memories", texts) == [("text", "FF61", "00ED", "EDA080")]
    assert rows(db, "memory_events", "hex(agent_id), hex(key)") == [("FF61", "00ED")] * 2
    assert db.execute("SELECT hex(agent_id), accesses FROM memory_access_counts").fetchall() == [
        ("FF61", 1)
    ]


def test_the_last_inserted_row_is_the_clients_own(
    db: sqlite3.Connection, migrated: Memctl, service: Service, remember: Callable[..., str]
) -> None:
    enable_all(migrated)
    for number in range(3):
        remember(key=f"k{number}")
    service.remember("build_agent", "learning", "mine", "v")
    mine = service.db.execute("SELECT last_insert_rowid()").fetchone()

    service.recall("build_agent", "learning", "k0")
    service.forget("build_agent", "learning", "k1")

    assert service.db.execute("SELECT last_insert_rowid()").fetchone() == mine


@pytest.mark.parametrize("feature", TRIGGERS)
def test_a_feature_is_turned_on_and_off_once(
    db: sqlite3.Connection, migrated: Memctl, feature: str
) -> None:
    on = [migrated.ok("enable", feature) for _ in range(2)]
    enabled = triggers(db)
    off = [migrated.ok("disable", feature) for _ in range(2)]

    assert [answer.err for answer in on] == [
        f"enable: {feature} is now enabled\n",
        f"enable: {feature} was already enabled\n",
    ]
    assert enabled == TRIGGERS[feature]
    assert [answer.err for answer in off] == [
        f"disable: {feature} is now disabled\n",
        f"disable: {feature} was already disabled\n",
    ]
    assert triggers(db) == []
    assert rows(db, "memory_runs") == []


def test_the_result_is_available_as_json(migrated: Memctl) -> None:
    on = migrated.ok("enable", "access-counting", "--json")
    off = migrated.ok("disable", "access-counting", "--json", "-q")

    assert (on.json, on.err) == (
        {"schema": 1, "feature": "access-counting", "enabled": True, "changed": True},
        "",
    )
    assert off.json == {
        "schema": 1,
        "feature": "access-counting",
        "enabled": False,
        "changed": True,
    }


OTHER_TRIGGER = """
    DROP TRIGGER memctl_access_boost;
    CREATE TRIGGER memctl_access_boost AFTER UPDATE OF access_count ON agent_memory
    BEGIN
        SELECT 1;
    END;
"""


def test_status_shows_each_feature_and_problems_with_its_trigger(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    enable_all(migrated)
    db.executescript(OTHER_TRIGGER + "DROP TRIGGER memctl_access_counting")

    text = migrated.ok("status").out
    document = migrated.ok("status", "--json").json

    since = "2026-11-22T09:43:58Z"
    assert (
        "access-boost       on, but created by another version of memctl: run `memctl enable"
        " access-boost`\n"
        f"access-counting    enabled since {since}, but its triggers are missing: run `memctl"
        " enable access-counting`\n"
        f"archive-on-delete  on since {since}\n"
    ) in text
    assert document["features"] == [
        {"feature": "access-boost", "state": "outdated", "since": since},
        {"feature": "access-counting", "state": "missing", "since": since},
        {"feature": "archive-on-delete", "state": "on", "since": since},
        {"feature": "archive-on-replace", "state": "off", "since": None},
    ]


def test_enabling_again_recreates_a_changed_trigger(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    enable_all(migrated)
    db.executescript(OTHER_TRIGGER + "DROP TRIGGER memctl_access_counting")
    later = migrated.at(NOW + timedelta(days=1))

    for feature in FEATURES:
        later.ok("enable", feature)

    assert later.ok("status", "--json").json["features"] == [
        {"feature": "access-boost", "state": "on", "since": "2026-11-22T09:43:58Z"},
        {"feature": "access-counting", "state": "on", "since": "2026-11-23T09:43:58Z"},
        {"feature": "archive-on-delete", "state": "on", "since": "2026-11-22T09:43:58Z"},
        {"feature": "archive-on-replace", "state": "off", "since": None},
    ]


def test_jobs_run_with_a_trigger_of_another_version(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(expired_for=timedelta(days=1))
    enable_all(migrated)
    db.executescript(OTHER_TRIGGER)

    answer = migrated("cleanup")

    assert answer == Answer(0, "", "")
    assert len(rows(db, "archived_memories")) == 1


def test_a_rollback_removes_the_features(path: Path, memctl: Memctl, service: Service) -> None:
    service.remember("build_agent", "learning", "k", "v")
    memctl.ok("migrate", "--no-backup")
    enable_all(memctl)

    memctl.ok("rollback", "--to", "0", "--yes")

    with closing(connect(path)) as db:
        assert triggers(db) == []
        assert not table_exists(db, "memory_idle_times")
    assert service.recall("build_agent", "learning", "k") is not None
    assert service.forget("build_agent", "learning", "k") == 1


@pytest.mark.parametrize("command", ["enable", "disable"])
@pytest.mark.parametrize(
    ("prepare", "exit_code", "message"),
    [
        pytest.param("", 10, "memctl: there is no database at ", id="no database"),
        pytest.param(SCHEMA, 12, "memctl: the schema is out of date: ", id="not migrated"),
    ],
)
def test_a_database_that_cannot_have_features_is_refused(
    path: Path, memctl: Memctl, command: str, prepare: str, exit_code: int, message: str
) -> None:
    if prepare:
        with closing(connect(path)) as db:
            db.executescript(prepare)

    answer = memctl(command, "access-boost")

    assert (answer.exit_code, answer.out, answer.err.count("\n")) == (exit_code, "", 1)
    assert answer.err.startswith(message)


def test_an_unknown_feature_is_a_usage_error(migrated: Memctl) -> None:
    answer = migrated("enable", "telepathy")

    assert (answer.exit_code, answer.out) == (2, "")
    assert "'telepathy' is not one of 'access-boost', 'access-counting'" in answer.err
