"""migrate and rollback on a PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.engines import server_database
from tests.support.processes import eventually
from tests.support.program import Memctl, complaint

STEPS = ["001_agent_memory", "002_memory_persistence"]
TABLES = {
    "agent_memory",
    "archived_memories",
    "memctl_migrations",
    "memory_analytics",
    "memory_events",
    "memory_leases",
    "memory_promotions",
    "memory_runs",
    "memory_state",
}


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of an empty database."""
    with server_database("schema") as found:
        yield found


@pytest.fixture
def server(url: str, tmp_path: Path) -> Memctl:
    """The program, pointed at the empty database."""
    return Memctl(tmp_path / "unused.db", url=url)


def run_sql(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as db:
        found = db.execute(statement)
        return found.fetchall() if found.description else []


def tables(url: str) -> set[str]:
    """Return the relations that are neither the system's nor indexes."""
    found = run_sql(
        url,
        "SELECT relname::text FROM pg_class JOIN pg_namespace AS place ON place.oid = relnamespace"
        " WHERE relkind <> 'i' AND nspname !~ '^pg_' AND nspname <> 'information_schema'",
    )
    return {name for (name,) in found}


def remember(url: str, table: str = "agent_memory", *, key: str = "k") -> None:
    """Insert a memory with the columns that must have a value."""
    archived = table == "archived_memories"
    more = ", archive_id, archived_at, archived_reason" if archived else ""
    values = ", gen_random_uuid(), now(), 'manual'" if archived else ""
    run_sql(
        url,
        f"INSERT INTO {table} (id, agent_id, type, key, value{more})"
        f" VALUES ('{key}', 'a', 'learning', '{key}', 'v'{values})",
    )


def test_migrate_makes_the_tables_and_then_has_nothing_to_do(server: Memctl, url: str) -> None:
    first = server.ok("migrate", "--no-backup", "--json").json
    second = server.ok("migrate", "--json").json

    assert tables(url) == TABLES
    assert first == {
        "schema": 1,
        "database": url,
        "schema_step": 2,
        "applied": STEPS,
        "created": False,
        "baseline": False,
        "backup": None,
        "triggers": [],
        "dry_run": False,
    }
    assert second == {**first, "applied": []}


def test_steps_are_applied_and_listed_one_by_one(server: Memctl, url: str) -> None:
    assert server("migrate", "--exit-code").exit_code == 12
    server.ok("migrate", "--to", "1")
    listed = server.ok("migrate", "--list", "--json").json
    run_sql(
        url,
        "CREATE TRIGGER theirs BEFORE UPDATE ON agent_memory"
        " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    )
    preview = server.ok("migrate", "--dry-run")
    said = server.ok("migrate").err.splitlines()

    assert [(row["schema_step"], row["state"], row["baseline"]) for row in listed] == [
        (1, "applied", False),
        (2, "pending", None),
    ]
    assert preview.err.splitlines()[:2] == [
        "migrate: would make no backup: on a server, use pg_dump",
        f"migrate: would apply 002_memory_persistence to {url}",
    ]
    assert said == [
        f"migrate: applied 002_memory_persistence to {url}",
        "migrate: the first `memctl decay` will charge all idle time up to now; preview it with"
        " --dry-run, or set `since` under [decay] in the configuration",
        "migrate: triggers of other programs also fire on changes by memctl: theirs",
        "migrate: made no backup: on a server, use pg_dump",
    ]
    assert server.ok("migrate", "--exit-code").out == ""


def test_a_preview_names_what_is_added_and_changes_nothing(server: Memctl, url: str) -> None:
    preview = server.ok("migrate", "--dry-run", "--json").json
    assert tables(url) == set()
    server.ok("migrate")

    kinds = [added.split() for added in preview["adds"]]
    assert {name for kind, name in kinds if kind == "table"} == TABLES - {"memctl_migrations"}
    indexes = run_sql(
        url,
        "SELECT indexname::text FROM pg_indexes"
        " WHERE schemaname = 'public' AND indexname !~ '_(key|pkey)$'",
    )
    assert {name for kind, name in kinds if kind == "index"} == {name for (name,) in indexes}


def test_the_sql_is_in_the_files(server: Memctl) -> None:
    for command in ("migrate", "rollback"):
        answer = server(command, "--sql")

        assert (answer.exit_code, complaint(answer)) == (
            2,
            f"memctl: `memctl {command} --sql` is not available on PostgreSQL; see the folder"
            " migrations/postgresql of the source",
        )


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("CREATE TABLE agent_memory (id text)", id="the table of memories"),
        pytest.param("CREATE TABLE memory_state (id text)", id="a table of the second step"),
        pytest.param("CREATE VIEW memory_runs AS SELECT 1 AS one", id="a view"),
        pytest.param(
            "CREATE TABLE t (id text); CREATE INDEX memctl_expires_at ON t (id)", id="an index"
        ),
        pytest.param("CREATE TYPE agent_memory AS ENUM ('a')", id="a type"),
    ],
)
def test_what_another_program_has_made_is_not_taken_over(
    statement: str, server: Memctl, url: str
) -> None:
    run_sql(url, statement)
    before = tables(url)

    answer, preview = server("migrate"), server("migrate", "--dry-run")

    assert answer.exit_code == 12
    assert complaint(answer).endswith(
        "rename it, or use another database or schema; nothing was changed"
    )
    assert tables(url) == before
    if "TYPE" not in statement:
        assert preview == answer


def test_several_processes_migrate_at_once(server: Memctl, url: str) -> None:
    started = [server.start("migrate") for _ in range(4)]

    ended = [(process.communicate()[1].decode(), process.returncode) for process in started]

    assert [code for _, code in ended] == [0, 0, 0, 0], ended
    assert tables(url) == TABLES
    assert sum(step in said for said, _ in ended for step in STEPS) == 2


@pytest.mark.parametrize("name", ["memctl_migrations", "agent_memory", "archived_memories"])
def test_a_killed_migration_is_completed_by_the_next(name: str, server: Memctl, url: str) -> None:
    """Another session has used the name in its transaction, for which the step waits."""
    with psycopg.connect(url) as other:
        other.execute(f"CREATE TABLE {name} (id text)")
        process = server.start("migrate")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: run_sql(url, waiting) == [(1,)])
        process.kill()
        process.communicate()
        other.rollback()

    server.ok("migrate")

    assert tables(url) == TABLES


def test_a_newer_or_changed_step_is_refused(server: Memctl, url: str) -> None:
    server.ok("migrate")
    run_sql(url, "UPDATE memctl_migrations SET sha256 = 'other' WHERE version = 2")
    for words in (("migrate",), ("migrate", "--list"), ("rollback",), ("cleanup",)):
        answer = server(*words)
        assert answer.exit_code == 12
        assert "step 002 (memory_persistence) was changed after it was applied" in answer.err

    run_sql(url, "UPDATE memctl_migrations SET version = 4, name = 'later' WHERE version = 2")
    for words in (("migrate",), ("migrate", "--list"), ("rollback", "--yes"), ("cleanup",)):
        answer = server(*words)
        assert answer.exit_code == 12
        assert "the database is newer than this program: upgrade memctl" in answer.err
    assert tables(url) == TABLES


def test_a_user_without_permission_is_told(server: Memctl, url: str, tmp_path: Path) -> None:
    name = f"reader_{url.rpartition('_')[2]}"
    run_sql(url, f"CREATE ROLE {name} LOGIN")
    try:
        reader = Memctl(tmp_path / "unused.db", url=url.replace("//memctl@", f"//{name}@"))
        answer = reader("migrate")

        assert answer.exit_code == 1
        assert "the user has no permission for this" in complaint(answer)
        assert tables(url) == set()
    finally:
        run_sql(url, f"DROP ROLE {name}")


def test_the_tables_are_made_in_the_first_schema_of_the_path(
    server: Memctl, url: str, tmp_path: Path
) -> None:
    there = f"{url}?options=-c%20search_path%3Dagents"
    elsewhere = Memctl(tmp_path / "unused.db", url=there)
    missing = elsewhere("migrate")
    run_sql(url, "CREATE SCHEMA agents")
    elsewhere.ok("migrate")

    assert (missing.exit_code, missing.err.count("\n")) == (12, 1)
    assert "none of the schemas in the search_path" in missing.err
    assert elsewhere.ok("migrate", "--exit-code").err == ""
    assert server("migrate", "--exit-code").exit_code == 12
    assert run_sql(there, "SELECT 'agents.agent_memory'::regclass::text") == [("agent_memory",)]


def test_a_rollback_keeps_the_memories_and_can_be_undone(server: Memctl, url: str) -> None:
    server.ok("migrate")
    remember(url)

    rolled_back = server.ok("rollback", "--json").json
    refused = server("rollback", "--to", "0")
    server.ok("migrate")

    assert rolled_back == {
        "schema": 1,
        "database": url,
        "schema_step": 1,
        "rolled_back": ["002_memory_persistence"],
        "backup": None,
        "archived_in_backup": 0,
        "tombstones": 0,
        "archive_command": None,
        "dry_run": False,
        "archived_deleted": 0,
        "days_deleted": 0,
    }
    assert refused.exit_code == 3
    assert complaint(refused) == (
        "memctl: step 001 cannot be rolled back: agent_memory contains memories; `memctl rollback"
        " --to 1` rolls back the other steps; to remove all, export them with `memctl export"
        " --all`, and then delete them with SQL; nothing was changed"
    )
    assert run_sql(url, "SELECT key FROM agent_memory") == [("k",)]


def test_archived_memories_and_figures_are_not_dropped_without_confirmation(
    server: Memctl, url: str
) -> None:
    server.ok("migrate")
    for key in ("one", "two"):
        remember(url, "archived_memories", key=key)
    run_sql(
        url,
        "INSERT INTO memory_analytics SELECT '2026-11-21', 'a', 'learning', now(), now(), 0, 0, 0,"
        " 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
    )

    refused = server("rollback", "--to", "0")
    preview = server.ok("rollback", "--to", "0", "--dry-run")
    assert tables(url) == TABLES
    confirmed = server.ok("rollback", "--to", "0", "--yes")

    lost = "2 archived memories and the figures of 1 day"
    assert refused.exit_code == 3
    assert complaint(refused) == (
        f"memctl: {lost} would be deleted; first run `memctl export --all --archived-only`, or"
        " make a copy with pg_dump; then confirm with --yes; nothing was changed"
    )
    assert f"rollback: would require --yes: {lost} would be deleted\n" in preview.err
    assert confirmed.err.splitlines() == [
        "rollback: rolled back 002_memory_persistence, 001_agent_memory",
        f"rollback: deleted {lost}",
    ]


def test_a_full_rollback_leaves_nothing(server: Memctl, url: str) -> None:
    run_sql(url, "CREATE TABLE theirs (id text)")
    server.ok("migrate")

    preview = server.ok("rollback", "--steps", "5", "--dry-run", "--json").json
    server.ok("rollback", "--steps", "5")
    again = server.ok("rollback")

    assert preview["rolled_back"] == STEPS[::-1]
    assert tables(url) == {"theirs"}
    assert again.err == f"rollback: {url} has no steps to roll back\n"
    assert server("rollback", "--to", "7").exit_code == 0
    server.ok("migrate")


def test_a_rollback_waits_for_the_running_job(server: Memctl, url: str) -> None:
    server.ok("migrate")
    run_sql(
        url,
        "INSERT INTO memory_leases VALUES ('memctl', gen_random_uuid(), 'decay', 'elsewhere', 1,"
        " now() + interval '1 minute', 0)",
    )

    answer = server("rollback", "--lock-wait", "0")

    assert answer.exit_code == 11
    assert "another memctl process is using this database: decay" in complaint(answer)
    assert tables(url) == TABLES


def test_a_memory_that_is_written_during_a_rollback_is_kept(server: Memctl, url: str) -> None:
    server.ok("migrate")
    with psycopg.connect(url) as writer:
        writer.execute(
            "INSERT INTO agent_memory (id, agent_id, type, key, value) VALUES ('1','a','t','k','v')"
        )
        process = server.start("rollback", "--to", "0")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: run_sql(url, waiting) == [(1,)])
        writer.commit()
        said = process.communicate()[1].decode()

    assert (process.returncode, "agent_memory contains memories" in said) == (3, True)
    assert tables(url) == TABLES


def test_a_database_that_does_not_store_utf_8_is_refused(url: str, tmp_path: Path) -> None:
    name = f"{url.rpartition('/')[2]}_latin1"
    run_sql(
        url,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    try:
        answer = Memctl(tmp_path / "unused.db", url=url.rpartition("/")[0] + f"/{name}")("migrate")
    finally:
        run_sql(url, f"DROP DATABASE {name}")

    assert answer.exit_code == 12
    assert "the database stores text as LATIN1, but memctl requires UTF8" in complaint(answer)
