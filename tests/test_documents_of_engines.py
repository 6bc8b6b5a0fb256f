"""Documents on PostgreSQL: the same ones as on SQLite, and what cannot be stored there."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memctl.errors import DocumentError, RefusedError
from memctl.storage.postgresql import batches
from memctl.storage.sqlite.conflicts import ImportConflict
from tests.support.documents import (
    copy_of,
    export_from,
    import_into,
    memory,
    put,
    without_time,
)
from tests.support.engines import PostgresEngine
from tests.support.import_model import (
    TAKEN,
    Memory,
    RefusedByModelError,
    databases,
    import_by_model,
)
from tests.support.program import NOW

RULES: tuple[ImportConflict, ...] = get_args(ImportConflict)
on_one_server = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


# The same document

moments = st.datetimes(
    min_value=NOW.replace(year=1, tzinfo=None), max_value=NOW.replace(year=9999, tzinfo=None)
)
seconds = moments.map(lambda moment: moment.isoformat(" ", "seconds"))
ours = moments.map(lambda moment: moment.isoformat("T", "seconds") + "Z")
expiries = moments.map(lambda moment: moment.isoformat("T", "milliseconds") + "Z")
plain = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
numbers = (
    st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
)
usual = {
    "agent_id": st.sampled_from(["a", "b", "é", ""]),
    "type": st.sampled_from(["context", "learning", "ä"]),
    "key": st.sampled_from(["k", "K", "é", "e", "z"]) | plain,
    "value": plain,
    "metadata": st.none() | st.sampled_from(["{}", '{"a": 1.50}']) | plain,
    "importance": numbers,
    "access_count": st.none() | st.integers(-(2**63), 2**63 - 1),
    "last_accessed": st.none() | seconds,
    "created_at": st.none() | seconds,
    "expires_at": st.none() | expiries,
    "importance_decay_rate": numbers,
    "last_decay_at": st.none() | ours,
    "promoted_at": st.none() | ours,
}
contents = st.fixed_dictionaries(
    {
        "agent_memory": st.lists(
            st.fixed_dictionaries({"id": st.uuids().map(str), **usual}), max_size=8
        ),
        "archived_memories": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.uuids().map(str),
                    **usual,
                    "archived_at": ours,
                    "archived_reason": st.sampled_from(["expired", "manual"]),
                    "run_id": st.none() | st.integers(1, 9),
                }
            ),
            max_size=8,
        ),
        "memory_promotions": st.lists(
            st.fixed_dictionaries(
                {
                    **{name: usual[name] for name in ("agent_id", "type", "key")},
                    "entry_id": plain,
                    "content_hash": plain,
                    "promoted_at": ours,
                }
            ),
            max_size=4,
        ),
    }
)


@given(content=contents)
@on_one_server
def test_memories_have_the_same_document_on_both_engines(
    template: Path, on_server: PostgresEngine, content: dict[str, list[dict[str, Any]]]
) -> None:
    on_server.empty()
    folder = template.parent
    source = copy_of(template, folder, "source.db")
    back = copy_of(template, folder, "back.db")
    for table, rows in content.items():
        put(source, table, rows)
    document = export_from(source)

    first = import_into(on_server.address, document)
    there = export_from(on_server.address)
    second = import_into(on_server.address, document, on_conflict="fail")
    import_into(back, there)

    count = sum(json.loads(document)["counts"].values())
    assert without_time(there) == without_time(document)
    assert without_time(export_from(back)) == without_time(document)
    sections = ("active", "archived", "promotions")
    assert sum(getattr(first, name).inserted for name in sections) == count
    assert sum(getattr(second, name).unchanged for name in sections) == count


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param("2026-11-22", "2026-11-22 00:00:00", id="a date"),
        pytest.param("2026-11-22T10:43:58+01:00", "2026-11-22 09:43:58", id="an offset"),
        pytest.param("20261122T0943", "2026-11-22 09:43:00", id="the basic format"),
        pytest.param("2026-11-22 24:00:00", "2026-11-23 00:00:00", id="the end of a day"),
        pytest.param("2026-11-22 23:59:59,9999999", "2026-11-22 23:59:59.999999", id="digits"),
    ],
)
def test_a_time_in_another_spelling_is_stored_as_the_same_moment(
    template: Path, on_server: PostgresEngine, written: str, read: str
) -> None:
    source = copy_of(template, template.parent, "source.db")
    put(source, "agent_memory", [memory(created_at=written)])
    document = export_from(source)

    import_into(on_server.address, document)
    again = import_into(on_server.address, document)

    assert [row["created_at"] for row in on_server.rows()] == [read]
    assert again.active.unchanged == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        pytest.param("importance", "NaN", id="no number"),
        pytest.param("expires_at", "infinity", id="infinity"),
        pytest.param("created_at", "10000-01-01 00:00:00Z", id="the year 10000"),
    ],
)
def test_an_export_refuses_what_no_document_contains(
    on_server: PostgresEngine, column: str, value: str
) -> None:
    on_server.insert(id="m-1", key="odd", **{column: value})

    with pytest.raises(RefusedError, match="1 in agent_memory, the first 'learning' 'odd'"):
        export_from(on_server.address)


# What is imported


@pytest.fixture(params=[1, 10], ids=["each row in a transaction", "all rows in one"])
def rows_per_batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the number of rows in a batch."""
    for limit in ("FIRST_BATCH_ROWS", "FEW_ROWS", "MOST_BATCH_ROWS"):
        monkeypatch.setattr(batches, limit, request.param)


def insert(on_server: PostgresEngine, content: list[Memory]) -> None:
    """Insert memories into a database."""
    for one in content:
        row = {"type": "context", **one._asdict()}
        if one.archived_reason:
            on_server.insert("archived_memories", **row, archived_at="2026-11-05T00:00:00Z")
        else:
            del row["archived_reason"]
            on_server.insert(**row)


def read(on_server: PostgresEngine) -> list[Memory]:
    """Return the memories of a database."""
    return [
        Memory._make(row.get(name) for name in Memory._fields)
        for table in ("agent_memory", "archived_memories")
        for row in on_server.rows(table)
    ]


with_ids = databases.map(lambda rows: [one for one in rows if one.id is not None])


@pytest.mark.usefixtures("rows_per_batch")
@given(stored=with_ids, coming=with_ids, rule=st.sampled_from(RULES))
@on_one_server
def test_an_import_has_the_same_result_as_the_model(
    template: Path,
    on_server: PostgresEngine,
    stored: list[Memory],
    coming: list[Memory],
    rule: ImportConflict,
) -> None:
    on_server.empty()
    insert(on_server, stored)
    source = copy_of(template, template.parent, "source.db")
    for one in coming:
        row = {"type": "context", **one._asdict()}
        if one.archived_reason:
            put(source, "archived_memories", [{**row, "archived_at": "2026-11-05T00:00:00Z"}])
        else:
            del row["archived_reason"]
            put(source, "agent_memory", [row])
    document = export_from(source)
    try:
        expected, fates = import_by_model(stored, coming, rule, run=1, ids_per_agent=True)
    except RefusedByModelError:
        with pytest.raises(DocumentError):
            import_into(on_server.address, document, on_conflict=rule)
        assert sorted(read(on_server), key=repr) == sorted(stored, key=repr)
        return

    preview = import_into(on_server.address, document, on_conflict=rule, dry_run=True)
    result = import_into(on_server.address, document, on_conflict=rule)
    found = read(on_server)
    events = [row["run_id"] for row in on_server.rows("memory_events") if row["event"] == IMPORTED]
    import_into(on_server.address, document, on_conflict=rule)

    assert preview.counts == result.counts
    for fate in (*TAKEN, "unchanged", "skipped"):
        counted = getattr(result.active, fate) + getattr(result.archived, fate)
        assert counted == fates.count(fate)
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert events == [1] * sum(fate in TAKEN for fate in fates)
    assert read(on_server) == found


IMPORTED = "memory:imported"
