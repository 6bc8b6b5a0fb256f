"""The list of agents."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.support.database import archive_row, insert_memory
from tests.support.engines import Engine
from tests.support.odd_values import ODD_AGENTS
from tests.support.program import NOW, Memctl


def test_each_agent_has_counts_sizes_and_times(engine: Engine) -> None:
    read: dict[str, Any] = {"idle_days": 3, "access_count": 2}
    engine.insert(agent_id="b", key="ключ", value="12345", metadata="{}", **read)
    engine.insert(agent_id="b", key="k", value="123", idle_days=1)
    engine.insert(agent_id="a", id="m", key="k", value="1", idle_days=5)
    engine.memctl.at(NOW - timedelta(days=1)).ok("archive", "a", "m")

    found = engine.memctl.ok("agents").json

    assert found == [
        {
            "agent_id": "a",
            "memories": 0,
            "archived": 1,
            "storage_bytes": 2,
            "last_written_at": "2026-11-17T09:43:58Z",
            "last_read_at": None,
            "last_archived_at": "2026-11-21T09:43:58Z",
        },
        {
            "agent_id": "b",
            "memories": 2,
            "archived": 0,
            "storage_bytes": 8 + 5 + 2 + 1 + 3,
            "last_written_at": "2026-11-21T09:43:58Z",
            "last_read_at": "2026-11-19T09:43:58Z",
            "last_archived_at": None,
        },
    ]


def test_the_figures_are_those_of_metrics(
    migrated: Memctl, db: sqlite3.Connection, remember: Callable[..., str]
) -> None:
    for number in range(20):
        remember(agent_id=f"agent-{number % 3}", type=("learning", "context")[number % 2])
        archive_row(db, days_ago=number, agent=f"agent-{number % 4}")
    names = ("memories", "archived", "storage_bytes")

    found = migrated.ok("agents").json
    metrics = migrated.ok("metrics").json["agents"]

    assert {agent["agent_id"]: [agent[name] for name in names] for agent in found} == {
        agent: [figures[name] for name in names] for agent, figures in metrics.items()
    }


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param("2026-11-20T10:43:58.000+01:00", "2026-11-20T09:43:58Z", id="an offset"),
        pytest.param("2026-11-20", "2026-11-20T00:00:00Z", id="a day"),
        pytest.param("2999-01-01 00:00:00", "2999-01-01T00:00:00Z", id="in the future"),
        pytest.param("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", id="the last second"),
        pytest.param("+011533-07-07T00:00:00Z", "2026-11-01T09:43:58Z", id="a far year"),
        pytest.param("soon", "2026-11-01T09:43:58Z", id="no time"),
        pytest.param(None, "2026-11-01T09:43:58Z", id="none"),
        pytest.param(b"2026-11-20", "2026-11-01T09:43:58Z", id="a BLOB"),
    ],
)
def test_the_latest_time_that_can_be_read_counts(
    migrated: Memctl, db: sqlite3.Connection, stored: str | bytes | None, expected: str
) -> None:
    insert_memory(db, idle_days=21, access_count=1)
    insert_memory(db, created_at=stored, last_accessed=stored, access_count=1)

    (agent,) = migrated.ok("agents").json

    assert (agent["last_written_at"], agent["last_read_at"]) == (expected, expected)


def test_agents_are_listed_by_name_in_pages(engine: Engine) -> None:
    for name in ("c", "a", "агент", "B"):
        engine.insert(agent_id=name)

    whole = engine.memctl.ok("agents").json
    page = engine.memctl.ok("agents", "--limit", "2", "--offset", "1").json

    assert [agent["agent_id"] for agent in whole] == ["B", "a", "c", "агент"]
    assert page == whole[1:3]


def test_a_database_without_memories_has_no_agents(engine: Engine) -> None:
    assert engine.memctl.ok("agents").out == "[]\n"


@pytest.mark.parametrize("form", ["--json", "--table", "--csv", "--nl"])
def test_every_name_is_printed_on_a_line_of_its_own(
    migrated: Memctl, db: sqlite3.Connection, form: str
) -> None:
    for name in ODD_AGENTS:
        insert_memory(db, agent_id=name)
    db.execute("UPDATE agent_memory SET agent_id = CAST(agent_id AS TEXT)")

    answer = migrated.ok("agents", form)

    around = {"--json": 2, "--nl": 0}.get(form, 1)
    assert len(answer.out.splitlines()) == len(ODD_AGENTS) + around


def test_a_name_that_is_stored_as_text_and_as_a_blob_is_one_agent(
    migrated: Memctl, db: sqlite3.Connection
) -> None:
    insert_memory(db, agent_id="a")
    insert_memory(db, agent_id=b"a")

    (agent,) = migrated.ok("agents").json

    assert (agent["agent_id"], agent["memories"]) == ("a", 2)
