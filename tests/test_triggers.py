"""Triggers of other programs on agent_memory: allowed unless they change what memctl writes."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from memctl import AgentMemory
from memctl.config.policies import DecayPolicy, PromotePolicy, PrunePolicy
from memctl.errors import SchemaError
from memctl.jobs.archive import archive
from memctl.jobs.cleanup import cleanup
from memctl.jobs.decay import decay
from memctl.jobs.engine import JobContext, JobRequest, JobResult, perform
from memctl.jobs.promote import promote
from memctl.jobs.prune import prune
from memctl.jobs.restore import restore
from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.features import enable
from memctl.storage.sqlite.migrations import require_current
from memctl.storage.sqlite.rollback import roll_back
from tests.support.database import connect, everything, insert_memory, is_sound, rows
from tests.support.program import NOW, Memctl

TEXT_INDEX = """
    CREATE VIRTUAL TABLE memory_text USING fts5 (key, value, content = 'agent_memory');
    CREATE TRIGGER text_added AFTER INSERT ON agent_memory BEGIN
        INSERT INTO memory_text (rowid, key, value) VALUES (NEW.rowid, NEW.key, NEW.value);
    END;
    CREATE TRIGGER text_removed AFTER DELETE ON agent_memory BEGIN
        INSERT INTO memory_text (memory_text, rowid, key, value)
        VALUES ('delete', OLD.rowid, OLD.key, OLD.value);
    END;
    CREATE TRIGGER text_changed AFTER UPDATE ON agent_memory BEGIN
        INSERT INTO memory_text (memory_text, rowid, key, value)
        VALUES ('delete', OLD.rowid, OLD.key, OLD.value);
        INSERT INTO memory_text (rowid, key, value) VALUES (NEW.rowid, NEW.key, NEW.value);
    END;
"""

# The older module, whose documentation has the entry removed before the row changes.
OLD_TEXT_INDEX = """
    CREATE VIRTUAL TABLE memory_text USING fts4 (content="agent_memory", key, value);
    CREATE TRIGGER text_added AFTER INSERT ON agent_memory BEGIN
        INSERT INTO memory_text (docid, key, value) VALUES (NEW.rowid, NEW.key, NEW.value);
    END;
    CREATE TRIGGER text_removed BEFORE DELETE ON agent_memory BEGIN
        DELETE FROM memory_text WHERE docid = OLD.rowid;
    END;
    CREATE TRIGGER text_leaves BEFORE UPDATE ON agent_memory BEGIN
        DELETE FROM memory_text WHERE docid = OLD.rowid;
    END;
    CREATE TRIGGER text_returns AFTER UPDATE ON agent_memory BEGIN
        INSERT INTO memory_text (docid, key, value) VALUES (NEW.rowid, NEW.key, NEW.value);
    END;
"""


@pytest.fixture
def migrated(template: Path, path: Path) -> Memctl:
    """The installed program, pointed at a copy of a migrated database."""
    shutil.copyfile(template, path)
    return Memctl(path)


def require_same_text(db: sqlite3.Connection) -> None:
    """Check that the full-text index has exactly the words of the memories."""
    db.execute("INSERT INTO memory_text (memory_text) VALUES ('integrity-check')")
    memories = {(row[0], *row[1].split()) for row in rows(db, "agent_memory", "rowid, value")}
    for word in {word for memory in memories for word in memory[1:]} | {"gone"}:
        found = db.execute("SELECT rowid FROM memory_text WHERE memory_text MATCH ?", (word,))
        assert {row[0] for row in found} == {row[0] for row in memories if word in row[1:]}


@pytest.mark.parametrize("index", [TEXT_INDEX, OLD_TEXT_INDEX], ids=["fts5", "fts4"])
def test_a_full_text_index_kept_by_triggers_is_right_after_every_job(
    db: sqlite3.Connection, path: Path, index: str
) -> None:
    db.executescript(index)
    for number in range(30):
        insert_memory(
            db,
            id=f"m-{number}",
            key=f"key {number}",
            value=f"common word{number}",
            type="error_pattern",
            idle_days=20,
            importance=9,
            access_count=9,
            expired_for=timedelta(days=1) if number % 3 else None,
        )
    with open_database(path) as own:
        for feature in ("access-boost", "access-counting", "archive-on-delete"):
            enable(own, feature, now=NOW)

    def run(job: str, work: Callable[[JobContext], JobResult], days: float = 0) -> None:
        request = JobRequest(path, NOW + timedelta(days=days), force=True)
        report = perform(job, work, request)
        assert report.result is not None
        assert report.result.tally.count > 0
        require_same_text(db)

    require_same_text(db)
    run("promote", lambda job: promote(job, PromotePolicy(), DecayPolicy()))
    run("cleanup", cleanup)
    run("restore", lambda job: restore(job, ArchiveFilter(agent="build_agent", ids=["m-1", "m-2"])))
    run("decay", lambda job: decay(job, DecayPolicy(), PromotePolicy()), days=30)
    run("archive", lambda job: archive(job, agent="build_agent", ids=["m-3"]), days=30)
    run("prune", lambda job: prune(job, PrunePolicy(protected_importance=10)), days=365)
    with AgentMemory(path, clock=lambda: NOW) as memories:
        for value in ("first gone", "second gone", "third"):
            memories.remember("build_agent", "learning", "one", value)
            require_same_text(db)
        memories.remember("build_agent", "learning", "one", "fourth", keep_replaced=True)
        require_same_text(db)
        memories.recall("build_agent", "learning", "one")
        require_same_text(db)
        memories.forget("build_agent", "learning", "one")
        require_same_text(db)
    with open_database(path) as own:
        roll_back(own, path, now=NOW, to=1, confirmed=True)
    require_same_text(db)
    assert is_sound(db)


def test_an_imported_memory_is_in_a_full_text_index_kept_by_triggers(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, key="k", value="old gone")
    document = migrated.ok("export", "--all").out.encode()
    db.execute("UPDATE agent_memory SET value = 'newer'")
    db.executescript(TEXT_INDEX)
    db.execute("INSERT INTO memory_text (memory_text) VALUES ('rebuild')")

    migrated.ok("import", "--all", "--on-conflict", "replace", "-", given=document)

    assert rows(db, "agent_memory", "value") == [("old gone",)]
    require_same_text(db)


def test_an_import_with_a_row_skipped_by_a_trigger_is_an_error_of_one_line(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for key in ("skipped", "taken in"):
        insert_memory(db, id=key, key=key)
    document = migrated.ok("export", "--all").out.encode()
    db.execute("DELETE FROM agent_memory")
    db.execute(
        "CREATE TRIGGER theirs BEFORE INSERT ON agent_memory WHEN NEW.key = 'skipped'"
        " BEGIN SELECT RAISE(IGNORE); END"
    )

    answer = migrated("import", "--all", "-", given=document)

    assert (answer.exit_code, answer.out) == (12, "")
    assert answer.err == (
        "memctl: a trigger of another program changes the result (theirs): due 1, imported 0,"
        " recorded 0; the interrupted step was rolled back; change the trigger in the program that"
        " created it\n"
    )
    assert rows(db, "agent_memory") == []


def test_migrate_names_the_triggers_that_it_finds(path: Path, template: Path) -> None:
    shutil.copyfile(template, path)
    with closing(connect(path)) as db, open_database(path) as own:
        roll_back(own, path, now=NOW, to=0, confirmed=True)
        db.executescript(TEXT_INDEX)
    memctl = Memctl(path)

    answer = memctl.ok("migrate", "--no-backup")

    assert (
        "migrate: triggers of other programs also fire on changes by memctl: text_added,"
        " text_changed, text_removed\n"
    ) in answer.err
    assert memctl.ok("migrate", "--json").json["triggers"] == [
        "text_added",
        "text_changed",
        "text_removed",
    ]


MEDDLERS = {
    "it changes the new row": "AFTER INSERT ON agent_memory"
    " BEGIN UPDATE agent_memory SET value = 'X' WHERE id = NEW.id; END",
    "it notes an access": "AFTER UPDATE ON agent_memory"
    " BEGIN UPDATE agent_memory SET last_accessed = '2027-01-01' WHERE id = NEW.id; END",
    "it writes the row again": "AFTER DELETE ON agent_memory BEGIN INSERT INTO agent_memory"
    " (id, agent_id, type, key, value) VALUES (OLD.id, 'a', 't', 'k', 'v'); END",
    "it empties the archive": "AFTER DELETE ON agent_memory"
    " BEGIN DELETE FROM archived_memories; END",
    "through another table": "AFTER DELETE ON agent_memory BEGIN INSERT INTO log VALUES (1); END;"
    " CREATE TRIGGER of_log AFTER INSERT ON log BEGIN DELETE FROM agent_memory; END",
}


@pytest.mark.parametrize("trigger", MEDDLERS.values(), ids=MEDDLERS.keys())
def test_a_trigger_that_writes_to_the_memories_is_refused(
    db: sqlite3.Connection, trigger: str
) -> None:
    db.executescript(f"CREATE TABLE log (x); CREATE TRIGGER meddler {trigger}")

    with pytest.raises(SchemaError, match="of another program would write to") as raised:
        require_current(db)

    assert "drop" not in str(raised.value)


def test_a_trigger_that_memctl_cannot_fire_is_accepted(
    db: sqlite3.Connection,
) -> None:
    db.execute(
        "CREATE TRIGGER normalise AFTER UPDATE OF value ON agent_memory"
        " BEGIN UPDATE agent_memory SET metadata = NULL WHERE id = NEW.id; END"
    )

    require_current(db)


def test_migrate_refuses_a_trigger_that_writes_to_the_memories(path: Path, template: Path) -> None:
    shutil.copyfile(template, path)
    with closing(connect(path)) as db, open_database(path) as own:
        roll_back(own, path, now=NOW, to=0, confirmed=True)
        db.execute(f"CREATE TRIGGER meddler {MEDDLERS['it changes the new row']}")
    before = everything(path)

    answer = Memctl(path)("migrate", "--no-backup")

    assert (answer.exit_code, answer.out) == (12, "")
    assert answer.err == (
        "memctl: the trigger meddler of another program would write to agent_memory when memctl"
        " does; change the trigger in the program that created it; nothing was changed\n"
    )
    assert everything(path) == before


@pytest.mark.parametrize(
    "obstacle",
    [
        "CREATE TRIGGER theirs AFTER DELETE ON agent_memory BEGIN DELETE FROM nowhere; END",
        "CREATE TRIGGER theirs AFTER INSERT ON agent_memory BEGIN SELECT unknown(NEW.key); END",
        "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES ('table', 'words', 'words',"
        " 0, 'CREATE VIRTUAL TABLE words USING nowhere (value)'); PRAGMA writable_schema = RESET;"
        " CREATE TRIGGER theirs AFTER DELETE ON agent_memory BEGIN DELETE FROM words; END",
    ],
    ids=["no such table", "no such function", "no such module"],
)
def test_a_trigger_that_cannot_run_here_ends_a_job_with_one_line(
    db: sqlite3.Connection, path: Path, obstacle: str
) -> None:
    insert_memory(db, expired_for=timedelta(days=1))
    db.executescript(obstacle)

    with pytest.raises(SchemaError, match="agent_memory cannot be written by this SQLite: "):
        perform("cleanup", cleanup, JobRequest(path, NOW))

    assert len(rows(db, "agent_memory")) == 1


def test_an_incomplete_full_text_index_is_not_reported_as_damage(
    db: sqlite3.Connection, path: Path
) -> None:
    insert_memory(db, expired_for=timedelta(days=1))
    db.executescript(TEXT_INDEX)
    lacks_memories = "an index of another program in .* does not match its table.*'rebuild'"

    with pytest.raises(SchemaError, match=lacks_memories):
        perform("cleanup", cleanup, JobRequest(path, NOW))

    ((error,),) = rows(db, "memory_runs", "error")
    assert error.startswith("an index of another program in ")
    assert len(rows(db, "agent_memory")) == 1
    db.execute("INSERT INTO memory_text (memory_text) VALUES ('rebuild')")
    perform("cleanup", cleanup, JobRequest(path, NOW))
    assert rows(db, "agent_memory") == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER theirs AFTER INSERT ON agent_memory"
        " BEGIN SELECT json_extract(NEW.value, '$.x'); END",
        "CREATE INDEX theirs ON agent_memory (json_extract(value, '$.x'))",
        "CREATE INDEX theirs ON agent_memory (key) WHERE json_extract(value, '$.x') > 1",
    ],
    ids=["trigger", "index of an expression", "partial index"],
)
def test_a_function_that_fails_on_a_value_is_an_error_of_one_line(
    db: sqlite3.Connection, migrated: Memctl, statement: str
) -> None:
    db.execute(statement)

    answer = migrated("remember", "build_agent", "learning", "k", "no JSON")

    assert (answer.exit_code, answer.out) == (12, "")
    assert answer.err == (
        "memctl: a trigger or index of another program fails on a change by memctl (theirs):"
        " malformed JSON; the interrupted step was rolled back; change it in the program that"
        " created it\n"
    )
    assert rows(db, "agent_memory") == []


def test_a_trigger_function_that_fails_in_a_job_is_an_error_of_one_line(
    db: sqlite3.Connection, path: Path
) -> None:
    insert_memory(db, expired_for=timedelta(days=1), value="no JSON")
    db.execute(
        "CREATE TRIGGER theirs AFTER DELETE ON agent_memory"
        " BEGIN SELECT json_extract(OLD.value, '$.x'); END"
    )

    with pytest.raises(
        SchemaError, match=r"fails on a change by memctl \(theirs\): malformed JSON"
    ):
        perform("cleanup", cleanup, JobRequest(path, NOW))

    assert len(rows(db, "agent_memory")) == 1


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        pytest.param(
            "BEFORE DELETE ON agent_memory BEGIN SELECT RAISE(IGNORE); END",
            r"a trigger of another program changes the result \(theirs\): "
            "archived 1, recorded 1, removed 0; ",
            id="skips the row",
        ),
        pytest.param(
            "AFTER DELETE ON agent_memory BEGIN SELECT RAISE(ABORT, 'closed'); END",
            r"a constraint or trigger in .* rejects a change by memctl \(closed\); ",
            id="refuses the row",
        ),
        pytest.param(
            "AFTER DELETE ON agent_memory BEGIN SELECT RAISE(ROLLBACK, 'closed'); END",
            r"a constraint or trigger in .* rejects a change by memctl \(closed\); ",
            id="rolls back",
        ),
    ],
)
def test_a_trigger_that_interferes_is_an_error_and_loses_nothing(
    db: sqlite3.Connection, path: Path, trigger: str, message: str
) -> None:
    insert_memory(db, expired_for=timedelta(days=1))
    db.execute(f"CREATE TRIGGER theirs {trigger}")

    with pytest.raises(SchemaError, match=message):
        perform("cleanup", cleanup, JobRequest(path, NOW))

    assert len(rows(db, "agent_memory")) == 1
    assert rows(db, "archived_memories") == []
    assert rows(db, "memory_runs", "status") == [("failed",)]


def test_a_memory_rejected_by_a_trigger_is_an_error_of_one_line(
    db: sqlite3.Connection, path: Path
) -> None:
    db.execute(
        "CREATE TRIGGER theirs BEFORE INSERT ON agent_memory BEGIN SELECT RAISE(IGNORE); END"
    )

    with (
        AgentMemory(path) as memories,
        pytest.raises(SchemaError, match="changes the result"),
    ):
        memories.remember("build_agent", "learning", "k", "v")

    assert rows(db, "agent_memory") == []


def test_a_violated_constraint_of_the_service_is_an_error_of_one_line(
    db: sqlite3.Connection, path: Path
) -> None:
    """SQLite cannot add a constraint to an existing table, but a program can rebuild its table."""
    insert_memory(db, importance=9, idle_days=30)
    db.executescript(
        """
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(
            sql, 'importance INTEGER', 'importance INTEGER CHECK (importance > 8.9)'
        ) WHERE name = 'agent_memory';
        PRAGMA writable_schema = RESET;
        """
    )

    with pytest.raises(SchemaError, match=r"CHECK constraint failed: importance > 8\.9"):
        perform(
            "decay", lambda run: decay(run, DecayPolicy(), PromotePolicy()), JobRequest(path, NOW)
        )

    ((error,),) = rows(db, "memory_runs", "error")
    assert "CHECK constraint failed" in error
    assert rows(db, "agent_memory", "importance") == [(9,)]
