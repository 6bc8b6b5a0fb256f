"""Importance decay: exact, and independent of the schedule."""

import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.file import Configuration
from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.jobs.decay import decay
from memctl.jobs.engine import JobRequest, perform
from memctl.storage.sqlite.features import disable, enable
from tests.support.configurations import (
    AGENTS,
    DECAY_KEYS,
    TYPES,
    Document,
    configured_keys,
    documents,
)
from tests.support.database import connect, insert_memory, rows, text_of
from tests.support.program import NOW, Memctl
from tests.support.service import Service

MILLIONTH = Decimal("0.000001")
DEFAULT_POLICY = DecayPolicy()

DEFAULTS = {
    "floor": 1,
    "grace_days": 7,
    "idle_rate": 0.1,
    "stale_days": 30,
    "stale_rate": 0.2,
    "since": None,
}


@dataclass(frozen=True)
class Memory:
    """The columns of a memory that decay depends on."""

    importance: Any
    idle: timedelta
    metadata: str | None = None
    column_rate: Any = None
    read: bool = True  # False: last_accessed is NULL, and created_at counts
    agent: bytes = b"build_agent"
    type: str = "learning"


def oracle(memory: Memory, now: datetime, document: Document | None = None) -> Any:
    """Return the importance at a time, computed day by day."""
    keys = DEFAULTS | configured_keys(document or {}, "decay", memory.agent, memory.type)
    floor = keys["floor"]
    before = memory.importance
    is_number = isinstance(before, int | float) and not isinstance(before, bool)
    if not is_number or not floor < before < math.inf:
        return before
    own_rate = rate_of(memory)
    lost = Decimal(0)
    idle_since = NOW - memory.idle
    for day in range(1, (now - idle_since) // timedelta(days=1) + 1):
        begun = idle_since + timedelta(days=day - 1)
        if keys["since"] and begun < datetime.combine(keys["since"], time(), UTC):
            continue
        if day > keys["grace_days"]:
            policy_rate = keys["idle_rate" if day <= keys["stale_days"] else "stale_rate"]
            lost += Decimal(str(policy_rate)) if own_rate is None else own_rate
    lost = lost.quantize(MILLIONTH, ROUND_HALF_UP)
    if lost == 0:
        return before
    left = Decimal(str(before)).quantize(MILLIONTH, ROUND_HALF_UP) - lost
    return float(max(Decimal(str(floor)), left))


def rate_of(memory: Memory) -> Decimal | None:
    """Return the memory's own rate: of its metadata, else of its column, else None."""
    candidates = [memory.column_rate]
    try:
        document = json.loads(memory.metadata or "null")
    except ValueError:
        document = None
    if isinstance(document, dict):
        candidates.insert(0, document.get("decay_rate"))
    for rate in candidates:
        is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if is_number and rate >= 0 and math.isfinite(rate):
            return Decimal(str(rate))
    return None


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A migrated database that all examples share, one after the other."""
    path = tmp_path_factory.mktemp("decay") / "memory.db"
    with closing(Service(path)):
        Memctl(path).ok("migrate", "--no-backup")
        yield path


def run(path: Path, now: datetime, policy: DecayPolicy = DEFAULT_POLICY) -> int:
    """Run decay without the clock check, and return how many memories it charged."""
    report = perform(
        "decay", lambda run: decay(run, policy, PromotePolicy()), JobRequest(path, now, force=True)
    )
    assert report.result is not None
    return report.result.decayed


def start_over(path: Path, memories: Sequence[Memory]) -> None:
    """Make these the only memories, with their state long before NOW."""
    with closing(connect(path)) as db:
        db.execute("BEGIN")
        db.execute("DELETE FROM agent_memory")
        for number, memory in enumerate(memories):
            since = text_of(NOW - memory.idle)
            insert_memory(
                db,
                agent_id=memory.agent,
                type=memory.type,
                key=str(number),
                importance=memory.importance,
                metadata=memory.metadata,
                importance_decay_rate=memory.column_rate,
                created_at=since,
                last_accessed=since if memory.read else None,
            )
        db.execute("UPDATE agent_memory SET agent_id = CAST(agent_id AS TEXT)")
        db.execute("COMMIT")


def importances(path: Path) -> list[Any]:
    """Return the importance of every memory, in order."""
    with closing(connect(path)) as db:
        return [row[0] for row in rows(db, "agent_memory", "importance")]


RATES = st.sampled_from([0, 0.05, 0.1, 0.25, 1, 0.333333, 2.5, 1000])
METADATA = st.one_of(
    st.none(),
    RATES.map(lambda rate: json.dumps({"decay_rate": rate, "taskId": "T-1"})),
    st.sampled_from(
        [
            '"x"',
            "[1]",
            "7",
            "{}",
            "null",
            '{"decay_rate": "fast"}',
            '{"decay_rate": "0.5"}',
            '{"decay_rate": -1}',
            '{"decay_rate": null}',
            '{"decay_rate": true}',
            '{"decay_rate": 1e999}',
            '{"decay_rate": [0.5]}',
            '[{"decay_rate": 0.5}]',
            '{"decay_rate": 0.5',
            "decay_rate",
            "",
        ]
    ),
)
MEMORIES = st.builds(
    Memory,
    importance=st.one_of(
        st.integers(-3, 100),
        st.integers(-300, 1200).map(lambda hundredths: hundredths / 100),
        st.sampled_from([None, "high", "", b"\xff", 1.000001, 9.123456, 1e9, math.inf]),
    ),
    idle=st.builds(
        timedelta, days=st.integers(-2, 120), seconds=st.sampled_from([0, 1, 43200, 86399])
    ),
    metadata=METADATA,
    column_rate=st.one_of(st.none(), st.none(), RATES, st.sampled_from([-1, "x", math.inf])),
    read=st.booleans(),
    agent=st.sampled_from(AGENTS),
    type=st.sampled_from(TYPES),
)


@given(memories=st.lists(MEMORIES, min_size=1, max_size=60))
def test_every_memory_decays_as_the_day_by_day_oracle_computes(
    memories: list[Memory], database: Path
) -> None:
    start_over(database, memories)

    run(database, NOW)

    assert importances(database) == [oracle(memory, NOW) for memory in memories]


@given(
    memories=st.lists(MEMORIES, min_size=1, max_size=40),
    schedule=st.lists(
        st.one_of(
            st.integers(0, 100 * 86400),
            st.integers(0, 100).map(lambda days: days * 86400),
            st.integers(0, 3).map(lambda seconds: 5 * 86400 + seconds),
        ),
        max_size=8,
    ),
)
def test_any_schedule_gives_the_same_result_as_one_run_at_the_end(
    memories: list[Memory], schedule: list[int], database: Path
) -> None:
    start_over(database, memories)

    for seconds in schedule:  # in any order: the clock may have been set back in between
        run(database, NOW - timedelta(seconds=seconds))
    run(database, NOW)

    assert importances(database) == [oracle(memory, NOW) for memory in memories]


@given(
    document=documents("decay", DECAY_KEYS),
    memories=st.lists(MEMORIES, min_size=1, max_size=60),
    earlier=st.lists(st.integers(0, 100 * 86400), max_size=3),
)
def test_every_memory_decays_by_the_policy_of_its_agent_and_type(
    document: Document, memories: list[Memory], earlier: list[int], database: Path
) -> None:
    policy = Configuration.model_validate(document).decay_policy()
    start_over(database, memories)

    for seconds in earlier:
        run(database, NOW - timedelta(seconds=seconds), policy)
    run(database, NOW, policy)

    assert importances(database) == [oracle(memory, NOW, document) for memory in memories]


@given(
    document=documents("decay", DECAY_KEYS),
    memories=st.lists(MEMORIES, min_size=1, max_size=40),
)
def test_an_access_charges_by_the_policy_of_the_agent_and_type(
    document: Document, memories: list[Memory], database: Path
) -> None:
    policy = Configuration.model_validate(document).decay_policy()
    start_over(database, memories)

    with closing(connect(database)) as db:
        enable(db, "access-boost", now=NOW)
        db.execute(
            "UPDATE agent_memory SET access_count = access_count + 1, last_accessed = ?",
            (text_of(NOW),),
        )
        disable(db, "access-boost")
    run(database, NOW, policy)

    charged = (oracle(memory, NOW, document) for memory in memories)
    assert importances(database) == list(map(boosted, charged))


def boosted(importance: Any) -> Any:
    """Return the importance after an access, given one without uncharged idle days."""
    if isinstance(importance, bool) or not isinstance(importance, int | float):
        return importance
    return max(importance, min(10, round(importance + 0.1, 6)))


@pytest.mark.parametrize(
    "days",
    [
        pytest.param([40], id="once"),
        pytest.param(list(range(41)), id="daily"),
        pytest.param([day / 4 for day in range(161)], id="every six hours"),
        pytest.param([7, 14, 21, 28, 35, 40], id="weekly"),
        pytest.param([1, 2, 3, 33, 34, 40], id="with an outage"),
    ],
)
def test_forty_idle_days_cost_4_3_points_on_any_schedule(days: list[float], database: Path) -> None:
    start_over(database, [Memory(9.0, timedelta(days=40))])

    for day in days:
        run(database, NOW - timedelta(days=40 - day))

    assert importances(database) == [4.7]


def test_a_second_run_on_the_same_day_changes_nothing(database: Path) -> None:
    start_over(database, [Memory(9, timedelta(days=days)) for days in range(60)])

    first, second = run(database, NOW), run(database, NOW + timedelta(minutes=1))

    assert (first, second) == (52, 0)


@pytest.mark.parametrize(
    ("idle_days", "expected"),
    [
        pytest.param(7.9, 5, id="read this week"),
        pytest.param(8, 4.9, id="a day past the grace week"),
        pytest.param(9.99, 4.8, id="only whole days count"),
        pytest.param(30, 2.7, id="a month"),
        pytest.param(31, 2.5, id="a day past the month"),
        pytest.param(60, 1, id="never below the floor"),
    ],
)
def test_importance_decays_while_a_memory_is_idle(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    idle_days: float,
    expected: float,
) -> None:
    remember(idle_days=idle_days, importance=5)

    migrated.ok("decay")

    assert rows(db, "agent_memory", "importance") == [(expected,)]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param({"last_accessed": "soon"}, 5, id="last_accessed is not a time"),
        pytest.param({"last_accessed": "2026-02-30 12:00:00"}, 5, id="30 February"),
        pytest.param({"last_accessed": b"2026-01-01"}, 5, id="last_accessed is bytes"),
        pytest.param({"last_decay_at": "soon"}, 5, id="last_decay_at is not a time"),
        pytest.param({"last_accessed": None}, 2.7, id="only created_at"),
        pytest.param(
            {"last_accessed": None, "created_at": "soon"}, 5, id="created_at is not a time"
        ),
        pytest.param({"created_at": "soon"}, 2.7, id="only last_accessed"),
        pytest.param({"last_accessed": "20261023T114358,5+0200"}, 2.7, id="the basic format"),
    ],
)
def test_a_memory_with_an_unreadable_time_does_not_decay(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    columns: dict[str, Any],
    expected: float,
) -> None:
    remember(id="m", importance=5, idle_days=30, **columns)

    explained = migrated.ok("explain", "build_agent", "m", "--json").json["active"]["fading"]
    migrated.ok("decay")

    assert explained["importance_after_next"] == expected
    assert (explained["unreadable"] is not None) == (expected == 5)
    assert rows(db, "agent_memory", "importance") == [(expected,)]


def test_only_a_charged_memory_gets_a_last_decay_time(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(idle_days=9, importance=5)
    remember(idle_days=3, importance=5)
    remember(idle_days=90, importance=1)

    migrated.ok("decay")

    assert rows(db, "agent_memory", "importance, last_decay_at") == [
        (4.8, "2026-11-22T09:43:58Z"),
        (5, None),
        (1, None),
    ]


def test_a_run_is_recorded_in_one_event(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for _ in range(450):
        remember(idle_days=9)

    migrated.ok("decay")
    migrated.ok("decay")

    assert rows(db, "memory_events", "at, event, memory_id, run_id, detail") == [
        ("2026-11-22T09:43:58Z", "memory:decayed", None, 1, '{"decayed": 450}')
    ]


def test_a_dry_run_lists_what_the_run_then_decays(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    fading = remember(idle_days=40, importance=9, key="old")
    remember(idle_days=1, importance=9)
    before = rows(db, "agent_memory")

    previewed = migrated.ok("decay", "--dry-run", "--list", "--json").json
    unchanged = rows(db, "agent_memory") == before
    done = migrated.ok("decay", "--list", "--json").json

    assert unchanged
    assert previewed["listed"] == done["listed"]
    assert done["listed"] == [
        {
            "id": fading,
            "agent_id": "build_agent",
            "type": "learning",
            "key": "old",
            "importance": 9,
            "decayed": 4.7,
        }
    ]


def test_the_configuration_can_set_the_first_day_that_counts(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str], tmp_path: Path
) -> None:
    remember(idle_days=40, importance=9)
    configuration = tmp_path / "memctl.toml"
    configuration.write_text('[decay]\nsince = "2026-11-20"\n')

    migrated.ok("decay", "--config", str(configuration))

    # 40 whole idle days now; the 38th had not ended when counting began: two days at 0.2.
    assert rows(db, "agent_memory", "importance") == [(8.6,)]


def test_only_memories_of_the_named_agent_decay(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(idle_days=40, importance=9, agent_id="qa_agent")
    remember(idle_days=40, importance=9, agent_id="build_agent")

    answer = migrated.ok("decay", "--agent", "qa_agent", "--json").json

    assert rows(db, "agent_memory", "importance") == [(4.7,), (9,)]
    assert answer["agents"] == {"qa_agent": 1}


def test_a_list_shows_the_deciding_tables_when_there_are_several(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str], tmp_path: Path
) -> None:
    for agent in ("qa_agent", "build_agent"):
        for type_ in ("context", "learning"):
            remember(idle_days=20, importance=9, agent_id=agent, type=type_, key="k")
    configuration = tmp_path / "memctl.toml"
    configuration.write_text(
        """
        [decay]
        grace_days = 10
        [decay.types.context]
        floor = 7
        idle_rate = 1
        [agents."qa_agent".decay]
        idle_rate = 0.5
        [agents."qa_agent".decay.types.learning]
        grace_days = 18
        """
    )
    words = ("decay", "--list", "--json", "--config", str(configuration))

    previewed = migrated.ok(*words, "--dry-run").json["listed"]
    done = migrated.ok(*words).json["listed"]

    assert previewed == done
    assert [
        [memory[name] for name in ("agent_id", "type", "decayed", "policy")] for memory in done
    ] == [
        ["qa_agent", "context", 7, "agents.qa_agent.decay, decay.types.context"],
        [
            "qa_agent",
            "learning",
            8,
            "agents.qa_agent.decay.types.learning, agents.qa_agent.decay",
        ],
        ["build_agent", "context", 7, "decay.types.context"],
        ["build_agent", "learning", 8, "decay"],
    ]
    assert [row[0] for row in rows(db, "agent_memory", "importance")] == [7, 8, 7, 8]
