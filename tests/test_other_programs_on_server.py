"""What other programs do to the tables on a server: added columns, rules and triggers, odd values.

Nothing is lost, and each error is one line.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from memctl import AgentMemory
from memctl.errors import SchemaError
from tests.support.engines import PostgresEngine, server_database
from tests.support.program import Memctl, complaint

PAST = "2020-01-01 00:00:00"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresEngine]:
    """A migrated database whose tables a test may change, with one expired memory."""
    with server_database("others") as url:
        engine = PostgresEngine(Memctl(tmp_path / "unused.db", url=url), url)
        engine.memctl.ok("migrate")
        engine.insert(id="m1", agent_id="a", type="context", key="k", expires_at=f"{PAST}Z")
        yield engine


def count(server: PostgresEngine) -> list[int]:
    """Return how many memories are active and archived."""
    with psycopg.connect(server.url) as db:
        return [
            db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index]
            for table in ("agent_memory", "archived_memories")
        ]


@pytest.mark.parametrize(
    "command",
    [
        ("cleanup",),
        ("run",),
        ("forget", "a", "context", "k"),
        ("remember", "a", "context", "k", "v"),
    ],
    ids=" ".join,
)
def test_a_column_whose_values_archiving_would_lose_is_refused(
    command: tuple[str, ...], server: PostgresEngine
) -> None:
    server.execute("ALTER TABLE agent_memory ADD COLUMN tenant text DEFAULT 'acme'")

    answer = server.memctl(*command)

    assert answer.exit_code == 12
    assert "agent_memory has unknown column tenant" in complaint(answer)
    assert count(server) == [1, 0]
    assert "unknown column tenant" in server.memctl.ok("status", "--json").json["problem"]


def test_a_column_that_is_added_while_a_program_works_is_refused(server: PostgresEngine) -> None:
    with AgentMemory(server.url) as memory:
        server.execute("ALTER TABLE agent_memory ADD COLUMN tenant text DEFAULT 'acme'")

        with pytest.raises(SchemaError, match="unknown column tenant"):
            memory.forget("a", "context", "k")

    assert count(server) == [1, 0]


def test_a_missing_column_is_named(server: PostgresEngine) -> None:
    server.execute("ALTER TABLE agent_memory DROP COLUMN import_order")

    answer = server.memctl("cleanup")

    assert answer.exit_code == 12
    assert "agent_memory lacks import_order" in complaint(answer)


RAISES = "BEGIN RAISE EXCEPTION 'not here'; END"
SKIPS = "BEGIN RETURN NULL; END"


def trigger(body: str, event: str) -> str:
    return f"""
        CREATE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $${body}$$;
        CREATE TRIGGER interfere BEFORE {event} FOR EACH ROW EXECUTE FUNCTION interfere()
    """


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("CREATE RULE keep AS ON DELETE TO agent_memory DO INSTEAD NOTHING", id="rule"),
        pytest.param(trigger(RAISES, "DELETE ON agent_memory"), id="trigger that raises"),
        pytest.param(trigger(SKIPS, "INSERT ON archived_memories"), id="trigger that skips"),
        pytest.param("ALTER TABLE archived_memories ADD CHECK (importance < 3)", id="check"),
        pytest.param(
            "CREATE TABLE child (a text, m text, FOREIGN KEY (a, m) REFERENCES agent_memory);"
            " INSERT INTO child VALUES ('a', 'm1')",
            id="foreign key",
        ),
        pytest.param(
            "ALTER TABLE agent_memory ALTER COLUMN importance TYPE text", id="another type"
        ),
        pytest.param("DROP TABLE memory_events", id="missing table"),
    ],
)
def test_what_prevents_a_job_is_named_in_one_line(statement: str, server: PostgresEngine) -> None:
    server.execute(statement)

    answer = server.memctl("cleanup")

    assert answer.exit_code == 12
    assert complaint(answer).startswith("memctl: ")
    assert count(server) == [1, 0]


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(trigger(SKIPS, "UPDATE ON agent_memory"), id="trigger"),
        pytest.param("CREATE RULE more AS ON INSERT TO agent_memory DO NOTIFY x", id="rule"),
        pytest.param(
            "ALTER TABLE agent_memory DROP CONSTRAINT agent_memory_agent_id_type_key_key", id="key"
        ),
    ],
)
def test_what_prevents_a_memory_from_being_replaced_is_named(
    statement: str, server: PostgresEngine
) -> None:
    server.execute(statement)

    answer = server.memctl("remember", "a", "context", "k", "new")

    assert answer.exit_code == 12
    assert complaint(answer).startswith("memctl: ")
    assert [row["value"] for row in server.rows()] != ["new"]
    assert count(server) == [1, 0]


def test_what_prevents_a_restore_is_named_in_one_line(server: PostgresEngine) -> None:
    server.execute("UPDATE agent_memory SET value = repeat('v', 5000000)")  # still being sent
    server.memctl.ok("archive", "a", "m1")
    server.execute(trigger(RAISES, "DELETE ON archived_memories"))

    answer = server.memctl("restore", "a", "m1")

    assert answer.exit_code == 12
    assert "prevents this (not here)" in complaint(answer)
    assert count(server) == [0, 1]


ODD_TIMES = {
    "infinity": ("infinity",) * 2,
    "-infinity": ("-infinity",) * 2,
    "0044-03-15 12:00:00Z BC": ("0044-03-15 12:00:00.000000Z BC",) * 2,
    "20000-01-01 00:00:00Z": ("20000-01-01 00:00:00", "20000-01-01T00:00:00.000Z"),
}


def times(server: PostgresEngine) -> Any:
    """Return the stored times of the memory."""
    with psycopg.connect(server.url, options="-c timezone=UTC") as db:
        return db.execute(
            "SELECT created_at::text, last_accessed::text, expires_at::text FROM agent_memory"
        ).fetchone()


@pytest.mark.parametrize("stored", ODD_TIMES)
def test_a_time_that_sqlite_does_not_have_is_shown_and_kept(
    stored: str, server: PostgresEngine
) -> None:
    server.execute("UPDATE agent_memory SET created_at = ?, last_accessed = ?", stored, stored)
    server.execute("UPDATE agent_memory SET expires_at = ?", stored)
    before = times(server)

    (shown,) = server.memctl.ok("list", "--all").json
    server.memctl.ok("archive", "a", "m1")
    server.memctl.ok("restore", "a", "m1")

    written, expires = ODD_TIMES[stored]
    assert (shown["created_at"], shown["last_accessed"]) == (written, written)
    assert shown["expires_at"] == expires
    assert times(server) == before


def test_an_importance_that_is_no_number_is_shown(server: PostgresEngine) -> None:
    server.execute("UPDATE agent_memory SET importance = 'NaN'")

    (shown,) = server.memctl.ok("list", "--all").json

    assert shown["importance"] == {"real": "nan"}


def test_a_count_of_accesses_that_cannot_increase_is_reported(server: PostgresEngine) -> None:
    server.execute("UPDATE agent_memory SET access_count = 9223372036854775807")

    answer = server.memctl("recall", "a", "context", "k")

    assert answer.exit_code == 1
    assert "a number in" in complaint(answer)
    assert "bigint out of range" in complaint(answer)


def test_a_cancelled_statement_names_the_limit(server: PostgresEngine) -> None:
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute(f"ALTER DATABASE {db.info.dbname} SET statement_timeout = '300ms'")
    with psycopg.connect(server.url) as db:
        db.execute("LOCK TABLE memory_runs")
        answer = server.memctl("runs")

    assert answer.exit_code == 1
    assert "increase statement_timeout" in complaint(answer)


def test_an_export_of_all_does_not_omit_rows_that_a_policy_hides(
    server: PostgresEngine, tmp_path: Path
) -> None:
    server.insert(agent_id="b", type="context", key="k")
    role = f"partner_{os.getpid()}"
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute(f"CREATE ROLE {role} LOGIN")
        try:
            db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
            db.execute("ALTER TABLE agent_memory ENABLE ROW LEVEL SECURITY")
            db.execute("CREATE POLICY own ON agent_memory USING (agent_id = 'a')")
            partner = Memctl(
                tmp_path / "unused.db", url=server.url.replace("//memctl@", f"//{role}@")
            )
            answer = partner("export", "--all")
            of_agent = partner.ok("export", "a").json
        finally:
            db.execute(f"DROP OWNED BY {role}")
            db.execute(f"DROP ROLE {role}")

    assert answer.exit_code == 1
    assert "would be affected by row-level security policy" in complaint(answer)
    assert [row["id"] for row in of_agent["active"]] == ["m1"]
