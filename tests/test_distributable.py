"""Nothing that distributed forms of PostgreSQL lack, in the tables and in the statements sent.

Every statement that changes memories names an agent, whose rows these keep together.
"""

import re
from pathlib import Path

import pytest

from memctl.cli.engines import INSTEAD
from tests.support.commands import COMMANDS
from tests.support.program import Memctl
from tests.support.servers import private_server

MIGRATIONS = Path(__file__).parent.parent / "migrations" / "postgresql"

# What Citus or CockroachDB lacks, or what a pool such as pgbouncer gives to another client.
FORBIDDEN = (
    r"\bLOCK TABLE\b",
    r"pg_(try_)?advisory",
    r"\bctid\b",
    r"\bnextval\b|\bSEQUENCE\b|\b(BIG)?SERIAL\b|\bIDENTITY\b",
    r"\bGENERATED\b",
    r"\bFOREIGN KEY\b|\bREFERENCES\b",
    r"\bCREATE (OR REPLACE )?(FUNCTION|PROCEDURE|TRIGGER|RULE)\b",
    r"\bCREATE (LOCAL |GLOBAL )?TEMP",
    r"\bLISTEN\b|\bNOTIFY\b",
    r"\bPREPARE\b|\bDECLARE\b",
    r"(\A|;)\s*SET (?!LOCAL\b|TRANSACTION\b)",
)

CHANGES_MEMORIES = re.compile(
    r"\b(UPDATE|DELETE FROM|INSERT INTO) (agent_memory|archived_memories)\b"
)


def forbidden(sql: str) -> list[str]:
    """Return the forbidden parts of a statement."""
    found = (re.search(pattern, sql, re.IGNORECASE) for pattern in FORBIDDEN)
    return [match[0] for match in found if match]


def without_comments(sql: str) -> str:
    return re.sub("--.*", "", sql)


@pytest.mark.parametrize("path", sorted(MIGRATIONS.glob("0*.sql")), ids=lambda path: path.name)
def test_the_tables_need_nothing_that_is_missing_elsewhere(path: Path) -> None:
    assert forbidden(without_comments(path.read_text())) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (id bigserial)",
        "SELECT pg_advisory_lock(1)",
        "DELETE FROM t WHERE ctid = ANY(%(ids)s)",
        "CREATE TEMPORARY TABLE t (id text)",
        "LOCK TABLE t",
        "SET search_path = public",
        "CREATE TABLE t (id text REFERENCES u (id))",
    ],
)
def test_what_is_forbidden_is_found(statement: str) -> None:
    assert forbidden(statement)


def test_the_tables_of_agents_are_distributed_by_agent() -> None:
    schema = "".join(without_comments(path.read_text()) for path in MIGRATIONS.glob("0*.sql"))
    tables = [table for table in schema.split(";") if "CREATE TABLE" in table]

    distributed = re.findall(
        r"create_distributed_table\('(\w+)', '(\w+)'", (MIGRATIONS / "distribute.sql").read_text()
    )

    of_agents = {
        re.findall(r"CREATE TABLE (\w+)", table)[0]
        for table in tables
        if "PRIMARY KEY (agent_id" in table
    }
    assert dict(distributed) == dict.fromkeys(of_agents, "agent_id")
    assert {"agent_memory", "archived_memories", "memory_events"} <= of_agents


def test_no_command_sends_a_forbidden_statement(tmp_path: Path) -> None:
    """The server's log has every statement that the commands send."""
    with private_server("log_statement=all", "log_line_prefix=@@") as server:
        memctl = Memctl(tmp_path / "unused.db", url=server.url())
        memctl.ok("migrate")
        for agent in ("build_agent", "qa_agent"):
            server.sql(
                "INSERT INTO agent_memory (id, agent_id, type, key, value, expires_at,"
                " last_accessed, created_at, access_count, importance)"
                f" SELECT id, '{agent}', 'learning', key, 'we use uv', expires_at,"
                " '2026-10-01', '2026-09-01', 9, 9 FROM (VALUES ('active', 'k', NULL),"
                " ('archived', 'old', timestamptz '2026-11-22T08:43:58Z'))"
                " AS memory (id, key, expires_at)"
            )
        seen = len((server.place / "log").read_text())
        # A rollback comes last, since the others need the tables.
        available = [words for words in COMMANDS.values() if words[0] not in INSTEAD]
        for words in sorted(available, key=lambda words: words[0] == "rollback"):
            memctl(*words)
        log = (server.place / "log").read_text()[seen:]

    sent = re.findall(r"@@LOG:  (?:statement|execute [^:]*): (.*?)(?=@@|\Z)", log, re.DOTALL)
    assert len(sent) > 100
    assert {part: sql for sql in sent for part in forbidden(without_comments(sql))} == {}
    changes = [sql for sql in sent if CHANGES_MEMORIES.search(sql)]
    assert changes
    assert [sql for sql in changes if "agent_id" not in sql] == []
    assert [
        sql
        for sql in changes
        if re.search(r"\b(UPDATE|DELETE FROM) (agent_memory|archived_memories)\b", sql)
        and not re.search(r"\bagent_id = (\$\d+|%\()", sql)
    ] == []
