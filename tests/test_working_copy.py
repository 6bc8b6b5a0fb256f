"""The private copies of rows of a server, on which the rules of SQLite run."""

from collections.abc import Iterator

import psycopg
import pytest

from memctl.storage.addresses import ServerAddress
from memctl.storage.postgresql.batches import Batch
from memctl.storage.postgresql.copied_tables import ACTIVE, ARCHIVED, PROMOTIONS, STATE
from memctl.storage.postgresql.database import Database, open_database
from memctl.storage.postgresql.working_copy import WorkingCopy
from tests.support.engines import PostgresEngine

ODD = 'it\'s 🐘, {a,b}, "c", \\d, %s, NULL'
NO_NUMBERS = 10**9  # a number of the last event that leaves room for many


@pytest.fixture
def db(on_server: PostgresEngine) -> Iterator[Database]:
    """A connection of memctl to it."""
    with open_database(ServerAddress(on_server.url)) as opened:
        yield opened


def change(db: Database, copy: WorkingCopy, statements: str, *, agent: str = "build_agent") -> None:
    """Run statements on the copies of an agent's memories, and write the result to the server."""

    def work() -> None:
        with copy.changes(Batch(agent, ["one"] * 5, NO_NUMBERS)):
            for statement in statements.split(";"):
                copy.db.execute(statement)

    db.transaction(work)


def test_rows_are_copied_as_sqlite_would_have_stored_them(
    on_server: PostgresEngine, db: Database
) -> None:
    on_server.insert(
        id="m",
        key=ODD,
        value=ODD,
        metadata="{not json",
        importance=7.25,
        access_count=3,
        last_accessed="2026-11-20 01:02:03",
        created_at="2026-11-20 01:02:03.25",
        expires_at="2026-12-01 01:02:03.5",
        importance_decay_rate=0.1,
        last_decay_at="2026-11-21 00:00:00",
    )
    on_server.insert(id="whole", key="whole", importance=7)
    copy = WorkingCopy(db)

    copy.copy(ACTIVE, "agent_id = %(agent)s", {"agent": "build_agent"})
    copy.copy(ACTIVE, "id = 'm'")  # again

    assert copy.db.execute(
        "SELECT key, value, metadata, importance, access_count, last_accessed, created_at,"
        " expires_at, archived_at, importance_decay_rate, last_decay_at FROM agent_memory"
        " WHERE id = 'm'"
    ).fetchall() == [
        (
            *(ODD, ODD, "{not json", 7.25, 3, "2026-11-20 01:02:03", "2026-11-20 01:02:03.250000"),
            *("2026-12-01T01:02:03.500Z", None, 0.1, "2026-11-21T00:00:00Z"),
        )
    ]
    whole = "SELECT typeof(importance), importance FROM agent_memory WHERE id = 'whole'"
    assert copy.db.execute(whole).fetchall() == [("integer", 7)]


def test_a_column_can_be_left_out(on_server: PostgresEngine, db: Database) -> None:
    on_server.insert(id="m", value="long")
    copy = WorkingCopy(db)

    copy.copy(ACTIVE, "TRUE", without={"value"})

    assert copy.db.execute("SELECT id, value FROM agent_memory").fetchall() == [("m", "")]


def test_changes_of_copies_are_written_to_the_rows_of_the_agent(
    on_server: PostgresEngine, db: Database
) -> None:
    for agent in ("build_agent", "qa_agent"):
        for name in ("changed", "moved", "kept"):
            on_server.insert(id=name, agent_id=agent, key=f"{name} {ODD}", value=ODD)
    on_server.insert("memory_state", key="old", value="1")
    before = on_server.rows()
    copy = WorkingCopy(db)
    copy.copy(ACTIVE, "TRUE")
    copy.copy(STATE, "TRUE")

    change(
        db,
        copy,
        """
        UPDATE agent_memory SET importance = 2.5, last_decay_at = '2026-11-22T09:43:58Z'
        WHERE agent_id = 'build_agent' AND id = 'changed';
        INSERT INTO archived_memories
            (id, agent_id, type, key, value, archived_at, archived_reason, run_id)
        SELECT id, agent_id, type, key, value, '2026-11-22T09:43:58Z', 'manual', 4
        FROM agent_memory WHERE agent_id = 'build_agent' AND id = 'moved';
        DELETE FROM agent_memory WHERE agent_id = 'build_agent' AND id = 'moved';
        INSERT INTO agent_memory (id, agent_id, type, key, value, importance, created_at)
        VALUES ('new', 'build_agent', 'learning', 'new', '', 3, '2026-11-22 09:43:58');
        INSERT INTO memory_promotions
        VALUES ('build_agent', 'learning', 'k', 'entry', 'hash', '2026-11-22T09:43:58Z');
        DELETE FROM memory_state WHERE key = 'old';
        INSERT INTO memory_state VALUES ('new', '2');
        INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, run_id)
        VALUES ('2026-11-22T09:43:58Z', 'memory:archived', 'moved', 'build_agent', 'learning', 'k',
            4)
        """,
    )

    after = {(row["agent_id"], row["id"]): row for row in on_server.rows()}
    changed = after.pop(("build_agent", "changed"))
    assert (changed["importance"], changed["last_decay_at"]) == (2.5, "2026-11-22T09:43:58Z")
    assert changed["value"] == ODD
    assert after.pop(("build_agent", "new"))["created_at"] == "2026-11-22 09:43:58"
    assert [*after.values()] == [
        row
        for row in before
        if row["agent_id"] == "qa_agent" or row["id"] not in ("changed", "moved")
    ]
    ((archived),) = on_server.rows("archived_memories")
    assert (archived["id"], archived["value"], archived["run_id"]) == ("moved", ODD, 4)
    assert [row["entry_id"] for row in on_server.rows("memory_promotions")] == ["entry"]
    assert on_server.rows("memory_state") == [{"key": "new", "value": "2"}]
    ((event),) = on_server.rows("memory_events")
    assert (event["memory_id"], event["event_id"]) == ("moved", NO_NUMBERS - 5 * 4 + 1)


def test_an_archived_memory_keeps_the_key_of_the_server(
    on_server: PostgresEngine, db: Database
) -> None:
    for name in ("first", "second"):
        on_server.insert(
            "archived_memories",
            id=name,
            agent_id="build_agent",
            type="learning",
            key=name,
            value="v",
            archived_at="2026-11-20 00:00:00",
            archived_reason="expired",
        )
    keys = dict(db.rows("SELECT id, archive_id::text FROM archived_memories"))
    copy = WorkingCopy(db)
    copy.copy(ARCHIVED, "TRUE")

    change(
        db,
        copy,
        """
        UPDATE archived_memories SET importance = 3 WHERE id = 'first';
        DELETE FROM archived_memories WHERE id = 'second'
        """,
    )

    assert db.rows("SELECT id, importance, archive_id::text FROM archived_memories") == [
        ("first", 3.0, keys["first"])
    ]
    assert (
        copy.rowids(ARCHIVED, "build_agent", [keys["first"]])
        == copy.db.execute("SELECT json_group_array(archive_id) FROM archived_memories").fetchone()[
            0
        ]
    )


def test_locked_rows_are_copied_again_and_those_that_are_gone_deleted(
    on_server: PostgresEngine, db: Database
) -> None:
    for name in ("same", "changed", "gone", "renamed"):
        on_server.insert(id=name, key=name)
    copy = WorkingCopy(db)
    copy.copy(ACTIVE, "TRUE")
    with psycopg.connect(on_server.url, autocommit=True) as client:
        client.execute("UPDATE agent_memory SET value = 'other' WHERE id = 'changed'")
        client.execute("DELETE FROM agent_memory WHERE id = 'gone'")
        client.execute("UPDATE agent_memory SET id = 'new' WHERE id = 'renamed'")
        before = copy.db.execute("SELECT rowid FROM agent_memory WHERE id = 'changed'").fetchall()

        def work() -> None:
            copy.lock(ACTIVE, "build_agent", ["same", "changed", "gone", "new"])
            client.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                client.execute("UPDATE agent_memory SET value = '' WHERE id = 'same'")

        db.transaction(work)

    found = copy.db.execute("SELECT id, key, value FROM agent_memory ORDER BY id").fetchall()
    usual = "cache the toolchain"
    assert found == [
        ("changed", "changed", "other"),
        ("new", "renamed", usual),
        ("same", "same", usual),
    ]
    after = copy.db.execute("SELECT rowid FROM agent_memory WHERE id = 'changed'").fetchall()
    assert after == before


def test_a_failed_change_leaves_the_copies_and_the_server_as_they_were(
    on_server: PostgresEngine, db: Database
) -> None:
    on_server.insert(id="m")
    before = on_server.rows()
    copy = WorkingCopy(db)
    copy.copy(ACTIVE, "TRUE")
    copied = copy.db.execute("SELECT * FROM agent_memory").fetchall()

    with pytest.raises(ZeroDivisionError):
        _fail_after_a_change(db, copy)
    change(db, copy, "UPDATE agent_memory SET importance = importance WHERE FALSE")

    assert copy.db.execute("SELECT * FROM agent_memory").fetchall() == copied
    assert on_server.rows() == before


def _fail_after_a_change(db: Database, copy: WorkingCopy) -> None:
    def work() -> None:
        with copy.changes(Batch("build_agent", ["m"], NO_NUMBERS)):
            copy.db.execute("UPDATE agent_memory SET value = 'wrong'")
            copy.db.execute("DELETE FROM agent_memory")
            raise ZeroDivisionError

    db.transaction(work)


def test_a_changed_link_replaces_that_of_the_server(
    on_server: PostgresEngine, db: Database
) -> None:
    link = {"agent_id": "build_agent", "type": "learning", "key": ODD, "content_hash": "hash"}
    for agent in ("build_agent", "qa_agent"):
        on_server.insert(
            "memory_promotions",
            **{**link, "agent_id": agent, "entry_id": "old", "promoted_at": "2026-11-20 00:00:00"},
        )
    copy = WorkingCopy(db)
    copy.copy(PROMOTIONS, "agent_id = 'build_agent'")

    change(
        db,
        copy,
        "INSERT OR REPLACE INTO memory_promotions SELECT agent_id, type, key, 'new', 'other',"
        " promoted_at FROM memory_promotions",
    )

    assert [(row["agent_id"], row["entry_id"]) for row in on_server.rows("memory_promotions")] == [
        ("build_agent", "new"),
        ("qa_agent", "old"),
    ]
