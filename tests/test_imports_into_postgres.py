"""Imports into PostgreSQL: what it cannot store, and other programs at the same time."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from memctl.errors import DocumentError
from memctl.storage.postgresql import batches
from memctl.storage.postgresql.documents import PostgresDocuments
from tests.support.documents import (
    Text,
    copy_of,
    export_from,
    import_into,
    memory,
    put,
    without_time,
)
from tests.support.engines import PostgresEngine
from tests.support.odd_values import ODDITIES
from tests.support.program import Memctl, complaint

REFUSED = {
    "invalid UTF-8": [
        "key: is invalid UTF-8, which PostgreSQL cannot store",
        "value: is invalid UTF-8, which PostgreSQL cannot store",
    ],
    "NUL inside": [
        "key: contains NUL, which PostgreSQL cannot store",
        "value: contains NUL, which PostgreSQL cannot store",
    ],
    "a BLOB": ["value: must be text"],
    "importance in words": ["importance: must be a number, and not too large, for PostgreSQL"],
    "empty importance": ["importance: must be a number, and not too large, for PostgreSQL"],
    "a far year": ["expires_at: must be a time in the years 1 to 9999 for PostgreSQL"],
    "an expiry that is no time": [
        "expires_at: must be a time in the years 1 to 9999 for PostgreSQL"
    ],
    "infinite importance": ["importance: must be a number, and not too large, for PostgreSQL"],
    "too many digits": ["importance: must be a number, and not too large, for PostgreSQL"],
    "a fraction of an access": ["access_count: must be an integer for PostgreSQL"],
    "no id": ["id: must be text"],
}
MORE: dict[str, dict[str, Any]] = {
    "infinite importance": {"importance": float("inf")},
    "too many digits": {"importance": 2**53 + 1},
    "a fraction of an access": {"access_count": 7.5},
    "no id": {"id": None},
}
ALL_ODDITIES: dict[str, Any] = {**ODDITIES, **MORE}
LOSSY: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "invalid UTF-8": ({"invalid_utf8": 2}, {"value": "half \ufffd", "key": "k\ufffd"}),
    "NUL inside": ({"nul": 2}, {"value": "a\u2400b", "key": "k\u2400l"}),
    "a BLOB": ({"blobs": 1, "nul": 1}, {"value": "\u2400\x01"}),
    "importance in words": ({"numbers": 1}, {"importance": None}),
    "empty importance": ({"numbers": 1}, {"importance": None}),
    "a far year": ({"times": 1}, {"expires_at": "9999-12-31T23:59:59.000Z"}),
    "an expiry that is no time": ({"times": 1}, {"expires_at": None}),
    "infinite importance": ({"numbers": 1}, {"importance": None}),
    "too many digits": ({"numbers": 1}, {"importance": 2.0**53}),
    "a fraction of an access": ({"numbers": 1}, {"access_count": 7}),
    "no id": ({"ids": 1}, {}),
}


@pytest.mark.parametrize("kind", ALL_ODDITIES)
def test_what_cannot_be_stored_is_refused_by_row_and_column_or_replaced(
    template: Path, on_server: PostgresEngine, kind: str
) -> None:
    odd = ALL_ODDITIES[kind]
    source = copy_of(template, template.parent, "source.db")
    if kind != "a BLOB":
        odd = {
            name: Text(value) if isinstance(value, bytes) else value for name, value in odd.items()
        }
    put(source, "agent_memory", [memory(id="m-0", key="usual"), memory(**odd)])
    document = export_from(source)
    try:
        import_into(on_server.address, document)
        found = []
    except DocumentError as error:
        found = error.message.split("; ")

    assert found == [f"active row 2, {problem}" for problem in REFUSED.get(kind, [])]
    if not found:
        assert without_time(export_from(on_server.address)) == without_time(document)
        return
    assert on_server.rows() == []

    first = import_into(on_server.address, document, lossy=True)
    second = import_into(on_server.address, document, lossy=True)

    counts, values = LOSSY[kind]
    (row,) = (row for row in on_server.rows() if row["key"] != "usual")
    assert first.replaced_values == dict.fromkeys(first.replaced_values or (), 0) | counts
    assert {name: row[name] for name in values} == values
    assert (second.active.inserted, second.active.unchanged) == (0, 2)


def test_ids_that_two_agents_share_are_imported(on_server: PostgresEngine) -> None:
    for agent in ("a", "b"):
        on_server.insert(id="m-1", agent_id=agent, key="k")
        on_server.insert("archived_memories", **archived(id="m-2", agent_id=agent))
    document = export_from(on_server.address)
    on_server.empty()

    result = import_into(on_server.address, document)

    assert (result.active.inserted, result.archived.inserted) == (2, 2)
    assert without_time(export_from(on_server.address)) == without_time(document)


def archived(**columns: Any) -> dict[str, Any]:
    """Return an archived memory with these columns."""
    return memory(archived_at="2026-11-05T00:00:00Z", archived_reason="expired", **columns)


def test_a_replacement_that_makes_two_keys_equal_is_refused(
    template: Path, on_server: PostgresEngine
) -> None:
    source = copy_of(template, template.parent, "source.db")
    keys = (Text(b"k\xff"), Text(b"k\xfe"))
    put(source, "agent_memory", [memory(id=f"m-{n}", key=key) for n, key in enumerate(keys)])

    with pytest.raises(DocumentError) as refusal:
        import_into(on_server.address, export_from(source), lossy=True)

    assert refusal.value.message == "active row 2: has agent, type and key of another active row"
    assert on_server.rows() == []


def test_holds_are_refused_or_left_out(template: Path, on_server: PostgresEngine) -> None:
    source = copy_of(template, template.parent, "source.db")
    put(source, "agent_memory", [memory()])
    put(source, "memory_holds", [{"agent_id": "a", "held_at": "2026-11-01T00:00:00Z"}])
    document = export_from(source)

    with pytest.raises(DocumentError) as refusal:
        import_into(on_server.address, document)
    result = import_into(on_server.address, document, lossy=True)

    assert refusal.value.message == "holds row 1, agent_id: PostgreSQL has no holds"
    assert result.warning == "replaced because PostgreSQL cannot store them: holds (1)"
    assert result.active.inserted == 1


def test_lossy_is_refused_for_sqlite(migrated: Memctl) -> None:
    answer = migrated("import", "--all", "-", "--lossy")

    assert answer.exit_code == 2
    assert complaint(answer) == (
        "memctl: --lossy has no meaning for SQLite, which stores every value; omit it"
    )


# Other programs


def test_a_memory_that_a_client_writes_meanwhile_is_decided_on_again(
    template: Path, on_server: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = copy_of(template, template.parent, "source.db")
    put(source, "agent_memory", [memory()])
    changes = PostgresDocuments.changes

    def changes_after_a_write(documents: PostgresDocuments, batch: batches.Batch) -> Any:
        if not on_server.rows():
            on_server.insert(**memory(id="m-9", value="of a client"))
        return changes(documents, batch)

    monkeypatch.setattr(PostgresDocuments, "changes", changes_after_a_write)

    result = import_into(on_server.address, export_from(source))

    assert (result.active.inserted, result.active.skipped) == (0, 1)
    assert [(row["id"], row["value"]) for row in on_server.rows()] == [("m-9", "of a client")]
    assert [row["event"] for row in on_server.rows("memory_events")] == []


@pytest.fixture
def many(template: Path) -> bytes:
    """The document of memories of three agents, active and archived."""
    source = copy_of(template, template.parent, "source.db")
    rows = [{"agent_id": f"a{n % 3}", "key": f"k{n}", "id": f"m-{n}"} for n in range(600)]
    put(source, "agent_memory", [memory(**row) for row in rows[:400]])
    put(source, "archived_memories", [archived(**row) for row in rows[400:]])
    return export_from(source)


def test_killed_imports_are_completed_by_the_next_one(
    on_server: PostgresEngine, many: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "many.json"
    file.write_bytes(many)
    begun = 0
    for _ in range(5):
        stored = count(on_server)
        killed = on_server.memctl.start("import", "--all", str(file))
        while count(on_server) == stored and killed.poll() is None:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        begun += killed.returncode == -signal.SIGKILL

    on_server.memctl.ok("import", "--all", str(file))

    assert begun > 1
    assert without_time(export_from(on_server.address)) == without_time(many)
    imported = [row["memory_id"] for row in on_server.rows("memory_events")]
    assert len(imported) == len(set(imported)) == 600


def count(on_server: PostgresEngine) -> int:
    """Return how many memories there are."""
    with psycopg.connect(on_server.url, autocommit=True) as db:
        query = "SELECT (SELECT count(*) FROM agent_memory) + count(*) FROM archived_memories"
        return int(db.execute(query).fetchall()[0][0])


def test_two_imports_at_once_import_each_memory_once(
    on_server: PostgresEngine, many: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "many.json"
    file.write_bytes(many)
    words = ("import", "--all", str(file), "--json", "--lock-wait", "60")

    running = [on_server.memctl.start(*words) for _ in range(2)]
    answers = [json.loads(one.communicate()[0]) for one in running]

    counts = [answer["active"] for answer in answers]
    assert sorted(one["inserted"] for one in counts) == [0, 400]
    assert sorted(one["unchanged"] for one in counts) == [0, 400]
    assert without_time(export_from(on_server.address)) == without_time(many)
