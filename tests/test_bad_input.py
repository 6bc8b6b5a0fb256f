"""Errors of users, disks and clocks: the right exit code, one line, and nothing changed."""

import json
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from memctl.config.jobs import JOBS as DUE_JOBS
from memctl.config.settings import load_settings
from memctl.errors import NoDatabaseError
from memctl.storage.sqlite.locking import lock_path
from tests.support.commands import COMMANDS, NEED_NO_DATABASE, READING
from tests.support.database import (
    ALL_STEPS,
    connect,
    everything,
    insert_memory,
    memory_tables,
    names_beside,
    rows,
)
from tests.support.disks import fill_disk
from tests.support.jobs import JOBS, MANY, SCHEMA_CHANGES, Job, last_prune_kept_a_year, undisturbed
from tests.support.locks import write_lock
from tests.support.odd_values import ODD_NAMES
from tests.support.program import NOW, PROGRAM, Answer, Memctl, Words, complaint, fork_server
from tests.support.service import Service
from tests.support.snapshots import broken_promises, count_changed, shape, snapshot

NEED_NO_CLOCK = (
    *("archived", "resume", "list", "summary", "search", "agents", "disable", "schedule"),
)


def commands(*names: str) -> pytest.MarkDecorator:
    """Run a test with some of the commands."""
    return pytest.mark.parametrize(
        "words", [pytest.param(COMMANDS[name], id=name) for name in names]
    )


def commands_but(*names: str) -> pytest.MarkDecorator:
    """Run a test with all commands except some."""
    return commands(*(name for name in COMMANDS if name not in names))


every_command = commands_but()

PREVIEWS_OF_MIGRATE = ("migrate preview", "migrate sql")
# Commands for a database whose schema is not that of memctl.
WITHOUT_SCHEMA = (
    "migrate",
    *PREVIEWS_OF_MIGRATE,
    "rollback",
    "rollback preview",
    "status",
    "backup",
    "backup preview",
    "check",
)


# No database


@commands_but("migrate", *PREVIEWS_OF_MIGRATE)
def test_a_missing_database_is_named_and_not_created(words: Words, memctl: Memctl) -> None:
    answer = memctl(*words)

    assert answer.exit_code == 10
    assert complaint(answer) == (
        f"memctl: there is no database at {memctl.database};"
        " check --db, or create one with `memctl migrate`"
    )
    assert names_beside(memctl.database) == []


@every_command
def test_a_missing_directory_is_not_created(words: Words, tmp_path: Path) -> None:
    path = tmp_path / "typo" / "harness.db"

    answer = Memctl(tmp_path / "unused.db")(*words, "--db", str(path))

    assert answer.exit_code == 10
    assert complaint(answer).startswith("memctl: there is no ")
    assert list(tmp_path.iterdir()) == []


@every_command
def test_a_directory_is_not_a_database(words: Words, memctl: Memctl) -> None:
    memctl.database.mkdir()

    answer = memctl(*words)

    assert answer.exit_code == 10
    assert complaint(answer) == (
        f"memctl: {memctl.database} is a directory; --db must be a database file"
    )
    assert names_beside(memctl.database) == ["harness.db"]
    assert list(memctl.database.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "content"),
    [
        *(
            pytest.param(words, random.Random(name).randbytes(8192), id=f"{name}, encrypted")
            for name, words in COMMANDS.items()
        ),
        *(
            pytest.param(COMMANDS[name], content, id=f"{name}, {described}")
            for name in ("migrate", "status", "run", "remember")
            for described, content in {
                "a word": b"note\n",
                "text": b"id,agent_id,type\n" * 1000,
                "a header and then nonsense": b"SQLite format 3\0" + b"\xff" * 5000,
            }.items()
        ),
    ],
)
def test_a_file_that_is_not_a_database_is_refused_and_unchanged(
    words: Words, content: bytes, memctl: Memctl
) -> None:
    memctl.database.write_bytes(content)

    answer = memctl(*words)

    assert answer.exit_code == 10
    assert complaint(answer) == (
        f"memctl: {memctl.database} is not a SQLite database (file is not a database); check --db"
    )
    assert memctl.database.read_bytes() == content


@commands_but(*WITHOUT_SCHEMA)
def test_an_empty_file_has_no_schema_yet(words: Words, memctl: Memctl) -> None:
    memctl.database.touch()

    answer = memctl(*words)

    assert answer.exit_code == 12
    assert complaint(answer) == (
        f"memctl: the schema is out of date: {ALL_STEPS} pending; run `memctl migrate`"
    )
    assert memctl.database.read_bytes() == b""


@commands("migrate", *PREVIEWS_OF_MIGRATE, "rollback", "rollback preview", "status")
def test_an_empty_file_is_an_empty_database_to_schema_commands(
    words: Words, memctl: Memctl
) -> None:
    memctl.database.touch()

    answer = memctl(*words)

    assert answer.exit_code == 0
    assert "Traceback" not in answer.err


@commands("migrate", "migrate preview", "rollback", "status", "cleanup")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x" * 300, id="too long"),
        pytest.param("sub/" * 2000 + "harness.db", id="too long a path"),
        pytest.param("loop", id="link to itself"),
    ],
)
def test_an_impossible_path_is_an_error_of_one_line(
    name: str, words: Words, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")

    answer = Memctl(tmp_path / "unused.db")(*words, "--db", str(tmp_path / name))

    assert answer.exit_code in (1, 10)
    assert complaint(answer).startswith("memctl: ")
    assert [file.name for file in tmp_path.iterdir()] == ["loop"]


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        pytest.param(trouble, words, id=f"{name}, {trouble}")
        for name, words in NEED_NO_DATABASE.items()
        for trouble in ("no database", "no database but a text", "a directory")
        if name != "demo" or trouble == "a directory"  # it takes a second each time
    ],
)
def test_commands_without_a_database_ignore_an_invalid_one(
    trouble: str, words: Words, memctl: Memctl
) -> None:
    if trouble == "a directory":
        memctl.database.mkdir()
    elif trouble == "no database but a text":
        memctl.database.write_text("note")

    answer = memctl(*words)

    assert (answer.exit_code, "Traceback" in answer.err) == (0, False)


# Damage


def fill_pages(memctl: Memctl) -> None:
    """Write memories over many pages."""
    with closing(connect(memctl.database)) as db:
        db.execute("BEGIN")
        for _ in range(500):
            insert_memory(db, value="x" * 1000, expired_for=timedelta(days=1))
        db.execute("COMMIT")


@every_command
def test_a_truncated_database_is_damaged(words: Words, memories: Memctl) -> None:
    fill_pages(memories)
    content = memories.database.read_bytes()
    memories.database.write_bytes(content[: len(content) // 2])

    answer = memories(*words)

    assert answer.exit_code == 1
    assert complaint(answer).startswith(f"memctl: {memories.database} is damaged (")
    assert memories.database.read_bytes() == content[: len(content) // 2]


def overwrite_tables(path: Path) -> bytes:
    """Overwrite the first page of every table and index except the record of migrations."""
    with closing(connect(path)) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        pages = db.execute(
            "SELECT rootpage FROM sqlite_schema WHERE rootpage > 0 AND name <> 'memctl_migrations'"
        ).fetchall()
    content = bytearray(path.read_bytes())
    for (page,) in pages:
        content[(page - 1) * size : page * size] = b"\xaa" * size
    path.write_bytes(content)
    return bytes(content)


@commands_but("migrate", *PREVIEWS_OF_MIGRATE, "backup", "backup preview", "schedule")
def test_a_database_with_overwritten_pages_is_damaged(words: Words, memories: Memctl) -> None:
    fill_pages(memories)
    content = overwrite_tables(memories.database)

    answer = memories(*words)

    assert answer.exit_code == 1
    assert complaint(answer).startswith(f"memctl: {memories.database} is damaged (")
    assert memories.database.read_bytes() == content


def test_a_damaged_database_is_not_migrated_and_leaves_no_backup(
    memctl: Memctl, service: Service
) -> None:
    for number in range(500):
        service.remember("build_agent", "learning", f"key {number}", "x" * 1000)
    service.close()
    content = overwrite_tables(memctl.database)

    answer = memctl("migrate")

    assert answer.exit_code == 1
    assert "damaged" in complaint(answer)
    assert memctl.database.read_bytes() == content
    assert names_beside(memctl.database) == ["harness.db", "harness.db.memctl.lock"]


def test_a_job_that_reads_a_damaged_page_fails_and_is_recorded(
    memories: Memctl,
) -> None:
    fill_pages(memories)
    content = bytearray(memories.database.read_bytes())
    first = content.index(b"x" * 900)
    page = first - first % 4096 + 4096 * 20
    content[page : page + 4096] = b"\xaa" * 4096
    memories.database.write_bytes(content)

    answer = memories("cleanup")

    with closing(connect(memories.database)) as db:
        archived = {memory for (memory,) in rows(db, "archived_memories", "id")}
        recorded = {memory for (memory,) in rows(db, "memory_events", "memory_id")}
        runs = rows(db, "memory_runs", "status, error")
    assert answer.exit_code == 1
    assert complaint(answer).startswith(f"memctl: {memories.database} is damaged (")
    assert archived == recorded
    assert runs[0] == ("ok", None)
    assert (runs[1][0], f"memctl: {runs[1][1]}") == ("failed", complaint(answer))


# No permission


@pytest.fixture
def run_unprivileged() -> Callable[..., Answer]:
    """Run the program without root's power to override file permissions."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"]).returncode:
            pytest.skip("root may write everything, and setpriv cannot take that away here")

    def run(memctl: Memctl, *words: str) -> Answer:
        ran = fork_server(*prefix).run(
            [str(PROGRAM), *words], environment=memctl.environment(), directory=Path.cwd()
        )
        return Answer(ran.returncode, ran.stdout.decode(), ran.stderr.decode())

    return run


@pytest.fixture
def restore_modes(tmp_path: Path) -> Iterator[None]:
    """Make everything accessible again, so that it can be checked and removed."""
    yield
    tmp_path.chmod(0o700)
    for file in tmp_path.iterdir():
        file.chmod(0o700)


def close_off(memctl: Memctl, *, directory: int, database: int) -> None:
    """Set the modes of the database and of its directory."""
    memctl.database.chmod(database)
    memctl.database.parent.chmod(directory)


@every_command
@pytest.mark.parametrize(
    ("database", "lock"),
    [
        pytest.param(0o644, True, id="writable file, lock file"),
        pytest.param(0o444, False, id="read-only file, no lock file"),
    ],
)
@pytest.mark.usefixtures("restore_modes")
def test_a_read_only_directory_is_named_and_nothing_changes(
    lock: bool,
    database: int,
    words: Words,
    memories: Memctl,
    run_unprivileged: Callable[..., Answer],
) -> None:
    if lock:
        memories.database.with_name("harness.db.memctl.lock").touch(0o600)
    before = everything(memories.database)
    close_off(memories, directory=0o555, database=database)

    answer = run_unprivileged(memories, *words)

    close_off(memories, directory=0o755, database=0o644)
    assert answer.exit_code == 1
    assert str(memories.database) in complaint(answer)
    assert "writable" in complaint(answer)
    assert everything(memories.database) == before


@commands_but("migrate", *READING)
@pytest.mark.usefixtures("restore_modes")
def test_a_read_only_file_is_named_and_not_changed(
    words: Words, memories: Memctl, run_unprivileged: Callable[..., Answer]
) -> None:
    before = everything(memories.database)
    close_off(memories, directory=0o755, database=0o444)

    answer = run_unprivileged(memories, *words)

    close_off(memories, directory=0o755, database=0o644)
    stopped = f"{', '.join(DUE_JOBS)}: " if words == ("run",) else ""
    assert answer.exit_code == 1
    assert complaint(answer).startswith(
        f"memctl: {stopped}{memories.database} or its directory is not writable ("
    )
    assert everything(memories.database) == before


@commands(*READING)
@pytest.mark.usefixtures("restore_modes")
def test_a_read_only_database_can_be_read(
    words: Words, memories: Memctl, run_unprivileged: Callable[..., Answer]
) -> None:
    expected = memories(*words)
    close_off(memories, directory=0o755, database=0o444)

    answer = run_unprivileged(memories, *words)

    assert answer == expected


@every_command
@pytest.mark.usefixtures("restore_modes")
def test_an_unreadable_file_is_named(
    words: Words, memories: Memctl, run_unprivileged: Callable[..., Answer]
) -> None:
    close_off(memories, directory=0o755, database=0)

    answer = run_unprivileged(memories, *words)

    assert answer.exit_code == 1
    assert str(memories.database) in complaint(answer)


@commands("migrate", "rollback", "status", "cleanup")
@pytest.mark.usefixtures("restore_modes")
def test_an_inaccessible_directory_is_an_error_of_one_line(
    words: Words, tmp_path: Path, run_unprivileged: Callable[..., Answer]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)

    answer = run_unprivileged(
        Memctl(tmp_path / "unused.db"), *words, "--db", str(closed / "harness.db")
    )

    assert answer.exit_code in (1, 10)
    assert str(closed) in complaint(answer)


@pytest.mark.usefixtures("restore_modes")
def test_an_inaccessible_home_directory_is_an_error_of_one_line(
    memories: Memctl, tmp_path: Path, run_unprivileged: Callable[..., Answer]
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0)

    @dataclass(frozen=True)
    class WithHome(Memctl):
        def environment(self) -> dict[str, str]:
            return {**super().environment(), "HOME": str(home)}

    answer = run_unprivileged(WithHome(memories.database), "cleanup")

    assert answer.exit_code in (1, 2)
    assert str(home) in complaint(answer)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_a_lock_file_created_by_root_belongs_to_the_databases_owner(
    memctl: Memctl, service: Service
) -> None:
    os.chown(memctl.database, 4711, 4711)

    memctl.ok("migrate", "--no-backup")

    lock = memctl.database.with_name("harness.db.memctl.lock").stat()
    assert (lock.st_uid, lock.st_gid, stat.S_IMODE(lock.st_mode)) == (4711, 4711, 0o600)


# A full disk


every_change = pytest.mark.parametrize(
    "job", [pytest.param(job, id=job.name) for job in JOBS + SCHEMA_CHANGES]
)


@every_change
def test_a_command_stopped_by_a_full_disk_works_when_there_is_space(
    job: Job, small_disk: Path, tmp_path: Path
) -> None:
    memctl = Memctl(small_disk / "harness.db")
    words = job.prepare(memctl, MANY)
    before = shape(memctl.database), snapshot(memctl.database)
    after = undisturbed(memctl, words, tmp_path / "alone")

    for room in (0, 64 * 1024):
        filler = fill_disk(small_disk, room=room)
        answer = memctl(*words)
        left = shape(memctl.database), snapshot(memctl.database)
        filler.unlink()

        assert answer.exit_code == 1
        assert "full" in complaint(answer)
        assert left == before
    rerun = memctl(*words)

    assert (rerun.exit_code, rerun.out) == (0, "")
    assert snapshot(memctl.database) == after


@pytest.mark.parametrize("room", [0, 12 * 1024, 32 * 1024])
def test_migrate_leaves_no_database_without_space_for_its_first_step(
    small_disk: Path, room: int
) -> None:
    memctl = Memctl(small_disk / "new.db")
    filler = fill_disk(small_disk, room=room)

    answer = memctl("migrate")

    assert answer.exit_code == 1
    assert "full" in complaint(answer)
    assert {file.name for file in small_disk.iterdir()} == {filler.name, "new.db.memctl.lock"}


@pytest.mark.parametrize(
    "job",
    [pytest.param(job, id=job.name) for job in JOBS if job.name in ("cleanup", "prune", "restore")],
)
def test_a_disk_filled_up_between_batches_loses_and_duplicates_nothing(
    job: Job, small_disk: Path, tmp_path: Path
) -> None:
    memctl = Memctl(small_disk / "harness.db")
    words = job.prepare(memctl, MANY)
    before, after = snapshot(memctl.database), undisturbed(memctl, words, tmp_path / "alone")
    filler = fill_disk(small_disk, room=1_000_000)

    with closing(connect(memctl.database)) as reader:
        # A reader of an old snapshot keeps the write-ahead log from restarting: it must grow.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM agent_memory").fetchone()
        answer = memctl(*words)
    left = snapshot(memctl.database)
    filler.unlink()
    rerun = memctl(*words)

    assert answer.exit_code == 1
    assert "full" in complaint(answer)
    assert broken_promises(before, after, left) == []
    assert 0 < count_changed(before, left) < count_changed(before, after)
    assert rerun == Answer(0, "", "")
    assert snapshot(memctl.database) == after


@pytest.mark.parametrize("job", [pytest.param(job, id=job.name) for job in SCHEMA_CHANGES])
def test_a_backup_before_a_change_leaves_no_file_on_a_full_disk(job: Job, small_disk: Path) -> None:
    memctl = Memctl(small_disk / "harness.db")
    words = job.prepare(memctl, MANY)

    for room in (64 * 1024, 1_000_000):
        filler = fill_disk(small_disk, room=room)
        answer = memctl(*words)
        filler.unlink()

        assert answer.exit_code == 1
        assert [name for name in names_beside(memctl.database) if "before" in name] == []


# Another schema


@commands_but(*WITHOUT_SCHEMA)
def test_an_unmigrated_database_is_refused_and_unchanged(
    words: Words, memctl: Memctl, service: Service
) -> None:
    service.remember("build_agent", "learning", "key", "value", memory_id="active")
    before = everything(memctl.database)

    answer = memctl(*words)

    assert answer.exit_code == 12
    assert complaint(answer) == (
        f"memctl: the schema is out of date: {ALL_STEPS} pending; run `memctl migrate`"
    )
    assert everything(memctl.database) == before


@commands_but("status", "backup", "backup preview", "check")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(
            "INSERT INTO memctl_migrations VALUES (99, 'future', 'x', 'x', 0, '9.9')",
            "the schema has step 099 (future), which this memctl does not have",
            id="newer",
        ),
        pytest.param(
            "UPDATE memctl_migrations SET sha256 = 'x' WHERE version = 2",
            "step 002 (memory_persistence) was changed after it was applied",
            id="changed",
        ),
    ],
)
def test_a_newer_or_changed_schema_is_refused_and_unchanged(
    change: str, problem: str, words: Words, memories: Memctl
) -> None:
    with closing(connect(memories.database)) as db:
        db.execute(change)
    before = everything(memories.database)

    answer = memories(*words)

    assert answer.exit_code == 12
    assert complaint(answer).startswith(f"memctl: {problem}; ")
    assert everything(memories.database) == before


@commands_but(*WITHOUT_SCHEMA)
def test_an_unknown_column_is_refused(words: Words, memories: Memctl) -> None:
    with closing(connect(memories.database)) as db:
        db.execute("ALTER TABLE agent_memory ADD COLUMN embedding BLOB")
    before = everything(memories.database)

    answer = memories(*words)

    assert answer.exit_code == 12
    assert "has unknown column embedding" in complaint(answer)
    assert everything(memories.database) == before


@pytest.mark.parametrize(
    "table",
    [
        pytest.param("id TEXT PRIMARY KEY, agent_id TEXT", id="columns missing"),
        pytest.param(
            "id TEXT PRIMARY KEY, agent_id TEXT NOT NULL, type TEXT NOT NULL, key TEXT NOT NULL,"
            " value TEXT NOT NULL, metadata TEXT, importance INTEGER DEFAULT 5, access_count"
            " INTEGER DEFAULT 0, last_accessed TEXT DEFAULT (datetime('now')), created_at TEXT"
            " DEFAULT (datetime('now')), expires_at TEXT",
            id="no unique key",
        ),
    ],
)
def test_a_table_of_another_product_is_not_migrated(table: str, memctl: Memctl) -> None:
    with closing(connect(memctl.database)) as db:
        db.execute(f"CREATE TABLE agent_memory ({table})")
    before = everything(memctl.database)

    answer = memctl("migrate")

    assert answer.exit_code == 12
    assert complaint(answer).startswith("memctl: agent_memory ")
    assert everything(memctl.database) == before


# Names that do not exist


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param(
            ("cleanup", "--agent", "nobody"), "agent 'nobody' has no memories", id="cleanup"
        ),
        pytest.param(("decay", "--agent", "nobody"), "agent 'nobody' has no memories", id="decay"),
        pytest.param(("prune", "--agent", "nobody"), "agent 'nobody' has no memories", id="prune"),
        pytest.param(
            ("promote", "--agent", "nobody"), "agent 'nobody' has no memories", id="promote"
        ),
        pytest.param(
            ("cleanup", "-n", "--agent", "nobody"), "agent 'nobody' has no memories", id="preview"
        ),
        pytest.param(("archived", "nobody"), "agent 'nobody' has no memories", id="archived"),
        pytest.param(
            ("archive", "nobody", "active"), "agent 'nobody' has no memories", id="archive"
        ),
        pytest.param(
            ("restore", "nobody", "archived"), "agent 'nobody' has no memories", id="restore"
        ),
        pytest.param(
            ("restore", "nobody", "--reason", "expired"),
            "agent 'nobody' has no memories",
            id="restore reason",
        ),
        pytest.param(
            ("archive", "build_agent", "active", "nothing"),
            "agent 'build_agent' has no memory 'nothing'",
            id="archive an unknown id",
        ),
        pytest.param(
            ("archive", "build_agent", "active", "of another"),
            "agent 'build_agent' has no memory 'of another'",
            id="archive another agent's memory",
        ),
        pytest.param(
            ("restore", "build_agent", "archived", "nothing"),
            "agent 'build_agent' has no memory 'nothing'",
            id="restore an unknown id",
        ),
        pytest.param(
            ("restore", "build_agent", "archived", "archived of another"),
            "agent 'build_agent' has no memory 'archived of another'",
            id="restore another agent's memory",
        ),
        pytest.param(("restore", "--run", "99"), "there is no run 99", id="an unknown run"),
        *(
            pytest.param((*words, "nobody", *name), "agent 'nobody' has no learning", id=words[0])
            for words, name in (
                (("recall",), ("learning", "k")),
                (("forget",), ("learning", "k")),
                (("forget", "--quiet"), ("learning",)),
            )
        ),
        pytest.param(("list", "nobody"), "agent 'nobody' has no memories", id="list"),
        pytest.param(("summary", "nobody"), "agent 'nobody' has no memories", id="summary"),
        *(
            pytest.param(
                (verb, "build_agent", "context", "k"),
                "agent 'build_agent' has no context 'k'; `memctl search` finds memories, active"
                " or archived, by a part of their text",
                id=f"{verb} of another type",
            )
            for verb in ("recall", "forget")
        ),
    ],
)
def test_a_missing_name_is_reported_and_nothing_changes(
    words: Words, problem: str, memories: Memctl
) -> None:
    before = memory_tables(memories.database)

    answer = memories(*words)

    assert answer.exit_code == 1
    assert complaint(answer).startswith(f"memctl: {problem}")
    assert memory_tables(memories.database) == before


# Invalid values


@pytest.mark.parametrize(
    "words",
    [
        *(
            pytest.param(("prune", "--older-than", text), id=f"retention {text!r}")
            for text in (
                "0d",
                "0s",
                "-1d",
                "90",
                "d",
                "",
                "ninety",
                "1y",
                "9999999999999999d",
                "36501d",
                "1.5d",
                "1d2h",
                "٩d",
            )
        ),
        *(
            pytest.param((job, option, text), id=f"{job} {option} {text!r}")
            for job in ("cleanup", "decay", "prune", "promote")
            for option in ("--lock-wait", "--max-seconds")
            for text in ("-1", "nan", "soon", "")
        ),
        *(
            pytest.param((*words, "--lock-wait", text), id=f"{words[0]} --lock-wait {text}")
            for words in (
                ("migrate",),
                ("rollback", "--yes"),
                ("pause", "--reason", "x"),
                ("resume",),
            )
            for text in ("-1", "nan")
        ),
        *(
            pytest.param(("archived", "build_agent", option, text), id=f"{option} {text!r}")
            for option in ("--limit", "--offset")
            for text in ("-1", "many", "", "1.5")
        ),
        pytest.param(("archived", "build_agent", "--limit", "0"), id="--limit 0"),
        *(
            pytest.param((*words, text), id=f"{words[0]} {words[-1]} {text!r}")
            for words in (
                ("archived", "build_agent", "--since"),
                ("archived", "build_agent", "--until"),
                ("restore", "build_agent", "--since"),
            )
            for text in ("soon", "2026-02-30", "2026-11-22T25:00", "0d", "-1d", "99999999999999d")
        ),
        *(
            pytest.param(
                ("restore", "build_agent", "archived", "--expires-in", text),
                id=f"--expires-in {text!r}",
            )
            for text in ("0s", "-5m", "never", "36501d")
        ),
        *(
            pytest.param(("pause", "--reason", "x", "--for", text), id=f"--for {text!r}")
            for text in ("0s", "-5m", "long", "36501d")
        ),
        *(
            pytest.param((*words, "--now", text), id=f"{words[0]} --now {text!r}")
            for name, words in COMMANDS.items()
            if name not in NEED_NO_CLOCK
            for text in ("yesterday", "2026-13-01", "0001-01-01", "9999-12-31T23:59:59Z")
            if text == "9999-12-31T23:59:59Z" or name == "cleanup"
        ),
        pytest.param(("archived", "build_agent", "--reason", "boredom"), id="unknown reason"),
        pytest.param(
            ("restore", "build_agent", "--reason", "boredom"), id="restore unknown reason"
        ),
        pytest.param(("restore",), id="restore without selection"),
        pytest.param(("restore", "build_agent"), id="restore without selection of an agent"),
        pytest.param(("restore", "--run", "one"), id="a run in words"),
        pytest.param(("restore", "--run", "0"), id="run zero"),
        pytest.param(("restore", "--run", "-1"), id="a negative run"),
        pytest.param(("restore", "--run", "1", "--on-conflict", "ask"), id="unknown conflict"),
        pytest.param(("archive", "build_agent"), id="archive without ids"),
        pytest.param(("archived",), id="archived without an agent"),
        pytest.param(("archived", "build_agent", "--csv", "--nl"), id="two formats"),
        *(
            pytest.param(
                ("remember", "build_agent", "learning", "k", "v", option, text),
                id=f"remember {option} {text!r}",
            )
            for option, texts in {
                "--importance": ("0", "10.5", "nan", "inf", "-1", "high", ""),
                "--expires-in": ("0s", "-5m", "never", "24", "36501d"),
                "--metadata": ("", "{", "{'a': 1}", "NaN", "[" * 50_000),
                "--lock-wait": ("-1", "nan"),
            }.items()
            for text in texts
        ),
        *(
            pytest.param(words, id=" ".join(words))
            for words in (
                ("remember", "build_agent", "lerning", "k", "v"),
                ("recall", "build_agent", "lerning", "k"),
                ("forget", "build_agent", "lerning", "k"),
                ("forget", "build_agent", "lerning"),
                ("list", "build_agent", "--type", "lerning"),
                ("remember", "", "learning", "k", "v"),
                ("remember", "build_agent", "learning", "", "v"),
                ("remember", "build_agent", "learning", "k"),
                ("remember", "build_agent", "learning", "k", "v", "w"),
                ("recall", "build_agent", "learning"),
                ("recall", "build_agent", "learning", "-rf"),
                ("forget", "build_agent"),
                ("list", "build_agent", "--limit", "0"),
                ("list", "build_agent", "--limit", "many"),
                ("list", "build_agent", "--csv", "--table"),
            )
        ),
        pytest.param(("migrate", "--to", "99"), id="migrate too far"),
        pytest.param(("migrate", "--to", "-1"), id="migrate to a negative step"),
        pytest.param(("migrate", "--to", "two"), id="migrate to a word"),
        pytest.param(("rollback", "--to", "99", "--yes"), id="rollback to a later step"),
        pytest.param(("rollback", "--to", "-1", "--yes"), id="rollback to a negative step"),
        pytest.param(("rollback", "--steps", "0", "--yes"), id="rollback of zero steps"),
        pytest.param(
            ("rollback", "--steps", "-1", "--yes"), id="rollback of a negative number of steps"
        ),
        pytest.param(("rollback", "--to", "1", "--steps", "1", "--yes"), id="rollback both ways"),
        pytest.param(("pause",), id="pause without a reason"),
        pytest.param(("cleanup", "build_agent"), id="an argument too many"),
        pytest.param(("cleanup", "--dry"), id="an unknown option"),
        pytest.param(("clean",), id="an unknown command"),
    ],
)
def test_an_invalid_value_is_a_usage_error(words: Words, memories: Memctl) -> None:
    before = memory_tables(memories.database)

    answer = memories(*words)

    assert answer.exit_code == 2
    assert complaint(answer).startswith("memctl: ")
    assert memory_tables(memories.database) == before


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("restore", "--run", str(2**63)), id="run"),
        pytest.param(("archived", "build_agent", "--limit", str(2**63)), id="limit"),
        pytest.param(("archived", "build_agent", "--offset", str(2**63)), id="offset"),
    ],
)
def test_a_number_beyond_64_bits_is_an_error_of_one_line(words: Words, memories: Memctl) -> None:
    before = memory_tables(memories.database)

    answer = memories(*words)

    assert answer.exit_code in (0, 1, 2)
    assert "Traceback" not in answer.err
    assert memory_tables(memories.database) == before


@pytest.mark.parametrize("seconds", ["1e10", "1e300", "inf"])
def test_an_excessive_lock_wait_is_refused_or_accepted(seconds: str, memories: Memctl) -> None:
    with write_lock(memories.database):
        process = memories.start("cleanup", "--lock-wait", seconds)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
    _, err = process.communicate()

    assert process.returncode in (0, 2)
    assert b"Traceback" not in err


# The configuration file


def words_with(words: Words, content: bytes, folder: Path) -> Words:
    """Write a configuration file and name it in a command."""
    file = folder / "config.toml"
    file.write_bytes(content)
    return (*words, "--config", str(file))


@every_command
def test_a_wrong_configuration_stops_every_command(
    words: Words, memories: Memctl, tmp_path: Path
) -> None:
    before = everything(memories.database)

    answer = memories(*words_with(words, b"[prune]\nretention_days = 0\n", tmp_path))

    assert answer.exit_code == 2
    assert complaint(answer).startswith(
        f"memctl: {tmp_path / 'config.toml'}: prune.retention_days: "
    )
    assert everything(memories.database) == before


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"retention = [", "is not valid TOML", id="not TOML"),
        pytest.param(b'a = "\n', "is not valid TOML", id="an open string"),
        pytest.param(b"\xff\xfe", "cannot be read", id="not UTF-8"),
        pytest.param(b"retention = 1\n", ": retention: ", id="an unknown key"),
        pytest.param(b"[purge]\n", ": purge: ", id="an unknown section"),
        pytest.param(b"[prune]\nretention = 1\n", ": prune.retention: ", id="a misspelt key"),
        pytest.param(
            b'"\\u001b[31m\\nkey" = 1\n',
            '"\\u001b[31m\\nkey": ',
            id="a key with control characters",
        ),
        pytest.param(b"prune = 1\n", ": prune: ", id="a number instead of a section"),
        pytest.param(b"[prune]\nretention_days = -1\n", ": prune.retention_days: ", id="negative"),
        pytest.param(b'[prune]\nretention_days = "90"\n', ": prune.retention_days: ", id="text"),
        pytest.param(b"[prune]\nretention_days = 1.5\n", ": prune.retention_days: ", id="fraction"),
        pytest.param(b"[prune]\nretention_days = true\n", ": prune.retention_days: ", id="boolean"),
        pytest.param(
            b"[prune]\nretention_days = 99999999999\n",
            ": prune.retention_days: ",
            id="an excessive number",
        ),
        pytest.param(
            b"[prune]\nprotected_importance = nan\n", ": prune.protected_importance: ", id="nan"
        ),
        pytest.param(
            b"[promote]\nimportance = inf\n", ": promote.importance: ", id="an infinite bound"
        ),
        pytest.param(
            b"[promote]\naccesses = -1\n", ": promote.accesses: ", id="fewer than zero accesses"
        ),
        pytest.param(b"[promote]\nage_days = 0.5\n", ": promote.age_days: ", id="half a day"),
        pytest.param(b"[decay]\nfloor = -1\n", ": decay.floor: ", id="negative floor"),
        pytest.param(b"[decay]\nidle_rate = inf\n", ": decay.idle_rate: ", id="infinite rate"),
        pytest.param(b"[decay]\nidle_rate = -0.1\n", ": decay.idle_rate: ", id="negative rate"),
        pytest.param(
            b"[decay]\nstale_days = 3\n", ": decay.stale_days: ", id="stale before the grace ends"
        ),
        pytest.param(
            b'[decay]\nsince = "2026-11-22T11:00:00Z"\n',
            ": decay.since: Input should be a date such as 2026-11-22",
            id="not a date",
        ),
        pytest.param(b'database = ""\n', ": database: ", id="an empty database"),
        pytest.param(b"database = 1\n", ": database: ", id="a number for a database"),
    ],
)
def test_the_configuration_file_is_checked_before_anything_else(
    content: bytes, problem: str, memories: Memctl, tmp_path: Path
) -> None:
    before = everything(memories.database)

    answer = memories(*words_with(("prune",), content, tmp_path))

    assert answer.exit_code == 2
    assert complaint(answer).startswith(f"memctl: {tmp_path / 'config.toml'}")
    assert problem in complaint(answer)
    assert everything(memories.database) == before


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("missing.toml", id="missing"),
        pytest.param(".", id="a directory"),
        pytest.param("x" * 300, id="too long"),
        pytest.param("harness.db/config.toml", id="below a file"),
    ],
)
def test_a_specified_configuration_file_must_exist(
    name: str, memories: Memctl, tmp_path: Path
) -> None:
    answer = memories("cleanup", "--config", str(tmp_path / name))

    assert answer.exit_code in (1, 2)
    assert complaint(answer).startswith("memctl: ")


@pytest.mark.usefixtures("restore_modes")
def test_an_unreadable_configuration_file_is_named(
    memories: Memctl, tmp_path: Path, run_unprivileged: Callable[..., Answer]
) -> None:
    words = words_with(("cleanup",), b"", tmp_path)
    (tmp_path / "config.toml").chmod(0)

    answer = run_unprivileged(memories, *words)

    assert answer.exit_code == 2
    assert str(tmp_path / "config.toml") in complaint(answer)


# Names


@pytest.mark.parametrize(
    ("words", "name"),
    [
        *(
            pytest.param(words, *name.values, id=f"{name.id} for {words[0].decode()} {place}")
            for place, words in {
                "--agent": (b"cleanup", b"--agent=%s"),
                "agent": (b"archived", b"--", b"%s"),
                "id": (b"restore", b"--", b"build_agent", b"%s"),
            }.items()
            for name in ODD_NAMES
        ),
        *(
            pytest.param(words, name, id=f"{name!r} for {b' '.join(words)!r}")
            for words in (
                *((job, b"--agent=%s") for job in (b"decay", b"prune", b"promote", b"metrics")),
                (b"archive", b"--", b"%s", b"active"),
                (b"restore", b"--", b"%s", b"archived"),
                (b"archive", b"--", b"build_agent", b"%s"),
            )
            for name in (b"two\nlines", b"\xff\xfe", b"' OR 1=1 --", b"")
        ),
    ],
)
def test_an_unknown_odd_name_is_not_found_and_is_escaped(
    words: tuple[bytes, ...], name: bytes, memories: Memctl
) -> None:
    before = memory_tables(memories.database)

    answer = memories(*(word.replace(b"%s", name) for word in words))

    assert answer.exit_code == 1
    assert complaint(answer).isprintable()
    assert memory_tables(memories.database) == before


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_of_an_agent_works_in_every_command(name: bytes, memories: Memctl) -> None:
    text = name.decode("utf-8", "surrogateescape")
    with closing(connect(memories.database)) as db:
        insert_memory(db, id="odd")
        db.execute(
            """
            UPDATE agent_memory SET agent_id = CAST(:name AS TEXT), key = CAST(:name AS TEXT)
            WHERE id = 'odd'
            """,
            {"name": name},
        )
    before = snapshot(memories.database).states["odd"]

    answers = [
        memories(b"archive", b"--", name, b"odd"),
        memories(b"archived", b"--table", b"--", name),
        memories(b"archived", b"--csv", b"--", name),
        memories(b"archived", b"--", name),
        memories(b"cleanup", b"--agent=" + name, b"--json"),
        memories(b"metrics", b"--agent=" + name),
        memories(b"restore", b"--", name, b"odd"),
    ]

    state = snapshot(memories.database).states["odd"]
    with closing(connect(memories.database)) as db:
        agents = rows(db, "agent_memory", "id, agent_id, key")
    assert [(answer.exit_code, answer.err) for answer in answers] == [(0, "")] * 7
    assert all(line.isprintable() for answer in answers for line in answer.out.split("\n"))
    assert answers[3].json[0]["id"] == "odd"
    assert [row for row in agents if row[0] == "odd"] == [("odd", text, text)]
    assert (state.places, state.events) == (
        before.places,
        ("memory:archived", "memory:restored"),
    )


@pytest.mark.parametrize("name", [b"\xff\xfe", b"two\nlines", b"\x1b[31m", b"[bold]a[/]"])
def test_an_odd_path_that_does_not_exist_is_escaped(name: bytes, memctl: Memctl) -> None:
    answer = memctl(b"status", b"--db", b"/nowhere/" + name)

    assert answer.exit_code == 10
    assert complaint(answer).isprintable()


# Errors as JSON


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        pytest.param(("cleanup", "--agent", "nobody"), 1, "not_found", id="not found"),
        pytest.param(("prune", "--older-than", "0d"), 2, "usage", id="usage"),
        pytest.param(("status", "--config", "/nowhere"), 2, "usage", id="configuration"),
        pytest.param(("status", "--now", "soon"), 2, "usage", id="clock"),
        pytest.param(("decay", "--now", "2026-01-01"), 3, "refused", id="refused"),
        pytest.param(("status", "--db", "/nowhere"), 10, "no_database", id="no database"),
        pytest.param(("migrate", "--db", "/nowhere/at/all"), 10, "no_database", id="no directory"),
    ],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_with_json_an_error_is_one_object_on_stderr(
    place: str, words: Words, exit_code: int, code: str, memories: Memctl
) -> None:
    plain = memories(*words)

    answer = memories(*(("--json", *words) if place == "before" else (*words, "--json")))

    error = json.loads(answer.err)["error"]
    assert (answer.exit_code, answer.out) == (exit_code, "")
    assert list(json.loads(answer.err)) == ["error"]
    assert list(error) == ["code", "exit_code", "message", "hint"]
    assert (error["code"], error["exit_code"]) == (code, exit_code)
    assert complaint(plain) == f"memctl: {error['message']}; {error['hint']}"


# The clock


@commands("cleanup", "decay", "prune", "promote", "archive", "restore", "preview", "import")
def test_a_clock_more_than_an_hour_back_is_refused(words: Words, memories: Memctl) -> None:
    before = memory_tables(memories.database)

    answer = memories.at(NOW - timedelta(hours=1, seconds=1))(*words)

    assert answer.exit_code == 3
    assert complaint(answer) == (
        "memctl: the clock reads 2026-11-22T08:43:57Z, but run 1 (cleanup) was at"
        " 2026-11-22T09:43:58Z; correct the clock; if the clock of that run was wrong, use --force"
        " once"
    )
    assert memory_tables(memories.database) == before


@commands("cleanup", "decay", "prune", "promote", "archive", "restore", "preview", "import")
def test_a_clock_an_hour_back_is_accepted(words: Words, memories: Memctl) -> None:
    answer = memories.at(NOW - timedelta(hours=1))(*words)

    assert (answer.exit_code, answer.out) == (0, "")


def test_force_is_needed_once_after_the_clock_was_ahead(memories: Memctl) -> None:
    memories.at(NOW + timedelta(days=3650)).ok("prune", "--force")

    exit_codes = [
        memories("cleanup").exit_code,
        memories("cleanup").exit_code,
        memories("cleanup", "--force").exit_code,
        memories("cleanup").exit_code,
        memories("decay").exit_code,
    ]

    assert exit_codes == [3, 3, 0, 0, 0]


def test_a_refusal_is_recorded_and_does_not_count_as_a_run(memories: Memctl) -> None:
    memories.at(NOW - timedelta(days=2))("decay")

    again = memories.at(NOW - timedelta(minutes=30))("decay")

    with closing(connect(memories.database)) as db:
        runs = rows(db, "memory_runs", "job, status, finished_at IS NOT NULL")
    assert again.exit_code == 0
    assert runs == [("cleanup", "ok", 1), ("decay", "refused", 1), ("decay", "ok", 1)]


# Pruning too much


@pytest.fixture
def archives(migrated: Memctl, service: Service) -> Memctl:
    """The program on archives of which a new policy would prune most, half, few and all rows."""
    with closing(connect(migrated.database)) as db:
        db.execute("BEGIN")
        for agent, old, new in (
            ("most", 61, 60),
            ("half", 60, 60),
            ("few", 10, 100),
            ("small", 100, 0),
            ("[bold]most[/]\n", 101, 0),
        ):
            for number in range(old + new):
                expired_for = timedelta(days=200 if number < old else 1)
                insert_memory(db, agent_id=agent, expired_for=expired_for)
        db.execute("COMMIT")
        last_prune_kept_a_year(db)
    migrated.at(NOW - timedelta(days=199)).ok("cleanup")
    migrated.ok("cleanup")
    return migrated


def archive_sizes(path: Path) -> dict[str, int]:
    """Return how many archived memories each agent has."""
    with closing(connect(path)) as db:
        return dict(
            db.execute("SELECT agent_id, count(*) FROM archived_memories GROUP BY agent_id")
        )


def test_prune_skips_agents_that_would_lose_most_of_their_archive(archives: Memctl) -> None:
    answer = archives("prune")

    assert answer.exit_code == 3
    assert complaint(answer) == (
        "memctl: the retention policy has changed since the last prune and would delete more than"
        " half of what the earlier policy keeps: 101 of 101 memories of '[bold]most[/]\\n', 61 of"
        " 121 memories of 'most'; they were not pruned: check [prune] in the configuration, and if"
        " it is correct, run `memctl prune --force` once"
    )
    assert archive_sizes(archives.database) == {
        "most": 121,
        "half": 60,
        "few": 100,
        "[bold]most[/]\n": 101,
    }


def test_prune_with_force_deletes_all_old_memories(archives: Memctl) -> None:
    archives("prune")

    answer = archives("prune", "--force")

    assert answer == Answer(0, "", "")
    assert archive_sizes(archives.database) == {"most": 60, "half": 60, "few": 100}


def test_prune_json_has_what_was_deleted_and_what_was_refused(archives: Memctl) -> None:
    answer = archives("prune", "--json")

    assert answer.exit_code == 3
    assert (answer.json["pruned"], answer.json["agents"]) == (
        170,
        {"few": 10, "half": 60, "small": 100},
    )
    assert json.loads(answer.err)["error"]["code"] == "refused"


def test_a_preview_of_prune_is_refused_alike_and_deletes_nothing(archives: Memctl) -> None:
    before = everything(archives.database)

    preview = archives("prune", "--dry-run", "--json")
    after_preview = everything(archives.database)
    real = archives("prune", "--json")

    assert preview.exit_code == real.exit_code == 3
    assert preview.err == real.err
    assert preview.json["agents"] == real.json["agents"]
    assert after_preview == before


@pytest.mark.parametrize("what", ["a link", "a pipe"])
def test_a_lock_file_that_is_not_a_regular_file_is_refused(
    migrated: Memctl, tmp_path: Path, what: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("secret")
    lock = lock_path(migrated.database)
    lock.unlink()
    if what == "a link":
        lock.symlink_to(victim)
    else:
        os.mkfifo(lock)

    answer = migrated("cleanup")

    assert answer.exit_code == 1
    assert answer.err.startswith(f"memctl: the lock file {lock} ")
    assert answer.err.count("\n") == 1
    assert victim.read_text() == "secret"


def test_a_rollback_that_changes_nothing_leaves_no_backup(migrated: Memctl) -> None:
    with closing(connect(migrated.database)) as other:
        other.execute("BEGIN IMMEDIATE")

        answer = migrated("rollback", "--lock-wait", "0.1")

    assert answer.exit_code == 11
    assert [name for name in names_beside(migrated.database) if "before" in name] == []


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        pytest.param(("status", "--db", ""), 10, id="database"),
        pytest.param(("backup", "-o", ""), 2, id="backup"),
        pytest.param(("export", "--all", "-o", ""), 2, id="export"),
        pytest.param(("report", "-o", ""), 2, id="report"),
        pytest.param(("config", "init", "--config", ""), 2, id="configuration"),
    ],
)
def test_an_empty_file_name_is_refused(
    migrated: Memctl, words: tuple[str, ...], exit_code: int
) -> None:
    before = names_beside(migrated.database)

    answer = migrated(*words)

    assert (answer.exit_code, answer.out) == (exit_code, "")
    assert complaint(answer).endswith(" is empty; check for an unset shell variable")
    assert names_beside(migrated.database) == before


@pytest.mark.parametrize("number", range(3, 8))
def test_output_to_a_descriptor_that_was_not_passed_is_refused(
    migrated: Memctl, number: int
) -> None:
    """Without `3>FILE`, the descriptor has the number of the database or of its log."""
    with closing(connect(migrated.database)) as db:
        insert_memory(db)
    before = everything(migrated.database)

    answer = replace(migrated, prefix=("env",))("export", "--all", "-o", f"/dev/fd/{number}")

    assert (answer.exit_code, answer.out) == (1, "")
    assert f"memctl: /dev/fd/{number} cannot be written" in complaint(answer)
    assert everything(migrated.database) == before


def test_output_to_a_passed_descriptor_is_written(migrated: Memctl, tmp_path: Path) -> None:
    shell = ("sh", "-c", f'exec "$@" 9>{tmp_path / "document"}', "sh")

    replace(migrated, prefix=shell).ok("export", "--all", "-o", "/dev/fd/9")

    assert '"memctl.export"' in (tmp_path / "document").read_text()


def test_a_backup_to_a_pipe_is_refused(migrated: Memctl) -> None:
    answer = migrated("backup", "-o", "/dev/stdout")

    assert (answer.exit_code, answer.out) == (2, "")
    assert complaint(answer) == "memctl: /dev/stdout is not a regular file; specify a file"


def test_the_error_for_an_invalid_backup_names_the_backup(migrated: Memctl, tmp_path: Path) -> None:
    other = tmp_path / "backup.gz"
    other.write_bytes(b"\x1f\x8b" * 1000)

    answer = migrated("backup", "--restore", str(other))

    assert answer == Answer(
        1,
        "",
        f"memctl: {other} is not a SQLite database (file is not a database); specify a backup;"
        " nothing was changed\n",
    )


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("migrate", "--db", "{}/"), id="database"),
        pytest.param(("backup", "-o", "{}/"), id="backup"),
        pytest.param(("export", "--all", "-o", "{}/."), id="export"),
        pytest.param(("report", "-o", "{}/"), id="report"),
        pytest.param(("metrics", "--prometheus", "-o", "{}/"), id="metrics"),
        pytest.param(("config", "init", "--config", "{}/"), id="configuration"),
        pytest.param(("demo", "--keep", "{}/"), id="demonstration"),
    ],
)
def test_a_path_that_ends_in_a_slash_does_not_become_a_file(
    migrated: Memctl, tmp_path: Path, words: tuple[str, ...]
) -> None:
    place = tmp_path / "nowhere"

    answer = migrated(*(word.format(place) for word in words))

    assert answer.exit_code in (2, 10)
    assert answer.err.startswith(f"memctl: there is no directory {place}/")
    assert answer.err.count("\n") == 1
    assert not place.exists()


def test_a_database_path_in_the_environment_must_not_be_a_directory(tmp_path: Path) -> None:
    place = tmp_path / "nowhere"
    with pytest.raises(NoDatabaseError, match="there is no directory"):
        load_settings(database=None, configuration=None, environ={"MEMCTL_DB": f"{place}/"})


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("status",),
        ("migrate",),
        ("config", "init", "--config", "here.toml"),
        ("--db", "{}", "export", "--all", "-o", "here.json"),
        ("--db", "{}", "backup", "-o", "here"),
        ("--db", "{}", "demo", "--keep", "here"),
    ],
)
def test_a_removed_current_directory_is_an_error_of_one_line(
    migrated: Memctl, tmp_path: Path, words: tuple[str, ...]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    environment = {**migrated.environment(), "MEMCTL_DB": "harness.db"}

    ran = subprocess.run(
        [
            *("sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", PROGRAM),
            *(word.format(migrated.database) for word in words),
        ],
        cwd=gone,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert ran.returncode in (1, 2, 10)
    assert ran.stderr.startswith("memctl: ")
    assert ran.stderr.count("\n") == 1


def test_an_absolute_path_needs_no_current_directory(migrated: Memctl, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    ran = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", PROGRAM, "run"],
        cwd=gone,
        env=migrated.environment(),
        capture_output=True,
        text=True,
    )

    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_migration_that_fails_on_a_full_disk_leaves_no_database(small_disk: Path) -> None:
    memctl = Memctl(small_disk / "harness.db")
    filler = fill_disk(small_disk, room=48 << 10)

    failed = memctl("migrate")

    assert failed.exit_code == 1
    assert names_beside(memctl.database) == ["filler", "harness.db.memctl.lock"]
    filler.unlink()
    memctl.ok("migrate")
