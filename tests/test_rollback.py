"""Rollback: the text of the schema and every active memory are restored byte for byte."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.database import STEPS, connect, everything, insert_memory, is_sound, rows
from tests.support.program import NOW, PROGRAM, Answer, Memctl
from tests.support.service import COLUMNS, SCHEMA, Service

STAMP = f"{NOW:%Y%m%dT%H%M%SZ}"
LONG_AGO = "2020-01-01T00:00:00.000Z"
TABLES_OF_STEP = [
    {"agent_memory"},
    {"agent_memory", "memctl_migrations"},
    {
        "agent_memory",
        "archived_memories",
        "memctl_migrations",
        "memory_access_counts",
        "memory_analytics",
        "memory_events",
        "memory_promotions",
        "memory_runs",
        "memory_state",
    },
]

# Values that a service may have stored, named by what is unusual about them. Text is given as str
# (bytes that are not UTF-8 as surrogates), a BLOB as bytes.
UNUSUAL: dict[str, dict[str, Any]] = {
    "an ordinary memory": {"value": "cache the toolchain"},
    "text that is not UTF-8": {"value": "half \udcf0\udc9f an emoji", "agent_id": "\udcff"},
    "a NUL inside": {"value": "before\0after", "key": "\0", "metadata": "{}\0"},
    "control characters": {"value": "\x1b[31mred\x07\x7f\r\n\t", "agent_id": "a\nb"},
    "right-to-left marks": {"key": "\u202eabc\u200f", "value": "\ufeff"},
    "no text at all": {"agent_id": "", "type": "", "value": ""},
    "numbers as text": {"agent_id": "007", "value": "1e3", "metadata": "7", "expires_at": "0"},
    "blobs": {"value": b"\x00\xff\x00", "metadata": b"", "expires_at": b"2020-01-01"},
    "a blob for an id": {"id": b"\x80id"},
    "a fractional importance": {"importance": 7.5},
    "a tiny importance": {"importance": 0.1 + 0.2},
    "an infinite importance": {"importance": float("inf")},
    "an importance in words": {"importance": "high"},
    "an empty importance": {"importance": ""},
    "no importance": {"importance": None},
    "importance zero": {"importance": 0},
    "a negative importance": {"importance": -3},
    "the largest integer": {"importance": 2**63 - 1, "access_count": -(2**63)},
    "a blob for an importance": {"importance": b"5"},
    "a word for a count": {"access_count": "often"},
    "a fraction for a count": {"access_count": 1e308},
    "nothing but what must be": dict.fromkeys(
        ("metadata", "importance", "access_count", "last_accessed", "created_at", "expires_at")
    ),
    "a year far ahead": {"expires_at": "+011533-07-07T00:00:00.000Z"},
    "a year long gone": {"expires_at": "-000192-09-06T00:00:00.000Z"},
    "garbage for times": {"expires_at": "soon", "created_at": "\0", "last_accessed": 1.5},
    "a big value": {"value": "x" * 3_000_000, "metadata": "\N{ELEPHANT}" * 100_000},
    "no id": {"id": None},
    "no id either": {"id": None},
}

Rows = dict[str | bytes, tuple[Any, ...]]


def insert_exactly(db: sqlite3.Connection, **columns: Any) -> None:
    """Insert a memory whose text may be invalid UTF-8."""
    memory = {
        "id": f"id of {columns['key']}",
        "agent_id": "build_agent",
        "type": "learning",
        "value": "v",
        "last_accessed": "2026-01-01 00:00:00",
        "created_at": "2025-01-01 00:00:00",
        **columns,
    }
    marks = ", ".join(
        "CAST(? AS TEXT)" if isinstance(value, str) else "?" for value in memory.values()
    )
    given = [
        value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        for value in memory.values()
    ]
    db.execute(f"INSERT INTO agent_memory ({', '.join(memory)}) VALUES ({marks})", given)


def memories(path: Path) -> list[tuple[Any, ...]]:
    """Return every memory by rowid: SQLite type and bytes of each of the service's columns."""
    exact = ", ".join(f"typeof({name}), {name}" for name in COLUMNS)
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        return db.execute(f"SELECT rowid, {exact} FROM agent_memory ORDER BY rowid").fetchall()


def schema(path: Path) -> list[tuple[Any, ...]]:
    """Return the rows of `sqlite_schema` without the root pages."""
    with closing(connect(path)) as db:
        return db.execute(
            "SELECT rowid, type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid"
        ).fetchall()


def state(path: Path) -> tuple[Any, ...]:
    """Return everything that a refusal must not change."""
    return schema(path), everything(path), {file.name for file in path.parent.iterdir()}


def backup_of(path: Path) -> Path:
    """Return the path of the copy that the first rollback made."""
    return path.with_name(f"{path.name}.before-rollback-{STAMP}")


# What is restored.


@pytest.fixture(scope="module")
def there_and_back(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Every unusual memory before migrate and after rollback."""
    path = tmp_path_factory.mktemp("peculiar") / "harness.db"
    Service(path).close()
    with closing(connect(path)) as db:
        for number, (name, columns) in enumerate(UNUSUAL.items()):
            insert_exactly(db, **{"key": f"{number:02} {name}", **columns})
        db.execute("DELETE FROM agent_memory WHERE rowid = 1")
        insert_exactly(db, key="the first again", **UNUSUAL["an ordinary memory"])
    before = memories(path)
    Memctl(path).ok("migrate", "--no-backup")
    Memctl(path).ok("rollback", "--to", "0")
    after = memories(path)
    names = [*list(UNUSUAL)[1:], "an ordinary memory"]
    assert len(before) == len(after) == len(UNUSUAL)
    return dict(zip(names, zip(before, after, strict=True), strict=True))


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_memory_is_the_same_after_rollback_byte_for_byte(
    there_and_back: dict[str, tuple[Any, Any]], name: str
) -> None:
    before, after = there_and_back[name]

    assert after == before


def test_rollback_keeps_every_value_of_a_column(path: Path, memctl: Memctl) -> None:
    random = Random(7)
    anything: list[Callable[[], Any]] = [
        lambda: None,
        lambda: random.randint(-(2**63), 2**63 - 1),
        lambda: random.randint(-9, 9),
        lambda: random.uniform(-1e9, 1e9),
        lambda: random.randbytes(random.randrange(40)),
        lambda: random.randbytes(random.randrange(40)).decode("utf-8", "surrogateescape"),
        lambda: random.choice(["1.0", " 7", "0x10", "1e400", "-0", "9" * 30]),
    ]
    Service(path).close()
    with closing(connect(path)) as db:
        for number in range(500):
            columns = {name: random.choice(anything)() for name in COLUMNS}
            for name in ("agent_id", "type", "value"):
                columns[name] = "v" if columns[name] is None else columns[name]
            insert_exactly(db, **columns | {"id": None, "key": str(number)})
        db.execute("DELETE FROM agent_memory WHERE rowid % 7 = 0")
    before = memories(path)

    memctl.ok("migrate", "--no-backup")
    migrated = memories(path)
    memctl.ok("rollback", "--to", "0")

    assert migrated == before
    assert memories(path) == before
    with closing(connect(path)) as db:
        assert is_sound(db)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(SCHEMA, id="as the service writes it"),
        pytest.param(" ".join(SCHEMA.split()), id="on one line"),
        pytest.param(
            SCHEMA.replace("expires_at TEXT,", "expires_at TEXT -- or NULL, which is never\n,"),
            id="with a comment after the last column",
        ),
        pytest.param(
            SCHEMA.replace("type, key)\n    )", "type, key) /* one, each */ -- the end)\n)"),
            id="with comments at the end",
        ),
        pytest.param(
            SCHEMA.replace("agent_memory (", '"agent_memory"(').replace("key TEXT", "[key] text"),
            id="with quoted names",
        ),
        pytest.param(
            SCHEMA.replace("id TEXT PRIMARY KEY,", "").replace(
                "expires_at TEXT,", "expires_at TEXT, id TEXT PRIMARY KEY,"
            ),
            id="in another order",
        ),
    ],
)
def test_the_text_of_the_schema_is_the_same_after_rollback(
    path: Path, memctl: Memctl, table: str
) -> None:
    with closing(connect(path)) as db:
        db.executescript(table)
        insert_memory(db)
    before = schema(path), memories(path)

    memctl.ok("migrate")
    memctl.ok("rollback", "--to", "0")

    assert (schema(path), memories(path)) == before


def test_rollback_keeps_memories_written_after_migrate(
    migrated: Memctl, service: Service, path: Path
) -> None:
    service.remember("build_agent", "learning", "k", "old", importance=9)
    service.remember("build_agent", "learning", "k", "new", importance="high")
    service.recall("build_agent", "learning", "k")
    before = memories(path)

    migrated.ok("rollback", "--to", "0")

    assert memories(path) == before


def test_a_database_can_be_migrated_again(path: Path, memctl: Memctl) -> None:
    Service(path).close()
    with closing(connect(path)) as db:
        insert_memory(db)
        gone = insert_memory(db, expires_at=LONG_AGO)
    memctl.ok("migrate")
    first = schema(path)
    memctl.ok("cleanup")
    kept = memories(path)

    memctl.ok("rollback", "--to", "0", "--yes")
    answer = memctl.ok("migrate", "--json")

    found = everything(path)
    assert answer.json["applied"] == STEPS
    assert [row[1:] for row in schema(path)] == [row[1:] for row in first]
    assert memories(path) == kept
    assert gone.encode() not in {row[3] for row in kept}
    assert [name for name, content in found.items() if content] == [
        "agent_memory",
        "memctl_migrations",
        "memory_state",  # the identity of the database
    ]


def test_a_broken_view_of_another_program_is_an_error_and_changes_nothing(
    path: Path, memctl: Memctl
) -> None:
    Service(path).close()
    with closing(connect(path)) as db:
        db.execute("CREATE VIEW of_the_past AS SELECT * FROM a_table_that_was_dropped")
    memctl.ok("migrate")
    before = everything(path)

    answer = memctl("rollback", "--to", "0")

    assert answer == Answer(
        12,
        "",
        "memctl: step 002 cannot be rolled back: error in view of_the_past: "
        "no such table: main.a_table_that_was_dropped; "
        "another program created it and must change it first; nothing was changed\n",
    )
    assert everything(path) == before


# How far.


@pytest.mark.parametrize(
    ("words", "taken_back", "left"),
    [
        pytest.param("", STEPS[2:], [1, 2], id="one step by default"),
        pytest.param("--steps 1", STEPS[2:], [1, 2], id="one step"),
        pytest.param("--steps 2", STEPS[1:], [1], id="two steps"),
        pytest.param("--to 1", STEPS[1:], [1], id="to the first step"),
        pytest.param("--steps 3", STEPS, [], id="three steps"),
        pytest.param("--to 0", STEPS, [], id="all"),
        pytest.param("--steps 9", STEPS, [], id="more than all"),
    ],
)
def test_rollback_goes_back_as_far_as_specified(
    migrated: Memctl, path: Path, words: str, taken_back: list[str], left: list[int]
) -> None:
    answer = migrated.ok("rollback", *words.split(), "--json")

    with closing(connect(path)) as db:
        tables = set(everything(path))
        recorded = rows(db, "memctl_migrations", "version") if left else []
    assert answer == Answer(0, answer.out, "")
    assert answer.json == {
        "schema": 1,
        "database": str(path),
        "schema_step": left[-1] if left else 0,
        "rolled_back": taken_back[::-1],
        "backup": str(backup_of(path)),
        "archived_in_backup": 0,
        "tombstones": 0,
        "dry_run": False,
        "archive_command": None,
    }
    assert tables == TABLES_OF_STEP[len(left)]
    assert recorded == [(version,) for version in left]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            "--to 4", "cannot roll back to step 4; the database is at step 3", id="a later step"
        ),
        pytest.param(
            "--to -1", "cannot roll back to step -1; the database is at step 3", id="below zero"
        ),
        pytest.param(
            "--to 1 --steps 1",
            "--to and --steps cannot be used together; choose one",
            id="--to and --steps",
        ),
    ],
)
def test_an_invalid_step_is_a_usage_error(
    migrated: Memctl, path: Path, words: str, message: str
) -> None:
    before = state(path)

    answer = migrated("rollback", *words.split())

    assert answer == Answer(2, "", f"memctl: {message}\n")
    assert state(path) == before


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("rollback", id="a database that was never migrated"),
        pytest.param("rollback --to 0 --yes", id="a database that was never migrated, confirmed"),
    ],
)
def test_without_steps_rollback_changes_nothing(path: Path, memctl: Memctl, words: str) -> None:
    Service(path).close()
    before = path.read_bytes()

    answer = memctl(*words.split())

    assert answer == Answer(0, "", f"rollback: {path} has no steps to roll back\n")
    assert path.read_bytes() == before
    assert not backup_of(path).exists()


def test_rolling_back_to_the_current_step_changes_nothing(migrated: Memctl, path: Path) -> None:
    before = state(path)

    answers = migrated("rollback", "--to", "3"), migrated("rollback", "--to", "3", "--json")

    assert answers[0] == Answer(0, "", f"rollback: {path} has no steps to roll back\n")
    assert answers[1].json == {
        "schema": 1,
        "database": str(path),
        "schema_step": 3,
        "rolled_back": [],
        "backup": None,
        "archived_in_backup": 0,
        "tombstones": 0,
        "dry_run": False,
        "archive_command": None,
    }
    assert state(path) == before


# Archived memories


def test_rollback_with_archived_memories_needs_confirmation(
    db: sqlite3.Connection, migrated: Memctl, path: Path
) -> None:
    insert_memory(db)
    for _ in range(2):
        insert_memory(db, expires_at=LONG_AGO)
    migrated.ok("cleanup")
    before = state(path)

    answer = migrated("rollback", "--to", "1")
    as_json = migrated("rollback", "--to", "1", "--json")

    assert answer == Answer(
        3,
        "",
        "memctl: 2 archived memories would remain only in the backup made first; "
        "confirm with --yes; nothing was changed\n",
    )
    assert (as_json.exit_code, as_json.out) == (3, "")
    assert Answer(0, as_json.err, "").json["error"]["code"] == "refused"
    assert state(path) == before


def test_the_backup_has_the_archived_memories(
    db: sqlite3.Connection, migrated: Memctl, path: Path
) -> None:
    insert_memory(db)
    for value in ("first", b"\xff\x00", 7.5):
        insert_memory(db, value=value, expires_at=LONG_AGO)
    migrated.ok("cleanup")
    before = schema(path), everything(path)
    kept = memories(path)

    answer = migrated("rollback", "--to", "1", "--yes")

    copy = backup_of(path)
    assert (answer.exit_code, answer.out) == (0, "")
    assert answer.err.splitlines()[:-1] == [
        "rollback: rolled back 003_holds_and_erasures, 002_memory_persistence",
        f"rollback: the previous database, with 3 archived memories, was saved as {copy}",
    ]
    assert answer.err.splitlines()[-1] == (
        f"rollback: to bring the archive back, run: {PROGRAM} migrate --db {path} && {PROGRAM}"
        f" export --all --archived-only --db {copy} | {PROGRAM} import --all - --allow-invalid"
        f" --db {path}"
    )
    assert (schema(copy), everything(copy)) == before
    assert len(before[1]["archived_memories"]) == 3
    assert copy.stat().st_mode & 0o777 == 0o600
    assert memories(path) == kept
    with closing(connect(copy)) as backup:
        assert is_sound(backup)


def test_archived_memories_can_be_restored_from_the_backup(
    db: sqlite3.Connection, migrated: Memctl, path: Path
) -> None:
    gone = insert_memory(db, expires_at=LONG_AGO)
    before = memories(path)
    migrated.ok("cleanup")
    migrated.ok("rollback", "--to", "0", "--yes")

    Memctl(backup_of(path)).ok("restore", "build_agent", gone)

    restored = memories(backup_of(path))
    assert restored[0][1:-2] == before[0][1:-2]


@pytest.mark.parametrize("words", ["--to 0", "--to 0 --yes", "--steps 3 --yes"])
def test_a_table_created_by_memctl_is_kept_while_it_has_memories(
    path: Path, memctl: Memctl, words: str
) -> None:
    memctl.ok("migrate")
    with closing(connect(path)) as db:
        insert_memory(db)
    before = state(path)

    answer = memctl("rollback", *words.split())

    assert answer == Answer(
        3,
        "",
        "memctl: step 001 cannot be rolled back: agent_memory holds memories, and memctl created "
        "it; `memctl rollback --to 1` rolls back the other steps; nothing was changed\n",
    )
    assert state(path) == before


def test_other_steps_of_a_database_created_by_memctl_can_be_rolled_back(
    path: Path, memctl: Memctl
) -> None:
    memctl.ok("migrate", "--to", "1")
    with closing(connect(path)) as db:
        insert_memory(db)
    before = schema(path), memories(path)
    memctl.ok("migrate")

    memctl.ok("rollback", "--to", "1")

    assert (schema(path), memories(path)) == before


def test_an_empty_table_created_by_memctl_is_removed(path: Path, memctl: Memctl) -> None:
    memctl.ok("migrate")

    answer = memctl("rollback", "--to", "0")

    assert answer == Answer(
        0,
        "",
        f"rollback: rolled back {', '.join(STEPS[::-1])}\n"
        f"rollback: the previous database was saved as {backup_of(path)}\n",
    )
    assert schema(path) == []
    assert memctl.ok("migrate", "--json").json["baseline"] is False


# The step with holds and erasures


def add_past_hold(db: sqlite3.Connection) -> None:
    """Add a hold on the memories of an agent that has ended."""
    db.execute(
        "INSERT INTO memory_holds (agent_id, held_at, until)"
        " VALUES ('a', '2026-11-20T09:43:58Z', '2026-11-21T09:43:58Z')"
    )


def add_tombstone(db: sqlite3.Connection) -> None:
    """Add a tombstone."""
    db.execute(
        "INSERT INTO memory_tombstones (kind, erased_at, salt, name_hash)"
        " VALUES ('erased', '2026-11-22T09:43:58Z', zeroblob(32), x'0102')"
    )


def test_the_archive_and_the_ledger_stay_when_only_the_newest_step_is_rolled_back(
    db: sqlite3.Connection, migrated: Memctl, path: Path
) -> None:
    insert_memory(db)
    insert_memory(db, expires_at=LONG_AGO)
    migrated.ok("cleanup")
    before = everything(path)

    answer = migrated("rollback")
    status = migrated("status")
    others = {migrated(name).exit_code for name in ("runs", "cleanup", "report")}

    after = everything(path)
    assert answer == Answer(
        0,
        "",
        "rollback: rolled back 003_holds_and_erasures\n"
        f"rollback: the previous database was saved as {backup_of(path)}\n",
    )
    kept = TABLES_OF_STEP[2] - {"memctl_migrations"}
    assert set(after) == TABLES_OF_STEP[2]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert "\nschema    step 2, pending: 003_holds_and_erasures\n" in status.out
    assert others == {12}


@pytest.mark.parametrize(
    "enabled",
    [
        pytest.param(["archive-on-delete"], id="one"),
        pytest.param(["archive-on-delete", "archive-on-replace"], id="both"),
        pytest.param(["archive-on-replace"], id="the other"),
    ],
)
@pytest.mark.parametrize("held", [False, True], ids=["no holds", "a hold that has ended"])
def test_archive_on_delete_works_at_the_step_before_and_archive_on_replace_is_off(
    migrated: Memctl, service: Service, db: sqlite3.Connection, enabled: list[str], held: bool
) -> None:
    if held:
        add_past_hold(db)
    for feature in enabled:
        migrated.ok("enable", feature)
    service.remember("a", "learning", "k", "first")

    migrated.ok("rollback", "--yes")
    service.remember("a", "learning", "k", "second")
    service.remember("a", "learning", "k", "third")
    forgotten = service.forget("a", "learning", "k")
    at_step_2 = rows(db, "archived_memories", "value, archived_reason")
    states_at_step_2 = features(migrated)
    migrated.ok("migrate")
    service.remember("a", "learning", "k", "fourth")
    service.forget("a", "learning", "k")

    kept = "archive-on-delete" in enabled
    assert forgotten
    assert at_step_2 == ([("third", "deleted")] if kept else [])
    assert [row[0] for row in rows(db, "archived_memories", "value")] == (
        ["third", "fourth"] if kept else []
    )
    assert states_at_step_2 == features(migrated)
    assert features(migrated) == ({"archive-on-delete": "on"} if kept else {})
    assert rows_of(db, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'") == [(kept,)]


def features(memctl: Memctl) -> dict[str, str]:
    """Return the features that are not off."""
    found = memctl.ok("status", "--json").json["features"]
    return {row["feature"]: row["state"] for row in found if row["state"] != "off"}


def rows_of(db: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    """Return all rows of a query."""
    return db.execute(query).fetchall()


def test_migrate_renews_the_trigger_that_an_earlier_memctl_created(
    migrated: Memctl, service: Service, db: sqlite3.Connection
) -> None:
    migrated.ok("enable", "archive-on-delete")
    migrated.ok("rollback")
    db.execute("DROP TRIGGER memctl_archive_on_delete")
    db.execute(
        "CREATE TRIGGER memctl_archive_on_delete AFTER DELETE ON agent_memory BEGIN SELECT 1; END"
    )

    migrated.ok("migrate")
    service.remember("a", "learning", "k", "v")
    service.forget("a", "learning", "k")

    assert features(migrated) == {"archive-on-delete": "on"}
    assert rows(db, "archived_memories", "value") == [("v",)]


@pytest.mark.parametrize("to", ["2", "1", "0"])
def test_tombstones_outlive_a_rollback(path: Path, memctl: Memctl, to: str) -> None:
    memctl.ok("migrate")
    with closing(connect(path)) as db:
        add_tombstone(db)
        before = rows(db, "memory_tombstones")

    preview = memctl("rollback", "--to", to, "--dry-run")
    answer = memctl("rollback", "--to", to)
    with closing(connect(path)) as db:
        between = rows(db, "memory_tombstones")
    again = memctl("rollback", "--to", "0")
    memctl.ok("migrate")

    kept = (
        "1 tombstone, by which later imports and restores recognize what was erased; `DROP TABLE"
        " memory_tombstones` removes them"
    )
    assert preview.err.splitlines()[-1] == f"rollback: would keep {kept}"
    assert answer.err.splitlines()[-1] == f"rollback: kept {kept}"
    assert between == before
    assert again.exit_code == 0
    with closing(connect(path)) as db:
        assert rows(db, "memory_tombstones") == before
        assert is_sound(db)


def test_migrate_refuses_another_table_named_like_the_tombstones(
    service: Service, memctl: Memctl, path: Path
) -> None:
    memctl.ok("migrate", "--to", "2")
    service.db.execute("CREATE TABLE memory_tombstones (kind TEXT)")
    before = state(path)

    answer = memctl("migrate")

    assert answer == Answer(
        12,
        "",
        "memctl: the database already has another object named memory_tombstones; rename it, or use"
        " another database; nothing was changed\n",
    )
    assert state(path) == before


# A table so large that rollback blocks its users noticeably.


@pytest.fixture(scope="module")
def hundred_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service's database with 100,000 memories."""
    path = tmp_path_factory.mktemp("large") / "harness.db"
    Service(path).close()
    with closing(connect(path)) as db:
        db.execute(
            """
            INSERT INTO agent_memory (id, agent_id, type, key, value)
            WITH RECURSIVE counter (n) AS (
                SELECT 1
                UNION ALL
                SELECT n + 1 FROM counter WHERE n < 100000
            )
            SELECT 'id-' || n, 'build_agent', 'learning', 'key-' || n, 'v' FROM counter
            """
        )
    return path


def test_a_hundred_thousand_memories_are_rolled_back_unconfirmed(
    hundred_thousand: Path, path: Path, memctl: Memctl
) -> None:
    shutil.copy(hundred_thousand, path)
    before = schema(path), memories(path)
    memctl.ok("migrate", "--no-backup")

    memctl.ok("rollback", "--to", "0")

    assert (schema(path), memories(path)) == before


def test_more_memories_need_confirmation_that_their_users_are_stopped(
    hundred_thousand: Path, path: Path, memctl: Memctl
) -> None:
    shutil.copy(hundred_thousand, path)
    with closing(connect(path)) as db:
        insert_memory(db)
    memctl.ok("migrate", "--no-backup")
    before = state(path)

    answer = memctl("rollback", "--to", "1")
    refused = state(path)
    sure = memctl("rollback", "--to", "1", "--yes")

    assert answer == Answer(
        3,
        "",
        "memctl: rewriting 100,001 memories would hold the write lock for seconds, and other"
        " writers could fail; stop them and confirm with --yes; nothing was changed\n",
    )
    assert refused == before
    assert sure.exit_code == 0
    assert set(everything(path)) == {"agent_memory", "memctl_migrations"}


def test_no_confirmation_is_needed_where_no_memory_is_rewritten(
    hundred_thousand: Path, path: Path, memctl: Memctl
) -> None:
    shutil.copy(hundred_thousand, path)
    with closing(connect(path)) as db:
        insert_memory(db)
    memctl.ok("migrate", "--to", "1", "--no-backup")

    answer = memctl("rollback", "--to", "0")

    assert answer.exit_code == 0, answer
    assert set(everything(path)) == {"agent_memory"}


def test_rollback_stopped_by_a_writer_changes_nothing(
    migrated: Memctl, service: Service, path: Path
) -> None:
    service.remember("build_agent", "learning", "k", "v")
    before = schema(path), everything(path)
    service.db.execute("BEGIN IMMEDIATE")

    answer = migrated("rollback", "--lock-wait", "0")

    service.db.execute("ROLLBACK")
    assert (answer.exit_code, answer.out) == (11, "")
    assert (schema(path), everything(path)) == before
