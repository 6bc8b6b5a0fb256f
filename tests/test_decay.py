"""Importance decay: exact, and independent of the schedule."""

import json
import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memctl.config.file import Configuration
from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.jobs.decay import decay
from memctl.jobs.engine import JobRequest, perform
from memctl.storage.addresses import Address
from memctl.storage.sqlite.features import disable, enable
from tests.support.configurations import (
    AGENTS,
    DECAY_KEYS,
    TYPES,
    Document,
    configured_keys,
    documents,
)
from tests.support.database import connect, memory_row, rows, text_of
from tests.support.engines import Engine, SqliteEngine
from tests.support.program import NOW, Memctl

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


def run(address: Address, now: datetime, policy: DecayPolicy = DEFAULT_POLICY) -> int:
    """Run decay without the clock check, and return how many memories it charged."""
    report = perform(
        "decay",
        lambda run: decay(run, policy, PromotePolicy()),
        JobRequest(address, now, force=True),
    )
    assert report.result is not None
    return report.result.decayed


def is_storable(memory: Memory) -> bool:
    """Return whether a server can store a memory: numbers are numbers, and text is valid."""
    numbers = (memory.importance, memory.column_rate)
    name = memory.agent.decode(errors="replace").encode()
    return not any(isinstance(one, str | bytes) for one in numbers) and (
        name == memory.agent and b"\0" not in name
    )


def start_over(engine: Engine, memories: Sequence[Memory]) -> list[Memory]:
    """Make these the only memories, with their state long before NOW.

    Returns those that the engine can store.
    """
    if engine.name != "sqlite":
        memories = [memory for memory in memories if is_storable(memory)]
    engine.empty()
    engine.fill(
        "agent_memory",
        [
            memory_row(
                id=f"m-{number}",
                agent_id=memory.agent if engine.name == "sqlite" else memory.agent.decode(),
                type=memory.type,
                key=str(number),
                importance=memory.importance,
                metadata=memory.metadata,
                importance_decay_rate=memory.column_rate,
                created_at=text_of(NOW - memory.idle),
                last_accessed=text_of(NOW - memory.idle) if memory.read else None,
            )
            for number, memory in enumerate(memories)
        ],
    )
    if engine.name == "sqlite":
        with closing(connect(engine.memctl.database)) as db:
            db.execute("UPDATE agent_memory SET agent_id = CAST(agent_id AS TEXT)")
    return list(memories)


def importances(engine: Engine) -> list[Any]:
    """Return the importance of every memory, in order."""
    return [row["importance"] for row in sorted(engine.rows(), key=lambda row: int(row["key"]))]


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
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_memory_decays_as_the_day_by_day_oracle_computes(
    memories: list[Memory], engine: Engine
) -> None:
    stored = start_over(engine, memories)

    run(engine.address, NOW)

    assert importances(engine) == [oracle(memory, NOW) for memory in stored]


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
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_schedule_gives_the_same_result_as_one_run_at_the_end(
    memories: list[Memory], schedule: list[int], engine: Engine
) -> None:
    stored = start_over(engine, memories)

    for seconds in schedule:  # in any order: the clock may have been set back in between
        run(engine.address, NOW - timedelta(seconds=seconds))
    run(engine.address, NOW)

    assert importances(engine) == [oracle(memory, NOW) for memory in stored]


@given(
    document=documents("decay", DECAY_KEYS),
    memories=st.lists(MEMORIES, min_size=1, max_size=60),
    earlier=st.lists(st.integers(0, 100 * 86400), max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_memory_decays_by_the_policy_of_its_agent_and_type(
    document: Document, memories: list[Memory], earlier: list[int], engine: Engine
) -> None:
    policy = Configuration.model_validate(document).decay_policy()
    stored = start_over(engine, memories)

    for seconds in earlier:
        run(engine.address, NOW - timedelta(seconds=seconds), policy)
    run(engine.address, NOW, policy)

    assert importances(engine) == [oracle(memory, NOW, document) for memory in stored]


@given(
    document=documents("decay", DECAY_KEYS),
    memories=st.lists(MEMORIES, min_size=1, max_size=40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_access_charges_by_the_policy_of_the_agent_and_type(
    document: Document, memories: list[Memory], migrated: Memctl
) -> None:
    policy = Configuration.model_validate(document).decay_policy()
    engine = SqliteEngine(migrated)
    start_over(engine, memories)

    with closing(connect(migrated.database)) as db:
        enable(db, "access-boost", now=NOW)
        db.execute(
            "UPDATE agent_memory SET access_count = access_count + 1, last_accessed = ?",
            (text_of(NOW),),
        )
        disable(db, "access-boost")
    run(engine.address, NOW, policy)

    charged = (oracle(memory, NOW, document) for memory in memories)
    assert importances(engine) == list(map(boosted, charged))


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
def test_forty_idle_days_cost_4_3_points_on_any_schedule(days: list[float], engine: Engine) -> None:
    start_over(engine, [Memory(9.0, timedelta(days=40))])

    for day in days:
        run(engine.address, NOW - timedelta(days=40 - day))

    assert importances(engine) == [4.7]


def test_a_second_run_on_the_same_day_changes_nothing(engine: Engine) -> None:
    start_over(engine, [Memory(9, timedelta(days=days)) for days in range(60)])

    first, second = run(engine.address, NOW), run(engine.address, NOW + timedelta(minutes=1))

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
    engine: Engine, idle_days: float, expected: float
) -> None:
    engine.insert(key="0", idle_days=idle_days, importance=5)

    engine.memctl.ok("decay")

    assert importances(engine) == [expected]


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


def test_only_a_charged_memory_gets_a_last_decay_time(engine: Engine) -> None:
    for number, (idle_days, importance) in enumerate([(9, 5), (3, 5), (90, 1)]):
        engine.insert(id=str(number), idle_days=idle_days, importance=importance)

    engine.memctl.ok("decay")

    assert [(row["importance"], row["last_decay_at"]) for row in engine.rows()] == [
        (4.8, "2026-11-22T09:43:58Z"),
        (5, None),
        (1, None),
    ]


def test_a_run_is_recorded_in_one_event(engine: Engine) -> None:
    engine.fill("agent_memory", [memory_row(idle_days=9, importance=5) for _ in range(450)])

    engine.memctl.ok("decay")
    engine.memctl.ok("decay")

    (event,) = engine.memctl.ok("events", "--json").json
    names = ("at", "event", "memory_id", "agent_id", "run_id", "detail")
    assert [event[name] for name in names] == [
        *("2026-11-22T09:43:58Z", "memory:decayed", None, None, 1),
        {"decayed": 450},
    ]


def test_a_dry_run_lists_what_the_run_then_decays(engine: Engine) -> None:
    fading = engine.insert(idle_days=40, importance=9, key="old")
    engine.insert(idle_days=1, importance=9)
    before = engine.rows()

    previewed = engine.memctl.ok("decay", "--dry-run", "--list", "--json").json
    unchanged = engine.rows() == before
    done = engine.memctl.ok("decay", "--list", "--json").json

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
    engine: Engine, tmp_path: Path
) -> None:
    engine.insert(idle_days=40, importance=9)
    configuration = tmp_path / "memctl.toml"
    configuration.write_text('[decay]\nsince = "2026-11-20"\n')

    engine.memctl.ok("decay", "--config", str(configuration))

    # 40 whole idle days now; the 38th had not ended when counting began: two days at 0.2.
    assert [row["importance"] for row in engine.rows()] == [8.6]


def test_only_memories_of_the_named_agent_decay(engine: Engine) -> None:
    engine.insert(idle_days=40, importance=9, agent_id="qa_agent")
    engine.insert(idle_days=40, importance=9, agent_id="build_agent")

    answer = engine.memctl.ok("decay", "--agent", "qa_agent", "--json").json

    assert [row["importance"] for row in engine.rows()] == [9, 4.7]
    assert answer["agents"] == {"qa_agent": 1}


def test_a_list_shows_the_deciding_tables_when_there_are_several(
    engine: Engine, tmp_path: Path
) -> None:
    for agent in ("build_agent", "qa_agent"):
        for type_ in ("context", "learning"):
            name = f"{agent} {type_}"
            engine.insert(id=name, idle_days=20, importance=9, agent_id=agent, type=type_, key="k")
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

    previewed = engine.memctl.ok(*words, "--dry-run").json["listed"]
    done = engine.memctl.ok(*words).json["listed"]

    assert previewed == done
    assert [
        [memory[name] for name in ("agent_id", "type", "decayed", "policy")] for memory in done
    ] == [
        ["build_agent", "context", 7, "decay.types.context"],
        ["build_agent", "learning", 8, "decay"],
        ["qa_agent", "context", 7, "agents.qa_agent.decay, decay.types.context"],
        [
            "qa_agent",
            "learning",
            8,
            "agents.qa_agent.decay.types.learning, agents.qa_agent.decay",
        ],
    ]
    assert [row["importance"] for row in engine.rows()] == [7, 8, 7, 8]
