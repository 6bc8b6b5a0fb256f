"""Holds in documents: exported if they are in force, and added by an import."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.documents.staging import AgentSelection
from tests.support.database import connect, rows
from tests.support.documents import copy_of, export_from, import_into, signed
from tests.support.program import NOW, Memctl, complaint

DAY = timedelta(days=1)
HOLD_COLUMNS = "agent_id, memory_id, type, key, reason, held_at, until"
HOLD = {
    "agent_id": "build_agent",
    "memory_id": "m-1",
    "type": None,
    "key": None,
    "reason": "case 7",
    "held_at": "2026-11-22T09:43:58Z",
    "until": None,
}


@pytest.fixture
def held(migrated: Memctl, remember: Callable[..., str]) -> Memctl:
    """The program, and a database with two memories, of which one is held."""
    remember(id="m-1", key="k")
    remember(id="m-2", agent_id="qa_agent", key="k")
    migrated.ok("hold", "build_agent", "m-1", "--reason", "case 7")
    return migrated


@pytest.fixture
def target(template: Path, tmp_path: Path) -> Path:
    """Another migrated database, without memories."""
    return copy_of(template, tmp_path, "target.db")


def holds_in(path: Path) -> list[dict[str, Any]]:
    """Return the holds in a database, in the order in which they were added."""
    with closing(connect(path)) as db:
        names = HOLD_COLUMNS.split(", ")
        return [
            dict(zip(names, row, strict=True)) for row in rows(db, "memory_holds", HOLD_COLUMNS)
        ]


@pytest.mark.parametrize("option", ["--active-only", "--archived-only", "--nl"])
def test_a_document_with_holds_has_version_2(held: Memctl, option: str) -> None:
    lines = held.ok("export", "build_agent", "--nl", *({option} - {"--nl"})).out.splitlines()

    header = json.loads(lines[0])
    assert (header["version"], header["counts"]["holds"]) == (2, 1)
    assert json.loads(lines[-2]) == {"holds": HOLD}


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(("release", "build_agent", "m-1"), id="released"),
        pytest.param(("hold", "build_agent", "m-1", "--until", "1d"), id="ended"),
    ],
)
def test_a_document_without_holds_is_as_it_was_before_there_were_any(
    held: Memctl, prepare: tuple[str, ...]
) -> None:
    held.ok(*prepare)
    later = held.at(NOW + 2 * DAY)

    document = later.ok("export", "build_agent").out

    head = document.splitlines()[0]
    assert '"version": 1' in head
    assert head.endswith('"counts": {"active": 1, "archived": 0, "promotions": 0},')
    assert "holds" not in document
    assert held.ok("export", "qa_agent").out.count("holds") == 0


def test_an_import_adds_the_holds_with_an_event_and_the_triggers(
    held: Memctl, target: Path
) -> None:
    document = export_from(held.database)
    preview = import_into(target, document, dry_run=True)

    result = import_into(target, document)
    again = import_into(target, document, on_conflict="fail")

    assert preview.holds == result.holds
    assert (result.holds.inserted, again.holds.inserted, again.holds.unchanged) == (1, 0, 1)
    assert holds_in(target) == [HOLD]
    with closing(connect(target)) as db:
        assert db.execute(
            "SELECT event, memory_id, type, key, run_id FROM memory_events"
            " WHERE event = 'memory:held'"
        ).fetchall() == [("memory:held", "m-1", "learning", "k", 1)]
        db.execute("DELETE FROM agent_memory")
        assert rows(db, "archived_memories", "id, archived_reason") == [("m-1", "deleted")]


@pytest.mark.parametrize("atomic", [False, True])
def test_holds_are_imported_with_memories_that_exist_already(
    held: Memctl, target: Path, atomic: bool
) -> None:
    document = export_from(held.database)
    import_into(target, document)
    Memctl(target).ok("release", "build_agent", "m-1")

    result = import_into(target, document, atomic=atomic)

    assert (result.active.unchanged, result.holds.inserted) == (2, 1)
    assert holds_in(target) == [HOLD]


def test_the_hold_in_the_database_keeps_its_end_and_reason(held: Memctl, target: Path) -> None:
    document = export_from(held.database)
    import_into(target, document)
    Memctl(target).ok("hold", "build_agent", "m-1", "--until", "2027-01-01", "--reason", "mine")

    result = import_into(target, document, on_conflict="replace")

    assert (result.holds.inserted, result.holds.skipped) == (0, 1)
    assert result.warning == "holds with another end or reason in the database: 1"
    assert holds_in(target) == [{**HOLD, "reason": "mine", "until": "2027-01-01T00:00:00Z"}]


def test_a_hold_in_place_of_one_that_has_ended_is_added(held: Memctl, target: Path) -> None:
    document = export_from(held.database)
    import_into(target, document)
    with closing(connect(target)) as db:
        db.execute("UPDATE memory_holds SET until = '2026-11-22T09:43:58Z'")

    result = import_into(target, document)

    assert result.holds.inserted == 1
    assert holds_in(target) == [HOLD]


def test_holds_go_with_their_agents(held: Memctl, target: Path) -> None:
    held.ok("hold", "qa_agent", "--all")

    import_into(
        target,
        export_from(held.database, agent="build_agent"),
        selection=AgentSelection(new_agent="new"),
    )
    import_into(target, export_from(held.database), selection=AgentSelection("qa_agent"))

    assert [(hold["agent_id"], hold["memory_id"]) for hold in holds_in(target)] == [
        ("new", "m-1"),
        ("qa_agent", None),
    ]


def test_imported_memories_are_held_from_the_end_of_the_import_on(
    held: Memctl, target: Path
) -> None:
    document = json.loads(export_from(held.database))
    import_into(target, export_from(held.database))
    Memctl(target).ok("release", "build_agent", "m-1")
    document["active"][0] |= {"value": "newer", "created_at": "2026-11-23 00:00:00"}

    first = import_into(target, signed(document), on_conflict="newest")
    document["active"][0] |= {"value": "newest", "created_at": "2026-11-24 00:00:00"}
    second = import_into(target, signed(document), on_conflict="newest")

    assert (first.active.replaced, first.holds.inserted) == (1, 1)
    assert (second.active.replaced, second.active.held) == (0, 1)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        pytest.param(
            {"type": "learning"}, "must have an id, or a type and a key, or neither", id="1"
        ),
        pytest.param(
            {"memory_id": None, "key": "k"},
            "must have an id, or a type and a key, or neither",
            id="a key alone",
        ),
        pytest.param({"agent_id": None}, "invalid value None", id="no agent"),
        pytest.param({"held_at": "soon"}, "invalid value 'soon'", id="not a time"),
        pytest.param({"until": "2026-02-30T00:00:00Z"}, "invalid value", id="an impossible day"),
        pytest.param({"until": "2026-12-01 00:00:00"}, "invalid value", id="another format"),
        pytest.param({"more": 1}, "is unknown", id="an unknown column"),
    ],
)
def test_an_invalid_hold_is_refused(
    held: Memctl, target: Path, columns: dict[str, Any], problem: str
) -> None:
    document = json.loads(export_from(held.database))
    document["holds"][0] |= columns

    answer = Memctl(target)("import", "--all", "-", "--allow-invalid", given=signed(document))

    assert answer.exit_code == 13
    message = complaint(answer)
    assert message.startswith("memctl: holds row 1")
    assert problem in message
    assert holds_in(target) == []


def test_a_hold_of_another_agent_than_the_document_is_refused(held: Memctl, target: Path) -> None:
    document = json.loads(export_from(held.database, agent="build_agent"))
    document["holds"][0]["agent_id"] = "qa_agent"

    answer = Memctl(target)("import", "-", given=signed(document))

    assert complaint(answer).startswith("memctl: holds row 1: has another agent than the document")


def test_a_document_of_version_1_has_no_holds(held: Memctl, target: Path) -> None:
    document = export_from(held.database).replace(b'"version": 2', b'"version": 1')

    answer = Memctl(target)("import", "--all", "-", given=document)

    assert answer.exit_code == 13
    assert complaint(answer).startswith("memctl: version: a document with holds has version 2")


def test_a_document_without_checksum_may_have_holds(
    db: sqlite3.Connection, held: Memctl, target: Path
) -> None:
    document = json.dumps({"holds": [{**HOLD, "memory_id": None}], "active": []}).encode()

    result = import_into(target, document, no_checksum=True)

    assert result.holds.inserted == 1
