"""Status: the state of a database, read without changing it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from memctl.cli import status
from memctl.cli.options import GlobalOptions
from memctl.storage import engines
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.features import Feature
from tests.support.database import ALL_STEPS, STEPS, connect, insert_memory, rows, text_of
from tests.support.program import NOW, Answer, Memctl
from tests.support.service import Service

ALL_OFF = [{"feature": feature, "state": "off", "since": None} for feature in get_args(Feature)]


def make_legacy(path: Path, memories: int) -> None:
    """Make the database that a service leaves behind."""
    Service(path).close()
    with closing(connect(path)) as db:
        for _ in range(memories):
            insert_memory(db)


def duration_of(db: sqlite3.Connection, run_id: int) -> int:
    """Return the duration of a run in the ledger, which a test cannot predict."""
    query = "SELECT duration_ms FROM memory_runs WHERE run_id = ?"
    return int(db.execute(query, (run_id,)).fetchone()[0])


def readable(size: int) -> str:
    """Return the size of a small database as the text form shows it."""
    return f"{size / 1000:.{0 if size >= 99_950 else 1}f} kB"


def storage(path: Path, *, free_pages: int = 0) -> dict[str, int]:
    """Return the sizes of a database as JSON has them."""
    log = path.with_name(f"{path.name}-wal")
    return {
        "size_bytes": path.stat().st_size,
        "wal_bytes": log.stat().st_size if log.exists() else 0,
        "free_pages": free_pages,
        "free_bytes": free_pages * 4096,
    }


def test_status_of_an_unmigrated_database(path: Path, memctl: Memctl) -> None:
    make_legacy(path, memories=3)
    before = path.read_bytes()

    answer = memctl("status")
    as_json = memctl("status", "--json")

    assert answer == Answer(
        0,
        f"database  {path} ({readable(len(before))})\n"
        f"schema    step 0, pending: {ALL_STEPS}\n"
        "memories  3\n"
        "archived  no table\n",
        "",
    )
    assert as_json.json == {
        "schema": 1,
        "database": str(path),
        "storage": storage(path),
        "schema_step": 0,
        "pending": STEPS,
        "problem": None,
        "memories": 3,
        "archived": None,
        "features": [],
        "jobs": [],
        "paused": None,
    }
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_status_of_a_database_without_the_table(path: Path, memctl: Memctl) -> None:
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE tasks (id TEXT)")

    answer = memctl("status")

    assert answer == Answer(
        0,
        f"database  {path} ({readable(path.stat().st_size)})\n"
        f"schema    step 0, pending: {ALL_STEPS}\n"
        "memories  no table\n"
        "archived  no table\n",
        "",
    )


def test_status_of_a_partly_migrated_database(path: Path, memctl: Memctl) -> None:
    make_legacy(path, memories=1)
    memctl.ok("migrate", "--to", "1")

    answer = memctl("status")

    assert answer == Answer(
        0,
        f"database  {path} ({readable(path.stat().st_size)})\n"
        "schema    step 1, pending: 002_memory_persistence, 003_holds_and_erasures\n"
        "memories  1\n"
        "archived  no table\n",
        "",
    )


def test_status_of_a_migrated_database_before_its_first_job(migrated: Memctl, path: Path) -> None:
    answer = migrated("status")

    assert answer == Answer(
        0,
        f"database  {path} ({readable(path.stat().st_size)})\n"
        "schema    step 3, current\n"
        "memories  0\n"
        "archived  0\n",
        "",
    )


def test_status_of_a_database_in_use(db: sqlite3.Connection, migrated: Memctl, path: Path) -> None:
    insert_memory(db)
    insert_memory(db, expired_for=timedelta(hours=1))
    migrated.ok("cleanup")
    migrated.ok("decay")
    later = migrated.at(NOW + timedelta(minutes=15))
    later.ok("cleanup")

    answer = later("status")
    as_json = later("status", "--json")

    cleanup, decay = duration_of(db, 3), duration_of(db, 2)
    took = max(4, len(f"{max(cleanup, decay)} ms"))
    size = path.stat().st_size
    assert answer == Answer(
        0,
        f"database  {path} ({readable(size)})\n"
        "schema    step 3, current\n"
        "memories  1\n"
        "archived  1\n"
        f"job      status  started           run  {'took':>{took}}\n"
        f"cleanup  ok      2026-11-22 09:58    3  {f'{cleanup} ms':>{took}}\n"
        f"decay    ok      2026-11-22 09:43    2  {f'{decay} ms':>{took}}\n",
        "",
    )
    assert as_json.json == {
        "schema": 1,
        "database": str(path),
        "storage": storage(path),
        "schema_step": 3,
        "pending": [],
        "problem": None,
        "memories": 1,
        "archived": 1,
        "features": ALL_OFF,
        "jobs": [
            {
                "job": "cleanup",
                "run_id": 3,
                "started_at": "2026-11-22T09:58:58Z",
                "status": "ok",
                "duration_ms": cleanup,
                "error": None,
            },
            {
                "job": "decay",
                "run_id": 2,
                "started_at": "2026-11-22T09:43:58Z",
                "status": "ok",
                "duration_ms": decay,
                "error": None,
            },
        ],
        "paused": None,
    }


def test_unfinished_and_failed_runs_are_shown_escaped(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.executescript(
        """
        INSERT INTO memory_runs
            (job, started_at, status, duration_ms, error, memctl_version, host, pid)
        VALUES
            ('decay', '2026-11-22T09:00:00Z', 'running', NULL, NULL, '0.1.0', 'h', 1),
            ('prune', '2026-11-22T09:00:00Z', 'failed', 5, char(27) || '[31m[b]red' || char(10),
                '0.1.0', 'h', 1);
        """
    )

    answer = migrated("status")

    assert answer.out.splitlines()[4:] == [
        "job    status   started           run  took  error",
        "decay  running  2026-11-22 09:00    1",
        "prune  failed   2026-11-22 09:00    2  5 ms  \\x1b[31m[b]red\\n",
    ]


def test_a_pause_is_shown_while_it_lasts(migrated: Memctl, path: Path) -> None:
    migrated.ok("pause", "--for", "2h", "--reason", "moving \x1b[31mhouse")

    answer = migrated("status")
    as_json = migrated("status", "--json")
    later = migrated.at(NOW + timedelta(hours=2))("status", "--json")

    assert answer == Answer(
        0,
        f"database  {path} ({readable(path.stat().st_size)})\n"
        "schema    step 3, current\n"
        "memories  0\n"
        "archived  0\n"
        "paused    until 2026-11-22T11:43:58Z: moving \\x1b[31mhouse\n",
        "",
    )
    assert as_json.json["paused"] == {
        "since": "2026-11-22T09:43:58Z",
        "until": "2026-11-22T11:43:58Z",
        "reason": "moving \x1b[31mhouse",
    }
    assert later.json["paused"] is None


@pytest.mark.parametrize(
    ("change", "version", "problem"),
    [
        pytest.param(
            "UPDATE memctl_migrations SET sha256 = 'another' WHERE version = 2",
            3,
            "step 002 (memory_persistence) was changed after it was applied; reinstall memctl: "
            "002_memory_persistence.sql differs from the file that was applied to this database",
            id="a changed step",
        ),
        pytest.param(
            "INSERT INTO memctl_migrations VALUES (9, 'telepathy', '', '2031-01-01', 0, '9.0')",
            9,
            "the schema has step 009 (telepathy), which this memctl does not have; the database is"
            " newer than "
            "this program: upgrade memctl",
            id="a step of a newer memctl",
        ),
        pytest.param(
            "ALTER TABLE agent_memory ADD COLUMN mood TEXT",
            3,
            "agent_memory has unknown column mood; memctl does not support this table; nothing"
            " was changed",
            id="a column that memctl does not know",
        ),
        pytest.param(
            "ALTER TABLE agent_memory DROP COLUMN promoted_at",
            3,
            "agent_memory lacks promoted_at; memctl does not support this table; nothing was"
            " changed",
            id="a column that is gone",
        ),
    ],
)
def test_a_problem_with_the_schema_is_reported(
    db: sqlite3.Connection, migrated: Memctl, path: Path, change: str, version: int, problem: str
) -> None:
    insert_memory(db)
    db.execute(change)
    before = rows(db, "agent_memory")

    answer = migrated("status")
    as_json = migrated("status", "--json")

    assert (answer.exit_code, answer.err) == (0, "")
    assert f"\nproblem   {problem}\n" in answer.out
    assert as_json.json == {
        "schema": 1,
        "database": str(path),
        "storage": storage(path),
        "schema_step": version,
        "pending": [],
        "problem": problem,
        "memories": 1,
        "archived": 0,
        "features": ALL_OFF,
        "jobs": [],
        "paused": None,
    }
    assert rows(db, "agent_memory") == before


def test_a_schema_with_a_problem_is_not_called_current(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.execute("UPDATE memctl_migrations SET sha256 = 'another' WHERE version = 2")

    answer = migrated("status")

    assert "step 3, current" not in answer.out


def test_a_memory_archived_during_the_command_is_counted_once(
    db: sqlite3.Connection,
    migrated: Memctl,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    insert_memory(db, id="m-1")

    def archive_it(statement: str) -> None:
        if "FROM archived_memories" in statement:
            migrated("archive", "build_agent", "m-1")

    @contextmanager
    def open_watched(path: Path, **options: Any) -> Iterator[sqlite3.Connection]:
        with open_database(path, **options) as reader:
            reader.set_trace_callback(archive_it)
            yield reader

    monkeypatch.setattr(engines, "open_database", open_watched)
    status.status(GlobalOptions(db=migrated.database, json=True, now=text_of(NOW)))

    printed = json.loads(capsys.readouterr().out)
    assert (printed["memories"], printed["archived"]) == (1, 0)
    assert rows(db, "archived_memories", "id") == [("m-1",)]


def test_free_pages_are_shown(path: Path, db: sqlite3.Connection, migrated: Memctl) -> None:
    for _ in range(3):
        insert_memory(db, value="x" * 5000)
    db.execute("DELETE FROM agent_memory")
    (free,) = db.execute("PRAGMA freelist_count").fetchone()

    answer = migrated.ok("status")
    as_json = migrated.ok("status", "--json")

    size = readable(path.stat().st_size)
    assert answer.out.startswith(
        f"database  {path} ({size}, of which {readable(free * 4096)} in {free} free pages)\n"
    )
    assert as_json.json["storage"] == storage(path, free_pages=free)
