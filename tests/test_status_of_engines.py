"""status on each engine."""

import os

import psycopg
import pytest

from memctl.storage.addresses import ServerAddress
from tests.support.engines import Engine, PostgresEngine
from tests.support.program import Memctl


def test_memories_pauses_and_jobs_are_shown(engine: Engine) -> None:
    engine.insert(key="kept")
    engine.insert(key="old", expires_at="2026-11-22T08:43:58.000Z")
    engine.memctl.ok("cleanup")
    engine.memctl.ok("pause", "--for", "2h", "--reason", "deploy")

    document = engine.memctl.ok("status", "--json").json
    text = engine.memctl.ok("status").out

    assert (document["memories"], document["archived"], document["pending"]) == (1, 1, [])
    assert document["problem"] is None
    assert document["paused"]["reason"] == "deploy"
    assert [(run["job"], run["run_id"], run["status"]) for run in document["jobs"]] == [
        ("cleanup", 1, "ok")
    ]
    assert ", current\n" in text
    assert ": deploy\n" in text


def test_a_server_has_no_files_but_a_process_that_runs(on_server: PostgresEngine) -> None:
    with psycopg.connect(on_server.url, autocommit=True) as db:
        db.execute(
            "INSERT INTO memory_leases VALUES ('memctl', gen_random_uuid(), 'decay', 'host2', 42,"
            " now() + interval '1 minute', 0)"
        )

    document = on_server.memctl.ok("status", "--json").json
    text = on_server.memctl.ok("status").out

    assert document.pop("storage").pop("size_bytes") > 1_000_000
    assert document == {
        "schema": 1,
        "database": on_server.url,
        "schema_step": 2,
        "pending": [],
        "problem": None,
        "memories": 0,
        "archived": 0,
        "features": [],
        "jobs": [],
        "paused": None,
        "running": {"job": "decay", "host": "host2", "pid": 42},
    }
    assert "decay (process 42 on host2)" in text


def test_a_password_is_not_shown(on_server: PostgresEngine) -> None:
    url = on_server.url.replace("memctl@", "memctl:s3cret@")
    memctl = Memctl(on_server.memctl.database, url=url)

    for words in (("status",), ("status", "--json"), ("config", "show")):
        answer = memctl.ok(*words)
        assert "s3cret" not in answer.out + answer.err
        assert str(ServerAddress(on_server.url)) in answer.out


@pytest.mark.parametrize("to", [0, 1])
def test_a_database_that_is_not_migrated_is_described(to: int, on_server: PostgresEngine) -> None:
    try:
        on_server.memctl.ok("rollback", "--to", str(to), "--yes")
        document = on_server.memctl.ok("status", "--json").json
        text = on_server.memctl.ok("status").out
    finally:
        on_server.memctl.ok("migrate")

    assert document["schema_step"] == to
    assert document["pending"] == ["001_agent_memory", "002_memory_persistence"][to:]
    assert (document["memories"], document["archived"]) == (0 if to else None, None)
    assert "pending: " in text


def test_a_changed_schema_is_a_problem(on_server: PostgresEngine) -> None:
    change = (
        "UPDATE memctl_migrations SET sha256 = overlay(sha256 placing %s from 1) WHERE version = 2"
    )
    with psycopg.connect(on_server.url, autocommit=True) as db:
        ((was,),) = db.execute("SELECT left(sha256, 1) FROM memctl_migrations WHERE version = 2")
        db.execute(change, ("x",))
        try:
            answer = on_server.memctl.ok("status", "--json")
        finally:
            db.execute(change, (was,))

    assert "was changed after it was applied" in answer.json["problem"]


def test_a_crashed_run_is_shown_as_crashed(on_server: PostgresEngine) -> None:
    on_server.insert(
        "memory_runs",
        run_id=1,
        job="decay",
        started_at="2026-11-22T08:43:58Z",
        status="running",
        complete=False,
        memctl_version="1",
        host="host2",
        pid=os.getpid(),
    )

    (run,) = on_server.memctl.ok("status", "--json").json["jobs"]

    assert (run["job"], run["status"], run["started_at"]) == (
        "decay",
        "crashed",
        "2026-11-22T08:43:58Z",
    )
