"""The commands that change memories, and databases that give them work."""

import atexit
import json
import os
import random
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from tests.support.database import archive_row, connect, text_of
from tests.support.program import Memctl, Words
from tests.support.service import Service
from tests.support.snapshots import Snapshot, snapshot

MEMORIES = 300
MANY = 3000
SEED = 20261122


@dataclass(frozen=True)
class Job:
    """A job, and how to build a database that gives it memories to change."""

    name: str
    fill: Callable[[Memctl, int], Words]

    def prepare(self, memctl: Memctl, memories: int = MEMORIES) -> Words:
        """Give the program a database with work for the job; return the command's words."""
        template, words = prepared(self, memctl.now, memories)
        for ending in ("", ".memctl.lock"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{template}{ending}", f"{memctl.database}{ending}")
        return words


@cache
def prepared(job: Job, now: datetime, memories: int) -> tuple[Path, Words]:
    """Build such a database, once; return it and the command's words."""
    folder = tempfile.mkdtemp(prefix="memctl-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
    atexit.register(shutil.rmtree, folder)
    memctl = Memctl(Path(folder, "harness.db"), now)
    words = job.fill(memctl, memories)
    return memctl.database, words


def fill_legacy_table(path: Path, *, now: datetime, memories: int = MEMORIES) -> None:
    """Make the service's database, most of it expired and idle, with every kind of value in it."""
    chance = random.Random(SEED)
    with closing(Service(path)) as service:
        service.db.execute("BEGIN")
        for number in range(memories):
            read = now - timedelta(days=chance.uniform(0, 90))
            expiry = now - timedelta(days=chance.uniform(300, 600))
            service.db.execute(
                """
                INSERT INTO agent_memory VALUES
                    (?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?, ?, ?)
                """,
                (
                    str(uuid.UUID(int=chance.getrandbits(128), version=4)),
                    chance.choice(
                        ["build_agent"] * 6 + ["qa_agent", "..", "[bold]a[/]", "two\nlines"]
                    ),
                    chance.choice(["context", "learning", "preference", "error_pattern"]),
                    chance.choice([b"task:%d", b"%d\0nul", b"-%d", b"half \xf0\x9f %d"]) % number,
                    chance.choice([b"plain text ", b'{"fix": 1} ', b"\xf0\x9f ", b"\x1b[31m\0 "])
                    * chance.randrange(1, 60),
                    chance.choice([None, None, "{}", '{"decay_rate": 0.5}', "[1]"]),
                    chance.choice([1, 3, 5, 7, 7.5, 9, 100, -3, "high"]),
                    chance.randrange(20),
                    text_of(read),
                    text_of(read - timedelta(days=30)),
                    chance.choice(
                        [
                            expiry.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                            expiry.strftime("%Y-%m-%dT%H:%M:%S+02:00"),
                            text_of(expiry),
                            text_of(expiry),
                            text_of(now + timedelta(days=1)),
                            chance.choice([None, "soon", "+011533-07-07T00:00:00.000Z"]),
                        ]
                    ),
                ),
            )
        service.db.execute("COMMIT")


def fill_for_cleanup(memctl: Memctl, memories: int) -> Words:
    """Give cleanup expired memories."""
    fill_legacy_table(memctl.database, now=memctl.now, memories=memories)
    memctl.ok("migrate", "--no-backup")
    return ("cleanup",)


def fill_for_decay(memctl: Memctl, memories: int) -> Words:
    """Give decay idle memories."""
    fill_for_cleanup(memctl, memories)
    return ("decay",)


def fill_for_prune(memctl: Memctl, memories: int) -> Words:
    """Give prune an old archive."""
    fill_legacy_table(memctl.database, now=memctl.now, memories=2 * memories)
    memctl.ok("migrate", "--no-backup")
    memctl.at(memctl.now - timedelta(days=200)).ok("cleanup")
    return ("prune", "--force")


def fill_for_restore(memctl: Memctl, memories: int) -> Words:
    """Give restore the memories that one cleanup archived."""
    memctl.ok(*fill_for_cleanup(memctl, memories))
    return ("restore", "--run", "1")


def fill_for_archive(memctl: Memctl, memories: int) -> Words:
    """Give archive many memories of one agent."""
    fill_for_cleanup(memctl, memories)
    with closing(connect(memctl.database)) as db:
        chosen = db.execute("SELECT id FROM agent_memory WHERE agent_id = 'build_agent' LIMIT 800")
        return ("archive", "build_agent", *(memory_id for (memory_id,) in chosen))


def fill_for_promote(memctl: Memctl, memories: int) -> Words:
    """Give promote candidates, many of which have the same text."""
    fill_legacy_table(memctl.database, now=memctl.now, memories=memories)
    memctl.ok("migrate", "--no-backup")
    with closing(connect(memctl.database)) as db:
        db.execute("UPDATE agent_memory SET importance = 9, access_count = 9")
    return ("promote",)


def fill_for_import(memctl: Memctl, memories: int) -> Words:
    """Give import a document of which half is missing and a quarter is different here."""
    memctl.ok(*fill_for_cleanup(memctl, memories))
    document = memctl.database.with_name("backup.json")
    memctl.ok("export", "--all", "-o", str(document))
    with closing(connect(memctl.database)) as db:
        db.execute("BEGIN")
        for table in ("agent_memory", "archived_memories"):
            db.execute(f"DELETE FROM {table} WHERE rowid % 2")
            db.execute(f"UPDATE {table} SET value = value || 'anew' WHERE rowid % 4 = 0")
        db.execute("COMMIT")
    return ("import", "--all", str(document), "--on-conflict", "replace", "--allow-invalid")


CLEANUP = Job("cleanup", fill_for_cleanup)
DECAY = Job("decay", fill_for_decay)
IMPORT = Job("import", fill_for_import)
JOBS = [
    CLEANUP,
    DECAY,
    Job("prune", fill_for_prune),
    Job("promote", fill_for_promote),
    Job("restore", fill_for_restore),
    Job("archive", fill_for_archive),
    IMPORT,
]


every_job = pytest.mark.parametrize("job", [pytest.param(job, id=job.name) for job in JOBS])


def fill_for_migrate(memctl: Memctl, memories: int) -> Words:
    """Give migrate a table that the service has been using."""
    fill_legacy_table(memctl.database, now=memctl.now, memories=memories)
    return ("migrate",)


def fill_for_rollback(memctl: Memctl, memories: int) -> Words:
    """Give rollback active and archived memories."""
    memctl.ok(*fill_for_cleanup(memctl, memories))
    return ("rollback", "--to", "1", "--yes")


MIGRATE = Job("migrate", fill_for_migrate)
ROLLBACK = Job("rollback", fill_for_rollback)
SCHEMA_CHANGES = [MIGRATE, ROLLBACK]


def undisturbed(memctl: Memctl, words: Words, folder: Path) -> Snapshot:
    """Return the result of a command on a copy of the database that nothing else uses."""
    folder.mkdir()
    alone = Memctl(folder / "harness.db", memctl.now)
    shutil.copyfile(memctl.database, alone.database)
    alone.ok(*words)
    return snapshot(alone.database)


def fill_archive(db: sqlite3.Connection) -> None:
    """Give an agent an archive that the last prune kept under another policy."""
    for _ in range(101):
        archive_row(db, days_ago=100, agent="quiet")
    last_prune_kept_a_year(db)


def last_prune_kept_a_year(db: sqlite3.Connection) -> None:
    """Record that the last prune used a policy with a longer retention than the default."""
    policy = [("retention", 365 * 86400, None, None), ("protected_importance", 8, None, None)]
    db.execute("INSERT INTO memory_state VALUES ('prune:policy', ?)", (json.dumps(policy),))
