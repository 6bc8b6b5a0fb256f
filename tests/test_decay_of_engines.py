"""Decay is the same on both engines, and on a server it spares what clients change meanwhile."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memctl.config.file import Configuration
from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.jobs.decay import DecayResult, decay
from memctl.jobs.engine import JobRequest, perform
from memctl.storage.addresses import ServerAddress
from memctl.storage.postgresql.arrays import arrays_of
from memctl.storage.postgresql.batches import FoundRow
from memctl.storage.postgresql.database import open_database
from memctl.storage.postgresql.fading import CHARGE, CHARGES, WRITTEN, PostgresFading
from tests.support.configurations import DECAY_KEYS, TYPES, Document, documents
from tests.support.database import Row, memory_row, text_of
from tests.support.engines import Engine, PostgresEngine
from tests.support.program import NOW
from tests.support.properties import examples

ODD_METADATA = (
    *[None] * 4,
    '{"decay_rate": 0.5}',
    '{"decay_rate": "fast"}',
    '{"decay_rate": -1}',
    '{"decay_rate": null}',
    '{"decay_rate": 0.5, "text": "\\u00e9 \\"{x}\\" \\\\ %s"}',
    '{"decay_rate": 0.5',
    '{"\\u0064ecay_rate": 0.5}',
)


def moments(days: int) -> st.SearchStrategy[str]:
    """Return times up to a number of days before NOW."""
    return st.integers(-86400, days * 86400).map(
        lambda seconds: text_of(NOW - timedelta(seconds=seconds))
    )


def of_memctl(moment: str) -> str:
    """Return a time as memctl writes it; SQLite keeps the form in which a time was written."""
    return moment.replace(" ", "T") + "Z"


MEMORIES = st.fixed_dictionaries(
    {
        "agent_id": st.sampled_from(["qa_agent", "build agent"]),
        "type": st.sampled_from(["learning", "error_pattern", *TYPES]),
        "metadata": st.sampled_from(ODD_METADATA),
        "importance": st.one_of(
            st.integers(-1, 12), st.floats(0, 11), st.sampled_from([None, 8.000001, 1e300])
        ),
        "access_count": st.one_of(st.none(), st.integers(0, 9)),
        "last_accessed": st.one_of(st.none(), moments(120)),
        "created_at": st.one_of(st.none(), moments(200)),
        "importance_decay_rate": st.sampled_from([None, None, 0.25, -1.0, 0.0]),
        "last_decay_at": st.one_of(st.none(), moments(60).map(of_memctl)),
    }
)


CANDIDATE: Row = {
    "importance": 9,
    "access_count": 5,
    "created_at": "2026-10-01 00:00:00",
    "last_accessed": "2026-10-20 00:00:00",
}


def run(engine: Engine, policy: DecayPolicy, **words: Any) -> DecayResult:
    """Run decay at NOW, without the clock check."""
    request = JobRequest(engine.address, NOW, force=True, **words)
    report = perform("decay", lambda run: decay(run, policy, PromotePolicy()), request)
    assert report.result is not None
    return report.result


def notes(engine: Engine) -> list[str]:
    """Return the noted importances of candidates."""
    state = engine.rows("memory_state")
    return sorted(row["value"] for row in state if row["key"].startswith("candidate:"))


def listed(result: DecayResult) -> list[tuple[Any, ...]]:
    """Return agent, id and details of the listed memories."""
    return sorted((one.agent_id, one.id, one.details) for one in result.tally.memories)


@given(
    memories=st.lists(MEMORIES, min_size=1, max_size=40), document=documents("decay", DECAY_KEYS)
)
@settings(examples(2 / 3), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_engines_decay_the_same_memories_to_identical_rows(
    memories: list[Row], document: Document, engines: tuple[Engine, Engine]
) -> None:
    policy = Configuration.model_validate(document).decay_policy()
    rows = [
        memory_row(**{**memory, "id": f"m-{number}", "key": f"k-{number}"})
        for number, memory in enumerate(memories)
    ]
    for engine in engines:
        engine.empty()
        engine.fill("agent_memory", rows)

    previews = [listed(run(engine, policy, dry_run=True, listing=True)) for engine in engines]
    done = [listed(run(engine, policy, listing=True)) for engine in engines]

    assert engines[1].rows() == engines[0].rows()
    assert notes(engines[1]) == notes(engines[0])
    assert previews[0] == previews[1] == done[0] == done[1]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        pytest.param("importance = 9", 9, id="importance"),
        pytest.param("last_accessed = '2026-11-22 09:00:00Z'", 8, id="an access"),
        pytest.param("access_count = 9", 8, id="the number of accesses"),
        pytest.param("""metadata = '{"decay_rate": 0}'""", 8, id="the rate in the metadata"),
        pytest.param("importance_decay_rate = 0", 8, id="the rate"),
        pytest.param("type = 'context'", 8, id="the type"),
        pytest.param("last_decay_at = '2026-11-22 09:00:00Z'", 8, id="another charge"),
        pytest.param("value = 'new'", 7.8, id="only the value"),
        pytest.param("""metadata = '{"task": 1}'""", 7.8, id="other metadata"),
    ],
)
def test_a_memory_that_a_client_changed_after_the_search_is_charged_by_the_next_run(
    on_server: PostgresEngine, monkeypatch: pytest.MonkeyPatch, change: str, left: float
) -> None:
    on_server.insert(id="changed", idle_days=9, importance=8, access_count=5)
    on_server.insert(id="other", idle_days=9, importance=8)
    search = PostgresFading.find

    def find(fading: PostgresFading) -> Sequence[FoundRow]:
        found = search(fading)
        with psycopg.connect(on_server.url, autocommit=True) as client:
            client.execute(f"UPDATE agent_memory SET {change} WHERE id = 'changed'")
        return found

    monkeypatch.setattr(PostgresFading, "find", find)

    result = run(on_server, DecayPolicy())

    assert [row["importance"] for row in on_server.rows()] == [left, 7.8]
    changed = int(left != 7.8)
    assert (result.decayed, result.tally.changed_meanwhile) == (2 - changed, changed)
    (event,) = on_server.memctl.ok("events", "--json").json
    assert event["detail"] == {"decayed": result.decayed}


def test_times_and_numbers_that_only_a_server_knows_are_left(on_server: PostgresEngine) -> None:
    on_server.insert(id="always", last_accessed="infinity", created_at="-infinity", importance=9)
    on_server.insert(id="ancient", last_accessed="-infinity", importance=9)
    on_server.insert(id="far", last_accessed="4000-01-01 00:00:00 BC", importance=9)
    on_server.insert(id="no number", idle_days=90, importance=float("nan"))
    on_server.insert(id="usual", idle_days=9, importance=9)

    assert run(on_server, DecayPolicy()).decayed == 1


def test_a_note_is_kept_as_long_as_its_memory_exists(on_server: PostgresEngine) -> None:
    for agent in ("a", "b"):
        for name in ("kept", "archived", "deleted"):
            on_server.insert(id=f'{name} "\\', agent_id=agent, key=name, **CANDIDATE)
    on_server.memctl.ok("decay")
    with psycopg.connect(on_server.url, autocommit=True) as client:
        client.execute("DELETE FROM agent_memory WHERE agent_id = 'a' AND key = 'deleted'")
        client.execute("UPDATE agent_memory SET expires_at = '2026-01-01' WHERE key = 'archived'")
    on_server.memctl.ok("cleanup")
    before = len(notes(on_server))

    on_server.memctl.ok("decay")

    assert (before, len(notes(on_server))) == (6, 5)


def test_statements_find_memories_by_their_primary_key(on_server: PostgresEngine) -> None:
    on_server.fill(
        "agent_memory",
        [
            memory_row(id=f"m-{number}", agent_id=f"a-{number % 10}", idle_days=number % 20)
            for number in range(1000)
        ],
    )
    with open_database(ServerAddress(on_server.url)) as db:
        db.execute("ANALYZE agent_memory")
        charge = {"agent": "a-1", "now": "2026-11-22T09:43:58Z", "event_key": None, "run_id": 1}
        plan = db.rows(
            f"EXPLAIN {CHARGE}", {**charge, **arrays_of(CHARGES, WRITTEN, []), "id": ["m-1"]}
        )

    lines = [line for (line,) in plan]
    assert any("Index Scan using agent_memory_pkey" in line for line in lines), lines
    assert not any("Seq Scan on agent_memory" in line for line in lines)
