"""check on each engine, and what it finds on a PostgreSQL server."""

from typing import Any

import psycopg
import pytest

from tests.support.engines import Engine, PostgresEngine

PAST, FAR = "2026-11-01T00:00:00.000Z", "2300-01-01T00:00:00.000Z"


def codes(engine: Engine) -> set[str]:
    """Return what a check finds, without what concerns files."""
    answer = engine.memctl("check", "--json")
    document = answer.json
    found = {one["code"] for one in document["findings"] if not one["code"].endswith("backup")}
    severe = {one["severity"] for one in document["findings"]} & {"error", "warning"}
    assert (document["ok"], answer.exit_code) == (not severe, 3 if severe else 0)
    return found


def test_a_database_without_problems_has_none(engine: Engine) -> None:
    engine.insert(key="k")
    engine.memctl.ok("cleanup")

    assert codes(engine) == set()


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        pytest.param({"type": "unheard-of"}, "type_unknown", id="an unknown type"),
        pytest.param({"expires_at": FAR}, "expiry_far", id="an expiry in centuries"),
        pytest.param({"last_accessed": FAR}, "time_to_come", id="an access in the future"),
        pytest.param({"last_decay_at": FAR}, "charged_ahead", id="charged ahead"),
        pytest.param({"promoted_at": FAR}, "stamp_to_come", id="promoted in the future"),
        pytest.param({"importance": None}, "importance_no_number", id="no importance"),
    ],
)
def test_an_odd_memory_is_found(columns: dict[str, Any], code: str, engine: Engine) -> None:
    engine.insert(key="odd", **columns)

    assert codes(engine) == {code}


def test_a_long_pause_is_found(engine: Engine) -> None:
    engine.memctl.at(engine.memctl.now.replace(day=1)).ok("pause", "--reason", "deploy")

    assert codes(engine) == {"paused"}


def test_a_memory_beyond_the_scale_or_past_its_expiry_is_found(on_server: PostgresEngine) -> None:
    on_server.insert(key="odd", importance=11)
    on_server.insert(key="old", expires_at=PAST)

    assert codes(on_server) == {"importance_out_of_range", "expired_active"}
    assert on_server.memctl("check", "--nagios").exit_code == 1
    line = on_server.memctl("check", "--nagios").out
    assert line.startswith(
        "MEMCTL WARNING - memories whose importance is not from 0 to 10: 1, such"
    )


def test_a_crashed_job_is_found_and_counted_for_prometheus(on_server: PostgresEngine) -> None:
    on_server.insert(
        "memory_runs",
        run_id=1,
        job="decay",
        started_at="2026-11-22T08:43:58Z",
        status="running",
        complete=False,
        memctl_version="1",
        host="host2",
        pid=1,
    )

    assert codes(on_server) == {"failing", "crashed"}
    severities = [one["severity"] for one in on_server.memctl("check", "--json").json["findings"]]
    metrics = on_server.memctl.ok("metrics", "--prometheus").out
    for severity in ("error", "warning", "info"):
        assert f'severity="{severity}"}} {severities.count(severity)}\n' in metrics


@pytest.mark.parametrize(
    ("damage", "repair", "named"),
    [
        pytest.param(
            "DROP INDEX memctl_expires_at",
            "CREATE INDEX memctl_expires_at ON agent_memory (agent_id, expires_at)",
            "index memctl_expires_at",
            id="an index",
        ),
        pytest.param(
            "ALTER TABLE agent_memory DROP CONSTRAINT agent_memory_agent_id_type_key_key",
            "ALTER TABLE agent_memory ADD UNIQUE (agent_id, type, key)",
            "UNIQUE (agent_id, type, key) of agent_memory",
            id="a constraint",
        ),
        pytest.param(
            "ALTER TABLE memory_state RENAME TO elsewhere",
            "ALTER TABLE elsewhere RENAME TO memory_state",
            "table memory_state",
            id="a table",
        ),
    ],
)
def test_a_missing_object_is_found(
    damage: str, repair: str, named: str, on_server: PostgresEngine
) -> None:
    with psycopg.connect(on_server.url, autocommit=True) as db:
        db.execute(damage)
        try:
            answer = on_server.memctl("check", "--json")
        finally:
            db.execute(repair)

    (finding,) = answer.json["findings"]
    assert (answer.exit_code, finding["severity"], finding["code"]) == (
        3,
        "error",
        "objects_missing",
    )
    assert finding["message"] == f"the database lacks {named}"


def test_a_pending_step_is_found(on_server: PostgresEngine) -> None:
    on_server.memctl.ok("rollback", "--yes")
    try:
        answer = on_server.memctl("check", "--json")
    finally:
        on_server.memctl.ok("migrate")

    assert answer.exit_code == 3
    assert [one["code"] for one in answer.json["findings"]] == ["schema"]
    assert answer.json["memories"] is None
