"""Compaction: free pages go back to the disk, and nothing else changes."""

import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memctl.jobs.compact import CompactResult, compact
from memctl.jobs.engine import JobContext, JobRequest, perform
from memctl.storage.sqlite.batches import SqliteBatches
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.space import read_gaps, read_space
from memctl.storage.sqlite.vacuum import vacuum
from tests.support.database import (
    connect,
    everything,
    insert_memory,
    is_sound,
    memory_tables,
    rows,
)
from tests.support.disks import fill_disk
from tests.support.kills import copy_at, kill, killed_before, one_of_each_kind
from tests.support.program import NOW, Answer, Memctl
from tests.support.service import Service

PAGE = 4096
FREED = 200  # memories of half a page each


def fill(path: Path, *, incremental: bool, scattered: bool = False) -> None:
    """Write memories a day ago, and delete half of them: the first, or every other one."""
    with closing(connect(path)) as db:
        if incremental:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("VACUUM")
        db.execute("BEGIN")
        for _ in range(2 * FREED):
            insert_memory(db, value="x" * (700 if scattered else 1900), idle_days=1)
        db.execute("COMMIT")
        chosen = "rowid % 2" if scattered else f"rowid <= {FREED}"
        db.execute(f"DELETE FROM agent_memory WHERE {chosen}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.fixture
def full(path: Path, migrated: Memctl) -> Memctl:
    """The program, with a database that must be rewritten to become shorter."""
    fill(path, incremental=False)
    return migrated


@pytest.fixture
def stepwise(path: Path, migrated: Memctl) -> Memctl:
    """The program, with a database that can become shorter in steps."""
    fill(path, incremental=True)
    return migrated


def pragma(path: Path, name: str) -> Any:
    """Return the value of a pragma."""
    with closing(connect(path)) as db:
        return db.execute(f"PRAGMA {name}").fetchone()[0]


def content(path: Path) -> dict[str, Any]:
    """Return what a rewrite must keep: the rows in their order, the schema, and settings."""
    with closing(connect(path)) as db:
        return {
            "rows": rows(db, "agent_memory", "rowid, *"),
            "schema": db.execute(
                "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
            ).fetchall(),
            "settings": [
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "user_version", "application_id", "page_size")
            ],
            "identity": db.execute(
                "SELECT value FROM memory_state WHERE key = 'database_id'"
            ).fetchall(),
        }


def test_a_preview_says_what_comes_free_and_what_it_takes(path: Path, full: Memctl) -> None:
    before = (path.read_bytes(), everything(path))
    with closing(connect(path)) as db:
        space, gaps = read_space(db), read_gaps(db)

    answer = full("compact", "--dry-run")
    as_json = full.ok("compact", "--dry-run", "--json").json

    assert (path.read_bytes(), everything(path)) == before
    as_json.pop("duration_ms")
    assert space.free_pages > FREED / 2 - 10
    assert as_json == {
        "schema": 1,
        "job": "compact",
        "run_id": None,
        "dry_run": True,
        "cutoff": "2026-11-22T09:43:58Z",
        "method": "rewrite",
        "freed_bytes": space.free_bytes,
        "free_bytes": 0,
        "gap_bytes": gaps,
        "size_bytes": space.bytes - space.free_bytes,
        "shortened": True,
        "estimated_ms": round((space.bytes - space.free_bytes) / 50_000),
        "needed_bytes": round((space.bytes - space.free_bytes) * 1.01),
        "remaining": 0,
        "agents": {},
        "longest_lock_ms": 0.0,
    }
    freed = f"{space.free_bytes / 1000:.0f} kB"
    assert answer.err.startswith(
        f"compact: would free {freed}; by a rewrite, during which other programs could not write"
        " for about 0.0 s; it needs twice "
    )


def test_a_rewrite_keeps_everything_but_free_pages(
    path: Path, full: Memctl, db: sqlite3.Connection
) -> None:
    full.ok("enable", "archive-on-delete")
    full.ok("backup")
    insert_memory(db, key="odd", value=b"\xff\0", importance="high", rowid=9_000_000)
    before, size, place = content(path), path.stat().st_size, path.stat().st_ino

    answer = full("compact", "--force", "-v")

    assert answer.exit_code == 0
    assert "; rewrote the file; run " in answer.err
    assert "; held the write lock for 0.0 s\n" in answer.err
    assert content(path) == before
    assert (pragma(path, "freelist_count"), path.stat().st_ino) == (0, place)
    assert path.stat().st_size < size - FREED / 2 * PAGE + 10 * PAGE
    assert is_sound(db)


def test_a_rewrite_closes_gaps_in_pages(path: Path, migrated: Memctl) -> None:
    fill(path, incremental=False, scattered=True)
    size, free = path.stat().st_size, pragma(path, "freelist_count")

    answer = migrated.ok("compact", "--json").json
    again = migrated.ok("compact", "--json").json

    assert free < 5
    assert (answer["method"], answer["size_bytes"] < size * 0.7) == ("rewrite", True)
    assert (again["method"], again["freed_bytes"]) == ("none", 0)
    assert migrated("compact", "-v").err.startswith("compact: freed 0 B; 0 B of ")


def test_pages_come_free_in_steps_beside_a_reader_that_has_ended(
    path: Path, stepwise: Memctl
) -> None:
    before, size = content(path), path.stat().st_size
    free = pragma(path, "freelist_count")

    preview = stepwise.ok("compact", "-n", "--json").json
    answer = stepwise.ok("compact", "--json").json

    assert free > FREED / 2 - 10
    assert (preview["method"], preview["freed_bytes"]) == ("steps", free * PAGE)
    assert answer["method"] == "steps"
    assert answer["freed_bytes"] == pytest.approx(free * PAGE, abs=3 * PAGE)
    assert (answer["shortened"], pragma(path, "freelist_count")) == (True, 0)
    assert path.stat().st_size == size - answer["freed_bytes"]
    assert content(path) == before


def test_the_service_writes_between_two_steps(
    path: Path, stepwise: Memctl, db: sqlite3.Connection
) -> None:
    before = content(path)["rows"]
    written: list[str] = []
    with closing(Service(path)) as service:

        def work(run: JobContext) -> CompactResult:
            assert isinstance(run.batches, SqliteBatches)
            hold = run.batches._hold

            def hold_then_write(change: Callable[[], object]) -> float:
                held = hold(change)
                written.append(f"{len(written)}")
                service.remember("a", "context", written[-1], "x" * 3000)
                return held

            run.batches._hold = hold_then_write  # type: ignore[method-assign]
            return compact(run)

        result = perform("compact", work, JobRequest(path, NOW)).result

    assert result is not None
    assert len(written) > 3
    assert content(path)["rows"][: len(before)] == before
    assert rows(db, "agent_memory", "key")[len(before) :] == [(key,) for key in written]
    assert is_sound(db)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        pytest.param({}, "a memory was read or written 0 s ago", id="it has just read a memory"),
        pytest.param(
            {"last_accessed": None, "created_at": "2026-11-22T09:43:28.000Z"},
            "a memory was read or written 30 s ago",
            id="it has just written one",
        ),
    ],
)
def test_a_rewrite_is_refused_while_the_service_uses_memories(
    path: Path, db: sqlite3.Connection, full: Memctl, columns: dict[str, Any], words: str
) -> None:
    insert_memory(db, **columns)
    before = memory_tables(path)

    answer = full("compact")

    assert answer == Answer(
        3,
        "",
        "memctl: a rewrite of the file would keep other programs from writing for about 0.0 s, and"
        f" the database is in use: {words}; stop the service, or use --force\n",
    )
    assert memory_tables(path) == before
    assert rows(db, "memory_runs", "job, status") == [("compact", "refused")]
    assert full("compact", "--force").exit_code == 0


def test_a_rewrite_is_refused_while_another_program_writes(path: Path, full: Memctl) -> None:
    over = threading.Event()

    def write() -> None:
        with closing(connect(path)) as db:
            db.execute("CREATE TABLE tasks (id)")
            while not over.is_set():
                db.execute("INSERT INTO tasks VALUES (1)")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        answer = full("compact")
    finally:
        over.set()
        writer.join()

    assert answer.exit_code == 3
    assert "the database is in use: another program writes to it; " in answer.err


def test_incremental_makes_a_file_that_allows_steps(path: Path, full: Memctl) -> None:
    before = content(path)

    first = full.ok("compact", "--incremental", "--json").json
    second = full.ok("compact", "--incremental", "--json").json

    assert (first["method"], second["method"]) == ("rewrite", "steps")
    assert pragma(path, "auto_vacuum") == 2
    assert content(path) == before


def test_a_reader_delays_the_shortening_of_the_file(path: Path, full: Memctl) -> None:
    size = path.stat().st_size
    with closing(connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM agent_memory").fetchone()
        answer = full("compact")
        reader.execute("ROLLBACK")
        still = path.stat().st_size
        reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert answer.exit_code == 0
    assert (
        "; a program that uses the database keeps the file from getting shorter: a later"
        " checkpoint does that; run 1, " in answer.err
    )
    assert (still, path.stat().st_size < size - FREED / 2 * PAGE + 10 * PAGE) == (size, True)


def test_steps_beside_a_reader_are_completed_by_the_next_run(path: Path, stepwise: Memctl) -> None:
    size = path.stat().st_size
    with closing(connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM agent_memory").fetchone()
        first = stepwise.ok("compact", "--json").json
        reader.execute("ROLLBACK")
        assert (first["shortened"], path.stat().st_size) == (False, size)

        second = stepwise.ok("compact", "--json").json

        assert (second["shortened"], path.stat().st_size) == (True, second["size_bytes"])


@pytest.mark.parametrize("incremental", [False, True])
def test_nothing_is_lost_when_it_is_killed(
    tmp_path: Path, path: Path, migrated: Memctl, *, incremental: bool
) -> None:
    fill(path, incremental=incremental)
    words = ("compact", "--force")
    (tmp_path / "killed").mkdir()
    steps = one_of_each_kind(copy_at(tmp_path / "counted", migrated), words)
    before = content(path)

    for left in killed_before(steps, migrated, words, tmp_path / "killed"):
        assert content(left.database) == before
        with closing(connect(left.database)) as db:
            assert is_sound(db)
        left.ok(*words)
        assert pragma(left.database, "freelist_count") == 0


def test_steps_that_were_made_before_a_kill_are_kept(
    tmp_path: Path, path: Path, stepwise: Memctl
) -> None:
    free = pragma(path, "freelist_count")
    memctl = copy_at(tmp_path / "killed", stepwise)

    kill((4, "COMMIT"), memctl, ("compact",))

    assert 0 < pragma(memctl.database, "freelist_count") < free


def test_a_full_disk_changes_nothing(small_disk: Path, full: Memctl, path: Path) -> None:
    memctl = Memctl(small_disk / "harness.db", NOW)
    shutil.copyfile(path, memctl.database)
    before = content(memctl.database)
    fill_disk(small_disk, room=100_000)

    refused = memctl("compact")
    failed = memctl("compact", "--force")

    assert refused.exit_code == 3
    assert refused.err.startswith("memctl: a rewrite of the file needs up to ")
    assert failed.exit_code == 1
    assert "is full" in failed.err
    assert content(memctl.database) == before


def test_a_locked_database_is_waited_for(path: Path, full: Memctl) -> None:
    with closing(connect(path)) as writer, open_database(path, lock_wait=0.05) as db:
        writer.execute("BEGIN IMMEDIATE")

        with pytest.raises(sqlite3.OperationalError, match="locked"):
            vacuum(db)

        writer.execute("ROLLBACK")
        assert vacuum(db) > 0
        assert db.execute("PRAGMA busy_timeout").fetchone() == (50,)


def test_a_function_of_another_program_is_an_error_of_one_line(path: Path, full: Memctl) -> None:
    with closing(connect(path)) as db:
        db.create_function("theirs", 1, lambda value: value, deterministic=True)
        db.execute("CREATE TABLE tasks (id)")
        db.execute("CREATE INDEX by_theirs ON tasks (theirs(id))")

    answer = full("compact")

    assert answer == Answer(
        12,
        "",
        "memctl: VACUUM cannot copy a table or an index of another program: no such function:"
        " theirs; run VACUUM in that program, which defines what is missing\n",
    )
