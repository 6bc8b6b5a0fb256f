"""Import: every combination of stored and imported memories, compared with a simple model."""

import re
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memctl import AgentMemory
from memctl.documents import importing
from memctl.documents.importing import ImportResult, import_staged
from memctl.documents.staging import AgentSelection, stage
from memctl.errors import DocumentError, RefusedError
from memctl.jobs.archive import archive
from memctl.jobs.engine import JobContext, JobRequest, perform
from memctl.jobs.restore import restore
from memctl.storage.memory import TYPES
from memctl.storage.progress import NO_PROGRESS
from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite import batches
from memctl.storage.sqlite.batches import SqliteBatches
from memctl.storage.sqlite.conflicts import ImportConflict
from tests.support.database import connect, everything, rows
from tests.support.disks import fill_disk
from tests.support.documents import copy_of, export_from, import_into, put
from tests.support.engines import Engine, SqliteEngine, values
from tests.support.import_model import (
    TAKEN,
    Memory,
    RefusedByModelError,
    databases,
    import_by_model,
    place_of,
)
from tests.support.program import NOW, PROGRAM, Answer, Memctl
from tests.support.service import Service

RULES: tuple[ImportConflict, ...] = get_args(ImportConflict)
every_rule = pytest.mark.parametrize("rule", RULES)


def write(database: Path, content: list[Memory]) -> Path:
    """Insert memories into a database."""
    for memory in content:
        row = {"type": "context", **memory._asdict()}
        if memory.archived_reason:
            put(database, "archived_memories", [{**row, "archived_at": "2026-11-05T00:00:00Z"}])
        else:
            del row["archived_reason"]
            put(database, "agent_memory", [row])
    return database


def read(database: Path) -> list[Memory]:
    """Return the memories of a database, the active ones first, each table in its order."""
    fields = "id, agent_id, key, value, created_at, last_accessed"
    with closing(connect(database)) as db:
        active = rows(db, "agent_memory", fields)
        archived = rows(db, "archived_memories", f"{fields}, archived_reason")
    return [Memory(*row) for row in active + archived]


@pytest.fixture(params=[1, 10], ids=["each row in a transaction", "all rows in one"])
def rows_per_batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the number of rows in a batch."""
    for limit in ("FIRST_BATCH_ROWS", "MOST_BATCH_ROWS"):
        monkeypatch.setattr(batches, limit, request.param)


@pytest.mark.usefixtures("rows_per_batch")
@given(stored=databases, coming=databases, rule=st.sampled_from(RULES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_import_has_the_same_result_as_the_model(
    template: Path, stored: list[Memory], coming: list[Memory], rule: ImportConflict
) -> None:
    target = write(copy_of(template, template.parent, "target.db"), stored)
    document = export_from(write(copy_of(template, template.parent, "source.db"), coming))
    try:
        expected, fates = import_by_model(stored, coming, rule, run=1)
    except RefusedByModelError:
        with pytest.raises(DocumentError):
            import_into(target, document, on_conflict=rule)
        assert read(target) == stored
        return

    preview = import_into(target, document, on_conflict=rule, dry_run=True)
    previewed = read(target)
    result = import_into(target, document, on_conflict=rule)
    found = read(target)

    counts = {fate: fates.count(fate) for fate in (*TAKEN, "unchanged", "skipped")}
    assert previewed == stored
    assert preview.counts == result.counts
    assert {
        fate: getattr(result.active, fate) + getattr(result.archived, fate) for fate in counts
    } == counts
    assert sorted(found, key=place_of) == sorted(expected, key=place_of)
    active, archived = (
        {memory.id for memory in found if bool(memory.archived_reason) is is_archived}
        for is_archived in (False, True)
    )
    assert not (active & archived) - {None}
    inserted = sum(fate in TAKEN for fate in fates)
    with closing(connect(target)) as db:
        events = rows(db, "memory_events WHERE event = 'memory:imported'", "run_id")
    assert events == [(1,)] * inserted

    import_into(target, document, on_conflict=rule)

    assert read(target) == found


# Outside of the model


@pytest.fixture
def exported(engine: Engine) -> Path:
    """The document of two memories, which are still there."""
    return export_two(engine)


@pytest.fixture
def backup(migrated: Memctl) -> Path:
    """The same in a file of the service."""
    return export_two(SqliteEngine(migrated))


def export_two(engine: Engine) -> Path:
    """Write two memories, and export them."""
    for number in (1, 2):
        engine.insert(id=f"m-{number}", key=f"k{number}", value="monday")
    file = engine.memctl.database.with_name("backup.json")
    engine.memctl.ok("export", "build_agent", "-o", str(file))
    return file


def test_a_document_is_imported_after_its_contexts_have_expired(
    migrated: Memctl, api: AgentMemory, template: Path
) -> None:
    api.set_task_context("build_agent", "41", {"step": 3})  # expires in 24 hours
    api.remember("build_agent", "learning", "toolchain", "cache it")
    document = migrated.database.with_name("backup.json")
    migrated.ok("export", "build_agent", "-o", str(document))
    later = Memctl(copy_of(template, document.parent, "restored.db"), NOW + timedelta(days=3))

    preview = later.ok("import", "build_agent", str(document), "--dry-run")
    imported = later.ok("import", "build_agent", str(document), "--json").json
    with closing(connect(later.database)) as db:
        stored = rows(db, "agent_memory", "key, expires_at")
    cleaned = later.ok("cleanup", "--json").json

    assert "1 already expired" in preview.err
    assert (imported["active"]["inserted"], imported["expired"]) == (2, 1)
    assert stored == [("task:41", "2026-11-23T09:43:58.000Z"), ("toolchain", None)]
    assert cleaned["archived"] == 1


def test_memories_written_by_the_service_and_jobs_are_never_invalid(
    migrated: Memctl, service: Service, db: sqlite3.Connection, template: Path
) -> None:
    for number, kind in enumerate(TYPES):
        service.remember("a", kind, f"k{number}", "Память \0 🤖", metadata='{"decay_rate":0}')
        service.remember(
            "a",
            kind,
            f"task:{number}",
            '{"a":[1]}',
            importance=9,
            expires_at="2026-11-23T09:43:58.000Z",
        )
    service.recall("a", "learning", "k1")
    db.execute("UPDATE agent_memory SET access_count = 7, created_at = '2026-10-01 00:00:00'")
    migrated.ok("promote")
    for feature in ("access-boost", "archive-on-delete"):
        migrated.ok("enable", feature)
    later = migrated.at(NOW + timedelta(days=60))
    for job in ("cleanup", "decay"):
        later.ok(job)
    later.ok("restore", "a", "--reason", "expired", "--since", "1h")
    service.forget("a", "context", "k0")
    service.recall("a", "learning", "k1")
    document = later.ok("export", "--all").out.encode()

    result = import_into(
        copy_of(template, migrated.database.parent, "other.db"), document, allow_invalid=False
    )

    assert (result.active.inserted, result.archived.inserted) == (9, 1)
    assert result.promotions.inserted > 0


def test_a_replaced_memory_is_archived_and_can_be_restored(engine: Engine, exported: Path) -> None:
    engine.execute("UPDATE agent_memory SET value = 'tuesday' WHERE id = 'm-1'")
    engine.execute("UPDATE agent_memory SET id = 'm-3', value = 'tuesday' WHERE id = 'm-2'")

    engine.memctl.ok("import", "build_agent", str(exported), "--on-conflict", "replace")
    replaced = (
        values(engine, "agent_memory", "id, value"),
        values(engine, "archived_memories", ARCHIVED),
    )
    events = values(engine, "memory_events", "event, memory_id, run_id")
    engine.memctl.ok("restore", "--run", "1", "--on-conflict", "replace")

    assert replaced == (
        [("m-1", "monday"), ("m-2", "monday")],
        [("m-1~1", "tuesday", "replaced", 1), ("m-3", "tuesday", "replaced", 1)],
    )
    assert events == [
        ("memory:archived", "m-1", 1),
        ("memory:archived", "m-3", 1),
        ("memory:imported", "m-1", 1),
        ("memory:imported", "m-2", 1),
    ]
    assert values(engine, "agent_memory", "id, value") == [("m-1", "tuesday"), ("m-3", "tuesday")]
    assert values(engine, "archived_memories", ARCHIVED) == [
        ("m-1~2", "monday", "replaced", 2),
        ("m-2", "monday", "replaced", 2),
    ]


ARCHIVED = "id, value, archived_reason, run_id"


def test_a_replaced_version_gets_an_unused_id(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str], backup: Path
) -> None:
    db.execute("UPDATE agent_memory SET value = 'tuesday' WHERE id = 'm-1'")
    remember(id="m-1~1")
    before = rows(db, "agent_memory")
    words = ("import", "build_agent", str(backup), "--on-conflict", "replace")

    first, second = migrated(*words), migrated(*words)

    assert (first.exit_code, second.exit_code) == (3, 0)
    assert first.err.endswith(
        "memctl: an id already ends in '~1', which this run appends to ids of what it replaces;"
        " run the command again: its next run has another number\n"
    )
    assert rows(db, "archived_memories", "id") == [("m-1~2",)]
    assert len(rows(db, "agent_memory")) == len(before)


def test_the_default_rule_keeps_memories_changed_since_the_export(
    engine: Engine, exported: Path
) -> None:
    engine.execute("UPDATE agent_memory SET access_count = 9 WHERE id = 'm-1'")
    engine.execute("DELETE FROM agent_memory WHERE id = 'm-2'")

    answer = engine.memctl.ok("import", "build_agent", str(exported), "--json").json

    sections = ("active", "archived", "promotions", "holds")
    assert {name: answer[name] for name in (*sections, "agents")} == {
        "active": {"inserted": 1, "unchanged": 0, "skipped": 1, "replaced": 0, "held": 0},
        "archived": {"inserted": 0, "unchanged": 0, "skipped": 0, "replaced": 0, "held": 0},
        "promotions": {"inserted": 0, "unchanged": 0, "skipped": 0, "replaced": 0, "held": 0},
        "holds": {"inserted": 0, "unchanged": 0, "skipped": 0, "replaced": 0, "held": 0},
        "agents": {"build_agent": 1},
    }
    assert values(engine, "agent_memory", "id, access_count") == [("m-1", 9), ("m-2", 0)]


def test_a_conflict_with_rule_fail_is_named_and_changes_nothing(
    engine: Engine, exported: Path
) -> None:
    engine.execute("UPDATE agent_memory SET access_count = 9 WHERE id = 'm-1'")
    engine.execute("DELETE FROM agent_memory WHERE id = 'm-2'")

    answer = engine.memctl("import", "build_agent", str(exported), "--on-conflict", "fail")

    assert answer == Answer(
        13,
        "",
        "memctl: active row 1: the database has another version;"
        " use --on-conflict skip, replace or newest; nothing was changed\n",
    )
    assert values(engine, "agent_memory", "id") == [("m-1",)]


def test_a_memory_of_another_agent_is_not_replaced(
    db: sqlite3.Connection, migrated: Memctl, backup: Path
) -> None:
    words = ("import", str(backup), "--reassign-agent", "qa_agent")

    answers = [migrated(*words, "--on-conflict", rule) for rule in ("replace", "skip")]

    assert [answer.exit_code for answer in answers] == [13, 0]
    assert answers[0].err.startswith(
        "memctl: active row 1, id: belongs to another agent's memory in the database; "
        "active row 2, id: "
    )
    assert rows(db, "agent_memory", "agent_id") == [("build_agent",)] * 2


def test_an_import_adds_a_memory_beside_its_older_archived_version(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="old", key="k", expired_for=timedelta(days=1))
    migrated.ok("cleanup")
    remember(id="new", key="k")
    document = migrated.ok("export", "--all").out
    db.execute("DELETE FROM agent_memory")

    # The older version in the archive is in the document too, so it does not conflict.
    result = import_into(migrated.database, document.encode())

    assert (result.active.inserted, result.archived.unchanged) == (1, 1)


def test_the_newest_of_imported_and_archived_copies_is_restored(engine: Engine) -> None:
    engine.insert(key="k", value="older", expired_for=timedelta(days=1))
    engine.memctl.ok("cleanup")
    document = engine.memctl.ok("export", "build_agent").out
    engine.execute("DELETE FROM archived_memories")
    later = engine.memctl.at(NOW + timedelta(days=1))
    engine.insert(key="k", value="newer", expired_for=timedelta(days=1))
    later.ok("cleanup")
    file = engine.memctl.database.with_name("backup.json")
    file.write_text(document)
    later.ok("import", "build_agent", str(file))

    later.ok("restore", "build_agent", "--reason", "expired")

    assert values(engine, "agent_memory", "value") == [("newer",)]
    assert values(engine, "archived_memories", "value") == [("older",)]


@pytest.mark.parametrize(
    ("promoted_at", "rule", "fate", "left"),
    [
        pytest.param("2026-11-01", "skip", "skipped", "here", id="skip"),
        pytest.param("2026-11-01", "replace", "replaced", "there", id="replace"),
        pytest.param("2026-11-01", "newest", "replaced", "there", id="older here"),
        pytest.param("2026-11-21", "newest", "skipped", "here", id="newer here"),
    ],
)
def test_the_rule_applies_to_promotions_too(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    promoted_at: str,
    rule: ImportConflict,
    fate: str,
    left: str,
) -> None:
    remember(key="k")
    insert = (
        "INSERT OR REPLACE INTO memory_promotions"
        " VALUES ('build_agent', 'learning', 'k', ?, 'h', ?)"
    )
    db.execute(insert, ("there", "2026-11-11"))
    document = migrated.ok("export", "--all").out.encode()
    db.execute(insert, ("here", promoted_at))

    result = import_into(migrated.database, document, on_conflict=rule)

    assert result.promotions._asdict()[fate] == 1
    assert db.execute("SELECT entry_id FROM memory_promotions").fetchall() == [(left,)]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("import",), id="no file"),
        pytest.param(("import", "a", "b", "c"), id="too many arguments"),
        pytest.param(("import", "--all", "a", "b.json"), id="--all and an agent"),
        pytest.param(
            ("import", "--all", "b.json", "--reassign-agent", "a"), id="--all with --reassign-agent"
        ),
        pytest.param(("import", "b.json", "--on-conflict", "ask"), id="an unknown rule"),
    ],
)
def test_invalid_options_of_import_are_usage_errors(
    migrated: Memctl, words: tuple[str, ...]
) -> None:
    assert migrated(*words).exit_code == 2


@pytest.mark.parametrize("place", ["missing.json", "", "harness.db/x", "x" * 300])
def test_an_unreadable_file_is_named_in_the_error(migrated: Memctl, place: str) -> None:
    answer = migrated("import", str(migrated.database.parent / place))

    assert answer.exit_code == 1
    assert answer.err.count("\n") == 1
    assert f"{place} cannot be read (" in answer.err


def test_an_agent_may_have_the_name_of_stdin_or_of_a_file(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    for name in ("-", "backup.json"):
        remember(agent_id=name)
        file = migrated.database.with_name("backup.json")
        migrated.ok("export", name, "-o", str(file))

        answers = [
            migrated.ok("import", name, str(file), "--json"),
            pipe(migrated, file, "import", name, "-", "--json"),
            pipe(migrated, file, "import", "-", "--json"),
        ]

        assert [answer.json["active"]["unchanged"] for answer in answers] == [1, 1, 1]


def pipe(memctl: Memctl, file: Path, *words: str) -> Answer:
    """Run a command that reads a file as its input."""
    with file.open("rb") as content:
        ran = subprocess.run(
            [PROGRAM, *words],
            env=memctl.environment(),
            stdin=content,
            capture_output=True,
            text=True,
            check=True,
        )
    return Answer(ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no such file here")
def test_a_read_error_is_an_error_of_one_line(migrated: Memctl) -> None:
    answer = migrated("import", "/proc/self/mem")

    assert answer == Answer(
        1, "", "memctl: the document cannot be read (Input/output error); check the file\n"
    )


def test_an_import_to_a_full_disk_changes_nothing_and_can_be_repeated(
    small_disk: Path, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="large", value="x" * 4_000_000)
    document = migrated.database.with_name("backup.json")
    migrated.ok("export", "--all", "-o", str(document))
    target = Memctl(small_disk / "harness.db")
    target.ok("migrate")
    filler = fill_disk(small_disk, room=1_000_000)

    full = target("import", "--all", str(document))
    with closing(connect(target.database)) as db:
        left = rows(db, "agent_memory"), rows(db, "memory_events")
    filler.unlink()
    target.ok("import", "--all", str(document))

    assert full.exit_code == 1
    assert "full" in full.err
    assert left == ([], [])
    assert target.ok("export", "--all").out == migrated.ok("export", "--all").out


def test_a_closed_input_is_an_error_of_one_line(migrated: Memctl) -> None:
    ran = subprocess.run(
        ["sh", "-c", f"exec {PROGRAM} import - <&-"],
        env=migrated.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (1, "memctl: stdin is closed; specify a file\n")


class Interfering:
    """Writes like the service before a batch of an import begins."""

    def __init__(self, write: Callable[[], object], *, before_batch: int = 1) -> None:
        self._write = write
        self._before = before_batch

    def __call__(self, run: JobContext, rule: ImportConflict) -> ImportResult:
        """Import, with one row in each batch."""
        assert isinstance(run.batches, SqliteBatches)
        hold = run.batches._hold
        run.batches._rows = 1
        begun = 0

        def write_first(change: Callable[[], object]) -> float:
            nonlocal begun
            begun += 1
            if begun == self._before:
                self._write()
            return hold(change)

        run.batches._hold = write_first  # type: ignore[method-assign]
        return import_staged(run, on_conflict=rule, allow_invalid=False)

    def result(self, database: Path, document: Path, rule: ImportConflict) -> ImportResult:
        """Return what the import did."""
        with document.open("rb") as file:
            result = perform(
                "import",
                lambda run: self(run, rule),
                JobRequest(database, NOW),
                by_hand=True,
                prepare=lambda store: stage(store, file, AgentSelection(), NO_PROGRESS),
            ).result
        assert result is not None
        return result


def test_memories_written_before_a_batch_are_checked_again(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str], backup: Path
) -> None:
    db.execute("DELETE FROM agent_memory")

    def write() -> None:
        # The conflicts arise after the import decided what to do, and before it takes the lock.
        remember(id="m-3", key="k1", value="written meanwhile")
        db.execute(
            "INSERT INTO archived_memories"
            " (id, agent_id, type, key, value, archived_at, archived_reason) VALUES"
            " ('m-4', 'build_agent', 'learning', 'k2', 'archived meanwhile', 'x', 'deleted')"
        )

    result = Interfering(write).result(migrated.database, backup, "skip")

    assert (result.active.skipped, result.active.inserted) == (2, 0)
    assert rows(db, "agent_memory", "id") == [("m-3",)]
    assert rows(db, "archived_memories", "id") == [("m-4",)]


def test_an_import_ended_by_a_conflict_between_batches_can_be_finished(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str], backup: Path
) -> None:
    db.execute("DELETE FROM agent_memory")
    interfering = Interfering(lambda: remember(id="m-3", key="k2", value="new"), before_batch=2)

    result = interfering.result(migrated.database, backup, "fail")
    stopped = rows(db, "agent_memory", "id")
    ledger = db.execute("SELECT status, counts ->> '$.active.inserted', error FROM memory_runs")
    recorded = ledger.fetchall()
    db.execute("DELETE FROM agent_memory WHERE id = 'm-3'")
    again = import_into(migrated.database, backup.read_bytes(), on_conflict="fail")

    problem = (
        "active row 2: the database has another version; "
        "use --on-conflict skip, replace or newest; "
        "earlier batches are kept; import the document again to complete it"
    )
    assert str(result.refusal) == problem
    assert (result.active.inserted, result.active.skipped, result.tally.remaining) == (1, 0, 1)
    assert stopped == [("m-1",), ("m-3",)]
    assert recorded == [("refused", 1, problem)]
    assert (again.active.inserted, again.active.unchanged) == (1, 1)
    assert rows(db, "agent_memory", "id") == [("m-1",), ("m-2",)]


def test_an_atomic_import_reports_how_long_it_held_the_lock(
    db: sqlite3.Connection, migrated: Memctl, backup: Path
) -> None:
    db.execute("DELETE FROM agent_memory")

    answer = migrated.ok("import", "build_agent", str(backup), "--atomic", "--verbose")

    assert re.search(r"; held the write lock for \d+\.\d s\n$", answer.err)
    assert len(rows(db, "agent_memory")) == 2


def test_a_large_change_needs_force(
    db: sqlite3.Connection, migrated: Memctl, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MANY_ROWS", 1)
    db.execute("DELETE FROM agent_memory")

    with pytest.raises(RefusedError) as refusal:
        import_into(migrated.database, backup.read_bytes(), atomic=True)
    refused = rows(db, "agent_memory")
    import_into(migrated.database, backup.read_bytes())

    assert refusal.value.exit_code == 3
    assert str(refusal.value) == (
        "writing 2 memories in one transaction would hold the write lock for seconds, and other"
        " programs would fail to write; omit --atomic, or stop the other programs and use --force"
    )
    assert refused == []
    assert len(rows(db, "agent_memory")) == 2


def test_a_copy_for_another_agent_beside_the_originals_is_skipped_with_a_message(
    db: sqlite3.Connection, migrated: Memctl, backup: Path
) -> None:
    db.execute(
        "INSERT INTO memory_promotions VALUES ('build_agent', 'learning', 'k1', 'e', 'h', 'x')"
    )
    migrated.ok("export", "build_agent", "-o", str(backup))
    promotions = "SELECT agent_id, key FROM memory_promotions"
    before = rows(db, "agent_memory"), db.execute(promotions).fetchall()

    answer = migrated.ok("import", str(backup), "--reassign-agent", "qa_agent", "--allow-invalid")

    assert (
        "skipped because the database has another version: 2 active, 0 archived, 1 promotions; "
        "with the id of another agent's memory: 2; " in answer.err
    )
    assert (rows(db, "agent_memory"), db.execute(promotions).fetchall()) == before


def test_the_promotion_of_a_memory_that_is_skipped_is_skipped_too(
    db: sqlite3.Connection, migrated: Memctl, backup: Path
) -> None:
    db.execute(
        "INSERT INTO memory_promotions VALUES ('build_agent', 'learning', 'k1', 'e', 'h', 'x'),"
        " ('build_agent', 'learning', 'forgotten', 'e', 'h', 'x')"
    )
    document = migrated.ok("export", "build_agent").out.encode()
    db.execute("DELETE FROM memory_promotions")
    db.execute("UPDATE agent_memory SET value = 'tuesday' WHERE key = 'k1'")

    result = import_into(migrated.database, document)

    assert (result.promotions.skipped, result.promotions.inserted) == (1, 1)
    assert db.execute("SELECT key FROM memory_promotions").fetchall() == [("forgotten",)]


# Undoing an import


@given(stored=databases, coming=databases)
def test_an_import_can_be_undone(
    template: Path, stored: list[Memory], coming: list[Memory]
) -> None:
    target = write(copy_of(template, template.parent, "target.db"), stored)
    document = export_from(write(copy_of(template, template.parent, "source.db"), coming))
    before = [memory for memory in read(target) if not memory.archived_reason]
    try:
        import_into(target, document, on_conflict="replace")
    except DocumentError:
        return  # the id of another agent's memory

    archived = perform(
        "archive", lambda run: archive(run, agent=None, of_run=1), JobRequest(target, NOW)
    )
    restored = perform(
        "restore",
        lambda run: restore(run, ArchiveFilter(run_id=1), on_conflict="fail"),
        JobRequest(target, NOW),
    )

    after = [memory for memory in read(target) if not memory.archived_reason]
    assert archived.result is not None
    assert archived.result.warning is None
    assert restored.result is not None
    assert sorted(after, key=str) == sorted(before, key=str)
    assert export_from(target)  # which refuses a memory that is active and archived


@pytest.mark.parametrize(
    "memory_id",
    [
        pytest.param("CAST(x'6d00ff7e31' AS TEXT)", id="NUL, and invalid UTF-8"),
        pytest.param("x'6d00ff'", id="a BLOB"),
        pytest.param("''", id="empty"),
        pytest.param("'m~12'", id="with a number already"),
    ],
)
def test_a_replaced_memory_gets_its_original_id_back(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str], memory_id: str
) -> None:
    remember(value="imported")
    db.execute(f"UPDATE agent_memory SET id = {memory_id}")
    document = migrated.ok("export", "--all").out.encode()
    db.execute("UPDATE agent_memory SET value = 'replaced'")
    before = rows(db, "agent_memory", "typeof(id), CAST(id AS BLOB), value")

    import_into(migrated.database, document, on_conflict="replace")
    migrated.ok("restore", "--run", "1", "--on-conflict", "replace")

    assert rows(db, "agent_memory", "typeof(id), CAST(id AS BLOB), value") == before
    assert migrated.ok("export", "--all").out


def test_undoing_an_import_keeps_and_counts_memories_used_since(engine: Engine) -> None:
    for name in ("as imported", "read", "written anew", "deleted", "archived"):
        engine.insert(id=name, key=name, idle_days=1)
    document = engine.memctl.ok("export", "build_agent").out.encode()
    engine.execute("DELETE FROM agent_memory")
    import_into(engine.address, document)
    later = engine.memctl.at(NOW + timedelta(hours=1))
    with AgentMemory(engine.address, clock=lambda: later.now) as memories:
        memories.recall("build_agent", "learning", "read")
        memories.remember("build_agent", "learning", "written anew", "newer")
    engine.execute("DELETE FROM agent_memory WHERE id = 'deleted'")
    later.ok("archive", "build_agent", "archived")

    preview = later.ok("archive", "--run", "1", "--dry-run", "--json").json
    answer = later.ok("archive", "--run", "1")
    again = later.ok("archive", "--run", "1", "--json").json

    assert (preview["archived"], preview["in_use"], preview["gone"]) == (1, 1, 2)
    assert (
        "archive: archived 1 memory; not archived: 1 written or read since the import,"
        " 2 no longer present as imported; run " in answer.err
    )
    assert (again["archived"], again["in_use"], again["gone"]) == (0, 1, 2)
    assert [key for (key,) in values(engine, "agent_memory", "key")] == ["read", "written anew"]


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        pytest.param(("--run", "9"), 1, id="an unknown run"),
        pytest.param(("--run", "1"), 2, id="a run that imported nothing"),
        pytest.param((), 2, id="neither ids nor a run"),
        pytest.param(("build_agent", "m-1", "--run", "1"), 2, id="ids and a run"),
    ],
)
def test_an_invalid_selection_of_a_run_to_archive_is_refused(
    migrated: Memctl, backup: Path, words: tuple[str, ...], exit_code: int
) -> None:
    migrated.ok("cleanup")

    answer = migrated("archive", *words)

    assert answer.exit_code == exit_code
    assert answer.err.count("\n") == 1


def test_a_feature_that_archives_deletions_does_not_archive_twice(
    db: sqlite3.Connection, migrated: Memctl, backup: Path
) -> None:
    db.execute("UPDATE agent_memory SET value = 'tuesday' WHERE id = 'm-1'")
    db.execute(
        "CREATE TRIGGER memctl_archive_on_delete AFTER DELETE ON agent_memory"
        " WHEN NOT EXISTS (SELECT 1 FROM memory_state WHERE key = 'own_delete')"
        " BEGIN INSERT INTO archived_memories"
        " (id, agent_id, type, key, value, archived_at, archived_reason)"
        " VALUES (OLD.id, OLD.agent_id, OLD.type, OLD.key, OLD.value, 'x', 'deleted'); END"
    )

    migrated.ok("import", "build_agent", str(backup), "--on-conflict", "replace")

    assert rows(db, "archived_memories", ARCHIVED) == [("m-1~1", "tuesday", "replaced", 1)]


def test_an_import_into_an_unmigrated_database_is_refused(memctl: Memctl, service: Service) -> None:
    before = everything(memctl.database)

    answer = memctl("import", "--all", "-")

    assert answer.exit_code == 12
    assert everything(memctl.database) == before
