"""Promotion on a server: a foreign knowledge base, and what other programs do meanwhile."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.errors import LockedError
from memctl.jobs.engine import JobRequest, perform
from memctl.jobs.promote import PromoteResult, Promotion, promote
from memctl.storage.addresses import ServerAddress
from memctl.storage.postgresql.knowledge import CREATE_KNOWLEDGE_BASE, PostgresKnowledgeBase
from tests.support.engines import TABLES, PostgresEngine
from tests.support.program import NOW

TEN = "one two three four five six seven eight nine ten"
NEARLY_TEN = "one two three four five six seven eight nine eleven"  # 9 of 11 words in common

# Under another isolation level, the server may refuse what was changed since a transaction began.
REPEATABLE = "?options=-c%20default_transaction_isolation%3Drepeatable%5C%20read"


@pytest.fixture
def server(on_server: PostgresEngine) -> PostgresEngine:
    """A database with an empty knowledge base."""
    change(on_server, CREATE_KNOWLEDGE_BASE)
    return on_server


def change(server: PostgresEngine, statement: str) -> None:
    """Run a statement as another program does."""
    with psycopg.connect(server.url, autocommit=True) as client:
        client.execute(statement)


def add_memory(server: PostgresEngine, **columns: Any) -> str:
    """Write a memory that just meets all conditions."""
    return server.insert(
        **{
            "value": TEN,
            "importance": 8,
            "access_count": 5,
            "created_at": "2026-11-08 09:43:58",
            "last_accessed": "2026-11-15 09:43:58",
            **columns,
        }
    )


def add_entry(server: PostgresEngine, entry_id: str, content: str) -> None:
    """Write an entry of another agent."""
    entry = {"id": entry_id, "type": "pattern", "content": content, "source_agent_id": "spec_agent"}
    server.insert("knowledge_entries", **entry)


def run(server: PostgresEngine, options: str = "") -> PromoteResult:
    """Run promote at NOW and return its result."""
    request = JobRequest(ServerAddress(server.url + options), NOW)
    result = perform("promote", lambda job: promote(job, PromotePolicy(), DecayPolicy()), request)
    assert result.result is not None
    return result.result


def entries(server: PostgresEngine) -> list[tuple[Any, ...]]:
    """Return content, confidence, occurrences and agent of the entries that hold."""
    return sorted(
        (row["content"], row["confidence"], row["occurrences"], row["source_agent_id"])
        for row in server.rows("knowledge_entries")
        if row["superseded_by"] is None
    )


def everything(server: PostgresEngine) -> dict[str, Any]:
    """Return the rows of all tables but those of runs and of the lease."""
    tables = {*TABLES} - {"memory_runs", "memory_leases"}
    with psycopg.connect(server.url) as client:
        knowledge = client.execute("SELECT entry::text FROM knowledge_entries AS entry").fetchall()
    return {**{table: server.rows(table) for table in tables}, "knowledge_entries": knowledge}


@pytest.mark.parametrize(
    ("foreign", "difference"),
    [
        pytest.param(
            "CREATE TABLE knowledge_entries (id text PRIMARY KEY, title text)",
            "it lacks the column action_types",
            id="other columns",
        ),
        pytest.param(
            f"{CREATE_KNOWLEDGE_BASE}; ALTER TABLE knowledge_entries ADD title text",
            "it has the column title",
            id="an additional column",
        ),
        pytest.param(
            f"{CREATE_KNOWLEDGE_BASE}; ALTER TABLE knowledge_entries ALTER created_at"
            " DROP DEFAULT, ALTER created_at TYPE text",
            "the type of its column created_at is text, not timestamptz",
            id="another type",
        ),
        pytest.param(
            f"{CREATE_KNOWLEDGE_BASE}; ALTER TABLE knowledge_entries"
            " DROP CONSTRAINT knowledge_entries_pkey, ADD PRIMARY KEY (source_agent_id, id)",
            "its primary key is not id",
            id="another primary key",
        ),
        pytest.param(
            "CREATE TABLE knowledge_entries (id text PRIMARY KEY) PARTITION BY HASH (id)",
            "it is not an ordinary table",
            id="a partitioned table",
        ),
    ],
)
def test_a_table_of_another_product_is_refused_and_unchanged(
    on_server: PostgresEngine, foreign: str, difference: str
) -> None:
    add_memory(on_server)
    change(on_server, foreign)
    before = everything(on_server)

    previewed = on_server.memctl("promote", "--dry-run", "--list")
    answer = on_server.memctl("promote")

    assert (previewed.exit_code, previewed.out, answer.exit_code, answer.out) == (3, "", 3, "")
    assert (
        answer.err
        == previewed.err
        == (
            f"memctl: knowledge_entries does not have the expected definition: {difference}; "
            "it belongs to another product, and promote cannot use it; nothing was changed\n"
        )
    )
    runs = [(row["job"], row["status"]) for row in on_server.rows("memory_runs")]
    assert runs == [("promote", "refused")]
    assert everything(on_server) == before


def test_an_entry_that_a_constraint_rejects_is_an_error_of_one_line(
    server: PostgresEngine,
) -> None:
    add_memory(server)
    change(server, "ALTER TABLE knowledge_entries ADD CONSTRAINT short CHECK (length(content) < 9)")
    before = everything(server)

    answer = server.memctl("promote")

    assert (answer.exit_code, answer.out) == (3, "")
    assert answer.err == (
        "memctl: knowledge_entries rejects a change by promote (new row for relation"
        ' "knowledge_entries" violates check constraint "short"); change its constraint or'
        " trigger; the interrupted step was rolled back\n"
    )
    assert everything(server) == before


@pytest.mark.parametrize(
    ("meanwhile", "left"),
    [
        pytest.param(
            "DELETE FROM knowledge_entries", [(TEN, 0.65, 1, "build_agent")], id="deleted"
        ),
        pytest.param(
            "UPDATE knowledge_entries SET superseded_by = 'x'",
            [(TEN, 0.65, 1, "build_agent")],
            id="superseded",
        ),
        pytest.param(
            "UPDATE knowledge_entries SET content = 'of late'",
            [("of late", 0.5, 1, "spec_agent"), (TEN, 0.65, 1, "build_agent")],
            id="rewritten",
        ),
        pytest.param(
            "UPDATE knowledge_entries SET confidence = 0.7, occurrences = 5",
            [(NEARLY_TEN, pytest.approx(0.8), 6, "spec_agent")],
            id="confirmed by another program",
        ),
    ],
)
def test_what_another_program_does_to_an_entry_after_the_search_is_kept(
    server: PostgresEngine, monkeypatch: pytest.MonkeyPatch, meanwhile: str, left: list[Any]
) -> None:
    add_entry(server, "first", NEARLY_TEN)
    add_memory(server)
    prepare = Promotion.prepare

    def prepare_and_change(promotion: Promotion, rowids: list[int]) -> None:
        prepare(promotion, rowids)
        change(server, meanwhile)

    monkeypatch.setattr(Promotion, "prepare", prepare_and_change)

    run(server)

    assert entries(server) == left


def test_after_a_serialization_failure_the_next_run_completes_the_work(
    server: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_entry(server, "first", NEARLY_TEN)
    add_memory(server, agent_id="a", id="before", key="before", value="something else")
    add_memory(server)
    prepare: Callable[..., object] = Promotion.prepare
    content_if_it_holds = PostgresKnowledgeBase.content_if_it_holds

    def change_and_read(knowledge: PostgresKnowledgeBase, number: int) -> str | None:
        change(
            server,
            "UPDATE knowledge_entries SET occurrences = occurrences + 1 WHERE id = 'first'",
        )
        return content_if_it_holds(knowledge, number)

    def prepare_and_interfere(promotion: Promotion, rowids: list[int]) -> None:
        prepare(promotion, rowids)
        monkeypatch.setattr(PostgresKnowledgeBase, "content_if_it_holds", change_and_read)

    with monkeypatch.context() as during_first_run:
        during_first_run.setattr(Promotion, "prepare", prepare_and_interfere)
        with pytest.raises(LockedError, match="changes the same memories or entries") as failed:
            run(server, REPEATABLE)
    monkeypatch.undo()
    first = entries(server)
    done = run(server, REPEATABLE)

    assert failed.value.exit_code == 11
    assert first == [
        (NEARLY_TEN, 0.5, 2, "spec_agent"),
        ("something else", 0.65, 1, "a"),
    ]
    assert (done.promoted, done.merged) == (0, 1)
    assert entries(server) == [
        (NEARLY_TEN, 0.6, 3, "spec_agent"),
        ("something else", 0.65, 1, "a"),
    ]
    assert [row["status"] for row in server.rows("memory_runs")] == ["failed", "ok"]
