"""Migration: a service's table becomes the unchanged baseline; a new database is identical."""

import os
import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest

from memctl import __version__
from memctl.storage.migrations import folder
from memctl.storage.sqlite import migrations
from tests.support.database import (
    ALL_STEPS,
    STEPS,
    connect,
    everything,
    insert_memory,
    is_sound,
    rows,
)
from tests.support.program import NOW, Answer, Memctl
from tests.support.service import SCHEMA, Service

STAMP = f"{NOW:%Y%m%dT%H%M%SZ}"
AT = "2026-11-22T09:43:58Z"
BASELINE_MESSAGES = (
    "migrate: agent_memory already existed and was kept unchanged\n"
    "migrate: the first `memctl decay` will charge all idle time up to now; preview it with"
    " --dry-run, or set `since` under [decay] in the configuration\n"
)
TABLES = {
    "agent_memory",
    "archived_memories",
    "memctl_migrations",
    "memory_analytics",
    "memory_holds",
    "memory_replacements",
    "memory_tombstones",
    "memory_events",
    "memory_access_counts",
    "memory_promotions",
    "memory_runs",
    "memory_state",
}


def make_legacy(path: Path, *, table: str = SCHEMA, memories: int = 3) -> None:
    """Create the database of a service, or a similar one."""
    with closing(connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(table)
        for number in range(memories):
            insert_memory(db, id=f"id-{number}", key=f"key-{number}")


def objects(path: Path) -> list[tuple[Any, ...]]:
    """Return the SQL of every object in the schema."""
    with closing(connect(path)) as db:
        return db.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid"
        ).fetchall()


def introspection(path: Path) -> dict[str, Any]:
    """Return SQLite's own description of agent_memory, independent of its text."""
    with closing(connect(path)) as db:
        indexes = db.execute("PRAGMA index_list(agent_memory)").fetchall()
        return {
            "table": db.execute(
                "SELECT type, ncol, wr, strict FROM pragma_table_list('agent_memory')"
            ).fetchall(),
            "columns": db.execute("PRAGMA table_xinfo(agent_memory)").fetchall(),
            "foreign keys": db.execute("PRAGMA foreign_key_list(agent_memory)").fetchall(),
            "indexes": indexes,
            "indexed columns": [
                db.execute(f"PRAGMA index_xinfo('{index[1]}')").fetchall() for index in indexes
            ],
            "triggers": rows_of(db, "SELECT name FROM sqlite_schema WHERE type = 'trigger'"),
        }


def rows_of(db: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    """Return all rows of a query."""
    return db.execute(query).fetchall()


def recorded(path: Path) -> list[tuple[Any, ...]]:
    """Return the steps of a database, and whether each was found rather than applied."""
    with closing(connect(path)) as db:
        return rows(db, "memctl_migrations", "version, name, baseline")


def files(path: Path) -> set[str]:
    """Return the names of the database and of all files beside it."""
    return {file.name for file in path.parent.iterdir()}


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return S_IMODE(path.stat().st_mode)


# An existing table


def test_the_step_of_a_services_table_is_recorded_and_not_executed(
    path: Path, memctl: Memctl
) -> None:
    make_legacy(path)
    before = objects(path), everything(path)

    answer = memctl.ok("migrate", "--to", "1", "--no-backup")

    found = everything(path)
    steps = found.pop("memctl_migrations")
    assert answer == Answer(
        0,
        "",
        f"migrate: applied 001_agent_memory to {path}\n"
        "migrate: agent_memory already existed and was kept unchanged\n",
    )
    assert ([row for row in objects(path) if row[1] != "memctl_migrations"], found) == before
    assert len(steps) == 1
    with closing(connect(path)) as db:
        assert rows(db, "memctl_migrations") == [
            (1, "agent_memory", migrations.available()[0].checksum, AT, 1, __version__)
        ]


def test_migrate_changes_no_memory_and_adds_only_nulls(path: Path, memctl: Memctl) -> None:
    make_legacy(path)
    with closing(connect(path)) as db:
        before = rows(db, "agent_memory", "rowid, *")

    memctl.ok("migrate")

    with closing(connect(path)) as db:
        assert rows(db, "agent_memory", "rowid, *") == [(*row, *[None] * 4) for row in before]
        assert is_sound(db)


def test_migrate_prints_what_it_did(path: Path, memctl: Memctl) -> None:
    make_legacy(path)

    answer = memctl("migrate")

    assert answer == Answer(
        0,
        "",
        f"migrate: applied {ALL_STEPS} to {path}\n"
        f"{BASELINE_MESSAGES}"
        f"migrate: the previous database was saved as {path}.before-migrate-{STAMP}\n",
    )


def test_migrate_prints_nothing_with_quiet(path: Path, memctl: Memctl) -> None:
    make_legacy(path)

    answer = memctl("migrate", "--quiet")

    assert answer == Answer(0, "", "")
    assert len(recorded(path)) == 3


def test_migrate_prints_json(path: Path, memctl: Memctl) -> None:
    make_legacy(path)

    answer = memctl("migrate", "--json")

    assert answer.json == {
        "schema": 1,
        "database": str(path),
        "schema_step": 3,
        "applied": STEPS,
        "created": False,
        "baseline": True,
        "backup": f"{path}.before-migrate-{STAMP}",
        "triggers": [],
        "dry_run": False,
    }
    assert (answer.exit_code, answer.err) == (0, "")


def test_a_second_migrate_does_nothing_and_makes_no_backup(path: Path, memctl: Memctl) -> None:
    make_legacy(path)
    memctl.ok("migrate")
    before = path.read_bytes(), files(path)

    answers = memctl("migrate"), memctl("migrate", "--json")

    assert answers[0] == Answer(0, "", f"migrate: {path} is up to date\n")
    assert answers[1].json == {
        "schema": 1,
        "database": str(path),
        "schema_step": 3,
        "applied": [],
        "created": False,
        "baseline": False,
        "backup": None,
        "triggers": [],
        "dry_run": False,
    }
    assert (path.read_bytes(), files(path)) == before


def test_migrate_keeps_the_journal_mode(path: Path, memctl: Memctl) -> None:
    make_legacy(path)
    with closing(connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")

    memctl.ok("migrate")

    with closing(connect(path)) as db:
        assert rows_of(db, "PRAGMA journal_mode") == [("delete",)]


def test_migrate_keeps_the_write_ahead_log_of_a_crashed_service(
    service: Service, path: Path, tmp_path: Path
) -> None:
    service.remember("build_agent", "learning", "k", "only in the log")
    crashed = tmp_path / "crashed" / path.name
    crashed.parent.mkdir()
    for file in (path, path.with_name(f"{path.name}-wal")):
        shutil.copy(file, crashed.parent)

    Memctl(crashed).ok("migrate")

    with closing(connect(crashed)) as db, closing(connect(backup_of(crashed))) as copy:
        assert rows(db, "agent_memory", "value") == [("only in the log",)]
        assert rows(copy, "agent_memory", "value") == [("only in the log",)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            ("expires_at TEXT,", ""),
            "agent_memory lacks expires_at",
            id="a column is missing",
        ),
        pytest.param(
            ("expires_at TEXT,", "expires_at TEXT, mood TEXT,"),
            "agent_memory has unknown column mood",
            id="an additional column",
        ),
        pytest.param(
            ("expires_at TEXT,", "expires_at TEXT, mood TEXT AS (upper(type)) VIRTUAL,"),
            "agent_memory has unknown column mood",
            id="an additional generated column",
        ),
        pytest.param(
            ("expires_at TEXT,", "expires_at TEXT, archived_at TEXT,"),
            "agent_memory has unknown column archived_at",
            id="a column of memctl's own name",
        ),
        pytest.param(
            (",\n        UNIQUE(agent_id, type, key)", ""),
            "agent_memory does not have the expected definition: expected UNIQUE (agent_id, type,"
            " key), found nothing",
            id="no unique key",
        ),
        pytest.param(
            ("UNIQUE(agent_id, type, key)", "UNIQUE(agent_id, key)"),
            "agent_memory does not have the expected definition: expected UNIQUE (agent_id, type,"
            " key), found UNIQUE (agent_id, key)",
            id="another unique key",
        ),
        pytest.param(
            ("id TEXT PRIMARY KEY", "id TEXT"),
            "agent_memory does not have the expected definition: expected UNIQUE (id), id TEXT"
            " PRIMARY KEY, found id TEXT",
            id="no primary key",
        ),
        pytest.param(
            ("importance INTEGER DEFAULT 5", "importance INTEGER"),
            "agent_memory does not have the expected definition: expected importance INTEGER"
            " DEFAULT 5, found importance INTEGER",
            id="a default is missing",
        ),
        pytest.param(
            ("access_count INTEGER DEFAULT 0", "access_count INTEGER DEFAULT 1"),
            "agent_memory does not have the expected definition: expected access_count INTEGER"
            " DEFAULT 0, found access_count INTEGER DEFAULT 1",
            id="another default",
        ),
        pytest.param(
            ("created_at TEXT DEFAULT (datetime('now'))", "created_at TEXT"),
            "agent_memory does not have the expected definition: expected created_at TEXT DEFAULT"
            " datetime('now'), found created_at TEXT",
            id="no default for the time of creation",
        ),
        pytest.param(
            ("importance INTEGER", "importance TEXT"),
            "agent_memory does not have the expected definition: expected importance INTEGER"
            " DEFAULT 5, found importance TEXT DEFAULT 5",
            id="another type",
        ),
        pytest.param(
            ("value TEXT NOT NULL", "value TEXT"),
            "agent_memory does not have the expected definition: expected value TEXT NOT NULL,"
            " found value TEXT",
            id="a value may be missing",
        ),
        pytest.param(
            ("metadata TEXT", "metadata TEXT NOT NULL"),
            "agent_memory does not have the expected definition: expected metadata TEXT, found"
            " metadata TEXT NOT NULL",
            id="metadata may not be missing",
        ),
        pytest.param(
            ("agent_id TEXT NOT NULL", "agent_id TEXT NOT NULL REFERENCES agents (id)"),
            "agent_memory does not have the expected definition: expected nothing more, found"
            " FOREIGN KEY agent_id",
            id="a foreign key",
        ),
        pytest.param(
            ("UNIQUE(agent_id, type, key)\n    )", "UNIQUE(agent_id, type, key)\n) WITHOUT ROWID"),
            "agent_memory does not have the expected definition: expected a table, id TEXT PRIMARY"
            " KEY, "
            "found a table without rowid, id TEXT NOT NULL PRIMARY KEY",
            id="a table without rowids",
        ),
        pytest.param(
            ("UNIQUE(agent_id, type, key)\n    )", "UNIQUE(agent_id, type, key)\n) STRICT"),
            "agent_memory does not have the expected definition: expected a table, id TEXT PRIMARY"
            " KEY, "
            "found a table strict, id TEXT NOT NULL PRIMARY KEY",
            id="a strict table",
        ),
        pytest.param(
            (
                "importance INTEGER DEFAULT 5",
                "importance INTEGER DEFAULT 5 CHECK (importance < 11)",
            ),
            "agent_memory does not have the expected definition: expected nothing more, found"
            " CHECK (importance < 11) ON CONFLICT ABORT",
            id="a check",
        ),
        pytest.param(
            ("key)\n    )", "key),\n CONSTRAINT short CHECK (length(value) < 100))"),
            "agent_memory does not have the expected definition: expected nothing more, found"
            " CHECK (short) ON CONFLICT ABORT",
            id="a check with a name",
        ),
        pytest.param(
            ("key TEXT NOT NULL", "key TEXT NOT NULL COLLATE NOCASE"),
            "agent_memory does not have the expected definition: expected key COLLATE BINARY,"
            " found key COLLATE NOCASE",
            id="keys that are compared without case",
        ),
        pytest.param(
            ("expires_at TEXT", "expires_at TEXT COLLATE RTRIM"),
            "agent_memory does not have the expected definition: expected expires_at COLLATE"
            " BINARY, found expires_at COLLATE RTRIM",
            id="a collation of a column without an index",
        ),
        pytest.param(
            ("UNIQUE(agent_id, type, key)", "UNIQUE(agent_id, type, key) ON CONFLICT IGNORE"),
            "agent_memory does not have the expected definition: expected UNIQUE"
            " (agent_memory.agent_id, agent_memory.type, agent_memory.key) ON CONFLICT ABORT,"
            " found nothing",
            id="a conflict that is ignored",
        ),
        pytest.param(
            ("value TEXT NOT NULL", "value TEXT NOT NULL ON CONFLICT ROLLBACK"),
            "agent_memory does not have the expected definition: expected NOT NULL"
            " (agent_memory.value) ON CONFLICT ABORT, "
            "found NOT NULL (agent_memory.value) ON CONFLICT ROLLBACK",
            id="a conflict that rolls back",
        ),
        pytest.param(
            ("key)\n    );", "key)\n); CREATE UNIQUE INDEX one ON agent_memory (lower(key));"),
            "agent_memory does not have the expected definition: expected nothing more, found"
            " UNIQUE (an expression)",
            id="a unique expression",
        ),
        pytest.param(
            (
                "key)\n    );",
                "key)\n); CREATE UNIQUE INDEX one ON agent_memory (value) WHERE type;",
            ),
            "agent_memory does not have the expected definition: expected nothing more, found"
            " UNIQUE (agent_memory.value) ON CONFLICT ABORT",
            id="unique in a part of the table",
        ),
        pytest.param(
            ("key)\n    );", "key)\n); CREATE TABLE notes (of TEXT REFERENCES Agent_Memory (id));"),
            "the table notes has a foreign key to agent_memory",
            id="a reference from another table",
        ),
    ],
)
def test_a_table_that_differs_from_the_services_is_refused(
    path: Path, memctl: Memctl, change: tuple[str, str], message: str
) -> None:
    assert change[0] in SCHEMA
    make_legacy(path, table=SCHEMA.replace(*change), memories=0)
    before = path.read_bytes()

    answer = memctl("migrate")

    assert (answer.exit_code, answer.out) == (12, "")
    assert answer.err.startswith(f"memctl: {message}; ")
    assert "nothing was changed" in answer.err
    assert answer.err.count("\n") == 1
    assert path.read_bytes() == before
    assert files(path) == {path.name, f"{path.name}.memctl.lock"}


def test_a_collation_that_only_the_service_has_is_named_in_the_error(
    path: Path, memctl: Memctl
) -> None:
    with closing(connect(path)) as db:
        db.create_collation("theirs", lambda one, other: (one > other) - (one < other))
        db.executescript(
            SCHEMA.replace("value TEXT NOT NULL", "value TEXT NOT NULL COLLATE theirs")
        )
    before = path.read_bytes()

    answer = memctl("migrate", "--no-backup")

    assert (answer.exit_code, answer.out) == (12, "")
    assert answer.err == (
        "memctl: agent_memory uses a feature that this SQLite lacks: no such collation sequence:"
        " theirs; use an SQLite version that has it; nothing was changed\n"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_database_that_is_not_utf8_is_refused(path: Path, memctl: Memctl, encoding: str) -> None:
    make_legacy(path, table=f"PRAGMA encoding = '{encoding}'; {SCHEMA}")
    before = path.read_bytes()

    answer = memctl("migrate")

    assert (answer.exit_code, answer.out) == (12, "")
    assert answer.err == (
        f"memctl: the database stores text as {encoding}, but memctl requires UTF-8; copy it to a"
        " UTF-8 database, for example with `sqlite3 OLD .dump`; nothing was changed\n"
    )
    assert path.read_bytes() == before
    assert files(path) == {path.name, f"{path.name}.memctl.lock"}


def test_a_view_in_place_of_the_table_is_refused(path: Path, memctl: Memctl) -> None:
    make_legacy(path)
    with closing(connect(path)) as db:
        db.execute("ALTER TABLE agent_memory RENAME TO memories")
        db.execute("CREATE VIEW agent_memory AS SELECT * FROM memories")
    before = path.read_bytes()

    answer = memctl("migrate", "--no-backup")

    assert (answer.exit_code, answer.out) == (12, "")
    assert "Traceback" not in answer.err
    assert path.read_bytes() == before


def test_a_foreign_table_with_a_name_of_memctl_is_refused_and_unchanged(
    path: Path, memctl: Memctl
) -> None:
    make_legacy(path)
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE memory_events (id INTEGER PRIMARY KEY, what TEXT)")
        db.execute("INSERT INTO memory_events (what) VALUES ('of another program')")
    before = objects(path), everything(path)

    answer = memctl("migrate", "--no-backup")

    assert (answer.exit_code, answer.out) == (12, "")
    assert "Traceback" not in answer.err
    assert (objects(path), everything(path)) == before


# A database created by memctl


@pytest.mark.parametrize("present", [False, True], ids=["no file yet", "an empty file"])
def test_a_new_database_has_exactly_the_services_table(
    path: Path, memctl: Memctl, tmp_path: Path, present: bool
) -> None:
    Service(tmp_path / "of the service.db").close()
    if present:
        path.touch(mode=0o600)

    answer = memctl("migrate", "--to", "1", "--json")

    assert answer.json == {
        "schema": 1,
        "database": str(path),
        "schema_step": 1,
        "applied": ["001_agent_memory"],
        "created": True,
        "baseline": False,
        "backup": None,
        "triggers": [],
        "dry_run": False,
    }
    assert introspection(path) == introspection(tmp_path / "of the service.db")
    assert recorded(path) == [(1, "agent_memory", 0)]
    assert mode(path) == 0o600
    with closing(connect(path)) as db:
        assert rows_of(db, "PRAGMA journal_mode") == [("wal",)]


def test_a_new_database_is_private_whatever_the_umask(path: Path, memctl: Memctl) -> None:
    habit = os.umask(0)
    try:
        memctl.ok("migrate")
    finally:
        os.umask(habit)

    assert {file.name: mode(file) for file in path.parent.iterdir()} == {
        path.name: 0o600,
        f"{path.name}.memctl.lock": 0o600,
    }


def test_a_new_database_is_complete_and_sound(path: Path, memctl: Memctl) -> None:
    answer = memctl("migrate")

    assert answer == Answer(
        0,
        "",
        f"migrate: created {path}\nmigrate: applied {ALL_STEPS} to {path}\n",
    )
    assert set(everything(path)) == TABLES
    with closing(connect(path)) as db:
        assert is_sound(db)


def test_migrated_databases_of_the_service_and_of_memctl_are_alike(
    path: Path, memctl: Memctl, tmp_path: Path
) -> None:
    make_legacy(path)
    new = Memctl(tmp_path / "new.db")

    memctl.ok("migrate")
    new.ok("migrate")

    assert introspection(path) == introspection(new.database)
    assert {row[:3]: row[3] for row in objects(path) if row[2] != "agent_memory"} == {
        row[:3]: row[3] for row in objects(new.database) if row[2] != "agent_memory"
    }


def test_the_table_is_added_to_a_database_without_it(path: Path, memctl: Memctl) -> None:
    with closing(connect(path)) as db:
        db.executescript("CREATE TABLE tasks (id TEXT); INSERT INTO tasks VALUES ('t1');")
    before = objects(path), everything(path)

    answer = memctl("migrate")

    assert answer.err == (
        f"migrate: applied {ALL_STEPS} to {path}\n"
        f"migrate: the previous database was saved as {path}.before-migrate-{STAMP}\n"
    )
    assert objects(path)[: len(before[0])] == before[0]
    assert everything(path)["tasks"] == before[1]["tasks"]
    assert set(everything(path)) == TABLES | {"tasks"}
    assert recorded(path) == [
        (1, "agent_memory", 0),
        (2, "memory_persistence", 0),
        (3, "holds_and_erasures", 0),
    ]
    assert (objects(backup_of(path)), everything(backup_of(path))) == before


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("with some spaces .db", id="spaces"),
        pytest.param("what?mode=memory", id="a question mark"),
        pytest.param("number#1.db", id="a number sign"),
        pytest.param("100%20%.db", id="percent signs"),
        pytest.param("mémoire-記憶-\N{ELEPHANT}.db", id="unicode"),
        pytest.param("a'b\"c;d.db", id="quotes"),
        pytest.param("line\nbreak.db", id="a line break"),
        pytest.param(":memory:", id="the name of an in-memory database"),
        pytest.param("file:x.db", id="a URI"),
        pytest.param("harness", id="no extension"),
        pytest.param(os.fsdecode(b"half \xf0\x9f an emoji.db"), id="bytes that are not text"),
        pytest.param("x" * 200, id="a long name"),
    ],
)
def test_a_database_can_have_any_path(tmp_path: Path, name: str) -> None:
    memctl = Memctl(tmp_path / name)
    make_legacy(memctl.database)

    migrated = memctl.ok("migrate")
    memctl.ok("rollback", "--to", "1")

    assert migrated.err.count("\n") == 4
    assert recorded(memctl.database) == [(1, "agent_memory", 1)]
    assert files(memctl.database) == {
        name,
        f"{name}.before-migrate-{STAMP}",
        f"{name}.before-migrate-{STAMP}.json",
        f"{name}.before-rollback-{STAMP}",
        f"{name}.before-rollback-{STAMP}.json",
        f"{name}.memctl.lock",
    }


def test_a_link_to_the_database_is_followed_and_stays_a_link(path: Path, tmp_path: Path) -> None:
    make_legacy(path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link.db"
    link.symlink_to(path)

    answer = Memctl(link).ok("migrate", "--json")

    assert link.is_symlink()
    assert files(link) == {"link.db"}
    assert answer.json["backup"] == str(path.with_name(f"{path.name}.before-migrate-{STAMP}"))
    assert files(path) == {
        "elsewhere",
        path.name,
        f"{path.name}.memctl.lock",
        f"{path.name}.before-migrate-{STAMP}",
        f"{path.name}.before-migrate-{STAMP}.json",
    }
    assert len(recorded(path)) == 3


def test_a_view_in_place_of_a_table_is_named_in_the_error(path: Path, memctl: Memctl) -> None:
    make_legacy(path, memories=0)
    with closing(connect(path)) as db:
        db.execute("CREATE VIEW archived_memories AS SELECT 1")

    answer = memctl("migrate")

    assert answer.exit_code == 12
    assert "the database already has another object named archived_memories" in answer.err


def test_a_link_into_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "typo" / "harness.db")

    answer = Memctl(link)("migrate")

    assert answer == Answer(
        10, "", f"memctl: there is no directory {tmp_path / 'typo'}; check --db\n"
    )


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    memctl = Memctl(tmp_path / "typo" / "harness.db")

    answer = memctl("migrate")

    assert answer == Answer(
        10, "", f"memctl: there is no directory {tmp_path / 'typo'}; check --db\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words.split(), id=words)
        for words in (
            "migrate --list",
            "migrate --exit-code",
            "rollback",
            "rollback --to 0 --yes",
            "status",
            "cleanup",
            "cleanup --dry-run",
            "decay",
            "prune",
            "archived build_agent",
            "archive build_agent id-1",
            "restore build_agent id-1",
            "pause --reason repairs",
            "resume",
        )
    ],
)
def test_only_migrate_creates_a_database(path: Path, memctl: Memctl, words: list[str]) -> None:
    answer = memctl(*words)

    assert answer == Answer(
        10,
        "",
        f"memctl: there is no database at {path}; check --db, or create one with `memctl"
        " migrate`\n",
    )
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            b"not a database, but a diary of some length\n" * 50,
            "is not a SQLite database (file is not a database); check --db",
            id="a text file",
        ),
        pytest.param(None, "is a directory; --db must be a database file", id="a directory"),
    ],
)
def test_a_file_that_is_not_a_database_is_not_changed(
    path: Path, memctl: Memctl, content: bytes | None, message: str
) -> None:
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)

    answer = memctl("migrate")

    assert answer == Answer(10, "", f"memctl: {path} {message}\n")
    assert content is None or path.read_bytes() == content


# Target and pending steps


def test_migrate_stops_at_the_given_step_and_continues_later(path: Path, memctl: Memctl) -> None:
    make_legacy(path)

    first = memctl.ok("migrate", "--to", "1", "--json").json["applied"]
    between = recorded(path)
    second = memctl.ok("migrate", "--to", "3", "--json").json["applied"]

    assert [first, second] == [STEPS[:1], STEPS[1:]]
    assert between == [(1, "agent_memory", 1)]
    assert recorded(path) == [
        (1, "agent_memory", 1),
        (2, "memory_persistence", 0),
        (3, "holds_and_erasures", 0),
    ]


@pytest.mark.parametrize("step", ["0", "7", "-1"])
def test_a_step_that_does_not_exist_is_a_usage_error(path: Path, memctl: Memctl, step: str) -> None:
    make_legacy(path)
    before = path.read_bytes()

    answer = memctl("migrate", "--to", step)

    assert answer == Answer(2, "", f"memctl: there is no step {step}; the steps are 1 to 3\n")
    assert path.read_bytes() == before


def test_a_usage_error_creates_no_database(path: Path, memctl: Memctl) -> None:
    answer = memctl("migrate", "--to", "7")

    assert answer.exit_code == 2
    assert not path.exists()


@pytest.mark.parametrize(
    ("steps", "exit_code"),
    [
        pytest.param(0, 12, id="never migrated"),
        pytest.param(1, 12, id="half way"),
        pytest.param(2, 12, id="all but one"),
        pytest.param(3, 0, id="current"),
    ],
)
def test_pending_steps_can_be_listed_without_changing_anything(
    path: Path, memctl: Memctl, steps: int, exit_code: int
) -> None:
    make_legacy(path)
    if steps:
        memctl.ok("migrate", "--to", str(steps), "--no-backup")
    before = path.read_bytes()

    listed = memctl("migrate", "--list", "--json")
    asked = memctl("migrate", "--exit-code")
    both = memctl("migrate", "--exit-code", "--list", "--json")

    pending = "1 step is" if steps == 2 else f"{3 - steps} steps are"
    complaint = f"memctl: {pending} pending; run `memctl migrate`\n"
    assert listed.json == [
        {
            "schema_step": number,
            "name": name[4:],
            "state": "applied" if number <= steps else "pending",
            "applied_at": AT if number <= steps else None,
            "baseline": number == 1 if number <= steps else None,
        }
        for number, name in enumerate(STEPS, start=1)
    ]
    assert (listed.exit_code, listed.err) == (0, "")
    assert asked == Answer(exit_code, "", complaint if exit_code else "")
    assert (both.exit_code, both.out) == (exit_code, listed.out)
    assert path.read_bytes() == before


def test_the_list_of_steps_is_a_table(path: Path, memctl: Memctl) -> None:
    make_legacy(path)
    memctl.ok("migrate", "--to", "1")

    answer = memctl("migrate", "--list")

    assert answer == Answer(
        0,
        "step  name                state    applied           baseline\n"
        "   1  agent_memory        applied  2026-11-22 09:43  yes\n"
        "   2  memory_persistence  pending\n"
        "   3  holds_and_erasures  pending\n",
        "",
    )


# The backup


def backup_of(path: Path, action: str = "migrate") -> Path:
    """Return the path of the backup made before the first change."""
    return path.with_name(f"{path.name}.before-{action}-{STAMP}")


@pytest.mark.parametrize("before", [["migrate --to 1"], ["migrate", "rollback --to 1"]], ids=str)
def test_migrate_warns_of_idle_time_that_decay_will_charge(
    service: Service, memctl: Memctl, before: list[str]
) -> None:
    service.remember("a", "learning", "k", "v")
    for command in before:
        memctl.ok(*command.split(), "--quiet")

    answer = memctl.ok("migrate")

    assert BASELINE_MESSAGES.splitlines()[1] in answer.err.splitlines()


def test_the_backup_is_the_database_before_the_change(
    service: Service, path: Path, memctl: Memctl
) -> None:
    service.remember("build_agent", "learning", "k", "v", importance=7.5)
    service.db.execute("UPDATE agent_memory SET value = CAST(x'f09f00ff' AS TEXT)")
    service.db.execute("CREATE TABLE tasks AS SELECT 1 AS id, zeroblob(9000) AS attachment")
    path.chmod(0o644)
    before = objects(path), everything(path)

    memctl.ok("migrate")

    copy = backup_of(path)
    assert (objects(copy), everything(copy)) == before
    assert mode(copy) == 0o600
    assert not copy.with_name(f"{copy.name}-wal").exists()
    with closing(connect(copy)) as db:
        assert is_sound(db)


def test_no_backup_is_made_with_no_backup(path: Path, memctl: Memctl) -> None:
    make_legacy(path)

    answer = memctl("migrate", "--no-backup", "--json")

    assert answer.json == {
        "schema": 1,
        "database": str(path),
        "schema_step": 3,
        "applied": STEPS,
        "created": False,
        "baseline": True,
        "backup": None,
        "triggers": [],
        "dry_run": False,
    }
    assert files(path) == {path.name, f"{path.name}.memctl.lock"}


def test_a_backup_never_replaces_another(path: Path, memctl: Memctl) -> None:
    make_legacy(path)
    memctl.ok("migrate", "--to", "1")
    first = backup_of(path).read_bytes()

    answer = memctl.ok("migrate", "--json")

    assert answer.json["backup"] == f"{path}.before-migrate-{STAMP}-2"
    assert backup_of(path).read_bytes() == first


# Concurrency


@pytest.mark.parametrize("processes", [2, 5])
@pytest.mark.parametrize("present", [True, False], ids=["a service's database", "no database"])
def test_concurrent_migrations_apply_each_step_once(
    path: Path, memctl: Memctl, processes: int, present: bool
) -> None:
    if present:
        make_legacy(path)

    started = [memctl.start("migrate", "--json") for _ in range(processes)]
    outputs = [process.communicate(timeout=60) for process in started]

    assert [process.returncode for process in started] == [0] * processes
    assert [err for _, err in outputs] == [b""] * processes
    documents = [Answer(0, out.decode(), "").json["applied"] for out, _ in outputs]
    assert sorted(documents) == [[]] * (processes - 1) + [STEPS]
    assert recorded(path) == [
        (1, "agent_memory", int(present)),
        (2, "memory_persistence", 0),
        (3, "holds_and_erasures", 0),
    ]
    with closing(connect(path)) as db:
        assert is_sound(db)


def test_migrate_stopped_by_a_writer_changes_nothing(
    service: Service, path: Path, memctl: Memctl
) -> None:
    service.remember("build_agent", "learning", "k", "v")
    before = objects(path), everything(path)
    service.db.execute("BEGIN IMMEDIATE")

    answer = memctl("migrate", "--lock-wait", "0", "--no-backup")

    service.db.execute("ROLLBACK")
    assert answer == Answer(
        11,
        "",
        f"memctl: {path} is locked by another program (database is locked); the interrupted step"
        " was rolled back; try again, or increase --lock-wait\n",
    )
    assert (objects(path), everything(path)) == before


# A schema that this program did not make


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            "UPDATE memctl_migrations SET sha256 = lower(hex(zeroblob(32))) WHERE version = 2",
            "step 002 (memory_persistence) was changed after it was applied; reinstall memctl: "
            "002_memory_persistence.sql differs from the file that was applied to this database",
            id="a changed step",
        ),
        pytest.param(
            "INSERT INTO memctl_migrations VALUES (9, 'telepathy', '', '2031-01-01', 0, '9.0')",
            "the schema has step 009 (telepathy), which this memctl does not have; the database is"
            " newer than "
            "this program: upgrade memctl",
            id="a step of a newer memctl",
        ),
    ],
)
def test_a_foreign_schema_is_refused_and_unchanged(
    db: sqlite3.Connection, migrated: Memctl, path: Path, change: str, message: str
) -> None:
    insert_memory(db, expires_at="2020-01-01 00:00:00")
    db.execute(change)
    before = objects(path), everything(path)
    commands = ["migrate", "migrate --list", "rollback --yes", "cleanup", "decay --dry-run"]

    answers = {words: migrated(*words.split()) for words in commands}
    status = migrated("status", "--json")

    assert answers == dict.fromkeys(commands, Answer(12, "", f"memctl: {message}\n"))
    assert (objects(path), everything(path)) == before
    assert (status.exit_code, status.json["problem"]) == (0, message)


def test_a_refusal_is_available_as_json(db: sqlite3.Connection, migrated: Memctl) -> None:
    db.execute("INSERT INTO memctl_migrations VALUES (9, 'telepathy', '', '2031-01-01', 0, '9.0')")

    answer = migrated("migrate", "--json")

    assert (answer.exit_code, answer.out) == (12, "")
    assert Answer(0, answer.err, "").json == {
        "error": {
            "code": "schema",
            "exit_code": 12,
            "message": "the schema has step 009 (telepathy), which this memctl does not have",
            "hint": "the database is newer than this program: upgrade memctl",
        }
    }


def test_the_record_holds_the_checksum_of_the_file(path: Path, memctl: Memctl) -> None:
    memctl.ok("migrate")

    with closing(connect(path)) as db:
        assert rows(db, "memctl_migrations", "version, sha256") == [
            (number, sha256((folder() / f"{name}.sql").read_bytes()).hexdigest())
            for number, name in enumerate(STEPS, start=1)
        ]
