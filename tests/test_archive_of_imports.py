"""Archiving what a run imported, on both engines."""

from datetime import timedelta
from uuid import uuid4

from tests.support.engines import Engine
from tests.support.program import NOW


def import_memories(engine: Engine, *names: str) -> None:
    """Write what an import of memories with these ids and keys leaves, as the first run."""
    engine.insert(
        "memory_runs",
        run_id=1,
        job="import",
        started_at=NOW.isoformat(),
        status="ok",
        complete=True,
        memctl_version="0",
        host="h",
        pid=1,
    )
    for number, name in enumerate(names, 1):
        engine.insert(id=name, key=name, created_at="2026-11-20 00:00:00", last_accessed=None)
        event_key = {"event_key": str(uuid4())} if engine.name == "postgres" else {}
        engine.insert(
            "memory_events",
            event_id=number,
            at=NOW.isoformat(),
            event="memory:imported",
            memory_id=name,
            agent_id="build_agent",
            type="learning",
            key=name,
            run_id=1,
            **event_key,
        )


def test_undoing_an_import_keeps_and_counts_memories_used_since(engine: Engine) -> None:
    import_memories(engine, "as imported", "read", "written anew", "archived")
    engine.insert(id="of a client", key="of a client")
    later = engine.memctl.at(NOW + timedelta(hours=1))
    later.ok("recall", "build_agent", "learning", "read")
    later.ok("remember", "build_agent", "learning", "written anew", "newer")
    later.ok("archive", "build_agent", "archived")

    preview = later.ok("archive", "--run", "1", "--dry-run", "--list", "--json").json
    answer = later.ok("archive", "--run", "1")
    again = later.ok("archive", "--run", "1", "--json").json

    assert [memory["id"] for memory in preview["listed"]] == ["as imported"]
    assert (preview["archived"], preview["in_use"], preview["gone"]) == (1, 1, 1)
    assert (
        "archive: archived 1 memory; not archived: 1 written or read since the import,"
        " 1 no longer present as imported; run " in answer.err
    )
    assert (again["archived"], again["in_use"], again["gone"]) == (0, 1, 1)
    assert sorted(row["key"] for row in engine.rows()) == ["of a client", "read", "written anew"]


def test_only_an_import_can_be_undone_by_archiving(engine: Engine) -> None:
    engine.memctl.ok("cleanup")

    answer = engine.memctl("archive", "--run", "1")

    assert answer.exit_code == 2
    assert answer.err == (
        "memctl: run 1 is a run of cleanup, not an import; see `memctl runs --job import`\n"
    )
